"""Muon: the matrices inside a network by orthogonalised momentum, the rest by AdamW.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/). The update of a matrix
is what ``torch.optim.Muon`` computes. Here matrices of one shape go through the
iteration together, and a matrix that is several on top of one another (queries, keys
and values; the gates of a recurrent cell) is taken apart first, for each has a scale of
its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lmzoo.models.layers import emulated

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, as Jordan et al. chose them
EPSILON = 1e-7  # norms below count as this
Slot = tuple[Tensor, Tensor]  # a matrix, as a view of its parameter, and its update


class Muon(Optimizer):
    """Orthogonalised momentum for the matrices of the blocks, AdamW for all others.

    The library's ``torch.optim.Muon`` takes two-dimensional parameters alone, one after
    the other and each as one matrix. So it knows no embedding and no norm, no fused
    matrix can be taken apart before it without a copy of parameter and state, and many
    small matrices are as many small products.

    The learning rate matters most: 0.005 to 0.01 suited small Transformers here.

    Args:
        params: parameter groups.
        hidden: matrices that are orthogonalised -> the rows of each part; filled in by
            the model. Those of no group are left alone, kernels of a convolution count
            as (out, in x width); a depthwise one is AdamW's.
        lr: rate of the orthogonalised updates; one has a spectral norm of about
            lr x sqrt(max(1, rows / columns)).
        adamw_lr: rate of embeddings, head, norms and biases.
        momentum: of the orthogonalised part, Nesterov's.
        betas: of AdamW.
        weight_decay: of all matrices, decoupled: each step takes rate x weight_decay.
        ns_steps: Newton-Schulz iterations, in bfloat16; in float32 on a processor that
            would emulate it.
        fused: AdamW's own fused kernel.

    Raises:
        ValueError: a number out of range, no matrix to orthogonalise, or one of which
            this process holds only a part.
    """

    of_model: ClassVar[tuple[str, ...]] = ("hidden",)
    whole_matrices: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        hidden: Mapping[nn.Parameter, Sequence[int]],
        lr: float = 0.007,
        adamw_lr: float = 8e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        fused: bool = True,
    ) -> None:
        for name, rate in (("lr", lr), ("adamw_lr", adamw_lr)):
            if not 0 < rate < float("inf"):
                raise ValueError(f"{name} must be above 0, given {rate}")
        if not 0 <= momentum < 1 or ns_steps < 1 or not weight_decay >= 0:
            raise ValueError(
                f"expected momentum in [0, 1), ns_steps >= 1 and weight_decay >= 0, "
                f"given {momentum}, {ns_steps}, {weight_decay}"
            )
        defaults = {"weight_decay": weight_decay, "betas": tuple(betas), "lr": lr}
        defaults |= {"momentum": momentum, "ns_steps": ns_steps, "muon": False}
        super().__init__(list(_split(params, hidden, lr, adamw_lr)), defaults)
        self._rows = {p: list(rows) for p, rows in hidden.items()}
        self._adamw = AdamW(_of(self, muon=False) or [nn.Parameter()], fused=fused)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in _of(self, muon=True):
            self._orthogonalised(group)
        # the very groups and states of this optimizer, whoever replaced them meanwhile
        self._adamw.param_groups, self._adamw.state = _of(self, muon=False), self.state
        self._adamw.step()
        return loss

    def _orthogonalised(self, group: dict[str, Any]) -> None:
        slots: dict[tuple[Any, ...], list[Slot]] = {}  # by what may share an iteration
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state, grad = self.state[parameter], parameter.grad
            if not state:
                state["momentum_buffer"] = torch.zeros_like(grad)
            buffer = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
            update = grad.lerp(buffer, group["momentum"])
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            for slot in _parts(parameter, update, self._rows[parameter]):
                key = (slot[0].shape, parameter.dtype, parameter.device)
                slots.setdefault(key, []).append(slot)
        for (shape, *_), alike in slots.items():
            updates = orthogonal(torch.stack([u for _, u in alike]), group["ns_steps"])
            rate = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
            for (matrix, _), update in zip(alike, updates.unbind(), strict=True):
                matrix.add_(update, alpha=-rate)


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Matrices (N, R, C) with all their singular values near 1.

    Newton-Schulz iteration with a quintic that is steep at 0: singular values end
    between about 0.7 and 1.2 rather than at 1, so bfloat16 is exact enough.
    """
    slow = emulated(matrices.device, torch.bfloat16)
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.float() if slow else x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)  # spectral norm <= 1
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a
        )
    return x.mT if tall else x


def _split(
    groups: Iterable[dict[str, Any]],
    hidden: Mapping[nn.Parameter, Sequence[int]],
    lr: float,
    adamw_lr: float,
) -> Iterable[dict[str, Any]]:
    """Each group as its matrices, for Muon, and what is left of it, for AdamW."""
    found = False
    for group in groups:
        mine = [p for p in group["params"] if p in hidden]
        others = [p for p in group["params"] if p not in hidden]
        if any(hasattr(p, "to_local") for p in mine):
            raise ValueError("sharded matrices cannot be orthogonalised; use AdamW")
        if mine:
            found = True
            yield {**group, "params": mine, "lr": lr, "muon": True}
        if others:
            yield {**group, "params": others, "lr": adamw_lr, "muon": False}
    if not found:
        raise ValueError(
            "no matrix of a block is trained, so there is nothing to orthogonalise; "
            "use torch.optim.AdamW"
        )


def _of(optimizer: Optimizer, muon: bool) -> list[dict[str, Any]]:
    return [group for group in optimizer.param_groups if group["muon"] == muon]


def _parts(parameter: Tensor, update: Tensor, rows: Sequence[int]) -> list[Slot]:
    """Views of a parameter and of its update, one (R, C) for each matrix in it."""
    matrices = parameter.view(len(parameter), -1).split(list(rows))
    return list(zip(matrices, update.reshape(len(update), -1).split(list(rows)),
                    strict=True))  # fmt: skip
