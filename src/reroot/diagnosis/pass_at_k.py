"""pass@k from n samples (Yue et al., arXiv 2504.13837)."""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_int


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate 1 − C(n − c, k)/C(n, k) of pass@k from c passes of n samples.

    Source: Chen et al. 2021 (arXiv 2107.03374), in the stable form 1 − Π_{j=n−c+1}^{n} (1 − k/j);
    the product is summed as logarithms, so that small estimates keep their digits.

    Raises:
        InvalidInput: not 0 <= c <= n and 1 <= k <= n.
    """
    check_int("n", n, 1)
    check_int("c", c, 0, n)
    check_int("k", k, 1, n)
    if n - c < k:
        return 1.0
    log_miss = float(np.log1p(-k / np.arange(n - c + 1, n + 1)).sum())
    return 0.0 - math.expm1(log_miss)  # 0 of n is 0, not -0
