"""Figures and tables of the experiment ``settle-neural``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from ...pages.kit.formatting import quantity
from ...pages.kit.html import grid
from ...pages.kit.table import table_of
from .. import waits
from ..base import Row, total, where
from ..plots import Axes, Line, plot
from ..waits import horizons, median_wait
from .arms import ARMS, GROUPS, OUTCOME_ONLY, SIZE, TARGET
from .rows import NATS, P, fitted, main_task, median_tokens, rate_of_waits, transformed

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
        grid([_cost_plot(rows), _wait_plot(rows)]),
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
    label = "root: median wait for the first reward, exact"
    lines = [Line.law(label, range(4, 33), lambda H: H * median_wait(P**H))]
    for arm, color in _COLORS.items():
        runs = {H: where(rows, arm=arm, H=H) for H in horizons(rows, arm)}
        known = {H: median_tokens(rows, arm, H) for H in runs}
        reached = {H: t for H, t in known.items() if t is not None}
        if reached:
            spent = [[r["tokens"] or r["spent"] for r in runs[H]] for H in reached]
            ends = [min(r) for r in spent], [max(r) for r in spent]
            label, points = (
                f"{_name(arm)}: median, range of runs",
                (list(reached), [*reached.values()]),
            )
            lines.append(Line(label, *points, *ends, color, _STYLES[arm]))
        censored = {H: max(r["spent"] for r in runs[H]) for H, t in known.items() if t is None}
        if censored:
            label, x = f"{_name(arm)}: not reached, tokens spent", list(censored)
            look = {"color": color, "style": _STYLES[arm] + 1, "points": True}
            lines.append(Line(label, x, [*censored.values()], **look))
    axes = Axes("horizon H", f"generated tokens to {TARGET} from the root", log_y=True)
    return plot(
        "neural-cost", f"Tokens until a rollout from the root is right with {TARGET}", axes, lines
    )


def _wait_plot(rows: Sequence[Row]) -> str:
    """Censored runs are left out."""
    seen = [r for r in where(rows, arm="root") if r["wait"] is not None]
    runs = "root-start runs of all horizons"
    return waits.figure("neural-wait", runs, "rollouts", transformed(seen))


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """Reach from the root against tokens, run by run."""
    lines: list[Line] = []
    for arm, color in _COLORS.items():
        for i, row in enumerate(where(rows, arm=arm, H=H)):
            points = np.array(row["curve"] + [[row["spent"], row["rollouts"], row["curve"][-1][2]]])
            pick = np.unique(np.linspace(0, len(points) - 1, 40).astype(int))
            label = _name(arm) if not i else ""
            x, y = np.maximum(points[pick, 0], 100.0).tolist(), points[pick, 2].tolist()
            lines.append(Line(label, x, y, color=color, style=_STYLES[arm]))
    what = "generated tokens", "probability of a right output"
    axes = Axes(*what, log_x=True, horizontal=TARGET, y_range=(-0.03, 1.03))
    return plot(f"neural-curve-{H}", f"From the root, H = {H}; runs stop at {TARGET}", axes, lines)


# ---- tables --------------------------------------------------------------------------------------


def _cost_table(rows: Sequence[Row]) -> str:
    shown: list[Row] = []
    for arm in ARMS:
        for H in horizons(rows, arm):
            mine = where(rows, arm=arm, H=H)
            middle, root = median_tokens(rows, arm, H), median_tokens(rows, "root", H)
            seen = [r["wait"] for r in mine if r["wait"] is not None]
            shown.append(
                {
                    "arm": _name(arm),
                    "H": H,
                    "reached": f"{sum(r['tokens'] is not None for r in mine)} of {len(mine)}",
                    "median": "not reached" if middle is None else quantity(middle),
                    "spent": max(r["spent"] for r in mine),
                    "built": total(mine, "building") / total(mine, "spent"),
                    "wait": quantity(float(np.median(seen))) if seen else "none came",
                    "mean": P**-H,
                    "ratio": root / middle if root and middle and arm != "root" else None,
                }
            )
    head = (
        f"arm | H | runs at {TARGET} | tokens: median | tokens spent: most | of these on starts | "
    )
    head += "rollouts to the first reward: median | mean of the root, exact | root's tokens / these"
    cells = "{arm} | {H} | {reached} | {median} | {spent:q} | {built:.0%} | {wait} | {mean:q} | {ratio:.1f}"
    note = (
        f"<p>Steps of {GROUPS} groups of {SIZE} rollouts. Strategies: "
        + ", ".join(f"{arm} = <code>{escape(text)}</code>" for arm, text in ARMS.items())
        + ".</p>"
    )
    return table_of(head, cells, shown) + note


def _fit_table(rows: Sequence[Row]) -> str:
    """Growth of tokens to the target, and the rate of the root's first rewards."""
    shown = [
        {
            "arm": _name(arm),
            "horizons": ", ".join(map(str, found.horizons)),
            "fit": found,
            "b": found.exponential,
            "c": found.polynomial,
            "aic": found.both("aic"),
        }
        for arm in ARMS
        if (found := fitted(rows, arm)) is not None
    ]
    root = where(rows, arm="root")
    if not shown or len({r["H"] for r in root}) < 4:
        return waits.UNFITTED
    b, low, high = rate_of_waits(root)
    head = "arm | H | runs | b in a + bH | c in a + c log H | residual of both, nats | AIC of both | preferred"
    cells = "{arm} | {horizons} | {fit.runs} | {b.slope:.3f} | {c.slope:.2f} | "
    cells += "{b.residual:.2f}, {c.residual:.2f} | {aic} | {fit.preferred}"
    note = (
        f"<p>Log of the tokens to {TARGET}, natural; horizons at which every run got there. What follows the first "
        "reward takes about the same number of steps at every horizon, so the root's tokens are a polynomial part and "
        "a wait. Only the wait is exponential: its rate, by maximum likelihood over all root runs, is "
        f"{b:.3f} nats per token (95 % interval {low:.3f}–{high:.3f}); log(1/p) = {NATS:.3f}.</p>"
    )
    return table_of(head, cells, shown, text=2) + note
