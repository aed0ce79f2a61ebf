"""A run on a task: accuracy beside chance, with what it was asked and what it said."""

from collections.abc import Sequence
from typing import Any

from lmzoo.analysis import tasks
from lmzoo.analysis.tasks import Reply, Task
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, percent, plural
from lmzoo.text.protocol import Tokenizer

SHOWN = 160  # characters of a prompt that a reader sees


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    task: Task,
    shots: Sequence[int] = (0,),
    *,
    name: str = "the model",
    seed: int = 0,
    shown: int = 3,
) -> Finding:
    """Ask every item of a task, with each number of examples.

    Args:
        model: any member of the zoo.
        tokenizer: the one it was trained with.
        task: of ``read_task``.
        shots: numbers of examples before the question.
        name: of the model, for the heading.
        seed: which examples are drawn.
        shown: items whose prompt and output are given in full.

    Raises:
        UsageError: as many shots as items, or nothing asked.
    """
    if not shots:
        raise UsageError("--shots: give numbers of examples, as 0,1,5")
    tasks.require_shots(task, shots)
    found = {n: tasks.answers(model, tokenizer, task, n, seed) for n in shots}
    plain = {n: _numbers(replies) for n, replies in found.items()}
    return Finding(
        f"eval-{_slug(task.name)}",
        f"{name}: {task.name}",
        text=[task.what] * bool(task.what) + _sentences(task, plain),
        tables=[_table(task, plain)],
        notes=_notes(model, task, found, seed),
        samples=[
            (f"item {i + 1}, {plural(n, 'shot')}", _shown(task, replies[i]))
            for n, replies in found.items()
            for i in range(min(shown, len(task.items)))
        ],
        rows=[
            _row(n, i, reply) for n, rs in found.items() for i, reply in enumerate(rs)
        ],
        data={
            "task": task.name,
            "metric": task.metric,
            "items": len(task.items),
            "chance": task.chance,
            "seed": seed,
            "shots": {str(n): numbers for n, numbers in plain.items()},
        },
    )


def _numbers(replies: list[Reply]) -> dict[str, Any]:
    share, interval = tasks.accuracy([reply.right for reply in replies])
    rate, of_rate = tasks.accuracy([reply.per_char for reply in replies])
    return {
        "accuracy": share,
        "interval": interval,
        "accuracy_per_char": rate,
        "interval_per_char": of_rate,
        "right": sum(reply.right for reply in replies),
        "prompt_tokens": sum(reply.tokens for reply in replies) / len(replies),
    }


def _sentences(task: Task, plain: dict[int, dict[str, Any]]) -> list[str]:
    told = []
    for n, numbers in plain.items():
        low, high = numbers["interval"]
        says = (
            f"With {plural(n, 'example')} {percent(numbers['accuracy'])} of "
            f"{plural(len(task.items), 'item')} are right (95 % interval "
            f"{percent(low)} to {percent(high)})"
        )
        if task.chance is not None:
            side = "above" if low > task.chance else "not apart from"
            side = "below" if high < task.chance else side
            says += f", {side} chance, which is {percent(task.chance)}"
        told.append(f"{says}.")
    return told


def _table(task: Task, plain: dict[int, dict[str, Any]]) -> Table:
    heads = ["shots", "right", "accuracy", "95 % interval"]
    if task.metric == "choice":
        heads += ["per character", "95 % interval"]
    heads += ["chance", "tokens of a prompt"]
    rows = []
    for n, numbers in plain.items():
        row = [str(n), f"{numbers['right']} of {len(task.items)}"]
        row += _share(numbers["accuracy"], numbers["interval"])
        if task.metric == "choice":
            row += _share(numbers["accuracy_per_char"], numbers["interval_per_char"])
        row.append(NONE if task.chance is None else percent(task.chance))
        rows.append([*row, count(numbers["prompt_tokens"])])
    return Table(heads, rows, words=())


def _share(share: float, interval: tuple[float, float]) -> list[str]:
    return [percent(share), " to ".join(percent(end) for end in interval)]


def _notes(
    model: LanguageModel, task: Task, found: dict[int, list[Reply]], seed: int
) -> list[str]:
    if task.metric == "choice":
        notes = [
            "chosen is the text with the highest summed log-probability; per "
            "character divides it by the text's length, for choices of unequal length"
        ]
    else:
        notes = ["right is a greedy continuation that begins with the answer"]
    notes.append(
        f"intervals: Wilson 1927, over items; examples are other items of the file, "
        f"drawn with seed {seed}"
    )
    seen = model.window or model.context_length
    if not model.unbounded:
        for n, replies in found.items():
            if cut := sum(reply.tokens > seen for reply in replies):
                notes.append(
                    f"with {plural(n, 'shot')} {cut} of {len(replies)} prompts are "
                    f"longer than the {seen} tokens that the model sees: their "
                    f"beginning is cut"
                )
    if unknown := sum(reply.unknown for replies in found.values() for reply in replies):
        notes.append(
            f"{unknown:,} symbols of prompts and answers are outside the vocabulary "
            f"and read as unknown: the accuracy of those items says little"
        )
    if model.exhibit is not None:
        notes.append(f"an exhibit: it breaks the law {model.exhibit!r}")
    return notes


def _shown(task: Task, reply: Reply) -> str:
    asked = reply.asked
    if len(asked) > SHOWN:
        asked = f"… {asked[-SHOWN:]}"
    lines = [f"asked   {asked!r}", f"output  {reply.output!r}"]
    verdict = "right" if reply.right else f"wrong, {reply.item.answer!r} was wanted"
    if reply.costs:
        weighed = zip(reply.item.choices, reply.costs, strict=True)
        nats = ", ".join(f"{text!r} {cost:.2f}" for text, cost in weighed)
        lines.append(f"nats    {nats}")
    return "\n".join([*lines, verdict])


def _row(shots: int, number: int, reply: Reply) -> dict[str, Any]:
    return {
        "shots": shots,
        "item": number + 1,
        "prompt": reply.item.prompt,
        "answer": reply.item.answer,
        "output": reply.output,
        "right": int(reply.right),
        "right_per_char": int(reply.per_char),
        "prompt_tokens": reply.tokens,
        "unknown": reply.unknown,
    }


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(word for word in kept.split("-") if word) or "task"
