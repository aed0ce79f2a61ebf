"""``--distill_from``: the classifier that a new one learns from, typed or stored.

A checkpoint of a distilled run says which teacher it had, and the SHA-256 of it; the
run goes on with the same one, or not at all.
"""

from typing import Any

from lmzoo import runs
from lmzoo.cli.arguments import Request
from lmzoo.errors import UsageError

PATH, DIGEST = "distill_from", "distill.teacher_sha256"  # in a stored configuration


def settle(
    request: Request, cls: type, resumed: runs.Run | None, kept_at: str | None
) -> runs.Run | None:
    """The teacher of a fit; None if there is none.

    Args:
        request: what was typed.
        cls: the class of the student.
        resumed: the checkpoint that the fit goes on from, if it does.
        kept_at: where its teacher was, if it had one.

    Raises:
        UsageError: no fit, another task, no such run, numbers without a teacher, or
            another teacher than the resumed run had.
    """
    place = request.distill_from or kept_at
    if place is None:
        if numbers := request.typed("distill."):
            raise UsageError(
                f"--{numbers[0]} says how a teacher is followed, and there is none; "
                f"give --distill_from RUN"
            )
        return None
    if request.command != "fit" or not hasattr(cls, "teacher"):
        raise UsageError(
            f"--distill_from {place}: a classifier is distilled into a classifier: "
            f"lmzoo fit --model classifier"
        )
    if resumed is None:
        return runs.load(place)
    return _same(place, resumed)


def _same(place: str, resumed: runs.Run) -> runs.Run:
    """The teacher of a run that goes on."""
    stored: dict[str, Any] = resumed.stored.get("training") or {}
    before = stored.get(DIGEST)
    if before is None:
        raise UsageError(
            f"--distill_from {place}: {resumed.path} was trained without a teacher, "
            f"and an exact resume changes nothing; --init_from starts a new run"
        )
    try:
        teacher = runs.load(place)
    except UsageError as error:
        raise UsageError(
            f"{resumed.path} was distilled from {place}, which cannot be read now "
            f"({error}); --distill_from says where its teacher stands"
        ) from error
    if teacher.sha256 != before:
        raise UsageError(
            f"{teacher.path} is not what {resumed.path} was distilled from: its "
            f"SHA-256 is another; --distill_from says where its teacher stands, "
            f"--init_from starts a new run"
        )
    return teacher
