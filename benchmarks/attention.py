"""Causal attention forward and backward on a CPU: plain products and the library's.

python benchmarks/attention.py --threads 2 --rounds 30

In turns, in float32 and bfloat16; milliseconds, and the library's over the products'.
What ``lmzoo.models.attention.attend`` takes is marked.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.models.attention import LONGEST, _by_products
from lmzoo.training.checkpoints import versions

# batch, heads, context, width of a head: nanoGPT's two recipes, and one between
SIZES = [(12, 4, 64, 32), (12, 4, 128, 32), (4, 6, 256, 64), (2, 6, 1024, 64)]


def timed(attend: Callable[..., Tensor], parts: list[Tensor], grad: Tensor) -> float:
    """Milliseconds of one pass in both directions."""
    began = time.perf_counter()
    attend(*parts).backward(grad)
    return 1e3 * (time.perf_counter() - began)


def library(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _by_products(q, k, v, None, True, 0.0)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| B, H, T, Dh | type | library, ms | products, ms | ratio | taken |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            batch, heads, length, width = size
            parts = [  # heads last but one in memory, as a fused projection leaves them
                torch.randn(batch, length, heads, width, dtype=dtype)
                .transpose(1, 2)
                .requires_grad_()
                for _ in range(3)
            ]
            grad = torch.randn(batch, heads, length, width, dtype=dtype)
            rows = [
                (timed(library, parts, grad), timed(products, parts, grad))
                for _ in range(options.rounds + 3)
            ][3:]
            mine, theirs = (
                statistics.median(row[place] for row in rows) for place in (1, 0)
            )
            ratio = statistics.median(a / b for a, b in rows)
            plain = dtype == torch.bfloat16 and length <= LONGEST
            print(
                f"| {size} | {str(dtype)[6:]} | {theirs:.2f} | {mine:.2f} "
                f"| {ratio:.2f} | {'products' if plain else 'library'} |"
            )
    print(f"\n{options.threads} threads, {versions()}")


if __name__ == "__main__":
    main()
