"""Figures and tables of the experiment ``settle``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape

import numpy as np

from .. import limits
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import quantity
from ..pages.kit.markup import Html
from ..pages.kit.plots import grid
from ..pages.kit.table import Part, Table
from . import waits
from .base import Row, where
from .plots import Axes, Line, plot
from .settle_rows import (
    LEAST,
    NATS,
    K,
    P,
    costs,
    fitted,
    per_rollout,
    records,
    rule,
    transformed,
    values,
)
from .waits import horizons, median_wait

_COLORS = {"root": "root", "prefix": "visited", "explore": "reset", "replay": "chosen"}
_STYLES = {"root": 0, "prefix": 1, "explore": 2, "replay": 3}
_NAMES = {
    "root": "root",
    "prefix": "prefix",
    "explore": "explore (ablation)",
    "replay": "replay (ablation)",
}


def show(rows: Sequence[Row]) -> list[Part]:
    """The section of the page."""
    shown = [H for H in (8, 12, 14, 32) if where(rows, H=H)]
    return [
        grid([_half_plot(rows), _wait_plot(rows)]),
        _half_table(rows),
        *_fit_table(rows),
        grid([_curve_plot(rows, H) for H in shown]),
        "<h3>What was equal, from the recorded runs</h3>",
        *_equal_table(rows),
        _arm_table(rows),
    ]


# ---- figures -------------------------------------------------------------------------------------


def _half_plot(rows: Sequence[Row]) -> str:
    """N½ in tokens against H: median and quartiles of every arm, and the law that fits better."""
    label = "root: median wait for the first reward, exact"
    lines = [Line.law(label, range(4, 21), lambda H: per_rollout(H) * median_wait(P**H))]
    for arm, color in _COLORS.items():
        known = costs(rows, arm, "tokens")
        if not known:
            continue
        x = list(known)
        low, mid, high = np.array([np.quantile(known[H], (0.25, 0.5, 0.75)) for H in x]).T
        if (found := fitted(rows, arm, "tokens")) is not None:
            between = np.linspace(x[0], x[-1], 60).tolist()
            lines.append(Line.law("", between, found.at, color))
        label = f"{_NAMES[arm]}: median and quartiles"
        parts = (mid.tolist(), low.tolist(), high.tolist())
        lines.append(Line(label, x, *parts, color, _STYLES[arm], points=True))
    axes = Axes("horizon H", "generated tokens to J*/2", log_y=True)
    return plot("settle-half", "Budget to J*/2; pale: the growth law that fits better", axes, lines)


def _wait_plot(rows: Sequence[Row]) -> str:
    scores = transformed(where(rows, arm="root"))
    runs = "root-start training runs of all horizons"
    return waits.figure("settle-wait", runs, "rewarded rollouts", scores)


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """Mean training curves in tokens, over the exact limits of the root."""
    best = where(rows, H=H)[0]["best"]
    most = max(r["curve"][-1][0] for r in where(rows, H=H))
    budgets = np.unique(np.geomspace(max(H, most / 3000), 4 * most, 120).astype(int)).tolist()
    beta = rule(H).beta

    def first(tokens: int) -> float:
        return limits.first_success_value(int(tokens / per_rollout(H)), K, H, P, beta) / best

    def steered(tokens: int) -> float:
        return limits.steered_root_value(tokens // H, K, H, P, beta) / best

    learning = "root limit: nothing is learnt before the first success, exact"
    lines = [
        Line.law(learning, budgets, first, "root"),
        Line.law("limit of all who sample P from the root alone, exact", budgets, steered),
    ]
    for arm, color in _COLORS.items():
        mine = where(rows, arm=arm, H=H)
        if not mine:
            continue
        curves = values(mine, budgets, 0) / best
        mean = curves.mean(axis=0)
        error = 2 * curves.std(axis=0, ddof=1) / math.sqrt(len(mine)) if len(mine) > 1 else 0 * mean
        pick = slice(0, len(budgets), 6)
        label = f"{_NAMES[arm]}, mean of {len(mine)} runs ± 2 errors"
        points = [part[pick].tolist() for part in (mean, mean - error, mean + error)]
        lines.append(Line(label, budgets[pick], *points, color=color, style=_STYLES[arm]))
    axes = Axes("generated tokens", "J / J*", log_x=True, horizontal=0.5, y_range=(-0.15, 1.05))
    return plot(f"settle-curve-{H}", f"Training curves at H = {H}; runs stop at J*/2", axes, lines)


# ---- tables --------------------------------------------------------------------------------------


def _half_table(rows: Sequence[Row]) -> Table:
    shown: list[Row] = []
    for arm in _COLORS:
        for H in horizons(rows, arm):
            mine = where(rows, arm=arm, H=H)
            tokens, rollouts, wait = (
                [math.inf if r[what] is None else r[what] for r in mine]
                for what in ("tokens", "rollouts", "wait")
            )
            low, middle, high = np.quantile(tokens, (0.25, 0.5, 0.75), method="nearest")
            shown.append(
                {
                    "arm": _NAMES[arm],
                    "H": H,
                    "runs": len(mine),
                    "ended": tokens.count(math.inf),
                    "half": _tokens(middle),
                    "quartiles": f"{_tokens(low)} to {_tokens(high)}",
                    "rollouts": _tokens(float(np.median(rollouts))),
                    "wait": _tokens(float(np.median(wait))),
                    "exact": median_wait(P**H) if arm == "root" else None,
                }
            )
    head = "arm | H | runs | ended by budget | N½, tokens: median | quartiles | N½, rewarded rollouts | "
    head += "rollouts to the first reward | exact median of these"
    cells = (
        "{arm} | {H} | {runs} | {ended} | {half} | {quartiles} | {rollouts} | {wait} | {exact:q}"
    )
    return table_of(head, cells, shown)


def _tokens(value: float) -> str:
    return "not reached" if math.isinf(value) else quantity(value)


_FITTED = (
    *(("root", what, least) for what in ("tokens", "rollouts") for least in (0, LEAST)),
    ("root", "wait", 0),
    *(("prefix", "tokens", least) for least in (0, LEAST)),
    *((arm, "tokens", 0) for arm in ("explore", "replay")),
)
"""Arm, what it needed, and the least horizon."""


def _fit_table(rows: Sequence[Row]) -> list[Part]:
    """Both laws for every arm, next to what theory says."""
    shown: list[Row] = []
    for arm, what, least in _FITTED:
        if (found := fitted(rows, arm, what, least)) is None:
            continue
        theory = None
        if arm == "root":
            # what the tokens of a rollout, proportional to H, add to b on these horizons
            logs = np.polyfit(found.horizons, np.log(found.horizons), 1)
            above = f" <small>+ {logs[0]:.3f}</small>" if what == "tokens" else ""
            theory = Html(f"{NATS:.3f}{above}")
        name = "wait, rollouts" if what == "wait" else f"N½, {what}"
        criteria = {"aic": found.both("aic"), "bic": found.both("bic")}
        more = {"arm": arm, "of": name, "theory": theory, "last": found.horizons[-1]}
        shown.append(
            {"fit": found, "b": found.exponential, "c": found.polynomial, **more, **criteria}
        )
    if not shown:
        return [waits.UNFITTED]
    head = "arm | log of | H | runs | b in a + bH | log(1/p) | c in a + c log H | AIC of both | "
    head += "BIC of both | preferred"
    cells = "{arm} | {of} | {fit.horizons[0]}–{last} | {fit.runs} | {b.slope:.3f} <small>{b.low:.3f}–{b.high:.3f}</small> | "
    cells += "{theory} | {c.slope:.2f} <small>{c.low:.2f}–{c.high:.2f}</small> | {aic} | {bic} | {fit.preferred}"
    note = (
        "<p>Natural logarithms; 95 % intervals by resampling the runs at every H. A rollout of the root arm costs "
        "H tokens and its share of the KL batch, so in tokens the slope is larger than log(1/p) by the small number "
        "beside it, that of log H over the same horizons. b of N½ stays below that here: at H = 4 and 6 the mean wait "
        "is no longer than a batch of 64 rollouts, and what follows the first reward takes a share that falls with H, "
        "as the policy that is trained moves its own rollouts deeper. What is left as H grows is the wait for the "
        "first reward, the slope of which is log(1/p).</p>"
    )
    return [table_of(head, cells, shown, text=2), note]


def _equal_table(rows: Sequence[Row]) -> list[Part]:
    known, shown = records(rows), list[Row]()
    for H in sorted({H for H, _ in known}):
        mine = where(rows, H=H)
        shared = [arms for (h, _), arms in known.items() if h == H and len(arms) > 1]
        same = all(len({*arms.values()}) == 1 for arms in shared)
        verdict = ("all equal" if same else "<b>unequal</b>") if shared else "one arm only"
        seeds = [r["equal"]["seed"] for r in mine]
        more = {
            "arms": ", ".join(arm for arm in _COLORS if where(mine, arm=arm)),
            "verdict": Html(verdict),
            "several": len(shared),
            "seeds": f"{min(seeds)}–{max(seeds)}",
            "asked": mine[0]["equal"]["prompt"] or "empty",
        }
        shown.append({"H": H, **mine[0]["equal"], **more})
    head = "arms | H | records of the arms | seeds run by several arms | configuration | seeds | "
    head += "budget, tokens | prompt | β"
    cells = "{arms} | {H} | {verdict} | {several} | <code>{config}</code> | {seeds} | {budget[tokens]:q} | "
    cells += "{asked} | {rule[beta]:.5f}"
    first = rows[0]["equal"]
    rest = {name: value for name, value in first["rule"].items() if name != "beta"}
    note = (
        f"<p>Update: <code>{escape(first['update'])}</code> with <code>{escape(json.dumps(rest))}</code>. KL: "
        f"{escape(first['kl'])}. The configuration is a digest of the hyper-parameters, budget, target, prompt and "
        "the source of the update; a record holds it, the seed, the problem and a digest of its reward.</p>"
    )
    return [table_of(head, cells, shown), note]


def _arm_table(rows: Sequence[Row]) -> Table:
    """In what the arms differ."""
    shown = [
        {
            "arm": _NAMES[arm],
            "contracts": ", ".join(sorted({r["contract"] for r in mine})),
            "laws": ", ".join(sorted({r["law"] for r in mine})),
            "reward": max(r["starts"]["reward"][1] for r in mine),
            "kl": max(r["starts"]["kl"][1] for r in mine),
        }
        for arm in _COLORS
        if (mine := where(rows, arm=arm))
    ]
    head = "arm | contract granted | law of the reward part's trajectories | "
    head += "longest start of its rollouts, tokens | longest start of the KL rollouts"
    return table_of(head, "{arm} | {contracts} | {laws} | {reward} | {kl}", shown, text=3)
