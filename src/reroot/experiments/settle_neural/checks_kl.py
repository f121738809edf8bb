"""Checks of the runs with a KL term."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from .. import waits
from ..base import Check, Row, where
from ..settle_rows import records
from .arms import OUTCOME_ONLY, ROOTS
from .rows import NATS, P, median_tokens, rate_of_waits, transformed

FAR, TIMES = 20, 3
"""At this horizon the root needs so many times the tokens of the best outcome-only arm: its mean wait alone
is 550,000 tokens. The bound was set before the runs; by luck alone it fails with probability 0.02."""

BEYOND = 10
"""How many times its tokens the root spends at H = 32 without a signal."""

_WITHIN = "with a KL term: "


def check_regularized(rows: Sequence[Row]) -> list[Check]:
    """What the runs with a KL term bear out.

    Args:
        rows: at least one, all of running parity.
    """
    root = where(rows, arm="root")
    return [
        _reach(rows),
        _equal(rows),
        _starts(rows),
        _bounded(rows),
        *_waits(root),
        *_succeed(rows),
        *_times(rows),
        *_beyond(rows),
    ]


def _reach(rows: Sequence[Row]) -> Check:
    worst = max(abs(r["base"] / P ** r["H"] - 1) for r in rows)
    return Check(
        f"{_WITHIN}the untrained policy is worth p^H, within 10 %",
        worst <= 0.1,
        f"largest deviation {worst:.1%} over {len(rows)} runs",
    )


def _equal(rows: Sequence[Row]) -> Check:
    known = records(rows)
    shared = {at: arms for at, arms in known.items() if len(arms) > 1}
    unequal = [f"H = {H}, seed {i}" for (H, i), arms in shared.items() if len({*arms.values()}) > 1]
    models = {r["equal"]["model"] for r in rows}
    return Check(
        f"{_WITHIN}arms recorded the same weights, problems, held-out prompts, update, KL, budget and seed",
        bool(shared) and not unequal and len(models) == 1,
        f"{len(shared)} pairs of a horizon and a seed were run by several arms; {len(models)} "
        f"digest{'s' * (len(models) != 1)} of weights"
        + (f"; unequal: {'; '.join(unequal[:3])}" if unequal else ""),
    )


def _starts(rows: Sequence[Row]) -> Check:
    most = max(r["starts"][1] for r in rows)
    few = min(r["roots"] for r in rows)
    root = {tuple(r["starts"]) for r in where(rows, arm="root")}
    return Check(
        f"{_WITHIN}in every step the KL had root rollouts to be estimated on; those of the root arm are all it has",
        few >= ROOTS and root <= {(0, 0)},
        f"at least {few} groups of each step began at the empty prefix; the longest start of the "
        f"others had {most} tokens",
    )


def _bounded(rows: Sequence[Row]) -> Check:
    """J*_β is a maximum: no measured policy is above it by more than its KL's error allows."""
    above = [
        (value - row["best"]) - 6 * row["beta"] * error
        for row in rows
        for _, _, value, _, _, error in row["curve"]
    ]
    return Check(
        f"{_WITHIN}no policy is worth more than the exact J*_β (6 standard errors of its KL)",
        max(above) <= 0,
        f"{len(above)} policies; the nearest stays {-max(above):.3f} below",
    )


def _waits(root: Sequence[Row]) -> Iterator[Check]:
    if not root:
        return
    found = waits.check(transformed(root))
    yield replace(found, name=_WITHIN + found.name)
    if len({r["H"] for r in root}) < 4:
        return
    b, low, high = rate_of_waits(root)
    _, least, most = rate_of_waits(root, 1 - waits.ERROR)
    yield Check(
        f"{_WITHIN}the rate at which the root arm's first rewards come falls by log(1/p) nats per token",
        least <= NATS <= most,
        f"maximum likelihood b = {b:.3f} ({low:.3f} to {high:.3f}, 95 %; {least:.3f} to {most:.3f}, "
        f"{1 - waits.ERROR:.1%}), log(1/p) = {NATS:.3f}; {len(root)} runs, censored ones too",
    )


def _succeed(rows: Sequence[Row]) -> Iterator[Check]:
    """The arms that start at prefixes."""
    others = [r for r in rows if r["arm"] != "root"]
    if not others:
        return
    ended = [f"{r['arm']} at H = {r['H']}" for r in others if r["tokens"] is None]
    yield Check(
        f"{_WITHIN}runs that start at prefixes reach J*/2 within their budget (1 in 10 may not)",
        10 * len(ended) <= len(others),
        f"{len(others) - len(ended)} of {len(others)} did" + "".join(f"; not {e}" for e in ended),
    )


def best_outcome_only(rows: Sequence[Row], H: int) -> tuple[str, float] | None:
    """The arm with the outcome reward alone, not the root, of fewest median tokens at H, and these."""
    known = {a: t for a in OUTCOME_ONLY if a != "root" and (t := median_tokens(rows, a, H))}
    return min(known.items(), key=lambda item: item[1]) if known else None


def _times(rows: Sequence[Row]) -> Iterator[Check]:
    root, best = where(rows, arm="root", H=FAR), best_outcome_only(rows, FAR)
    if not root or best is None:
        return
    # a run that its budget ended needs more than it spent
    needed = [r["tokens"] or r["spent"] for r in root]
    (arm, tokens), middle = best, float(np.median(needed))
    ended = sum(r["tokens"] is None for r in root)
    yield Check(
        f"{_WITHIN}at H = {FAR} the root needs at least {TIMES} times the tokens of an arm with the outcome "
        "reward alone",
        middle >= TIMES * tokens,
        f"{arm} {tokens:,.0f}, root {middle:,.0f} tokens: {middle / tokens:.1f} times ({len(root)} root "
        f"runs, {ended} ended by their budget)",
    )


def _beyond(rows: Sequence[Row]) -> Iterator[Check]:
    """At the longest horizon of all."""
    H = max(r["H"] for r in rows)
    root, best = where(rows, arm="root", H=H), best_outcome_only(rows, H)
    if H < 32 or not root or best is None:
        return
    arm, tokens = best
    seen = [r["wait"] for r in root if r["wait"] is not None]
    least = min(r["spent"] for r in root)
    yield Check(
        f"{_WITHIN}at H = {H} an outcome-reward arm reaches J*/2 where the root sees no signal in {BEYOND} "
        "times its tokens",
        not seen and least >= BEYOND * tokens,
        f"{arm} {tokens:,.0f} tokens; root none in {least:,} ({least / tokens:.1f} times, {len(root)} "
        f"runs); its exact median wait is {H * waits.median_wait(P**H):.2g} tokens"
        if not seen
        else f"the root had a reward after {min(seen):,} rollouts",
    )
