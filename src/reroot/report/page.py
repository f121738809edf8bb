"""``report.html``: one self-contained page that a researcher reads from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..access.contract import Contract, Control, Oracle
from ..runs import SUMMARY, write_atomically, write_json
from . import figures, tables
from .data import RunData, load_run
from .figures import Curve, Series
from .notes import NOTES
from .style import CSS
from .summary import summary_of
from .words import from_log, listing, plural, quantity, share, shares, signed

LEVELS = {
    "root": "only complete rollouts from the empty prefix",
    "visited": "also prefixes that the generator itself has emitted in this attempt",
    "reset": "also any token appended to a prefix that was asked or visited before",
    "chosen": "any prefix",
}


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` (and ``summary.json``) of a comparison into its folder.

    The same tables give the same bytes: no date, no randomness that is not keyed.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: the folder holds no comparison, or cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    run = load_run(folder)
    summary = summary_of(run)
    write_json(run.folder / SUMMARY, summary)
    page, path = render(run, summary), run.folder / "report.html"
    write_atomically(path, lambda beside: beside.write_text(page, encoding="utf-8"))
    return path


def render(run: RunData, summary: Mapping[str, Any]) -> str:
    """The page as text."""
    series = figures.series_of(run)
    title = f"{run.config.get('model', '')} on {listing(run.tasks)}"
    sections = [
        _header(run, summary, title),
        _verdicts(run, summary),
        _success(run, summary, series),
        _budget(run, series),
        _loss(run, summary),
        _ledger(run, summary, series),
        _tables(run, summary),
        _examples(run),
        _reproduce(run, summary),
        NOTES,
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>reroot compare: {escape(title)}</title>\n<style>{CSS}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _header(run: RunData, summary: Mapping[str, Any], title: str) -> str:
    config = run.config
    limits = listing([f"{quantity(v)} {k}" for k, v in summary["budget"].items()]) or "no limit"
    levels = {str(x.control) for x in run.learners}
    items = "".join(
        f"<li>{tables.dot(level)}<b>{level}</b>: {text}</li>"
        for level, text in LEVELS.items()
        if level in levels
    )
    horizons = sorted({h for task in run.tasks for h in run.horizons(task)})
    return f"""<header><p class="kicker">reroot compare {escape(str(config.get("version", "")))}</p>
<h1>{escape(title)}</h1>
<p>The same learners, problems, seeds and budget; only the generator interface changes: at which
prefixes a learner may ask the generator. {plural(len(run.learners), "learner")} at
{plural(len(horizons), "horizon")} ({", ".join(map(str, horizons))}); each cell has
{plural(config.get("problems") or 0, "problem")} × {plural(config.get("seeds") or 0, "seed")}.
Budget per attempt: {escape(limits)}.</p>
<p>{_contracts(run)}</p>
<p class="note">Colours say what control over prefixes a learner needs. A stronger contract permits it too,
with identical outputs, so every learner is shown once, at the weakest contract that permits it.</p>
<ul class="levels">{items}</ul></header>"""


def _contracts(run: RunData) -> str:
    """What was granted, as words."""
    grants = [Contract.parse(c) for c in run.results["contract"].unique(maintain_order=True)]
    grants.sort(key=lambda c: c.control)
    if len({(c.oracles, c.sampling) for c in grants}) > 1:
        return f"Contracts: {escape(listing([str(c) for c in grants]))}."
    oracles = listing([str(o) for o in Oracle if o in grants[0].oracles]) or "no oracle"
    names = listing([f"{c.control}/{c.report}" for c in grants])
    return f"Contracts: {names}, each with {oracles}, at {escape(str(grants[0].sampling))}."


def _verdicts(run: RunData, summary: Mapping[str, Any]) -> str:
    parts = ["<h2>Verdict</h2>"]
    for task in run.tasks:
        mine = [v for v in summary["verdicts"] if v["task"] == task]
        main = next(v for v in mine if v["main"])
        others = [v for v in mine if not v["main"]]
        notes = "".join(f"<li>{escape(s)}</li>" for s in main["notes"])
        more = tables.verdict_rows(others) if others else ""
        parts.append(
            f'<article class="verdict"><h3>{escape(task)}, horizon {main["horizon"]}</h3>'
            f'<p class="kind">{escape(main["kind"])}</p>{_facts(summary, main)}'
            f"<ul>{notes}</ul>{more}</article>"
        )
    return "\n".join(parts)


def _facts(summary: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    if verdict["gain"] is None:
        return ""
    here = (verdict["task"], verdict["horizon"])
    at = [c for c in summary["cells"] if (c["task"], c["horizon"]) == here]
    cells = {c["short"]: c for c in reversed(at)}  # the weakest contract of each learner
    root, prefix = cells[verdict["root"]], cells[verdict["prefix"]]
    gap = verdict["prefix_rate"] - max(verdict["root_rate"], verdict["exact_root"] or 0.0)
    low, high = (signed(100 * x, 0) for x in verdict["gain"])
    facts = [
        ("Best root-start learner", f"{share(root['pass_rate'])} %", _who(root)),
        ("Best with prefix control", f"{share(prefix['pass_rate'])} %", _who(prefix)),
        (
            "Gain of prefix control",
            f"{signed(100 * gap, 0)} points",
            f"95 % interval {low} to {high}",
        ),
    ]
    if verdict["exact_root"] is not None:
        exact = f"{share(verdict['exact_root'])} %"
        facts.append(("Best-of-N, whole budget", exact, "exact law, root-start"))
    return (
        '<dl class="facts">'
        + "".join(
            f"<div><dt>{name}</dt><dd><b>{value}</b><span>{what}</span></dd></div>"
            for name, value, what in facts
        )
        + "</dl>"
    )


def _who(cell: Mapping[str, Any]) -> str:
    counts = (
        f"{cell['passed']} of {cell['attempts']}, 95 % interval {shares(cell['pass_interval'])}"
    )
    return f"{tables.dot(cell['control'])}{escape(cell['short'])}<br>{counts}"


def _figure(caption: str, drawing: str, legend: Iterable[str] = ()) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{drawing}{_legend(legend)}</figure>"


def _legend(items: Iterable[str]) -> str:
    entries = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="legend">{entries}</ul>' if entries else ""


def _entry(one: Series, *, line: bool = True) -> str:
    note = " (is shown a demonstration)" if one.learner.given_answer else ""
    return f"{one.swatch(line=line)}{escape(one.learner.short)}{note}"


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'


# -- figures -----------------------------------------------------------------------------------


def _success(run: RunData, summary: Mapping[str, Any], series: Sequence[Series]) -> str:
    parts = [
        "<h2>Success against horizon</h2>",
        "<p>Share of attempts passed, on a log scale, with exact 95 % intervals. An arrow stands for no "
        "pass at all: it starts at the upper limit of the interval. The wide grey line is the exact law "
        "1 − (1 − p)<sup>N</sup> of best-of-N, with p computed by teacher forcing.</p>",
    ]
    for t, task in enumerate(run.tasks):
        parts.append(f"<h3>{escape(task)}</h3>")
        cells = [c for c in summary["cells"] if c["task"] == task]
        shown = [s for s in series if any(c["short"] == s.learner.short for c in cells)]
        panels: list[str] = []

        def panel(caption: str, here: Sequence[Series], curves: Sequence[Curve], law: str) -> None:
            name = f"success-{t}-{len(panels)}"  # noqa: B023 (called in this turn of the loop)
            drawing = figures.success_panel(run, task, here, cells, curves, name)  # noqa: B023
            band = [f'<span class="band"></span>{law}'] if any(curves) else []
            panels.append(_figure(caption, drawing, [*map(_entry, here), *band]))  # noqa: B023

        best = _best_of_levels(cells, shown)
        if len(best) > 1:
            reach = [r for r in summary["reach"] if r["task"] == task]
            whole = figures.whole_budget_curve(reach)
            panel("The best learner that each control level adds", best, [whole], _WHOLE)
        for level in sorted({s.learner.control for s in shown}):
            here = [s for s in shown if s.learner.control == level]
            caption = f"{tables.dot(str(level))}Learners that need {level} control"
            if level == Control.ROOT:
                caption = f"{tables.dot('root')}Learners that only roll out from the root"
            curves = [figures.exact_curve(run, task, one) for one in here]
            panel(caption, here, curves, "exact best-of-N")
        parts.append(_panels(panels))
    return "\n".join(parts)


_WHOLE = "exact best-of-N with the whole budget"


def _best_of_levels(cells: Sequence[Mapping[str, Any]], series: Sequence[Series]) -> list[Series]:
    """Per control level its best learner at the largest horizon, then overall; no demonstrations."""
    best: dict[str, tuple[tuple[float, float], Series]] = {}
    for one in series:
        mine = [c for c in cells if c["short"] == one.learner.short]
        if one.learner.given_answer:
            continue
        last = max(mine, key=lambda c: c["horizon"])
        score = (last["pass_rate"], sum(c["pass_rate"] for c in mine) / len(mine))
        if one.control not in best or score > best[one.control][0]:
            best[one.control] = (score, one)
    return [one for _, one in best.values()]


_BAND = '<span class="band"></span>exact best-of-N'


def _solved_horizon(run: RunData, task: str) -> int | None:
    """The largest horizon at which any attempt passed."""
    for horizon in reversed(run.horizons(task)):
        if any(run.attempts(x, task, horizon)["passed"].any() for x in run.learners):
            return horizon
    return None


def _budget(run: RunData, series: Sequence[Series]) -> str:
    parts = [
        "<h2>Success against budget</h2>",
        "<p>Share of attempts solved at a cost of at most x, one panel per currency. A learner with a "
        "fixed plan pays all of it before its answer counts. The wide grey line is the exact "
        "1 − (1 − p)<sup>N</sup> after N root-start rollouts, averaged over the problems; against tokens "
        "it uses the measured mean length of a rollout. Learners that draw in batches reach it at "
        "the end of a batch.</p>",
    ]
    for t, task in enumerate(run.tasks):
        horizon = _solved_horizon(run, task)
        last = run.horizons(task)[-1]
        if horizon is None:
            parts.append(
                f"<h3>{escape(task)}</h3><p>No attempt passed, so there is no curve to show.</p>"
            )
            continue
        why = "" if horizon == last else f" (at {last} no attempt passed)"
        parts.append(f"<h3>{escape(task)}, horizon {horizon}{why}</h3>")
        parts.append(
            _legend(
                [*map(_entry, series), *([_BAND] if figures.log_reach(run, task, horizon) else [])]
            )
        )
        panels: list[str] = []
        for currency in figures.paid(run, task, horizon):
            pay = [s for s in series if figures.pays(run, s.learner, task, horizon, currency)]
            if len(pay) < 2:
                continue  # one learner alone in a currency: the ledger says it all
            name = f"budget-{t}-{currency}"
            drawing = figures.budget_panel(run, task, horizon, currency, pay, name)
            panels.append(_figure(_upper(figures.PAYS[currency]), drawing))
        parts.append(_panels(panels))
    return "\n".join(parts)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _loss(run: RunData, summary: Mapping[str, Any]) -> str:
    parts = ["<h2>Where the probability is lost</h2>"]
    for t, task in enumerate(run.tasks):
        horizon = run.horizons(task)[-1]
        lines = figures.demonstration_lines(run, task, horizon)
        parts.append(f"<h3>{escape(task)}, horizon {horizon}</h3>")
        if not lines:
            parts.append("<p>These problems have no demonstration to follow token by token.</p>")
            continue
        reach = next(r for r in summary["reach"] if (r["task"], r["horizon"]) == (task, horizon))
        parts.append(_reach_words(reach))
        panels = [
            _figure("Each token given the right ones before it",
                    figures.loss_panel(lines, f"loss-{t}-token", cumulative=False), _LOSS_LEGEND),
            _figure("The right output so far",
                    figures.loss_panel(lines, f"loss-{t}-sum", cumulative=True), _LOSS_LEGEND),
        ]  # fmt: skip
        parts += [_panels(panels), _strip(run, task, horizon)]
    return "\n".join(parts)


_LOSS_LEGEND = (
    '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true"><path d="M1 7H31" '
    'stroke="var(--ink)" stroke-width="2.2"/></svg>mean over problems',
    '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true"><path d="M1 7H31" '
    'stroke="var(--muted)" stroke-width="1"/></svg>one problem',
)


def _reach_words(reach: Mapping[str, Any]) -> str:
    words: list[str] = []
    if reach["log_rollouts"] is not None:
        rollouts = from_log(reach["log_rollouts"], digits=2)
        words.append(
            f"One right output takes about {rollouts} root-start rollouts (median over problems)."
        )
    if reach["token_draws"] is not None:
        draws = quantity(float(f"{reach['token_draws']:.2g}"))
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
    return (
        f'<p class="note">The right output of one problem, {escape(row["problem"])}, token by token, with '
        f"the probability of each:</p>{strip}"
    )


def _ledger(run: RunData, summary: Mapping[str, Any], series: Sequence[Series]) -> str:
    parts = [
        "<h2>The ledger</h2>",
        "<p>Mean cost per attempt in every currency, on a log scale: what the interface charges, whatever the "
        "backend reuses. A learner costs the same under every contract that permits it.</p>",
    ]
    for t, task in enumerate(run.tasks):
        horizon = run.horizons(task)[-1]
        cells = [c for c in summary["cells"] if (c["task"], c["horizon"]) == (task, horizon)]
        parts.append(f"<h3>{escape(task)}, horizon {horizon}</h3>")
        panels = [
            _figure(
                _upper(figures.PAYS[currency]),
                figures.ledger_panel(cells, currency, series, f"ledger-{t}-{currency}"),
            )
            for currency in figures.paid(run, task, horizon)
        ]
        parts.append(_panels(panels) if panels else "<p>Nothing was paid.</p>")
    return "\n".join(parts)


# -- tables ------------------------------------------------------------------------------------


def _tables(run: RunData, summary: Mapping[str, Any]) -> str:
    parts = [
        "<h2>Measured against the exact law</h2>",
        _exact_words(summary),
        "<h2>What teacher forcing says</h2>",
        tables.reach_table(summary) or "<p>No problem has a demonstration.</p>",
        "<h2>Prefix control against the best root-start learner</h2>",
        "<p>Paired on the same attempts, one comparison at a time: exact interval for the pass rate, "
        "bootstrap over problems for the reward.</p>",
    ]
    for task in run.tasks:
        shown = tables.differences(summary, task)
        parts.append(f"<h3>{escape(task)}</h3>{shown}" if shown else "")
    if not summary["differences"]:
        parts.append("<p>There are not both root-start and prefix-control learners to compare.</p>")
    parts.append("<h2>Every cell</h2>")
    for task in run.tasks:
        parts.append(f"<h3>{escape(task)}</h3>{tables.all_cells(summary, task)}")
    return "\n".join(parts)


def _exact_words(summary: Mapping[str, Any]) -> str:
    rows = summary["exact"]
    if not rows:
        return (
            "<p>No measured learner has an exact law here: that takes best_of_n or first_success at "
            "temperature 1 on problems with one right output each.</p>"
        )
    inside = sum(r["inside"] for r in rows)
    return (
        f"<p>{inside} of {len(rows)} counts lie inside the 95 % band of the exact law (Poisson-binomial over "
        f"the problems; at least 95 % should).</p>{tables.exact_table(rows)}"
    )


def _examples(run: RunData) -> str:
    shown = [tables.examples(run, task, run.horizons(task)[-1]) for task in run.tasks]
    return (
        "<h2>Example attempts</h2><p>Per task the problem of the largest horizon on which the learners "
        "disagree most.</p>" + "\n".join(shown)
    )


def _reproduce(run: RunData, summary: Mapping[str, Any]) -> str:
    seconds = summary.get("seconds")
    spent = f"<p>{quantity(seconds)} s in all.</p>" if isinstance(seconds, (int, float)) else ""
    physical = tables.physical(summary) or "<p>No physical counters were recorded.</p>"
    command = escape(str(run.config.get("command", "")) or "not recorded")
    return (
        "<h2>Physical cost</h2><p>What the backend really computed.</p>"
        f"{spent}{physical}<h2>Reproduce</h2><pre>{command}</pre>{tables.configuration(run.config)}"
    )
