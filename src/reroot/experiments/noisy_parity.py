"""Noisy parity: root-start samples hold the secret, and reading it from them is what is hard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .. import limits
from ..access.learner import BoundLearner
from ..families.noisy_parity import NoisyParity, fidelity
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import quantity
from ..pages.kit.markup import Html
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from .base import Check, Experiment, Row, Setting, total, where
from .counts import ERROR, counted, rarely
from .formulas import at_most, elimination_success, inside, likelihood_draws
from .measuring import account, by_kind, run_each, setting_of
from .plots import Axes, Line, plot

DELTA = 0.05
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)  # of the information floor


_fidelity = setting_of("fidelity", "T alpha")
_probe = setting_of("probe", "control report T alpha secrets")
_samples = setting_of("samples", "T alpha share secrets")
"""``share`` of the floor as rollouts; ``None``: what Chernoff promises."""
_elimination = setting_of("elimination", "report T alpha spare secrets")
"""``spare`` rollouts more than T - 1; ``None``: as many as the learner takes itself."""

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


def _fidelities(s: Setting) -> Iterator[Row]:
    """At every position of secrets with their first index early, late and in between."""
    T, alpha, off, after = s["T"], s["alpha"], 0.0, []
    for first in sorted({0, (T - 2) // 2, T - 2}):
        law = NoisyParity(T, alpha, secret=range(first, T - 1))
        for t in range(T):
            value = fidelity(law, t)
            exact = (1 - 2 * alpha) ** 2 if t > first else 1.0
            off = max(off, abs(value - exact))
            after += [value] if t > first else []
    yield {"fidelity": min(after), "exact": (1 - 2 * alpha) ** 2, "off": off}


def _probed(s: Setting) -> Iterator[Row]:
    spec = f"parity_probe:report={s['report']},control={s['control']},delta={DELTA}"
    learner = get_learner(spec + (f",noise={s['alpha']}" if s["report"] == "sample" else ""))
    row = _run(learner, s)
    bits, walk = s["T"] - 1, 2 * (s["T"] - 1) - 1 if s["control"] == "reset" else 0
    m = limits.plurality_draws(2, bits, 1 - s["alpha"], DELTA) if s["report"] == "sample" else 1
    yield row | {"expected": bits * m + walk}


def _sampled(s: Setting) -> Iterator[Row]:
    T, alpha = s["T"], s["alpha"]
    floor = limits.parity_sample_floor(T, alpha)
    n = likelihood_draws(T - 1, alpha, DELTA)
    if s["share"] is not None:
        n = math.ceil(s["share"] * floor)
    yield _run(get_learner(f"parity_root:n={n}"), s) | {"n": n, "fano": _fano(n / floor, T)}


def _fano(share: float, T: int) -> float:
    """The most success with that share of the information floor as samples."""
    return min(1.0, (share * (T - 1) + 1) * math.log(2) / math.log(2 ** (T - 1) - 1))


def _eliminated(s: Setting) -> Iterator[Row]:
    T, spare = s["T"], s["spare"]
    spec = f"parity_elimination:report={s['report']},delta={DELTA}"
    spec += f",noise={s['alpha']}" if s["report"] == "sample" else ""
    spec += "" if spare is None else f",n={T - 1 + spare}"
    exact = None if spare is None else elimination_success(T - 1 + spare, T - 1)
    yield _run(get_learner(spec), s) | {"exact": exact}


def _run(learner: BoundLearner, s: Setting) -> Row:
    secrets = [NoisyParity(s["T"], s["alpha"], seed=i) for i in range(s["secrets"])]
    result = run_each(learner, secrets, s["seed"])
    row = account(result)
    return {
        "grants": str(learner.requires),
        "passed": row["passed"],
        "rollouts": float(np.mean([a.cost.rollouts for a in result.attempts])),
        "queries": row["queries"],
        "same": row["least"] == row["most"],
        "errors": row["errors"],
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


def _fidelity_checks(rows: Sequence[Row]) -> Iterator[Check]:
    known = where(rows, T=6, alpha=0.2)
    worst = max(r["off"] for r in rows)
    yield Check(
        "fidelity at T = 6, α = 0.2 is 0.36",
        all(abs(r["fidelity"] - 0.36) < 1e-9 for r in known),
        f"{known[0]['fidelity']:.12f}",
    )
    yield Check(
        "fidelity is (1 − 2α)² behind the first index of the secret, and 1 before",
        worst < 1e-9,
        f"largest difference {worst:.1e} in {len(rows)} settings of T and α, all positions",
    )


def _probe_checks(rows: Sequence[Row]) -> Iterator[Check]:
    sure, drawn = where(rows, report="logprob"), where(rows, report="sample")
    yield Check(
        "a few conditional histories tell the secret: for certain with log-probabilities",
        not _failed(sure) and not any(r["errors"] for r in rows),
        f"{total(sure, 'passed')} of {total(sure, 'secrets')} secrets",
    )
    yield _rare("with samples the probe fails at rate δ at most", drawn, "secrets")
    yield Check(
        "the probe takes (T − 1)·m queries, and 2(T − 1) − 1 more under RESET",
        all(r["same"] and r["queries"] == r["expected"] for r in rows),
        f"exact in {len(rows)} settings, T up to {max(r['T'] for r in rows)}",
    )


def _sample_checks(rows: Sequence[Row]) -> Iterator[Check]:
    enough, few = where(rows, share=None), [r for r in rows if r["share"] is not None]
    below = [at_most(r["passed"], r["secrets"], r["fano"], ERROR / len(few)) for r in few]
    ratio = max(r["n"] / limits.parity_sample_floor(r["T"], r["alpha"]) for r in enough)
    most = f"wrong with at most {ratio:.1f} times the information floor, linear in T (its "
    most += f"{quantity(work(12))} additions at T = 12 are {quantity(work(64))} at T = 64)"
    fano = [(r["n"], r["passed"] / r["secrets"], r["fano"]) for r in few if r["fano"] < 1]
    shown = "; ".join(f"{n}: {rate:.2f} ≤ {most:.2f}" for n, rate, most in fano)
    name = "root-start samples hold the secret: the likeliest one is right with 1 − δ"
    few = Check("with fewer samples no better than Fano allows", all(below), shown)
    yield _rare(name, enough, most)
    yield few


def _elimination_checks(rows: Sequence[Row]) -> Iterator[Check]:
    exact, asked = where(rows, report="logprob"), where(rows, report="sample")
    error = ERROR / max(1, len(exact))
    # that the secret is not 0 helps only where all parities seen are 0
    good = [
        inside(r["passed"], r["secrets"], r["exact"], error)
        or inside(r["passed"], r["secrets"], r["exact"] + 2.0 ** -r["rollouts"], error)
        for r in exact
    ]
    shown = "; ".join(
        f"T = {r['T']}, {r['rollouts']:g} rollouts: {r['passed'] / r['secrets']:.3f} ({r['exact']:.3f})"
        for r in where(exact, spare=4)
    )
    broken = "ROOT/LOGPROB breaks it: linear algebra on T − 1 and a few rollouts, as the law of ranks says"
    too = "VISITED/SAMPLE breaks it too: asking again where rollouts passed takes the noise away"
    yield Check(broken, all(good) and not any(r["errors"] for r in exact), shown)
    yield _rare(too, asked, sound=not any(r["errors"] for r in asked))


def _failed(rows: Sequence[Row]) -> int:
    return total(rows, "secrets") - total(rows, "passed")


def _rare(name: str, rows: Sequence[Row], what: str = "wrong", sound: bool = True) -> Check:
    """The secrets are missed at rate δ at most."""
    return rarely(name, _failed(rows), total(rows, "secrets"), DELTA, what, sound=sound)


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    head, cells = "T | α | fidelity | (1 − 2α)²", "{T} | {alpha:g} | {fidelity:.6f} | {exact:.6f}"
    exact = table_of(head, cells, where(rows, kind="fidelity"), text=0)
    return [grid([_curve(rows), _growth(rows)]), _interfaces(rows), exact]


def _curve(rows: Sequence[Row]) -> str:
    """Success at T = 12 against rollouts: maximum likelihood on samples, elimination on log P."""
    T, alpha = 12, 0.2
    floor, ns = limits.parity_sample_floor(T, alpha), list(range(4, 110, 2))
    rank = "rank law of n log-probabilities, exact"
    lines = [
        Line.law("Fano: most that n samples allow", ns, lambda n: _fano(n / floor, T)),
        Line.law(rank, ns, lambda n: elimination_success(n, T - 1), "root"),
    ]
    read = where(rows, kind="elimination", report="logprob")
    drawn = where(rows, kind="samples")
    labels = ("parity_root, root/sample", "parity_elimination, root/logprob")
    for style, (mine, label) in enumerate(zip((drawn, read), labels, strict=True)):
        found = sorted(where(mine, T=T, alpha=alpha), key=lambda r: r["secrets"])
        best = {r["rollouts"]: (r["passed"], r["secrets"]) for r in found}
        at = sorted(best)
        lines.append(Line.rates(label, at, [best[n] for n in at], "root", style))
    axes = Axes("root-start rollouts", "success", y_range=(0, 1.03))
    return plot("parity-success", f"Naming the secret at T = {T}, α = {alpha}", axes, lines)


def _growth(rows: Sequence[Row]) -> str:
    sizes = [4, 8, 12, 16, 24, 32, 48, 64]
    samples = [float(likelihood_draws(T - 1, 0.2, DELTA)) for T in sizes]
    lines = [
        Line.law("additions of parity_root on root/sample", sizes, work),
        Line("its samples, enough for 1 − δ", sizes, samples, color="root"),
    ]
    for style, (kind, values, label, color) in enumerate(_SERIES, 1):
        mine = where(rows, kind=kind, alpha=0.2, **values)
        points = sorted({(r["T"], r["queries"] + r["rollouts"]) for r in mine})
        x, y = [T for T, _ in points], [cost for _, cost in points]
        lines.append(Line(label, x, y, color=color, style=style))
    ticks = (4, 8, 16, 32, 64)
    axes = Axes("length T", "queries, rollouts or additions", True, True, None, (1, 1e13), ticks)
    return plot("parity-growth", "What grows: α = 0.2, δ = 0.05", axes, lines)


_SERIES = (
    ("elimination", {"report": "logprob", "spare": 4}, "rollouts, root/logprob", "root"),
    ("elimination", {"report": "sample"}, "queries, visited/sample", "visited"),
    ("probe", {"report": "sample", "control": "reset"}, "queries, reset/sample", "reset"),
    ("probe", {"report": "logprob", "control": "reset"}, "queries, reset/logprob", "reset"),
    ("probe", {"report": "logprob", "control": "chosen"}, "queries, chosen/logprob", "chosen"),
)


def _interfaces(rows: Sequence[Row]) -> Table:
    """What each interface takes, and what its reader computes."""
    works = {"samples": "(T − 1)·2<sup>T−1</sup> additions", "elimination": "T² words of T bits"}
    order = ["root/sample", "root/logprob", "visited/sample"]
    shown: list[Row] = []
    for r in rows:
        if r["kind"] == "fidelity" or r.get("share") is not None or r.get("spare") not in (None, 4):
            continue
        more: Row = {"work": Html(works.get(r["kind"], "T² bits"))}
        more["additions"] = float(work(r["T"])) if r["kind"] == "samples" else None
        more["right"] = counted(r["passed"], r["secrets"])
        more["place"] = order.index(r["grants"]) if r["grants"] in order else 9
        shown.append(r | more)
    shown.sort(key=lambda r: (r["place"], r["grants"]))
    head = "interface | work of the reader | T | α | rollouts | queries | additions | right"
    cells = "{grants:name} | {work} | {T} | {alpha:g} | {rollouts:q} | {queries:q} | {additions:q} | {right}"
    return table_of(head, cells, shown, text=2)


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
    measure=by_kind(fidelity=_fidelities, probe=_probed, samples=_sampled, elimination=_eliminated),
    check=_check,
    show=_show,
)
