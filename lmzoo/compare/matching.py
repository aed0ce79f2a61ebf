"""Equal parameters: what size of each architecture has a given number of them.

A model names its size arguments (``LanguageModel.sizes``). All of them are scaled
together first, so the proportions of its defaults stay; then the last one alone takes
up what is left. Models are built on the meta device and counted, so nothing can be
miscounted, and what a constructor refuses is not proposed.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lmzoo.analysis.anatomy.closed_forms import formula
from lmzoo.analysis.anatomy.parameters import on_meta
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models

TOLERANCE = 0.02  # of the number of parameters asked for
MOST = 2**20  # no size is larger
UNITS = 64  # a size is a multiple of one of the first so many numbers

Sizes = dict[str, int]
Counted = Callable[[Sizes], int | None]  # None: the constructor refuses these sizes


def unmatched(cls: type[LanguageModel], name: str) -> str | None:
    """Why a model stands outside the matching; None where it can be sized."""
    outside = "it stands in the table, marked, outside the matching"
    if cls.exhibit:
        return f"{name} is an exhibit (it breaks {cls.exhibit} on purpose): {outside}"
    if cls.counting:
        return f"{name} counts and has nothing to size: {outside}"
    if not cls.sizes:
        return (
            f"{name} names no size arguments (a class attribute `sizes`, such as "
            f"('d_model',)), so it cannot be made equal"
        )
    return None


def match(
    name: str, params: int, fixed_arguments: Mapping[str, Any], vocab_size: int
) -> Sizes:
    """Size arguments with which a model has ``params`` parameters, to within 2 %.

    All parameters count, embeddings and head included, shared ones once.

    Args:
        name: of a model in the registry.
        params: the number wanted.
        fixed_arguments: constructor arguments that are decided already; a size among
            them is not changed.
        vocab_size: V.

    Returns:
        The sizes alone, to be given beside ``fixed_arguments``.

    Raises:
        UsageError: a model that has nothing to size, a constructor that refuses the
            fixed arguments, or no sizes that come near enough; the nearest are said.
    """
    cls = models.load(name)
    if line := unmatched(cls, name):
        raise UsageError(line)
    free = [size for size in cls.sizes if size not in fixed_arguments]
    if not free:
        named = " and ".join(cls.sizes)
        raise UsageError(f"{name}: {named} given, so nothing is left to size")
    fixed = {**fixed_arguments, "vocab_size": vocab_size}
    best, found = _nearest(name, cls, free, fixed, params)
    if abs(found - params) > TOLERANCE * params:
        said = ", ".join(f"{key} {value}" for key, value in best.items())
        raise UsageError(
            f"{name} cannot have {params:,} parameters with a vocabulary of "
            f"{vocab_size}: the nearest is {found:,} ({said})"
        )
    return best


def parameters(cls: type[LanguageModel], arguments: Mapping[str, Any]) -> int:
    """Parameters of a model with these arguments, shared ones once."""
    return sum(p.numel() for p in on_meta(cls, dict(arguments)).parameters())


def _nearest(
    name: str,
    cls: type[LanguageModel],
    free: list[str],
    fixed: dict[str, Any],
    params: int,
) -> tuple[Sizes, int]:
    """The sizes whose number of parameters is nearest, and that number."""
    shape, on_paper = _proportions(cls, free), formula(name)
    refused = UsageError(f"{name}: its constructor refuses every size")

    def built(sizes: Sizes) -> int | None:
        nonlocal refused
        try:
            return parameters(cls, {**fixed, **sizes})
        except (ValueError, TypeError) as error:
            refused = UsageError(f"{name}: {error}")
            return None

    def counted(sizes: Sizes) -> int | None:  # a formula is a thousand times as fast
        return on_paper(**fixed, **sizes) or built(sizes)

    def scaled(width: int) -> Sizes:
        return {key: max(1, round(width * ratio)) for key, ratio in shape.items()}

    candidates = _around(scaled, built, counted, params)
    if not candidates:
        raise refused
    last, base = free[-1], candidates[0][0]
    candidates += _around(lambda size: {**base, last: size}, built, counted, params)
    return min(candidates, key=lambda found: abs(found[1] - params))


def _proportions(cls: type[LanguageModel], free: list[str]) -> dict[str, float]:
    """Each size as a multiple of the first, in the defaults.

    One whose default is None follows from the others inside the model.
    """
    accepted = inspect.signature(cls).parameters
    defaults = {key: accepted[key].default for key in free}
    first = defaults[free[0]]
    return {key: value / first for key, value in defaults.items() if value is not None}


def _around(
    sizes: Callable[[int], Sizes], built: Counted, counted: Counted, params: int
) -> list[tuple[Sizes, int]]:
    """The last step with at most ``params`` parameters and the first with more.

    Steps are multiples of the smallest number that the constructor accepts: heads, for
    example, must divide the width. Empty where it accepts none.
    """
    units = range(1, UNITS + 1)
    unit = next((n for n in units if built(sizes(n)) is not None), None)
    if unit is None:
        return []

    def fits(step: int) -> bool:
        number = counted(sizes(unit * step))
        return number is not None and number <= params

    low, high = 1, 2
    while fits(high) and unit * high < MOST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    pair = [sizes(unit * low), sizes(unit * high)]
    return [(s, number) for s in pair if (number := built(s)) is not None]
