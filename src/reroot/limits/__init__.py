"""Exact limits of what a learner can do through an interface, evaluated in log space.

Formulas hold at any scale that the theory has a use for: 10^30 rollouts, horizons of 10^4, 10^5
tokens, without overflow, without underflow to a wrong 0 and without loops over rollouts.

Notation as in ``types``; on the hidden path the path token has probability p and each of the other
K - 1 tokens has q = (1 - p)/(K - 1). Source: *The Role of Generator Access in Autoregressive
Post-Training* (arXiv 2604.04855), with exact values in place of bounds.
"""

from __future__ import annotations

from .barrier import barrier_error, barrier_rollouts, barrier_tv
from .families import (
    decoy_draws,
    log_blind_success,
    parity_sample_floor,
    trie_draws,
)
from .hidden_path import log_root_success, root_depths, root_rollouts, root_success
from .information import capacity, capacity_floor, two_point_floor
from .lock import (
    lock_blind,
    lock_coverability,
    lock_pushforward,
    lock_reach,
    lock_uniform,
    lock_value,
)
from .pessimism import pessimistic_level
from .plurality import plurality_draws, plurality_error
from .regularized import (
    balancing_beta,
    first_success_value,
    optimal_value,
    root_value,
    root_value_at_depth,
    root_value_rollouts,
    steered_root_value,
)

__all__ = [
    "balancing_beta",
    "barrier_error",
    "barrier_rollouts",
    "barrier_tv",
    "capacity",
    "capacity_floor",
    "decoy_draws",
    "first_success_value",
    "lock_blind",
    "lock_coverability",
    "lock_pushforward",
    "lock_reach",
    "lock_uniform",
    "lock_value",
    "log_blind_success",
    "log_root_success",
    "optimal_value",
    "parity_sample_floor",
    "pessimistic_level",
    "plurality_draws",
    "plurality_error",
    "root_depths",
    "root_rollouts",
    "root_success",
    "root_value",
    "root_value_at_depth",
    "root_value_rollouts",
    "steered_root_value",
    "trie_draws",
    "two_point_floor",
]
