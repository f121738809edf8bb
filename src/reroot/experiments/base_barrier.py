"""The base-model barrier: what outcome rewards cost where the base finds the right answer unlikely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..diagnosis.likelihood_quantile import explored, likelihood_quantile, token_likelihood_quantile
from ..families.staircase import Staircase
from ..pages.kit.cells import table_of
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from ..randomness import keyed_rng, stream_key
from ..runs.run import run
from ..training.likelihood_gradient import pg_or, pg_pr
from . import centres
from .base import Check, Experiment, Row, Setting, where
from .base_barrier_fits import SWEEPS, fitted, sweep_check, sweep_row
from .likelihood_events import Gaps, outcome, outcome_fixed, process
from .measuring import by_kind, setting_of
from .plots import Axes, Line, plot

_sweep = setting_of("sweep", "sweep at runs")
_stair = setting_of("stair", "epsilon runs")
_session = setting_of("session", "method rounds runs")
_centres = setting_of("centres", "N K d m untrained reward steps batch")

_REWARDS = ("outcome", "process", "walks")
_EPSILONS = (0.6, 0.3, 0.15, 0.08, 0.04)
_QUICK = (
    *(_sweep("or 1/Q", at, 3) for at in (10, 40)),
    _stair(0.3, 3),
    _session("pg_or", 300, 6),
    _session("pg_pr", 20, 6),
    *(_centres(8, 4, 32, 16, 4, reward, 300, 64) for reward in _REWARDS),
)
_FULL = (
    *(_sweep(name, at, 4) for name, sweep in SWEEPS.items() for at in sweep.sizes),
    *(_stair(epsilon, 4) for epsilon in _EPSILONS),
    _session("pg_or", 1000, 12),
    _session("pg_pr", 40, 12),
    *(_centres(16, 4, 32, 16, 4, reward, 4000, 256) for reward in _REWARDS),
)
_LARGE = tuple(_centres(128, 32, 32, 32, 4, reward, 4000, 1024) for reward in _REWARDS)

# ---- measuring -----------------------------------------------------------------------------------


def _swept(s: Setting) -> Iterator[Row]:
    for i in range(s["runs"]):
        rng = keyed_rng(stream_key(i, "base-model-barrier", f"{s['sweep']} {s['at']}"))
        yield {"run": i, **sweep_row(s["sweep"], s["at"], rng)}


def _stairs(s: Setting) -> Iterator[Row]:
    """Queries to be right with 1 − ε on seven steps, by three ways."""
    family, epsilon = Staircase(4, 9, 7), s["epsilon"]
    N, logs, tokens = 7, family.log_likelihoods(), family.token_log_likelihoods()
    q = explored(logs, N * math.log(4))
    mixed = np.exp(explored(tokens, math.log(4)))
    half = likelihood_quantile(q, epsilon / 2, family.law)
    tries = math.ceil(4 * math.log(4 * N / epsilon))
    for i in range(s["runs"]):
        rng = keyed_rng(stream_key(i, "base-model-barrier", f"stair {epsilon}"))
        goal, p = 1 - epsilon, np.exp(q)
        fixed = outcome_fixed(Gaps(tokens, 4, family.law), goal, rng, proposals=p)
        best = outcome(
            Gaps(tokens, 4, family.law), goal, rng, proposals=p, m=math.ceil(1 / half), own=True
        )
        steps = process(Gaps(tokens, 4, family.law), goal, rng, proposals=mixed, tries=tries)
        yield {
            "run": i,
            "quantile": likelihood_quantile(q, epsilon, family.law),
            "token_quantile": token_likelihood_quantile(np.log(mixed), epsilon, family.law),
            "outcome": fixed.queries,
            "best": best.queries,
            "process": steps.queries,
        }


def _sessions(s: Setting) -> Iterator[Row]:
    """Real sessions on a small staircase beside as many simulated runs, tenfold."""
    for i in range(s["runs"]):
        policy = Staircase(3, 5, 3, seed=i)
        base, tokens = policy.weights, policy.token_log_likelihoods()
        more = {"policy": policy, "rounds": s["rounds"], "base": base}
        if s["method"] == "pg_or":
            learner = pg_or(own=False, proposals=1, batch=100, **more)
        else:
            learner = pg_pr(tries=3, **more)
        grants = str(learner.requires)
        (one,) = run(learner, [policy.problem()], policy, grants=grants, seed=i).attempts
        known = _simulated(s, tokens, i)
        yield {
            "run": i,
            "grants": grants,
            "queries": one.cost.rewards + one.cost.verifications,
            "success": policy.success(),
            "known": [float(x) for x in known.mean(axis=0)],
            "spread": [float(x) for x in known.std(axis=0)],
        }


def _simulated(s: Setting, tokens: np.ndarray, i: int) -> np.ndarray:
    """(10, 2) queries and success after as many rounds."""
    law, N = np.array([0.5, 0.25, 0.25]), tokens.shape[1]
    rng = keyed_rng(stream_key(i, "base-model-barrier", f"events {s['method']}"))
    rows: list[tuple[float, float]] = []
    for _ in range(10):
        gaps = Gaps(tokens, 3, law)
        if s["method"] == "pg_or":
            q = np.exp(explored(tokens.sum(axis=1), N * math.log(3)))
            found = outcome(gaps, 2.0, rng, proposals=q, rounds=s["rounds"])
        else:
            q = np.exp(explored(tokens, math.log(3)))
            found = process(gaps, 2.0, rng, proposals=q, tries=3, rounds=s["rounds"])
        rows.append((found.queries, found.success))
    return np.array(rows)


def _lifted(s: Setting) -> Iterator[Row]:
    world = centres.make(s["N"], s["K"], s["d"], s["m"], s["untrained"], 1000, 256, 0)
    found = centres.train(world, s["reward"], s["steps"], s["batch"], 0)
    for x in range(s["m"]):
        yield {
            "centre": x,
            "bad": x >= s["m"] - s["untrained"],
            "before": float(found.before[x]),
            "after": float(found.after[x]),
            "lowest": float(found.lowest[x]),
            "rewarded": int(found.rewarded[x]),
            "queries": found.queries,
            "rollouts": s["steps"] * s["batch"],
        }


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    return [
        *(check for name in SWEEPS for check in sweep_check(name, where(rows, kind="sweep"))),
        *_stair_checks(where(rows, kind="stair")),
        *_session_checks(where(rows, kind="session")),
        *_centre_checks(where(rows, kind="centres")),
    ]


def _stair_checks(rows: Sequence[Row]) -> Iterator[Check]:
    if not rows:
        return
    ratio = [r["outcome"] / r["process"] for r in rows if r["epsilon"] <= 0.3]
    yield Check(
        "on the staircase the process reward is cheaper, from ε = 0.3 down",
        all(x > 1 for x in ratio),
        f"by factors of {min(ratio):.1f} to {max(ratio):.0f}",
    )
    for way, stated in (("outcome", 1.0), ("best", 1.0)):
        costs: dict[int, list[float]] = {}
        for r in rows:
            costs.setdefault(round(1 / r["quantile"]), []).append(r[way])
        line = fitted(f"stair {way}", costs)
        if line is not None:
            yield Check(
                f"{_WAYS[way]}: queries grow at least as 1/Q(ε)",
                line.high > stated,
                f"exponent {line.slope:.2f} ({line.low:.2f} to {line.high:.2f}) over {len(costs)} sizes",
            )


_WAYS = {"outcome": "outcome, one draw of q", "best": "outcome, best of m", "process": "process"}


def _session_checks(rows: Sequence[Row]) -> Iterator[Check]:
    for method in ("pg_or", "pg_pr"):
        mine = where(rows, method=method)
        apart: list[float] = []
        for k, name in enumerate(("queries", "success")):
            z = [(r[name] - r["known"][k]) for r in mine]
            var = [r["spread"][k] ** 2 * (1 + 1 / 10) for r in mine]
            apart.append(sum(z) / math.sqrt(max(sum(var), 1e-12)))
        yield Check(
            f"{method} in sessions spends and learns as the simulation without waiting does",
            all(abs(z) < 4.5 for z in apart),
            f"{len(mine)} runs, queries {apart[0]:+.1f} and success {apart[1]:+.1f} standard errors apart; "
            f"{mine[0]['grants']}",
        )


def _centre_checks(rows: Sequence[Row]) -> Iterator[Check]:
    for N in sorted({r["N"] for r in rows}):
        mine = where(rows, N=N)
        bad = where(mine, bad=True)
        orm, prm, walks = (where(bad, reward=reward) for reward in _REWARDS)
        bound = sum(r["rollouts"] / r["m"] * math.exp(r["before"]) for r in orm)
        yield Check(
            f"N = {N}: the outcome reward lifts no centre that the base was not trained on",
            not any(r["rewarded"] for r in orm) and all(r["after"] < r["before"] for r in orm),
            f"0 rewards expected from {orm[0]['rollouts']:,} rollouts but for {bound:.1e}; log p "
            + ", ".join(f"{r['before']:.0f} → {r['after']:.0f}" for r in orm),
        )
        yield Check(
            f"N = {N}: PG-PR, which walks along right prefixes, lifts all of them",
            all(r["after"] > max(-1.0, r["before"]) for r in walks),
            "p "
            + ", ".join(f"{math.exp(r['after']):.3f}" for r in walks)
            + f" with {walks[0]['queries']:,} verifications; on-policy rollouts with a process reward: log p "
            + ", ".join(f"{r['before']:.0f} → {r['after']:.2f}" for r in prm),
        )


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    return [grid([_staircase(rows), _lift(rows)]), _table(rows)]


def _staircase(rows: Sequence[Row]) -> str:
    mine = where(rows, kind="stair")
    lines: list[Line] = []
    for style, (way, label) in enumerate(_WAYS.items()):
        at = sorted({r["quantile"] for r in mine}, reverse=True)
        y = [float(np.mean([r[way] for r in where(mine, quantile=q)])) for q in at]
        color = "visited" if way == "process" else "root"
        lines.append(Line(label, [1 / q for q in at], y, color=color, style=style))
    axes = Axes("1/Q(ε)", "queries to be right with 1 − ε", True, True)
    return plot("staircase", "Staircase, K = 4, N = 7, seven steps", axes, lines)


_REWARD_NAMES = {"outcome": "outcome reward", "process": "process reward", "walks": "PG-PR"}
_LOOKS = (("outcome", "root"), ("process", "visited"), ("walks", "reset"))


def _lift(rows: Sequence[Row]) -> str:
    mine = where(rows, kind="centres")
    N = max(r["N"] for r in mine)
    lines: list[Line] = []
    for style, (reward, color) in enumerate(_LOOKS):
        for bad in (False, True):
            part = where(mine, N=N, reward=reward, bad=bad)
            label = f"{_REWARD_NAMES[reward]}, centres {'not ' if bad else ''}trained on"
            x, y = [r["before"] for r in part], [r["after"] for r in part]
            lines.append(Line(label, x, y, color=color, style=2 * style + bad, points=True))
    low = min(min(r["before"], r["after"]) for r in where(mine, N=N))
    lines.append(Line.law("unchanged", [low, 0.0], lambda x: x))
    axes = Axes("log p(y*|x) of the base, nats", "after training, nats")
    return plot("centres", f"Right answers of single centres, N = {N}", axes, lines)


def _table(rows: Sequence[Row]) -> Table:
    shown: list[Row] = []
    for name, sweep in SWEEPS.items():
        line = fitted(name, _costs(where(rows, kind="sweep", sweep=name)), sweep.exponential)
        if line is not None:
            shown.append(
                {
                    "what": sweep.what,
                    "sizes": ", ".join(map(str, sweep.sizes)),
                    "stated": sweep.stated,
                    "slope": line.slope,
                    "between": f"{line.low:.2f} to {line.high:.2f}",
                }
            )
    if not shown:
        return Table([], [])
    head = "queries against | sizes | stated exponent | measured | 95 % interval"
    return table_of(
        head, "{what} | {sizes} | {stated:.2f} | {slope:.2f} | {between}", shown, text=2
    )


def _costs(rows: Sequence[Row]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for r in rows:
        found.setdefault(r["at"], []).append(r["cost"])
    return found


_STATEMENT = (
    "A linear autoregressive softmax policy with one right answer for each context, trained by policy gradient with "
    "the adaptive step (arXiv 2603.06957). With the outcome reward only a whole right answer moves the policy, so that "
    "queries grow as 1/Q(ε), the likelihood of the right answer that all but a share ε of the contexts exceed under "
    "the proposals. With the process reward each right token moves it, and the least likelihood of a token counts.",
    "The staircase has contexts 2<sup>−j</sup> of the time whose right answer has likelihood 4<sup>−j</sup>. Rounds "
    "that move nothing are skipped by a geometric draw; that this has the law of the sessions is checked. The centres "
    "are contexts in R<sup>d</sup>; the base was trained on all but four.",
)

EXPERIMENT = Experiment(
    id="base-model-barrier",
    claim="outcome rewards cost 1/Q of the base model's likelihood of right answers, process rewards that of single tokens",
    statement=_STATEMENT,
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=by_kind(sweep=_swept, stair=_stairs, session=_sessions, centres=_lifted),
    check=_check,
    show=_show,
)
"""In a minute or so."""

LARGE = Experiment(
    id="base-model-barrier-large",
    claim="at the size of the paper's own synthetic experiment, outcome rewards never lift what the base was not trained on",
    statement=_STATEMENT,
    settings=_LARGE,
    quick=(),
    measure=by_kind(centres=_lifted),
    check=lambda rows: list(_centre_checks(rows)),
    show=lambda rows: [_lift(rows)],
    alone=True,
)
"""In about ten minutes."""
