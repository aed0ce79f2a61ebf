"""The parts of any model by the names of their parameters: blocks, embeddings, head."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lmzoo.errors import UsageError


@dataclass(frozen=True)
class Parts:
    """The names of a model's parameters, by where they belong; shared ones once."""

    named: dict[str, nn.Parameter]
    blocks: list[set[str]]
    embeddings: set[str]
    head: set[str]

    @classmethod
    def of(cls, model: Any) -> "Parts":
        """The parts of any model; ``blocks`` and ``output_head`` are asked, if any."""
        named = dict(model.named_parameters())
        name_of = {id(parameter): name for name, parameter in named.items()}

        def names(module: nn.Module | None) -> set[str]:
            found = module.parameters() if module is not None else ()
            return {name_of[id(parameter)] for parameter in found}

        asked = getattr(model, "output_head", lambda: getattr(model, "head", None))
        head = names(asked())
        embeddings = set()
        for module in model.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                embeddings |= names(module)
        blocks = [names(block) for block in model.blocks().values()]
        inner = [block - embeddings - head for block in blocks]
        return cls(named, [block for block in inner if block], embeddings, head)

    def units(self, resting: set[str]) -> list[list[str]]:
        """What is woken at a time: blocks from the top, the embeddings at the end.

        Whatever is in no block (a last norm) is woken with the uppermost.
        """
        inside = set().union(*self.blocks) | self.embeddings
        found = [resting & block for block in reversed(self.blocks)]
        found = [unit for unit in found if unit]
        others = resting - inside
        if others:
            found[:1] = [found[0] | others] if found else [others]
        last = (resting & self.embeddings) - set().union(*found)
        return [sorted(unit) for unit in [*found, last] if unit]


def fitting(
    patterns: Iterable[str], named: dict[str, nn.Parameter], option: str
) -> list[str]:
    """Names that fit any pattern; every pattern must fit one.

    Raises:
        UsageError: one fits none, with ``option`` and examples of names.
    """
    found: list[str] = []
    for pattern in patterns:
        fits = [name for name in named if fnmatchcase(name, pattern)]
        if not fits:
            example = ", ".join(list(named)[:3])
            raise UsageError(
                f"{option} {pattern}: no parameter has such a name; names are as "
                f"{example}"
            )
        found += fits
    return found
