"""KL-regularized outcome reward on explicit trees: exact optimum, values, gradients, estimators.

A ``Tree`` is a law written out in full; a policy is the same tree with other laws. Notation as in
``types``; the prefix "log" means natural logarithms, all divergences are in nats.
"""

from __future__ import annotations

from . import laws
from .estimators import (
    KINDS,
    PLACES,
    BiasRow,
    Kind,
    Place,
    bias_table,
    estimate_kl,
    expected_estimate,
    expected_kl_gradient,
)
from .exact import (
    expected_reward,
    gibbs_policy,
    gradient,
    kl,
    log_ratios,
    soft_values,
    value,
)
from .targets import (
    conditioned_law,
    log_twists,
    pessimistic_law,
    power_law,
    reweighted,
    temperature_law,
)
from .tree import Tree

__all__ = [
    "KINDS",
    "PLACES",
    "BiasRow",
    "Kind",
    "Place",
    "Tree",
    "bias_table",
    "conditioned_law",
    "estimate_kl",
    "expected_estimate",
    "expected_kl_gradient",
    "expected_reward",
    "gibbs_policy",
    "gradient",
    "kl",
    "laws",
    "log_ratios",
    "log_twists",
    "pessimistic_law",
    "power_law",
    "reweighted",
    "soft_values",
    "temperature_law",
    "value",
]
