"""Reward-guided exploration: what rewards buy, and what they cost in draws from the generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..access.attempt import Attempt
from ..access.learner import BoundLearner
from ..families.linear_optimum import LinearOptimum, Needle
from ..families.rotated import Rotated
from ..families.softmax_hard import SoftmaxHard
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import quantity
from ..pages.kit.plots import grid
from ..pages.kit.table import Part
from ..randomness import stream_key
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, where
from .fits import Growth, growth
from .measuring import by_kind, setting_of
from .plots import Axes, Line, plot
from .spanners_xpo import xpo_like

GAP = 0.01
_TOKENS, _WIDTH = 2, 4  # K and H of the noisy family
_BETA = 1 / (2 * _WIDTH)

_hard = setting_of("hard", "beta")
_length = setting_of("length", "arm H runs")
_error = setting_of("error", "arm size runs")

_QUICK = (
    *(_hard(b) for b in (0.1, 0.25)),
    *(_length(arm, H, 1) for arm in ("mtss", "spanner") for H in (4, 6)),
    *(_length(arm, H, 8) for arm in ("uniform", "rejection") for H in (4, 6)),
    *(_error(arm, size, 3) for arm in ("mtss", "spanner") for size in (16, 64)),
    *(_length("xpo", H, 2) for H in (4, 6)),
)
_FULL = (
    *(_length(arm, H, 2) for arm in ("mtss", "spanner") for H in (4, 5, 6, 8, 10)),
    *(_length(arm, H, 8) for arm in ("uniform", "rejection") for H in (4, 5, 6, 8, 10)),
    *(_length("xpo", H, 4) for H in (4, 5, 6, 8, 10)),
    *(_error("mtss", size, 4) for size in (16, 32, 64, 128, 256)),
    *(_error("spanner", size, 6) for size in (16, 32, 64, 128, 256)),
)

# ---- measuring -----------------------------------------------------------------------------------


def balanced(H: int, K: int = 2) -> float:
    """A β at which the needle keeps J* of order 1/H·H: 1/(H·log K + 2)."""
    return 1.0 / (H * math.log(K) + 2.0)


def _hard_values(s: Setting) -> Iterator[Row]:
    law = SoftmaxHard(8, math.exp(-1 / (2 * s["beta"])))
    found = law.value([law.theta(1, s["beta"])], s["beta"])
    known = law.optimal_value(s["beta"])
    yield {"best": known, "coverage": law.coverage(s["beta"]), "off": abs(found - known)}


def _lengths(s: Setting) -> Iterator[Row]:
    H, beta = s["H"], balanced(s["H"])
    for i in range(s["runs"]):
        law = Needle(2, H, seed=s["seed"] * 100 + i)
        measure = {"uniform": _uniform, "rejection": _rejection, "xpo": _xpo}.get(
            s["arm"], _explored
        )
        yield {
            "run": i,
            "coverage": law.coverage(beta),
            "conditional": law.conditional_coverage(beta),
            **measure(law, beta, s["arm"], i),
        }


def _explored(law: LinearOptimum, beta: float, arm: str, seed: int) -> Row:
    spec = f"mtss:beta={beta}"
    if arm == "spanner":
        spec = f"spanner_sampling:beta={beta},coverage={law.coverage(beta)}"
    attempt = _attempt(get_learner(spec), law, seed)
    return {"gap": gap(law, beta, attempt.metadata), **account(attempt)}


def _uniform(law: LinearOptimum, beta: float, arm: str, seed: int) -> Row:
    """Pairs from P with all rewards bought: the first power of two that reaches the gap."""
    pairs = 2
    while True:
        pairs *= 2
        spec = f"spanner_sampling:beta={beta},explore=false,coverage=1,pairs={pairs}"
        attempt = _attempt(get_learner(spec), law, seed)
        off = gap(law, beta, attempt.metadata)
        if off <= GAP:
            return {"gap": off, **account(attempt)}


def _rejection(law: LinearOptimum, beta: float, arm: str, seed: int) -> Row:
    """One draw of the optimum by rejection with rewards, no model of them: no gap to be had cheaper."""
    bound = 2 * law.coverage(beta)
    spec = f"softmax_rejection:beta={beta},bound={bound},n={math.ceil(4 * bound)}"
    return {"gap": None, **account(_attempt(get_learner(spec), law, seed))}


def _xpo(law: LinearOptimum, beta: float, arm: str, seed: int) -> Row:
    return xpo_like(law, beta, seed, GAP)


def _errors(s: Setting) -> Iterator[Row]:
    """Noisy rewards: the gap that so many rewards leave."""
    for i in range(s["runs"]):
        law = Rotated(_TOKENS, _WIDTH, seed=i)
        spec = f"mtss:beta={_BETA},final={s['size']}"
        if s["arm"] == "spanner":
            spec = f"spanner_sampling:beta={_BETA},coverage={law.coverage(_BETA)},summed=true"
            spec += f",rounds={s['size']}"
        attempt = _attempt(get_learner(spec), law, 1000 + i)
        yield {"run": i, "gap": gap(law, _BETA, attempt.metadata), **account(attempt)}


def _attempt(learner: BoundLearner, law: LinearOptimum, seed: int) -> Attempt:
    (attempt,) = run(learner, [law.problem()], law, grants=learner.requires, seed=seed).attempts
    return attempt


def account(attempt: Attempt) -> Row:
    """T_data (rewards), T_comp (next-token draws), and how many of these are rollouts or queries."""
    cost = attempt.cost
    return {"rewards": cost.rewards, "tokens": cost.tokens, "rollouts": cost.rollouts}


def gap(law: LinearOptimum, beta: float, notes: Mapping[str, object]) -> float:
    """J* − J of the policy that a finding names, exactly."""
    if "thetas" in notes:
        named = notes["thetas"]
        assert isinstance(named, list)
        rows = [np.zeros(law.d) if theta is None else np.array(theta) for theta in named]
        return law.optimal_value(beta) - law.value(rows, beta)
    theta = np.array(notes["theta"])
    return law.optimal_value(beta) - law.sequence_value(theta, beta, isinstance(law, Rotated))


# ---- checks --------------------------------------------------------------------------------------


def _fit(rows: Sequence[Row], x: str, y: str) -> Growth:
    """log y against log x (``polynomial``) and against x (``exponential``), run by run."""
    costs: dict[int, list[float]] = {}
    for r in rows:
        costs.setdefault(round(r[x]), []).append(max(float(r[y]), 1e-12))
    return growth(costs, stream_key(0, "spanners", f"{x} {y}"))


def _by_size(rows: Sequence[Row]) -> Growth:
    """The gap against T_data."""
    means = {
        size: round(np.mean([r["rewards"] for r in where(rows, size=size)]))
        for size in _sizes(rows)
    }
    return _fit([r | {"data": means[r["size"]]} for r in rows], "data", "gap")


def _sizes(rows: Sequence[Row]) -> list[int]:
    return sorted({r["size"] for r in rows})


def _slope(fit: Growth) -> str:
    line = fit.polynomial
    return f"{line.slope:.2f} ({line.low:.2f} to {line.high:.2f})"


def _meets(fit: Growth, low: float, high: float) -> bool:
    """Whether the interval of the exponent meets low … high."""
    return fit.polynomial.low <= high and fit.polynomial.high >= low


def _check(rows: Sequence[Row]) -> list[Check]:
    return [
        *_exact_checks(where(rows, kind="hard")),
        *_length_checks(where(rows, kind="length")),
        *_error_checks(where(rows, kind="error")),
    ]


def _exact_checks(rows: Sequence[Row]) -> Iterator[Check]:
    worst = max(r["off"] for r in rows)
    shown = "; ".join(f"β = {r['beta']:g}: {r['best']:.5f}, {r['coverage']:.2f}" for r in rows)
    yield Check("the hard instance has its closed forms J* and C_cov", worst < 1e-12, shown)


def _length_checks(rows: Sequence[Row]) -> Iterator[Check]:
    token, whole = where(rows, arm="mtss"), where(rows, arm="spanner")
    worst = max(r["gap"] for r in [*token, *whole])
    yield Check(
        f"both explorers come within {GAP:g} of J* in every run", worst <= GAP, f"worst {worst:.1e}"
    )
    comp = _fit(whole, "coverage", "rollouts")
    yield Check(
        "SpannerSampling: rollouts grow like C_cov (exponent 1)",
        0.9 <= comp.polynomial.slope <= 1.1,
        f"exponent {_slope(comp)}",
    )
    data = _fit(whole, "coverage", "rewards")
    yield Check(
        "… and its rewards do not (exponent 0)",
        abs(data.polynomial.slope) <= 0.15,
        f"exponent {_slope(data)}",
    )
    for arm, name in (("uniform", "pairs of P"), ("rejection", "rejection with rewards")):
        fit = _fit(where(rows, arm=arm), "coverage", "rewards")
        yield Check(
            f"{name}: rewards grow like C_cov (exponent 1, within 0.3)",
            _meets(fit, 0.7, 1.3),
            f"exponent {_slope(fit)}",
        )
    known = where(rows, arm="xpo")
    paid, read = _fit(known, "coverage", "rewards"), _fit(known, "coverage", "outputs")
    yield Check(
        "XPO-like, features of all outputs known: few rewards (exponent 0), and reads all outputs (exponent 1, within 0.3)",
        abs(paid.polynomial.slope) <= 0.25 and _meets(read, 0.7, 1.3),
        f"exponents {_slope(paid)} and {_slope(read)}; worst gap {max(r['gap'] for r in known):.1e}",
    )
    steps, paid = _fit(token, "H", "tokens"), _fit(token, "H", "rewards")
    yield Check(
        "MTSS: T_comp and T_data are polynomial in H, with C_cond below 2 throughout",
        steps.polynomial.slope < 4.0 and max(r["conditional"] for r in token) < 2.0,
        f"exponents {_slope(steps)} and {_slope(paid)}; C_cov up to "
        f"{quantity(max(r['coverage'] for r in token))}",
    )
    yield _crossing(token, whole)


def _crossing(token: Sequence[Row], whole: Sequence[Row]) -> Check:
    lengths = sorted({r["H"] for r in token} & {r["H"] for r in whole})
    ratios = [_mean(whole, H, "tokens") / _mean(token, H, "tokens") for H in lengths]
    shown = ", ".join(f"H = {H}: {ratio:.2f}" for H, ratio in zip(lengths, ratios, strict=True))
    return Check(
        "T_comp of SpannerSampling over that of MTSS rises with H", ratios[-1] > ratios[0], shown
    )


def _mean(rows: Sequence[Row], H: int, name: str) -> float:
    return float(np.mean([r[name] for r in rows if r["H"] == H]))


def _error_checks(rows: Sequence[Row]) -> Iterator[Check]:
    for arm, name in (("spanner", "SpannerSampling"), ("mtss", "MTSS")):
        mine = where(rows, arm=arm)
        fit, comp = _by_size(mine), _fit(mine, "rewards", "tokens")
        yield Check(
            f"{name}: the gap falls like 1/T_data (exponent −1, within 0.4)",
            _meets(fit, -1.4, -0.6),
            f"exponent {_slope(fit)}; T_comp grows like T_data^{comp.polynomial.slope:.2f}",
        )


# ---- showing -------------------------------------------------------------------------------------

_ARMS = (
    ("mtss", "MTSS, visited", "visited"),
    ("spanner", "SpannerSampling, root", "root"),
    ("uniform", "pairs of P, root", "muted"),
    ("rejection", "rejection, root", "ink"),
    ("xpo", "XPO-like, all outputs read", "chosen"),
)


def _show(rows: Sequence[Row]) -> list[Part]:
    lengths = where(rows, kind="length")
    axes = {
        "tokens": Axes("length H", "T_comp, tokens drawn", log_y=True),
        "rewards": Axes("length H", "T_data, rewards", log_y=True),
    }
    figures = [
        plot(
            f"spanners-{name}",
            f"The needle, gap at most {GAP:g}",
            axes[name],
            _lines(lengths, name),
        )
        for name in axes
    ]
    head = "arm | H | C_cov | C_cond | T_data | T_comp | gap"
    cells = "{arm:name} | {H} | {coverage:q} | {conditional:.4f} | {rewards:q} | {tokens:q} | {gap}"
    shown = [_averaged(lengths, arm, H) for arm, _, _ in _ARMS for H in _lengths_of(lengths, arm)]
    return [
        grid([*figures, _gaps(where(rows, kind="error"))]),
        table_of(head, cells, shown, text=1),
    ]


def _lengths_of(rows: Sequence[Row], arm: str) -> list[int]:
    return sorted({r["H"] for r in where(rows, arm=arm)})


def _averaged(rows: Sequence[Row], arm: str, H: int) -> Row:
    mine = where(rows, arm=arm, H=H)
    found: Row = {"arm": arm, "H": H}
    for name in ("coverage", "conditional", "rewards", "tokens"):
        found[name] = float(np.mean([r[name] for r in mine]))
    known = [r["gap"] for r in mine if r["gap"] is not None]
    return found | {"gap": f"{np.mean(known):.1e}" if known else "·"}


def _lines(rows: Sequence[Row], name: str) -> list[Line]:
    lines: list[Line] = []
    for style, (arm, label, color) in enumerate(_ARMS):
        at = _lengths_of(rows, arm)
        y = [_mean(where(rows, arm=arm), H, name) for H in at]
        lines.append(Line(label, at, y, color=color, style=style))
    return lines


def _gaps(rows: Sequence[Row]) -> str:
    lines: list[Line] = []
    for style, (arm, label, color) in enumerate(_ARMS[:2]):
        mine = where(rows, arm=arm)
        points = [where(mine, size=size) for size in _sizes(mine)]
        x = [float(np.mean([r["rewards"] for r in some])) for some in points]
        y = [float(np.exp(np.mean(np.log([r["gap"] for r in some])))) for some in points]
        lines.append(Line(label, x, y, color=color, style=style))
    axes = Axes("T_data, rewards", "J* − J, geometric mean", log_x=True, log_y=True)
    return plot("spanners-gap", "Noisy rewards at K = 2, H = 4, β = 1/8", axes, lines)


EXPERIMENT = Experiment(
    id="spanners",
    claim="few rewards suffice for linear features; rollouts pay the coverage of an output, prefixes a token's",
    statement=(
        "KL-regularized reward on a uniform generator with features in which the optimum is linear (Foster, "
        "Mhammedi and Rohatgi 2025, arXiv 2503.07453). Two accounts: T_data, the rewards, and T_comp, the tokens that "
        "are drawn. Features are an oracle: only those of what the generator emitted are shown.",
        "On the needle, at β = 1/(H·log 2 + 2), C_cov is about 0.88·2<sup>H</sup> and C_cond below 2. SpannerSampling draws "
        "its policy by rejection from rollouts, so a round costs about 10·C_cov of them, whatever it pays in rewards; MTSS "
        "returns to prefixes that it has visited and rejects token by token. The published T_comp ∝ T_data² comes "
        "from the theorem's constants: with practical ones a round costs the same each time, and T_comp is linear in "
        "T_data.",
        "Baselines at the same gap: the same regression on pairs of P, every reward bought; and rejection sampling of the "
        "optimum, whose every proposal is judged. XPO-like (arXiv 2405.21046): on-policy pairs and an optimistic regression "
        "with log Z by enumeration, which no session could give; its T_comp is all that it reads. Gaps are exact: the returned policy, by enumeration.",
    ),
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=by_kind(hard=_hard_values, length=_lengths, error=_errors),
    check=_check,
    show=_show,
)
