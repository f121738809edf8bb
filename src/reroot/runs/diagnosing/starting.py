"""Remedies that start groups elsewhere than at the root, and what their first signal would cost.

Demonstrations: what each place of one is worth comes from teacher forcing or from continuations, and the trainer is
simulated on it (``diagnosis.starts``). Walks of the model's own: groups were started on them as a trainer would begin, and
the share with signal tells how long it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...access.attempt import Attempt
from ...diagnosis.first_signal import Posterior
from ...diagnosis.starts import PLACES, first_signal_tokens, rates_along
from ...learners.measuring.walked import WALKS
from ...randomness import keyed_rng, stream_key
from ...types import FloatArray
from .examination import Examination
from .patient import Patient

_LEVELS = 200
"""Draws of the predictive law of starts within demonstrations."""
_MOST_STEPS = 2000
"""Steps of a simulated trainer; later signals are said to lie beyond."""
_NEEDS = "chosen/sample+reward+demonstration"
_SCHEDULES: dict[str, Literal["r3", "adaback"]] = {
    "demonstration prefixes (R3)": "r3",
    "AdaBack": "adaback",
}
_NAMES = {
    "verified": "verifier-guided prefixes",
    "plurality": "own plurality prefixes",
    "argmax": "own argmax prefixes",
}


def starting(
    found: Examination, draws: Posterior, *, per_step: int, seed: int
) -> list[dict[str, Any]]:
    """Name, contract, predicted tokens and evidence of each such remedy, as JSON values.

    Args:
        found: what was examined; every patient has judged rollouts.
        draws: pass probabilities from the root.
        per_step: groups of one step of the trainer.
        seed: of the forecasts.
    """
    return [
        *_demonstrations(found, draws, per_step, seed),
        *(_walked(found, walk, per_step, seed) for walk in _NAMES),
    ]


def unknown(name: str, needs: str, evidence: str = "unknown: it was not tried") -> dict[str, Any]:
    """A remedy without a prediction, and why."""
    return {"name": name, "needs": needs, "tokens": None, "evidence": evidence}


# ---- within demonstrations ------------------------------------------------------------------------


def _demonstrations(
    found: Examination, draws: Posterior, per_step: int, seed: int
) -> list[dict[str, Any]]:
    patients = found.patients
    without = sum(not p.episode.demonstration for p in patients)
    tried = sum(n for p in patients for _, n in p.cuts.values())
    exact = [p for p in patients if p.episode.problem.unique and p.forced is not None]
    if without:
        said = f"unknown: {without} of {len(patients)} problems have no demonstration"
        return [unknown(name, _NEEDS, said) for name in _SCHEDULES]
    if not tried and not exact:
        said = "unknown: no start from a demonstration was tried"
        return [unknown(name, _NEEDS, said) for name in _SCHEDULES]
    rng = keyed_rng(stream_key(seed, "diagnosis", "starts"))
    curves = [_curve(p, draws.p[:_LEVELS, i], rng) for i, p in enumerate(patients)]
    rates = np.stack([rate for rate, _ in curves], axis=1)
    lengths = np.stack([length for _, length in curves])
    kinds = [f"{tried} attempts from places in demonstrations"] * bool(tried)
    kinds += [f"teacher forcing of {len(exact)} demonstrations"] * bool(exact)
    rest = len(patients) - len(exact) - sum(bool(p.cuts) for p in patients)
    kinds += [f"rollouts alone of {rest} problems, rates log-linear along them"] * bool(rest)
    return [
        {
            "name": name,
            "needs": _NEEDS,
            "tokens": token_quantiles(
                first_signal_tokens(
                    schedule,
                    rates,
                    lengths,
                    group=found.group,
                    per_step=per_step,
                    rng=rng,
                    most_steps=_MOST_STEPS,
                )
            ),
            "evidence": f"simulated on {', '.join(kinds)}",
        }
        for name, schedule in _SCHEDULES.items()
    ]


def _curve(
    patient: Patient, root: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """((draws, places) pass rates, (places,) tokens of a rollout) along the demonstration."""
    shown = patient.episode.demonstration
    assert shown is not None
    unique = patient.episode.problem.unique
    rates = rates_along(patient.cuts, len(shown), root, rng, forced=patient.forced, unique=unique)
    spent = sum(a.cost.tokens for a in patient.rollouts) / max(1, len(patient.rollouts))
    at = [0, *sorted(patient.cuts), len(shown)]
    tokens = [spent, *(patient.cut_tokens[k] for k in sorted(patient.cuts)), 0.0]
    places = np.arange(PLACES + 1) * len(shown) // PLACES
    return rates, np.interp(places, at, tokens)


# ---- walks of the model's own ---------------------------------------------------------------------


def _walked(found: Examination, walk: str, per_step: int, seed: int) -> dict[str, Any]:
    """From groups that started on such walks: how many had signal, and what each cost."""
    name, needs = _NAMES[walk], WALKS[walk]
    groups = [a for p in found.patients for a in p.walked.get(walk, ())]
    if not groups:
        return unknown(name, needs)
    signals = sum(map(_has_signal, groups))
    evidence = f"{signals} of {len(groups)} groups that were started so had signal"
    if walk == "verified":
        walks = [a for p in found.patients for a in p.walks]
        right = sum(a.passed for a in walks)
        evidence += f"; {right} of {len(walks)} whole walks reached a right output" if walks else ""
    if not signals:
        return unknown(name, needs, f"unknown: {evidence}")
    rng = keyed_rng(stream_key(seed, "diagnosis", f"{walk} starts"))
    costs = [a.cost.tokens for a in groups]
    b = min(per_step, len(found.patients))
    tokens = tokens_of_groups(signals, costs, b, rng)
    return {"name": name, "needs": needs, "tokens": token_quantiles(tokens), "evidence": evidence}


def _has_signal(attempt: Attempt) -> bool:
    """Whether a group had both passes and fails; one that its budget ended had none."""
    return len(set(attempt.metadata.get("rewards", ()))) > 1


def tokens_of_groups(
    signals: int, costs: Sequence[float], per_step: int, rng: np.random.Generator
) -> FloatArray:
    """(draws,) predicted tokens up to the first step with signal, from the groups of a pilot.

    The share σ with signal has its Jeffreys posterior, the wait in steps is geometric with 1 − (1 − σ)^b, and the
    cost of that many groups is normal about the pilot's mean, whose own error counts.

    Args:
        signals: groups of the pilot that had signal.
        costs: tokens of each group of the pilot.
        per_step: b, groups of a step.
        rng: a keyed generator.
    """
    n, draws = len(costs), 4000
    share = rng.beta(signals + 0.5, n - signals + 0.5, size=draws)
    steps = rng.geometric(-np.expm1(per_step * np.log1p(-share))).astype(np.float64)
    groups = steps * per_step
    mean, sd = float(np.mean(costs)), float(np.std(costs))
    each = mean + sd * np.sqrt(1.0 / groups + 1.0 / n) * rng.standard_normal(draws)
    return groups * np.maximum(each, min(costs))


def token_quantiles(tokens: FloatArray) -> dict[str, int | None]:
    """Median and 95 % prediction interval; ``None`` where it lies beyond what was simulated."""
    levels = {"median": 0.5, "low": 0.025, "high": 0.975}
    found = {k: float(np.quantile(tokens, q, method="inverted_cdf")) for k, q in levels.items()}
    return {k: None if np.isinf(x) else int(np.ceil(x)) for k, x in found.items()}
