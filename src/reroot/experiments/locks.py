"""Resets in reinforcement learning: what steering, and returning, buy on a lock with rich observations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import limits
from ..access.runner import Attempt
from ..families.combination_lock import CombinationLock
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from ..randomness import stream_key
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, total, where
from .fits import Growth, growth
from .measuring import by_kind, setting_of
from .plots import Axes, Line, plot

ENOUGH = 0.9
"""Share of V* that is to be reached."""
_RUNGS = (20, 40, 80, 160, 320, 640)
_LADDERS: dict[str, tuple[str, ...]] = {
    "rvfs": ("rvfs:plays=20",),
    "pcr": tuple(f"pcr:episodes={n}" for n in _RUNGS),
    "pce": tuple(f"pce:episodes={n}" for n in _RUNGS),
    "one-context": tuple(f"pce:two_contexts=false,episodes={n}" for n in (20, 80, 320, 1280)),
    "sim_golf": ("sim_golf:episodes=80",),
    "golf": ("golf:episodes=80",),
    "root": ("first_success:max_rollouts=100000,growth=1",),
}
"""Name → learners with ever larger budgets, the smallest that suffices counts."""
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
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(s: Setting) -> Iterator[Row]:
    """A row for each lock: draws of the first rung of the ladder that reaches 0.9·V*."""
    for i in range(s["tries"]):
        lock = CombinationLock(s["H"], s["A"], s["G"], s["n"], seed=i)
        row: Row = {
            "lock": i,
            "reached": False,
            "draws": 0,
            "episodes": 0,
            "rung": 0,
            "formula": True,
        }
        for rung, spec in enumerate(_LADDERS[s["learner"]]):
            if s["learner"] == "root":  # in batches that round the wait alike at every H
                spec += f",batch={s['A'] ** (s['H'] - 1)}"
            else:
                spec += f",actions={s['A']},goods={s['G']},noise={s['n']}"
            learner = get_learner(spec)
            grants = str(learner.requires)
            (attempt,) = run(
                learner, [lock.problem()], lock, grants=grants, seed=s["seed"]
            ).attempts
            row |= _found(s["learner"], attempt, lock) | {"rung": rung}
            if s["learner"] == "pcr":
                row["formula"] = row["draws"] == pcr_draws(
                    learner.params, attempt.metadata["centres"]
                )
            if row["reached"]:
                break
        yield row


def _found(name: str, attempt: Attempt, lock: CombinationLock) -> Row:
    """Whether enough was reached, and what that took."""
    told, A = attempt.metadata, lock.shape.actions
    enough = ENOUGH * limits.lock_value(lock.shape.layers, lock.fail)
    if name == "root":
        rollouts = attempt.cost.rollouts
        draws = rollouts * (lock.shape.layers + 1)
        return {"reached": attempt.passed, "draws": draws, "episodes": rollouts}
    if name in ("sim_golf", "golf"):
        for chain, draws in zip(told["played"], told["drawn"], strict=True):
            if lock.value(_greedy(chain, lock)) >= enough:
                return {"reached": True, "draws": draws, "episodes": 1 + told["drawn"].index(draws)}
        return {"reached": False, "draws": told["draws"], "episodes": told["episodes"]}
    used = {"draws": told["draws"], "episodes": told["episodes"]}
    if name == "rvfs":
        return used | {"reached": told["reward"] >= enough}
    value = lock.value(np.eye(A)[np.array(told["policy"])])
    return used | {"reached": value >= enough}


def _greedy(chain: Sequence[int], lock: CombinationLock) -> Any:
    """(H, S·2ⁿ, A) the policy of a chain of value functions, ties shared."""
    tables = lock.members.values(lock.fail)
    scores = np.stack([table[k] for table, k in zip(tables, chain, strict=True)])
    best = scores == scores.max(axis=2, keepdims=True)
    return best / best.sum(axis=2, keepdims=True)


def pcr_draws(params: Any, centres: Sequence[int]) -> int:
    """Σ_h [m(h+1) + N + k_h·N_p(h+1)(h+2)] + N_p·H(H+1), with m = 4A and N = 4·N_p."""
    Np, m, H = int(params["episodes"]), 4 * int(params["actions"]), len(centres) + 1
    layers = (m * (h + 1) + 4 * Np + k * Np * (h + 1) * (h + 2) for h, k in enumerate(centres))
    return sum(layers) + Np * H * (H + 1)


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
        told = ", ".join(f"{n}: {f.polynomial.slope:.2f}" for n, f in fits.items())
        found.append(
            Check(
                "their draws grow as a power of H, below 5",
                all(f.polynomial.high < 5 for f in fits.values()),
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
    return [*found, *_noise_checks(noise), *_context_checks(where(rows, kind="contexts"))]


def _noise_checks(rows: Sequence[Row]) -> Iterator[Check]:
    for name in sorted({r["learner"] for r in rows}):
        means = _means(where(rows, learner=name, reached=True), "n")
        ratio = max(means.values()) / min(means.values())
        told = f"mean draws within a factor of {ratio:.2f} for n = {min(means)} … {max(means)}"
        yield Check(f"{name}: what observations look like does not matter", ratio <= 2.5, told)


def _context_checks(rows: Sequence[Row]) -> Iterator[Check]:
    H = max(r["H"] for r in rows)
    one, two, reset = (where(rows, learner=name, H=H) for name in ("one-context", "pce", "pcr"))
    most = max(float(r["draws"]) for r in two)
    worse = H < 4 or all(not r["reached"] or r["draws"] > 2 * most for r in one)
    told = f"H = {H}: {_draws(one)} draws against {_draws(two)}; one context with resets: {_draws(reset)}"
    solved = all(r["reached"] for r in [*two, *reset])
    yield Check("G = A: without resets one context is not enough, two are", solved and worse, told)


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
    return str(get_learner(_LADDERS[name][0]).requires.control)


def _show(rows: Sequence[Row]) -> list[Part]:
    sizes, noise = where(rows, kind="horizon"), where(rows, kind="noise")
    contexts = where(rows, kind="contexts")
    growing = Axes("layers H", "observations drawn", True, True, x_ticks=(1, 2, 3, 4, 6, 8))
    flat = Axes("bits of noise n", "observations drawn", log_y=True, y_range=(3e2, 3e4))
    both = Axes("layers H", "observations drawn", log_y=True, x_ticks=(2, 3, 4))
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
    return [grid(figures), _fits_table(sizes, noise), _rows_table(rows)]


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
                    "power": f"{power.slope:.2f} [{power.low:.2f}, {power.high:.2f}]",
                    "rate": f"{rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]",
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
    measure=by_kind(horizon=_measure, noise=_measure, contexts=_measure),
    check=_check,
    show=_show,
)
