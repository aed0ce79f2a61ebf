"""Where the cells of a comparison run: this machine, a Ray cluster, or SLURM."""

import inspect
from collections.abc import Callable
from typing import Any

from lmzoo.compare.jobs import Launcher
from lmzoo.compare.local import Local
from lmzoo.compare.on_ray import Ray
from lmzoo.compare.on_slurm import Slurm
from lmzoo.compare.values import near
from lmzoo.errors import UsageError

LAUNCHERS: dict[str, Callable[..., Launcher]] = {
    "local": Local,
    "ray": Ray,
    "slurm": Slurm,
}


def launcher(name: str, parallel: int = 1, **options: Any) -> Launcher:
    """The launcher called ``name``.

    Args:
        name: local, ray or slurm.
        parallel: cells at a time, of a launcher that does not decide that by itself.
        options: its own, as values or as typed text.

    Raises:
        UsageError: no such launcher or option (the nearest is said), a value of another
            kind, or the engine is not installed.
    """
    if name not in LAUNCHERS:
        known = ", ".join(LAUNCHERS)
        raise UsageError(f"--launcher {name}: choose {known}{near(name, LAUNCHERS)}")
    signature = inspect.signature(LAUNCHERS[name]).parameters
    known = [key for key in signature if key != "parallel"]
    for key in options:
        if key not in known:
            raise UsageError(
                f"--launcher.{key}: the {name} launcher reads "
                f"{', '.join(known) or 'no options'}{near(key, known)}"
            )
    given = {key: _typed(key, signature[key], options[key]) for key in options}
    if "parallel" in signature:
        given["parallel"] = parallel
    elif parallel != 1:
        raise UsageError(
            f"--parallel {parallel}: with --launcher {name}, the machines that it has "
            f"decide how many cells run at a time; leave it out"
        )
    return LAUNCHERS[name](**given)


def _typed(key: str, option: inspect.Parameter, value: Any) -> Any:
    """``value`` as the option's kind, from text if need be."""
    kind = option.annotation
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"--launcher.{key}: expected {kind.__name__}, given {value}"
        ) from error
