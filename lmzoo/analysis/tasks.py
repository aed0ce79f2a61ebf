r"""Tasks from a JSONL file: choices weighed, or exact continuations, with examples.

The first line may be a header, ``{"task": name, "what": what is tested, "metric":
"choice" | "exact", "template": "{prompt}{answer}", "separator": "\n"}``; every other
line is an item, ``{"prompt": text, "choices": [text, ...], "answer": index}`` or
``{"prompt": text, "answer": text}``. Examples in the prompt (few-shot, Brown et al.
2020, arXiv 2005.14165) are other items of the same file.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.analysis.memorised import wilson
from lmzoo.errors import UsageError
from lmzoo.generation.text import generate_texts
from lmzoo.models.base import LanguageModel
from lmzoo.scoring import continuations
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.readers import Notes, read_text

METRICS = ("choice", "exact")
HEADER = ("task", "what", "metric", "template", "separator")
ITEM = ("prompt", "choices", "answer")


@dataclass(frozen=True)
class Item:
    """One question: the right text, and where it stands among choices if there are."""

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    right: int = 0


@dataclass(frozen=True)
class Task:
    """What a file asks, and how.

    Attributes:
        name: for headings and files.
        what: what is tested, one sentence.
        metric: ``choice`` (the likeliest of several texts) or ``exact`` (the greedy
            continuation begins with the answer).
        template: how prompt and answer are joined; ends with ``{answer}``.
        separator: between examples.
    """

    name: str
    what: str
    metric: str
    items: tuple[Item, ...]
    template: str = "{prompt}{answer}"
    separator: str = "\n"

    @property
    def chance(self) -> float | None:
        """Accuracy of a guess; None where there is nothing to choose from."""
        if self.metric != "choice":
            return None
        return sum(1 / len(item.choices) for item in self.items) / len(self.items)

    def asked(self, number: int, shots: int, seed: int) -> str:
        """What the model is given for one item: examples, then the question.

        The examples are drawn from the other items, by (seed, item) alone; with more
        shots the first ones stay.
        """
        others = [i for i in range(len(self.items)) if i != number]
        random.Random(f"{seed} {number}").shuffle(others)
        examples = [self._filled(self.items[i], True) for i in others[:shots]]
        question = self._filled(self.items[number], False)
        return self.separator.join([*examples, question])

    def _filled(self, item: Item, answered: bool) -> str:
        before, _, after = self.template.removesuffix("{answer}").partition("{prompt}")
        return f"{before}{item.prompt}{after}{item.answer if answered else ''}"


@dataclass(frozen=True)
class Reply:
    """What a model made of one item.

    Attributes:
        output: the choice that it finds likeliest, or its greedy continuation.
        per_char: whether the likeliest choice per character is right; for exact
            continuations the same as ``right``.
        tokens: of the prompt.
        costs: nats of each choice.
    """

    item: Item
    asked: str
    output: str
    right: bool
    per_char: bool
    tokens: int
    unknown: int
    costs: tuple[float, ...] = ()


def answers(
    model: LanguageModel, tokenizer: Tokenizer, task: Task, shots: int, seed: int = 0
) -> list[Reply]:
    """Every item of a task, asked with ``shots`` examples.

    Raises:
        UsageError: as many shots as items, or a prompt that a model cannot start from.
    """
    require_shots(task, [shots])
    reply = _choice if task.metric == "choice" else _exact
    return [
        reply(model, tokenizer, item, task.asked(i, shots, seed))
        for i, item in enumerate(task.items)
    ]


def accuracy(right: Sequence[bool]) -> tuple[float, tuple[float, float]]:
    """Share that is right, and its 95 % interval (Wilson 1927)."""
    return sum(right) / len(right), wilson(sum(right), len(right))


def require_shots(task: Task, shots: Sequence[int]) -> None:
    """Each question leaves enough other items to be its examples.

    Raises:
        UsageError: there are too few.
    """
    for number in shots:
        if number >= len(task.items):
            raise UsageError(
                f"--shots {number}: the task has {len(task.items)} items, and an item "
                f"is never its own example; give {len(task.items) - 1} at most"
            )


def _choice(
    model: LanguageModel, tokenizer: Tokenizer, item: Item, asked: str
) -> Reply:
    found = continuations(model, tokenizer, asked, item.choices)
    costs = [one.nats for one in found]
    rates = [one.bits_per_char for one in found]
    best = costs.index(min(costs))
    return Reply(
        item,
        asked,
        item.choices[best],
        best == item.right,
        rates.index(min(rates)) == item.right,
        len(tokenizer.encode(asked)),
        _unknown(tokenizer, "".join([asked, *item.choices])),
        tuple(costs),
    )


def _exact(model: LanguageModel, tokenizer: Tokenizer, item: Item, asked: str) -> Reply:
    longest = len(item.answer.encode())  # a token is a byte at least
    (output,) = generate_texts(
        model, tokenizer, asked, max_new_tokens=longest, temperature=0.0
    )
    right = output.startswith(item.answer)
    tokens, unknown = len(tokenizer.encode(asked)), asked + item.answer
    return Reply(
        item, asked, output, right, right, tokens, _unknown(tokenizer, unknown)
    )


def _unknown(tokenizer: Tokenizer, text: str) -> int:
    if tokenizer.unk_id is None:
        return 0
    return int((tokenizer.encode(text) == tokenizer.unk_id).sum())


# ---- the file ------------------------------------------------------------------------


def read_task(path: str) -> Task:
    """A task from a JSONL file.

    Raises:
        UsageError: no such file, or a line that is no item, by its number.
    """
    header: dict[str, Any] = {}
    items: list[Item] = []
    lines = "".join(read_text(Path(path), Notes())).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        content = _object(line, where)
        if not items and not header and "prompt" not in content:
            header = _header(content, where)
        else:
            items.append(_item(content, where))
            _require_kind(items[-1], header.get("metric") or _kind(items[0]), where)
    if not items:
        raise UsageError(f"{path}: no items; a line is {_example()}")
    return Task(
        header.get("task", Path(path).stem),
        header.get("what", ""),
        header.get("metric") or _kind(items[0]),
        tuple(items),
        header.get("template", Task.template),
        header.get("separator", Task.separator),
    )


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error}); give {_example()}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{where}: not an object; give {_example()}")
    return content


def _header(content: dict[str, Any], where: str) -> dict[str, str]:
    _require_keys(content, HEADER, where)
    for key, value in content.items():
        if not isinstance(value, str):
            raise UsageError(f"{where}: {key}: expected text, given {value!r}")
    if content.get("metric", "choice") not in METRICS:
        raise UsageError(f"{where}: metric {content['metric']!r}: give choice or exact")
    template = content.get("template", Task.template)
    once = template.count("{prompt}") == template.count("{answer}") == 1
    if not once or not template.endswith("{answer}"):
        raise UsageError(
            f"{where}: template {template!r}: give {{prompt}} once, and {{answer}} at "
            f"its end"
        )
    return content


def _item(content: dict[str, Any], where: str) -> Item:
    _require_keys(content, ITEM, where)
    prompt, answer = content.get("prompt"), content.get("answer")
    if not isinstance(prompt, str) or not prompt:
        raise UsageError(f"{where}: prompt: expected a text, given {prompt!r}")
    if "choices" not in content:
        if not isinstance(answer, str) or not answer:
            raise UsageError(
                f"{where}: answer: expected a text, or its number among choices; given "
                f"{answer!r}"
            )
        return Item(prompt, answer)
    choices = content["choices"]
    plain = isinstance(choices, list) and all(isinstance(c, str) and c for c in choices)
    if not plain or len(choices) < 2 or len(set(choices)) < len(choices):
        raise UsageError(f"{where}: choices: expected two or more different texts")
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise UsageError(
            f"{where}: answer: expected the number of a choice, given {answer!r}"
        )
    if not 0 <= answer < len(choices):
        raise UsageError(
            f"{where}: answer {answer} is outside the choices, 0 to {len(choices) - 1}"
        )
    return Item(prompt, choices[answer], tuple(choices), answer)


def _require_keys(content: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    if other := sorted(set(content) - set(known)):
        raise UsageError(f"{where}: unknown key {other[0]!r}; keys: {', '.join(known)}")


def _require_kind(item: Item, metric: str, where: str) -> None:
    if metric == "choice" and not item.choices:
        raise UsageError(f"{where}: no choices, where the task chooses among texts")


def _kind(item: Item) -> str:
    return "choice" if item.choices else "exact"


def _example() -> str:
    return '{"prompt": "2 + 2 =", "choices": [" 4", " 5"], "answer": 0}'
