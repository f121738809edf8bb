"""The sections of the page that are made of figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ...contract import Control
from ...runs.results import RunData
from ..kit.cells import dot, note
from ..kit.contracts import PAYS
from ..kit.formatting import at_horizon, clustered, from_log, rounded
from ..kit.html import figure, grid, legend, line_swatch
from . import figures, tables
from .figures import Curve, Series


def _entry(one: Series, *, line: bool = True) -> str:
    note = " (is shown a demonstration)" if one.learner.given_answer else ""
    return f"{one.swatch(line=line)}{escape(one.learner.short)}{note}"


def success(run: RunData, summary: Mapping[str, Any], series: Sequence[Series]) -> Iterator[str]:
    """(a) Success against horizon: an overview per task, and a panel per control level."""
    known = any(h for task in run.tasks for h in run.horizons(task))
    yield f"<h2>Success{' against horizon' if known else ''}</h2>"
    yield (
        f"<p>Share of attempts passed, on a log scale, with {_intervals(summary)}. An arrow stands for no "
        "pass at all: it starts at the upper limit of the interval. The wide grey line is the exact law "
        "1 − (1 − p)<sup>N</sup> of best-of-N, with p computed by teacher forcing.</p>"
    )
    for t, task in enumerate(run.tasks):
        cells = [c for c in summary["cells"] if c["task"] == task]
        shown = [s for s in series if any(c["short"] == s.learner.short for c in cells)]
        panels: list[str] = []
        for i, (caption, here, curves, law) in enumerate(_success_plan(run, summary, task, shown)):
            drawing = figures.success_panel(run, task, here, cells, curves, f"success-{t}-{i}")
            band = [_band(law)] if any(curves) else []
            panels.append(figure(caption, drawing, [*map(_entry, here), *band]))
        yield from (f"<h3>{escape(task)}</h3>", grid(panels))


def _intervals(summary: Mapping[str, Any]) -> str:
    return "95 % intervals" if clustered(summary["cells"]) else "exact 95 % intervals"


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
        yield f"{dot(str(level))}Learners that {need}", here, curves, "exact best-of-N"


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


def _band(law: str) -> str:
    return f'<span class="band"></span>{law}'


def _solved_horizon(run: RunData, task: str) -> int | None:
    """The largest horizon at which any attempt passed."""
    for horizon in reversed(run.horizons(task)):
        if any(run.attempts(x, task, horizon)["passed"].any() for x in run.learners):
            return horizon
    return None


def budget(run: RunData, series: Sequence[Series]) -> Iterator[str]:
    yield "<h2>Success against budget</h2>"
    yield (
        "<p>Share of attempts solved at a cost of at most x, one panel per currency. A learner with a "
        "fixed plan pays all of it before its answer counts. The wide grey line is the exact "
        "1 − (1 − p)<sup>N</sup> after N root-start rollouts, averaged over the problems; against tokens "
        "it uses the measured mean length of a rollout. Learners that draw in batches reach it at "
        "the end of a batch.</p>"
    )
    for t, task in enumerate(run.tasks):
        horizon = _solved_horizon(run, task)
        last = run.horizons(task)[-1]
        if horizon is None:
            none = "No attempt passed, so there is no curve to show."
            yield f"<h3>{escape(task)}</h3><p>{none}</p>"
            continue
        why = "" if horizon == last else f" (at {last} no attempt passed)"
        yield f"<h3>{at_horizon(escape(task), horizon)}{why}</h3>"
        exact = [_band("exact best-of-N")] if figures.log_reach(run, task, horizon) else []
        yield legend([*map(_entry, series), *exact])
        panels: list[str] = []
        for currency in figures.paid(run, task, horizon):
            pay = [
                s for s in series if figures.mostly_pays(run, s.learner, task, horizon, currency)
            ]
            if len(pay) < min(2, len(series)):
                continue  # one learner alone in a currency: the ledger says it all
            name = f"budget-{t}-{currency}"
            drawing = figures.budget_panel(run, task, horizon, currency, pay, name)
            panels.append(figure(_upper(PAYS[currency]), drawing))
        yield grid(panels)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def loss(run: RunData, summary: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Where the probability is lost</h2>"
    for t, task in enumerate(run.tasks):
        horizon = run.horizons(task)[-1]
        lines = figures.demonstration_lines(run, task, horizon)
        yield f"<h3>{at_horizon(escape(task), horizon)}</h3>"
        if not lines:
            yield "<p>These problems have no demonstration to follow token by token.</p>"
            continue
        reach = next(r for r in summary["reach"] if (r["task"], r["horizon"]) == (task, horizon))
        yield _reach_words(reach)
        drawn = (
            ("token", "Each token given the right ones before it"),
            ("sum", "The right output so far"),
        )
        panels = [
            figure(caption, figures.loss_panel(lines, f"loss-{t}-{x}", cumulative=x == "sum"), _KEY)
            for x, caption in drawn
        ]
        yield from (grid(panels), _strip(run, task, horizon))


_KEY = (line_swatch("ink", "mean over problems", 2.2), line_swatch("muted", "one problem", 1))


def _reach_words(reach: Mapping[str, Any]) -> str:
    words: list[str] = []
    if reach["log_rollouts"] is not None:
        rollouts = from_log(reach["log_rollouts"], digits=2)
        words.append(
            f"One right output takes about {rollouts} root-start rollouts (median over problems)."
        )
    if reach["token_draws"] is not None:
        draws = rounded(reach["token_draws"], 2)
        words.append(
            f"Drawn token by token, with a verifier to say which draw to keep, about {draws} draws "
            "give the same output."
        )
    return f"<p>{' '.join(words)}</p>" if words else ""


def _strip(run: RunData, task: str, horizon: int) -> str:
    """The token texts of the problem with the median probability."""
    rows = [r for r in run.problem_rows(task, horizon).to_dicts() if r["demo_logprobs"]]
    rows.sort(key=lambda r: sum(r["demo_logprobs"]))
    row = rows[len(rows) // 2]
    strip = tables.token_strip(row["demo_tokens"] or [], row["demo_logprobs"])
    said = f"The right output of one problem, {escape(row['problem'])}, token by token, with "
    return note(f"{said}the probability of each:") + strip


def ledger(run: RunData, summary: Mapping[str, Any], series: Sequence[Series]) -> Iterator[str]:
    yield "<h2>The ledger</h2>"
    yield (
        "<p>Mean cost per attempt in every currency, on a log scale: what the interface charges, whatever the "
        "backend reuses. A learner costs the same under every contract that permits it.</p>"
    )
    for t, task in enumerate(run.tasks):
        horizon = run.horizons(task)[-1]
        cells = [c for c in summary["cells"] if (c["task"], c["horizon"]) == (task, horizon)]
        yield f"<h3>{at_horizon(escape(task), horizon)}</h3>"
        panels: list[str] = []
        for currency in figures.paid(run, task, horizon):
            name = f"ledger-{t}-{currency}"
            drawing = figures.ledger_panel(cells, currency, series, name)
            panels.append(figure(_upper(PAYS[currency]), drawing))
        yield grid(panels) if panels else "<p>Nothing was paid.</p>"
