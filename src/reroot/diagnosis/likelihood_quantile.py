"""Likelihood quantiles: how unlikely a base model makes the right answers of its hardest prompts.

Q_q(ε) = sup{α: Pr_x[q(y*|x) ≤ α] ≤ ε}: but for a share ε of the prompts, right answers are at least that
likely. Outcome-reward policy gradients from q need about 1/Q_q(ε) rewards to be right on 1 − ε of the
prompts; with process rewards the least likelihood of a single token takes its place. Source:
Mousavi-Hosseini & Erdogdu (arXiv 2603.06957).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..checks import check_float
from ..errors import InvalidInput
from ..types import FloatArray

_SUM = 1e-9


def log_likelihood_quantile(
    log_likelihoods: npt.ArrayLike, epsilon: float, weights: npt.ArrayLike | None = None
) -> float:
    """log Q_q(ε), nats; −inf where more than ε of the prompts have likelihood 0.

    Args:
        log_likelihoods: (m,) nats, log q(y*|x) of the right answer of each prompt.
        epsilon: ε in [0, 1).
        weights: (m,) probabilities of the prompts; ``None``: equal.

    Raises:
        InvalidInput: an argument has another shape or is out of range.
    """
    logs = _numbers("log_likelihoods", log_likelihoods)
    if logs.ndim != 1 or not len(logs) or not (logs <= 1e-9).all():
        raise InvalidInput(
            f"log_likelihoods must be a row of at least one number <= 0, got {log_likelihoods!r}"
        )
    mass = np.full(len(logs), 1 / len(logs)) if weights is None else _numbers("weights", weights)
    if mass.shape != logs.shape or (mass < 0).any() or not abs(mass.sum() - 1) <= _SUM:
        raise InvalidInput(f"weights must be {logs.shape} probabilities that sum to 1")
    share = check_float("epsilon", epsilon, 0.0)
    if share >= 1.0:
        raise InvalidInput(f"epsilon must lie in [0, 1), got {epsilon!r}")
    order = np.argsort(logs, kind="stable")
    above = np.cumsum(mass[order]) > share + _SUM
    return float(logs[order][int(above.argmax()) if above.any() else -1])


def likelihood_quantile(
    log_likelihoods: npt.ArrayLike, epsilon: float, weights: npt.ArrayLike | None = None
) -> float:
    """Q_q(ε) in [0, 1]; arguments and errors as for ``log_likelihood_quantile``."""
    return math.exp(log_likelihood_quantile(log_likelihoods, epsilon, weights))


def token_likelihood_quantile(
    token_log_likelihoods: npt.ArrayLike, epsilon: float, weights: npt.ArrayLike | None = None
) -> float:
    """The quantile of min_i q(y*_i | x, y*_<i), which is what process rewards depend on.

    Args:
        token_log_likelihoods: (m, N) nats, of each token of each right answer; inf or nan behind the end of
            a shorter one.
        epsilon, weights: as for ``log_likelihood_quantile``.

    Raises:
        InvalidInput: an argument has another shape or is out of range.
    """
    logs = _numbers("token_log_likelihoods", token_log_likelihoods)
    if logs.ndim != 2 or not logs.size:
        raise InvalidInput(f"token_log_likelihoods must be (m, N), got shape {logs.shape}")
    padded = np.where(np.isnan(logs), np.inf, logs)
    return likelihood_quantile(padded.min(axis=1), epsilon, weights)


def explored(log_likelihoods: npt.ArrayLike, log_size: float, share: float = 0.5) -> FloatArray:
    """log((1 − s)·q + s/size), nats: the likelihood under q mixed with uniform draws.

    Args:
        log_likelihoods: nats, of any shape; of outputs or of tokens.
        log_size: log of how many there are: N·log K, or log K.
        share: s in [0, 1].

    Raises:
        InvalidInput: an argument is out of range.
    """
    logs = _numbers("log_likelihoods", log_likelihoods)
    if not 0 <= check_float("share", share) <= 1:
        raise InvalidInput(f"share must lie in [0, 1], got {share!r}")
    size = check_float("log_size", log_size, 0.0)
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log1p(-share) + logs, np.log(share) - size)


def _numbers(name: str, values: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be an array of numbers, got {values!r}") from None
