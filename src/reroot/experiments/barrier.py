"""The barrier: two laws that differ where rollouts rarely go are told apart no sooner than they go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ..access.transcript import transcript_text, weaken
from ..diagnosis.intervals import clopper_pearson
from ..limits import barrier_error, barrier_rollouts, barrier_tv
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import from_log
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from ..randomness import keyed_rng, stream_key
from ..runs.enumerated import EnumeratedRun, enumerate_runs, law_of, total_variation
from ..tasks.base import Problem
from .base import Check, Experiment, Row, Setting, total, where
from .collapse import EXACT, REPORTS, roll
from .counts import ERROR
from .measuring import by_kind, setting_of
from .plots import Axes, Line, plot
from .two_laws import doors, random_pair, reach_of, sampled_error, wrong_guesses

# ---- measuring -----------------------------------------------------------------------------------


def _laws(s: Setting) -> Iterator[Row]:
    """The distance of E_N(P) and E_N(Q) by enumeration, at FULL and as every weaker report."""
    trees, differ = random_pair(s)
    reach = reach_of(trees[0], differ)
    problem = Problem("barrier", (), s["H"], reward=lambda output: 0.0)
    told = {"grants": "root/full", "transcripts": True}
    runs = [enumerate_runs(roll(batches=(s["rollouts"],)), problem, t, **told) for t in trees]
    found = {"exact": barrier_tv(s["rollouts"], reach), "reach": reach, "prefixes": len(differ)}
    tv = {report: total_variation(*(_transcripts(r, report) for r in runs)) for report in REPORTS}
    for report in REPORTS:
        yield {"report": report, "tv": tv[report], **found}


def _transcripts(runs: Sequence[EnumeratedRun], report: str) -> dict[str, float]:
    """The law of the transcripts of runs with FULL reports, as they are with a weaker one."""
    return law_of(runs, lambda r: transcript_text(weaken(r.transcript, report)))


def _test(s: Setting) -> Iterator[Row]:
    """Errors of the best test through sessions."""
    trees, reach = doors(s["p"], s["depth"]), s["p"] ** s["depth"]
    for n in s["N"]:
        yield {
            "reach": reach,
            "rollouts": n,
            "wrong": wrong_guesses(trees, n, s["report"], s["attempts"], s["seed"]),
            "limit": barrier_error(n, reach),
            "exact": barrier_error(n, reach) if s["report"] == "full" else sampled_error(n, reach),
        }


def _law(s: Setting) -> Iterator[Row]:
    """Errors exactly in law: all that matters is whether a rollout has reached U by then."""
    rng = keyed_rng(stream_key(s["seed"], "barrier", "law"))
    for n in (round(multiple / s["reach"]) for multiple in s["multiples"]):
        yield {
            "rollouts": float(n),
            "wrong": _wrong_in_law(n, s["reach"], s["attempts"], rng),
            "exact": barrier_error(n, s["reach"]),
        }


def _wrong_in_law(rollouts: int, reach: float, attempts: int, rng: np.random.Generator) -> int:
    """The first rollout to reach U is number ⌊log u/log(1 - R_U)⌋ + 1; before it, a coin decides."""
    first = np.floor(np.log(rng.random(attempts)) / math.log1p(-reach)) + 1
    return int(((first > rollouts) & (rng.random(attempts) < 0.5)).sum())


def _fewest(s: Setting) -> Iterator[Row]:
    """The fewest rollouts for an error: the exact error there and one rollout short of it."""
    reach = s["p"] ** s["depth"]
    n = barrier_rollouts(s["error"], reach)
    row: Row = {"reach": reach, "fewest": str(n)}
    row |= {"at": barrier_error(n, reach), "short": barrier_error(n - 1, reach)}
    if s["by"] == "sessions":
        trees = doors(s["p"], s["depth"])
        for name, rollouts in (("wrong_at", n), ("wrong_short", n - 1)):
            row[name] = wrong_guesses(trees, rollouts, "full", s["attempts"], s["seed"])
    else:
        rng = keyed_rng(stream_key(s["seed"], "barrier", "fewest"))
        row["wrong_at"] = _wrong_in_law(n, reach, s["attempts"], rng)
    yield row


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    laws, test = where(rows, kind="laws"), where(rows, kind="test")
    full, fewest = where(test, report="full"), where(rows, kind="fewest")
    return [
        _attained(where(laws, report="full")),
        _monotone(laws),
        _inside(full, "the best test through sessions errs as often as it must"),
        _inside(where(test, report="sample"), "so it does with SAMPLE reports"),
        _no_better(test),
        _inside(where(rows, kind="law"), "and exactly in law for reaches down to 10⁻³⁰"),
        _fewest_by_formula(fewest),
        _fewest_measured(fewest),
    ]


def _attained(rows: Sequence[Row]) -> Check:
    worst = max(abs(r["tv"] - r["exact"]) for r in rows)
    said = f"largest difference {worst:.1e} in {len(rows)} pairs of random trees, by enumeration"
    return Check("TV(E_N(P), E_N(Q)) = 1 - (1 - R_U)^N with FULL reports", worst <= EXACT, said)


def _chains(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows of each pair of trees, one of every report."""
    return [rows[i : i + len(REPORTS)] for i in range(0, len(rows), len(REPORTS))]


def _monotone(rows: Sequence[Row]) -> Check:
    """Each report is a function of the next one, so distances do not fall along the chain."""
    chains = _chains(rows)
    falls = [a["tv"] - b["tv"] for chain in chains for a, b in pairwise(chain)]
    less = sum(chain[0]["tv"] < chain[-1]["tv"] - EXACT for chain in chains)
    said = f"SAMPLE ≤ LOGPROB ≤ TOPK(1) ≤ TOPK(2) ≤ FULL in {len(chains)} pairs; SAMPLE < FULL in {less}"
    return Check("weaker reports show at most that much", max(falls) <= EXACT, said)


def _covered(points: Sequence[tuple[int, int, float]]) -> int:
    """How many exact errors lie in the intervals of wrong of n; one is missed with ``ERROR`` at most."""
    level = 1.0 - ERROR / len(points)
    intervals = [(clopper_pearson(wrong, n, level), exact) for wrong, n, exact in points]
    return sum(i.low <= exact <= i.high for i, exact in intervals)


def _inside(rows: Sequence[Row], name: str) -> Check:
    inside = _covered([(r["wrong"], r["attempts"], r["exact"]) for r in rows])
    said = f"{inside} of {len(rows)} exact errors inside the intervals of {total(rows, 'attempts'):,} attempts"
    return Check(name, inside == len(rows), f"{said} (they miss one with probability {ERROR:g})")


def _no_better(rows: Sequence[Row]) -> Check:
    """Counts against the limit (1 - TV)/2, whatever was reported."""
    level = 1.0 - ERROR / len(rows)
    fine = [clopper_pearson(r["wrong"], r["attempts"], level).high >= r["limit"] for r in rows]
    said = f"{sum(fine)} of {len(rows)} settings"
    return Check("no measured error is below the limit (1 - TV)/2", all(fine), said)


def _fewest_by_formula(rows: Sequence[Row]) -> Check:
    """Up to rounding: at N = 10³⁰ one rollout is less than a bit of a double."""
    enough = [r["at"] <= r["error"] * (1 + EXACT) for r in rows]
    right = [
        ok and r["short"] > r["error"] * (1 - EXACT) for ok, r in zip(enough, rows, strict=True)
    ]
    said = f"{sum(right)} of {len(rows)} settings by the exact error at N and N - 1"
    name = "the fewest rollouts for an error are enough, and one less is not"
    return Check(name, all(right), said)


def _fewest_measured(rows: Sequence[Row]) -> Check:
    """Each measured error against the exact one; through sessions also on either side of ε."""
    points = [(r["wrong_at"], r["attempts"], r["at"]) for r in rows]
    sided = where(rows, by="sessions")
    points += [(r["wrong_short"], r["attempts"], r["short"]) for r in sided]
    inside = _covered(points)
    apart = sum(r["wrong_at"] < r["error"] * r["attempts"] < r["wrong_short"] for r in sided)
    return Check(
        "so it is measured",
        inside == len(points) and apart == len(sided),
        f"{inside} of {len(points)} exact errors inside their intervals; errors at N and N - 1 lie on "
        f"either side of ε in {apart} of {len(sided)} settings through sessions",
    )


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    return [
        grid([_error_plot(rows), _report_plot(rows), _small_plot(rows)]),
        _law_table(where(rows, kind="laws")),
        _fewest_table(where(rows, kind="fewest")),
    ]


def _measured(label: str, rows: Sequence[Row], color: str, style: int, scale: float = 1.0) -> Line:
    """Measured errors against rollouts, times ``scale``."""
    mine = sorted(rows, key=lambda r: r["rollouts"])
    counts = [(r["wrong"], r["attempts"]) for r in mine]
    return Line.rates(label, [r["rollouts"] * scale for r in mine], counts, color, style)


def _plot(name: str, caption: str, lines: Sequence[Line], x: str = "root-start rollouts N") -> str:
    axes = Axes(x, "error of the best test", log_x=True, y_range=(0, 0.55))
    return plot(name, caption, axes, lines)


def _error_plot(rows: Sequence[Row]) -> str:
    full = where(rows, kind="test", report="full")
    lines: list[Line] = []
    for style, reach in enumerate(dict.fromkeys(r["reach"] for r in full)):
        at = np.unique(np.geomspace(1, 12 / reach, 60).round()).astype(int).tolist()
        label = "" if style else "exact, (1 − TV)/2"
        lines.append(Line.law(label, at, lambda n, reach=reach: barrier_error(n, reach)))
        mine = where(full, reach=reach)
        lines.append(_measured(f"measured, R_U = {reach:.3g}", mine, "root", style))
    return _plot("barrier-error", "Telling P from Q with FULL reports", lines)


def _report_plot(rows: Sequence[Row]) -> str:
    """SAMPLE beside FULL at one reach."""
    reach = where(rows, kind="test", report="sample")[0]["reach"]
    lines: list[Line] = []
    laws = (("full", "root", barrier_error), ("sample", "chosen", sampled_error))
    for style, (report, color, exact) in enumerate(laws):
        at = list(range(1, math.ceil(12 / reach)))
        label, name = f"exact, {report.upper()}", f"measured, {report.upper()}"
        lines.append(Line.law(label, at, lambda n, exact=exact: exact(n, reach), color))
        mine = where(rows, kind="test", report=report, reach=reach)
        lines.append(_measured(name, mine, color, style))
    return _plot("barrier-report", f"What a weaker report costs, R_U = {reach:.3g}", lines)


def _small_plot(rows: Sequence[Row]) -> str:
    law, x = where(rows, kind="law"), np.geomspace(0.05, 12, 60).tolist()
    lines = [Line.law("limit for R_U → 0: exp(−N·R_U)/2", x, lambda at: np.exp(-at) / 2)]
    for style, reach in enumerate(dict.fromkeys(r["reach"] for r in law)):
        label = f"exactly in law, R_U = {from_log(math.log(reach))}"
        lines.append(_measured(label, where(law, reach=reach), "root", style, reach))
    return _plot("barrier-small", "Reaches that no run will see", lines, "N·R_U")


def _law_table(rows: Sequence[Row]) -> Table:
    found: list[Row] = []
    for chain in _chains(rows):
        r = chain[-1]
        change = "swapped" if r["change"] == "swap" else "fresh"
        tv = {report: each["tv"] for report, each in zip(REPORTS, chain, strict=True)}
        found.append(r | {"change": change, "all": tv, "off": abs(r["tv"] - r["exact"])})
    names = " | ".join(f"TV, {report.upper()}" for report in REPORTS)
    shown = " | ".join(f"{{all[{report}]:.6f}}" for report in REPORTS)
    head = f"laws in U | K | H | end token | |U| | R<sub>U</sub> | N | {names} | "
    head += "1 − (1 − R<sub>U</sub>)<sup>N</sup> | difference"
    cells = f"{{change}} | {{K}} | {{H}} | {{end:yes}} | {{prefixes}} | {{reach:.4f}} | {{rollouts}} | {shown} | "
    return table_of(head, cells + "{exact:.6f} | {off:.0e}", found)


def _fewest_table(rows: Sequence[Row]) -> Table:
    head = "R<sub>U</sub> | ε | fewest N | error at N | measured | at N − 1 | measured | attempts"
    cells = "{log:log} | {error:g} | {N:q} | {at:.6f} | {right:.4f} | {short:.6f} | {wrong:.4f} | {attempts:,}"
    found: list[Row] = []
    for r in rows:
        n, short = r["attempts"], r.get("wrong_short")
        measured = {"right": r["wrong_at"] / n, "wrong": None if short is None else short / n}
        found.append(r | measured | {"log": math.log(r["reach"]), "N": float(r["fewest"])})
    return table_of(head, cells, found, text=0)


# ---- settings ------------------------------------------------------------------------------------

_random = setting_of("laws", "K H rollouts tree", change="fresh", end=())
_errors = setting_of("test", "p depth N attempts", report="full")
_minimal = setting_of("fewest", "p depth error attempts by")
_in_law = setting_of("law", "reach", multiples=(0.1, 0.3, 1.0, 3.0, 10.0), attempts=20_000)

EXPERIMENT = Experiment(
    id="barrier",
    claim="from the root, two laws are told apart no sooner than a rollout reaches where they differ",
    statement=(
        "P and Q agree outside a set U of prefixes and differ at every prefix in U; R<sub>U</sub> is the "
        "probability that a rollout draws from a law in U. Then N canonical rollouts are at total variation "
        "TV = 1 − (1 − R<sub>U</sub>)<sup>N</sup>, weaker reports at no more, and the best test between P and Q, "
        "equally likely, errs with probability (1 − TV)/2: error ε takes "
        "N ≥ log(2ε)/log(1 − R<sub>U</sub>) rollouts.",
        "Measured: TV by enumeration of every sequence of draws, through sessions, on random trees; and the "
        "error of the likelihood-ratio test, a learner that is told both laws and reaches the one that it is "
        "tested on through a root-start session only. For reaches that no run will see, attempts are drawn exactly "
        "in law: all that matters is whether one of N rollouts has reached U, and the first that does is geometric.",
    ),
    settings=(
        _random(2, 3, 1, 0),
        _random(3, 2, 2, 1, "swap"),
        _random(3, 3, 1, 2, "swap", end=(2,)),
        _errors(0.3, 1, (1, 3, 10, 33), 100),
        _errors(0.3, 1, (1, 3, 10, 33), 100, "sample"),
        *(_in_law(10.0**-exponent) for exponent in (6, 15, 30)),
        _minimal(0.3, 1, 0.3, 600, "sessions"),
        *(_minimal(0.1, depth, 0.05, 20_000, "law") for depth in (3, 6, 30)),
        _random(2, 3, 3, 13, "swap"),
        *(_random(3, 2, 3, tree, "swap", end=(0,)) for tree in (14, 15)),
        *(_random(3, 3, 2, tree, change) for tree, change in ((16, "fresh"), (17, "swap"))),
        *(_random(3, 4, 1, tree, change) for tree, change in ((18, "fresh"), (19, "swap"))),
        _random(3, 4, 2, 20, "swap", end=(1,)),
        _random(2, 4, 2, 21, "swap"),
        _errors(0.3, 1, (1, 2, 4, 8, 16, 33), 800),
        _errors(0.3, 2, (1, 3, 11, 33, 111), 800),
        _errors(0.1, 2, (10, 30, 100, 300, 1000), 800),
        _errors(0.1, 3, (100, 300, 1000, 3000), 400),
        _errors(0.1, 3, (10_000,), 200),
        _errors(0.3, 2, (1, 3, 11, 33, 111), 800, "sample"),
        *(_minimal(0.3, 1, error, 2500, "sessions") for error in (0.3, 0.2)),
        *(
            _minimal(0.1, depth, error, 20_000, "law")
            for depth in (3, 6, 30)
            for error in (0.25, 0.01)
        ),
    ),
    quick=tuple(range(12)),
    measure=by_kind(laws=_laws, test=_test, law=_law, fewest=_fewest),
    check=_check,
    show=_show,
)
