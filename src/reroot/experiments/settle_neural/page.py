"""Figures and tables of the experiment ``settle-neural``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from ...pages.kit.plots import grid
from ...pages.kit.table import Part
from ..base import Row, where
from ..plots import Axes, Line, plot
from . import page_kl
from .arms import ARMS, GROUPS, SIZE, TARGET
from .parts import COLORS, STYLES, cost_plot, cost_table, fit_table, name_of, wait_plot
from .rows import main_task, plain, regularized

_GOAL = f"{TARGET} from the root"
_AFTER = (
    "What follows the first reward takes about the same number of steps at every horizon, so the root's tokens are a "
    "polynomial part and a wait. Only the wait is exponential."
)


def show(rows: Sequence[Row]) -> list[Part]:
    """The section of the page."""
    without = plain(rows)
    return [
        *(_without_kl(without) if without else []),
        *page_kl.show(main_task(regularized(rows))),
    ]


def _without_kl(rows: Sequence[Row]) -> list[Part]:
    others = where(rows, task="chain_of_parities")
    rows = main_task(rows)
    shown = [H for H in (8, 16, 24, 32) if len({r["arm"] for r in where(rows, H=H)}) > 1]
    title = f"Tokens until a rollout from the root is right with {TARGET}"
    return [
        grid([cost_plot(rows, "neural-cost", title, _GOAL), wait_plot(rows, "neural-wait")]),
        *(cost_table(rows, str(TARGET)), _strategies()),
        *fit_table(rows, str(TARGET), _AFTER),
        grid([_curve_plot(rows, H) for H in shown]),
        *(
            ["<h3>chain_of_parities</h3>", cost_table(others, str(TARGET)), _strategies()]
            if others
            else []
        ),
    ]


def _strategies() -> str:
    return (
        f"<p>Steps of {GROUPS} groups of {SIZE} rollouts. Strategies: "
        + ", ".join(f"{arm} = <code>{escape(text)}</code>" for arm, text in ARMS.items())
        + ".</p>"
    )


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """Reach from the root against tokens, run by run."""
    lines: list[Line] = []
    for arm, color in COLORS.items():
        for i, row in enumerate(where(rows, arm=arm, H=H)):
            points = np.array(row["curve"] + [[row["spent"], row["rollouts"], row["curve"][-1][2]]])
            pick = np.unique(np.linspace(0, len(points) - 1, 40).astype(int))
            label = name_of(arm) if not i else ""
            x, y = np.maximum(points[pick, 0], 100.0).tolist(), points[pick, 2].tolist()
            lines.append(Line(label, x, y, color=color, style=STYLES[arm]))
    what = "generated tokens", "probability of a right output"
    axes = Axes(*what, log_x=True, horizontal=TARGET, y_range=(-0.03, 1.03))
    return plot(f"neural-curve-{H}", f"From the root, H = {H}; runs stop at {TARGET}", axes, lines)
