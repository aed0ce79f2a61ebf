"""Tasks: what is read from a file, what is asked, and what is counted as right."""

import json
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lmzoo.analysis.evaluation import evaluate
from lmzoo.analysis.tasks import Item, Task, accuracy, answers, read_task
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.text.symbols import CharTokenizer

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "configs" / "tasks" / "spelling.jsonl"
TOKENIZER = CharTokenizer("abcdefghijklmnopqrstuvwxyz \n")
CHOICE = {"prompt": "ab", "choices": ["c", "d"], "answer": 0}
EXACT = {"prompt": "ab", "answer": "cd"}


class Alphabet(LanguageModel):
    """After a letter comes the next one of the alphabet, almost surely."""

    def __init__(self, vocab_size: int, context_length: int = 64) -> None:
        super().__init__()
        self.letters = vocab_size

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V)."""
        after = (tokens + 1) % self.letters
        return 5 * torch.nn.functional.one_hot(after, self.letters).float()


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return Alphabet(TOKENIZER.vocab_size).eval()


def write(folder: Path, lines: Sequence[object]) -> str:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file = folder / "task.jsonl"
    file.write_text("\n".join(text) + "\n")
    return str(file)


def choices(*answers: int, metric: str = "choice") -> Task:
    """Items whose right answers stand at these places; ``c`` follows ``ab``."""
    items = [Item("ab", "cd"[a], ("c", "d"), a) for a in answers]
    return Task("letters", "The alphabet.", metric, tuple(items))


def test_choices_are_the_likeliest(model: LanguageModel) -> None:
    found = answers(model, TOKENIZER, choices(0, 0, 1), 0)

    assert [reply.output for reply in found] == ["c", "c", "c"]
    assert [reply.right for reply in found] == [True, True, False]
    assert found[0].costs[1] - found[0].costs[0] == pytest.approx(5)


def test_length_weighs_in_the_sum_and_not_per_character(model: LanguageModel) -> None:
    long = Task("t", "", "choice", (Item("ab", "cdefx", ("cdefx", "x"), 0),))
    (reply,) = answers(model, TOKENIZER, long, 0)

    assert not reply.right  # one surprise each, and three sure letters more
    assert reply.per_char


def test_exact_continuations_are_greedy(model: LanguageModel) -> None:
    task = Task("t", "", "exact", (Item("ab", "cde"), Item("ab", "cdx")))
    found = answers(model, TOKENIZER, task, 0)

    assert [reply.output for reply in found] == ["cde", "cde"]
    assert [reply.right for reply in found] == [True, False]


def test_examples_are_others_and_depend_on_the_seed() -> None:
    items = tuple(Item(f"{a}", f"={a}") for a in "abcdefgh")
    task = Task("t", "", "exact", items)
    for number, item in enumerate(items):
        asked = task.asked(number, 7, 0)
        assert asked.endswith(f"\n{item.prompt}")
        assert item.answer not in asked
        assert sorted(asked.split("\n")[:-1]) == sorted(
            f"{other.prompt}{other.answer}" for other in items if other is not item
        )
    assert task.asked(3, 2, 0) == task.asked(3, 2, 0)
    assert task.asked(3, 5, 0) != task.asked(3, 5, 1)
    two, five = (task.asked(3, n, 0).split("\n") for n in (2, 5))
    assert two[:-1] == five[:2]


def test_the_template_joins_prompt_and_answer(tmp_path: Path) -> None:
    header = {"template": "Q: {prompt}\nA:{answer}", "separator": "\n\n"}
    task = read_task(write(tmp_path, [header, EXACT, EXACT]))

    assert task.asked(0, 1, 0) == "Q: ab\nA:cd\n\nQ: ab\nA:"
    assert task.name == "task"
    assert task.metric == "exact"


def test_accuracy_has_wilsons_interval() -> None:
    share, (low, high) = accuracy([True] * 8 + [False] * 2)

    assert share == 0.8
    assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_chance_is_of_each_item() -> None:
    items = (Item("a", "b", ("b", "c"), 0), Item("a", "b", ("b", "c", "d", "e"), 0))
    assert Task("t", "", "choice", items).chance == pytest.approx(3 / 8)
    assert Task("t", "", "exact", items).chance is None


def test_a_verdict_needs_the_interval_to_be_off_chance(model: LanguageModel) -> None:
    def says(*right: int) -> str:
        return evaluate(model, TOKENIZER, choices(*right)).text[1]

    assert ", above chance" in says(*[0] * 12)
    assert ", below chance" in says(*[1] * 12)
    assert ", not apart from chance" in says(0, 1, 0)


def test_what_is_cut_or_unknown_is_said(model: LanguageModel) -> None:
    item = Item("ab\N{SNOWMAN}", "c", ("c", "d"), 0)
    task = Task("t", "", "choice", (item,) * 40)
    notes = " ".join(evaluate(model, TOKENIZER, task, (0, 20)).notes)

    assert "40 of 40 prompts are longer than the 64 tokens" in notes
    assert "outside the vocabulary" in notes
    assert "cut" not in " ".join(evaluate(model, TOKENIZER, choices(0, 1)).notes)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "no items"),
        ([{"task": "x"}], "no items"),
        ([CHOICE, "{not json"], "line 2: not JSON"),
        ([CHOICE, "[1]"], "line 2: not an object"),
        ([CHOICE | {"answer": 2}], "answer 2 is outside the choices, 0 to 1"),
        ([CHOICE | {"answer": -1}], "outside the choices"),
        ([CHOICE | {"answer": "c"}], "expected the number of a choice"),
        ([CHOICE | {"answer": True}], "expected the number of a choice"),
        ([CHOICE | {"choices": ["c"]}], "two or more different"),
        ([CHOICE | {"choices": ["c", "c"]}], "two or more different"),
        ([CHOICE | {"prompt": ""}], "prompt: expected a text"),
        ([CHOICE | {"more": 1}], "unknown key 'more'"),
        ([{"prompt": "a"}], "answer: expected a text"),
        ([CHOICE, EXACT], "line 2: no choices"),
        ([{"metric": "guess"}, CHOICE], "metric 'guess'"),
        ([{"template": "{answer}{prompt}"}, CHOICE], "template"),
        ([{"task": 3}, CHOICE], "task: expected text"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, lines: list[object], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")) as error:
        read_task(write(tmp_path, lines))
    assert "\n" not in str(error.value)


def test_an_item_is_never_its_own_example(model: LanguageModel) -> None:
    task = choices(0, 1, 0)
    assert len(answers(model, TOKENIZER, task, 2)) == 3
    with pytest.raises(UsageError, match="give 2 at most"):
        evaluate(model, TOKENIZER, task, (0, 3))


def test_the_shipped_task_is_what_its_generator_writes() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "spelling_task.py"))
    lines = [json.dumps(line) for line in (made["HEADER"], *made["items"]())]
    assert SHIPPED.read_text().splitlines() == lines

    task = read_task(str(SHIPPED))
    assert len(task.items) >= 50
    assert task.chance == 0.25
    assert all(len({*map("".join, map(sorted, i.choices))}) == 1 for i in task.items)
    places = [item.right for item in task.items]
    assert max(map(places.count, range(4))) - min(map(places.count, range(4))) <= 1
