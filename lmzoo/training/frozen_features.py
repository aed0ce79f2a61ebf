"""A fixed body computes the same vectors in every epoch: they are kept, once."""

import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lmzoo.models.classifier import PooledClassifier

SPLITS = ("train", "val")


class FrozenFeatures(Callback):
    """Keep the pooled vectors of all texts where nothing of the body is trained.

    An epoch then costs a head's work. The vectors are those that one pass over the
    parts gives, always in the same batches, so a resumed run has the same ones. The
    body is in evaluation mode: it has no dropout then.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute them, once what is frozen is known."""
        if isinstance(pl_module, PooledClassifier) and is_fixed(pl_module):
            keep(pl_module, getattr(trainer, "datamodule"))  # noqa: B009
            if trainer.is_global_zero:
                count = sum(map(len, pl_module.features.values()))
                print(f"features   of {count:,} texts are kept", file=sys.stderr)


def is_fixed(model: Any) -> bool:
    """Whether training leaves the body as it is, from the first step to the last."""
    body = model.body_parameters()
    waking = any(name.startswith("body.") for name in model.asleep)
    return bool(body) and not waking and not any(p.requires_grad for p in body)


@torch.no_grad()
def keep(model: PooledClassifier, data: Any) -> None:
    """Fill ``model.features`` with the vectors of the training and validation texts."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for split in SPLITS:
            if data.has(split):
                model.features[split] = _vectors(model, data.parts[split], data)
    finally:
        for module, mode in training:
            module.training = mode


def _vectors(model: PooledClassifier, part: Any, data: Any) -> torch.Tensor:
    found: torch.Tensor | None = None
    for batch in data.whole_pass(part):
        tokens, mask = batch.tokens.to(model.device), batch.mask.to(model.device)
        pooled = model.pooled(tokens, mask)
        if found is None:
            found = pooled.new_empty(len(part.texts), pooled.shape[1])
        found[batch.rows.to(found.device)] = pooled
    assert found is not None
    return found
