"""``report.html``: one self-contained page that a researcher reads from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...contract import Contract, Control, Oracle
from ...runs.compare import Comparison
from ...runs.results import RunData
from ..kit import page as kit
from ..kit.cells import dot
from ..kit.contracts import PAYS, WHERE
from ..kit.formatting import listing
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
    reach = {(r["task"], r["horizon"]): r for r in summary["reach"]}
    return kit.render(
        f"reroot compare: {title}",
        "comparison/page.html",
        run=run,
        config=run.config,
        summary=summary,
        tables=tables,
        title=title,
        where=WHERE,
        levels=sorted({x.control for x in run.learners}, key=lambda x: x.place),
        horizons=horizons,
        contracts=_contracts(run),
        success=[_success(run, summary, t, task, series) for t, task in enumerate(run.tasks)],
        budget=[_budget(run, t, task, series) for t, task in enumerate(run.tasks)],
        loss=[_loss(run, reach, t, task) for t, task in enumerate(run.tasks)],
        ledger=[_ledger(run, summary, t, task, series) for t, task in enumerate(run.tasks)],
    )


def _contracts(run: RunData) -> str:
    """What was granted, as words."""
    grants = [Contract.parse(c) for c in run.places["contract"].unique(maintain_order=True)]
    grants.sort(key=lambda c: c.control.place)
    if len({(c.oracles, c.sampling) for c in grants}) > 1:
        return f"Contracts: {listing([str(c) for c in grants])}."
    oracles = listing([str(o) for o in Oracle if o in grants[0].oracles]) or "no oracle"
    names = listing([f"{c.control}/{c.report}" for c in grants])
    return f"Contracts: {names}, each with {oracles}, at {grants[0].sampling}."


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


def _loss(
    run: RunData, reach: Mapping[tuple[str, int], Mapping[str, Any]], t: int, task: str
) -> dict[str, Any]:
    """Where the probability of the right output is lost, at the largest horizon."""
    horizon = run.horizons(task)[-1]
    lines = figures.demonstration_lines(run, task, horizon)
    if not lines:
        return {"task": task, "horizon": horizon, "panels": None}
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
        "problem": row["problem"],
        "reach": reach[task, horizon],
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
