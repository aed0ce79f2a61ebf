"""Student's t distribution: two-sided probabilities and quantiles, in plain Python."""

import math

EXACT = 1e5  # degrees of freedom; more are taken as these


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), for a and b up to about 1e5.

    The continued fraction of DLMF 8.17.22, evaluated from its tail; past its quick side
    by the symmetry I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    tail, depth = 1.0, 40 + int(3 * math.sqrt(max(a, b)))  # grows with the root
    for k in range(depth, 0, -1):
        m = k // 2
        if k % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        tail = 1.0 + term / tail
    beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - beta)
    return front / (a * tail)


def two_sided(t: float, freedom: float) -> float:
    """Probability that Student's t with ``freedom`` degrees lies beyond +-t."""
    if math.isinf(t):
        return 0.0
    freedom = min(freedom, EXACT)
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def quantile(level: float, freedom: float) -> float:
    """The t beyond which, on both sides, lies the share 1 - ``level`` (0.95: 5 %)."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > 1 - level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if two_sided(middle, freedom) > 1 - level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
