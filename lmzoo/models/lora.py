"""Low-rank adapters in any network, through the peft library.

    y = W x + (alpha / rank) B A x      W stays as it is; A (rank, in), B (out, rank)

Hu et al. 2021 (arXiv 2106.09685). B starts at zero, so that the network with fresh
adapters computes what it did without them.
"""

import warnings
from typing import Any

from torch import Tensor, nn

from lmzoo.errors import UsageError, first_line

NAME = "default"  # peft's own, of the one set of adapters
OUTSIDE = ".base_layer."  # what peft puts into the name of a weight that it adapts


def add_adapters(
    network: nn.Module,
    rank: int,
    alpha: float | None,
    dropout: float,
    targets: list[str] | None,
) -> None:
    """Put adapters into ``network``; afterwards they alone require gradients.

    Args:
        network: a model of the transformers library.
        rank: of A and B, 1 or more.
        alpha: the adapters count alpha / rank; None: twice the rank.
        dropout: of what goes into the adapters.
        targets: names, or ends of names, of the layers that get one; None: every
            linear layer but the head (Dettmers et al. 2023, arXiv 2305.14314).

    Raises:
        UsageError: peft is not installed.
        ValueError: a number out of its range, or targets that are not there.
    """
    if rank < 1 or not 0 <= dropout < 1 or (alpha is not None and not alpha > 0):
        raise ValueError(
            f"expected lora_rank >= 1, lora_alpha > 0 and lora_dropout in [0, 1), "
            f"given {rank}, {alpha}, {dropout}"
        )
    try:
        # optional: the hf extra
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError(
            "lora_rank needs the peft library: pip install 'lmzoo[hf]'"
        ) from error
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules="all-linear" if targets is None else targets,
    )
    try:
        with warnings.catch_warnings():  # of layers that hold their matrix transposed
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            inject_adapter_in_model(config, network, NAME)
    except ValueError as error:
        raise ValueError(f"lora_targets {targets}: {first_line(error)}") from error


def merged(network: Any) -> dict[str, Tensor]:
    """The tensors of ``network`` as they were named, the adapters added into them."""
    deltas: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        delta: Any = getattr(module, "get_delta_weight", None)
        if delta is not None:
            deltas[f"{name}.base_layer.weight"] = delta(NAME).detach()
    found = {}
    for name, tensor in network.state_dict().items():
        if ".lora_" in name:
            continue
        plain = name.replace(OUTSIDE, ".")
        found[plain] = tensor + deltas[name] if name in deltas else tensor
    return found


def received(own: dict[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """``given`` tensors under the names of ``own``, with whose adapters they are met.

    Where ``given`` has no adapters, the fresh ones of ``own`` are taken.

    Raises:
        UsageError: ``given`` has adapters and ``own`` has none.
    """
    adapted = any(OUTSIDE in name for name in given)
    if adapted and not any(OUTSIDE in name for name in own):
        raise UsageError(
            "the run has low-rank adapters, and lora_rank is 0: lmzoo export --to hf "
            "merges them into the weights first"
        )
    if adapted:
        return given
    if not any(OUTSIDE in name for name in own):
        return given
    plain = {name: name.replace(OUTSIDE, ".") for name in own}
    fresh = {name: tensor for name, tensor in own.items() if ".lora_" in name}
    return fresh | {name: given[n] for name, n in plain.items() if n in given}
