"""What limits a task: intervals, exact laws, coverage, pass@k, and a verdict in words."""

from __future__ import annotations

from .clusters import bounded_interval, cluster_means, mean_of_means, pass_interval
from .coverage import (
    Tournament,
    best_of_n_regret,
    coverage,
    coverage_bound,
    coverage_profile,
    tournament,
    tree_coverage,
)
from .first_signal import FirstSignal, Posterior, Reach, first_signal, posterior
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
from .likelihood_quantile import (
    explored,
    likelihood_quantile,
    log_likelihood_quantile,
    token_likelihood_quantile,
)
from .pass_at_k import pass_at_k
from .reach_intervals import reach_interval, reach_lower, relative_error
from .sequential_test import SequentialTest, sequential_test
from .silent_groups import SilentGroups, signal_threshold, silent_groups
from .verdict import (
    BASE_LIMIT,
    NO_DIFFERENCE,
    ROOT_LIMIT,
    UNDETERMINED,
    Arm,
    Verdict,
    decide,
)

__all__ = [
    "BASE_LIMIT",
    "NO_DIFFERENCE",
    "ROOT_LIMIT",
    "UNDETERMINED",
    "Arm",
    "FirstSignal",
    "Interval",
    "Posterior",
    "Reach",
    "SequentialTest",
    "SilentGroups",
    "Tournament",
    "Verdict",
    "best_of_n",
    "best_of_n_regret",
    "bootstrap_interval",
    "bootstrap_means",
    "bounded_interval",
    "clopper_pearson",
    "cluster_means",
    "count_band",
    "coverage",
    "coverage_bound",
    "coverage_profile",
    "decide",
    "explored",
    "first_signal",
    "likelihood_quantile",
    "log_best_of_n",
    "log_likelihood_quantile",
    "mean_of_means",
    "paired_difference",
    "pass_at_k",
    "pass_interval",
    "poisson_binomial",
    "posterior",
    "reach_interval",
    "reach_lower",
    "relative_error",
    "sequential_test",
    "signal_threshold",
    "silent_groups",
    "token_likelihood_quantile",
    "tournament",
    "tree_coverage",
]
