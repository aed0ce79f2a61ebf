"""``lmzoo eval``: a run on a task of choices or exact continuations."""

from pathlib import Path

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.cli.findings import deliver
from lmzoo.errors import UsageError


def run(argv: list[str]) -> int:
    """Evaluate; returns the exit code."""
    return call("eval", evaluation, argv)


def evaluation(
    run: str,
    *,
    task: str = "",
    shots: str = "0",
    seed: int = 0,
    shown: int = 3,
    out: str = "",
    json: bool = False,
    device: str = "auto",
) -> int:
    """Ask a run the questions of a task, and count what it gets right.

    Args:
        run: run folder, checkpoint file, or folder of an exported model
        task: a JSONL file, each line {"prompt": ..., "choices": [...], "answer": index}
            or {"prompt": ..., "answer": text}; configs/tasks has one
        shots: numbers of examples before each question, as 0,1,5
        seed: which examples are drawn; an item is never its own
        shown: items whose prompt and output are printed
        out: folder for the numbers (JSON, CSV); by default the folder eval of the run
        json: print the numbers as JSON, and no words
        device: auto (a GPU if there is one), cpu, cuda, cuda:N or mps
    """
    # torch is for the work, and not for the help
    from lmzoo import runs

    # as above
    from lmzoo.analysis.evaluation import evaluate

    # as above
    from lmzoo.analysis.tasks import read_task

    if not task:
        raise UsageError("--task: name a JSONL file, as configs/tasks/spelling.jsonl")
    asked = read_task(task)
    numbers = _shots(shots)
    where = given.device(device)
    opened = runs.load(run)
    path = Path(run)
    found = evaluate(
        opened.model.to(where),
        opened.tokenizer,
        asked,
        numbers,
        name=path.resolve().name,
        seed=seed,
        shown=shown,
    )
    inside = (path / "manifest.json").is_file()
    folder = Path(out) if out else path / "eval" if inside else Path("eval")
    deliver(found, folder, json)
    return 0


def _shots(typed: str) -> list[int]:
    words = [word.strip() for word in typed.split(",")]
    if not all(word.isdecimal() and word.isascii() for word in words):
        raise UsageError(f"--shots {typed}: give numbers of examples, as 0,1,5")
    return list(dict.fromkeys(map(int, words)))
