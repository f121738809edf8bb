"""Decoys: what is observed matters under control too, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from .. import limits
from ..access.learner import BoundLearner
from ..diagnosis.intervals import clopper_pearson
from ..families.decoy_path import DecoyPath
from ..families.many import ensemble
from ..learners.registry import get_learner
from ..pages.comparison.tables import dot, table
from ..pages.kit.formatting import from_log, quantity
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, counted, interval, where
from .baseline_learners import ask_all, guesses, root_plurality, root_reading
from .formulas import (
    at_most,
    inside,
    rollouts_for,
    root_logprob_success,
    root_plurality_failure,
)
from .plots import Axes, Line, plot

DELTA = 0.05
_ERROR = 1e-3  # of each statistical check
_K, _P0, _P1 = 12, 0.15, 0.13  # p1 > 1/(K - k) for k <= 4: one log-probability shows the path
_LEVELS = (1, 2, 3, 4)
_WALKS = ("argmax", "sample", "logprob", "full")


def _blind(K: int, H: int, k: int, p1: float, secrets: int, everywhere: bool) -> Setting:
    return {"kind": "blind", "K": K, "H": H, "k": k, "p1": p1, "secrets": secrets,
            "everywhere": everywhere}  # fmt: skip


def _guess(k: int, H: int, M: int, attempts: int) -> Setting:
    return {"kind": "guess", "k": k, "H": H, "M": M, "attempts": attempts}


def _walk(report: str, k: int, H: int, attempts: int) -> Setting:
    return {"kind": "walk", "report": report, "k": k, "H": H, "attempts": attempts}


def _root(report: str, k: int, H: int, success: float, attempts: int) -> Setting:
    return {"kind": "root", "report": report, "k": k, "H": H, "success": success,
            "attempts": attempts}  # fmt: skip


_QUICK = (
    *(_blind(7, 3, k, 0.16, 6, True) for k in _LEVELS),
    _guess(2, 2, 24, 300),
    *(_walk(report, 2, 4, 20) for report in _WALKS),
    _root("full", 2, 3, 0.5, 100),
)
_FULL = (
    *(_blind(_K, 16, k, _P1, 6, False) for k in _LEVELS),
    *(_guess(k, 2, M, 500) for k in _LEVELS for M in (0, 9, 40)),
    *(_walk(report, k, 8, 100) for k in _LEVELS for report in ("argmax", "sample", "full")),
    *(_walk("logprob", k, 8, 50) for k in _LEVELS),
    *(_walk(report, 2, H, 30) for H in (16, 32) for report in _WALKS),
    *(_root("full", k, H, 0.5, 400) for k in _LEVELS for H in (3, 4)),
    *(_root("logprob", k, 3, 0.5, 400) for k in _LEVELS),
    *(_root("sample", k, 2, 0.95, 100) for k in _LEVELS),
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(setting: Setting) -> list[Row]:
    kinds = {"blind": _asked, "guess": _guessed, "walk": _walked, "root": _rooted}
    return kinds[setting["kind"]](setting)


def _asked(s: Setting) -> list[Row]:
    """How many different answers the secrets give, under CHOSEN control, to ARGMAX(k), (k + 1)."""
    K, H, k = s["K"], s["H"], s["k"]
    secrets = [DecoyPath(K, H, k, 0.18 if s["everywhere"] else _P0, s["p1"], seed=i)
               for i in range(s["secrets"])]  # fmt: skip
    if s["everywhere"]:
        prefixes = [u for t in range(H) for u in itertools.product(range(K), repeat=t)]
    else:  # every prefix of every path: what a learner would ask that knew them all
        prefixes = sorted({member.path[:t] for member in secrets for t in range(H)})
    found: Row = {"prefixes": len(prefixes)}
    for name, report in (("blind", f"argmax({k})"), ("sees", f"argmax({k + 1})")):
        learner = ask_all(report=report, prefixes=prefixes)
        notes = [
            run(learner, [member.problem("it")], member, grants=f"chosen/{report}")
            .attempts[0]
            .metadata
            for member in secrets
        ]
        found[name] = len({note["digest"] for note in notes})
        found["refused"] = sum(note["refused"] for note in notes)
    return [found]


def _guessed(s: Setting) -> list[Row]:
    k, H, M = s["k"], s["H"], s["M"]
    learner = guesses(rewards=M, decoys=k)
    row = _run(learner, s, f"chosen/argmax({k})+reward")
    return [row | {"exact": math.exp(limits.log_blind_success(M, _K - k, H))}]


def _walked(s: Setting) -> list[Row]:
    k, H = s["k"], s["H"]
    m = limits.decoy_draws(_K, H, k, _P0, _P1, DELTA)
    spec = {
        "argmax": f"greedy_walk:decoys={k}",
        "sample": f"plurality_walk:draws_per_token={m},decoys={k}",
        "logprob": f"logprob_walk:decoys={k}",
        "full": f"law_walk:decoys={k}",
    }[s["report"]]
    learner = get_learner(spec)
    return [_run(learner, s, str(learner.requires)) | {"expected": _expected(s["report"], k, H)}]


def _rooted(s: Setting) -> list[Row]:
    report, k, H = s["report"], s["k"], s["H"]
    N = _rollouts(report, k, H, s["success"])
    if report == "sample":
        learner, exact = root_plurality(n=N, decoys=k), 1.0 - DELTA
    else:
        learner = root_reading(n=N, report=report, decoys=k)
        exact = _root_success(report, k, H)(N)
    return [_run(learner, s, f"root/{report}") | {"N": N, "exact": exact}]


def _run(learner: BoundLearner, s: Setting, grants: str) -> Row:
    """One attempt on each of as many secret paths as attempts."""
    paths = ensemble(
        [DecoyPath(_K, s["H"], s["k"], _P0, _P1, seed=i) for i in range(s["attempts"])]
    )
    result = run(learner, paths.problems(), paths, grants=grants, seed=s["seed"], on_error="record")
    queries = [a.cost.queries for a in result.attempts]
    return {
        "passed": sum(a.passed for a in result.attempts),
        "queries": float(np.mean(queries)),
        "least": min(queries),
        "most": max(queries),
        "errors": sum(a.error is not None for a in result.attempts),
    }


# ---- exact values --------------------------------------------------------------------------------


def _other(k: int) -> float:
    return (1.0 - k * _P0 - _P1) / (_K - k - 1)


def _expected(report: str, k: int, H: int) -> float:
    """Queries per path: exact, for LOGPROB on average."""
    draws = limits.decoy_draws(_K, H, k, _P0, _P1, DELTA)
    return {"argmax": H, "full": H, "logprob": H / _P1, "sample": H * draws}[report]


def _root_success(report: str, k: int, H: int):
    if report == "full":
        return lambda n: limits.root_success(n, _K - k, H, _P1)
    return lambda n: root_logprob_success(n, _K - k, H, _P1, _other(k))


def _rollouts(report: str, k: int, H: int, success: float) -> int:
    """Rollouts for that success: exact, for SAMPLE enough by the bound of ``root_plurality``."""
    if report == "sample":
        return rollouts_for(
            success, lambda n: 1.0 - root_plurality_failure(n, _K - k, H, _P1, _other(k))
        )
    if report == "full":
        return limits.root_rollouts(success, _K - k, H, _P1)
    return rollouts_for(success, _root_success(report, k, H))


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    return [
        *_blindness(where(rows, kind="blind")),
        _within(where(rows, kind="guess"), "(M + 1)/(K − k)^H is the success of M rewards, blind"),
        _finds(rows),
        _costs(rows),
        _waiting(where(rows, kind="walk", report="logprob")),
        _within(
            [r for r in where(rows, kind="root") if r["report"] != "sample"],
            "root-start reading succeeds as its exact law says",
        ),
        *_root_sample(where(rows, kind="root", report="sample")),
    ]


def _blindness(rows: Sequence[Row]) -> list[Check]:
    asked = sum(r["prefixes"] * r["secrets"] for r in rows)
    levels = sorted({r["k"] for r in rows})
    return [
        Check(
            "ARGMAX(k) answers the same whatever the secret is, at every prefix asked, bit by bit",
            all(r["blind"] == 1 and r["refused"] == 0 for r in rows),
            f"k = {levels}: {asked:,} reports under CHOSEN control, one answer in each setting",
        ),
        Check(
            "ARGMAX(k + 1) tells all secrets apart",
            all(r["sees"] == r["secrets"] for r in rows),
            f"as many answers as secrets in {len(rows)} settings",
        ),
    ]


def _within(rows: Sequence[Row], name: str) -> Check:
    """Counts inside exact binomial bands around the exact success, wrong with 1e-3 in all."""
    error = _ERROR / max(1, len(rows))
    good = [inside(r["passed"], r["attempts"], r["exact"], error) for r in rows]
    worst = max(abs(r["passed"] / r["attempts"] - r["exact"]) for r in rows)
    detail = f"{sum(good)} of {len(rows)} settings in their bands; largest difference {worst:.4f}"
    return Check(name, all(good), detail)


def _finds(rows: Sequence[Row]) -> Check:
    """Reports that show the path never fail; samples at most at rate delta."""
    sure = [r for r in where(rows, kind="walk") if r["report"] != "sample"]
    drawn = where(rows, kind="walk", report="sample")
    failed = sum(r["attempts"] - r["passed"] for r in drawn)
    total = sum(r["attempts"] for r in drawn)
    missed = sum(r["attempts"] - r["passed"] for r in sure)
    return Check(
        "ARGMAX(k + 1), LOGPROB and FULL find every path; SAMPLE fails at rate δ at most",
        missed == 0
        and at_most(failed, total, DELTA, _ERROR)
        and not any(r["errors"] for r in (*sure, *drawn)),
        f"{missed} of {sum(r['attempts'] for r in sure)} missed; with samples {failed} of {total} "
        f"(interval {interval(failed, total)}, δ = {DELTA})",
    )


def _costs(rows: Sequence[Row]) -> Check:
    fixed = [r for r in where(rows, kind="walk") if r["report"] != "logprob"]
    exact = [r["least"] == r["most"] == r["expected"] for r in fixed]
    return Check(
        "ARGMAX(k + 1) and FULL take H queries, SAMPLE takes H·m",
        all(exact),
        f"exact in {sum(exact)} of {len(exact)} settings",
    )


def _waiting(rows: Sequence[Row]) -> Check:
    """All draws of all paths are one negative binomial: two-sided test at 1e-3 in all."""
    tail = _ERROR / (2 * max(1, len(rows)))
    good, shown = [], []
    for r in rows:
        hits, total = r["H"] * r["attempts"], round(r["queries"] * r["attempts"])
        law = stats.nbinom(hits, _P1)
        good.append(bool(law.ppf(tail) <= total - hits <= law.isf(tail)))
        shown.append(f"{r['queries']:.1f} against {r['expected']:.1f} (k = {r['k']}, H = {r['H']})")
    return Check(
        "LOGPROB waits for each token: H geometric variables, H/p1 draws on average",
        all(good),
        "; ".join(shown),
    )


def _root_sample(rows: Sequence[Row]) -> list[Check]:
    if not rows:
        return []
    passed, total = sum(r["passed"] for r in rows), sum(r["attempts"] for r in rows)
    return [
        Check(
            "ROOT/SAMPLE succeeds with the rollouts that its bound gives",
            at_most(total - passed, total, DELTA, _ERROR),
            f"{passed} of {total} found, interval {interval(passed, total)}",
        )
    ]


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[str]:
    return [_figure(rows), _ladder(), _measured(where(rows, kind="walk")), _guess_table(rows)]


def _figure(rows: Sequence[Row]) -> str:
    k, horizons = 2, [2, 3, 4, 6, 8, 12, 16, 24, 32]
    blind = [0.95 * float(_K - k) ** H for H in horizons]
    lines = [Line("outcome rewards with ARGMAX(k), any control: exact", horizons, blind,
                  color="muted", exact=True)]  # fmt: skip
    for style, (report, what) in enumerate(
        (("sample", "rollouts with ROOT/SAMPLE, enough"), ("full", "with ROOT/FULL, exact"))
    ):
        y = [float(_rollouts(report, k, H, 0.95)) for H in horizons]
        lines.append(Line(what, horizons, y, color="root", style=style))
    looks = {"sample": "visited", "logprob": "visited", "argmax": "reset", "full": "reset"}
    for style, (report, color) in enumerate(looks.items()):
        found = sorted(
            {(r["H"], r["queries"]) for r in where(rows, kind="walk", report=report, k=k)}
        )
        curve = [_expected(report, k, H) for H in horizons]
        lines.append(Line("", horizons, curve, color=color, exact=True))
        label = f"{color}/{report}{f'({k + 1})' if report == 'argmax' else ''}, measured"
        x, y = [h for h, _ in found], [q for _, q in found]
        lines.append(Line(label, x, y, color=color, style=style, points=True))
    axes = Axes("horizon H", "queries, rollouts or rewards", log_y=True, y_range=(1, 1e33))
    caption = f"Success 0.95 behind k = {k} decoys (K = {_K}, p0 = {_P0}, p1 = {_P1})"
    return plot("decoy-cost", caption, axes, lines)


def _ladder(H: int = 16) -> str:
    """Each report for each k at one horizon."""
    named = {
        "reset": f"{dot('reset')}reset/argmax(k + 1), reset/full",
        "logprob": f"{dot('visited')}visited/logprob, on average",
        "sample": f"{dot('visited')}visited/sample, δ = {DELTA}",
        "full": f"{dot('root')}root/full, exact",
        "exact": f"{dot('root')}root/logprob, exact",
        "enough": f"{dot('root')}root/sample, enough",
        "blind": f"{dot('chosen')}any control/argmax(k): outcome rewards",
    }
    body = []
    for name, label in named.items():
        cells = []
        for k in _LEVELS:
            cells.append(
                {
                    "reset": lambda k: quantity(H),
                    "logprob": lambda k: quantity(_expected("logprob", k, H)),
                    "sample": lambda k: quantity(_expected("sample", k, H)),
                    "full": lambda k: from_log(math.log(_rollouts("full", k, H, 0.95))),
                    "exact": lambda k: from_log(math.log(_rollouts("logprob", k, H, 0.95))),
                    "enough": lambda k: from_log(math.log(_rollouts("sample", k, H, 0.95))),
                    "blind": lambda k: from_log(math.log(0.95) + H * math.log(_K - k)),
                }[name](k)
            )
        body.append([label, *cells])
    head = [f"for success 0.95 at H = {H}", *(f"k = {k}" for k in _LEVELS)]
    return table(head, body, text=1)


def _measured(rows: Sequence[Row]) -> str:
    body = []
    for r in sorted(rows, key=lambda r: (r["k"], r["H"], _WALKS.index(r["report"]))):
        name = f"argmax({r['k'] + 1})" if r["report"] == "argmax" else r["report"]
        body.append(
            [name, str(r["k"]), str(r["H"]), quantity(r["queries"]), quantity(r["expected"]),
             counted(r["passed"], r["attempts"])]
        )  # fmt: skip
    return table(["report", "k", "H", "queries, mean", "expected", "found"], body, text=1)


def _guess_table(rows: Sequence[Row]) -> str:
    body = []
    for r in where(rows, kind="guess"):
        low, high = clopper_pearson(r["passed"], r["attempts"])
        share = f"{r['passed'] / r['attempts']:.4f} <small>{low:.4f}–{high:.4f}</small>"
        body.append([str(r["k"]), str(r["H"]), str(r["M"]), f"{r['exact']:.4f}", share])
    head = ["k", "H", "M rewards", "(M + 1)/(K − k)<sup>H</sup>", "measured"]
    return table(head, body, text=0)


EXPERIMENT = Experiment(
    id="decoy",
    claim="under control, what is observed matters: ARGMAX(k) is blind behind k decoys",
    statement=(
        "At every prefix k decoys have probability p0 each; the path token has p1 &lt; p0, all others less. The "
        "k most likely tokens are the decoys, with the same probabilities everywhere, so ARGMAX(k) says nothing, "
        "wherever it is asked: M outcome rewards and a last guess succeed with probability at most "
        "(M + 1)/(K − k)<sup>H</sup>, and a learner that names different strings attains it. One token more in "
        "the list, a log-probability, conditional draws or the law find the path with a number of queries that "
        "grows like H or H·log H.",
        "From the root all reports stay exponential: rollouts follow the path with probability p1 per token. "
        "ROOT/FULL and ROOT/LOGPROB are exact; for ROOT/SAMPLE the number given suffices. A greedy rollout "
        "(ROOT/ARGMAX, temperature 0) follows the first decoy and shows a point mass, so it says nothing for any k.",
    ),
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=_measure,
    check=_check,
    show=_show,
)
