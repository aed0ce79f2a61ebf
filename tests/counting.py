"""FLOPs of products with matrices, as torch counts them."""

from torch.utils.flop_counter import FlopCounterMode


def products(counter: FlopCounterMode) -> int:
    """All but convolutions: the counter is wrong of those channel by channel."""
    counts = counter.get_flop_counts()["Global"]
    return sum(n for name, n in counts.items() if "convolution" not in str(name))
