"""Any causal language model of the transformers library, with its own tokenizer.

    logits = AutoModelForCausalLM(tokens)

The constructor keeps the source's configuration (its ``config.json``) and rebuilds the
network from it, so that a checkpoint needs the library (extra ``hf``) but neither the
network nor the source's folder. Code that comes with a model is never run.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lmzoo.errors import UsageError
from lmzoo.models import lora, networks
from lmzoo.models.base import LanguageModel, Window

UNNAMED: dict[str, Any] = {  # what stands in where no source is given
    "model_type": "gpt2",
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": None,
    "eos_token_id": None,
}


class Cache(NamedTuple):
    """Decoding state: the window's tokens, and each layer's keys and values of them."""

    tokens: Tensor  # (B, n)
    keys: tuple[Tensor, ...]  # L of (B, H, n, Dh)
    values: tuple[Tensor, ...]  # L of (B, H, n, Dh)
    seen: int  # tokens since the start


class Pretrained(LanguageModel):
    """A causal language model of the transformers library.

    Maps tokens (B, T) to logits (B, T, V). V is the tokenizer's size; where the source
    has more rows than the tokenizer has ids, the logits of the rest are left out.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens that one prediction sees.
        source: the source's ``config.json``; None builds a very small GPT-2 with random
            weights, on which the laws can be checked.
        lora_rank: of the low-rank adapters that are trained in place of the weights; 0
            for none (Hu et al. 2021, arXiv 2106.09685).
        lora_alpha: the adapters count lora_alpha / lora_rank; None: twice the rank.
        lora_dropout: of what goes into the adapters.
        lora_targets: names of the layers that get one; None: all linear but the head.

    Raises:
        UsageError: transformers is not installed, or peft where there are adapters.
        ValueError: a configuration that it does not know, or sizes that contradict it.
    """

    pretrained: ClassVar[bool] = True
    requires: ClassVar[dict[str, str]] = {"transformers": "hf"}
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 1e-4,
        "lr_scheduler.warmup_steps": 20,
        "trainer.max_steps": 500,
    }

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 512,
        *,
        source: dict[str, Any] | None = None,
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        lora_targets: list[str] | None = None,
    ) -> None:
        super().__init__()
        if source is None:
            rows, positions = vocab_size, context_length
            source = {**UNNAMED, "vocab_size": rows, "n_positions": positions}
        self.network = networks.build(source, causal=True)
        networks.require_room(self.network, vocab_size, context_length)
        if lora_rank:
            how = lora_alpha, lora_dropout, lora_targets
            lora.add_adapters(self.network, lora_rank, *how)
        elif lora_alpha is not None or lora_dropout or lora_targets is not None:
            raise ValueError(
                "lora_alpha, lora_dropout and lora_targets say how adapters are made, "
                "and lora_rank is 0: there are none"
            )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        logits = self.network(input_ids=tokens, use_cache=False).logits
        return logits[..., : self.vocab_size]

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector for each token, (B, T) -> (B, T, D), once the head is taken."""
        del mask
        return self.network(input_ids=tokens, use_cache=False).logits

    def advance(
        self, tokens: Tensor, state: Cache | Window | None = None
    ) -> tuple[Tensor, Any]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        Each token is computed once, but for the window's re-anchoring (see the base).
        An architecture that keeps anything but keys and values of the whole window
        (sliding windows, state spaces) is computed from the tokens every time.
        """
        if not self._plain_cache():
            return super().advance(tokens, state)
        cache = state if isinstance(state, Cache) else Cache(tokens[:, :0], (), (), 0)
        history = torch.cat([cache.tokens, tokens], dim=1)
        seen, end = cache.seen, cache.seen + tokens.shape[1]
        origin = anchor = self.window_start(seen)  # history[:, 0] is token `origin`
        past, pieces = list(zip(cache.keys, cache.values, strict=True)), []
        filled = seen - origin  # positions whose keys and values are known
        for start, until in self.stretches(seen, end):
            if start != anchor:
                anchor, filled, past = start, 0, []
            chunk = history[:, start + filled - origin : until - origin]
            logits, past = self._continue(chunk, past)
            pieces.append(logits[:, seen - until :])  # only the new positions
            seen, filled = until, until - start
        keys, values = zip(*past, strict=True)
        window = history[:, anchor - origin :]
        return torch.cat(pieces, dim=1), Cache(window, keys, values, end)

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention weights of every layer and head, (B, L, H, T, T).

        Raises:
            UsageError: the architecture does not give them.
        """
        network: Any = self.network
        usual = network.config._attn_implementation
        try:
            network.set_attn_implementation("eager")  # the others keep no weights
            output = network(input_ids=tokens, use_cache=False, output_attentions=True)
        finally:
            network.set_attn_implementation(usual)
        maps = getattr(output, "attentions", None) or ()
        if not maps or any(m is None or m.shape != maps[0].shape for m in maps):
            raise UsageError(
                f"{network.config.model_type} gives no attention weights to look at"
            )
        return torch.stack(list(maps), dim=1)

    def take_head(self) -> int:
        """Give up the network's output layer; the size D of ``features``.

        Raises:
            UsageError: it has adapters of its own.
        """
        if hasattr(self.output_head(), "base_layer"):
            raise UsageError(
                f"lora_targets {self.arguments['lora_targets']} name the head, which a "
                f"classifier's body gives up; leave it out of them"
            )
        return super().take_head()

    def output_head(self) -> nn.Module | None:
        """The last layer, from features to logits."""
        return self.network.get_output_embeddings()

    def received(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights without adapters are taken under the names that they have beside."""
        return lora.received(self.state_dict(), state)

    def _continue(
        self, tokens: Tensor, past: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits of ``tokens``, which stand after ``past``, and the longer past."""
        from transformers import DynamicCache  # optional: the hf extra

        cache: Any = DynamicCache(past or None)
        output = self.network(input_ids=tokens, past_key_values=cache, use_cache=True)
        grown = [(layer.keys, layer.values) for layer in cache.layers]
        return output.logits[..., : self.vocab_size], grown

    def _plain_cache(self) -> bool:
        """Whether all that the network remembers are keys and values of all tokens."""
        # optional: the hf extra
        from transformers.cache_utils import DynamicCache, DynamicLayer

        config = self.network.config.get_text_config()
        stateful = getattr(self.network, "_is_stateful", False)
        layers = DynamicCache(config=config).layers
        return not stateful and all(type(layer) is DynamicLayer for layer in layers)
