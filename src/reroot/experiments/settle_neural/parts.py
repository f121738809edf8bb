"""What the runs with and without a KL term are shown by alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...pages.kit.cells import table_of
from ...pages.kit.formatting import quantity
from ...pages.kit.markup import Html
from ...pages.kit.table import Part, Table
from .. import waits
from ..base import Row, total, where
from ..fits import Growth
from ..fits import Line as Fit
from ..plots import Axes, Line, plot
from ..waits import horizons, median_wait
from .arms import ARMS, OUTCOME_ONLY
from .rows import NATS, P, fitted, median_tokens, rate_of_waits, transformed

COLORS = {
    "root": "root",
    "plurality": "visited",
    "argmax": "reset",
    "self_reset": "visited",
    "verified": "reset",
    "adaback": "chosen",
    "r3": "chosen",
}
SEEDS = 3
"""Fewest runs at a horizon for an interval by resampling them: two say nothing of their spread."""

STYLES = {arm: i for i, arm in enumerate(ARMS)}


def name_of(arm: str) -> str:
    """An arm as tables and figures show it."""
    return arm if arm in OUTCOME_ONLY else f"{arm} (more oracles)"


def cost_plot(rows: Sequence[Row], name: str, title: str, goal: str) -> str:
    """Tokens to the target against H; runs that ended by their budget as open ranges.

    Args:
        rows: of one kind.
        name: of the figure.
        title: its caption.
        goal: the target, in words.
    """
    label = "root: median wait for the first reward, exact"
    lines = [Line.law(label, range(4, 33), lambda H: H * median_wait(P**H))]
    for arm, color in COLORS.items():
        runs = {H: where(rows, arm=arm, H=H) for H in horizons(rows, arm)}
        known = {H: median_tokens(rows, arm, H) for H in runs}
        reached = {H: t for H, t in known.items() if t is not None}
        if reached:
            spent = [[r["tokens"] or r["spent"] for r in runs[H]] for H in reached]
            ends = [min(r) for r in spent], [max(r) for r in spent]
            label, points = (
                f"{name_of(arm)}: median, range of runs",
                (list(reached), [*reached.values()]),
            )
            lines.append(Line(label, *points, *ends, color, STYLES[arm]))
        censored = {H: max(r["spent"] for r in runs[H]) for H, t in known.items() if t is None}
        if censored:
            label, x = f"{name_of(arm)}: not reached, tokens spent", list(censored)
            look = {"color": color, "style": STYLES[arm] + 1, "points": True}
            lines.append(Line(label, x, [*censored.values()], **look))
    axes = Axes("horizon H", f"generated tokens to {goal}", log_y=True)
    return plot(name, title, axes, lines)


def wait_plot(rows: Sequence[Row], name: str) -> str:
    """Censored runs are left out."""
    seen = [r for r in where(rows, arm="root") if r["wait"] is not None]
    return waits.figure(name, "root-start runs of all horizons", "rollouts", transformed(seen))


def cost_table(rows: Sequence[Row], goal: str) -> Table:
    """Every arm at every horizon.

    Args:
        rows: of one kind.
        goal: the target, in words.
    """
    shown: list[Row] = []
    for arm in ARMS:
        for H in horizons(rows, arm):
            mine = where(rows, arm=arm, H=H)
            middle, root = median_tokens(rows, arm, H), median_tokens(rows, "root", H)
            seen = [r["wait"] for r in mine if r["wait"] is not None]
            shown.append(
                {
                    "arm": name_of(arm),
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
    head = f"arm | H | runs at {goal} | tokens: median | tokens spent: most | of these on starts | "
    head += "rollouts to the first reward: median | mean of the root, exact | root's tokens / these"
    cells = "{arm} | {H} | {reached} | {median} | {spent:q} | {built:.0%} | {wait} | {mean:q} | {ratio:.1f}"
    return table_of(head, cells, shown)


def fit_table(rows: Sequence[Row], goal: str, after: str) -> list[Part]:
    """Growth of tokens to the target, and the rate of the root's first rewards.

    Args:
        rows: of one kind.
        goal: the target, in words.
        after: what follows the first reward of the root, in words.
    """
    shown = [
        {
            "arm": name_of(arm),
            "horizons": ", ".join(map(str, found.horizons)),
            "fit": found,
            "b": _slope(rows, arm, found, found.exponential, 3),
            "c": _slope(rows, arm, found, found.polynomial, 2),
            "aic": found.both("aic"),
        }
        for arm in ARMS
        if (found := fitted(rows, arm)) is not None
    ]
    root = where(rows, arm="root")
    if not shown or len({r["H"] for r in root}) < 4:
        return [waits.UNFITTED]
    b, low, high = rate_of_waits(root)
    head = "arm | H | runs | b in a + bH | c in a + c log H | residual of both, nats | AIC of both | preferred"
    cells = "{arm} | {horizons} | {fit.runs} | {b} | {c} | "
    cells += (
        "{fit.exponential.residual:.2f}, {fit.polynomial.residual:.2f} | {aic} | {fit.preferred}"
    )
    note = (
        f"<p>Log of the tokens to {goal}, natural; horizons at which every run got there. Small: 95 % intervals by "
        f"resampling the seeds, where there are {SEEDS} or more at every horizon. {after} The rate of the wait for the "
        "first reward, by maximum likelihood over all root runs, is "
        f"{b:.3f} nats per token (95 % interval {low:.3f}–{high:.3f}); log(1/p) = {NATS:.3f}.</p>"
    )
    return [table_of(head, cells, shown, text=2), note]


def _slope(rows: Sequence[Row], arm: str, found: Growth, line: Fit, digits: int) -> Html:
    """A slope, with its interval where there are seeds enough to resample."""
    said = f"{line.slope:.{digits}f}"
    if min(len(where(rows, arm=arm, H=H)) for H in found.horizons) >= SEEDS:
        said += f" <small>{line.low:.{digits}f}–{line.high:.{digits}f}</small>"
    return Html(said)
