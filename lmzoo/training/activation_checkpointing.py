"""Activation checkpointing: blocks keep their input, and run again to go backward.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174. A
step then holds one block's activations at a time and the inputs of all of them, for
little less than one more forward pass through the blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lmzoo.errors import UsageError
from lmzoo.models.member import Member


def recompute_blocks(model: Member) -> None:
    """Have the backward pass recompute the activations of each block.

    In place: parameters, their names and every figure stay as they are, dropout
    included (the second run draws what the first one drew).

    Raises:
        UsageError: the model is no stack of blocks.
    """
    blocks = model.stack()
    if not blocks:
        raise UsageError(
            f"--activation_checkpointing: {type(model).__name__} is no stack of blocks "
            f"that could be run again one by one; leave it out"
        )
    for block in blocks:
        # a partial, not a closure: a copy of the model then runs its own block again
        block.forward = partial(_recomputed, block.forward)
    model.recomputing = True


def recomputed_flops(model: Member, length: int) -> int:
    """Training FLOPs per token that are spent on blocks a second time, at ``length``.

    A third of what all but the head costs, for a backward pass costs two forward ones.
    The product that ends a block is left out where no dropout follows it: PyTorch runs
    a block again as far as the last tensor that the backward pass needs.
    """
    cost, head = model.flops_per_token(length), model.output_head()
    if not model.recomputing or not cost:
        return 0
    blocks = cost - 6 * (head.weight.numel() if isinstance(head, nn.Linear) else 0)
    return blocks // 3 - sum(map(_left_out, model.stack()))


def _left_out(block: nn.Module) -> int:
    """FLOPs per token of the product that ends ``block``, if it is not run again."""
    inside = list(block.modules())
    if any(isinstance(module, nn.Dropout) and module.p for module in inside):
        return 0
    products = [m.weight.numel() for m in inside if isinstance(m, nn.Linear)]
    return 2 * products[-1] if products else 0


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``forward``, whose activations are kept only while it runs."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
