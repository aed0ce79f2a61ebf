"""fit, validate and test, end to end on a small text."""

import csv
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lmzoo import runs
from lmzoo.cli import settings
from lmzoo.registry import models
from tests.cli.runner import SMALL, fit, lmzoo


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of forty steps on a small text."""
    folder = tmp_path_factory.mktemp("run")
    text = folder / "story.txt"
    text.write_text("it was the best of times, it was the worst of times\n" * 150)
    fit(
        f"--data.path {text} --trainer.max_steps 40 --trainer.val_check_interval 10 "
        f"--checkpoints.every_n_steps 20 --trainer.default_root_dir {folder / 'a'}"
    )
    return folder / "a"


def test_a_run_folder_holds_everything(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {
        "MODEL_CARD.md",
        "checkpoints",
        "config.yaml",
        "manifest.json",
        "metrics.csv",
        "samples",
        "spans.bin",
        "summary.json",
        "tokenizer.json",
    } <= names
    assert any(name.startswith("events.out") for name in names)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    for name, record in manifest["checkpoints"].items():
        file = run / "checkpoints" / name
        if file.exists():
            assert file.read_bytes()[-64:].decode() == record["sha256"]


def test_what_is_kept_of_the_text_tells_a_copied_phrase(tmp_path: Path) -> None:
    lines = [f"line {n} of a plain text that says nothing new\n" for n in range(200)]
    lines[100] = "here the purple walrus sings at midnight\n"
    lines[-1] = "only the last part knows of the orange heron\n"
    (tmp_path / "t.txt").write_text("".join(lines))
    line = f"--data.path {tmp_path / 't.txt'} --trainer.default_root_dir {tmp_path}/a"
    fit(f"{line} --trainer.max_steps 2")

    spans = runs.read_spans(tmp_path / "a")
    assert spans is not None
    assert spans.occurs("the purple walrus sings") is True
    assert spans.occurs("the purple penguin sings") is False
    assert spans.occurs("the orange heron") is False  # of the test part
    assert spans.longest("He says: the purple walrus sings.") == (8, 24)

    before = (tmp_path / "a" / runs.SPANS).stat()
    fit(f"{line} --trainer.max_steps 4")
    after = (tmp_path / "a" / runs.SPANS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    (tmp_path / "a" / runs.SPANS).unlink()
    fit(f"{line} --trainer.max_steps 6")
    assert runs.read_spans(runs.newest_first(tmp_path / "a")[0]) is not None


def test_the_best_is_the_true_minimum_of_the_curve(run: Path) -> None:
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    curve = {int(r["step"]): float(r["val/nll"]) for r in rows if r["val/nll"]}
    summary = json.loads((run / "summary.json").read_text())
    assert sorted(curve) == [10, 20, 30, 40]
    assert summary["best"]["metrics"]["nll"] == pytest.approx(min(curve.values()))
    assert curve[summary["best"]["step"]] == pytest.approx(min(curve.values()))


def test_the_run_learned(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert (
        summary["best"]["metrics"]["bits_per_char"]
        < summary["floors"]["uniform"]["bits_per_char"]
    )
    assert summary["stopped"] == "all 40 steps done"
    assert summary["data"]["splits"]["train"]["characters"] > 0


def test_a_history_is_kept_on_request(run: Path) -> None:
    steps = sorted(int(f.stem[5:]) for f in (run / "checkpoints").glob("*.ckpt"))
    assert 20 in steps
    assert 40 in steps
    assert 10 not in steps  # neither best, last nor of the history


def test_validate_needs_nothing_but_the_run(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    result = lmzoo(f"validate --ckpt_path {run}")
    assert result.code == 0, result.err
    assert f"{summary['best']['metrics']['bits_per_char']:.3f}" in result.out


def test_validate_on_another_text_counts_unknown_symbols(
    run: Path, story: Path
) -> None:
    result = lmzoo(f"validate --ckpt_path {run} --data.path {story}")
    assert result.code == 0, result.err
    assert "story" in result.out
    assert "0.000% unknown" not in result.out  # "x", "z" and others are new


def test_test_measures_the_test_part(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    result = lmzoo(f"test --ckpt_path {run}")
    assert result.code == 0, result.err
    assert f"{summary['test']['bits_per_char']:.3f}" in result.out


def test_the_same_command_finds_its_finished_run(run: Path) -> None:
    text = run.parent / "story.txt"
    before = (run / "summary.json").stat().st_mtime_ns
    again = fit(
        f"--data.path {text} --trainer.max_steps 40 --trainer.val_check_interval 10 "
        f"--checkpoints.every_n_steps 20 --trainer.default_root_dir {run}"
    )
    assert "is finished" in again.out
    assert (run / "summary.json").stat().st_mtime_ns == before


def test_another_configuration_in_the_folder_is_refused_by_key(run: Path) -> None:
    text = run.parent / "story.txt"
    result = lmzoo(
        f"fit --model gpt {SMALL} --data.path {text} --trainer.max_steps 40 "
        f"--trainer.val_check_interval 10 --checkpoints.every_n_steps 20 "
        f"--optimizer.lr 0.5 --trainer.default_root_dir {run}"
    )
    assert result.code == 2
    assert "optimizer.lr" in result.err


def test_init_from_maps_rows_by_token(run: Path, story: Path, tmp_path: Path) -> None:
    result = fit(
        f"--init_from {run} --data.path {story} --trainer.max_steps 1 "
        f"--optimizer.lr 1e-9 --trainer.default_root_dir {tmp_path / 'b'}"
    )
    assert "symbols shared" in result.err
    old, new = runs.load(run), runs.load(tmp_path / "b")
    before, after = old.tokenizer.symbols(), new.tokenizer.symbols()
    assert set(before) <= set(after)
    assert len(after) > len(before)
    name = "token_embedding.weight"
    embedding = {k for k in new.checkpoint["state_dict"] if k.endswith(name)}
    weights = embedding.pop() if embedding else None
    if weights is None:
        pytest.fail("no embedding among the weights")
    for symbol in ("t", "e", " "):
        a = old.checkpoint["state_dict"][weights][before.index(symbol)]
        b = new.checkpoint["state_dict"][weights][after.index(symbol)]
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_the_checkpoint_of_a_model_cannot_be_changed(run: Path) -> None:
    result = lmzoo(f"fit --ckpt_path {run} --model.d_model 32")
    assert result.code == 2
    assert "--model.d_model cannot be changed" in result.err


def test_without_a_model_ff_is_trained(story: Path, tmp_path: Path) -> None:
    result = lmzoo(
        f"fit --data.path {story} --trainer.max_steps 2 --samples.length 0 "
        f"--trainer.default_root_dir {tmp_path / 'ff'}"
    )
    assert result.code == 0, result.err
    assert "no --model given: training ff" in result.err


def test_typed_beats_configuration_beats_recipe(story: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "model: gpt\noptimizer: {class_path: torch.optim.AdamW, "
        "init_args: {lr: 2e-4}}\ntrainer: {max_steps: 3}\n"
    )
    folder = tmp_path / "r"
    line = f"--config {config} --data.path {story} --trainer.default_root_dir {folder}"
    fit(line)
    identity = json.loads((folder / "manifest.json").read_text())["identity"]
    assert identity["optimizer.lr"] == 2e-4
    assert json.loads((folder / "summary.json").read_text())["steps"] == 3
    fit(f"{line} --trainer.max_steps 5")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 5


def test_the_environment_is_read(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMZOO_FIT__TRAINER__MAX_STEPS", "3")
    fit(f"--data.path {story} --trainer.default_root_dir {tmp_path / 'r'}")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["steps"] == 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("emulated", [True, False])
def test_the_defaults_run_under(
    precision: str,
    emulated: bool,
    story: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        settings, "emulated", lambda _, dtype: emulated and dtype == torch.bfloat16
    )
    result = fit(
        f"--data.path {story} --trainer.max_steps 3 --trainer.precision {precision} "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    told = "no arithmetic for bfloat16" in " ".join(result.err.split())
    assert told == (emulated and precision == "bf16-mixed")


def test_no_validation_part_when_none_is_asked_for(story: Path, tmp_path: Path) -> None:
    result = fit(
        f"--data.path {story} --data.val_fraction 0 --data.test_fraction 0 "
        f"--trainer.max_steps 3 --trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert "no validation part" in result.out.lower()


def test_a_recipe_for_one_optimizer_is_none_for_another(
    story: Path, tmp_path: Path
) -> None:
    line = f"--data.path {story} --trainer.max_steps 2 --trainer.default_root_dir"
    for name, more in {
        "own": "",
        "muon": "--optimizer muon",
        "sgd": "--optimizer torch.optim.SGD --optimizer.momentum 0.9",
    }.items():
        fit(f"{line} {tmp_path / name} {more}")
    own, muon, sgd = (
        json.loads((tmp_path / name / "manifest.json").read_text())["identity"]
        for name in ("own", "muon", "sgd")
    )
    recipe = models.load("gpt").recipe
    assert own["optimizer.lr"] == recipe["optimizer.lr"]
    assert muon["optimizer.class_path"] == "lmzoo.training.muon.Muon"
    assert muon["optimizer.lr"] == 0.007
    assert sgd["optimizer.lr"] == 1e-3  # torch's own
    assert sgd["optimizer.momentum"] == 0.9


PLUGIN = """
import torch


class Signed(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 1e-3, flavour: str = "plain"):
        if flavour not in ("plain", "spicy"):
            raise ValueError(f"flavour must be plain or spicy, given {flavour}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"])
        return loss
"""


def test_any_class_is_an_optimizer_and_a_checkpoint_never_imports_one(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_optimizer.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    run, option = tmp_path / "r", "--optimizer own_optimizer.Signed"
    line = f"--data.path {story} --trainer.default_root_dir {run} {option}"
    fit(f"{line} --trainer.max_steps 3 --optimizer.flavour spicy")
    identity = json.loads((run / "manifest.json").read_text())["identity"]
    assert identity["optimizer.flavour"] == "spicy"
    for more, said in (
        ("--optimizer.flavour mild", "flavour must be plain or spicy, given mild"),
        ("--optimizer.flavor spicy", "did you mean --optimizer.flavour?"),
    ):
        wrong = lmzoo(f"fit --model gpt {SMALL} --data.path {story} {option} {more}")
        assert wrong.code == 2
        assert said in wrong.err
    resumed = f"fit --ckpt_path {run} --trainer.max_steps 5"
    refused = lmzoo(resumed)
    assert refused.code == 2
    assert f"go on with {option}" in refused.err
    assert lmzoo(f"{resumed} {option}").code == 0
    assert json.loads((run / "summary.json").read_text())["steps"] == 5


def test_a_budget_in_seconds_becomes_steps(story: Path, tmp_path: Path) -> None:
    fit(
        f"--data.path {story} --budget.seconds 1 --trainer.default_root_dir "
        f"{tmp_path / 'r'}"
    )
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert manifest["budget"]["max_steps"] == summary["steps"] > 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.class_path", "evil.Optimizer"),
        ("lr_scheduler.class_path", "subprocess.Popen"),
        ("optimizer.lr", {"class_path": "evil.Rate"}),
        ("trainer.precision", {"init_args": {}}),
        ("trainer.logger", "evil.Logger"),
        ("trainer.callbacks", "evil.Callback"),
        ("trainer.default_root_dir", "elsewhere"),
        ("optimizer.init_args.lr", 1.0),
    ],
)
def test_a_checkpoint_cannot_name_code(
    key: str, value: object, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    content = runs.read_checkpoint(runs.find_checkpoint(run, "last"))
    content["lmzoo"]["training"][key] = value
    changed = tmp_path / "checkpoints" / "step-000000040.ckpt"
    runs.write_checkpoint(content, changed)
    result = lmzoo(f"fit --ckpt_path {changed} --trainer.max_steps 41")
    assert result.code == 2
    assert not (tmp_path / "executed").exists()
    importlib.import_module("evil")  # the control: importing it is what would have run
    assert (tmp_path / "executed").exists()
    sys.modules.pop("evil")


METRICS = {"nll": 0.1, "bits_per_char": 0.14}


def test_a_moved_checkpoint_brings_its_best_or_forgets_it(
    run: Path, tmp_path: Path
) -> None:
    last = runs.find_checkpoint(run, "last")
    content = runs.read_checkpoint(last)
    state = content["callbacks"]["Checkpoints"]
    state["best"] = {"file": "step-000000007.ckpt", "step": 7, "metrics": METRICS}
    alone = tmp_path / "checkpoints" / last.name
    runs.write_checkpoint(content, alone)
    folder = tmp_path / "r"
    result = lmzoo(
        f"fit --ckpt_path {alone} --trainer.max_steps 42 "
        f"--trainer.default_root_dir {folder}"
    )
    assert result.code == 0, result.err
    assert json.loads((folder / "summary.json").read_text())["best"]["step"] == 42
    runs.write_checkpoint(content, alone.with_name("step-000000007.ckpt"))
    result = lmzoo(
        f"fit --ckpt_path {alone} --trainer.max_steps 42 "
        f"--trainer.default_root_dir {tmp_path / 's'}"
    )
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["best"]["step"] == 7


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--optimizer.weight_decay 0.5", "optimizer.weight_decay"),
        ("--data.batch_size 8", "data.batch_size"),
        ("--data.tokenizer word", "data.tokenizer"),
        ("--model.preset gpt-nano", "model.preset"),
        ("--seed_everything 3", "seed_everything"),
        ('--config {"model":{"d_model":32}}', "model.d_model"),
        ("--trainer.max_steps 40", "nothing is left to train"),
    ],
)
def test_an_exact_resume_changes_nothing(typed: str, said: str, run: Path) -> None:
    steps = "" if "max_steps" in typed else "--trainer.max_steps 41"
    result = lmzoo(f"fit --ckpt_path {run} {steps} {typed}")
    assert result.code == 2, result.out
    assert said in result.err


def test_resuming_by_name_leaves_the_run_its_own(story: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    line = f"--data.path {story} --trainer.default_root_dir {folder}"
    fit(f"{line} --trainer.max_steps 2")
    assert lmzoo(f"fit --ckpt_path {folder} --trainer.max_steps 4").code == 0
    again = fit(f"{line} --trainer.max_steps 6")
    assert "resuming   after step 4" in again.err


def test_a_changed_text_is_not_resumed(story: Path, tmp_path: Path) -> None:
    line = f"--data.path {story} --trainer.default_root_dir {tmp_path / 'r'}"
    fit(f"{line} --trainer.max_steps 2")
    story.write_text(story.read_text() + "and one more line of the same fox\n")
    result = lmzoo(f"fit --model gpt {SMALL} {line} --trainer.max_steps 4")
    assert result.code == 2
    assert "changed since the run began" in result.err


def test_a_run_from_other_weights_is_measured_on_any_text(
    run: Path, story: Path, tmp_path: Path
) -> None:
    fit(
        f"--init_from {run} --data.path {story} --trainer.max_steps 1 "
        f"--trainer.default_root_dir {tmp_path / 'b'}"
    )
    other = tmp_path / "other.txt"
    other.write_text("0123456789 !?\n" * 60)
    result = lmzoo(f"validate --ckpt_path {tmp_path / 'b'} --data.path {other}")
    assert result.code == 0, result.err


def test_a_budget_in_flops_is_kept_to_a_step(story: Path, tmp_path: Path) -> None:
    fit(
        f"--data.path {story} --budget.flops 2e7 --trainer.default_root_dir "
        f"{tmp_path / 'r'}"
    )
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    step = summary["training_flops"] / summary["steps"]
    assert abs(summary["training_flops"] - 2e7) <= step / 2
    assert summary["budget"] == {"flops": 2e7, "max_steps": summary["steps"]}


def test_a_model_that_counts_ignores_a_budget_and_says_so(
    story: Path, tmp_path: Path
) -> None:
    result = lmzoo(
        f"fit --model ngram --data.path {story} --budget.flops 1 "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 0
    assert "ngram counts the text once: no budget limits it" in result.err


def test_a_budget_in_tokens_counts_whole_steps(story: Path, tmp_path: Path) -> None:
    fit(
        f"--data.path {story} --budget.tokens 200 --trainer.accumulate_grad_batches 2 "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["steps"] == 2  # 2 x 4 windows of 16 tokens are 128
    assert summary["tokens"] == 256


def test_the_closing_passes_are_no_points_of_the_curve(
    story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    lmzoo(
        f"fit --model lstm --model.d_model 8 --model.d_hidden 8 --data.path {story} "
        f"--trainer.max_steps 4 --trainer.default_root_dir {folder}"
    )
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["step"] for row in rows if row["val/nll"]] == ["4"]
    assert json.loads((folder / "summary.json").read_text())["other_protocol"]


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_whole_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = lmzoo(f"{command} --help-all")
    assert result.code == 0, result.err
    assert "--trainer.max_steps" in result.out


@pytest.mark.parametrize("record", ["best", "last"])
def test_a_checkpoint_cannot_reach_out_of_its_folder(
    record: str, run: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep me")
    content = runs.read_checkpoint(runs.find_checkpoint(run, "last"))
    state = content["callbacks"]["Checkpoints"]
    state[record] = {"file": "../../precious.txt", "step": 7, "metrics": METRICS}
    changed = tmp_path / "checkpoints" / "step-000000040.ckpt"
    runs.write_checkpoint(content, changed)
    result = lmzoo(
        f"fit --ckpt_path {changed} --trainer.max_steps 42 "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 2
    assert "precious.txt" in result.err
    assert precious.read_text() == "keep me"


def test_compiling_changes_neither_names_nor_numbers(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def in_python(module: nn.Module) -> None:  # the graph is captured; no C++ compiler
        calls.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", in_python)
    weights = []
    for value in ("false", "true"):
        folder = tmp_path / value
        fit(
            f"--data.path {story} --trainer.max_steps 3 --compile {value} "
            f"--trainer.default_root_dir {folder}"
        )
        weights.append(runs.load(folder, "last").model.state_dict())
    assert len(calls) == 1
    plain, compiled = weights
    assert list(plain) == list(compiled)
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=1e-6, rtol=0)


def test_a_run_is_measured_from_another_folder(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.parent)
    fit(f"--data.path {story.name} --trainer.max_steps 2 --trainer.default_root_dir r")
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    result = lmzoo(f"validate --ckpt_path {story.parent / 'r'}")
    assert result.code == 0, result.err
    assert "not the text" not in result.out
    story.write_text("another story altogether, under the same name\n" * 200)
    result = lmzoo(f"validate --ckpt_path {story.parent / 'r'}")
    assert "not the text that the run was trained on" in result.out


def test_what_init_from_refuses(story: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    fit(f"--data.path {story} --trainer.max_steps 2 --trainer.default_root_dir {run}")
    for option, said in (
        ("--model.tie_embeddings true", "are one matrix here"),
        ("--data.tokenizer word", "brings its own tokenizer"),
    ):
        result = lmzoo(f"fit --init_from {run} --data.path {story} {option}")
        assert result.code == 2
        assert said in result.err
    untied = lmzoo(
        f"fit --init_from {run} --data.path {story} --data.tokenizer char "
        f"--trainer.max_steps 2 --trainer.default_root_dir {tmp_path / 'again'}"
    )
    assert untied.code == 0, untied.err  # the control: what is the same may be said
    card = (tmp_path / "again" / "MODEL_CARD.md").read_text()
    assert f"weights that it started from are those of {run.name}" in card
    assert card.startswith(f"# {run.name} fine-tuned on story\n")
    assert "nothing else" not in card
    assert "not aligned" not in card
    first = (run / "MODEL_CARD.md").read_text()
    assert "nothing else" in first  # the control: a fresh start
    assert "\n\n## Compute\n" in first


def test_unknown_words_and_few_targets_are_said(story: Path, tmp_path: Path) -> None:
    words = " ".join(f"word{n}" for n in range(3000))
    (tmp_path / "rare.txt").write_text(words)
    result = fit(
        f"--data.path {tmp_path / 'rare.txt'} --data.tokenizer word "
        f"--trainer.max_steps 2 --trainer.default_root_dir {tmp_path / 'rare'}"
    )
    said = " ".join(result.out.split())
    assert "cost no more than one <unk>" in said
    assert "its figures are mostly chance" in said


def test_plugin_files_stand_in_the_next_commands(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_files", {})
    plugin = tmp_path / "tiny.py"
    plugin.write_text(
        "from torch import Tensor, nn\n"
        "from lmzoo import LanguageModel, register_model\n\n\n"
        '@register_model("tiny-next")\n'
        "class Tiny(LanguageModel):\n"
        "    def __init__(self, vocab_size: int, context_length: int = 8) -> None:\n"
        "        super().__init__()\n"
        "        self.table = nn.Embedding(vocab_size, vocab_size)\n\n"
        "    def forward(self, tokens: Tensor) -> Tensor:\n"
        "        return self.table(tokens)\n"
    )
    result = lmzoo(
        f"fit --model tiny-next --plugin {plugin} --data.path {story} "
        f"--trainer.max_steps 2 --trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 0, result.err
    assert f"lmzoo generate {tmp_path / 'r'} --plugin {plugin}" in result.out


def test_a_vocabulary_beyond_the_basic_plane_is_read_back(tmp_path: Path) -> None:
    text = tmp_path / "smile.txt"
    text.write_text("abc \U0001f389 caf\u00e9 \u2028 world\n" * 200, encoding="utf-8")
    run = tmp_path / "run"
    fit(f"--data.path {text} --trainer.max_steps 2 --trainer.default_root_dir {run}")
    for line in (
        f"validate --ckpt_path {run}",
        f"fit --ckpt_path {run} --trainer.max_steps 4",
        f"fit --init_from {run} --data.path {text} --trainer.max_steps 2 "
        f"--trainer.default_root_dir {tmp_path / 'again'}",
    ):
        result = lmzoo(line)
        assert result.code == 0, result.err


def test_a_start_is_measured_before_the_first_step(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        f"--init_from {run} --data.path {run.parent / 'story.txt'} "
        f"--trainer.max_steps 4 --trainer.val_check_interval 2 "
        f"--checkpoints.every_n_steps 2 --trainer.default_root_dir"
    )
    shown = fit(f"{line} {tmp_path / 'a'}")
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    measured = lmzoo(f"validate --ckpt_path {run}").out.split()
    start = summary["start"]

    assert start["name"] == run.name
    assert f"{start['metrics']['bits_per_char']:.3f}" in measured
    assert f"start: {run.name}" in shown.out
    assert "its start" in summary["verdict"]
    assert summary["origins"] == [{"use": "weights", "name": run.name, "text": "story"}]

    # what is kept of it: no measuring twice, and the same weights with or without
    first = tmp_path / "a" / "checkpoints" / runs.checkpoint_name(2)
    result = lmzoo(f"fit --ckpt_path {first} --trainer.default_root_dir {tmp_path}/b")
    assert result.code == 0, result.err
    again = json.loads((tmp_path / "b" / "summary.json").read_text())
    assert (again["start"], again["origins"]) == (start, summary["origins"])
    monkeypatch.setattr("lmzoo.cli.trainer.TrainCLI._has_start", lambda self: False)
    fit(f"{line} {tmp_path / 'c'}")
    ends = [
        runs.load(tmp_path / name, which="last").checkpoint["state_dict"]
        for name in "abc"
    ]
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name])
        assert torch.equal(tensor, ends[2][name])
    without = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert without["start"] is None
    assert "its start" not in without["verdict"]  # the control


def test_an_unfinished_run_of_another_configuration_is_refused(
    story: Path, tmp_path: Path
) -> None:
    """Naming what differs; --fresh starts anew beside it."""
    folder = tmp_path / "r"
    line = f"--data.path {story} --trainer.default_root_dir {folder} "
    line += "--trainer.max_steps 2 --trainer.val_check_interval 1 "
    fit(line)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["status"] = "running"  # as a kill leaves it
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = {file.name: file.read_bytes() for file in folder.glob("*.json")}
    changes = {
        "--optimizer.lr 0.5": "optimizer.lr = 0.004, this one has 0.5",
        "--seed_everything 7": "data.seed = 1337, this one has 7",
        "--spike_guard.enabled true": "spike_guard.back = None, this one has 100",
    }
    for change, said in changes.items():
        result = lmzoo(f"fit --model gpt {SMALL} {line}{change}")
        assert result.code == 2
        assert f"holds a run with {said}" in result.err
    assert before == {file.name: file.read_bytes() for file in folder.glob("*.json")}
    assert fit(f"{line}--optimizer.lr 0.5 --fresh").code == 0
    assert (folder.with_name("r-2") / "summary.json").is_file()
    assert "resuming" in fit(line).err  # the control: the same goes on
