"""The training comparison on neural policies: same trainer, same update, only the starts differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import waits
from ..base import Check, Experiment, Row, Setting, where
from ..waits import horizons
from .arms import ARMS, GROUPS, OUTCOME_ONLY, RATE, SIZE, TARGET, Training
from .checks_kl import check_regularized
from .page import show
from .rows import (
    NATS,
    P,
    main_task,
    median_tokens,
    plain,
    rate_of_waits,
    regularized,
    transformed,
)
from .settings import BALANCE, QUICK, SETTINGS


def _measure(setting: Setting) -> list[Row]:
    from .base_policy import base_policy  # needs torch
    from .train import train_arm

    names = {"horizon": "H", "seed": "path"}
    told = {f: setting.get(names.get(f, f), 0.0) for f in Training.__dataclass_fields__}
    curve = train_arm(base_policy(setting["task"], p=P), Training(**told))
    found = {
        "oracles": "outcome" if setting["arm"] in OUTCOME_ONLY else "outcome and more",
        "strategy": ARMS[setting["arm"]],
        "base": curve.points[0][2],
        "tokens": curve.reached,
        "spent": curve.spent,
        "rollouts": curve.rollouts,
        "wait": curve.first,
        "building": curve.building,
        "curve": curve.points,
        "groups": GROUPS,
        "size": SIZE,
        "rate": RATE,
        "target": TARGET,
    }
    if curve.best is not None:
        more = {"starts": curve.starts, "roots": curve.roots, "equal": curve.equal}
        found |= {"best": curve.best, "target": curve.best / 2, **more}
    return [found]


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    with_kl = main_task(regularized(rows))
    return [*_check_plain(plain(rows)), *(check_regularized(with_kl) if with_kl else [])]


def _check_plain(rows: Sequence[Row]) -> list[Check]:
    """Without a KL term."""
    if not rows:
        return []
    reach = _reach(rows)
    rows = main_task(rows)
    root = where(rows, arm="root")
    return [reach, waits.check(transformed(root)), *_rate(root), *_tenth(rows), *_beyond(rows)]


def _reach(rows: Sequence[Row]) -> Check:
    worst = max(abs(r["base"] / P ** r["H"] - 1) for r in rows)
    return Check(
        "the untrained policy reaches the right answer with probability p^H, within 10 %",
        worst <= 0.1,
        f"largest deviation {worst:.1%} over H = {', '.join(map(str, sorted({r['H'] for r in rows})))}",
    )


def _rate(root: Sequence[Row]) -> Iterator[Check]:
    if len({r["H"] for r in root}) < 4:
        return
    b, low, high = rate_of_waits(root)
    yield Check(
        "the rate at which the root arm's first rewards come falls by log(1/p) nats per token",
        low <= NATS <= high,
        f"maximum likelihood b = {b:.3f} ({low:.3f} to {high:.3f}, 95 %), log(1/p) = {NATS:.3f}; "
        f"{len(root)} runs, censored ones too",
    )


def _tenth(rows: Sequence[Row]) -> Iterator[Check]:
    """At the longest horizon at which the root arm gets there."""
    reached = [H for H in horizons(rows, "root") if median_tokens(rows, "root", H)]
    arms = [a for a in ARMS if a != "root"]
    both = [H for H in reached if any(median_tokens(rows, a, H) for a in arms)]
    if not both or max(both) < 16:
        return
    H = max(both)
    root = median_tokens(rows, "root", H)
    costs = {a: t for a in arms if (t := median_tokens(rows, a, H)) is not None}
    outcome = {a: t for a, t in costs.items() if a in OUTCOME_ONLY}
    assert root is not None
    for name, known in (("an arm with the outcome reward alone", outcome), ("the best arm", costs)):
        if known:
            arm = min(known, key=lambda a: known[a])
            few = (
                f"{name} needs at most 1/10 of the root's tokens at the longest horizon where the "
            )
            said = f"H = {H}: {arm} {known[arm]:,.0f}, root {root:,.0f} tokens: {root / known[arm]:.1f} times"
            yield Check(f"{few}root succeeds", 10 * known[arm] <= root, said)


def _beyond(rows: Sequence[Row]) -> Iterator[Check]:
    """At the longest horizon of all."""
    H = max(r["H"] for r in rows)
    root = where(rows, arm="root", H=H)
    known = {a: t for a in OUTCOME_ONLY if a != "root" and (t := median_tokens(rows, a, H))}
    if H < 32 or not root or not known:
        return
    arm = min(known, key=lambda a: known[a])
    seen = [r["wait"] for r in root if r["wait"] is not None]
    least = min(r["spent"] for r in root)
    yield Check(
        f"at H = {H} an outcome-reward arm succeeds where the root sees no signal in 20 times its "
        "tokens",
        not seen and least >= 20 * known[arm],
        f"{arm} {known[arm]:,.0f} tokens; root none in {least:,} ({least / known[arm]:.1f} times)"
        if not seen
        else f"the root had a reward after {min(seen):,} rollouts",
    )


EXPERIMENT = Experiment(
    id="settle-neural",
    claim="the interface alone makes the gap for neural policies too: root-start training waits e^(H log 1/p)",
    statement=(
        "A small transformer is trained from scratch on noisy traces of running parity, in which each step is right "
        "with probability p = 0.6; its on-policy reach of the right answer is then p<sup>H</sup>. It is post-trained "
        f"by TRL's GRPOTrainer with outcome rewards ({GROUPS} groups of {SIZE} rollouts, leave-one-out advantages, no "
        "KL), until the mean probability of a right answer <i>from the root</i> is 0.9, read off exactly. Update, "
        "hyper-parameters, seeds and batch are the same in all arms; arms differ in where groups start.",
        "root, plurality, argmax and self_reset have the outcome reward and nothing else: the interface is the sole "
        "difference. plurality starts at a prefix of random length of the policy's own plurality walk, argmax of its "
        "greedy walk, self_reset of a rollout. verified has a process verifier as well; adaback and r3 have "
        "demonstrations. Every generated token counts, those that build prefixes too. Runs that end by their budget "
        "are shown as censored.",
        f"A second set of runs has a KL term: β = R/({2 * BALANCE}H log(1/p)), estimated on root rollouts of the "
        "present policy, in every arm on groups from the empty prefix. They end where J<sub>β</sub> <i>from the "
        "root</i> is half of the exact J*<sub>β</sub> of the untrained policy.",
    ),
    settings=SETTINGS,
    quick=QUICK,
    measure=_measure,
    check=_check,
    show=show,
    alone=True,
)
