"""Is a pass rate above or below a threshold? Exact group-sequential tests that stop as soon as they can.

At a look after n attempts the claim p > θ is made if at least u_n passed, p < θ if at most l_n did. Each
boundary is the tightest for which the probability at p = θ of having crossed it by then stays below
α·(n/n_max)^s (Lan & DeMets 1983, error spending), by convolution: no approximation, and as crossing the upper
one becomes less likely when p falls, a false claim has probability at most α for every p on the other side.
Each side counts as if the other never stopped (non-binding), which can only lower its error.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class SequentialTest:
    """Boundaries of a two-sided test of one threshold.

    Attributes:
        threshold: θ.
        looks: (L,) numbers of attempts at which it may decide.
        upper: (L,) least passes that show p > θ; n + 1 where none do.
        lower: (L,) most passes that show p < θ; −1 where none do.
        sizes: probabilities at p = θ of the claims p > θ and p < θ: at most α each.
    """

    threshold: float
    looks: IntArray
    upper: IntArray
    lower: IntArray
    sizes: tuple[float, float]

    def decide(self, passed: int, attempts: int) -> bool | None:
        """Whether p > θ (``True``) or p < θ (``False``) is shown at this look; ``None``: go on.

        Raises:
            InvalidInput: there is no look at ``attempts``.
        """
        at = np.flatnonzero(self.looks == attempts)
        if not len(at):
            raise InvalidInput(f"the test looks after {self.looks.tolist()}, not {attempts!r}")
        if passed >= self.upper[at[0]]:
            return True
        return False if passed <= self.lower[at[0]] else None


@functools.lru_cache(maxsize=64)
def sequential_test(
    threshold: float, *, most: int, every: int = 8, alpha: float = 0.025, spending: float = 0.5
) -> SequentialTest:
    """The test of θ = ``threshold`` with looks after every ``every`` attempts, the last at n_max ≥ ``most``.

    Args:
        threshold: θ in (0, 1).
        most: attempts after which it ends at the latest; rounded up to a look.
        every: attempts between looks.
        alpha: error probability of each of the two claims.
        spending: s > 0; the smaller, the sooner it may stop.

    Raises:
        InvalidInput: an argument is out of range.
    """
    theta = check_between("threshold", threshold, 0.0, 1.0)
    step = check_int("every", every, 1)
    level = check_between("alpha", alpha, 0.0, 1.0)
    power = check_between("spending", spending, 0.0, math.inf)
    count = -(-check_int("most", most, 1) // step)
    looks = np.arange(1, count + 1) * step
    spent = level * (looks / looks[-1]) ** power
    upper, above = _boundary(theta, looks, spent)
    failures, below = _boundary(1.0 - theta, looks, spent)  # the same test of failures
    return SequentialTest(theta, looks, upper, looks - failures, (above, below))


def _boundary(p: float, looks: IntArray, spent: FloatArray) -> tuple[IntArray, float]:
    """(L,) least counts that reject, and the probability of that at ``p``."""
    step = int(looks[0])
    draws = _binomial(step, p)
    law = np.ones(1)  # of the count, where nothing has been rejected
    bounds, crossed = np.empty_like(looks), 0.0
    for i, n in enumerate(looks):
        law = np.convolve(law, draws)
        tails = np.cumsum(law[::-1])[::-1]  # Pr(count ≥ x and no rejection before)
        allowed = np.flatnonzero(crossed + tails <= spent[i])
        bounds[i] = int(allowed[0]) if len(allowed) else n + 1
        crossed += float(tails[bounds[i]]) if bounds[i] <= n else 0.0
        law[bounds[i] :] = 0.0
    return bounds, crossed


def _binomial(n: int, p: float) -> FloatArray:
    k = np.arange(n + 1)
    logs = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in k])
    return np.exp(logs + k * math.log(p) + (n - k) * math.log1p(-p))
