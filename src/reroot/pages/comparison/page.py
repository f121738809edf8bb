"""``report.html``: one self-contained page that a researcher reads from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...contract import Contract, Control, Oracle
from ...runs.compare import Comparison
from ...runs.results import RunData
from ..kit import page as kit
from ..kit.cells import dot, named
from ..kit.contracts import PAYS, WHERE
from ..kit.formatting import (
    clustered,
    counting,
    from_log,
    judged,
    listing,
    plural,
    points,
    quantity,
    rounded,
    share,
    shares,
    short_id,
    unfinished,
    verifier_warning,
)
from ..kit.markup import Html
from ..kit.plots import band, figure, grid, legend, line_swatch
from . import figures, tables
from .figures import Curve, Series, series_of


def write_report(comparison: Comparison) -> Path:
    """Write ``report.html`` of a comparison into its folder; the path of the page.

    The same tables give the same bytes: no date, no randomness that is not keyed.

    Raises:
        RunFolderError: it cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    page = render(comparison.data, comparison.summary)
    return kit.write_page(comparison.folder / "report.html", page)


def render(run: RunData, summary: Mapping[str, Any]) -> str:
    """The page as text."""
    series = series_of(run)
    model = str(run.config.get("model", ""))
    own = [task for task in run.tasks if not model.startswith(task)]  # a family is its own task
    title = f"{model} on {listing(own)}" if own else model
    horizons = sorted({h for task in run.tasks for h in run.horizons(task)} - {0})
    return kit.render(
        f"reroot compare: {title}",
        "comparison/page.html",
        run=run,
        config=run.config,
        summary=summary,
        title=title,
        where=WHERE,
        limits=listing([f"{quantity(v)} {k}" for k, v in summary["budget"].items()]) or "no limit",
        levels=sorted({x.control for x in run.learners}, key=lambda x: x.place),
        horizons=", ".join(map(str, horizons)),
        many=plural(len(horizons), "horizon"),
        unfinished=unfinished(summary),
        contracts=_contracts(run),
        warning=verifier_warning(summary["accepted_failures"]),
        verdicts=[_verdict(summary, task) for task in run.tasks],
        macro=tables.macro_table(summary),
        clustered=clustered(summary["cells"]),
        success=[
            (task, _success(run, summary, t, task, series)) for t, task in enumerate(run.tasks)
        ],
        budget=[_budget(run, t, task, series) for t, task in enumerate(run.tasks)],
        loss=[_loss(run, summary, t, task) for t, task in enumerate(run.tasks)],
        ledger=[_ledger(run, summary, t, task, series) for t, task in enumerate(run.tasks)],
        exact=tables.exact_table(summary["exact"]),
        inside=sum(r["inside"] for r in summary["exact"]),
        reach=tables.reach_table(summary),
        differences={task: tables.differences(summary, task) for task in run.tasks},
        cells={task: tables.all_cells(summary, task) for task in run.tasks},
        binary={task: tables.binary(summary, task) for task in run.tasks},
        counting=[*counting(summary["cells"]), *tables.limits_of_n(summary)],
        examples=[tables.example(run, task, run.horizons(task)[-1]) for task in run.tasks],
        physical=tables.physical(summary),
        seconds=summary.get("seconds"),
    )


def _contracts(run: RunData) -> str:
    """What was granted, as words."""
    grants = [Contract.parse(c) for c in run.results["contract"].unique(maintain_order=True)]
    grants.sort(key=lambda c: c.control.place)
    if len({(c.oracles, c.sampling) for c in grants}) > 1:
        return f"Contracts: {listing([str(c) for c in grants])}."
    oracles = listing([str(o) for o in Oracle if o in grants[0].oracles]) or "no oracle"
    names = listing([f"{c.control}/{c.report}" for c in grants])
    return f"Contracts: {names}, each with {oracles}, at {grants[0].sampling}."


# ---- verdicts ------------------------------------------------------------------------------------


def _verdict(summary: Mapping[str, Any], task: str) -> dict[str, Any]:
    mine = [v for v in summary["verdicts"] if v["task"] == task]
    main = next(v for v in mine if v["main"])
    others = [v for v in mine if not v["main"]]
    here = main["task"], main["horizon"]
    cells = [c for c in summary["cells"] if (c["task"], c["horizon"]) == here]
    more = tables.verdict_rows(others).titled(f"Other verdicts on {task}") if others else ""
    return {
        "main": main,
        "others": more,
        "tiles": [] if main["gain"] is None else _facts(main, cells),
    }


def _facts(
    verdict: Mapping[str, Any], at: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str]]:
    """The best on either side, and the gain, as tiles."""
    cells = {c["short"]: c for c in reversed(at)}  # the weakest contract of each learner
    root, prefix = cells[verdict["root"]], cells[verdict["prefix"]]
    gap = verdict["prefix_rate"] - max(verdict["root_rate"], verdict["exact_root"] or 0.0)
    low, high = map(points, verdict["gain"])
    better = (verdict["exact_root"] or 0.0) > verdict["root_rate"]
    over = "over best-of-N with the whole budget<br>" if better else ""
    within = Html(f"{over}95 % interval {low} to {high}")
    found: list[tuple[str, str, str]] = [
        ("Best root-start learner", f"{share(root['pass_rate'])} %", _who(root)),
        ("Best with prefix control", f"{share(prefix['pass_rate'])} %", _who(prefix)),
        ("Gain of prefix control", f"{points(gap)} points", within),
    ]
    if verdict["exact_root"] is not None:
        exact = f"{share(verdict['exact_root'])} %"
        found.append(("Best-of-N, whole budget", exact, "exact law, root-start"))
    return found


def _who(cell: Mapping[str, Any]) -> Html:
    inside = f"95 % interval {shares(cell['pass_interval'])}"
    counts = f"{cell['passed']} of {judged(cell)}, {inside}"
    return Html(f"{named(cell['control'], cell['short'])}<br>{counts}")


# ---- figures -------------------------------------------------------------------------------------


def _success(
    run: RunData, summary: Mapping[str, Any], t: int, task: str, series: Sequence[Series]
) -> Html:
    """Success against horizon: an overview, and a panel per control level."""
    cells = [c for c in summary["cells"] if c["task"] == task]
    shown = [s for s in series if any(c["short"] == s.learner.short for c in cells)]
    panels: list[Html] = []
    for i, (caption, here, curves, law) in enumerate(_success_plan(run, summary, task, shown)):
        drawing = figures.success_panel(run, task, here, cells, curves, f"success-{t}-{i}")
        exact = [band(law)] if any(curves) else []
        panels.append(figure(caption, drawing, [*(one.entry() for one in here), *exact]))
    return grid(panels)


def _success_plan(
    run: RunData, summary: Mapping[str, Any], task: str, shown: Sequence[Series]
) -> Iterator[tuple[str, list[Series], list[Curve], str]]:
    """Caption, learners, exact curves and their name, for each panel of a task."""
    cells = [c for c in summary["cells"] if c["task"] == task]
    best = _best_of_levels(cells, shown)
    if len(best) > 1:
        whole = figures.whole_budget_curve([r for r in summary["reach"] if r["task"] == task])
        caption = "The best learner that each control level adds"
        yield caption, best, [whole], "exact best-of-N with the whole budget"
    for level in sorted({s.learner.control for s in shown}, key=lambda x: x.place):
        here = [s for s in shown if s.learner.control == level]
        need = f"need {level} control" if level > Control.ROOT else "only roll out from the root"
        curves = [figures.exact_curve(run, task, one) for one in here]
        yield Html(f"{dot(level)}Learners that {need}"), here, curves, "exact best-of-N"


def _best_of_levels(cells: Sequence[Mapping[str, Any]], series: Sequence[Series]) -> list[Series]:
    """Per control level its best learner at the largest horizon, then overall; no demonstrations."""
    best: dict[str, tuple[tuple[float, float], Series]] = {}
    for one in series:
        mine = [c for c in cells if c["short"] == one.learner.short]
        if one.learner.given_answer:
            continue
        last = max(mine, key=lambda c: c["horizon"])
        rates = [c["pass_rate"] or 0.0 for c in mine]
        score = (last["pass_rate"] or 0.0, sum(rates) / len(rates))
        if one.control not in best or score > best[one.control][0]:
            best[one.control] = (score, one)
    return [one for _, one in best.values()]


def _budget(run: RunData, t: int, task: str, series: Sequence[Series]) -> dict[str, Any]:
    """Success against each currency, at the largest horizon at which any attempt passed."""
    last, horizons = run.horizons(task)[-1], reversed(run.horizons(task))
    solved = (
        h for h in horizons if any(run.attempts(x, task, h)["passed"].any() for x in run.learners)
    )
    horizon = next(solved, None)
    if horizon is None:
        return {"task": task, "horizon": None}
    exact = [band("exact best-of-N")] if figures.log_reach(run, task, horizon) else []
    panels: list[Html] = []
    for currency in figures.paid(run, task, horizon):
        pay = [s for s in series if figures.mostly_pays(run, s.learner, task, horizon, currency)]
        if len(pay) >= min(2, len(series)):  # of one learner alone the ledger says it all
            name = f"budget-{t}-{currency}"
            drawing = figures.budget_panel(run, task, horizon, currency, pay, name)
            panels.append(figure(_upper(PAYS[currency]), drawing))
    told = {"legend": legend([*(one.entry() for one in series), *exact]), "panels": grid(panels)}
    return {"task": task, "horizon": horizon, "last": last, **told}


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


_KEY = (
    Html(f"{line_swatch('ink')}mean over problems"),
    Html(f"{line_swatch('muted')}one problem"),
)


def _loss(run: RunData, summary: Mapping[str, Any], t: int, task: str) -> dict[str, Any]:
    """Where the probability of the right output is lost, at the largest horizon."""
    horizon = run.horizons(task)[-1]
    lines = figures.demonstration_lines(run, task, horizon)
    if not lines:
        return {"task": task, "horizon": horizon, "panels": None}
    reach = next(r for r in summary["reach"] if (r["task"], r["horizon"]) == (task, horizon))
    each = reach["log_rollouts"]
    drawn = {"token": "Each token given the right ones before it", "sum": "The right output so far"}
    panels = [
        figure(caption, figures.loss_panel(lines, f"loss-{t}-{x}", cumulative=x == "sum"), _KEY)
        for x, caption in drawn.items()
    ]
    rows = [r for r in run.problem_rows(task, horizon).to_dicts() if r["demo_logprobs"]]
    rows.sort(key=lambda r: sum(r["demo_logprobs"]))
    row = rows[len(rows) // 2]  # with the median probability
    return {
        "task": task,
        "horizon": horizon,
        "panels": grid(panels),
        "problem": short_id(row["problem"]),
        "rollouts": None if each is None else from_log(each, digits=2),
        "draws": None if reach["token_draws"] is None else rounded(reach["token_draws"], 2),
        "strip": tables.token_strip(row["demo_tokens"] or [], row["demo_logprobs"]),
    }


def _ledger(
    run: RunData, summary: Mapping[str, Any], t: int, task: str, series: Sequence[Series]
) -> dict[str, Any]:
    horizon = run.horizons(task)[-1]
    cells = [c for c in summary["cells"] if (c["task"], c["horizon"]) == (task, horizon)]
    panels = [
        figure(_upper(PAYS[c]), figures.ledger_panel(cells, c, series, f"ledger-{t}-{c}"))
        for c in figures.paid(run, task, horizon)
    ]
    return {"task": task, "horizon": horizon, "panels": grid(panels)}
