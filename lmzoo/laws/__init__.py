"""The laws of a model's contract: each a function that raises ``Broken``.

They are judged by ``lmzoo.testing.check_model``. A law gets a ``Subject``, makes the
instances it needs, and returns a remark worth printing or nothing.
"""

from collections.abc import Callable

from lmzoo.laws import decoding, dependence, form, learning
from lmzoo.laws.subject import CONTEXT, VOCABULARY, Broken, Subject

__all__ = ["CONTEXT", "GRADIENT_LAWS", "LAWS", "VOCABULARY", "Broken", "Subject"]

LAWS: dict[str, Callable[[Subject], str | None]] = {
    "constructor": form.constructor,
    "attributes": form.attributes,
    "shapes": form.shapes,
    "deterministic": dependence.deterministic,
    "causality": dependence.causality,
    "batch": dependence.batch,
    "window": dependence.window,
    "step": decoding.step,
    "fork": decoding.fork,
    "state_dict": form.state_dict,
    "initial_loss": learning.initial_loss,
    "gradient": learning.gradient,
    "overfit": learning.overfit,
    "bf16": learning.bf16,
    "counts": learning.counts,
}
GRADIENT_LAWS = ("initial_loss", "gradient", "overfit")
