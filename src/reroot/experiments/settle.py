"""KL-regularized training from the root and from prefixes, with all else equal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scipy import stats

from .. import limits
from ..families.hidden_path import HiddenPath
from ..generators.softmax_policy import SoftmaxPolicy
from ..runs.run import problems_digest, run
from ..training.strategies import PluralityFront, Root, Strategy
from ..training.tabular import Update, tabular_training
from ..types import Budget
from . import waits
from .base import Check, Experiment, Row, Setting, where
from .settle_page import show
from .settle_rows import (
    LEAST,
    NATS,
    K,
    P,
    fitted,
    per_rollout,
    records,
    rewarded,
    rule,
    transformed,
    values,
)


class Arm(NamedTuple):
    """Where groups start, what an update is made of, and the law of those trajectories in words."""

    strategy: Strategy
    update: Update
    law: str


_FRONT = PluralityFront(draws=32, window=4)
ARMS = {
    "root": Arm(Root(), "rollouts", "π from the empty prefix"),
    "prefix": Arm(_FRONT, "rollouts", "π from random prefixes of its own plurality walk"),
    "explore": Arm(_FRONT, "weighted", "π from the empty prefix: found outputs weighted by π(y)"),
    "replay": Arm(_FRONT, "replay", "none: found outputs with weight 1, off-policy"),
}
_MOST_TOKENS = 6_000_000


def budget(H: int) -> int:
    """Tokens, the same in all arms: 20 times the mean wait of the root arm, at most 6 million."""
    return int(min(20 * per_rollout(H) * P**-H, _MOST_TOKENS))


def _settings(arm: str, horizons: Sequence[int], runs: int) -> tuple[Setting, ...]:
    return tuple(
        {"arm": arm, "H": H, "offset": offset, "runs": 5}
        for H in horizons
        for offset in range(0, runs, 5)
    )


_SETTINGS: tuple[Setting, ...] = (
    *_settings("root", (4, 6, 8, 10, 12, 14), 20),
    *_settings("prefix", (4, 6, 8, 10, 12, 14, 16, 24, 32, 48, 64), 20),
    *_settings("explore", (4, 6, 8, 10, 12), 10),
    *_settings("replay", (4, 8, 16, 32), 10),
)
_QUICK = tuple(
    i
    for i, s in enumerate(_SETTINGS)
    if s["offset"] == 0 and s["H"] in {"root": (4, 6, 8), "prefix": (4, 8, 16)}.get(s["arm"], (8,))
)


# ---- measuring -----------------------------------------------------------------------------------


def _measure(s: Setting) -> list[Row]:
    return [_trained(s["arm"], s["H"], i) for i in range(s["offset"], s["offset"] + s["runs"])]


def _trained(arm: str, H: int, path: int) -> Row:
    """One training run through a session, under exactly the contract that its arm requires.

    The secret path and every random number depend on ``path`` and H, not on the arm.
    """
    base = HiddenPath(K, H, P, seed=path)
    policy, beta = SoftmaxPolicy(base), rule(H).beta
    best = limits.optimal_value(K, H, P, beta)
    learner = tabular_training(
        policy=policy,
        rule=rule(H),
        objective=lambda: policy.value(base.path, beta),
        target=best / 2,
        strategy=ARMS[arm].strategy,
        update=ARMS[arm].update,
    )
    problem, grants = base.problem(), learner.requires
    limit = Budget(tokens=budget(H))
    (attempt,) = run(learner, [problem], policy, grants=grants, budget=limit, seed=path).attempts
    found = attempt.metadata
    reached = found["reached"]
    equal = {"seed": attempt.seed, "problem": attempt.problem, "reward": problems_digest([problem])}
    return {
        "path": path,
        "tokens": reached and reached[0],
        "rollouts": reached and reached[1],
        "wait": found["first"],
        "curve": found["curve"],
        "best": best,
        "starts": found["starts"],
        "law": ARMS[arm].law,
        "contract": attempt.contract,
        "equal": found["equal"] | equal,
    }


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    return [
        _ended(rows),
        waits.check(transformed(where(rows, arm="root"))),
        _limited(where(rows, arm="root")),
        _equal(rows),
        _starts(rows),
        *_grows(rows),
        *_slope(rows),
    ]


def _ended(rows: Sequence[Row]) -> Check:
    censored = [f"{r['arm']} at H = {r['H']}" for r in rows if r["tokens"] is None]
    return Check(
        "runs reach J*/2 within their budget (at most 1 in 50 does not)",
        50 * len(censored) <= len(rows),
        f"{len(rows) - len(censored)} of {len(rows)} did" + "".join(f"; not {c}" for c in censored),
    )


def _limited(rows: Sequence[Row]) -> Check:
    """Mean curves against ``limits.first_success_value``.

    A run is worth p^H before its first success and at most J* after it, so that
    n·(mean − p^H)/(J* − p^H) is at most the number of runs that had a success: a binomial count.
    """
    worst, excess, tests = 1.0, -math.inf, 0
    for H in sorted({r["H"] for r in rows}):
        mine, grid = where(rows, H=H), rewarded(H)
        best, own = mine[0]["best"], P**H
        gains = (values(mine, grid, 1).mean(axis=0) - own) / (best - own)
        for N, gain in zip(grid, gains.tolist(), strict=True):
            limit = limits.first_success_value(N, K, H, P, rule(H).beta)
            chance = (limit - own) / (best - own)
            count = math.ceil(max(0.0, gain) * len(mine) - 1e-9)
            worst = min(worst, float(stats.binom.sf(count - 1, len(mine), chance)))
            excess, tests = max(excess, gain - chance), tests + 1
    allowed = waits.ERROR / max(1, tests)
    return Check(
        "no mean root-start curve exceeds the exact limit at any budget beyond its interval",
        worst > allowed,
        f"largest excess {excess:+.3f} J* at {tests} budgets; smallest p-value {worst:.2g}, "
        f"allowed {allowed:.1g} (error rate {waits.ERROR:g} in all)",
    )


def _equal(rows: Sequence[Row]) -> Check:
    known = records(rows)
    shared = {at: arms for at, arms in known.items() if len(arms) > 1}
    unequal = [f"H = {H}, seed {i}" for (H, i), arms in shared.items() if len({*arms.values()}) > 1]
    codes = {json.dumps([r["equal"]["update"], r["equal"]["kl"]]) for r in rows}
    return Check(
        "arms recorded the same configuration, seed, prompt, reward, budget, update and KL estimator",
        bool(shared) and not unequal and len(codes) == 1,
        f"{len(shared)} pairs of a horizon and a seed were run by several arms"
        + (f"; unequal: {'; '.join(unequal[:3])}" if unequal else ""),
    )


def _starts(rows: Sequence[Row]) -> Check:
    kl = {tuple(r["starts"]["kl"]) for r in rows}
    root = {tuple(r["starts"]["reward"]) for r in rows if r["arm"] == "root"}
    most = max((r["starts"]["reward"][1] for r in rows if r["arm"] != "root"), default=0)
    return Check(
        "KL rollouts started at the empty prefix in every run; reward rollouts of the root arm too",
        kl == {(0, 0)} and root <= {(0, 0)},
        f"the longest start of a reward rollout in the other arms had {most} tokens",
    )


def _grows(rows: Sequence[Row]) -> Iterator[Check]:
    for arm, law in (("root", "exponential"), ("prefix", "polynomial")):
        if (found := fitted(rows, arm, "tokens")) is not None:
            yield Check(
                f"N½ of the {arm} arm, in tokens: the data prefer {law} growth in H",
                found.preferred == law,
                f"ΔAIC = ΔBIC = {abs(found.evidence):.1f} for {found.preferred} growth, {found.runs} runs",
            )


def _slope(rows: Sequence[Row]) -> Iterator[Check]:
    first = fitted(rows, "root", "wait", level=1 - waits.ERROR)
    half = fitted(rows, "root", "rollouts", LEAST)
    if first is None or half is None:
        return
    line, other = first.exponential, half.exponential
    yield Check(
        "the root arm's wait for its first reward grows by log(1/p) nats per token",
        line.low <= NATS <= line.high,
        f"b = {line.slope:.3f} ({line.low:.3f} to {line.high:.3f} at 99.9 %); log(1/p) = "
        f"{NATS:.3f}; of N½ in rollouts from H = {LEAST} on {other.slope:.3f} "
        f"({other.low:.3f} to {other.high:.3f} at 95 %)",
    )


EXPERIMENT = Experiment(
    id="settle",
    claim="trained alike, root-start costs grow exponentially with the horizon, prefix-start polynomially",
    statement=(
        "A tabular softmax policy π<sub>θ</sub> = P·e<sup>θ</sup>, θ = 0 at the beginning, follows a policy gradient of "
        "J<sub>β</sub> on the hidden path with K = 4, p = 1/2, β = R/(2H log(1/p)), until J<sub>β</sub> = J*/2. One "
        "update serves all arms: leave-one-out advantages of 4 groups of 16 rollouts, and the KL estimated on 16 "
        "rollouts of the present policy from the empty prefix. Arms differ in where the groups may start: at the empty "
        "prefix (root), or at prefixes of a plurality walk of the policy, near a front that moves up where rollouts "
        "succeed (prefix). Every generated token counts, those of walks and of the KL too.",
        "Before its first reward the root arm learns nothing: the step is exactly zero. Its wait is geometric with "
        "parameter p<sup>H</sup>, and J* − (1 − p<sup>H</sup>)<sup>N</sup>·(J* − p<sup>H</sup>) is an exact limit of its mean "
        "curve.",
        "Two ablations separate finding from learning. In explore resets find outputs, but the update weighs them with "
        "their on-policy probability π(y), as root-start rollouts would in the mean. In replay found outputs count in "
        "full, off-policy.",
    ),
    settings=_SETTINGS,
    quick=_QUICK,
    measure=_measure,
    check=_check,
    show=show,
)
