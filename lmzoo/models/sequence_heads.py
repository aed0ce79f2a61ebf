"""The transformers library's sequence classifiers as our ``classifier``.

All of them are two linear maps on the first vector of a text, with one of a few
functions between; what differs is where the maps stand in the file, and the function.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class SequenceHead(NamedTuple):
    """How an architecture classifies: W2 f(W1 x[first])."""

    activation: str  # f
    first: str  # name of W1
    second: str  # name of W2


ROBERTA = SequenceHead("tanh", "classifier.dense", "classifier.out_proj")
HEADS = {
    "bert": SequenceHead("tanh", "bert.pooler.dense", "classifier"),
    "distilbert": SequenceHead("relu", "pre_classifier", "classifier"),
    "electra": SequenceHead("gelu", "classifier.dense", "classifier.out_proj"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), ROBERTA),
}
DROPOUTS = ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob")


def of_config(config: Mapping[str, Any]) -> SequenceHead | None:
    """The head of a configuration; None: it is no classifier of one label in many."""
    built = config.get("architectures") or [""]
    single = config.get("problem_type") in (None, "single_label_classification")
    if not single or not str(built[0]).endswith("ForSequenceClassification"):
        return None
    return HEADS.get(config["model_type"])


def labels(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the labels in the order of the logits; fewer than two: a regression.

    Raises:
        ValueError: as many names as logits are not there, or two are the same.
    """
    head = HEADS[config["model_type"]]
    bias = tensors.get(f"{head.second}.bias")
    if bias is None or bias.ndim != 1:
        raise ValueError(f"the tensor '{head.second}.bias' is missing, or no vector")
    count = len(bias)
    named = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    found = [named.get(str(i)) for i in range(count)] if isinstance(named, dict) else []
    strings = [name for name in found if isinstance(name, str)]
    if len(set(strings)) < count or len(named) != count:
        raise ValueError(
            f"id2label should name {count} labels, each by a name of its own: {named}"
        )
    return strings


def arguments(
    config: Mapping[str, Any],
    names: list[str],
    body: str,
    body_arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Constructor arguments of the ``classifier``, on a ``body`` that is described."""
    kept = dict(body_arguments)
    rates = [config[key] for key in DROPOUTS if isinstance(config.get(key), float)]
    return {
        "vocab_size": kept.pop("vocab_size"),
        "context_length": kept["context_length"],
        "labels": names,
        "body": body,
        "body_arguments": kept,
        "pooling": "first",
        "activation": HEADS[config["model_type"]].activation,
        "dropout": rates[0] if rates else 0.1,
    }


def head_tensors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The head's tensors under our names; what is missing is left out."""
    head = HEADS[config["model_type"]]
    return {
        f"head.{ours}.{kind}": tensors[f"{theirs}.{kind}"]
        for ours, theirs in (
            ("pre_classifier", head.first),
            ("classifier", head.second),
        )
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in tensors
    }
