"""Any encoder of the transformers library, as the body of a classifier.

The constructor keeps the source's configuration (its ``config.json``) and rebuilds the
network from it, as ``pretrained`` does for causal models.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lmzoo.models import networks
from lmzoo.models.member import Member

UNNAMED: dict[str, Any] = {  # what stands in where no source is given
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


class PretrainedEncoder(Member):
    """An encoder of the transformers library; it gives features, and no logits.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens of a text.
        source: the source's ``config.json``; None builds a very small BERT with random
            weights.

    Raises:
        UsageError: transformers is not installed.
        ValueError: a configuration that it does not know, or sizes that contradict it.
    """

    task: ClassVar[str] = "body"
    pretrained: ClassVar[bool] = True
    requires: ClassVar[dict[str, str]] = {"transformers": "hf"}

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 128,
        *,
        source: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if source is None:
            positions = {"max_position_embeddings": context_length}
            source = {**UNNAMED, **positions, "vocab_size": vocab_size}
        self.network = networks.build(source, causal=False)
        if getattr(self.network, "pooler", None) is not None:
            self.network.pooler = None  # a head of another task, of no use to this one
        networks.require_room(self.network, vocab_size, context_length)

    def take_head(self) -> int:
        """There is none; the size D of ``features``."""
        return int(self.network.config.hidden_size)

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector for each token, (B, T) -> (B, T, D)."""
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        return self.network(input_ids=tokens, attention_mask=mask).last_hidden_state
