"""Coverage: how much of what a target law π writes a model π̂ almost never does.

Cov_N(π ‖ π̂) = Pr_{y~π}[π(y)/π̂(y) ≥ N]. It decides what N samples from π̂ can find, which the KL
does not: the KL grows with the length of outputs, and a model with the smaller KL may cover less.
Source: Chen et al. 2025, *The Coverage Principle* (arXiv 2510.15020). Log-ratios are
log π(y) − log π̂(y) of whole outputs, in nats.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_float, check_int
from ..errors import InvalidInput
from ..types import FloatArray
from .intervals import Interval

if TYPE_CHECKING:
    from ..objective.tree import Tree

_ROUNDING = 1e-9  # log-ratios that differ from log N by less are equal to it
_SUM = 1e-9  # most that weights may miss 1 by


def coverage(log_ratios: npt.ArrayLike, weights: npt.ArrayLike | None, threshold: float) -> float:
    """Cov_N(π ‖ π̂) at N = ``threshold``.

    Args:
        log_ratios: (m,) nats, log π(y) − log π̂(y); inf where π̂(y) = 0.
        weights: (m,) probabilities π(y), for the exact value; ``None``: the outputs are samples
            from π, for the estimate.
        threshold: N > 0.

    Raises:
        InvalidInput: an argument is empty, has another shape or is out of range.
    """
    return float(coverage_profile(log_ratios, weights, [threshold])[0])


def coverage_profile(
    log_ratios: npt.ArrayLike, weights: npt.ArrayLike | None, thresholds: npt.ArrayLike
) -> FloatArray:
    """(thresholds,) Cov_N(π ‖ π̂) at each N; arguments and errors as for ``coverage``."""
    ratios = _row("log_ratios", log_ratios)
    if weights is None:
        mass = np.full(len(ratios), 1.0 / len(ratios))
    else:
        mass = _row("weights", weights)
        if mass.shape != ratios.shape:
            raise InvalidInput(
                f"weights must have shape {ratios.shape} as log_ratios, got {mass.shape}"
            )
        if not (mass >= 0).all() or not abs(mass.sum() - 1.0) <= _SUM:
            raise InvalidInput(
                f"weights must be probabilities that sum to 1; the least is {mass.min()}, "
                f"their sum {mass.sum()}"
            )
    levels = _row("thresholds", thresholds).tolist()
    logs = [math.log(check_between("a threshold", n, 0.0, math.inf)) for n in levels]
    return np.array([min(1.0, mass[ratios >= log - _ROUNDING].sum()) for log in logs])


def tree_coverage(target: Tree, model: Tree, thresholds: npt.ArrayLike) -> FloatArray:
    """(thresholds,) exact Cov_N(π ‖ π̂) of two laws written out in full.

    Args:
        target, model: π and π̂ with the same outputs, as ``target.with_laws(…)`` makes them.
        thresholds: each N > 0.

    Raises:
        InvalidInput: the outputs differ, or a threshold is out of range.
    """
    if target.outputs != model.outputs:
        raise InvalidInput(
            f"target and model must be laws on the same outputs: use target.with_laws(…); they "
            f"have {len(target.outputs):,} and {len(model.outputs):,} outputs"
        )
    log_pi = target.log_probabilities()
    written = log_pi > -np.inf
    log_pi, log_model = log_pi[written], model.log_probabilities()[written]
    return coverage_profile(log_pi - log_model, np.exp(log_pi), thresholds)


def coverage_bound(kl: float, threshold: float) -> float:
    """KL/log(N/e) ≥ Cov_N(π ‖ π̂), for KL(π ‖ π̂) in nats and N > e; above 1 it says nothing.

    With x = log π/π̂, the mean of x − 1 + e^(−x) ≥ 0 under π is at most the KL, and where π/π̂ ≥ N it
    is at least log N − 1 (Prop. 3.1).

    Raises:
        InvalidInput: the KL is negative or no number, or N is not above e.
    """
    if not (isinstance(kl, (int, float, np.floating)) and kl >= 0):
        raise InvalidInput(f"kl must be a number >= 0, got {kl!r}")
    return float(kl) / (math.log(check_between("threshold", threshold, math.e, math.inf)) - 1.0)


def best_of_n_regret(covered: float, threshold: float, rollouts: int) -> Interval:
    """What coverage says of best-of-n from π̂ against π, for rewards in [0, 1].

    The regret E_π[r] − E[max_{i≤n} r(y_i)], y_i ~ π̂, is at most Cov_N + exp(−n·(1 − Cov_N)/N) for
    every r: rejection sampling accepts with probability at least (1 − Cov_N)/N per draw, and what it
    accepts is at most Cov_N worse than π. It is at least Cov_N·(1 − n/N) for r = 1[π/π̂ ≥ N], a
    set of probability at most Cov_N/N under π̂, and 0 for a constant r. So the worst regret over r
    lies in this interval: covering π is sufficient and necessary, as Props F.6 and F.7 say (the
    constants are those of this argument).

    Args:
        covered: Cov_N(π ‖ π̂).
        threshold: N ≥ 1.
        rollouts: n ≥ 1.

    Raises:
        InvalidInput: an argument is out of range.
    """
    covered = check_float("coverage", covered, 0.0)
    threshold = check_float("threshold", threshold, 1.0)
    if covered > 1.0:
        raise InvalidInput(f"coverage must lie in [0, 1], got {covered!r}")
    draws = check_int("rollouts", rollouts, 1)
    low = covered * max(0.0, 1.0 - draws / threshold)
    return Interval(low, min(1.0, covered + math.exp(-draws * (1.0 - covered) / threshold)))


class Tournament(NamedTuple):
    """What a tournament found.

    Attributes:
        winner: index of the candidate whose worst score is least; the first of equals.
        worst: (candidates,) max over rivals π' of the estimate of Cov_N(π' ‖ π).
    """

    winner: int
    worst: FloatArray


def tournament(log_probabilities: npt.ArrayLike, threshold: float) -> Tournament:
    """Choose a candidate by coverage: argmin_π max_π' (1/n)·#{i: π'(y_i)/π(y_i) ≥ N} (Thm 6.2).

    Two candidates that both exclude a string have ratio 1 there.

    Args:
        log_probabilities: (candidates, n) nats, of each candidate for n strings drawn from the law
            to be covered; −inf where a candidate excludes a string.
        threshold: N > 1.

    Raises:
        InvalidInput: the shape is wrong, an entry is no log-probability, or N is not above 1.
    """
    logs = _numbers("log_probabilities", log_probabilities)
    if logs.ndim != 2 or not logs.size:
        raise InvalidInput(
            f"log_probabilities must have shape (candidates, n), neither 0, got {logs.shape}"
        )
    wrong = logs[~(logs <= _ROUNDING)]  # NaN too
    if len(wrong):
        raise InvalidInput(f"log_probabilities must be at most 0, got {wrong[0]}")
    least = math.log(check_between("threshold", threshold, 1.0, math.inf)) - _ROUNDING
    worst = np.empty(len(logs))
    for i, mine in enumerate(logs):
        with np.errstate(invalid="ignore"):  # −inf less −inf is NaN, and not above N
            worst[i] = (logs - mine >= least).mean(axis=1).max()
    return Tournament(int(worst.argmin()), worst)


def _row(name: str, values: npt.ArrayLike) -> FloatArray:
    row = _numbers(name, values)
    if row.ndim != 1 or not len(row) or np.isnan(row).any():
        raise InvalidInput(
            f"{name} must be a row of at least one number, none NaN, got shape {row.shape}"
        )
    return row


def _numbers(name: str, values: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be an array of numbers, got {values!r}") from None
