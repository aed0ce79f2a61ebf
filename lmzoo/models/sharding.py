"""Weights in shares, one to each process: FSDP2 over the blocks of any member.

Rajbhandari et al. 2020, "ZeRO", arXiv:1910.02054, stage 3; Zhao et al. 2023, "PyTorch
FSDP", arXiv:2304.11277. A share is a ``DTensor``; a file never holds one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from lmzoo.models.member import Member, whole

__all__ = ["like", "shard", "whole_state"]


def shard(model: Member, mesh: DeviceMesh) -> None:
    """Leave this process its share of every weight; a second call changes nothing.

    A block's weights are gathered when it runs, forward and backward, and given back
    after it; what stands in no block (embeddings, the last norm, the head) likewise for
    the whole model.

    Args:
        model: a member whose weights every process of ``mesh`` holds alike.
        mesh: of one dimension.
    """
    if model.sharded:
        return
    for block in model.stack():
        fully_shard(block, mesh=mesh)
    # given back after a forward pass too: whoever looks then always sees the shares
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    if hasattr(model, "advance"):
        register_fsdp_forward_method(model, "advance")
    model.register_load_state_dict_pre_hook(_take_shares)
    model.sharded = True


def _take_shares(
    model: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Whole weights that are loaded are shared out first."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (key := prefix + name) in state:
            state[key] = like(state[key], parameter)


def whole_state(state: Any) -> Any:
    """A nest of dictionaries and lists with every tensor whole, on the CPU."""
    if isinstance(state, Tensor):
        return whole(state.detach()).cpu()
    if isinstance(state, Mapping):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_state(value) for value in state)
    return state


def like(tensor: Tensor, pattern: Tensor | None) -> Tensor:
    """This process's share of ``tensor``, as it has one of ``pattern``.

    Every process holds the whole tensor, so that nothing is sent.
    """
    if not isinstance(pattern, DTensor) or tensor.shape != pattern.shape:
        return tensor
    with torch.no_grad():
        return distribute_tensor(
            tensor.to(pattern.device),
            pattern.device_mesh,
            pattern.placements,
            src_data_rank=None,
        )
