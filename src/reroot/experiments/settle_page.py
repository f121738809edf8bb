"""Figures and tables of the experiment ``settle``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape

import numpy as np

from .. import limits
from ..pages.kit.formatting import quantity
from ..pages.kit.html import grid
from ..pages.kit.table import table
from .base import Row, where
from .fits import Growth
from .plots import Axes, Line, plot
from .settle_rows import (
    LEAST,
    NATS,
    K,
    P,
    costs,
    fitted,
    horizons,
    per_rollout,
    records,
    rule,
    transformed,
    values,
)

_COLORS = {"root": "root", "prefix": "visited", "explore": "reset", "replay": "chosen"}
_STYLES = {"root": 0, "prefix": 1, "explore": 2, "replay": 3}
_NAMES = {
    "root": "root",
    "prefix": "prefix",
    "explore": "explore (ablation)",
    "replay": "replay (ablation)",
}


def show(rows: Sequence[Row]) -> list[str]:
    """The section of the page."""
    shown = [H for H in (8, 12, 14, 32) if where(rows, H=H)]
    return [
        grid([_half_plot(rows), _wait_plot(where(rows, arm="root"))]),
        _half_table(rows),
        _fit_table(rows),
        grid([_curve_plot(rows, H) for H in shown]),
        "<h3>What was equal, from the recorded runs</h3>",
        _equal_table(rows),
        _arm_table(rows),
    ]


# ---- figures -------------------------------------------------------------------------------------


def _half_plot(rows: Sequence[Row]) -> str:
    """N½ in tokens against H: median and quartiles of every arm, and the law that fits better."""
    every = list(range(4, 21))
    wait = [per_rollout(H) * _median_wait(H) for H in every]
    label = "root: median wait for the first reward, exact"
    lines = [Line(label, every, wait, color="muted", exact=True)]
    for arm, color in _COLORS.items():
        known = costs(rows, arm, "tokens")
        if not known:
            continue
        x = list(known)
        low, mid, high = np.array([np.quantile(known[H], (0.25, 0.5, 0.75)) for H in x]).T
        if (found := fitted(rows, arm, "tokens")) is not None:
            between = np.linspace(x[0], x[-1], 60).tolist()
            lines.append(Line("", between, _along(found, between), color=color, exact=True))
        label = f"{_NAMES[arm]}: median and quartiles"
        parts = (mid.tolist(), low.tolist(), high.tolist())
        lines.append(Line(label, x, *parts, color, _STYLES[arm], points=True))
    axes = Axes("horizon H", "generated tokens to J*/2", log_y=True)
    return plot("settle-half", "Budget to J*/2; pale: the growth law that fits better", axes, lines)


def _along(found: Growth, horizons: Sequence[float]) -> list[float]:
    if found.preferred == "exponential":
        return [found.exponential.at(h) for h in horizons]
    return [found.polynomial.at(math.log(h)) for h in horizons]


def _median_wait(H: int) -> float:
    """Rewarded rollouts to the first reward of the root arm: where (1 − p^H)^N = 1/2."""
    return math.log(0.5) / math.log1p(-(P**H))


def _wait_plot(rows: Sequence[Row]) -> str:
    """Share of root runs still without a reward after x mean waits."""
    x = np.sort(-np.log1p(-transformed(rows)))
    left = 1 - np.arange(len(x)) / len(x)
    every = np.linspace(0, max(4.0, float(x[-1])), 50)
    lines = [
        Line("geometric with parameter p^H, exact", every.tolist(), np.exp(-every).tolist(),
             color="muted", exact=True),
        Line("root-start training runs of all horizons", x.tolist(), left.tolist(), color="root",
             points=True),
    ]  # fmt: skip
    axes = Axes("rewarded rollouts / mean wait", "share without a reward yet", log_y=True)
    return plot(
        "settle-wait", "How long root-start training waits for its first reward", axes, lines
    )


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """Mean training curves in tokens, over the exact limits of the root."""
    best = where(rows, H=H)[0]["best"]
    most = max(r["curve"][-1][0] for r in where(rows, H=H))
    budgets = np.unique(np.geomspace(max(H, most / 3000), 4 * most, 120).astype(int)).tolist()
    beta = rule(H).beta
    first = [
        limits.first_success_value(int(t / per_rollout(H)), K, H, P, beta) / best for t in budgets
    ]
    steered = [limits.steered_root_value(t // H, K, H, P, beta) / best for t in budgets]
    lines = [
        Line("root limit: nothing is learnt before the first success, exact", budgets, first,
             color="root", exact=True),
        Line("limit of all who sample P from the root alone, exact", budgets, steered,
             color="muted", exact=True),
    ]  # fmt: skip
    for arm, color in _COLORS.items():
        mine = where(rows, arm=arm, H=H)
        if not mine:
            continue
        curves = values(mine, budgets, 0) / best
        mean = curves.mean(axis=0)
        error = 2 * curves.std(axis=0, ddof=1) / math.sqrt(len(mine)) if len(mine) > 1 else 0 * mean
        pick = slice(0, len(budgets), 6)
        lines.append(
            Line(f"{_NAMES[arm]}, mean of {len(mine)} runs ± 2 errors", budgets[pick],
                 mean[pick].tolist(), (mean - error)[pick].tolist(), (mean + error)[pick].tolist(),
                 color, _STYLES[arm])
        )  # fmt: skip
    axes = Axes("generated tokens", "J / J*", log_x=True, horizontal=0.5, y_range=(-0.15, 1.05))
    return plot(f"settle-curve-{H}", f"Training curves at H = {H}; runs stop at J*/2", axes, lines)


# ---- tables --------------------------------------------------------------------------------------


def _half_table(rows: Sequence[Row]) -> str:
    body: list[list[str]] = []
    for arm in _COLORS:
        for H in horizons(rows, arm):
            mine = where(rows, arm=arm, H=H)
            ended = [math.inf if r["tokens"] is None else r["tokens"] for r in mine]
            rollouts = [math.inf if r["rollouts"] is None else r["rollouts"] for r in mine]
            waits = [math.inf if r["wait"] is None else r["wait"] for r in mine]
            low, mid, high = (
                float(np.quantile(ended, q, method="nearest")) for q in (0.25, 0.5, 0.75)
            )
            exact = _median_wait(H) if arm == "root" else None
            body.append(
                [_NAMES[arm], str(H), f"{len(mine)}", str(ended.count(math.inf)), _tokens(mid),
                 f"{_tokens(low)} to {_tokens(high)}", _tokens(float(np.median(rollouts))),
                 _tokens(float(np.median(waits))), "·" if exact is None else _tokens(exact)]
            )  # fmt: skip
    head = ["arm", "H", "runs", "ended by budget", "N½, tokens: median", "quartiles",
            "N½, rewarded rollouts", "rollouts to the first reward", "exact median of these"]  # fmt: skip
    return table(head, body, text=1)


def _tokens(value: float) -> str:
    return "not reached" if math.isinf(value) else quantity(value)


def _fit_table(rows: Sequence[Row]) -> str:
    """Both laws for every arm, next to what theory says."""
    body: list[list[str]] = []
    for arm, what, least in (
        ("root", "tokens", 0), ("root", "tokens", LEAST), ("root", "rollouts", 0),
        ("root", "rollouts", LEAST), ("root", "wait", 0), ("prefix", "tokens", 0),
        ("prefix", "tokens", LEAST), ("explore", "tokens", 0), ("replay", "tokens", 0),
    ):  # fmt: skip
        found = fitted(rows, arm, what, least)
        if found is None:
            continue
        b, c = found.exponential, found.polynomial
        theory = "·"
        if arm == "root":
            theory = f"{NATS:.3f}"
            if what == "tokens":
                theory += f" <small>+ {_tokens_slope(found):.3f}</small>"
        body.append(
            [arm, {"wait": "wait, rollouts"}.get(what, f"N½, {what}"),
             f"{found.horizons[0]}–{found.horizons[-1]}", str(found.runs),
             f"{b.slope:.3f} <small>{b.low:.3f}–{b.high:.3f}</small>", theory,
             f"{c.slope:.2f} <small>{c.low:.2f}–{c.high:.2f}</small>",
             _pair(b.aic, c.aic), _pair(b.bic, c.bic), found.preferred]
        )  # fmt: skip
    if not body:
        return "<p>Growth laws are fitted from four horizons on.</p>"
    head = ["arm", "log of", "H", "runs", "b in a + bH", "log(1/p)", "c in a + c log H",
            "AIC of both", "BIC of both", "preferred"]  # fmt: skip
    note = (
        "<p>Natural logarithms; 95 % intervals by resampling the runs at every H. A rollout of the root arm costs "
        "H tokens and its share of the KL batch, so in tokens the slope is larger than log(1/p) by the small number "
        "beside it, that of log H over the same horizons. b of N½ stays below that here: at H = 4 and 6 the mean wait "
        "is no longer than a batch of 64 rollouts, and what follows the first reward takes a share that falls with H, "
        "as the policy that is trained moves its own rollouts deeper. What is left as H grows is the wait for the "
        "first reward, the slope of which is log(1/p).</p>"
    )
    return table(head, body, text=2) + note


def _pair(one: float, other: float) -> str:
    return f"{one:.1f}, {other:.1f}".replace("-", "−")


def _tokens_slope(found: Growth) -> float:
    """What the tokens of a rollout, proportional to H, add to b on these horizons."""
    x = np.array(found.horizons, dtype=np.float64)
    return float(np.polyfit(x, np.log(x), 1)[0])


def _equal_table(rows: Sequence[Row]) -> str:
    known, body = records(rows), list[list[str]]()
    for H in sorted({H for H, _ in known}):
        mine = where(rows, H=H)
        arms = [arm for arm in _COLORS if where(mine, arm=arm)]
        one = mine[0]["equal"]
        shared = [arms for (h, _), arms in known.items() if h == H and len(arms) > 1]
        same = all(len({*arms.values()}) == 1 for arms in shared)
        verdict = ("all equal" if same else "<b>unequal</b>") if shared else "one arm only"
        body.append(
            [", ".join(arms), str(H), verdict, str(len(shared)), f"<code>{one['config']}</code>",
             _span([r["equal"]["seed"] for r in mine]), quantity(one["budget"]["tokens"]),
             str(one["prompt"] or "empty"), f"{one['rule']['beta']:.5f}"]
        )  # fmt: skip
    head = ["arms", "H", "records of the arms", "seeds run by several arms", "configuration", "seeds",
            "budget, tokens", "prompt", "β"]  # fmt: skip
    first = rows[0]["equal"]
    shown = {name: value for name, value in first["rule"].items() if name != "beta"}
    note = (
        f"<p>Update: <code>{escape(first['update'])}</code> with <code>{escape(json.dumps(shown))}</code>. KL: "
        f"{escape(first['kl'])}. The configuration is a digest of the hyper-parameters, budget, target, prompt and "
        "the source of the update; a record holds it, the seed, the problem and a digest of its reward.</p>"
    )
    return table(head, body, text=1) + note


def _span(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}–{max(numbers)}"


def _arm_table(rows: Sequence[Row]) -> str:
    """In what the arms differ."""
    body: list[list[str]] = []
    for arm in _COLORS:
        mine = where(rows, arm=arm)
        if mine:
            longest = max(r["starts"]["reward"][1] for r in mine)
            kl = max(r["starts"]["kl"][1] for r in mine)
            contracts = ", ".join(sorted({r["contract"] for r in mine}))
            laws = ", ".join(sorted({r["law"] for r in mine}))
            body.append([_NAMES[arm], escape(contracts), escape(laws), str(longest), str(kl)])
    head = ["arm", "contract granted", "law of the reward part's trajectories",
            "longest start of its rollouts, tokens", "longest start of the KL rollouts"]  # fmt: skip
    return table(head, body, text=3)
