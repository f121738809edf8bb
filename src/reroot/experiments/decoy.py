"""Decoys: what is observed matters under control too, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from scipy import stats

from .. import limits
from ..access.learner import BoundLearner
from ..families.decoy_path import DecoyPath
from ..learners.registry import get_learner
from ..pages.kit.cells import named, table_of
from ..pages.kit.formatting import from_log, quantity
from ..pages.kit.table import Part, Table, columns
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, total, where
from .baseline_learners import ask_all, guesses, root_plurality, root_reading
from .counts import ERROR, banded, counted, rarely, rate
from .formulas import RootPath
from .measuring import account, by_kind, run_each, setting_of
from .plots import Axes, Line, plot

DELTA = 0.05
_K, _P0, _P1 = 12, 0.15, 0.13  # p1 > 1/(K - k) for k <= 4: one log-probability shows the path
_LEVELS = (1, 2, 3, 4)
_WALKS = ("argmax", "sample", "logprob", "full")


_blind = setting_of("blind", "K H k p1 secrets everywhere")
_guess = setting_of("guess", "k H M attempts")
_walk = setting_of("walk", "report k H attempts")
_root = setting_of("root", "report k H success attempts")

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


def _asked(s: Setting) -> Iterator[Row]:
    """How many different answers the secrets give, under CHOSEN control, to ARGMAX(k), (k + 1)."""
    K, H, k = s["K"], s["H"], s["k"]
    p0 = 0.18 if s["everywhere"] else _P0
    secrets = [DecoyPath(K, H, k, p0, s["p1"], seed=i) for i in range(s["secrets"])]
    if s["everywhere"]:
        prefixes = [u for t in range(H) for u in itertools.product(range(K), repeat=t)]
    else:  # every prefix of every path: what a learner would ask that knew them all
        prefixes = sorted({member.path[:t] for member in secrets for t in range(H)})
    found: Row = {"prefixes": len(prefixes)}
    for name, report in (("blind", f"argmax({k})"), ("sees", f"argmax({k + 1})")):
        learner = ask_all(report=report, prefixes=prefixes)
        asked = [(member.problem("it"), member) for member in secrets]
        results = [run(learner, [it], member, grants=f"chosen/{report}") for it, member in asked]
        notes = [result.attempts[0].metadata for result in results]
        found[name] = len({note["digest"] for note in notes})
        found["refused"] = sum(note["refused"] for note in notes)
    yield found


def _guessed(s: Setting) -> Iterator[Row]:
    k, H, M = s["k"], s["H"], s["M"]
    row = _run(guesses(rewards=M, decoys=k), s, f"chosen/argmax({k})+reward")
    yield row | {"exact": math.exp(limits.log_blind_success(M, _K - k, H))}


def _walked(s: Setting) -> Iterator[Row]:
    k, H = s["k"], s["H"]
    m = limits.decoy_draws(_K, H, k, _P0, _P1, DELTA)
    spec = {
        "argmax": f"greedy_walk:decoys={k}",
        "sample": f"plurality_walk:draws_per_token={m},decoys={k}",
        "logprob": f"logprob_walk:decoys={k}",
        "full": f"law_walk:decoys={k}",
    }[s["report"]]
    learner = get_learner(spec)
    yield _run(learner, s, str(learner.requires)) | {"expected": _expected(s["report"], k, H)}


def _rooted(s: Setting) -> Iterator[Row]:
    report, k, H = s["report"], s["k"], s["H"]
    N = _path(k).rollouts(report, H, s["success"])
    if report == "sample":
        learner, exact = root_plurality(n=N, decoys=k), 1.0 - DELTA
    else:
        learner, exact = root_reading(n=N, report=report, decoys=k), _path(k).success(report, N, H)
    yield _run(learner, s, f"root/{report}") | {"N": N, "exact": exact}


def _run(learner: BoundLearner, s: Setting, grants: str) -> Row:
    """One attempt on each of as many secret paths as attempts."""
    paths = [DecoyPath(_K, s["H"], s["k"], _P0, _P1, seed=i) for i in range(s["attempts"])]
    return account(run_each(learner, paths, s["seed"], grants))


# ---- exact values --------------------------------------------------------------------------------


def _path(k: int) -> RootPath:
    """The path among what is no decoy."""
    return RootPath(_K - k, _P1, (1.0 - k * _P0 - _P1) / (_K - k - 1))


def _expected(report: str, k: int, H: int) -> float:
    """Queries per path: exact, for LOGPROB on average."""
    draws = limits.decoy_draws(_K, H, k, _P0, _P1, DELTA)
    return {"argmax": H, "full": H, "logprob": H / _P1, "sample": H * draws}[report]


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    read = [r for r in where(rows, kind="root") if r["report"] != "sample"]
    drawn = where(rows, kind="root", report="sample")
    missed, of = total(drawn, "attempts") - total(drawn, "passed"), total(drawn, "attempts")
    enough = "ROOT/SAMPLE succeeds with the rollouts that its bound gives"
    return [
        *_blindness(where(rows, kind="blind")),
        *banded("(M + 1)/(K − k)^H is the success of M rewards, blind", where(rows, kind="guess")),
        _finds(rows),
        _costs(rows),
        _waiting(where(rows, kind="walk", report="logprob")),
        *banded("root-start reading succeeds as its exact law says", read),
        *([rarely(enough, missed, of, DELTA, "missed")] if drawn else []),
    ]


def _blindness(rows: Sequence[Row]) -> Iterator[Check]:
    asked = sum(r["prefixes"] * r["secrets"] for r in rows)
    levels = sorted({r["k"] for r in rows})
    yield Check(
        "ARGMAX(k) answers the same whatever the secret is, at every prefix asked, bit by bit",
        all(r["blind"] == 1 and r["refused"] == 0 for r in rows),
        f"k = {levels}: {asked:,} reports under CHOSEN control, one answer in each setting",
    )
    yield Check(
        "ARGMAX(k + 1) tells all secrets apart",
        all(r["sees"] == r["secrets"] for r in rows),
        f"as many answers as secrets in {len(rows)} settings",
    )


def _finds(rows: Sequence[Row]) -> Check:
    """Reports that show the path never fail; samples at most at rate delta."""
    walks = where(rows, kind="walk")
    sure, drawn = [r for r in walks if r["report"] != "sample"], where(walks, report="sample")
    tried, missed = total(sure, "attempts"), total(sure, "attempts") - total(sure, "passed")
    of = total(drawn, "attempts")
    name = "ARGMAX(k + 1), LOGPROB and FULL find every path; SAMPLE fails at rate δ at most"
    said = f"missed with samples, {missed} of {tried} with the others"
    sound = not missed and not any(r["errors"] for r in walks)
    return rarely(name, of - total(drawn, "passed"), of, DELTA, said, sound=sound)


def _costs(rows: Sequence[Row]) -> Check:
    fixed = [r for r in where(rows, kind="walk") if r["report"] != "logprob"]
    exact = [r["least"] == r["most"] == r["expected"] for r in fixed]
    name = "ARGMAX(k + 1) and FULL take H queries, SAMPLE takes H·m"
    return Check(name, all(exact), f"exact in {sum(exact)} of {len(exact)} settings")


def _waiting(rows: Sequence[Row]) -> Check:
    """All draws of all paths are one negative binomial: two-sided test at 1e-3 in all."""
    tail = ERROR / (2 * max(1, len(rows)))
    good, shown = [], []
    for r in rows:
        hits, draws = r["H"] * r["attempts"], round(r["queries"] * r["attempts"])
        law = stats.nbinom(hits, _P1)
        good.append(bool(law.ppf(tail) <= draws - hits <= law.isf(tail)))
        shown.append(f"{r['queries']:.1f} against {r['expected']:.1f} (k = {r['k']}, H = {r['H']})")
    name = "LOGPROB waits for each token: H geometric variables, H/p1 draws on average"
    return Check(name, all(good), "; ".join(shown))


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    walks: list[Row] = []
    for report in _WALKS:
        for r in where(rows, kind="walk", report=report):
            name = f"argmax({r['k'] + 1})" if report == "argmax" else report
            walks.append(r | {"name": name, "found": counted(r["passed"], r["attempts"])})
    guessed = [r | {"rate": rate(r["passed"], r["attempts"])} for r in where(rows, kind="guess")]
    head = "report | k | H | queries, mean | expected | found"
    cells = "{name} | {k} | {H} | {queries:q} | {expected:q} | {found}"
    blind = "k | H | M rewards | (M + 1)/(K − k)<sup>H</sup> | measured"
    return [
        _figure(rows),
        _ladder(),
        table_of(head, cells, sorted(walks, key=lambda r: (r["k"], r["H"]))),
        table_of(blind, "{k} | {H} | {M} | {exact:.4f} | {rate}", guessed, text=0),
    ]


def _figure(rows: Sequence[Row]) -> str:
    k, horizons = 2, [2, 3, 4, 6, 8, 12, 16, 24, 32]
    blind = "outcome rewards with ARGMAX(k), any control: exact"
    lines = [Line.law(blind, horizons, lambda H: 0.95 * float(_K - k) ** H)]
    labels = {"sample": "rollouts with ROOT/SAMPLE, enough", "full": "with ROOT/FULL, exact"}
    for style, (report, what) in enumerate(labels.items()):
        y = [float(_path(k).rollouts(report, H, 0.95)) for H in horizons]
        lines.append(Line(what, horizons, y, color="root", style=style))
    looks = {"sample": "visited", "logprob": "visited", "argmax": "reset", "full": "reset"}
    for style, (report, color) in enumerate(looks.items()):
        mine = where(rows, kind="walk", report=report, k=k)
        found = sorted({(r["H"], r["queries"]) for r in mine})
        lines.append(Line.law("", horizons, lambda H, it=report: _expected(it, k, H), color))
        label = f"{color}/{report}{f'({k + 1})' if report == 'argmax' else ''}, measured"
        x, y = [h for h, _ in found], [q for _, q in found]
        lines.append(Line(label, x, y, color=color, style=style, points=True))
    axes = Axes("horizon H", "queries, rollouts or rewards", log_y=True, y_range=(1, 1e33))
    caption = f"Success 0.95 behind k = {k} decoys (K = {_K}, p0 = {_P0}, p1 = {_P1})"
    return plot("decoy-cost", caption, axes, lines)


def _ladder(H: int = 16) -> Table:
    """Each report for each k at one horizon."""

    lines = (
        ("reset", "reset/argmax(k + 1), reset/full", "full"),
        ("visited", "visited/logprob, on average", "logprob"),
        ("visited", f"visited/sample, δ = {DELTA}", "sample"),
        ("root", "root/full, exact", "full"),
        ("root", "root/logprob, exact", "logprob"),
        ("root", "root/sample, enough", "sample"),
        ("chosen", "any control/argmax(k): outcome rewards", ""),
    )

    def cell(control: str, report: str, k: int) -> str:
        if control == "chosen":
            return from_log(math.log(0.95) + H * math.log(_K - k))
        if control == "root":
            return from_log(math.log(_path(k).rollouts(report, H, 0.95)))
        return quantity(_expected(report, k, H))

    body = [[named(c, label), *(cell(c, r, k) for k in _LEVELS)] for c, label, r in lines]
    head = " | ".join([f"for success 0.95 at H = {H}", *(f"k = {k}" for k in _LEVELS)])
    return Table(columns(head), body)


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
    measure=by_kind(blind=_asked, guess=_guessed, walk=_walked, root=_rooted),
    check=_check,
    show=_show,
)
