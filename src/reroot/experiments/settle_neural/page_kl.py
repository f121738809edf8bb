"""Figures and tables of the runs of ``settle-neural`` with a KL term."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from ...pages.kit.cells import table_of
from ...pages.kit.markup import Html
from ...pages.kit.plots import grid
from ...pages.kit.table import Part, Table
from ..base import Row, where
from ..plots import Axes, Line, plot
from ..settle_rows import records
from .arms import ARMS, EVERY, HELD_OUT, ROOTS
from .parts import COLORS, STYLES, cost_plot, cost_table, fit_table, name_of, wait_plot
from .rows import P
from .settings import BALANCE, SETTINGS, beta_of

_GOAL = "J*/2 from the root"


def show(rows: Sequence[Row]) -> list[Part]:
    """The part of the page; ``rows`` are those with a KL term."""
    if not rows:
        return ["<h3>With a KL term</h3>", "<p><b>Not measured yet:</b> all of these runs.</p>"]
    shown = [H for H in (8, 16, 20, 32) if len({r["arm"] for r in where(rows, H=H)}) > 1]
    title = "Tokens until J of the root is half of the exact J*, with a KL term"
    return [
        "<h3>With a KL term</h3>",
        _introduction(),
        _missing(rows),
        grid([cost_plot(rows, "neural-kl-cost", title, _GOAL), wait_plot(rows, "neural-kl-wait")]),
        cost_table(rows, "J*/2"),
        *fit_table(rows, "J*/2", _after()),
        grid([_curve_plot(rows, H) for H in shown]),
        "<h3>What was equal with a KL term, from the recorded runs</h3>",
        *_equal_table(rows),
        _arm_table(rows),
    ]


def _introduction() -> str:
    return (
        f"<p>β = R/({2 * BALANCE}H log(1/p)), so that J* stays near 1 − 1/{2 * BALANCE} of R at every horizon. J* is exact: the "
        f"mean over {HELD_OUT} held-out prompts of β·log E[e<sup>r/β</sup>] under the untrained policy. J of a trained "
        "policy is its exact reach less β times its KL, for which the KL of the next-token laws is summed along "
        f"unpaid root rollouts, after every {EVERY} steps since the first reward. {ROOTS} groups of each step start at the "
        "empty prefix in every arm: the KL of the update is estimated on them alone.</p>"
    )


def _after() -> str:
    H = next(H for H in range(2, 100) if falls_first(H))
    return (
        "After the first reward root rollouts make all steps more likely together. If each is right with q in place of "
        "p, J changes by q<sup>H</sup> − p<sup>H</sup> − βH·KL(q ‖ p): "
        f"from H = {H} on that falls before it rises, and the KL takes back what rare rewards teach."
    )


def falls_first(H: int) -> bool:
    """Whether J falls below that of the untrained policy as the probability q of a right step rises from p."""
    q = np.linspace(P, 0.999, 400)[1:]
    kl = q * np.log(q / P) + (1 - q) * np.log((1 - q) / (1 - P))
    return bool((q**H - P**H < beta_of(H) * H * kl).any())


def missing(rows: Sequence[Row]) -> list[str]:
    """Released runs with a KL term that are not among ``rows``, by arm and horizon."""
    have = {(r["arm"], r["H"], r["path"]) for r in rows}
    left: dict[tuple[str, int], list[int]] = {}
    for s in SETTINGS:
        if "beta" in s and (s["arm"], s["H"], s["path"]) not in have:
            left.setdefault((s["arm"], s["H"]), []).append(s["path"])
    return [
        f"{arm} at H = {H} (seeds {', '.join(map(str, sorted(paths)))})"
        for (arm, H), paths in sorted(left.items())
    ]


def _missing(rows: Sequence[Row]) -> str:
    left = missing(rows)
    return f"<p><b>Not measured yet:</b> {escape('; '.join(left))}.</p>" if left else ""


def _curve_plot(rows: Sequence[Row], H: int) -> str:
    """J from the root against tokens, run by run."""
    mine = where(rows, H=H)
    best, last = mine[0]["best"], max(r["spent"] for r in mine)
    lines = [Line.law("J* of the untrained policy, exact", (100.0, last), lambda _: best)]
    for arm, color in COLORS.items():
        for i, row in enumerate(where(mine, arm=arm)):
            points = np.array([(t, J) for t, _, J, *_ in row["curve"]])
            if row["tokens"] is None:  # what it was worth when last measured
                points = np.vstack([points, (row["spent"], points[-1, 1])])
            pick = np.unique(np.linspace(0, len(points) - 1, 40).astype(int))
            label = name_of(arm) if not i else ""
            x, y = np.maximum(points[pick, 0], 100.0).tolist(), points[pick, 1].tolist()
            lines.append(Line(label, x, y, color=color, style=STYLES[arm]))
    axes = Axes("generated tokens", "J from the root", log_x=True, horizontal=best / 2)
    title = f"J from the root, H = {H}; runs stop at J*/2 = {best / 2:.3f}"
    return plot(f"neural-kl-curve-{H}", title, axes, lines)


def _equal_table(rows: Sequence[Row]) -> list[Part]:
    known, shown = records(rows), list[Row]()
    for H in sorted({H for H, _ in known}):
        mine = where(rows, H=H)
        shared = [arms for (h, _), arms in known.items() if h == H and len(arms) > 1]
        same = all(len({*arms.values()}) == 1 for arms in shared)
        verdict = ("all equal" if same else "<b>unequal</b>") if shared else "one arm only"
        seeds = [r["path"] for r in mine]
        more = {
            "arms": ", ".join(arm for arm in ARMS if where(mine, arm=arm)),
            "verdict": Html(verdict),
            "several": len(shared),
            "seeds": f"{min(seeds)}–{max(seeds)}",
            "best": mine[0]["best"],
        }
        shown.append({"H": H, **mine[0]["equal"], **more})
    head = "arms | H | records of the arms | seeds run by several arms | seeds | β | exact J* | budget, tokens | "
    head += "update | weights | held-out prompts"
    cells = "{arms} | {H} | {verdict} | {several} | {seeds} | {kl[beta]:.5f} | {best:.4f} | {budget:q} | "
    cells += "<code>{update}</code> | <code>{model}</code> | <code>{held_out}</code>"
    first = rows[0]["equal"]
    note = (
        "<p>A record holds digests of the untrained weights, of the problems and their rewards, of the held-out prompts "
        "and of the settings of the update, the seed, the KL estimator and β, the root groups of a step, the budget and "
        f"how J was measured. Update at H = {rows[0]['H']}, seed {first['seed']}: <code>{escape(json.dumps(first['settings']))}"
        f"</code>; KL: <code>{escape(first['kl']['estimator'])}</code>, {first['roots']} root groups; "
        f"versions: <code>{escape(json.dumps(first['versions']))}</code>.</p>"
    )
    return [table_of(head, cells, shown), note]


def _arm_table(rows: Sequence[Row]) -> Table:
    """In what the arms differ."""
    shown = [
        {
            "arm": name_of(arm),
            "strategy": Html(f"<code>{escape(ARMS[arm])}</code>"),
            "oracles": mine[0]["oracles"],
            "longest": max(r["starts"][1] for r in mine),
            "roots": min(r["roots"] for r in mine),
        }
        for arm in COLORS
        if (mine := where(rows, arm=arm))
    ]
    head = "arm | strategy | oracles | longest start of a group, tokens | "
    head += "root groups of a step, at least"
    return table_of(head, "{arm} | {strategy} | {oracles} | {longest} | {roots}", shown, text=3)
