"""What a trainer will see on these problems: silent groups, and the wait for the first signal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...diagnosis.first_signal import FirstSignal, Posterior, Reach, first_signal, posterior
from ...diagnosis.intervals import Interval, clopper_pearson
from ...diagnosis.reach_intervals import reach_interval, reach_lower, relative_error
from ...diagnosis.silent_groups import silent_groups
from ...randomness import keyed_rng, stream_key
from ...types import FloatArray
from .patient import FIRST, Patient

GROUPS = (4, 8, 16, 32, 64)
_MOST_STEPS = 10**9


def reach_of(patient: Patient) -> tuple[float, Interval, str]:
    """The probability that a rollout passes, its 95 % interval, and how it was found."""
    first = patient.counted()[:FIRST]
    passed = sum(a.passed for a in first)
    exact = _teacher_forced(patient)
    if exact is not None:
        return exact, Interval(exact, exact), "teacher forcing of the only right output"
    if not passed and patient.clouds and any(x is not None for x in patient.clouds):
        z = _estimates(patient)
        few = Interval(reach_lower(z), reach_interval(z).high)
        interval = reach_interval(z) if len(z) >= 8 else few
        return float(z.mean()), interval, f"{len(z)} clouds along the verifier"
    how = f"{passed} of {len(first)} rollouts"
    return passed / max(1, len(first)), clopper_pearson(passed, len(first)), how


def _teacher_forced(patient: Patient) -> float | None:
    """The exact reach where the right output is unique (variants of its last token aside)."""
    if patient.forced is None or not patient.episode.problem.unique:
        return None
    return math.exp(math.fsum(patient.forced))


def _estimates(patient: Patient) -> FloatArray:
    return np.array([0.0 if x is None else math.exp(x) for x in patient.clouds or ()])


def counts(patients: Sequence[Patient]) -> tuple[list[int], list[int]]:
    """Passes and attempts of the first rollouts, which stopping has not biased."""
    first = [p.counted()[:FIRST] for p in patients]
    return [sum(a.passed for a in row) for row in first], [len(row) for row in first]


def known_rates(patients: Sequence[Patient]) -> dict[int, float]:
    """Patient → exact pass rate, where teacher forcing tells it whatever the rollouts did."""
    exact = [_teacher_forced(p) for p in patients]
    return {i: x for i, x in enumerate(exact) if x is not None}


def pass_posterior(patients: Sequence[Patient], seed: int) -> Posterior:
    """Draws of all pass probabilities, where silent problems have a measured reach with it."""
    passed, attempts = counts(patients)
    known = dict[int, Reach]()
    for i, p in enumerate(patients):
        exact = _teacher_forced(p)
        if exact:
            known[i] = Reach(math.log(exact), 0.0)
        elif not passed[i] and p.clouds and any(x is not None for x in p.clouds):
            z = _estimates(p)
            error = relative_error(z) if len(z) > 1 else 1.0
            known[i] = Reach(math.log(z.mean()), error)
    rng = keyed_rng(stream_key(seed, "diagnosis", "posterior"))
    return posterior(passed, attempts, rng, reach=known)


def forecast(
    patients: Sequence[Patient], draws: Posterior, *, group: int, per_step: int, seed: int
) -> dict[str, Any]:
    """Shares of zero-variance groups and the first signal, at the trainer's group size and at others.

    Args:
        patients: those with at least one rollout that was judged.
        draws: their pass probabilities.
        group: G.
        per_step: groups of one step of the trainer.
        seed: of the prediction intervals.
    """
    seen = Seen(*counts(patients), known_rates(patients))
    return by_group(seen, draws, group, per_step, mean_tokens(patients), seed)


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts of all problems, and exact rates of those where they are known.

    Attributes:
        passed, attempts: (N,).
        known: problem → pass rate.
    """

    passed: Sequence[int]
    attempts: Sequence[int]
    known: Mapping[int, float] = field(default_factory=dict[int, float])


def by_group(
    seen: Seen, draws: Posterior, group: int, per_step: int, length: float, seed: int
) -> dict[str, Any]:
    """The same, from counts, draws and the length of a rollout.

    ``zero_variance_interval`` is a confidence interval of the expected share over problems like these.
    ``zero_variance_prediction`` holds the share that a run sees in a first pass over the problems (``groups`` groups),
    as long as the policy is what it was: of ``these`` problems, and of as many ``others`` like these.
    """
    found: dict[int, dict[str, Any]] = {}
    problems = len(seen.passed)
    for g in sorted({*GROUPS, group}):
        expected = silent_groups(seen.passed, seen.attempts, g, known=seen.known)
        silent = draws.silent(g)
        law = first_signal(silent, per_step)
        unseen = math.isnan(expected.total.mean)
        share = float(silent.mean()) if unseen else expected.total.mean
        right = float((draws.p**g).mean()) if unseen else expected.right.mean
        steps_cost = min(per_step, problems) * g * length
        rng = keyed_rng(stream_key(seed, "diagnosis", f"share {g}"))
        found[g] = {
            "zero_variance": share,
            "zero_variance_interval": list(expected.total.interval),
            "zero_variance_prediction": {
                "groups": problems,
                "these": list(draws.share(g, problems, rng)),
                "others": list(draws.share_of_others(g, problems, rng)),
            },
            "all_wrong": share - right,
            "all_right": right,
            "first_signal": {"steps": quantiles(law), "tokens": tokens_of(law, steps_cost)},
        }
    sizes = {str(g): row for g, row in found.items()}
    told = {"group": group, "per_step": per_step, "tokens_per_rollout": length}
    return {**told, **found[group], "by_group": sizes}


def mean_tokens(patients: Sequence[Patient]) -> float:
    """Generated tokens of a rollout, in the mean."""
    spent = [a.cost.tokens for p in patients for a in p.rollouts]
    return sum(spent) / max(1, len(spent))


def quantiles(law: FirstSignal) -> Mapping[str, int | None]:
    """Median and 95 % prediction interval of T; ``None``: beyond a billion steps."""
    names = {"median": 0.5, "low": 0.025, "high": 0.975}
    return {name: law.quantile(q, _MOST_STEPS) for name, q in names.items()}


def tokens_of(law: FirstSignal, per_step: float) -> Mapping[str, int | None]:
    """The same in generated tokens."""
    return {
        name: None if steps is None else math.ceil(steps * per_step)
        for name, steps in quantiles(law).items()
    }
