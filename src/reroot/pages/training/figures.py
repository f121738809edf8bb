"""Figures of training runs. Colour and marker are the run; solid is the root, dashed the prefixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ...contract import Control
from ...types import FloatArray
from ..kit import plots as svg
from ..kit.markup import Html
from ..kit.plots import figure
from .data import TrainingRun, horizon_passes, labels, passes

_COLORS = ("root", "reset", "chosen", "visited", "heat", "ink", "muted")
_VARIANT = ("arm", "strategy", "task", "horizon", "beta", "model", "kl", "learning_rate")
_VARIANT = (*_VARIANT, "groups", "size")
"""Runs that differ in none of these differ in the seed: they share a colour."""
_POINTS = 300
"""Most points of a drawn curve."""
_TOGETHER = 3
"""Up to so many runs show what starts at the root and at prefixes in one panel."""

Curve = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A run in the figures: its label, colour, and the number of its marker."""

    run: TrainingRun
    label: str
    color: str
    style: int

    def marks(self, *, dashed: bool = False, marker: bool = True) -> dict[str, Any]:
        """Keyword arguments of a curve; what starts from prefixes has hollow markers."""
        look = svg.marks(self.color, self.style, int(dashed), 1.2 if dashed else 1.7, dashed)
        return look if marker else look | {"marker": ""}

    @property
    def name(self) -> Html:
        """The run as it is called in tables and legends."""
        name = f"{self.swatch()}{escape(self.label)}"
        short = len(self.label) <= 24  # no line ends in it
        return Html(f'<span class="whole">{name}</span>' if short else name, self.label)

    def swatch(self) -> Html:
        """The run in a legend."""
        return svg.swatch(self.color, self.style, line=False)


def variant(run: TrainingRun) -> tuple[str, ...]:
    """What runs have in common that differ in the seed alone."""
    return tuple(str(run.config.get(key)) for key in _VARIANT)


def series_of(runs: Sequence[TrainingRun]) -> list[Series]:
    """Every run with a marker of its own, and one colour for runs that differ in the seed alone.

    Root-start runs come first in choosing: they take the colour of root control.
    """
    variants = [variant(run) for run in runs]
    colors: dict[tuple[str, ...], str] = {}
    ranked = sorted(zip(runs, variants, strict=True), key=lambda x: x[0].contract.control.place)
    for run, one in ranked:
        rooted = run.contract.control == Control.ROOT
        free = [c for c in _COLORS if c not in colors.values()]
        order = [str(run.contract.control), *(c for c in free if rooted or c != "root"), *free]
        own = next((c for c in order if c in free), _COLORS[len(colors) % len(_COLORS)])
        colors.setdefault(one, own)
    named = enumerate(zip(runs, labels(runs), variants, strict=True))
    return [Series(run, label, colors[own], i) for i, (run, label, own) in named]


# ---- curves --------------------------------------------------------------------------------------


def window_of(runs: Sequence[TrainingRun]) -> int:
    """How many steps a moving mean is over: a twentieth of the longest run, at most 50."""
    return min(max(max(len(run.steps) for run in runs) // 20, 1), 50)


def moving_mean(values: FloatArray, window: int) -> FloatArray:
    """Mean of each value and the ``window − 1`` before it; of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def curve(run: TrainingRun, values: FloatArray, window: int) -> Curve:
    """Tokens and moving means of a number of every step, where there is one; thinned."""
    tokens = run.column("tokens")
    known = np.isfinite(values) & np.isfinite(tokens)
    x, y = tokens[known], moving_mean(values[known], window)
    kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).astype(int)) if len(x) else []
    return x[kept], y[kept]


def zero_variance_shares(run: TrainingRun) -> FloatArray:
    """Share of the groups of every step in which all rewards were equal."""
    equal, groups = run.column("zero_variance"), run.column("groups")
    return np.divide(equal, groups, out=np.full(len(equal), math.nan), where=groups > 0)


def evaluated(run: TrainingRun, name: str) -> Curve:
    """Tokens and a number of every evaluation that has it: ``root``, ``prefix`` or ``gap``."""
    found = [passes(line) for line in run.evaluations]
    pairs = [(p.tokens, getattr(p, name)) for p in found]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    x, y = np.array(known, dtype=np.float64).reshape(-1, 2).T
    return x, y


class _Panel:
    """A drawing against generated tokens that is left out where nothing was drawn."""

    def __init__(self, series: Sequence[Series], y: str) -> None:
        most = max(one.run.tokens for one in series)
        units = ((1e9, ", billions"), (1e6, ", millions"), (1e3, ", thousands"))
        self.unit, name = next((u for u in units if most >= 2 * u[0]), (1.0, ""))
        self.drawing, self.axes = svg.new_figure()
        self._drawn: list[FloatArray] = []
        self._lines: list[Any] = []
        svg.label(self.axes, f"generated tokens{name}", y)

    def draw(self, found: Curve, marks: dict[str, Any], **more: Any) -> None:
        """A curve, if it has points."""
        x, y = found
        if len(x):
            self._drawn.append(y)
            self._lines += self.axes.plot(x / self.unit, y, **{**marks, **more})

    def html(self, name: str, caption: str, *, also: _Panel | None = None) -> str:
        """The figure, with zero on its y axis; ``also``: a panel to share that axis with."""
        if not self._drawn:
            return ""
        for i, line in enumerate(self._lines):  # what others would hide shows around them
            above = sum(_equal(line, other) for other in self._lines[i + 1 :])
            line.set_linewidth(line.get_linewidth() + 2.5 * above)
        values = np.concatenate([*self._drawn, *(also._drawn if also else ()), [0.0]])
        low, high = float(values.min()), float(values.max())
        room = 0.06 * (high - low)
        # where all is 0, zero is at the foot of an axis of ordinary numbers
        self.axes.set_ylim(low - room, high + room) if room else self.axes.set_ylim(-0.06, 1)
        return figure(caption, svg.to_svg(self.drawing, name, caption))


def _equal(one: Any, other: Any) -> bool:
    """Whether two lines have the same points."""
    return np.array_equal(one.get_xydata(), other.get_xydata())


def _every(one: Series, found: Curve) -> dict[str, Any]:
    """A few markers along a curve, elsewhere than those of its neighbours."""
    stride = max(len(found[0]) // 5, 1)
    return {"markevery": (one.style * stride // 8, stride)}


def reward_panels(series: Sequence[Series], window: int) -> list[str]:
    """Mean reward of training rollouts from the root and from prefixes, and evaluation points."""
    roots = _Panel(series, "mean reward")
    prefixes = roots if len(series) <= _TOGETHER else _Panel(series, "mean reward")
    for one in series:
        prefix = curve(one.run, one.run.column("prefix"), window)
        # a panel with evaluation points has no other markers, but for a line of one step
        marked = prefixes is not roots or len(prefix[0]) == 1
        marks = one.marks(dashed=True, marker=marked)
        prefixes.draw(prefix, marks, zorder=2, **_every(one, prefix))
        root = curve(one.run, one.run.column("root"), window)
        roots.draw(root, one.marks(marker=len(root[0]) == 1), zorder=3)
        # a run that never trains from the root shows its evaluations connected
        line = {"linestyle": "none"} if len(root[0]) else {}
        roots.draw(evaluated(one.run, "root"), one.marks(), zorder=4, **line)
    if prefixes is roots:
        return [roots.html("train-reward", "Reward from the root; dashed: from prefixes")]
    return [
        roots.html("train-reward", "Reward from the root", also=prefixes),
        prefixes.html("train-prefix", "Reward from the training prefixes", also=roots),
    ]


def gap_panel(series: Sequence[Series]) -> str:
    """Transfer gap at every evaluation."""
    panel = _Panel(series, "transfer gap, points")
    panel.axes.axhline(0, color=svg.color("muted"), linewidth=1, linestyle=(0, (2, 2)))
    for one in series:
        x, gap = evaluated(one.run, "gap")
        panel.draw((x, 100 * gap), one.marks())
    return panel.html("train-gap", "Transfer gap: pass@1 from prefixes − from the root")


def step_panels(series: Sequence[Series], window: int) -> Iterator[str]:
    """KL, share of zero-variance groups, and mean start length, against tokens."""
    shown = {
        "kl": ("KL, nats per output", "KL from the base model, on rollouts from the root"),
        "zero_variance": ("share of groups", "Zero-variance groups: all rewards equal"),
        "start": ("tokens", "Mean length of the start prefixes"),
    }
    for name, (y, caption) in shown.items():
        panel = _Panel(series, y)
        shares = name == "zero_variance"
        for one in series:
            values = zero_variance_shares(one.run) if shares else one.run.column(name)
            mean = curve(one.run, values, window)
            panel.draw(mean, one.marks(), **_every(one, mean))
        if shares:
            panel.axes.yaxis.set_major_formatter(_percent)
        yield panel.html(f"train-{name}", caption)


def _percent(value: float, _: Any) -> str:
    return f"{100 * value:g} %"


# ---- the last evaluation -------------------------------------------------------------------------


def pass_panels(series: Sequence[Series]) -> list[str]:
    """pass@k against k per horizon, and pass@1 against horizon, at the last evaluations."""
    known = {one: horizon_passes(one.run) for one in series}
    horizons = sorted({h for parts in known.values() for h in parts})
    found: list[str] = []
    if len(horizons) > 1:
        against = [
            (one, name, {h: part[name][1] for h, part in parts.items() if 1 in part[name]})
            for one, parts in known.items()
            for name in ("root", "prefix")
        ]
        found += _pass_panels(against, "train-horizons", "pass@1 against horizon", "horizon")
    for horizon in horizons:
        here = [
            (one, name, rates)
            for one, parts in known.items()
            for name, rates in parts.get(horizon, {}).items()
        ]
        name, title = (
            f"train-pass-{horizon}",
            f"pass@k at horizon {horizon}" if horizon else "pass@k",
        )
        found += _pass_panels(here, name, title, "k, samples per problem")
    return found


Rates = tuple[Series, str, dict[int, float]]
"""A run, ``root`` or ``prefix``, and what was passed at which k or horizon."""


def _pass_panels(found: Sequence[Rates], name: str, title: str, x: str) -> list[str]:
    """One panel, or one for either start where many runs would cover each other."""
    found = [one for one in found if one[2]]
    high = max((rate for *_, rates in found for rate in rates.values()), default=1.0)
    top = 1.03 if high > 0.5 else max(1.1 * high, 0.05)
    if len({one for one, *_ in found}) <= _TOGETHER:
        return [_pass_panel(found, name, f"{title}; dashed: from prefixes", x, top)]
    parts = {"root": "from the root", "prefix": "from the training prefixes"}
    return [
        _pass_panel(here, f"{name}-{start}", f"{title}, {words}", x, top)
        for start, words in parts.items()
        if (here := [one for one in found if one[1] == start])
    ]


def _pass_panel(found: Sequence[Rates], name: str, caption: str, x: str, top: float) -> str:
    drawing, axes = svg.new_figure()
    for one, start, rates in found:
        axes.plot(list(rates), list(rates.values()), **one.marks(dashed=start == "prefix"))
    at = sorted({k for *_, rates in found for k in rates})
    if x != "horizon":
        axes.set_xscale("log", base=2)
    svg.named_axis(axes.xaxis, at, at)
    axes.set_ylim(-0.03 * top, top)
    axes.yaxis.set_major_formatter(_percent)
    svg.label(axes, x, "problems passed")
    return figure(caption, svg.to_svg(drawing, name, caption))
