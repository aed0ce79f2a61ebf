"""The catalogue of ``bad_input.py``: what is typed, and what the answer has to name."""

from lmzoo.selftest.lab import SMALL

PLUGIN = "from lmzoo import LanguageModel, register_model\n"
SHAPE = """import torch
@register_model("shape")
class Shape(LanguageModel):
    def __init__(self, vocab_size: int, context_length: int = 16) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, 8)

    def forward(self, tokens):
        return self.embedding(tokens)
"""
LONG = "a" * 300  # more than a file's name may have
STEPS = "--trainer.max_steps 2 --trainer.default_root_dir made"
FILES: dict[str, str | bytes] = {
    "ok.txt": "the quick brown fox jumps over the lazy dog\n" * 80,
    "empty.txt": "",
    "blank.txt": " \n" * 2000,
    "one.txt": "a",
    "short.txt": "hi",
    "latin.txt": "caf\xe9 au lait ".encode("latin-1") * 99,
    "nul.txt": b"abc\0" * 500,
    "utf16.txt": ("hello" * 300).encode("utf-16"),
    "bom.txt": b"\xef\xbb\xbf" + b"the quick brown fox jumps over it\n" * 80,
    "lengths.txt": "the fox\nthe quick brown fox jumps over the lazy dog\n" * 40,
    "crlf.txt": "the quick brown fox jumps over the lazy dog\r\n" * 80,
    "line.txt": "a long line of words without any end to it " * 20_000,
    "folder/picture.bin": b"1",
    "texts/a.txt": "the quick brown fox jumps over the lazy dog\n" * 40,
    "texts/b.txt": "pack my box with five dozen liquor jugs\n" * 40,
    "broken.yaml": "model: [1,2\n",
    "unread.yaml": "nonsense: 3\n",
    "list.yaml": "[1, 2]\n",
    "raises.py": "x = 1 / 0\n",
    "leaves.py": "raise SystemExit(0)\n",
    "missing.py": "import a_package_that_is_not_there\n",
    "clash.py": PLUGIN + '@register_model("gpt")\nclass G(LanguageModel): ...\n',
    "other.py": PLUGIN + '@register_model("zz")\nclass G: ...\n',
    "shape.py": PLUGIN + SHAPE,
    "task.jsonl": '{"prompt": "the", "answer": 3}\n',
    "fine.jsonl": '{"prompt": "the", "answer": " fox"}\n' * 4,
    "half.jsonl": '{"prompt": \n',
    "scores.csv": "no,columns\n1,2\n",
}


def _fit(more: str, said: str) -> tuple[str, str]:
    model = "" if "--model " in more else f"--model gpt {SMALL}"
    data = "" if "--data.path" in more or "--data.corpus" in more else "ok.txt"
    data = f"--data.path {data}" if data else ""
    steps = "" if "max_steps" in more or "budget" in more else STEPS
    return f"fit {model} {data} {steps} {more}", said


def _generate(more: str, said: str) -> tuple[str, str]:
    return f"generate run {more}", said


FIT = [
    ("--data.path nope.txt", "nope.txt: no such file"),
    ("--data.path folder", "holds no text file"),
    ("--data.path empty.txt", "is empty"),
    ("--data.path one.txt", "the training part of the text is empty"),
    ("--data.path short.txt", "17 are needed"),
    ("--data.path latin.txt", "byte 0xe9 at offset 3"),
    ("--data.path nul.txt", "NUL byte"),
    ("--data.path utf16.txt", "is UTF-16"),
    ("--data.path pipe.txt", "pipe.txt"),
    ("--data.path /dev/zero", "/dev/zero"),
    ("--data.path /proc/self/mem", "cannot be read"),  # by root neither
    ("--data.corpus nosuch", "nosuch"),
    ("--data.val_fraction 1.5", "val_fraction 1.5"),
    ("--data.batch_size 0", "batch_size 0"),
    ("--data.batch_size 99999999999999", "batch_size 99999999999999"),
    ("--data.tokenizer wrd", "no such tokenizer"),
    ("--data.tokenizer bpe --data.tokenizer_size 100", "256"),
    ("--data.tokenizer word --data.min_frequency 999", "999"),
    ("--optimizer.lr -1", "--optimizer.lr -1.0"),
    ("--optimizer.lr nan", "--optimizer.lr"),
    ("--optimizer.lr inf", "--optimizer.lr"),
    ("--optimizer Foo", "no such class"),
    ("--model gtp", "did you mean 'gpt'"),
    ("--model.n_layers 1", "did you mean --model.num_layers"),
    ("--model.num_layers 0", "num_layers"),
    ("--model.num_layers 99999999999", "num_layers"),
    ("--model.d_model 100000000", "memory"),
    ("--model.num_heads 3", "multiple of 3"),
    ("--model.dropout 1.0", "given 1.0"),
    ("--model.dropout nan", "dropout"),
    ("--model palm --model.d_head 3", "an even d_head, given 3"),
    ("--model.context_length 0", "context_length 0"),
    ("--model.context_length 9999", "10,000 are needed"),
    ("--trainer.max_steps 0", "--trainer.max_steps 0"),
    ("--trainer.max_steps -3", "--trainer.max_steps -3"),
    ("--trainer.accelerator gpu", "--trainer.accelerator gpu: "),
    ("--trainer.accelerator abacus", "abacus"),
    ("--trainer.devices 99", "--trainer.devices 99"),
    ("--trainer.precision 9", "bf16-mixed"),
    ("--trainer.strategy fast", "strategy"),
    ("--seed_everything -5", "--seed_everything -5"),
    ("--lr_scheduler.warmup_steps 9", "the run has 2 steps"),
    ("--config nope.yaml", "nope.yaml"),
    ("--config broken.yaml", "is not YAML"),
    ("--config unread.yaml", "nonsense"),
    ("--config list.yaml", "list.yaml"),
    ("--config /dev/zero", "/dev/zero: is a pipe, socket or device"),
    (f"--data.path {LONG}", "no such file or folder"),
    (f"--trainer.default_root_dir {LONG}", "File name too long"),
    ("--plugin leaves.py", "SystemExit"),
    ("--ckpt_path nope", "nope: no such run"),
    ("--ckpt_path cut.ckpt", "truncated"),
    ("--init_from https://host/x.ckpt", "only local files"),
    ("--plugin raises.py", "ZeroDivisionError"),
    ("--plugin missing.py", "No module named"),
    ("--plugin clash.py", "claimed by both"),
    ("--plugin other.py", "is not a LanguageModel"),
    ("--plugin shape.py --model shape", "forward gave (1, 2, 8)"),
    ("--trainer.default_root_dir ok.txt/run", "ok.txt"),
    ("--trainer.default_root_dir /sys/run", "run folder /sys/run cannot be made"),
    (
        "--trainer.max_steps 3 --trainer.default_root_dir run --seed_everything 7",
        "holds a run with data.seed",
    ),
]
GENERATE = [
    ("--temperature -1", "temperature"),
    ("--temperature nan", "temperature"),
    ("--temperature inf", "temperature"),
    ("--top_k -1", "top_k"),
    ("--top_k 9999", "top_k"),
    ("--top_p 0", "top_p"),
    ("--top_p 1.5", "top_p"),
    ("--top_p nan", "top_p"),
    ("--max_new_tokens -1", "max_new_tokens"),
    ("--num_samples 0", "num_samples"),
    ("--repetition_penalty 0", "repetition_penalty"),
    ("--seed -1", "seed"),
    ("--prompt_file nope.txt", "nope.txt"),
    ("--prompt_file latin.txt", "latin.txt"),
    ("--prompt_file pipe.txt", "pipe.txt"),
    ("--device abacus", "abacus"),
    ("--temprature 1", "did you mean --temperature"),
]
OTHERS = [
    ("fitt", "did you mean 'fit'"),
    ("generate", "generate"),
    ("generate nope", "no such run"),
    (f"generate {LONG}", "File name too long"),
    ("study /dev/zero", "/dev/zero: is a pipe, socket or device"),
    ("generate cut.ckpt", "truncated"),
    ("generate ok.txt", "no checkpoint"),
    ("validate", "needs --ckpt_path"),
    ("validate --ckpt_path run --data.path nope.txt", "nope.txt"),
    ("test --ckpt_path nowhere", "nowhere"),
    ("finetune nope.yaml", "nope.yaml"),
    ("finetune unread.yaml", "nonsense"),
    ("finetune list.yaml", "list.yaml"),
    ("split ok.txt", "--out"),
    ("split nope.txt --out made", "nope.txt"),
    ("split ok.txt --by regex --pattern ( --out made", "pattern"),
    ("split ok.txt --at -1 --out made", "--at -1"),
    ("compare --models gtp", "gtp"),
    ("compare --models gpt,lstm --seeds x --data.path ok.txt", "seeds"),
    ("compare --models gpt --data.path nope.txt", "--budget.seconds"),
    (
        "compare --models gpt --data.path nope.txt --budget.steps 2 --out made",
        "nope.txt",
    ),
    ("compare --config list.yaml", "list.yaml"),
    ("params gtp", "gtp"),
    ("params --model gpt --vocab_size -1", "vocab_size"),
    ("params run --length 0", "length"),
    ("score", "score"),
    ("score run", "--text"),
    ("score nope --text hello", "nope"),
    ("score run --file nope.txt", "nope.txt"),
    ("score run --file nul.txt", "nul.txt"),
    ("score run --text hello --stride 0", "stride"),
    ("score run --text hello --import scores.csv", "scores.csv"),
    ("predict run --text hello", "run"),
    ("predict nope --text hello", "nope"),
    ("inspect nothing run", "nothing"),
    ("inspect attention nope", "nope"),
    ("transfer nope nope", "nope"),
    ("eval run", "--task"),
    ("eval run --task nope.jsonl", "nope.jsonl"),
    ("eval run --task task.jsonl", "task.jsonl"),
    ("eval run --task half.jsonl", "half.jsonl"),
    ("eval run --task fine.jsonl --shots x", "shots"),
    ("bench --models gtp", "gtp"),
    ("bench --lengths 0", "lengths"),
    ("bench --rounds 0", "rounds"),
    ("study nope.yaml", "nope.yaml"),
    ("study list.yaml", "list.yaml"),
    ("study unread.yaml --parallel 0", "parallel"),
    ("models --nonsense", "nonsense"),
    ("app nope", "nope"),
    ("app run --port 99999999", "port"),
    ("app run --max_seconds nan", "max_seconds"),
    ("selftest --only kils", "no check 'kils'"),
    ("selftest --report page.pdf", "page.pdf"),
    ("export nope --out made", "nope"),
    ("export run --to gguf --out made", "to"),
    ("export run --out ok.txt", "ok.txt"),
    ("export run", "--out"),
    ("export run --out /sys/export", "/sys/export"),  # read-only, for root too
    ("check gtp", "did you mean 'gpt'"),
    ("new ../x", "no name for a model"),
    ("new gpt", "taken"),
    ("new fine --folder nope", "nope"),
]
MISTAKES = [
    *(_fit(*one) for one in FIT),
    *(_generate(*one) for one in GENERATE),
    *OTHERS,
]
_DATA = [
    "--data.path texts",
    "--data.path blank.txt",
    "--data.path bom.txt",
    "--data.path crlf.txt",
    "--data.path line.txt",
    "--data.path ok.txt --data.val_fraction 0 --data.test_fraction 0",
    "--data.path ok.txt --data.batch_size 4096",  # more than there is of text
]
WORKING = [
    *(
        f"fit --model gpt {SMALL} {more} --trainer.max_steps 1 "
        f"--trainer.default_root_dir works/{number}"
        for number, more in enumerate(_DATA)
    ),
    "generate run --prompt= --max_new_tokens 3",
    "generate run --max_new_tokens 0",
    "generate run --temperature 0 --max_new_tokens 3",
    f"generate run --prompt {'fox' * 50} --max_new_tokens 3",
    "generate run --stop zebra --max_new_tokens 3",
    "generate run --top_k 0 --max_new_tokens 3",
    "generate run --prompt ~zebra~ --max_new_tokens 3",
    "score run --text fox",
    "validate --ckpt_path run",
    "test --ckpt_path run",
    "params run",
    "models",
    "split lengths.txt --out works/split",
    "inspect",
    "eval run --task fine.jsonl",
    "export run --out works/export",
]
