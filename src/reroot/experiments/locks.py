"""Resets in reinforcement learning: what steering, and returning, buy on a lock with rich observations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from ..randomness import stream_key
from .base import Check, Experiment, Row, total, where
from .fits import Growth, beside, growth
from .locks_contexts import SEPARATIONS, between, separation_checks, separation_table
from .locks_runs import LADDERS, measure
from .measuring import by_kind, setting_of
from .plots import Axes, Line, plot

_COLORS = {
    "rvfs": "reset",
    "pcr": "reset",
    "sim_golf": "reset",
    "pce": "episode",
    "golf": "episode",
}
_COLORS |= {"root": "root", "one-context": "episode"}
_NAMES = {
    "root": "rollouts",
    "one-context": "pce on one context",
    "sim_golf": "SimGolf",
    "golf": "GOLF",
}
SIZED = ("rvfs", "pcr", "pce", "sim_golf", "golf")

_horizon = setting_of("horizon", "learner H tries", A=4, G=2, n=6)
_noise = setting_of("noise", "learner n tries", A=4, G=2, H=3)
_contexts = setting_of("contexts", "learner H tries", A=3, G=3, n=4)

_QUICK = (
    *(_horizon(learner, 2, 1) for learner in (*SIZED, "root")),
    *(_noise("rvfs", n, 1) for n in (2, 6)),
    *(_contexts(learner, 2, 1) for learner in ("pce", "pcr", "one-context")),
)
_FULL = (
    *(_horizon("root", H, 30) for H in (1, 2, 3, 4, 5)),
    *(_horizon(name, H, 2) for name in ("sim_golf", "golf") for H in (2, 3, 4, 6, 8)),
    *(_horizon("rvfs", H, 3) for H in (2, 3, 4, 5, 6)),
    *(_noise("rvfs", n, 2) for n in (2, 4, 8, 10)),
    *(_noise("pcr", n, 1) for n in (2, 4, 6, 8, 10)),
    *(_contexts(name, H, 1) for name in ("pce", "pcr", "one-context") for H in (2, 3, 4)),
    *(_horizon(name, H, 2) for name in ("pcr", "pce") for H in (2, 3, 4, 5, 6)),
    *SEPARATIONS,
    *(_noise("pce", n, 1) for n in (2, 4, 6, 8, 10)),
)

# ---- fits and checks -------------------------------------------------------------------------------


def _growth(rows: Sequence[Row], name: str, x: str = "H", level: float = 0.95) -> Growth | None:
    """How draws (of root: rollouts) grow with x, where there are five sizes or more."""
    costs: dict[int, list[float]] = defaultdict(list)
    for row in where(rows, learner=name, reached=True):
        costs[row[x]].append(float(row["episodes"] if name == "root" else row["draws"]))
    if len(costs) < 5:
        return None
    return growth(costs, stream_key(0, "locks", f"{name} {x}"), level)


def _check(rows: Sequence[Row]) -> list[Check]:
    sizes, noise = where(rows, kind="horizon"), where(rows, kind="noise")
    learned = [r for r in sizes if r["learner"] != "root"]
    found = [
        Check(
            "with resets, and with passes alone, 0.9 V* is reached on every lock",
            all(r["reached"] for r in learned),
            f"{total(learned, 'reached')} of {len(learned)} locks, H up to {max(r['H'] for r in learned)}",
        ),
        Check(
            "PCR draws exactly what its formula says",
            all(r["formula"] for r in where(rows, learner="pcr")),
            f"{len(where(rows, learner='pcr'))} locks",
        ),
    ]
    fits = {name: fit for name in SIZED if (fit := _growth(sizes, name))}
    if fits:
        lines = {n: f.polynomial for n, f in fits.items()}
        told = ", ".join(
            f"{n}: {between(line.slope, line.scattered())}" for n, line in lines.items()
        )
        found.append(
            Check(
                "their draws grow as a power of H, below 6",
                all(line.scattered()[1] < 6 for line in lines.values()),
                f"powers {told}",
            )
        )
    root = _growth(sizes, "root", level=0.999)
    if root:
        line = root.exponential
        found.append(
            Check(
                "rollouts grow by a factor of A = 4 for each layer",
                line.low <= math.log(4) <= line.high,
                f"e^{line.slope:.2f}, 99.9 % interval e^{line.low:.2f} to e^{line.high:.2f}; log 4 = 1.39",
            )
        )
    found += _noise_checks(noise)
    if contexts := where(rows, kind="contexts"):
        found += _context_checks(contexts)
    return [*found, *separation_checks(where(rows, kind="separation"))]


def _noise_checks(rows: Sequence[Row]) -> Iterator[Check]:
    for name in sorted({r["learner"] for r in rows}):
        means = _means(where(rows, learner=name, reached=True), "n")
        ratio = max(means.values()) / min(means.values())
        told = f"mean draws within a factor of {ratio:.2f} for n = {min(means)} … {max(means)}"
        level = ratio <= 2.5
        if fit := _growth(rows, name, "n"):
            low, high = fit.polynomial.scattered()
            level = low <= 0 <= high
            told += f"; power of n {beside(fit.polynomial.slope, (low, high), 0.0)}"
        yield Check(f"{name}: what observations look like does not matter", level, told)


def _context_checks(rows: Sequence[Row]) -> Iterator[Check]:
    H = max(r["H"] for r in rows)
    one, two, reset = (where(rows, learner=name, H=H) for name in ("one-context", "pce", "pcr"))
    told = f"H = {H}: {_draws(two)} and {_draws(reset)} draws; one context in passes: {_draws(one)}"
    solved = all(r["reached"] for r in [*two, *reset])
    yield Check("G = A: two contexts find the policy, and one with resets", solved, told)


def _draws(rows: Sequence[Row]) -> str:
    mean = float(np.mean([r["draws"] for r in rows]))
    return f"{'' if all(r['reached'] for r in rows) else 'more than '}{mean:,.0f}"


def _means(rows: Sequence[Row], x: str) -> dict[int, float]:
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        found[row[x]].append(float(row["draws"]))
    return {at: float(np.mean(found[at])) for at in sorted(found)}


# ---- showing ---------------------------------------------------------------------------------------


def _lines(rows: Sequence[Row], names: Sequence[str], x: str) -> list[Line]:
    lines: list[Line] = []
    for style, name in enumerate(names):
        mine = where(rows, learner=name, reached=True)
        means = _means(mine, x)
        values = {at: [r["draws"] for r in mine if r[x] == at] for at in means}
        low, high = [min(v) for v in values.values()], [max(v) for v in values.values()]
        label = f"{_NAMES.get(name, name)}, {_control(name)}"
        color = _COLORS[name]
        lines.append(Line(label, [*means], [*means.values()], low, high, color, style))
    return lines


def _control(name: str) -> str:
    return str(get_learner(LADDERS[name][0]).requires.control)


def _show(rows: Sequence[Row]) -> list[Part]:
    sizes, noise = where(rows, kind="horizon"), where(rows, kind="noise")
    contexts = where(rows, kind="separation") or where(rows, kind="contexts")
    growing = Axes("layers H", "observations drawn", True, True, x_ticks=(1, 2, 3, 4, 6, 8))
    flat = Axes("bits of noise n", "observations drawn", log_y=True, y_range=(3e2, 3e4))
    both = Axes("layers H", "observations drawn", log_y=True, x_ticks=(2, 3, 4, 5, 6))
    names = sorted({r["learner"] for r in noise}, reverse=True)
    figures = [
        plot(
            "locks-layers",
            "To 0.9 V*: A = 4, G = 2, n = 6",
            growing,
            _lines(sizes, [*SIZED, "root"], "H"),
        ),
        plot("locks-noise", "Size of observations: H = 3", flat, _lines(noise, names, "n")),
        plot(
            "locks-contexts",
            "G = A = 3: contexts of the regression",
            both,
            _lines(contexts, ["pce", "one-context", "pcr"], "H"),
        ),
    ]
    return [
        grid(figures),
        _fits_table(sizes, noise),
        separation_table(rows),
        _rows_table(rows),
    ]


def _fits_table(sizes: Sequence[Row], noise: Sequence[Row]) -> Table:
    shown: list[Row] = []
    for rows, x in ((sizes, "H"), (noise, "n")):
        for name in sorted({r["learner"] for r in rows}):
            fit = _growth(rows, name, x)
            if fit is None:
                continue
            power, rate = fit.polynomial, fit.exponential
            shown.append(
                {
                    "what": f"{name} in {x}",
                    "control": _control(name),
                    "power": between(power.slope, power.scattered()),
                    "rate": between(rate.slope, rate.scattered()),
                    "aic": fit.both("aic"),
                    "preferred": fit.preferred,
                }
            )
    head = "learner | control | power | nats per step | AIC, exponential and power | smaller"
    cells = "{what} | {control} | {power} | {rate} | {aic} | {preferred}"
    return table_of(head, cells, shown, text=2)


def _rows_table(rows: Sequence[Row]) -> Table:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for r in rows:
        groups[r["kind"], r["learner"], r["A"], r["G"], r["H"], r["n"]].append(r)
    shown = [
        {
            **dict(zip(("kind", "learner", "A", "G", "H", "n"), key, strict=True)),
            "draws": float(np.mean([r["draws"] for r in mine])),
            "episodes": float(np.mean([r["episodes"] for r in mine])),
            "reached": f"{total(mine, 'reached')} of {len(mine)}",
        }
        for key, mine in groups.items()
    ]
    head = "what varies | learner | A | G | H | n | observations drawn | episodes | 0.9 V* reached"
    cells = (
        "{kind} | {learner} | {A} | {G} | {H} | {n} | {draws:,.0f} | {episodes:,.0f} | {reached}"
    )
    return table_of(head, cells, shown, text=2)


EXPERIMENT = Experiment(
    id="locks",
    claim="a lock with rich observations: steering makes it polynomial, returning makes the oracle simpler",
    statement=(
        "A combination lock of H layers with A actions and G good states, behind observations of n bits of noise. "
        "Uniform actions, which is what root-start rollouts take, pass with probability A<sup>−H</sup>. Episode "
        "control lets a learner put in its actions and not return; reset control also lets it return.",
        "Draws until the policy is worth 0.9 V*: of PCR and PCE the smallest of budgets that double, of GOLF and "
        "SimGolf until the first episode whose value functions play so well (exactly evaluated; they are given value "
        "functions, greedy actions included, and the others only decoders). The power of H is fitted beside an "
        "exponential.",
        "With G = A good states are alike in what action led to them: a regression on one observation does not see "
        "them without resets, on two it does; with resets to shared references, on one again.",
    ),
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=by_kind(horizon=measure, noise=measure, contexts=measure, separation=measure),
    check=_check,
    show=_show,
)
