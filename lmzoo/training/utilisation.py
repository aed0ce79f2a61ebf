"""What share of the device's arithmetic a run used: MFU and HFU, on a CPU too.

Model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B) is the
tokens trained on in a second times what a token costs by the model's closed form, 6 for
each weight and the attention's 12 L H Dh T, over the peak of the device. Hardware FLOPs
utilisation counts besides what the run computed twice to save memory. The paper's peak
is the maker's; here it is measured, as the best rate of a plain matrix product in the
run's precision and threads, for makers of processors publish none that a program could
look up. Where the maker's is known it stands beside it.
"""

import time
from typing import Any, TypedDict

import torch

from lmzoo.models.layers import emulated
from lmzoo.models.member import Member
from lmzoo.training.activation_checkpointing import recomputed_flops

CALIBRATION = 0.5  # seconds at most, and no more than a share of the training time
SHARE = 0.05
SIZES = (256, 512, 1024, 2048, 4096, 8192)  # rows of the square matrices, in turn
LAPS = 4  # of every size, after one that is not looked at
DTYPES = {
    "64": torch.float64,
    "32": torch.float32,
    "16": torch.float16,
    "bf16": torch.bfloat16,
}

# Dense bfloat16 and float16 FLOP/s of the tensor cores. Most of NVIDIA's data sheets
# print the value with sparsity, twice these. The first whose words stand in the
# device's own name counts, so that a form of its own comes before the usual one.
PEAKS = {
    "B200": 2.25e15,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100S": 130e12,
    "V100 PCIE": 112e12,
    "V100 SXM2": 125e12,
    "T4": 65e12,
}
ONLY_FLOAT16 = ("V100S", "V100 PCIE", "V100 SXM2", "T4")  # older than bfloat16


class Utilisation(TypedDict):
    """Shares of the peak, and the peak that they are shares of.

    ``mfu``, ``hfu``: of ``peak_flops``, the measured FLOP/s of all devices together;
    ``published_flops``: the maker's, None where unknown; ``of``: in words.
    """

    mfu: float
    hfu: float
    peak_flops: float
    published_flops: float | None
    of: str


def utilisation(
    model: Member,
    tokens_per_second: float,
    *,
    precision: str,
    devices: int = 1,
    seconds: float = CALIBRATION,
) -> Utilisation | None:
    """MFU and HFU of training at this speed, on the device that ``model`` is on.

    Args:
        model: as it was trained, at its training context.
        tokens_per_second: of all devices together.
        precision: the Trainer's, ``"bf16-mixed"``: products are measured in its type.
        devices: that trained side by side.
        seconds: that training took; the peak is measured for a twentieth of them, at
            most for half a second.

    Returns:
        None where the model does not say what a token costs, where parts of it were
        frozen (the closed form counts gradients of every weight), where nothing was
        timed or no peak could be measured.
    """
    cost = model.flops_per_token(model.context_length)
    frozen = not all(p.requires_grad for p in model.parameters())
    if not cost or frozen or tokens_per_second <= 0:
        return None
    device, dtype = next(model.parameters()).device, product_type(precision)
    if emulated(device, dtype):
        dtype = torch.float32  # the most that the machine can do
    peak = devices * matmul_peak(device, dtype, min(CALIBRATION, SHARE * seconds))
    if not peak:
        return None
    again = recomputed_flops(model, model.context_length)
    published = published_peak(device, dtype)
    return {
        "mfu": tokens_per_second * cost / peak,
        "hfu": tokens_per_second * (cost + again) / peak,
        "peak_flops": peak,
        "published_flops": published and devices * published,
        "of": _words(device, dtype, devices),
    }


def product_type(precision: str) -> torch.dtype:
    """What products are taken in under the Trainer's precision, ``"bf16-mixed"``."""
    return DTYPES.get(precision.split("-")[0], torch.float32)


@torch.no_grad()
def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product that ``seconds`` allow to find.

    Sizes double for as long as the next one fits, into the time and into the memory
    that training has left. The best lap counts, for whatever else the machine does can
    only slow one down.

    Args:
        device: to multiply on, with the threads that torch is set to.
        dtype: of both factors.
        seconds: about how long to look.

    Returns:
        0 where there is no memory for the smallest.
    """
    end, best = time.perf_counter() + seconds, 0.0
    numbers = torch.Generator(device).manual_seed(0)  # the run's own stay untouched
    for size in SIZES:
        try:
            left, right = (
                torch.randn(size, size, device=device, generator=numbers).to(dtype)
                for _ in range(2)
            )
            laps = [_lap(left, right) for _ in range(1 + LAPS)][1:]
        except torch.OutOfMemoryError:
            break
        best = max(best, 2 * size**3 / min(laps))
        if time.perf_counter() + 8 * (1 + LAPS) * min(laps) > end:
            break
    return best


def published_peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s that the maker of a GPU states for 16-bit products; None: not known."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    words = torch.cuda.get_device_name(device).replace("-", " ")
    name = next((known for known in PEAKS if _has(words, known)), None)
    part = _has(words, "MIG")  # of a GPU: how large a one is not what the maker states
    if name is None or part or (dtype == torch.bfloat16 and name in ONLY_FLOAT16):
        return None
    return PEAKS[name]


def line(found: Utilisation) -> str:
    """``MFU 31.2 %, HFU 31.2 % of 0.205 TFLOP/s, measured: float32, 2 threads``."""
    told = (
        f"MFU {found['mfu']:.1%}, HFU {found['hfu']:.1%} of "
        f"{found['peak_flops'] / 1e12:.3g} TFLOP/s, the measured matmul peak "
        f"({found['of']})"
    )
    if (published := found["published_flops"]) is None:
        return told
    share = found["mfu"] * found["peak_flops"] / published
    return f"{told}; MFU {share:.1%} of the maker's {published / 1e12:,.0f}"


def _lap(left: torch.Tensor, right: torch.Tensor) -> float:
    """Seconds of one product, its end waited for."""
    began = time.perf_counter()
    torch.mm(left, right)
    if left.device.type != "cpu":
        torch.accelerator.synchronize(left.device)
    return time.perf_counter() - began


def _has(name: str, known: str) -> bool:
    """Whether the words of ``known`` stand in ``name``: L4 is no part of L40S."""
    return f" {known} " in f" {name} "


def _words(device: torch.device, dtype: torch.dtype, devices: int) -> str:
    kind = str(dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    where = f"{threads} thread{'s' * (threads != 1)}"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    elif device.type != "cpu":
        where = device.type
    return f"{kind}, {where}" + (f", {devices} devices" if devices > 1 else "")


def plain(found: Utilisation | None) -> dict[str, Any]:
    """``mfu`` and ``hfu`` alone, for a logger."""
    return {"mfu": found["mfu"], "hfu": found["hfu"]} if found else {}
