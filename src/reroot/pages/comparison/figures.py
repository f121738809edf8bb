"""The figures of a report, one panel per drawing. Colour is control, marker and dash the learner."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ...contract import Control
from ...diagnosis.clusters import cluster_weights
from ...diagnosis.intervals import best_of_n
from ...runs.numbers import judged
from ...runs.results import Learner, RunData
from ...runs.summary import log_reach, tokens_per_rollout
from ...types import CURRENCIES, FloatArray
from ..kit import plots as svg
from ..kit.contracts import PAYS
from ..kit.formatting import clipped, quantity
from ..kit.markup import Html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST = 1e-5
"""Success rates below are not drawn: exact curves leave the figure there."""

Curve = tuple[tuple[float, ...], ...]
"""Horizons and success rates, or empty."""


@dataclass(frozen=True, slots=True)
class Series:
    """A learner in the figures: its colour (control) and its style (marker and dash)."""

    learner: Learner
    style: int

    @property
    def control(self) -> str:
        return str(self.learner.control)

    def marks(self, hollow: bool = False) -> dict[str, Any]:
        """Keyword arguments of a line."""
        return svg.marks(self.control, self.style, self.style, 1.8, hollow)

    def entry(self, *, line: bool = True) -> Html:
        """The series in a legend."""
        shown = svg.swatch(self.control, self.style, line=line, hollow=self.learner.given_answer)
        note = " (is shown a demonstration)" if self.learner.given_answer else ""
        return Html(f"{shown}{escape(self.learner.short)}{note}")


def series_of(run: RunData) -> list[Series]:
    """Every learner with a style that is its own among the learners of its control level."""
    styles: dict[Control, Iterator[int]] = defaultdict(itertools.count)
    return [Series(learner, next(styles[learner.control])) for learner in run.learners]


# -- (a) success against horizon ---------------------------------------------------------------


def success_panel(
    run: RunData,
    task: str,
    shown: Sequence[Series],
    cells: Sequence[dict[str, Any]],
    curves: Iterable[Curve],
    name: str,
) -> str:
    """Pass rate against horizon, log scale; a zero is an arrow from its upper limit.

    All panels of a task have the same axes.

    Args:
        run: the comparison.
        task: which task.
        shown: the learners to draw.
        cells: the cells of the task.
        curves: exact curves to draw behind them.
        name: id of the drawing.
    """
    horizons = run.horizons(task)
    figure, axes = svg.new_figure()
    step = min(np.diff(horizons), default=1)
    for x, y in sorted({curve for curve in curves if curve}):
        axes.plot(x, y, color=svg.color("muted"), linewidth=5, alpha=0.35, zorder=1)
    for place, one in enumerate(shown):
        shift = step * 0.07 * (place - (len(shown) - 1) / 2)
        by_horizon = {c["horizon"]: c for c in cells if c["short"] == one.learner.short}
        _success_line(axes, [by_horizon[h] for h in horizons if h in by_horizon], shift, one)
    ends = horizons[0] - 0.5 * step, horizons[-1] + 0.5 * step
    axes.set(yscale="log", ylim=(_floor(run, task, cells), 1.25), xlim=ends)
    shown_at = horizons if len(horizons) <= 10 else horizons[:: -(-len(horizons) // 10)]
    shown_at = shown_at if any(horizons) else []
    svg.named_axis(axes.xaxis, shown_at, shown_at)
    svg.log_axis(axes.yaxis, lambda y: f"{100 * y:g} %", 12)
    svg.label(axes, "horizon" if any(horizons) else "", "attempts passed")
    named = ", ".join(one.learner.short for one in shown)
    return svg.to_svg(
        figure,
        name,
        f"{'Success against horizon' if any(horizons) else 'Success'} on {task}: {named}",
    )


def _success_line(axes: Axes, cells: Sequence[dict[str, Any]], shift: float, one: Series) -> None:
    marks = one.marks(hollow=one.learner.given_answer)
    rates = [c["pass_rate"] if c["passed"] else math.nan for c in cells]
    axes.plot([c["horizon"] + shift for c in cells], rates, **marks, zorder=3)
    look = {"color": marks["color"], "linewidth": 1.1}
    small = {"markersize": 4.5, "linestyle": "none", "markerfacecolor": svg.color("paper")}
    for cell in sorted(cells, key=lambda c: not c["passed"]):
        x, (low, high) = cell["horizon"] + shift, cell["pass_interval"]
        if cell["passed"]:
            axes.plot([x, x], [max(low, 1e-12), high], **look, zorder=2)
        else:
            arrow = {"arrowstyle": "->", "shrinkA": 0, **look}
            axes.annotate("", xy=(x, high / 2.8), xytext=(x, high), arrowprops=arrow)
            axes.plot([x], [high], **{**marks, **small}, zorder=3)


def rollouts_taken(run: RunData, one: Series, task: str, horizon: int) -> float | None:
    """Rollouts of a learner whose success follows 1 − (1 − p)^N, N fixed; else ``None``."""
    if one.learner.name != "best_of_n" or not one.learner.sampling.is_base:
        return None
    total, _, attempts = run.paid(one.learner, task, horizon, "rollouts")
    return total / attempts if attempts else None


def exact_curve(run: RunData, task: str, one: Series) -> Curve:
    """Horizons and exact success rates of a learner that follows best-of-N; empty if none does."""
    points: list[tuple[float, float]] = []
    for horizon in run.horizons(task):
        reached = log_reach(run, task, horizon)
        taken = rollouts_taken(run, one, task, horizon)
        if reached is not None and taken is not None:
            exact = float(best_of_n(list(reached.values()), taken).mean())
            points.append((horizon, max(exact, 1e-30)))
    return tuple(zip(*points, strict=True))


def whole_budget_curve(reach: Sequence[Mapping[str, Any]]) -> Curve:
    """Horizons and exact success rates of best-of-N with the whole budget; empty if unknown."""
    known = [(r["horizon"], r["exact_with_budget"]) for r in reach]
    points = [(h, max(y, 1e-30)) for h, y in known if y is not None]
    return tuple(zip(*points, strict=True))


def _floor(run: RunData, task: str, cells: Sequence[dict[str, Any]]) -> float:
    """Lower end of a log axis of success: all that a task shows, but not below ``LOWEST``."""
    lows = [c["pass_interval"][0] if c["passed"] else c["pass_interval"][1] / 4 for c in cells]
    for one in series_of(run):
        lows += [y for curve in exact_curve(run, task, one)[1:] for y in curve]
    return 10.0 ** math.floor(math.log10(max(min(lows), LOWEST)))


# -- (b) success against budget ----------------------------------------------------------------


def budget_panel(
    run: RunData, task: str, horizon: int, currency: str, shown: Sequence[Series], name: str
) -> str:
    """Fraction of attempts solved at cost ≤ x, for the learners that pay in ``currency``."""
    figure, axes = svg.new_figure(height=290, top=22)
    limit = budget_in(run, task, horizon, currency)
    right = limit or 1.0
    for one in shown:
        rows = judged(run.attempts(one.learner, task, horizon))
        if not len(rows):
            continue
        cost = np.maximum(rows[f"cost_{currency}"].to_numpy().astype(np.float64), 1.0)
        right = max(right, float(cost.max()))
        rows = rows.with_columns(paid=cost, counts=cluster_weights(rows["cluster"].to_list()))
        solved = rows.filter("passed").sort("paid", maintain_order=True)
        at = solved["paid"].to_numpy()
        height = np.cumsum(solved["counts"].to_numpy()) / rows["cluster"].n_unique()
        x = np.concatenate([at[:1], at, [cost.max()]])
        y = np.concatenate([[0.0] if len(at) else [], height, height[-1:] if len(at) else [0.0]])
        style = {"drawstyle": "steps-post", "markevery": [-1], "zorder": 3, "clip_on": False}
        axes.plot(x, y, **one.marks(hollow=one.learner.given_answer), **style)
    _exact_budget_curve(axes, run, task, horizon, currency, right)
    if limit:
        axes.axvline(limit, color=svg.color("muted"), linewidth=1, linestyle=(0, (2, 2)))
        said = axes.annotate("budget", (limit, 1.03), (0, 3), textcoords="offset points")
        said.set(ha="center", va="bottom", color=svg.color("muted"), size=svg.FONT_SIZE)
    axes.set(xscale="log", ylim=(0, 1.03), xlim=(0.8, right * 1.4))
    svg.log_axis(axes.xaxis, quantity, 8)
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    svg.label(axes, f"{PAYS[currency]} per attempt", "attempts solved")
    return svg.to_svg(figure, name, f"Attempts of {task} solved against {PAYS[currency]}")


def budget_in(run: RunData, task: str, horizon: int, currency: str) -> float | None:
    """What the budget allows in ``currency``; rollouts follow from tokens at their mean length."""
    budget = run.config.get("budget", {})
    if currency in budget:
        return float(budget[currency])
    if currency in ("rollouts", "queries") and "calls" in budget:
        return float(budget["calls"])
    length = tokens_per_rollout(run, task, horizon)
    if currency == "rollouts" and "tokens" in budget and length:
        return budget["tokens"] / length
    return None


def has_exact_curve(run: RunData, task: str, horizon: int, currency: str) -> bool:
    """Whether the exact best-of-N curve is drawn against ``currency``."""
    if currency == "tokens" and tokens_per_rollout(run, task, horizon) is None:
        return False
    known = log_reach(run, task, horizon) is not None
    return known and currency in ("rollouts", "tokens", "rewards")


def _exact_budget_curve(
    axes: Axes, run: RunData, task: str, horizon: int, currency: str, right: float
) -> None:
    if not has_exact_curve(run, task, horizon, currency):
        return
    reached = log_reach(run, task, horizon) or {}
    length = (tokens_per_rollout(run, task, horizon) or 1.0) if currency == "tokens" else 1.0
    x = np.geomspace(length, max(right * 1.4, 2 * length), 120)
    y = best_of_n(np.array(list(reached.values()))[:, None], x[None, :] / length).mean(axis=0)
    axes.plot(x, y, color=svg.color("muted"), linewidth=5, alpha=0.35, zorder=1)


# -- (c) where the probability is lost ---------------------------------------------------------


_MOST_LINES = 500
"""Problems that a panel draws."""


def demonstration_lines(run: RunData, task: str, horizon: int) -> list[FloatArray]:
    """Log-probabilities (nats) along each demonstration of a task and horizon."""
    rows = run.problem_rows(task, horizon)
    return [np.array(line) for line in rows["demo_logprobs"].to_list() if line]


def loss_panel(lines: Sequence[FloatArray], name: str, *, cumulative: bool) -> str:
    """Log-probability of each token of the right output (or of all up to it); mean and problems.

    The mean of the first is over outputs that have the token, where these are at least half; that of the
    second is over all, so it never rises."""
    figure, axes = svg.new_figure()
    from matplotlib.ticker import MaxNLocator

    lines = [np.cumsum(line) if cumulative else line for line in lines]
    finite = np.concatenate(lines)
    floor = 1.15 * min(float(finite[np.isfinite(finite)].min(initial=-1.0)), -0.5)
    table = np.full((len(lines), max(map(len, lines))), np.nan)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = np.maximum(line, floor)
    at = np.arange(1, table.shape[1] + 1)
    drawn = table[np.linspace(0, len(table) - 1, min(len(table), _MOST_LINES)).astype(int)]
    for row in drawn:
        axes.plot(at, row, color=svg.color("muted"), alpha=0.35, linewidth=1, zorder=2)
    if len(drawn) < len(table):
        said = f"drawn: {len(drawn):,} of {len(table):,}; the mean is of all"
        axes.set_title(said, loc="right", fontsize=8, color=svg.color("muted"))
    if (
        cumulative
    ):  # what has ended keeps its value: a mean over those left would rise as short ones drop out
        ends = [float(max(line[-1], floor)) for line in lines]
        table = np.where(np.isnan(table), np.array(ends)[:, None], table)
    many = np.isfinite(table).sum(axis=0) * 2 >= len(table)
    mean = np.nanmean(table[:, many], axis=0)
    few = {"marker": "o", "markersize": 5} if len(mean) <= 40 else {}
    axes.plot(at[many], mean, color=svg.color("ink"), linewidth=2.2, zorder=3, **few)
    axes.set(ylim=(floor, 0.02 * abs(floor)), xlim=(0.5, table.shape[1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    y = "log-probability so far, nats" if cumulative else "log-probability of the token, nats"
    svg.label(axes, "token of the right output", y)
    return svg.to_svg(figure, name, y + " along the right output")


# -- (d) the ledger ----------------------------------------------------------------------------


def ledger_panel(
    cells: Sequence[dict[str, Any]], currency: str, shown: Sequence[Series], name: str
) -> str:
    """Mean cost per attempt of every learner that pays in ``currency``."""
    costs = {c["short"]: c["cost"][currency] for c in cells}
    rows = [one for one in shown if costs.get(one.learner.short, 0) > 0]
    names = [clipped(one.learner.short, 25) for one in rows]
    figure, axes = svg.named_rows(names, 440, 16 + 7.4 * max(map(len, names)), 24, 62)
    most = max(costs[one.learner.short] for one in rows)
    least = min(1.0, *(costs[one.learner.short] for one in rows))
    for y, one in enumerate(rows):
        x = costs[one.learner.short]
        marks = one.marks(hollow=one.learner.given_answer)
        axes.plot([least, x], [y, y], color=marks["color"], linewidth=1.6, zorder=2)
        axes.plot([x], [y], **{**marks, "linestyle": "none"}, zorder=3, clip_on=False)
        text = axes.annotate(quantity(x), (x, y), (8, 0), textcoords="offset points")
        text.set(fontsize=svg.FONT_SIZE, color=svg.color("ink"), va="center")
    axes.set(xscale="log", xlim=(least, most * (most / least) ** 0.28 * 1.2))
    svg.log_axis(axes.xaxis, quantity, 8)
    svg.label(axes, PAYS[currency], "")
    return svg.to_svg(figure, name, f"Mean {PAYS[currency]} per attempt", grid="x")


def pays(run: RunData, learner: Learner, task: str, horizon: int, currency: str) -> bool:
    """Whether a learner paid anything in ``currency``."""
    return run.paid(learner, task, horizon, currency).total > 0


def mostly_pays(run: RunData, learner: Learner, task: str, horizon: int, currency: str) -> bool:
    """Whether a learner paid in ``currency`` in at least half of its attempts."""
    _, paying, attempts = run.paid(learner, task, horizon, currency)
    return attempts > 0 and paying * 2 >= attempts


def paid(run: RunData, task: str, horizon: int) -> list[str]:
    """The currencies in which anything was paid."""
    return [c for c in CURRENCIES if any(pays(run, x, task, horizon, c) for x in run.learners)]
