"""KL-regularized outcome reward: what a policy can be worth after N rollouts, and after N resets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from .. import limits
from ..families.hidden_path import HiddenPath
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.plots import grid
from ..pages.kit.table import Part
from ..types import FloatArray
from .base import Check, Experiment, Row, Setting, total, where
from .counts import ERROR, banded, rarely
from .measuring import by_kind, run_each, setting_of
from .plots import Axes, Line, plot

K, P, DELTA = 4, 0.5, 0.05
_HORIZONS = (8, 16, 24, 32, 48, 64)

_root_of = setting_of("root", "K H p N attempts")
_reset_of = setting_of("reset", "H learner paths")

_EXACT = tuple(setting_of("exact", "H")(H) for H in _HORIZONS)
_ROOT = (
    *(_root_of(2, 5, 0.6, N, 200) for N in (1, 4, 16)),
    *(_root_of(3, 4, 0.5, N, 1000) for N in (4, 20)),
    *(_root_of(2, 6, 0.7, N, 1000) for N in (2, 8)),
)
_RESET = (
    *(_reset_of(H, "posterior", 20) for H in (8, 16, 24, 32, 48, 64)),
    *(_reset_of(8, f"plurality:{m}", 400) for m in (5, 15)),
    *(_reset_of(16, f"plurality:{m}", 400) for m in (10, 20)),
    *(_reset_of(32, f"plurality:{m}", 200) for m in (15, 30)),
    *(_reset_of(64, f"plurality:{m}", 100) for m in (20, 40)),
)


# ---- measuring -----------------------------------------------------------------------------------


def _exact(s: Setting) -> Iterator[Row]:
    """J*, and the rollouts that reach half of it."""
    H = s["H"]
    beta = limits.balancing_beta(H, P)
    best = limits.optimal_value(K, H, P, beta)
    half = limits.root_value_rollouts(best / 2, K, H, P, beta)
    below = limits.root_value(half - 1, K, H, P, beta)
    m = limits.plurality_draws(K, H, P, DELTA)
    found = (1.0 - limits.plurality_error(K, P, m)) ** H
    yield {
        "beta": beta,
        "best": best,
        "half": str(half),
        "log_half": math.log(half),
        "power": (half - 1).bit_length(),
        "at_half": limits.root_value(half, K, H, P, beta),
        "below_half": below,
        "steered_at_half": limits.steered_root_value(half, K, H, P, beta),
        "draws": H * m + 1,
        "reset_value": found * best,
    }


def _root(s: Setting) -> list[Row]:
    """Root-start learners through sessions; the exact worth of the policies they return.

    Each attempt tells how many tokens it could read. The explicit Bayes law and the steered
    generator that follow from that are evaluated exactly against the secret path.
    """
    k, H, p, N = s["K"], s["H"], s["p"], s["N"]
    beta = limits.balancing_beta(H, p)
    paths = [HiddenPath(k, H, p, seed=i) for i in range(s["attempts"])]
    result = run_each(get_learner(f"root_bayes:n={N}"), paths, s["seed"], "root/topk(1)")
    known = [int(a.metadata["known"]) for a in result.attempts]
    explicit = {d: _explicit_worth(k, H, p, d, beta) for d in set(known)}
    steered = {d: _steered_worth(k, H, p, d, beta) for d in set(known)}
    best, rows = limits.optimal_value(k, H, p, beta), list[Row]()
    for name, worth, limit in (
        ("explicit law", explicit, limits.root_value(N, k, H, p, beta)),
        ("steered generator", steered, limits.steered_root_value(N, k, H, p, beta)),
    ):
        values = np.array([worth[d] for d in known])
        row: Row = {"policy": name, "mean": float(values.mean())}
        row["error"] = float(values.std(ddof=1) / math.sqrt(len(values)))
        rows.append(row | {"limit": limit, "best": best})
    return rows


def _explicit_worth(k: int, H: int, p: float, known: int, beta: float) -> float:
    """E_z J(π) of the Bayes law π given that many known tokens, by enumeration of strings and z."""
    strings = np.array(list(itertools.product(range(k), repeat=H)))
    paths = strings[(strings[:, :known] == 0).all(axis=1)]  # known tokens are 0, as well as any
    masses = np.stack([_log_masses(strings, z, k, p) for z in paths])
    right = (strings[None] == paths[:, None]).all(axis=2)
    score = masses.mean(axis=0) + right.mean(axis=0) / beta
    law = score - np.logaddexp.reduce(score)
    worth = np.exp(law) * (right - beta * (law - masses))
    return float(worth.sum(axis=1).mean())


def _steered_worth(k: int, H: int, p: float, known: int, beta: float) -> float:
    """J(P·e^θ) with θ on the known tokens alone: the generator goes on where the path is unknown.

    By backward induction along the path, soft value V(u) = β·log Σ_a P(a|u)·e^(V(ua)/β).
    """
    worth = p ** (H - known)
    for _ in range(known):
        worth = beta * math.log(p * math.exp(worth / beta) + (1.0 - p))
    return worth


def _log_masses(strings: FloatArray, path: FloatArray, k: int, p: float) -> FloatArray:
    """(strings,) log P_z(y)."""
    on = np.cumprod(strings == path, axis=1)
    before = np.column_stack([np.ones(len(strings)), on[:, :-1]])
    hit = np.where(strings == path, math.log(p), math.log((1.0 - p) / (k - 1)))
    return np.where(before > 0, hit, -math.log(k)).sum(axis=1)


def _reset(s: Setting) -> Iterator[Row]:
    """A local-reset learner, one outcome reward, then the tilt of what it found, or P on a miss."""
    H = s["H"]
    name, _, m = s["learner"].partition(":")
    spec = f"plurality_walk:draws_per_token={m}" if m else f"posterior_walk:p={P},delta={DELTA}"
    paths = [HiddenPath(K, H, P, seed=i) for i in range(s["paths"])]
    result = run_each(get_learner(spec), paths, s["seed"], "visited/sample")
    beta = limits.balancing_beta(H, P)
    best = limits.optimal_value(K, H, P, beta)
    exact = None
    if name == "plurality":
        exact = (1.0 - limits.plurality_error(K, P, int(m))) ** H * best
    passed = sum(a.passed for a in result.attempts)
    draws = float(np.mean([a.cost.queries for a in result.attempts])) + 1  # and the reward query
    yield {"passed": passed, "draws": draws, "best": best, "exact": exact}


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    exact, root, reset = (where(rows, kind=kind) for kind in ("exact", "root", "reset"))
    powers = {r["H"]: r["power"] for r in exact}
    above = [(r["mean"] - r["limit"]) / r["error"] if r["error"] else 0.0 for r in root]
    return [
        Check(
            "J* stays near R/2 at β = R/(2H log(1/p))",
            all(abs(r["best"] - 0.5) < 1e-3 for r in exact),
            ", ".join(f"{r['best']:.6f} at H = {r['H']}" for r in exact[:3]),
        ),
        Check(
            "the rollouts that reach J*/2 double with every token: the first power of 2 is 2^(H-1)",
            all(power == H - 1 for H, power in powers.items()),
            ", ".join(f"2^{power} at H = {H}" for H, power in powers.items()),
        ),
        Check(
            "local reset gets at least (1 - δ)·J* with H·m + 1 queries",
            all(r["reset_value"] >= (1 - DELTA) * r["best"] for r in exact),
            ", ".join(f"{r['reset_value']:.4f} with {r['draws']:,} at H = {r['H']}" for r in exact),
        ),
        Check(
            "measured root-start policies are worth what the exact limits say, and no more",
            all(bool(abs(z) < 4.4) for z in above),  # 1e-5 each
            f"largest excess {max(above, default=0):+.1f} and deficit {min(above, default=0):+.1f} "
            "standard errors",
        ),
        *_reset_checks(reset),
    ]


def _reset_checks(rows: Sequence[Row]) -> Iterator[Check]:
    fixed = [r | {"exact": r["exact"] / r["best"]} for r in rows if r["exact"] is not None]
    walks = where(rows, exact=None)
    missed, of = total(walks, "paths") - total(walks, "passed"), total(walks, "paths")
    name = "the posterior walk's policy is worth (1 - δ)·J* or more"
    known = "fixed m: the value is the exact plurality success times J*"
    yield rarely(name, missed, of, DELTA, "walks missed")
    yield from banded(known, fixed, "paths", ERROR)


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    halves = "H | β | J* | rollouts N½ to J*/2 | within | steered limit at N½ | "
    halves += "reset: H·m + 1 queries | reset: value"
    half = "{H} | {beta:.5f} | {best:.6f} | {log_half:log3} | 2<sup>{power}</sup> | {steered_at_half:.4f} | "
    half += "{draws:,} | {reset_value:.5f}"
    head = "policy returned | N | K | H | p | J measured | exact limit | J*"
    cells = "{policy} | {N} | {K} | {H} | {p:g} | {mean:+.5f} <small>± {error:.5f}</small> | "
    return [
        grid([_half_plot(rows)]),
        table_of(halves, half, where(rows, kind="exact"), text=0),
        grid([_budget_plot(H, rows) for H in (8, 16, 32, 64)]),
        table_of(head, cells + "{limit:+.5f} | {best:.5f}", where(rows, kind="root")),
    ]


def _half_plot(rows: Sequence[Row]) -> str:
    exact, walks = where(rows, kind="exact"), where(rows, kind="reset", exact=None)
    half, walk = "root-start rollouts to J*/2, exact", "posterior walk and one reward, measured"
    reset = "local reset: H·m + 1 queries for (1 − δ)J*, exact"
    at, x, draws = [r["H"] for r in exact], [r["H"] for r in walks], [r["draws"] for r in walks]
    lines = [
        Line(half, at, [math.exp(r["log_half"]) for r in exact], color="root"),
        Line(reset, at, [r["draws"] for r in exact], color="reset", style=1),
        Line(walk, x, draws, color="visited", style=2, points=True),
    ]
    axes = Axes("horizon H", "rollouts or queries", log_y=True)
    return plot("kl-half", "Budget for the KL-regularized objective, K = 4, p = 1/2", axes, lines)


def _budget_plot(H: int, rows: Sequence[Row]) -> str:
    """J against the budget in generated tokens, for both interfaces."""
    beta = limits.balancing_beta(H, P)
    best = limits.optimal_value(K, H, P, beta)
    N = np.unique(np.geomspace(1, max(1e4, 40.0 * 2.0**H), 90).astype(object)).tolist()
    counts = [int(n) for n in N]
    tokens = [float(n) * H for n in counts]
    steered = [limits.steered_root_value(n, K, H, P, beta) for n in counts]
    root = [limits.root_value(n, K, H, P, beta) for n in counts]
    m = list(range(1, 60))
    spent = [float(H * i + 1) for i in m]
    reset = [(1.0 - limits.plurality_error(K, P, i)) ** H * best for i in m]
    named = "root-start, steered generator (exact limit)"
    lines = [
        Line("root-start, explicit law (exact limit)", tokens, root, exact=True),
        Line(named, tokens, steered, color="muted", exact=True),
        Line("local reset, m draws per token (exact)", spent, reset, color="reset", exact=True),
    ]
    mine = where(rows, kind="reset", H=H)
    for color, style, name, walks in (
        ("reset", 1, "plurality", [r for r in mine if r["exact"] is not None]),
        ("visited", 2, "posterior", where(mine, exact=None)),
    ):
        if walks:
            x, y = [r["draws"] for r in walks], [r["passed"] / r["paths"] * best for r in walks]
            label = f"{name} walk, measured"
            lines.append(Line(label, x, y, color=color, style=style, points=True))
    axes = Axes("generated tokens", "J_β", log_x=True, horizontal=best)
    return plot(f"kl-budget-{H}", f"J_β against budget at H = {H}; dashed: J*", axes, lines)


EXPERIMENT = Experiment(
    id="kl-gap",
    claim="the interface alone makes an exponential gap for KL-regularized outcome reward",
    statement=(
        "J<sub>β</sub>(π) = E[r] − β·KL(π ‖ P) with r = 1 on the secret path. J* is attained by π* ∝ P·e<sup>r/β</sup>; "
        "β = R/(2H log(1/p)) keeps J* near R/2 at every horizon.",
        "After N root-start rollouts the best explicit law is worth Σ<sub>d</sub> Pr(D = d)·J<sub>d</sub>. That can be "
        "less than 0, the value of the generator itself, so it is no limit for learners that return a modification "
        "of the generator, π ∝ P·e<sup>θ</sup>, as training does: for those the exact limit is "
        "Σ<sub>d</sub> Pr(D = d)·β log(1 − p<sup>n0</sup> + p<sup>n0</sup>e<sup>p^n/β</sup>), with n0 known and n "
        "unknown tokens (θ = 0 is best where the path is unknown). Both need about 2<sup>H−1</sup> rollouts for J*/2 at "
        "p = 1/2. A local-reset learner asks H·m times, checks what it found with one outcome reward and tilts it, or "
        "falls back on P.",
    ),
    settings=(*_EXACT, *_ROOT, *_RESET),
    quick=(*range(9), 13, 14),
    measure=by_kind(exact=_exact, root=_root, reset=_reset),
    check=_check,
    show=_show,
)
