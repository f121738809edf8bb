"""The barrier: two laws that differ where rollouts rarely go are told apart no sooner than they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..access.transcript import transcript_text, weaken
from ..diagnosis.intervals import Interval, clopper_pearson
from ..limits import barrier_error, barrier_rollouts, barrier_tv
from ..pages.comparison.tables import table
from ..pages.kit.formatting import from_log, quantity
from ..randomness import keyed_rng, stream_key
from ..runs.enumerated import EnumeratedRun, enumerate_runs, law_of, total_variation
from ..tasks.base import Problem
from .base import Check, Experiment, Row, Setting, where
from .collapse import EXACT, REPORTS, roll
from .plots import Axes, Line, plot
from .two_laws import doors, random_pair, reach_of, sampled_error, wrong_guesses

_MISS = 1e-3
"""Probability that a check of measured errors fails though all is right."""


# ---- measuring -----------------------------------------------------------------------------------


def _measure(setting: Setting) -> list[Row]:
    kinds = {"laws": _laws, "test": _test, "law": _in_law, "fewest": _fewest}
    return kinds[setting["kind"]](setting)


def _laws(s: Setting) -> list[Row]:
    """The distance of E_N(P) and E_N(Q) by enumeration, at FULL and as every weaker report."""
    trees, differ = random_pair(s)
    reach = reach_of(trees[0], differ)
    problem = Problem("barrier", (), s["H"], reward=lambda output: 0.0)
    bound = roll(batches=(s["rollouts"],))
    runs = [
        enumerate_runs(bound, problem, tree, grants="root/full", transcripts=True) for tree in trees
    ]
    return [
        {
            "report": report,
            "tv": total_variation(*(_transcripts(r, report) for r in runs)),
            "exact": barrier_tv(s["rollouts"], reach),
            "reach": reach,
            "prefixes": len(differ),
        }
        for report in REPORTS
    ]


def _transcripts(runs: Sequence[EnumeratedRun], report: str) -> dict[str, float]:
    """The law of the transcripts of runs with FULL reports, as they are with a weaker one."""
    return law_of(runs, lambda r: transcript_text(weaken(r.transcript, report)))


def _test(s: Setting) -> list[Row]:
    """Errors of the best test through sessions."""
    trees, reach = doors(s["p"], s["depth"]), s["p"] ** s["depth"]
    return [
        {
            "reach": reach,
            "rollouts": n,
            "wrong": wrong_guesses(trees, n, s["report"], s["attempts"], s["seed"]),
            "limit": barrier_error(n, reach),
            "exact": barrier_error(n, reach) if s["report"] == "full" else sampled_error(n, reach),
        }
        for n in s["N"]
    ]


def _in_law(s: Setting) -> list[Row]:
    """Errors exactly in law: all that matters is whether a rollout has reached U by then."""
    rng = keyed_rng(stream_key(s["seed"], "barrier", "law"))
    return [
        {
            "rollouts": float(n),
            "wrong": _wrong_in_law(n, s["reach"], s["attempts"], rng),
            "exact": barrier_error(n, s["reach"]),
        }
        for n in (round(multiple / s["reach"]) for multiple in s["multiples"])
    ]


def _wrong_in_law(rollouts: int, reach: float, attempts: int, rng: np.random.Generator) -> int:
    """The first rollout to reach U is number ⌊log u/log(1 - R_U)⌋ + 1; before it, a coin decides."""
    first = np.floor(np.log(rng.random(attempts)) / math.log1p(-reach)) + 1
    return int(((first > rollouts) & (rng.random(attempts) < 0.5)).sum())


def _fewest(s: Setting) -> list[Row]:
    """The fewest rollouts for an error: the exact error there and one rollout short of it."""
    reach = s["p"] ** s["depth"]
    n = barrier_rollouts(s["error"], reach)
    row: Row = {
        "reach": reach,
        "fewest": str(n),
        "at": barrier_error(n, reach),
        "short": barrier_error(n - 1, reach),
    }
    if s["by"] == "sessions":
        trees = doors(s["p"], s["depth"])
        for name, rollouts in (("wrong_at", n), ("wrong_short", n - 1)):
            row[name] = wrong_guesses(trees, rollouts, "full", s["attempts"], s["seed"])
    else:
        rng = keyed_rng(stream_key(s["seed"], "barrier", "fewest"))
        row["wrong_at"] = _wrong_in_law(n, reach, s["attempts"], rng)
    return [row]


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    laws, test = where(rows, kind="laws"), where(rows, kind="test")
    return [
        _attained(where(laws, report="full")),
        _monotone(laws),
        _inside(
            where(test, report="full"), "the best test through sessions errs as often as it must"
        ),
        _inside(where(test, report="sample"), "so it does with SAMPLE reports"),
        _no_better(test),
        _inside(where(rows, kind="law"), "and exactly in law for reaches down to 10⁻³⁰"),
        _fewest_by_formula(where(rows, kind="fewest")),
        _fewest_measured(where(rows, kind="fewest")),
    ]


def _attained(rows: Sequence[Row]) -> Check:
    worst = max(abs(r["tv"] - r["exact"]) for r in rows)
    return Check(
        "TV(E_N(P), E_N(Q)) = 1 - (1 - R_U)^N with FULL reports",
        worst <= EXACT,
        f"largest difference {worst:.1e} in {len(rows)} pairs of random trees, by enumeration",
    )


def _monotone(rows: Sequence[Row]) -> Check:
    """Each report is a function of the next one, so distances do not fall along the chain."""
    pairs = [rows[i : i + len(REPORTS)] for i in range(0, len(rows), len(REPORTS))]
    falls = [a["tv"] - b["tv"] for chain in pairs for a, b in pairwise(chain)]
    less = sum(chain[0]["tv"] < chain[-1]["tv"] - EXACT for chain in pairs)
    return Check(
        "weaker reports show at most that much",
        max(falls) <= EXACT,
        f"SAMPLE ≤ LOGPROB ≤ TOPK(1) ≤ TOPK(2) ≤ FULL in {len(pairs)} pairs; SAMPLE < FULL in {less}",
    )


def _interval(wrong: int, attempts: int, points: int) -> Interval:
    """An exact interval; all ``points`` of them miss with probability at most ``_MISS``."""
    return clopper_pearson(wrong, attempts, 1.0 - _MISS / points)


def _inside(rows: Sequence[Row], name: str) -> Check:
    inside = 0
    for r in rows:
        low, high = _interval(r["wrong"], r["attempts"], len(rows))
        inside += low <= r["exact"] <= high
    return Check(
        name,
        inside == len(rows),
        f"{inside} of {len(rows)} exact errors inside the intervals of {sum(r['attempts'] for r in rows):,} "
        f"attempts (they miss one with probability {_MISS:g})",
    )


def _no_better(rows: Sequence[Row]) -> Check:
    """Counts against the limit (1 - TV)/2, whatever was reported."""
    below = [r for r in rows if _interval(r["wrong"], r["attempts"], len(rows)).high < r["limit"]]
    return Check(
        "no measured error is below the limit (1 - TV)/2",
        not below,
        f"{len(rows) - len(below)} of {len(rows)} settings",
    )


def _fewest_by_formula(rows: Sequence[Row]) -> Check:
    """Up to rounding: at N = 10³⁰ one rollout is less than a bit of a double."""
    right = [
        r["at"] <= r["error"] * (1 + EXACT) and r["short"] > r["error"] * (1 - EXACT) for r in rows
    ]
    return Check(
        "the fewest rollouts for an error are enough, and one less is not",
        all(right),
        f"{sum(right)} of {len(rows)} settings by the exact error at N and N - 1",
    )


def _fewest_measured(rows: Sequence[Row]) -> Check:
    """Each measured error against the exact one; through sessions also on either side of ε."""
    points = [(r["wrong_at"], r["attempts"], r["at"]) for r in rows]
    sided = where(rows, by="sessions")
    points += [(r["wrong_short"], r["attempts"], r["short"]) for r in sided]
    intervals = [(_interval(w, n, len(points)), exact) for w, n, exact in points]
    inside = sum(i.low <= exact <= i.high for i, exact in intervals)
    apart = sum(r["wrong_at"] < r["error"] * r["attempts"] < r["wrong_short"] for r in sided)
    return Check(
        "so it is measured",
        inside == len(points) and apart == len(sided),
        f"{inside} of {len(points)} exact errors inside their intervals; errors at N and N - 1 lie on "
        f"either side of ε in {apart} of {len(sided)} settings through sessions",
    )


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[str]:
    from ..pages.kit.html import grid

    return [
        grid([_error_plot(rows), _report_plot(rows), _small_plot(rows)]),
        _law_table(where(rows, kind="laws")),
        _fewest_table(where(rows, kind="fewest")),
    ]


def _measured(label: str, rows: Sequence[Row], x: Sequence[float], color: str, style: int) -> Line:
    """Measured errors with 95 % intervals."""
    intervals = [clopper_pearson(r["wrong"], r["attempts"]) for r in rows]
    share = [r["wrong"] / r["attempts"] for r in rows]
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    return Line(label, x, share, low, high, color, style, points=True)


def _error_plot(rows: Sequence[Row]) -> str:
    full = where(rows, kind="test", report="full")
    lines: list[Line] = []
    for style, reach in enumerate(dict.fromkeys(r["reach"] for r in full)):
        mine = sorted(where(full, reach=reach), key=lambda r: r["rollouts"])
        grid = np.unique(np.geomspace(1, 12 / reach, 60).round()).astype(int).tolist()
        exact = [barrier_error(n, reach) for n in grid]
        lines.append(
            Line("" if style else "exact, (1 − TV)/2", grid, exact, color="muted", exact=True)
        )
        x = [r["rollouts"] for r in mine]
        lines.append(_measured(f"measured, R_U = {reach:.3g}", mine, x, "root", style))
    axes = Axes("root-start rollouts N", "error of the best test", log_x=True, y_range=(0, 0.55))
    return plot("barrier-error", "Telling P from Q with FULL reports", axes, lines)


def _report_plot(rows: Sequence[Row]) -> str:
    """SAMPLE beside FULL at one reach."""
    sample = where(rows, kind="test", report="sample")
    reach = sample[0]["reach"]
    grid = list(range(1, math.ceil(12 / reach)))
    lines: list[Line] = []
    for style, (report, color, exact) in enumerate(
        (("full", "root", barrier_error), ("sample", "chosen", sampled_error))
    ):
        curve = [exact(n, reach) for n in grid]
        lines.append(Line(f"exact, {report.upper()}", grid, curve, color=color, exact=True))
        mine = sorted(
            where(rows, kind="test", report=report, reach=reach), key=lambda r: r["rollouts"]
        )
        x = [r["rollouts"] for r in mine]
        lines.append(_measured(f"measured, {report.upper()}", mine, x, color, style))
    axes = Axes("root-start rollouts N", "error of the best test", log_x=True, y_range=(0, 0.55))
    return plot("barrier-report", f"What a weaker report costs, R_U = {reach:.3g}", axes, lines)


def _small_plot(rows: Sequence[Row]) -> str:
    law = where(rows, kind="law")
    x = np.geomspace(0.05, 12, 60)
    exact = [float(v) for v in np.exp(-x) / 2]
    lines = [Line("limit for R_U → 0: exp(−N·R_U)/2", x.tolist(), exact, color="muted", exact=True)]
    for style, reach in enumerate(dict.fromkeys(r["reach"] for r in law)):
        mine = where(law, reach=reach)
        shown = [r["rollouts"] * reach for r in mine]
        label = f"exactly in law, R_U = {from_log(math.log(reach))}"
        lines.append(_measured(label, mine, shown, "root", style))
    axes = Axes("N·R_U", "error of the best test", log_x=True, y_range=(0, 0.55))
    return plot("barrier-small", "Reaches that no run will see", axes, lines)


def _law_table(rows: Sequence[Row]) -> str:
    body: list[list[str]] = []
    for i in range(0, len(rows), len(REPORTS)):
        chain = rows[i : i + len(REPORTS)]
        r = chain[-1]
        ends, change = "yes" if r["end"] else "no", "swapped" if r["change"] == "swap" else "fresh"
        body.append(
            [change, str(r["K"]), str(r["H"]), ends, str(r["prefixes"]), f"{r['reach']:.4f}",
             str(r["rollouts"]), *(f"{each['tv']:.6f}" for each in chain), f"{r['exact']:.6f}",
             f"{abs(r['tv'] - r['exact']):.0e}"]
        )  # fmt: skip
    head = ["laws in U", "K", "H", "end token", "|U|", "R<sub>U</sub>", "N",
            *(f"TV, {report.upper()}" for report in REPORTS), "1 − (1 − R<sub>U</sub>)<sup>N</sup>",
            "difference"]  # fmt: skip
    return table(head, body, text=1)


def _fewest_table(rows: Sequence[Row]) -> str:
    body: list[list[str]] = []
    for r in rows:
        n, attempts = r["attempts"], f"{r['attempts']:,}"
        short = r.get("wrong_short")
        body.append(
            [from_log(math.log(r["reach"])), f"{r['error']:g}", quantity(float(r["fewest"])),
             f"{r['at']:.6f}", f"{r['wrong_at'] / n:.4f}", f"{r['short']:.6f}",
             "·" if short is None else f"{short / n:.4f}", attempts]
        )  # fmt: skip
    head = ["R<sub>U</sub>", "ε", "fewest N", "error at N", "measured", "at N − 1", "measured",
            "attempts"]  # fmt: skip
    return table(head, body, text=0)


# ---- settings ------------------------------------------------------------------------------------


def _random(
    K: int, H: int, rollouts: int, tree: int, change: str = "fresh", end: tuple[int, ...] = ()
) -> Setting:
    return {"kind": "laws", "K": K, "H": H, "rollouts": rollouts, "tree": tree, "change": change,
            "end": list(end)}  # fmt: skip


def _errors(
    p: float, depth: int, rollouts: tuple[int, ...], attempts: int, report: str = "full"
) -> Setting:
    return {"kind": "test", "p": p, "depth": depth, "N": list(rollouts), "attempts": attempts,
            "report": report}  # fmt: skip


def _small(exponent: int, attempts: int = 20_000) -> Setting:
    return {"kind": "law", "reach": 10.0**-exponent, "multiples": [0.1, 0.3, 1.0, 3.0, 10.0],
            "attempts": attempts}  # fmt: skip


def _minimal(p: float, depth: int, error: float, attempts: int, by: str) -> Setting:
    return {"kind": "fewest", "p": p, "depth": depth, "error": error, "attempts": attempts,
            "by": by}  # fmt: skip


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
        *(_small(exponent) for exponent in (6, 15, 30)),
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
    measure=_measure,
    check=_check,
    show=_show,
)
