"""Noisy parity: root-start samples hold the secret, and reading it from them is what is hard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import limits
from ..access.learner import BoundLearner
from ..diagnosis.intervals import clopper_pearson
from ..families.many import ensemble
from ..families.noisy_parity import NoisyParity, fidelity
from ..learners.registry import get_learner
from ..pages.comparison.tables import dot, table
from ..pages.kit.formatting import quantity
from ..pages.kit.html import grid
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, counted, interval, where
from .formulas import at_most, elimination_success, inside, likelihood_draws
from .plots import Axes, Line, plot

DELTA = 0.05
_ERROR = 1e-3  # of each statistical check
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)  # of the information floor


def _fidelity(T: int, alpha: float) -> Setting:
    return {"kind": "fidelity", "T": T, "alpha": alpha}


def _probe(control: str, report: str, T: int, alpha: float, secrets: int) -> Setting:
    return {"kind": "probe", "control": control, "report": report, "T": T, "alpha": alpha,
            "secrets": secrets}  # fmt: skip


def _samples(T: int, alpha: float, share: float | None, secrets: int) -> Setting:
    """``share`` of the floor as rollouts; ``None``: what Chernoff promises."""
    return {"kind": "samples", "T": T, "alpha": alpha, "share": share, "secrets": secrets}


def _elimination(report: str, T: int, alpha: float, spare: int | None, secrets: int) -> Setting:
    """``spare`` rollouts more than T - 1; ``None``: as many as the learner takes itself."""
    return {"kind": "elimination", "report": report, "T": T, "alpha": alpha, "spare": spare,
            "secrets": secrets}  # fmt: skip


_QUICK = (
    _fidelity(6, 0.2),
    *(_probe(c, r, 12, 0.2, 30) for c in ("reset", "chosen") for r in ("sample", "logprob")),
    *(_samples(12, 0.2, share, 60) for share in (0.25, 1.0, None)),
    *(_elimination("logprob", 12, 0.2, spare, 60) for spare in (0, 4)),
    _elimination("sample", 12, 0.2, None, 30),
)
_FULL = (
    *(_fidelity(T, a) for T in (2, 4, 6, 8, 10) for a in (0.05, 0.2, 0.4)),
    *(
        _probe(control, report, T, 0.2, 20)
        for control in ("reset", "chosen")
        for report in ("sample", "logprob")
        for T in (4, 8, 16, 32, 64)
    ),
    *(_samples(12, 0.2, share, 200) for share in (*_SHARES, None)),
    *(_samples(T, 0.2, None, 100) for T in (4, 8, 16)),
    *(_samples(12, alpha, None, 100) for alpha in (0.05, 0.1, 0.3)),
    *(_elimination("logprob", 12, 0.2, spare, 200) for spare in range(-2, 8)),
    *(_elimination("logprob", T, 0.2, 4, 100) for T in (4, 8, 16, 32, 64)),
    *(_elimination("sample", T, 0.2, None, 50) for T in (4, 8, 16, 32, 64)),
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(setting: Setting) -> list[Row]:
    kinds = {"fidelity": _fidelities, "probe": _probed, "samples": _sampled,
             "elimination": _eliminated}  # fmt: skip
    return kinds[setting["kind"]](setting)


def _fidelities(s: Setting) -> list[Row]:
    """At every position of secrets with their first index early, late and in between."""
    T, alpha, off, after = s["T"], s["alpha"], 0.0, []
    for first in sorted({0, (T - 2) // 2, T - 2}):
        law = NoisyParity(T, alpha, secret=range(first, T - 1))
        for t in range(T):
            value = fidelity(law, t)
            exact = (1 - 2 * alpha) ** 2 if t > first else 1.0
            off = max(off, abs(value - exact))
            after += [value] if t > first else []
    return [{"fidelity": min(after), "exact": (1 - 2 * alpha) ** 2, "off": off}]


def _probed(s: Setting) -> list[Row]:
    spec = f"parity_probe:report={s['report']},control={s['control']},delta={DELTA}"
    learner = get_learner(spec + (f",noise={s['alpha']}" if s["report"] == "sample" else ""))
    row = _run(learner, s)
    bits, walk = s["T"] - 1, 2 * (s["T"] - 1) - 1 if s["control"] == "reset" else 0
    m = limits.plurality_draws(2, bits, 1 - s["alpha"], DELTA) if s["report"] == "sample" else 1
    return [row | {"expected": bits * m + walk}]


def _sampled(s: Setting) -> list[Row]:
    T, alpha = s["T"], s["alpha"]
    floor = limits.parity_sample_floor(T, alpha)
    n = likelihood_draws(T - 1, alpha, DELTA)
    if s["share"] is not None:
        n = math.ceil(s["share"] * floor)
    fano = (n / floor * (T - 1) + 1) * math.log(2) / math.log(2 ** (T - 1) - 1)
    return [_run(get_learner(f"parity_root:n={n}"), s) | {"n": n, "fano": min(1.0, fano)}]


def _eliminated(s: Setting) -> list[Row]:
    T, spare = s["T"], s["spare"]
    spec = f"parity_elimination:report={s['report']},delta={DELTA}"
    spec += f",noise={s['alpha']}" if s["report"] == "sample" else ""
    spec += "" if spare is None else f",n={T - 1 + spare}"
    exact = None if spare is None else elimination_success(T - 1 + spare, T - 1)
    return [_run(get_learner(spec), s) | {"exact": exact}]


def _run(learner: BoundLearner, s: Setting) -> Row:
    laws = ensemble([NoisyParity(s["T"], s["alpha"], seed=i) for i in range(s["secrets"])])
    grants = str(learner.requires)
    result = run(learner, laws.problems(), laws, grants=grants, seed=s["seed"], on_error="record")
    queries = [a.cost.queries for a in result.attempts]
    return {
        "grants": grants,
        "passed": sum(a.passed for a in result.attempts),
        "rollouts": float(np.mean([a.cost.rollouts for a in result.attempts])),
        "queries": float(np.mean(queries)),
        "same": min(queries) == max(queries),
        "errors": sum(a.error is not None for a in result.attempts),
    }


def work(T: int) -> int:
    """Additions of the Walsh-Hadamard transform of ``parity_root``: (T - 1)·2^(T - 1)."""
    return (T - 1) << (T - 1)


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    return [
        *_fidelity_checks(where(rows, kind="fidelity")),
        *_probe_checks(where(rows, kind="probe")),
        *_sample_checks(where(rows, kind="samples")),
        *_elimination_checks(where(rows, kind="elimination")),
    ]


def _fidelity_checks(rows: Sequence[Row]) -> list[Check]:
    known = where(rows, T=6, alpha=0.2)
    worst = max(r["off"] for r in rows)
    return [
        Check(
            "fidelity at T = 6, α = 0.2 is 0.36",
            all(abs(r["fidelity"] - 0.36) < 1e-9 for r in known),
            f"{known[0]['fidelity']:.12f}",
        ),
        Check(
            "fidelity is (1 − 2α)² behind the first index of the secret, and 1 before",
            worst < 1e-9,
            f"largest difference {worst:.1e} in {len(rows)} settings of T and α, all positions",
        ),
    ]


def _probe_checks(rows: Sequence[Row]) -> list[Check]:
    sure, drawn = where(rows, report="logprob"), where(rows, report="sample")
    failed, total = _failed(drawn), sum(r["secrets"] for r in drawn)
    return [
        Check(
            "a few conditional histories tell the secret: for certain with log-probabilities",
            not _failed(sure) and not any(r["errors"] for r in rows),
            f"{sum(r['passed'] for r in sure)} of {sum(r['secrets'] for r in sure)} secrets",
        ),
        Check(
            "with samples the probe fails at rate δ at most",
            at_most(failed, total, DELTA, _ERROR),
            f"{failed} of {total} secrets, interval {interval(failed, total)}; δ = {DELTA}",
        ),
        Check(
            "the probe takes (T − 1)·m queries, and 2(T − 1) − 1 more under RESET",
            all(r["same"] and r["queries"] == r["expected"] for r in rows),
            f"exact in {len(rows)} settings, T up to {max(r['T'] for r in rows)}",
        ),
    ]


def _sample_checks(rows: Sequence[Row]) -> list[Check]:
    enough = [r for r in rows if r["share"] is None]
    few = [r for r in rows if r["share"] is not None]
    failed, total = _failed(enough), sum(r["secrets"] for r in enough)
    below = [at_most(r["passed"], r["secrets"], r["fano"], _ERROR / len(few)) for r in few]
    ratio = max(r["n"] / limits.parity_sample_floor(r["T"], r["alpha"]) for r in enough)
    return [
        Check(
            "root-start samples hold the secret: the likeliest one is right with 1 − δ",
            at_most(failed, total, DELTA, _ERROR),
            f"{failed} of {total} wrong, interval {interval(failed, total)}, with at most "
            f"{ratio:.1f} times the information floor, linear in T; its {quantity(work(12))} additions at "
            f"T = 12 are {quantity(work(64))} at T = 64",
        ),
        Check(
            "with fewer samples no better than Fano allows",
            all(below),
            "; ".join(
                f"{r['n']}: {r['passed'] / r['secrets']:.2f} ≤ {r['fano']:.2f}"
                for r in few
                if r["fano"] < 1
            ),
        ),
    ]


def _elimination_checks(rows: Sequence[Row]) -> list[Check]:
    exact, asked = where(rows, report="logprob"), where(rows, report="sample")
    error = _ERROR / max(1, len(exact))
    # that the secret is not 0 helps only where all parities seen are 0
    good = [
        inside(r["passed"], r["secrets"], r["exact"], error)
        or inside(r["passed"], r["secrets"], r["exact"] + 2.0 ** -r["rollouts"], error)
        for r in exact
    ]
    failed, total = _failed(asked), sum(r["secrets"] for r in asked)
    return [
        Check(
            "ROOT/LOGPROB breaks it: linear algebra on T − 1 and a few rollouts, as the law of ranks says",
            all(good) and not any(r["errors"] for r in exact),
            "; ".join(
                f"T = {r['T']}, {r['rollouts']:g} rollouts: {r['passed'] / r['secrets']:.3f} "
                f"({r['exact']:.3f})"
                for r in exact
                if r["spare"] == 4
            ),
        ),
        Check(
            "VISITED/SAMPLE breaks it too: asking again where rollouts passed takes the noise away",
            at_most(failed, total, DELTA, _ERROR) and not any(r["errors"] for r in asked),
            f"{failed} of {total} wrong, interval {interval(failed, total)}; δ = {DELTA}",
        ),
    ]


def _failed(rows: Sequence[Row]) -> int:
    return sum(r["secrets"] - r["passed"] for r in rows)


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[str]:
    return [
        grid([_curve(rows), _growth(rows)]),
        _interfaces(rows),
        _fidelity_table(where(rows, kind="fidelity")),
    ]


def _curve(rows: Sequence[Row]) -> str:
    """Success at T = 12 against rollouts: maximum likelihood on samples, elimination on log P."""
    T, alpha = 12, 0.2
    floor, ns = limits.parity_sample_floor(T, alpha), list(range(4, 110, 2))
    fano = [min(1.0, (n / floor * (T - 1) + 1) * math.log(2) / math.log(2 ** (T - 1) - 1))
            for n in ns]  # fmt: skip
    rank = [elimination_success(n, T - 1) for n in ns]
    lines = [
        Line("Fano: most that n samples allow", ns, fano, color="muted", exact=True),
        Line("rank law of n log-probabilities, exact", ns, rank, color="root", exact=True),
    ]
    for style, (kind, label) in enumerate(
        (
            ("samples", "parity_root, root/sample"),
            ("elimination", "parity_elimination, root/logprob"),
        )
    ):
        mine = [r for r in where(rows, kind=kind, T=T, alpha=alpha)
                if kind == "samples" or r["report"] == "logprob"]  # fmt: skip
        best = {r["rollouts"]: r for r in sorted(mine, key=lambda r: r["secrets"])}
        points = [best[n] for n in sorted(best)]
        bounds = [clopper_pearson(r["passed"], r["secrets"]) for r in points]
        lines.append(
            Line(label, [r["rollouts"] for r in points],
                 [r["passed"] / r["secrets"] for r in points], [b.low for b in bounds],
                 [b.high for b in bounds], "root", style, points=True)
        )  # fmt: skip
    axes = Axes("root-start rollouts", "success", y_range=(0, 1.03))
    return plot("parity-success", f"Naming the secret at T = {T}, α = {alpha}", axes, lines)


def _growth(rows: Sequence[Row]) -> str:
    sizes = [4, 8, 12, 16, 24, 32, 48, 64]
    lines = [
        Line("additions of parity_root on root/sample", sizes, [float(work(T)) for T in sizes],
             color="muted", exact=True),
        Line("its samples, enough for 1 − δ", sizes,
             [float(likelihood_draws(T - 1, 0.2, DELTA)) for T in sizes], color="root"),
    ]  # fmt: skip
    for style, (kind, values, label, color) in enumerate(_SERIES, 1):
        points = sorted(
            {
                (r["T"], r["queries"] + r["rollouts"])
                for r in where(rows, kind=kind, alpha=0.2, **values)
            }
        )
        x, y = [T for T, _ in points], [cost for _, cost in points]
        lines.append(Line(label, x, y, color=color, style=style))
    axes = Axes("length T", "queries, rollouts or additions", log_x=True, log_y=True,
                x_ticks=(4, 8, 16, 32, 64), y_range=(1, 1e13))  # fmt: skip
    return plot("parity-growth", "What grows: α = 0.2, δ = 0.05", axes, lines)


_SERIES = (
    ("elimination", {"report": "logprob", "spare": 4}, "rollouts, root/logprob", "root"),
    ("elimination", {"report": "sample"}, "queries, visited/sample", "visited"),
    ("probe", {"report": "sample", "control": "reset"}, "queries, reset/sample", "reset"),
    ("probe", {"report": "logprob", "control": "reset"}, "queries, reset/logprob", "reset"),
    ("probe", {"report": "logprob", "control": "chosen"}, "queries, chosen/logprob", "chosen"),
)


def _interfaces(rows: Sequence[Row]) -> str:
    """What each interface takes, and what its reader computes."""
    works = {"samples": "(T − 1)·2<sup>T−1</sup> additions", "elimination": "T² words of T bits",
             "probe": "T² bits"}  # fmt: skip
    body = []
    for r in rows:
        if r["kind"] == "fidelity" or r.get("share") is not None:
            continue
        if r["kind"] == "elimination" and r["spare"] not in (None, 4):
            continue
        control = r["grants"].partition("/")[0]
        body.append(
            [f"{dot(control)}{r['grants']}", works[r["kind"]], str(r["T"]), f"{r['alpha']:g}",
             quantity(r["rollouts"]), quantity(r["queries"]),
             quantity(work(r["T"])) if r["kind"] == "samples" else "·",
             counted(r["passed"], r["secrets"])]
        )  # fmt: skip
    order = ["root/sample", "root/logprob", "visited/sample"]
    body.sort(
        key=lambda row: (next((i for i, o in enumerate(order) if row[0].endswith(o)), 9), row[0])
    )
    head = [
        "interface",
        "work of the reader",
        "T",
        "α",
        "rollouts",
        "queries",
        "additions",
        "right",
    ]
    return table(head, body, text=2)


def _fidelity_table(rows: Sequence[Row]) -> str:
    body = [
        [str(r["T"]), f"{r['alpha']:g}", f"{r['fidelity']:.6f}", f"{r['exact']:.6f}"] for r in rows
    ]
    return table(["T", "α", "fidelity", "(1 − 2α)²"], body, text=0)


EXPERIMENT = Experiment(
    id="noisy-parity",
    claim="hidden parity: root-start samples are parity with noise, a few conditional histories expose it",
    statement=(
        "T − 1 uniform bits, then their parity over a secret set, flipped with probability α. The fidelity of this "
        "law, by which learning from conditional histories is measured, is (1 − 2α)<sup>2</sup>.",
        "The separation is computational, not informational. Root-start samples hold the secret: a number linear in "
        "T suffices, and the likeliest secret is then right. What is hard is to find it; the reader here takes "
        "(T − 1)·2<sup>T−1</sup> additions, and all known ones take time exponential in T, up to constants and a "
        "logarithm in the exponent (Blum, Kalai and Wasserman 2003). Elsewhere in the paper the barrier is one of "
        "information.",
        "It is ROOT/SAMPLE against all else that sees the last bit: one log-probability per rollout tells a "
        "noiseless parity, and T − 1 + 4 of them the secret by linear algebra; VISITED control lets a learner ask "
        "again where rollouts passed, which averages the noise away; RESET and CHOSEN choose the histories.",
    ),
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=_measure,
    check=_check,
    show=_show,
)
