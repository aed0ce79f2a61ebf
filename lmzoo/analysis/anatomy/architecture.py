"""A model as the boxes of a figure: what is in them, not where they stand.

Made from one traced pass: the repeated blocks become one ``Stack`` whose first block is
open, everything else a ``Box`` or, for an addition, a ``Join``.
"""

import textwrap
from dataclasses import dataclass, field

from torch import nn

from lmzoo.analysis.anatomy.parts import ACTIVATIONS, TIMES, describe
from lmzoo.analysis.anatomy.trace import Step, trace
from lmzoo.models.base import LanguageModel

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass
class Box:
    """A part: ``kind`` chooses its colour, ``lines`` stand below its title."""

    kind: str
    title: str
    lines: list[str]
    step: Step | None
    shape: str = ""
    parameters: int = 0


@dataclass
class Join:
    """Where two paths are added."""

    step: Step
    shape: str = ""


@dataclass
class Pair:
    """Two parts that do not feed one another, side by side."""

    left: Box
    right: Box
    step: Step | None = None


@dataclass
class Stack:
    """``times`` equal blocks; ``items`` are those of the first, bottom up."""

    times: int
    items: list["Box | Join | Pair"]
    step: Step | None
    sources: list[Step | None]
    parameters: int = 0
    carries: str = ""  # what goes from token to token in a recurrent layer


Item = Box | Join | Pair | Stack


@dataclass
class Architecture:
    """A whole figure, from the tokens up."""

    items: list[Item]
    tied: bool  # head and token embedding are one matrix
    parameters: int
    outside: dict[str, int] = field(default_factory=dict)  # in no box: name -> numbers


def architecture(model: LanguageModel) -> Architecture:
    """Describe ``model`` by one pass without numbers."""
    return _Describer(model).describe()


def facts(model: LanguageModel) -> list[str]:
    """Sizes under their constructor's names, implied ones too, the vocabulary last."""
    shown = {
        key: getattr(model, key, None) if value is None else value
        for key, value in model.arguments.items()
        if key not in ("vocab_size", "table_sizes")
    }
    shown["vocabulary"] = model.vocab_size
    return [
        f"{key} {value:,}" if type(value) is int else f"{key} {value}"
        for key, value in shown.items()
        if value is not None
    ]


class _Describer:
    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.counted: set[int] = set()  # ids of the parameters that a box has shown
        self.tied = False

    def describe(self) -> Architecture:
        steps = trace(self.model)
        items = self._items(steps) if steps else self._parts_by_name()
        named = self.model.named_parameters()
        outside = {n: p.numel() for n, p in named if id(p) not in self.counted}
        total = sum(p.numel() for p in self.model.parameters())
        return Architecture(items, self.tied, total, outside)

    # ---- steps to items --------------------------------------------------------------

    def _items(self, steps: list[Step]) -> list[Item]:
        items: list[Item] = []
        rest = list(steps)
        while rest:
            prefix = self._list_of(rest[0])
            if self._is_list(rest[0].name) and rest[0].inside:  # a Sequential of blocks
                rest = rest[0].inside + rest[1:]
            elif prefix:
                group = self._group(rest, prefix)
                rest = rest[len(group) :]
                items.append(self._stack(group, prefix))
            elif _beside(rest):
                left, right = (self._box(step) for step in rest[:2])
                items.append(Pair(left, right, rest[1]))
                rest = rest[2:]
            else:
                items.append(self._item(rest.pop(0)))
        return items

    def _item(self, step: Step) -> Item:
        if step.kind == "add":
            return Join(step, _shape(step))
        if isinstance(step.module, nn.RNNBase):
            return self._recurrent(step, step.module)
        return self._box(step)

    def _stack(self, group: list[Step], prefix: str) -> Stack:
        blocks = self.model.get_submodule(prefix)
        starts = [i for i, step in enumerate(group) if self._list_of(step) == prefix]
        end = starts[1] if len(starts) > 1 else len(group)
        inner: list[Step] = []
        for i, step in enumerate(group[:end]):
            inner += step.inside if i in starts and step.inside else [step]
        items = [_closed(item) for item in self._items(inner)]
        own = {id(p): p.numel() for p in blocks.parameters()}
        self.counted |= set(own)
        return Stack(len(starts), items, group[-1], group[0].sources, sum(own.values()))

    def _group(self, steps: list[Step], prefix: str) -> list[Step]:
        """From the first entry of a list to its last, and the additions right after."""
        entries = [i for i, s in enumerate(steps) if self._list_of(s) == prefix]
        last = entries[-1]
        while last + 1 < len(steps) and steps[last + 1].kind == "add":
            last += 1
        return steps[: last + 1]

    def _list_of(self, step: Step) -> str:
        """Path of the list of blocks that a step's module is an entry of, or ""."""
        path, _, last = step.name.rpartition(".")
        entry = step.kind == "module" and last.isdigit()
        return path if entry and self._is_list(path) else ""

    def _is_list(self, path: str) -> bool:
        """A module list, or a Sequential of blocks that are all of one class."""
        module = dict(self.model.named_modules()).get(path)
        if isinstance(module, nn.ModuleList):
            return True
        if not isinstance(module, nn.Sequential):
            return False
        alike = len({type(child) for child in module}) == 1
        return alike and all(any(True for _ in child.children()) for child in module)

    def _recurrent(self, step: Step, module: nn.RNNBase) -> Stack:
        kind = module.mode.split("_")[0]
        inputs, width = module.input_size, module.hidden_size
        gates = GATES[kind] * (inputs + width + 2 * module.bias) * width
        plural = "s" if GATES[kind] > 1 else ""
        carried = "h, c" if kind == "LSTM" else "h"
        lines = [
            f"{inputs:,} → {width:,}, {GATES[kind]} map{plural} of input and state",
            f"{carried} carried from token to token",
        ]
        box = Box("recurrent", f"{kind} layer", lines, step, _shape(step), gates)
        numbers = self._count(self.model.get_submodule(step.name))
        return Stack(
            module.num_layers, [box], step, step.sources, numbers, carries=carried
        )

    def _box(self, step: Step) -> Box:
        if step.module is None:
            title = ACTIVATIONS.get(step.name, step.name)
            if step.kind in ("window", "concatenate"):
                title = f"{step.kind}: {step.name}"
            return Box("operation", title, [], step, _shape(step))
        module = self.model.get_submodule(step.name)
        kind, title, lines = describe(self.model, step, module)
        numbers = self._count(module)
        shared = sum(p.numel() for p in module.parameters()) - numbers
        if shared and kind == "head":
            self.tied = True
            lines.append("matrix of the token embedding")
        elif shared:
            lines.append("the weights of a part below")
        return Box(kind, title, lines, step, _shape(step), numbers)

    def _count(self, module: nn.Module) -> int:
        """Parameters of a module that no box before it has shown."""
        own = {id(p): p.numel() for p in module.parameters()}
        fresh = {key: size for key, size in own.items() if key not in self.counted}
        self.counted |= set(own)
        return sum(fresh.values())

    def _parts_by_name(self) -> list[Item]:
        """For a model that cannot be traced: its children, or itself alone."""
        children = {
            name: child
            for name, child in self.model.named_children()
            if name != "metrics"
        }
        if children:
            return [
                Box("other", name, [type(child).__name__], None, "", self._count(child))
                for name, child in children.items()
            ]
        summary = (type(self.model).__doc__ or "").strip().split("\n")[0]
        lines = textwrap.wrap(summary.replace("`", ""), 40)
        shape = f"B {TIMES} T {TIMES} {self.model.vocab_size:,}"
        return [Box("other", type(self.model).__name__, lines, None, shape)]


def _closed(item: Item) -> Box | Join | Pair:
    """A stack within a stack is one box."""
    if not isinstance(item, Stack):
        return item
    first = item.items[0]
    if isinstance(first, Box) and len(item.items) == 1:
        title = f"{item.times} {TIMES} {first.title}" if item.times > 1 else first.title
        lines, kind = first.lines, first.kind
    else:
        title, lines, kind = f"{item.times} inner blocks", [], "other"
    shape = _shape(item.step) if item.step else ""
    return Box(kind, title, lines, item.step, shape, item.parameters)


def _shape(step: Step) -> str:
    parts = [f"{p:,}" if isinstance(p, int) else p for p in step.shape]
    return f" {TIMES} ".join(parts)


def _beside(steps: list[Step]) -> bool:
    """Whether the next two are independent parts that are then put together."""
    if len(steps) < 3 or any(step.module is None for step in steps[:2]):
        return False
    first, second, third = steps[:3]
    joined = {id(first), id(second)} == {id(source) for source in third.sources}
    apart = all(source is not first for source in second.sources)
    return apart and joined and third.kind in ("add", "concatenate")
