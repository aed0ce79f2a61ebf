"""Forms of h_t = a_t h_{t-1} + b_t on a CPU: forward and backward, interleaved.

python benchmarks/scan.py --rows 12 --length 64 --features 256 --rounds 30

The forms: in logarithms, as minGRU's paper has it (arXiv:2410.01201, appendix B); a
loop over time that autograd records; all pairs of positions in pieces of 16; the zoo's,
in two levels with a gradient of its own. Milliseconds, and the ratio to the zoo's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lmzoo.models.mingru import linear_scan, pairwise_scan

Form = Callable[[Tensor, Tensor], Tensor]


def in_logarithms(decay: Tensor, inputs: Tensor) -> Tensor:
    """Needs positive inputs: exp(A_t + log sum_s exp(log b_s - A_s))."""
    total = decay.log().cumsum(dim=1)
    return (total + torch.logcumsumexp(inputs.log() - total, dim=1)).exp()


def over_time(decay: Tensor, inputs: Tensor) -> Tensor:
    h, found = torch.zeros_like(inputs[:, 0]), []
    for a, b in zip(decay.unbind(1), inputs.unbind(1), strict=True):
        h = torch.addcmul(b, a, h)
        found.append(h)
    return torch.stack(found, dim=1)


def in_pieces(decay: Tensor, inputs: Tensor) -> Tensor:
    h, found = torch.zeros_like(inputs[:, 0]), []
    for a, b in zip(decay.split(16, 1), inputs.split(16, 1), strict=True):
        found.append(pairwise_scan(a, b, h))
        h = found[-1][:, -1]
    return torch.cat(found, dim=1)


FORMS: dict[str, Form] = {
    "logarithms": in_logarithms,
    "loop": over_time,
    "pairs in pieces": in_pieces,
    "two levels": linear_scan,
}


def seconds(form: Form, parts: tuple[Tensor, Tensor], weights: Tensor) -> float:
    inputs = [part.clone().requires_grad_() for part in parts]
    start = time.perf_counter()
    (form(*inputs) * weights).sum().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("rows", 12), ("length", 64), ("features", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    shape = (given.rows, given.length, given.features)
    parts = (torch.sigmoid(torch.randn(shape)), torch.rand(shape) + 0.1)
    weights = torch.randn(shape)
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(given.rounds + 1):  # the first is a warm-up
        for name, form in FORMS.items():
            taken[name].append(seconds(form, parts, weights))
    own = statistics.median(taken["two levels"][1:])
    for name, found in taken.items():
        median = statistics.median(found[1:])
        print(
            f"{name:16} median {1e3 * median:8.2f} ms, least "
            f"{1e3 * min(found[1:]):8.2f} ms, {median / own:6.2f} x the zoo's"
        )


if __name__ == "__main__":
    main()
