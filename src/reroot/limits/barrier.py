"""The barrier: two laws that agree outside a set of prefixes that rollouts rarely reach.

P and Q agree outside a set U of prefixes and differ at every prefix in U; R_U is the probability
that a rollout passes through U, the same under both. Source: arXiv 2604.04855; exact form.
"""

from __future__ import annotations

import math

from ..checks import check_between, check_int


def barrier_tv(rollouts: int, reach: float) -> float:
    """1 - (1 - R_U)^N: total variation between N canonical rollouts of P and of Q.

    With FULL reports it is attained; weaker reports give at most that. It is at most N·R_U.

    Args:
        rollouts: N >= 0.
        reach: R_U, in [0, 1].

    Raises:
        InvalidInput: an argument is out of range.
    """
    check_int("rollouts", rollouts)
    if reach in (0, 1):
        return float(reach and rollouts > 0)
    log_hit = math.log1p(-check_between("reach", reach, 0.0, 1.0))
    if rollouts == 0:
        return 0.0
    log_nats = math.log(rollouts) + math.log(-log_hit)  # N may pass the floats
    return -math.expm1(-math.exp(min(log_nats, 700.0)))


def barrier_error(rollouts: int, reach: float) -> float:
    """(1 - TV)/2: error of the best test between P and Q, equally likely, after N rollouts."""
    return (1.0 - barrier_tv(rollouts, reach)) / 2


def barrier_rollouts(error: float, reach: float) -> int:
    """The smallest N at which two equally likely laws are told apart with at most that error.

    N = ⌈log(2ε)/log(1 - R_U)⌉.

    Args:
        error: ε in (0, 1/2).
        reach: R_U, in (0, 1).

    Raises:
        InvalidInput: an argument is out of range.
    """
    ratio = math.log(2 * check_between("error", error, 0.0, 0.5))
    return math.ceil(ratio / math.log1p(-check_between("reach", reach, 0.0, 1.0)))
