"""Figures and tables of the experiment ``settle-neural``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from ...pages.kit.formatting import quantity
from ...pages.kit.html import grid
from ...pages.kit.table import table
from ..base import Row, where
from ..plots import Axes, Line, plot
from .arms import ARMS, GROUPS, OUTCOME_ONLY, SIZE, TARGET
from .rows import (
    NATS,
    P,
    fitted,
    horizons,
    main_task,
    median_tokens,
    rate_of_waits,
    transformed,
)

_COLORS = {
    "root": "root",
    "plurality": "visited",
    "argmax": "reset",
    "self_reset": "visited",
    "verified": "reset",
    "adaback": "chosen",
    "r3": "chosen",
}
_STYLES = {arm: i for i, arm in enumerate(ARMS)}


def show(rows: Sequence[Row]) -> list[str]:
    """The section of the page."""
    others = where(rows, task="chain_of_parities")
    rows = main_task(rows)
    shown = [H for H in (8, 16, 24, 32) if len({r["arm"] for r in where(rows, H=H)}) > 1]
    return [
        grid([_cost_plot(rows), _wait_plot(where(rows, arm="root"))]),
        _cost_table(rows),
        _fit_table(rows),
        grid([_curve_plot(rows, H) for H in shown]),
        *(["<h3>chain_of_parities</h3>", _cost_table(others)] if others else []),
    ]


def _name(arm: str) -> str:
    return arm if arm in OUTCOME_ONLY else f"{arm} (more oracles)"


# ---- figures -------------------------------------------------------------------------------------


def _cost_plot(rows: Sequence[Row]) -> str:
    """Tokens to the target against H; runs that ended by their budget as open ranges."""
    every = list(range(4, 33))
    wait = [H * math.log(0.5) / math.log1p(-(P**H)) for H in every]
    lines = [
        Line(
            "root: median wait for the first reward, exact", every, wait, color="muted", exact=True
        )
    ]
    for arm, color in _COLORS.items():
        known = {H: median_tokens(rows, arm, H) for H in horizons(rows, arm)}
        reached = {H: t for H, t in known.items() if t is not None}
        if reached:
            x = list(reached)
            runs = [[r["tokens"] or r["spent"] for r in where(rows, arm=arm, H=H)] for H in x]
            lines.append(
                Line(f"{_name(arm)}: median, range of runs", x, list(reached.values()),
                     [min(r) for r in runs], [max(r) for r in runs], color, _STYLES[arm])
            )  # fmt: skip
        censored = {
            H: max(r["spent"] for r in where(rows, arm=arm, H=H))
            for H, t in known.items()
            if t is None
        }
        if censored:
            lines.append(
                Line(f"{_name(arm)}: not reached, tokens spent", list(censored),
                     list(censored.values()), color=color, style=_STYLES[arm] + 1, points=True)
            )  # fmt: skip
    axes = Axes("horizon H", f"generated tokens to {TARGET} from the root", log_y=True)
    return plot(
        "neural-cost", f"Tokens until a rollout from the root is right with {TARGET}", axes, lines
    )


def _wait_plot(rows: Sequence[Row]) -> str:
    """Share of root runs still without a reward after x mean waits; censored runs left out."""
    seen = [r for r in rows if r["wait"] is not None]
    x = np.sort(-np.log1p(-transformed(seen))) if seen else np.zeros(0)
    left = 1 - np.arange(len(x)) / max(1, len(x))
    every = np.linspace(0, max(4.0, float(x.max(initial=0.0))), 50)
    lines = [
        Line("geometric with parameter p^H, exact", every.tolist(), np.exp(-every).tolist(),
             color="muted", exact=True),
        Line("root-start runs of all horizons", x.tolist(), left.tolist(), color="root", points=True),
    ]  # fmt: skip
    axes = Axes("rollouts / mean wait", "share without a reward yet", log_y=True)
    return plot(
        "neural-wait", "How long root-start training waits for its first reward", axes, lines
    )


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """Reach from the root against tokens, run by run."""
    lines: list[Line] = []
    for arm, color in _COLORS.items():
        for i, row in enumerate(where(rows, arm=arm, H=H)):
            points = np.array(row["curve"] + [[row["spent"], row["rollouts"], row["curve"][-1][2]]])
            pick = np.unique(np.linspace(0, len(points) - 1, 40).astype(int))
            label = _name(arm) if not i else ""
            x = np.maximum(points[pick, 0], 100.0)
            lines.append(
                Line(label, x.tolist(), points[pick, 2].tolist(), color=color, style=_STYLES[arm])
            )
    axes = Axes("generated tokens", "probability of a right output", log_x=True, horizontal=TARGET,
                y_range=(-0.03, 1.03))  # fmt: skip
    return plot(f"neural-curve-{H}", f"From the root, H = {H}; runs stop at {TARGET}", axes, lines)


# ---- tables --------------------------------------------------------------------------------------


def _cost_table(rows: Sequence[Row]) -> str:
    body: list[list[str]] = []
    for arm in ARMS:
        for H in horizons(rows, arm):
            mine = where(rows, arm=arm, H=H)
            reached = [r["tokens"] for r in mine if r["tokens"] is not None]
            middle = median_tokens(rows, arm, H)
            waits = [r["wait"] for r in mine if r["wait"] is not None]
            built = sum(r["building"] for r in mine) / sum(r["spent"] for r in mine)
            root = median_tokens(rows, "root", H)
            ratio = f"{root / middle:.1f}" if root and middle and arm != "root" else "·"
            body.append(
                [_name(arm), str(H), f"{len(reached)} of {len(mine)}",
                 "not reached" if middle is None else quantity(middle),
                 quantity(max(r["spent"] for r in mine)), f"{built:.0%}",
                 quantity(float(np.median(waits))) if waits else "none came",
                 quantity(P**-H), ratio]
            )  # fmt: skip
    head = ["arm", "H", f"runs at {TARGET}", "tokens: median", "tokens spent: most",
            "of these on starts", "rollouts to the first reward: median", "mean of the root, exact",
            "root's tokens / these"]  # fmt: skip
    note = (
        f"<p>Steps of {GROUPS} groups of {SIZE} rollouts. Strategies: "
        + ", ".join(f"{arm} = <code>{escape(text)}</code>" for arm, text in ARMS.items())
        + ".</p>"
    )
    return table(head, body, text=1) + note


def _fit_table(rows: Sequence[Row]) -> str:
    """Growth of tokens to the target, and the rate of the root's first rewards."""
    body: list[list[str]] = []
    for arm in ARMS:
        found = fitted(rows, arm)
        if found is None:
            continue
        b, c = found.exponential, found.polynomial
        body.append(
            [_name(arm), ", ".join(map(str, found.horizons)), str(found.runs), f"{b.slope:.3f}",
             f"{c.slope:.2f}", f"{b.residual:.2f}, {c.residual:.2f}",
             f"{b.aic:.1f}, {c.aic:.1f}".replace("-", "−"), found.preferred]
        )  # fmt: skip
    root = where(rows, arm="root")
    if not body or len({r["H"] for r in root}) < 4:
        return "<p>Growth laws are fitted from four horizons on.</p>"
    b, low, high = rate_of_waits(root)
    head = ["arm", "H", "runs", "b in a + bH", "c in a + c log H", "residual of both, nats",
            "AIC of both", "preferred"]  # fmt: skip
    note = (
        f"<p>Log of the tokens to {TARGET}, natural; horizons at which every run got there. What follows the first "
        "reward takes about the same number of steps at every horizon, so the root's tokens are a polynomial part and "
        "a wait. Only the wait is exponential: its rate, by maximum likelihood over all root runs, is "
        f"{b:.3f} nats per token (95 % interval {low:.3f}–{high:.3f}); log(1/p) = {NATS:.3f}.</p>"
    )
    return table(head, body, text=2) + note
