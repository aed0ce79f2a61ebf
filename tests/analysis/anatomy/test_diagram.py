"""The figure: well-formed, nothing outside its box, nothing on top of another."""

import itertools
import xml.etree.ElementTree as ET
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lmzoo.analysis.anatomy.architecture import Box, Join, Pair, Stack, architecture
from lmzoo.analysis.anatomy.diagram import draw
from lmzoo.analysis.anatomy.parameters import on_meta
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from lmzoo.report.svg import fit, text_width
from tests.plugin_example.lmzoo_neighbour import Neighbour
from tests.zoo import BUILTINS

# "pretrained" is what its source is: it has no size and no formula of its own
BUILT_IN = [name for name in BUILTINS if name != "pretrained"]
SVG = "{http://www.w3.org/2000/svg}"


class Area(NamedTuple):
    """A rectangle, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: "Area") -> bool:
        return (
            self.left <= other.left
            and self.right >= other.right
            and self.top <= other.top
            and self.bottom >= other.bottom
        )

    def meets(self, other: "Area") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


class Looped(LanguageModel):
    """Blocks in a Sequential, one used twice, a norm of its own, parallel parts."""

    def __init__(self, vocab_size: int, context_length: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 8)
        self.blocks_in_line = nn.Sequential(Parallel(), Parallel(), Parallel())
        self.a_part_with_a_name_that_is_much_too_long_for_any_box = Parallel()
        self.head = nn.Linear(8, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks_in_line(self.embedding(tokens))
        again = self.a_part_with_a_name_that_is_much_too_long_for_any_box
        return self.head(again(again(x)))


class Parallel(nn.Module):
    """x + A(N(x)) + B(N(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.RMSNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + (self.a(y) + self.b(y))


class Looking(LanguageModel):
    """Cannot run without numbers."""

    def __init__(self, vocab_size: int, context_length: int = 16) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens) * float(tokens.sum())


def built(name: str, **arguments) -> LanguageModel:
    return on_meta(models.load(name), {"vocab_size": 65, **arguments})


SUBJECTS = {
    **{name: (models.load(name), {"vocab_size": 65}) for name in BUILT_IN},
    "gpt2-xl": (models.load("gpt"), models.load("gpt").preset_arguments("gpt2-xl")),
    "tied lstm": (
        models.load("lstm"),
        {"vocab_size": 65, "tie_embeddings": True, "num_layers": 3},
    ),
    "shallow ff": (models.load("ff"), {"vocab_size": 65, "num_layers": 1}),
    "neighbour": (Neighbour, {"vocab_size": 65}),
    "looped": (Looped, {"vocab_size": 65}),
    "looking": (Looking, {"vocab_size": 65}),
}


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)


def boxes(root: ET.Element, kind: str = "box") -> list[Area]:
    return [
        Area(x, y, x + float(r.get("width", 0)), y + float(r.get("height", 0)))
        for r in root.iter(f"{SVG}rect")
        if r.get("class") == kind
        for x, y in [(float(r.get("x", 0)), float(r.get("y", 0)))]
    ]


def words(root: ET.Element) -> list[tuple[str, Area]]:
    """Every upright text and the area that it takes."""
    found = []
    for element in root.iter(f"{SVG}text"):
        if element.get("transform"):
            continue
        text, size = element.text or "", float(element.get("font-size", 0))
        x, y = float(element.get("x", 0)), float(element.get("y", 0))
        width = text_width(text, size, bool(element.get("font-weight")))
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[element.get("text-anchor")]  # type: ignore[index]
        left = x - before * width
        area = Area(left, y - 0.75 * size, left + width, y + 0.2 * size)
        found.append((text, area))
    return found


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_leaves_its_box_and_nothing_overlaps(name: str) -> None:
    cls, arguments = SUBJECTS[name]
    root = parsed(draw(on_meta(cls, arguments), name))
    drawn, said = boxes(root), words(root)
    left, top, width, height = map(float, root.get("viewBox", "").split())
    page = Area(left, top, left + width, top + height)

    assert drawn
    for one, other in itertools.combinations(drawn, 2):
        assert not one.meets(other)
    for (text, area), (other_text, other) in itertools.combinations(said, 2):
        assert not area.meets(other), (text, other_text)
    for text, area in said:
        assert page.holds(area), text
        touched = [box for box in drawn if box.meets(area)]
        assert all(box.holds(area) for box in touched), text
    for box in drawn:
        assert page.holds(box)
        assert [text for text, area in said if box.holds(area)]


def test_the_check_of_overlaps_has_teeth() -> None:
    root = parsed(draw(built("gpt"), "gpt"))
    text = next(e for e in root.iter(f"{SVG}text") if e.text == "Token embedding")
    text.text = "a title that no one has cut to the width of its box"
    area = next(a for t, a in words(root) if t == text.text)

    assert [box for box in boxes(root) if box.meets(area) and not box.holds(area)]


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_parameter_is_in_one_box_or_named_below(name: str) -> None:
    cls, arguments = SUBJECTS[name]
    model = on_meta(cls, arguments)
    shown, total = architecture(model), 0
    for item in shown.items:
        if isinstance(item, Box | Stack):
            total += item.parameters
        elif isinstance(item, Pair):
            total += item.left.parameters + item.right.parameters
    total += sum(shown.outside.values())

    assert total == shown.parameters == sum(p.numel() for p in model.parameters())


def test_a_gpt_is_drawn_as_it_is() -> None:
    shown = architecture(built("gpt", d_model=12, num_heads=3, num_layers=5))
    pair, join, stack, norm, head = shown.items

    assert isinstance(pair, Pair)
    assert isinstance(join, Join)
    assert isinstance(stack, Stack)
    assert isinstance(norm, Box)
    assert isinstance(head, Box)
    assert (pair.left.title, pair.right.title) == (
        "Token embedding",
        "Position embedding",
    )
    assert stack.times == 5
    titles = [item.title if isinstance(item, Box) else "+" for item in stack.items]
    part = ["Layer norm", "Causal self-attention", "+"]
    assert titles == [*part, "Layer norm", "MLP", "+"]
    attention, mlp = stack.items[1], stack.items[4]
    assert isinstance(attention, Box)
    assert isinstance(mlp, Box)
    assert attention.lines == ["3 heads × 4"]
    assert mlp.lines == ["12 → 48 → 12, GELU"]
    assert stack.parameters == 5 * sum(
        item.parameters for item in stack.items if isinstance(item, Box)
    )
    assert head.lines == ["12 → 65"]


def test_sizes_stand_above_the_figure_and_shapes_beside_the_arrows() -> None:
    said = {text for text, _ in words(parsed(draw(built("gpt"), "gpt")))}
    heading = " ".join(said)

    for fact in ("num_layers 3", "num_heads 4", "d_model 128", "context_length 64"):
        assert fact in heading
    assert "vocabulary 65" in heading
    assert "gpt: 619,904 parameters" in said
    assert {"tokens", "positions", "logits", "B × T × 65"} <= said


@pytest.mark.parametrize(
    ("name", "times"), [("gpt", 4), ("conv", 4), ("lstm", 4), ("mlp", 4), ("ff", 3)]
)
def test_blocks_are_one_frame_with_their_number(name: str, times: int) -> None:
    root = parsed(draw(built(name, num_layers=4), name))

    assert len(boxes(root, "stack")) == 1
    assert f"×\u2009{times}" in [text for text, _ in words(root)]


def test_blocks_in_a_sequential_and_a_part_called_twice() -> None:
    shown = architecture(on_meta(Looped, {"vocab_size": 65}))
    stacks = [item for item in shown.items if isinstance(item, Stack)]
    called = [i for i in shown.items if isinstance(i, Box) and i.title == "Parallel"]

    assert [stack.times for stack in stacks] == [3]
    assert [type(item) for item in stacks[0].items] == [Box, Pair, Join, Join]
    assert [bool(box.parameters) for box in called] == [True, False]


@pytest.mark.parametrize("tie", [False, True])
def test_tied_weights_are_shown(tie: bool) -> None:
    text = draw(built("gpt", tie_embeddings=tie), "gpt")

    assert ("one matrix" in text) is tie
    assert ("matrix of the token embedding" in text) is tie


def test_no_residual_is_drawn_that_is_not_there() -> None:
    for name in ("heaviside", "lstm", "bare"):
        assert "<circle" not in draw(built(name), name)
    assert draw(built("conv"), "conv").count("<circle") == 1


def test_names_are_escaped() -> None:
    name = "<script>&\"'"
    root = parsed(draw(built("bare"), name))

    assert root.get("aria-label") == f"Architecture of {name}"
    assert not list(root.iter(f"{SVG}script"))


def test_drawing_leaves_the_model_alone() -> None:
    model = models.load("gpt")(vocab_size=31).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    draw(model, "gpt")

    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())


def test_words_are_cut_to_a_width() -> None:
    assert fit("short", 12, 100) == "short"
    cut = fit("a title that is much too long for this", 12, 100)
    assert cut.endswith("…")
    assert text_width(cut, 12) <= 100
