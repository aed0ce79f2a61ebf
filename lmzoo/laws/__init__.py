"""The laws of a model's contract: each a function that raises ``Broken``.

They are judged by ``lmzoo.testing.check_model``. A law gets a ``Subject``, makes the
instances it needs, and returns a remark worth printing or nothing.
"""

from collections.abc import Callable

from lmzoo.laws import classifying, decoding, dependence, form, learning
from lmzoo.laws.subject import CONTEXT, VOCABULARY, Broken, Subject

__all__ = [
    "CONTEXT",
    "GRADIENT_LAWS",
    "LAWS",
    "LAWS_OF",
    "VOCABULARY",
    "Broken",
    "Subject",
]

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
LAWS_OF: dict[str, dict[str, Callable[[Subject], str | None]]] = {  # by task
    "language model": LAWS,
    "classifier": {
        "constructor": form.constructor,
        "shapes": classifying.logit_shapes,
        "padding": classifying.padding,
        "batch": classifying.rows,
        "labels": classifying.label_order,
        "state_dict": classifying.round_trip,
        "initial_loss": classifying.start,
        "gradient": classifying.reached,
        "overfit": classifying.learnt,
    },
    "encoder": {
        "constructor": form.constructor,
        "shapes": form.shapes,
        "deterministic": dependence.deterministic,
        "padding": classifying.encoder_padding,
        "bidirectional": classifying.both_ways,
        "hidden": classifying.hidden,
        "batch": dependence.batch,
        "state_dict": form.state_dict,
        "gradient": classifying.encoder_reached,
        "body": classifying.body,
    },
    "body": {"constructor": form.constructor, "body": classifying.body},
}
