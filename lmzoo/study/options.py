"""What a recipe may say to each probe: proved before anything is trained."""

import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lmzoo.analysis.transfer.fewshot import fewshot
from lmzoo.analysis.transfer.matrix import matrix
from lmzoo.compare.values import near
from lmzoo.errors import UsageError
from lmzoo.registry import probes
from lmzoo.report.finding import Finding
from lmzoo.study.recipe import Recipe

Probe = Callable[..., Finding]
BUILT_IN = "lmzoo"
LOOKS = ("frequencies", "samples", "curve", "softmax", "attribution")
DECIDED = {  # by the study itself
    "outputs": {"checkpoints"},
    "fewshot": {"start", "save", "kept"},
    "softmax": {"prompt"},
    "attribution": {"prompt", "target", "against"},
}


def extra_probes() -> list[str]:
    """Names of the probes that lmzoo does not bring."""
    table, _ = probes.entries()
    return [name for name, entry in table.items() if entry.source != BUILT_IN]


def check(recipe: Recipe) -> None:
    """Prove that every option of a recipe is read, and is of the kind that is read.

    Raises:
        UsageError: a probe that is no part of a study, an option that it has not or
            that the study decides, or a value of another kind; a damaged plugin.
    """
    readers: dict[str, Probe] = {"matrix": matrix, "fewshot": fewshot}
    readers |= {name: probes.load(name) for name in (*LOOKS, *extra_probes())}
    readers["outputs"] = readers["samples"]
    for name, options in recipe.options.items():
        where = f"{recipe.name}: options"
        if name not in readers:
            hint = near(name, readers) or f"; there are {', '.join(sorted(readers))}"
            raise UsageError(f"{where}: {name} is no part of a study{hint}")
        known = _keywords(readers[name])
        for key in DECIDED.get(name, ()):
            del known[key]
        for key, value in options.items():
            if key not in known:
                every = ", ".join(sorted(known)) or "no options"
                hint = near(key, known) or f"; there are {every}"
                raise UsageError(f"{where}: {name}: nothing reads {key!r}{hint}")
            if not _fits(value, known[key]):
                raise UsageError(
                    f"{where}: {name}: {key}: expected {_said(known[key])}, given "
                    f"{value!r}"
                )


def _keywords(probe: Probe) -> dict[str, Any]:
    """Its options, and of which kind each is."""
    try:
        found = inspect.signature(probe, eval_str=True)
    except NameError:  # an annotation for type checkers alone
        found = inspect.signature(probe)
    return {
        name: one.annotation
        for name, one in found.parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is float:
        kind = int | float
    if kind not in (bool, int, float, int | float, str, NoneType):
        return True  # of a probe of one's own: it may take what it likes
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _said(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    names = {str: "text (in quotes)", int: "a whole number", float: "a number",
             bool: "true or false"}  # fmt: skip
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return " or ".join(names.get(one, "nothing") for one in parts)
