"""Every mistake: exit code 2, one line that names it, no traceback, nothing written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmzoo import cli
from lmzoo.cli import main
from lmzoo.cli.failures import one_line_errors
from lmzoo.errors import UsageError
from tests.cli.runner import SMALL, lmzoo

PLUGIN = "from lmzoo import LanguageModel, register_model\n"

DATA = [
    ("--data.path nope.txt", "nope.txt: no such file"),
    ("--data.path folder", "holds no text file"),
    ("--data.path empty.txt", "empty.txt: is empty"),
    ("--data.path short.txt", "17 are needed"),
    ("--data.path latin.txt", "byte 0xe9 at offset 3"),
    ("--data.path nul.txt", "NUL byte"),
    ("--data.path utf16.txt", "is UTF-16"),
    ("--data.path ok.txt --data.corpus kjv", "were both given"),
    ("--data.corpus nosuch", "nosuch"),
    ("--data.path ok.txt --data.val_path nope.txt", "nope.txt"),
    ("--trainer.default_root_dir a\udcff", "its name is no UTF-8"),
    ("--config /dev/zero", "/dev/zero: is a pipe, socket or device"),
    ("--data.path ok.txt --data.val_fraction 1.5", "val_fraction 1.5"),
    ("--data.path ok.txt --data.val_fraction -0.1", "val_fraction -0.1"),
    ("--data.path ok.txt --data.batch_size 0", "batch_size 0"),
    ("--data.path ok.txt --data.batch_size 99999999999999", "more than 1,048,576"),
    ("--data.path ok.txt --data.order sideways", "order"),
    ("--data.path ok.txt --data.stride 0", "--data.stride 0"),
    ("--data.path ok.txt --data.stride 17", "give 1 to 16"),
]
VOCABULARY = [
    ("--data.path ok.txt --data.tokenizer wrd", "no such tokenizer"),
    ("--data.path ok.txt --data.tokenizer bpe --data.tokenizer_size 100", "256"),
    ("--data.path one.txt", "the training part of the text is empty"),
    ("--data.path ok.txt --data.tokenizer_size 99", "word or bpe"),
    ("--data.path ok.txt --data.min_frequency 3", "--data.tokenizer word"),
    ("--data.path ok.txt --data.split_digits true", "--data.tokenizer bpe"),
    ("--data.path new.txt --data.unknown error", "is not in the vocabulary"),
    ("--data.path ok.txt --data.tokenizer word --data.min_frequency 999", "999"),
    ("--data.path ok.txt --model.vocab_size 5", "the tokenizer's"),
]
OPTIONS = [
    ("--optimizer.lr -1", "--optimizer.lr -1.0"),
    ("--optimizer.lr 0", "--optimizer.lr 0.0"),
    ("--optimizer.lr x", "--optimizer.lr: expected float, given x"),
    ("--optimizer Foo", "--optimizer Foo: no such class"),
    ("--optimizer.momentun 1", "lmzoo fit --optimizer.help adamw lists them"),
    ("--optimizer.beta 1", "did you mean --optimizer.betas"),
    ("--lr_scheduler.warmup 1", "did you mean --lr_scheduler.warmup_steps"),
    ("--optimizer mun", "error: --optimizer mun: no such class; give its name"),
    ("--optimizer nowhere.Sgd", "--plugin FILE.py runs a file of yours first"),
    ("--optimizer torch.optim.Nope", "has no attribute 'Nope'"),
    ("--optimizer torch.optim", "--optimizer torch.optim: is no class"),
    ("--optimizer raises.Sgd", "--optimizer raises.Sgd: ZeroDivisionError"),
    ("--optimizer builtins.dict --optimizer.lr 1", "error: "),
    ("--model.help builtins.len", "builtins.len: is no class"),
    ("--lr_scheduler Foo", "--lr_scheduler Foo: no such class"),
    ("--optimizer.help nope", "--optimizer nope: no such class"),
    ("--model.help gtp", "did you mean 'gpt'"),
    ("--optimizer muon --optimizer.momentum 2", "expected momentum in [0, 1)"),
    ("--optimizer muon --optimizer.hidden 2", "unknown option --optimizer.hidden"),
    (
        "--optimizer adafactor --optimizer.stacked 2",
        "unknown option --optimizer.stacked",
    ),
    ("--optimizer torch.optim.Muon", "give --optimizer muon"),
    ("--optimizer muon --freeze.all_but_head true", "nothing to orthogonalise"),
    ("--optimizer adafactor --optimizer.betas 2", "--optimizer.help adafactor lists"),
    ("--lr_scheduler wsd --lr_scheduler.decay_share 2", "decay_share"),
    ("--ema.decay 1", "--ema.decay 1.0: give a share"),
    ("""--data.batch_size_schedule {"3":0}""", "0 is no whole number of 1 or more"),
    ("--data.batch_size_schedule [[0,4]]", "expected dict, given [[0, 4]]"),
    ("""--data.batch_size_schedule {"abc":7}""", "a whole number, given abc"),
    (
        """--data.batch_size_schedule {"3":2} --budget.tokens 999""",
        "--trainer.max_steps",
    ),
    ("--lr_scheduler.warmup_steps -1", "warmup_steps"),
    ("--model gtp", "did you mean 'gpt'"),
    ("--model.foo 1", "unknown option --model.foo"),
    ("--model.num_layers 99999999999", "num_layers must be at most 10,000"),
    ("--model.n_layers 1", "did you mean --model.num_layers"),
    ("--data.pth ok.txt", "did you mean --data.path"),
    ("--data.context_length 9", "--model.context_length"),
    ("--model.d_model x", "--model.d_model: expected int, given x"),
    ("--model.d_model 7", "given 7"),
    ("--model.num_heads 3", "error: --model.d_model must be a multiple of num_heads"),
    ("--model palm --model.mlp swiglo", "'relu_squared', given swiglo"),
    ("--model.num_layers -1", "given -1"),
    ("--model.dropout 1.0", "given 1.0"),
    ("--model.context_length 0", "context_length 0"),
    ("--model.preset gpt-zzz", "gpt-nano"),
    ("--modle gpt", "did you mean --model"),
    ("--trainer.logger false", "leave it out"),
    ("--trainer.foo 1", "unknown option --trainer.foo"),
    ("--trainer.max_steps 0", "--trainer.max_steps 0"),
    ("--trainer.max_steps x", "expected int, given x"),
    ("--trainer.max_epochs 3", "--trainer.max_steps"),
    ("--trainer.precision 9", "bf16-mixed"),
    ("--trainer.devices 99", "--trainer.devices 99"),
    ("--trainer.devices=-1", "--trainer.devices -1: this machine has"),
    ("--trainer.devices all", "--trainer.devices all: this machine has"),
    ("--trainer.devices [0]", "--trainer.devices [0]: this machine has"),
    ("--trainer.accumulate_grad_batches 0", "accumulate_grad_batches 0"),
    ("--trainer.val_check_interval 50", "would never run"),
    ("--trainer.val_check_interval 0.5", "number of optimizer steps"),
    ("--trainer.limit_val_batches 0", "would never run"),
    ("--trainer.limit_val_batches 1", "of a full pass"),
    ("--trainer.limit_train_batches 0.5", "of a full pass"),
    ("--trainer.overfit_batches 2", "of a full pass"),
    ("--trainer.check_val_every_n_epoch 2", "--trainer.val_check_interval"),
    ("--trainer.gradient_clip_val -1", "gradient_clip_val -1"),
    ("--trainer.default_root_dir ok.txt", "ok.txt cannot be made"),
    ("--trainer.max_steps 5 --budget.seconds 5", "give one"),
    ("--lr_scheduler.warmup_steps 9", "the run has 2 steps"),
    ("--lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau", "the step alone"),
    ("--early_stopping.monitor val/nope", "val/nope"),
    ("--early_stopping.monitor val/accuracy", "give mode 'max'"),
    ("--checkpoints.monitor val/accuracy", "choose val/nll"),
    ("--samples.temperature -1", "--samples.temperature -1"),
    ("--samples.top_k -1", "--samples.top_k -1"),
    ("--model heaviside --model.setting zero-one", "zero-one"),
    ("--seed_everything -5", "--seed_everything -5"),
    ("--seed_everything 99999999999", "--seed_everything 99999999999"),
    ("--early_stopping.patience 0", "patience"),
    ("--early_stopping.patiense 3", "did you mean --early_stopping.patience"),
    ("--checkpoints.every_n_steps -1", "given -1"),
    ("--samples.length -2", "--samples.length -2"),
    ("--budget.seconds -3", "--budget.seconds -3.0"),
    ("--budget.flops 0", "--budget.flops 0.0: give a number above 0"),
    ("--budget.flops 12", "one step takes"),
    ("--budget.flops 1e9 --budget.tokens 9", "--budget.tokens and --budget.flops"),
    ("--trainer.max_steps 5 --budget.flops 1e9", "give one"),
    ("--config nope.yaml", "nope.yaml"),
    ("--config broken.yaml", "is not YAML"),
    ("--config unread.yaml", "nonsense"),
    ("--config typo.yaml", "did you mean 'gpt'"),
    ("--config five.yaml", "--optimizer: expected a name, or a section with"),
    ("--config six.yaml", "--lr_scheduler: expected a name, or a section with"),
    ("--ckpt_path nope", "nope: no such run"),
    ("--ckpt_path ok.txt", "no checkpoint of lmzoo"),
    ("--init_from https://host/x.ckpt", "only local files"),
    ("--ckpt_path a --init_from b", "give one"),
    ("stray", "unexpected argument 'stray'"),
]
PLUGINS = [
    ("--plugin nope.py", "no such Python file"),
    ("--plugin raises.py", "ZeroDivisionError"),
    ("--plugin clash.py", "claimed by both lmzoo and"),
    ("--plugin notlm.py", "is not a LanguageModel"),
    ("--plugin badname.py", "is no name for a model"),
    ("--plugin missing.py", "No module named"),
    ("--plugin narrow.py --model narrow", "Narrow.forward gave (1, 2, 5)"),
]
FILES = {
    "ok.txt": b"the quick brown fox jumps over the lazy dog\n" * 80,
    "new.txt": b"the quick brown fox jumps over a dog\n" * 80 + b"lazy zebra\n" * 9,
    "empty.txt": b"",
    "one.txt": b"a",
    "short.txt": b"hi",
    "latin.txt": "caf\xe9 au lait ".encode("latin-1") * 99,
    "nul.txt": b"abc\0" * 500,
    "utf16.txt": ("hello" * 300).encode("utf-16"),
    "folder/picture.bin": b"1",
    "broken.yaml": b"model: [1,2\n",
    "unread.yaml": b"nonsense: 3\n",
    "typo.yaml": b"model: gtp\n",
    "five.yaml": b"optimizer: 5\n",
    "six.yaml": b"lr_scheduler: {class_path: [1]}\n",
    "raises.py": b"x = 1 / 0\n",
    "missing.py": b"import a_package_that_is_not_there\n",
    "clash.py": (
        PLUGIN + '@register_model("gpt")\nclass G(LanguageModel): ...\n'
    ).encode(),
    "narrow.py": (
        PLUGIN + "from torch import nn\n\n\n"
        '@register_model("narrow")\nclass Narrow(LanguageModel):\n'
        "    def __init__(self, vocab_size: int, context_length: int = 8) -> None:\n"
        "        super().__init__()\n"
        "        self.table = nn.Embedding(vocab_size, vocab_size)\n\n"
        "    def forward(self, tokens):\n"
        "        return self.table(tokens)[..., :5]\n"
    ).encode(),
    "notlm.py": (PLUGIN + '@register_model("zz")\nclass G: ...\n').encode(),
    "badname.py": (
        PLUGIN + '@register_model("Z Z")\nclass G(LanguageModel): ...\n'
    ).encode(),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(("line", "said"), DATA + VOCABULARY + OPTIONS + PLUGINS)
def test_mistakes_of_fit(line: str, said: str, tmp_path: Path) -> None:
    data = (
        "" if "--data.path" in line or "--data.corpus" in line else "--data.path ok.txt"
    )
    steps = "" if "max_steps" in line or "budget" in line else "--trainer.max_steps 2"
    before = sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts)
    small = "" if "--model " in line else f"--model gpt {SMALL}"
    result = lmzoo(f"fit {small} {data} {steps} {line}")
    assert result.code == 2, result.out
    lines = [one for one in result.err.splitlines() if one.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in result.err
    after = sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts)
    assert [p for p in after if "__pycache__" not in p.parts] == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fitt", "did you mean 'fit'"),
        ("validate", "needs --ckpt_path"),
        ("test --ckpt_path nowhere", "nowhere"),
        ("validate --ckpt_path ok.txt", "no checkpoint"),
        ("models --nonsense", "nonsense"),
        (f"generate {'a' * 300}", "File name too long"),
        ("check gtp", "did you mean 'gpt'"),
    ],
)
def test_mistakes_of_the_other_commands(line: str, said: str) -> None:
    result = lmzoo(line)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_rank_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lmzoo("models").code == 0  # the control
    monkeypatch.setenv("RANK", "first")
    result = lmzoo("models")
    assert (result.code, "RANK=first" in result.err) == (2, True)


def test_a_fault_of_the_program_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a path can be is told in a line; the rest is a traceback."""
    error = OSError(errno.EIO, "Input/output error", "somewhere")
    monkeypatch.setattr(cli, "_dispatch", lambda argv: (_ for _ in ()).throw(error))
    with pytest.raises(OSError, match="somewhere"):
        main(["models"])


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_memory_that_is_gone_is_told_in_one_line(error: Exception) -> None:
    with pytest.raises(UsageError, match="out of memory: lower"), one_line_errors():
        raise error
    with pytest.raises(RuntimeError, match="other"), one_line_errors():
        raise RuntimeError("another fault is not hidden")


def test_the_control_what_is_right_works(tmp_path: Path) -> None:
    result = lmzoo(
        f"fit --model gpt {SMALL} --data.path ok.txt --trainer.max_steps 2 "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 0, result.err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ([], ["--help"], ["--version"], ["fit", "--help"]):
        assert main(line) == 0
    assert "lmzoo fit --model gpt" in capsys.readouterr().out


SPOKEN = f"""
from lmzoo.cli import main

for line in (
    "fit --model gpt {SMALL} --data.path ok.txt --trainer.max_steps 1 "
    "--trainer.default_root_dir run",
    "generate run --prompt é --max_new_tokens 40",
    "score run --text éèé",
    "params run",
    "export run --out export",
):
    if code := main(line.split()):
        raise SystemExit(code)
"""


@pytest.mark.parametrize(
    ("script", "code"), [(SPOKEN, 0), ("print('é')", 1)], ids=["lmzoo", "control"]
)
def test_where_the_locale_is_not_utf8(script: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "ok.txt").write_text("é è ê ô\n" * 400, encoding="utf-8")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert b"\xc3\xa9" not in done.stdout
