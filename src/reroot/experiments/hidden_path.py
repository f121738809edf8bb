"""The hidden path: exponential from the root, linear with local resets, and how close to the floor."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

from .. import limits
from ..families.hidden_path import HiddenPath
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import from_log
from ..pages.kit.markup import Html
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from ..randomness import keyed_rng, stream_key
from .base import Check, Experiment, Row, Setting, total, where
from .counts import ERROR, banded, rate
from .measuring import by_kind, run_each, setting_of
from .plots import Axes, Line, plot

DELTA = 0.05
_WALKS = {
    "hoeffding": "fixed m, Hoeffding",
    "chernoff": "fixed m, Chernoff",
    "exact": "fixed m, exact",
    "sequential": "sequential, p known",
    "sequential_unknown": "sequential, p unknown",
    "posterior": "posterior walk, p known",
    "posterior_unknown": "posterior walk, p unknown",
}
_MARGIN = {(16, 0.25, 256): 2.2}  # most times the floor that the posterior walk may need

_session_of = setting_of("session", "N K H p M attempts")
_walk = setting_of("walk", "K p H walk paths", first=0)

_SESSIONS = (
    *(_session_of(50, 4, 8, 0.55, M, 400) for M in (0, 20)),
    _session_of(10, 2, 6, 0.6, 0, 2000),
    _session_of(100, 3, 6, 0.5, 0, 2000),
    _session_of(50, 4, 8, 0.55, 0, 2000),
    _session_of(1000, 2, 12, 0.6, 0, 1000),
    _session_of(50, 4, 8, 0.55, 20, 2000),
    _session_of(300, 4, 10, 0.5, 5, 1000),
)
_SIMULATED: tuple[Setting, ...] = tuple(
    {"kind": "law", "K": 4, "H": H, "p": 0.5, "attempts": 20_000} for H in (8, 16, 32, 48, 64, 96)
)
_REQUIRED = ((16, 0.25, 64), (4, 0.4, 64), (2, 0.6, 64), (64, 0.1, 32))
_QUICK_WALKS = (
    *(_walk(16, 0.25, 16, walk, 10) for walk in _WALKS),
    *(_walk(16, 0.25, H, "posterior", 10) for H in (4, 8)),
)
_FULL_WALKS = (
    *(
        _walk(K, p, H, walk, 30)
        for K, p, H in _REQUIRED
        for walk in ("hoeffding", "chernoff", "exact", "sequential")
    ),
    *(_walk(K, p, H, "posterior", 10, first) for K, p, H in _REQUIRED for first in (0, 10, 20)),
    *(_walk(16, 0.25, 256, "posterior", 5, first) for first in range(0, 30, 5)),
    _walk(16, 0.25, 32, "posterior", 10),
    _walk(16, 0.25, 128, "posterior", 4),
    *(_walk(16, 0.25, H, "posterior", 1) for H in (512, 1024)),
    *(
        _walk(16, 0.25, H, walk, paths)
        for walk in ("sequential", "chernoff")
        for H, paths in ((4, 10), (32, 10), (128, 3), (256, 2))
    ),
    _walk(16, 0.25, 64, "sequential_unknown", 4),
    _walk(16, 0.25, 64, "posterior_unknown", 10),
)


# ---- measuring -----------------------------------------------------------------------------------


def _session(s: Setting) -> Iterator[Row]:
    """The Bayes learner through a session, on as many secret paths as attempts."""
    K, H, p, N = s["K"], s["H"], s["p"], s["N"]
    paths = [HiddenPath(K, H, p, seed=i) for i in range(s["attempts"])]
    learner = get_learner(f"root_bayes:n={N},rewards={s['M']}")
    result = run_each(learner, paths, s["seed"], "root/topk(1)+reward")
    exact = limits.root_success(N, K, H, p, s["M"])
    yield {"passed": sum(a.passed for a in result.attempts), "exact": exact}


def _law(s: Setting) -> Iterator[Row]:
    """Attempts at the N of half success, up to 10^30 and beyond, drawn through D alone."""
    K, H, p, attempts = s["K"], s["H"], s["p"], s["attempts"]
    N = limits.root_rollouts(0.5, K, H, p)
    rng = keyed_rng(stream_key(s["seed"], "hidden-path", "law"))
    depth = limits.root_depths(N, H, p, rng.random(attempts))
    unknown = np.maximum(0, H - 1 - depth)
    passed = int((rng.random(attempts) < float(K) ** -unknown).sum())
    exact = limits.root_success(N, K, H, p)
    yield {"log_half": math.log(N), "half": str(N), "passed": passed, "exact": exact}


def _walked(s: Setting) -> Iterator[Row]:
    """A local-reset learner on several paths: draws and whether the path was found."""
    K, H, p, first = s["K"], s["H"], s["p"], s["first"]
    paths = [HiddenPath(K, H, p, seed=first + i) for i in range(s["paths"])]
    learner = get_learner(_spec(s["walk"], K, H, p))
    result = run_each(learner, paths, s["seed"], "visited/sample+reward")
    floor = limits.capacity_floor(K, H, p)
    errors = [None if a.error is None else str(a.error) for a in result.attempts]
    for a, error in zip(result.attempts, errors, strict=True):
        yield {"draws": a.cost.queries, "passed": a.passed, "floor": floor, "error": error}


def _spec(walk: str, K: int, H: int, p: float) -> str:
    if walk in ("hoeffding", "chernoff", "exact"):
        return f"plurality_walk:draws_per_token={limits.plurality_draws(K, H, p, DELTA, walk)}"
    name, _, unknown = walk.partition("_")
    learner = {"sequential": "plurality_walk_sequential", "posterior": "posterior_walk"}[name]
    return f"{learner}:delta={DELTA}" + ("" if unknown else f",p={p}")


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    sessions = "S_root is the success of root_bayes through a session"
    law = "S_root is the success of attempts at the N of half success, exactly in law"
    return [
        *banded(sessions, where(rows, kind="session"), error=ERROR),
        *banded(law, where(rows, kind="law"), error=ERROR),
        _slope(rows),
        _promises(rows),
        *_margins(rows),
        *_linear(rows),
    ]


def _slope(rows: Sequence[Row]) -> Check:
    """log N of half success against H: the slope tends to log(1/p)."""
    points = sorted((r["H"], r["log_half"]) for r in where(rows, kind="law"))
    (h0, n0), (h1, n1) = points[-2], points[-1]
    slope = (n1 - n0) / (h1 - h0)
    return Check(
        "half success takes 1/p times as many rollouts per token",
        abs(slope - math.log(2)) < 1e-6,
        f"slope of log N between H = {h0} and {h1}: {slope:.7f}; log(1/p) = {math.log(2):.7f}",
    )


def _groups(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in where(rows, kind="walk"):
        found[row["K"], row["p"], row["H"], row["walk"]].append(row)
    return found


def _ratio(rows: Sequence[Row]) -> tuple[float, float]:
    """Mean of draws / floor and its standard error."""
    ratios = np.array([r["draws"] / r["floor"] for r in rows])
    error = float(ratios.std(ddof=1) / math.sqrt(len(ratios))) if len(ratios) > 1 else 0.0
    return float(ratios.mean()), error


def _per_walk(rows: Sequence[Row], walk: str) -> list[tuple[int, list[Row]]]:
    """H and rows of a walk at K = 16, p = 1/4."""
    return sorted(
        (key[2], r) for key, r in _groups(rows).items() if key == (16, 0.25, key[2], walk)
    )


def _mean(rows: Sequence[Row]) -> float:
    return float(np.mean([r["draws"] for r in rows]))


def _promises(rows: Sequence[Row]) -> Check:
    """Every learner fails at most at rate delta: counts against the binomial, 1e-3 for all."""
    groups = _groups(rows)
    bad: list[str] = []
    for key, found in groups.items():
        failed = len(found) - total(found, "passed")
        if failed > stats.binom.ppf(1 - ERROR / len(groups), len(found), DELTA):
            bad.append(f"{key}: {failed} of {len(found)}")
    walks = where(rows, kind="walk")
    said = f"{len(walks) - total(walks, 'passed')} of {len(walks)} walks failed"
    said += f"; too often: {'; '.join(bad)}" if bad else ""
    return Check(f"local-reset learners fail with probability at most {DELTA}", not bad, said)


def _margins(rows: Sequence[Row]) -> Iterator[Check]:
    for (K, p, H, walk), found in _groups(rows).items():
        if walk == "posterior" and len(found) >= 10 and H >= 16:
            most = _MARGIN.get((K, p, H), 2.6)
            mean, error = _ratio(found)
            name = (
                f"posterior walk at (K, p, H) = ({K}, {p:g}, {H}): at most {most} times the floor"
            )
            said = f"{mean:.2f} ± {error:.2f} times; {total(found, 'passed')} of {len(found)} found"
            yield Check(name, mean <= most, said)


def _linear(rows: Sequence[Row]) -> Iterator[Check]:
    """Draws of the posterior walk per token do not grow with H."""
    each = {H: _mean(found) / H for H, found in _per_walk(rows, "posterior") if H >= 16}
    if len(each) < 2:
        return
    low, high = min(each.values()), max(each.values())
    said = f"{low:.1f} to {high:.1f} draws per token for H = {min(each)} … {max(each)}"
    yield Check("draws of the posterior walk grow linearly in H", high <= 1.25 * low, said)


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    sessions = [r | {"rate": rate(r["passed"], r["attempts"])} for r in where(rows, kind="session")]
    head = "N | K | H | p | M rewards | S_root exact | measured | attempts"
    cells = "{N} | {K} | {H} | {p:g} | {M} | {exact:.5f} | {rate} | {attempts}"
    return [
        grid([_success_plot(rows), _cost_plot(rows)]),
        table_of(head, cells, sessions, text=0),
        grid([_floor_plot(rows)]),
        _walk_table(rows),
    ]


def _success_plot(rows: Sequence[Row]) -> str:
    grid = np.unique(np.geomspace(1, 1e12, 60).astype(int)).tolist()
    lines: list[Line] = []
    for style, H in enumerate((8, 16, 24, 32)):
        label = "" if style else "exact, H = 8, 16, 24, 32"
        lines.append(Line.law(label, grid, lambda N, H=H: limits.root_success(int(N), 4, H, 0.5)))
        for r in where(rows, kind="law", H=H):
            count, at = (r["passed"], r["attempts"]), math.exp(r["log_half"])
            lines.append(Line.rates(f"measured, H = {H}", [at], [count], "root", style))
    axes = Axes("root-start rollouts N", "success", log_x=True, y_range=(0, 1.03))
    return plot("hidden-success", "S_root(N) at K = 4, p = 1/2", axes, lines)


def _cost_plot(rows: Sequence[Row]) -> str:
    """Half success from the root and success 0.95 with resets, against H."""
    law = sorted((r["H"], math.exp(r["log_half"])) for r in where(rows, kind="law"))
    horizons, checked = list(range(2, 97, 2)), "checked by attempts drawn in law"
    exact = "half success from the root, exact (K = 4, p = 1/2)"
    lines = [
        Line.law(exact, horizons, lambda H: limits.root_rollouts(0.5, 4, H, 0.5)),
        Line(checked, [h for h, _ in law], [n for _, n in law], color="root", points=True),
    ]
    for style, (walk, label) in enumerate(_WALKS.items()):
        points = [(H, _mean(found)) for H, found in _per_walk(rows, walk) if max(horizons) >= H]
        if len(points) > 2:
            x, y = zip(*points, strict=True)
            lines.append(Line(f"{label} (K = 16, p = 1/4)", x, y, color="visited", style=style))
    axes = Axes("horizon H", "rollouts or conditional draws", log_y=True, y_range=(1, 1e30))
    return plot("hidden-cost", "What finding the path costs", axes, lines)


def _floor_plot(rows: Sequence[Row]) -> str:
    lines: list[Line] = []
    for style, (walk, label) in enumerate(_WALKS.items()):
        points = [(H, *_ratio(found)) for H, found in _per_walk(rows, walk)]
        if points:
            x, y, e = np.array(points).T
            color = "chosen" if walk.startswith("posterior") else "visited"
            parts = [part.tolist() for part in (x, y, y - 2 * e, y + 2 * e)]
            lines.append(Line(label, *parts, color=color, style=style))
    ticks = (4, 16, 64, 256, 1024)
    axes = Axes("horizon H", "draws / capacity floor", True, True, x_ticks=ticks, horizontal=1.0)
    caption = "Draws over the capacity floor, K = 16, p = 1/4, δ = 0.05"
    return plot("hidden-floor", caption, axes, lines)


def _walk_table(rows: Sequence[Row]) -> Table:
    shown: list[Row] = []
    for (*_, walk), found in _groups(rows).items():
        mean, error = _ratio(found)
        counts = {"draws": _mean(found), "found": total(found, "passed"), "of": len(found)}
        times = Html(f"{mean:.2f} <small>± {error:.2f}</small>")
        shown.append(found[0] | counts | {"learner": _WALKS[walk], "times": times})
    head = "learner | K | p | H | draws | floor | times | found"
    cells = "{learner} | {K} | {p:g} | {H} | {draws:q} | {floor:q} | {times} | {found} of {of}"
    return table_of(head, cells, shown)


def _statement() -> tuple[str, ...]:
    n = from_log(math.log(limits.root_rollouts(0.5, 4, 64, 0.5)))
    return (
        "A secret path z is uniform on V<sup>H</sup>. On it the next token of z has probability p, off it all "
        "tokens are alike. With N root-start rollouts and FULL reports the best learner succeeds with probability "
        "S<sub>root</sub>(N, M) = Σ<sub>d</sub> Pr(D = d)·min(1, (M + 1)·K<sup>−n(d)</sup>), D the depth that the "
        f"best rollout reaches. Half success takes about log 2·p<sup>1−H</sup> rollouts: {n} at K = 4, p = 1/2, "
        "H = 64. Points at such N are drawn exactly in law from D; at small N the Bayes learner runs through "
        "sessions.",
        "With local resets and conditional samples H·m draws suffice. The floor H·log K/C, C the capacity of one "
        "draw, holds for every such learner; the posterior walk stays within twice the floor at every H.",
    )


EXPERIMENT = Experiment(
    id="hidden-path",
    claim="exponential in the horizon from the root, linear with local resets",
    statement=_statement(),
    settings=(*_SESSIONS, *_SIMULATED, *_QUICK_WALKS, *_FULL_WALKS),
    quick=(0, 1, *range(8, 14 + len(_QUICK_WALKS))),
    measure=by_kind(session=_session, law=_law, walk=_walked),
    check=_check,
    show=_show,
)
