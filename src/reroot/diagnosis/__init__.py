"""What limits a task: intervals, exact laws, and a verdict in words."""

from __future__ import annotations

from .intervals import (
    Interval,
    best_of_n,
    bootstrap_interval,
    bootstrap_means,
    clopper_pearson,
    count_band,
    log_best_of_n,
    paired_difference,
    poisson_binomial,
)
from .verdict import BASE_LIMIT, NO_DIFFERENCE, ROOT_LIMIT, UNDETERMINED, Arm, Verdict, judge

__all__ = [
    "BASE_LIMIT",
    "NO_DIFFERENCE",
    "ROOT_LIMIT",
    "UNDETERMINED",
    "Arm",
    "Interval",
    "Verdict",
    "best_of_n",
    "bootstrap_interval",
    "bootstrap_means",
    "clopper_pearson",
    "count_band",
    "judge",
    "log_best_of_n",
    "paired_difference",
    "poisson_binomial",
]
