"""Recurrent networks: one state, updated by every token, is all that is remembered.

    h_t = cell(E[token_t], h_{t-1});  logits_t = W h_t

Three cells: Elman 1990, "Finding Structure in Time" (RNN); Cho et al. 2014,
arXiv:1406.1078 (GRU); Hochreiter & Schmidhuber 1997 (LSTM), as PyTorch implements them.
Dropout stands on what flows between layers, never on what flows through time (Zaremba
et al. 2014, arXiv:1409.2329).

Memory has no limit: ``context_length`` is only how far back training looks.

The rate of the recipe is the best of a few on one small text, one run each; the sizes
were not varied. To look again: ``lmzoo compare --models rnn,gru,lstm --vary
optimizer.lr=1e-3,2e-3,4e-3 --budget.steps 1500``.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lmzoo.models.base import LanguageModel, State
from lmzoo.models.layers import (
    SMALL,
    emulated,
    language_head,
    matrix_flops,
    require_positive,
    require_probability,
)

RECIPE = {
    "optimizer.lr": 4e-3,
    "optimizer.weight_decay": 0.0,
    "data.batch_size": 12,
    "lr_scheduler.warmup_steps": 60,
    "trainer.max_steps": 14_000,
}
TIED_STD = 0.1  # between what suits the input of a cell and what suits the head


class Recurrent(LanguageModel):
    """Embedding, ``num_layers`` recurrent layers, head.

    Maps tokens (B, T) to logits (B, T, V) for any T.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window.
        d_model: size of a token's embedding.
        d_hidden: size of the state of one layer.
        num_layers: layers, L; each reads the outputs of the one below.
        dropout: probability of dropping an input or output of a layer, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head; ``d_hidden`` must
            equal ``d_model`` then.
        head_bias: add a bias to the head.
        carry_state: train on consecutive pieces of the text, each beginning with the
            state that the one before it ended with (truncated backpropagation through
            time), instead of on random windows with a fresh state.

    Raises:
        ValueError: a size below 1, a dropout outside [0, 1), or tied sizes that differ.
    """

    unbounded: ClassVar[bool] = True
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")
    cell: ClassVar[Callable[..., nn.RNNBase]]

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 256,
        d_hidden: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
        carry_state: bool = False,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, d_hidden=d_hidden, num_layers=num_layers)
        require_probability(dropout=dropout)
        self.carry_state = carry_state
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = self.cell(
            d_model,
            d_hidden,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,  # else torch warns
        )
        self.head = language_head(
            d_hidden,
            self.embedding,
            tie=tie_embeddings,
            bias=head_bias,
            std=TIED_STD if tie_embeddings else SMALL,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        logits, _ = self.advance(tokens)
        return logits

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        The state is h, (B, L, d_hidden), for an RNN and a GRU; h and c for an LSTM.
        """
        x = self.dropout(self.embedding(tokens))  # (B, T, d_model)
        outputs, state = self._remember(x, _swap(state))  # (B, T, d_hidden)
        return self.head(self.dropout(outputs)), _swap(state)

    def _remember(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The recurrent layers; in float32 where bfloat16 would be emulated."""
        if not (x.device.type == "cpu" and emulated(x.device, _product_type(x))):
            return self.recurrent(x, state)
        with torch.autocast("cpu", enabled=False):
            weights = {n: p.float() for n, p in self.recurrent.named_parameters()}
            given = (x.float(), _to(torch.float32, state))
            outputs, state = functional_call(self.recurrent, weights, given)
        return outputs.to(x.dtype), _to(x.dtype, state)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        named = self.recurrent.named_parameters()
        matrices = sum(p.numel() for name, p in named if name.startswith("weight"))
        return 6 * matrices + matrix_flops(self)


class RNN(Recurrent):
    """Elman network: h_t = tanh(W x_t + U h_{t-1} + b), the simplest memory."""

    cell = nn.RNN
    recipe: ClassVar[dict[str, Any]] = {**RECIPE, "trainer.max_steps": 20_000}


class GRU(Recurrent):
    """Gated recurrent unit: two gates decide what h keeps and what it takes in."""

    cell = nn.GRU
    recipe: ClassVar[dict[str, Any]] = {**RECIPE, "trainer.max_steps": 10_000}


class LSTM(Recurrent):
    """Long short-term memory: a cell state c that three gates erase, write and read."""

    cell = nn.LSTM
    recipe: ClassVar[dict[str, Any]] = RECIPE


def _product_type(x: Tensor) -> torch.dtype:
    """What a product with ``x`` is taken in, on a CPU."""
    mixed = torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if mixed else x.dtype


def _to(dtype: torch.dtype, state: State) -> State:
    if isinstance(state, tuple):
        return tuple(_to(dtype, part) for part in state)
    return None if state is None else state.to(dtype)


def _swap(state: State) -> State:
    """Exchange the first two axes: ours are (B, L, ...), torch's (L, B, ...)."""
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(_swap(part) for part in state)
    return state.transpose(0, 1).contiguous()
