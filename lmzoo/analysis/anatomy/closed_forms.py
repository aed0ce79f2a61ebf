"""Numbers of parameters as formulas: nothing is built, so nothing can be miscounted.

The parts (a linear map, a norm, an attention) are functions of their own, for counting
a model on paper; ``closed_form`` puts them together for the members of the zoo. What
``lmzoo.analysis.anatomy.parameters.count`` finds in the built model must be the same.

V vocabulary, C context, D d_model, F d_hidden, L layers, H heads of width Dh.
"""

import inspect
from collections.abc import Callable
from typing import Any

from lmzoo.models.gated import MLPKind, hidden_width
from lmzoo.registry import models


def closed_form(name: str, **arguments: Any) -> int | None:
    """Parameters of the zoo's ``name`` with these constructor arguments.

    Returns:
        The number, or None for a model whose formula is not here (a plugin).

    Raises:
        UsageError: no such model.
        TypeError: an argument that its constructor does not have, or none for one
            that it needs.
    """
    return formula(name)(**arguments)


def formula(name: str) -> Callable[..., int | None]:
    """``closed_form`` of one model, for counting it many times over.

    Raises:
        UsageError: no such model.
    """
    signature, found = inspect.signature(models.load(name)), FORMULAS.get(name)

    def counted(**arguments: Any) -> int | None:
        bound = signature.bind(**arguments)
        bound.apply_defaults()
        return found(**bound.arguments) if found else None

    return counted


# ---- parts ---------------------------------------------------------------------------


def embedding(rows: int, d_model: int) -> int:
    """A vector for each token, or for each position."""
    return rows * d_model


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """A matrix, and a number for each output."""
    return inputs * outputs + bias * outputs


def norm(d_model: int, bias: bool = True) -> int:
    """A scale and, with a bias, a shift for each entry."""
    return d_model + bias * d_model


def short_convolution(channels: int, kernel_size: int) -> int:
    """A weight for each position that is read and a bias, channel by channel."""
    return channels * (kernel_size + 1)


def attention(d_model: int, num_heads: int, d_head: int, bias: bool = True) -> int:
    """Four maps: q, k and v into the heads, o out of them; 4 D H Dh without biases."""
    width = num_heads * d_head
    return 3 * linear(d_model, width, bias) + linear(width, d_model, bias)


def mlp(d_model: int, d_hidden: int, bias: bool = True) -> int:
    """There and back: 2 D F, and D + F biases."""
    return linear(d_model, d_hidden, bias) + linear(d_hidden, d_model, bias)


def ends(
    vocab_size: int,
    d_model: int,
    *,
    features: int | None = None,
    tie_embeddings: bool = False,
    head_bias: bool = False,
) -> int:
    """Token embedding and head: V D if they share one matrix, else V (D + features)."""
    features = d_model if features is None else features
    matrix = 0 if tie_embeddings else features * vocab_size
    return embedding(vocab_size, d_model) + matrix + head_bias * vocab_size


# ---- members of the zoo: the arguments are those of the constructors -----------------


def _bare(*, vocab_size: int, d_model: int, **rest: Any) -> int:
    return ends(vocab_size, d_model, **_tied(rest))


def _mlp(
    *, vocab_size: int, d_model: int, d_hidden: int, num_layers: int, **rest: Any
) -> int:
    return ends(vocab_size, d_model, **_tied(rest)) + num_layers * mlp(
        d_model, d_hidden
    )


def _ff(
    *,
    vocab_size: int,
    window: int,
    d_model: int,
    d_hidden: int,
    num_layers: int,
    **rest: Any,
) -> int:
    padding = d_model if window > 1 else 0  # a vector for a token that is missing
    mix = linear(window * d_model, d_hidden)
    residual = norm(d_hidden) + linear(d_hidden, d_hidden)
    narrow = rest["tie_embeddings"] * linear(d_hidden, d_model)
    body = padding + mix + (num_layers - 1) * residual + norm(d_hidden) + narrow
    return body + ends(vocab_size, d_model, features=d_hidden, **_tied(rest))


def _heaviside(
    *, vocab_size: int, window: int, d_model: int, d_hidden: int, **rest: Any
) -> int:
    hidden = linear(window * d_model, d_hidden)
    return hidden + ends(vocab_size, d_model, features=d_hidden, **_tied(rest))


def _recurrent(gates: int) -> Callable[..., int]:
    """RNN 1, GRU 3, LSTM 4 maps of (input, state) in a cell, two biases in each."""

    def formula(
        *, vocab_size: int, d_model: int, d_hidden: int, num_layers: int, **rest: Any
    ) -> int:
        first = gates * (linear(d_model, d_hidden) + linear(d_hidden, d_hidden))
        other = gates * 2 * linear(d_hidden, d_hidden)
        cells = first + (num_layers - 1) * other
        return cells + ends(vocab_size, d_model, features=d_hidden, **_tied(rest))

    return formula


def _conv(
    *, vocab_size: int, d_model: int, num_layers: int, kernel_size: int, **rest: Any
) -> int:
    layers = num_layers * linear(kernel_size * d_model, d_model)
    return layers + ends(vocab_size, d_model, **_tied(rest))


def _mingru(
    *,
    vocab_size: int,
    d_model: int,
    d_hidden: int,
    num_layers: int,
    kernel_size: int,
    **rest: Any,
) -> int:
    taps = short_convolution(d_model, kernel_size)
    maps = linear(d_model, 3 * d_hidden) + linear(d_hidden, d_model, bias=False)
    layers = num_layers * (norm(d_model) + taps + maps)
    return layers + norm(d_model) + ends(vocab_size, d_model, **_tied(rest))


def _mamba2(
    *,
    vocab_size: int,
    d_model: int,
    num_heads: int,
    d_head: int,
    d_state: int,
    num_layers: int,
    kernel_size: int,
    **rest: Any,
) -> int:
    width = num_heads * d_head
    taps = short_convolution(d_model, kernel_size)
    inputs = linear(d_model, 2 * width + 2 * d_state + num_heads, bias=False)
    project = norm(width, bias=False) + linear(width, d_model, bias=False)
    each = 3 * num_heads  # a rate, a first step and a skip for each head
    layers = num_layers * (norm(d_model) + taps + inputs + each + project)
    return layers + norm(d_model) + ends(vocab_size, d_model, **_tied(rest))


def _gpt(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_head: int | None,
    d_hidden: int | None,
    bias: bool,
    **rest: Any,
) -> int:
    d_head = d_model // num_heads if d_head is None else d_head
    d_hidden = 4 * d_model if d_hidden is None else d_hidden
    heads = attention(d_model, num_heads, d_head, bias)
    block = 2 * norm(d_model, bias) + heads + mlp(d_model, d_hidden, bias)
    positions = embedding(context_length, d_model)
    body = positions + num_layers * block + norm(d_model, bias)
    return body + ends(vocab_size, d_model, **_tied(rest))


def _palm(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None,
    d_head: int | None,
    d_hidden: int | None,
    mlp: MLPKind,
    position: str,
    block: str,
    bias: bool,
    tie_embeddings: bool,
    **rest: Any,
) -> int:
    kind = rest["norm"]  # else the function's name
    d_head = d_model // num_heads if d_head is None else d_head
    keys = d_head * (num_heads if num_kv_heads is None else num_kv_heads)
    d_hidden = hidden_width(mlp, d_model) if d_hidden is None else d_hidden
    gated, norms = mlp == "swiglu", 1 if block == "parallel" else 2
    read = num_heads * d_head + 2 * keys + (1 + gated) * d_hidden
    written = linear(num_heads * d_head, d_model, bias) + linear(
        d_hidden, d_model, bias
    )
    one = norm(d_model, bias and kind == "layer")
    layer = norms * one + linear(d_model, read, bias) + written
    positions = (position == "learned") * embedding(context_length, d_model)
    body = positions + num_layers * layer + one
    return body + ends(vocab_size, d_model, tie_embeddings=tie_embeddings)


def _tied(rest: dict[str, Any]) -> dict[str, bool]:
    return {key: rest[key] for key in ("tie_embeddings", "head_bias")}


FORMULAS: dict[str, Callable[..., int]] = {
    "ngram": lambda **_: 0,  # it counts; its tables are no parameters
    "heaviside": _heaviside,
    "bare": _bare,
    "mlp": _mlp,
    "ff": _ff,
    "rnn": _recurrent(1),
    "gru": _recurrent(3),
    "lstm": _recurrent(4),
    "mingru": _mingru,
    "mamba2": _mamba2,
    "conv": _conv,
    "conv-noncausal": _conv,
    "gpt": _gpt,
    "transformer-unmasked": _gpt,
    "palm": _palm,
}
