"""How fast does a cost grow? Least squares of log N = a + b·H against log N = a + c·log H."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from ..errors import InvalidInput
from ..randomness import Key, keyed_rng
from ..types import FloatArray

_RESAMPLED = 4000


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through (x, log N), and how well it fits.

    Attributes:
        intercept, slope: a and b (or c), natural logarithms.
        low, high: interval of the slope, by resampling the runs at each x.
        residual: root mean square of the residuals, nats.
        aic, bic: information criteria under normal residuals; smaller is better.
        error: standard error of the slope by the residuals, with ``freedom`` degrees of freedom.
    """

    intercept: float
    slope: float
    low: float
    high: float
    residual: float
    aic: float
    bic: float
    error: float
    freedom: int

    def scattered(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of the slope by the scatter about the line (Student's t): wider than ``low`` …
        ``high`` where there are few runs at each x, or the line is not the law."""
        if self.freedom < 1:
            return -math.inf, math.inf
        away = self.error * float(special.stdtrit(self.freedom, (1 + level) / 2))
        return self.slope - away, self.slope + away

    def at(self, x: float) -> float:
        """N at x: e^(a + b·x)."""
        return math.exp(self.intercept + self.slope * x)


@dataclass(frozen=True, slots=True)
class Growth:
    """Both fits of the same runs.

    Attributes:
        horizons: the H that were fitted.
        runs: how many runs in all.
        exponential: log N = a + b·H, b in nats per token.
        polynomial: log N = a + c·log H.
    """

    horizons: tuple[int, ...]
    runs: int
    exponential: Line
    polynomial: Line

    @property
    def preferred(self) -> str:
        """The smaller AIC; BIC says the same, as both have as many parameters."""
        return "exponential" if self.evidence > 0 else "polynomial"

    def at(self, horizon: float) -> float:
        """N at a horizon, by the law that is preferred."""
        if self.preferred == "exponential":
            return self.exponential.at(horizon)
        return self.polynomial.at(math.log(horizon))

    def both(self, criterion: str) -> str:
        """A criterion of both fits, as tables show it."""
        fits = self.exponential, self.polynomial
        return ", ".join(f"{getattr(fit, criterion):.1f}" for fit in fits).replace("-", "−")

    @property
    def evidence(self) -> float:
        """AIC of the polynomial fit less that of the exponential one."""
        return self.polynomial.aic - self.exponential.aic


def growth(costs: Mapping[int, Sequence[float]], key: Key, level: float = 0.95) -> Growth:
    """Fit both laws to single runs.

    Args:
        costs: H → cost N > 0 of every run at this H.
        key: of the resampling.
        level: of the intervals.

    Raises:
        InvalidInput: fewer than two horizons, or a cost that is not positive.
    """
    horizons = sorted(costs)
    if len(horizons) < 2 or any(not len(costs[H]) for H in horizons):
        raise InvalidInput(f"a growth law needs runs at two horizons or more, got {horizons}")
    logs = [np.log(np.asarray(costs[H], dtype=np.float64)) for H in horizons]
    if not all(np.isfinite(part).all() for part in logs):
        raise InvalidInput("costs must be positive and finite")
    rng = keyed_rng(key)
    means = np.stack(
        [y[rng.integers(len(y), size=(_RESAMPLED, len(y)))].mean(axis=1) for y in logs]
    )
    x = np.array(horizons, dtype=np.float64)
    return Growth(
        tuple(horizons),
        sum(map(len, logs)),
        _line(x, logs, means, level),
        _line(np.log(x), logs, means, level),
    )


def _line(x: FloatArray, logs: Sequence[FloatArray], means: FloatArray, level: float) -> Line:
    """``means`` (horizons, resamples): mean logs of the resampled runs."""
    sizes = np.array([len(y) for y in logs])
    weights = sizes * (x - (sizes * x).sum() / sizes.sum())
    weights /= (weights * x).sum()
    observed = np.array([y.mean() for y in logs])
    slope = float(weights @ observed)
    low, high = np.quantile(weights @ means, ((1 - level) / 2, (1 + level) / 2))
    intercept = float((sizes * (observed - slope * x)).sum() / sizes.sum())
    squares = sum(
        float(((y - intercept - slope * at) ** 2).sum()) for y, at in zip(logs, x, strict=True)
    )
    n = int(sizes.sum())
    fit = n * math.log(max(squares / n, 1e-300))
    criteria = fit + 2 * 3, fit + 3 * math.log(n)  # three parameters: a, the slope, the variance
    spread = float((sizes * (x - (sizes * x).sum() / n) ** 2).sum())
    error = math.sqrt(squares / max(n - 2, 1) / spread)
    residual = math.sqrt(squares / n)
    return Line(intercept, slope, float(low), float(high), residual, *criteria, error, n - 2)


def beside(slope: float, interval: tuple[float, float], stated: float) -> str:
    """A measured exponent, its interval, and how far that is from the exponent that is stated."""
    low, high = interval
    found = f"{slope:.2f} ({low:.2f} to {high:.2f}), stated {stated:.2f}"
    if low <= stated <= high:
        return found
    off = low - stated if stated < low else stated - high
    return f"{found}, {off:.2f} {'below' if stated < low else 'above'} the interval"


def geometric_score(wait: int | None, before: int, chance: float, uniform: float) -> float:
    """F(wait − 1) + V·Pr(wait), V uniform: uniform over (0, 1) if the wait is geometric.

    Args:
        wait: trials up to the first success, it included; ``None``: censored after ``before`` trials,
            which counts with F(before) + V·(1 − F(before)).
        before: trials of a censored run.
        chance: success probability of a trial.
        uniform: V.
    """
    left = (1 - chance) ** (before if wait is None else wait - 1)
    return 1 - left + uniform * left * (1.0 if wait is None else chance)
