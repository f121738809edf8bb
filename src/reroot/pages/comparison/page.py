"""``report.html``: one self-contained page that a researcher reads from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract, Oracle
from ...runs.compare import Comparison
from ...runs.results import RunData
from ..kit.cells import configuration, dot, facts, named, note, warning
from ..kit.contracts import WHERE
from ..kit.formatting import (
    at_horizon,
    clustered,
    counting,
    judged,
    listing,
    plural,
    points,
    quantity,
    share,
    shares,
    unfinished,
    verifier_warning,
)
from ..kit.html import document, write_page
from . import sections, tables
from .figures import series_of
from .macro import macro_section
from .methodology import LINES, NOTES


def write_report(comparison: Comparison) -> Path:
    """Write ``report.html`` of a comparison into its folder; the path of the page.

    The same tables give the same bytes: no date, no randomness that is not keyed.

    Raises:
        RunFolderError: it cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    page = render(comparison.data, comparison.summary)
    return write_page(comparison.folder / "report.html", page)


def render(run: RunData, summary: Mapping[str, Any]) -> str:
    """The page as text."""
    series = series_of(run)
    model = str(run.config.get("model", ""))
    own = [task for task in run.tasks if not model.startswith(task)]  # a family is its own task
    title = f"{model} on {listing(own)}" if own else model
    parts = [
        _header(run, summary, title),
        warning(verifier_warning(summary["accepted_failures"])),
        *_verdicts(run, summary),
        *macro_section(summary),
        *sections.success(run, summary, series),
        *sections.budget(run, series),
        *sections.loss(run, summary),
        *sections.ledger(run, summary, series),
        *_tables(run, summary),
        _examples(run),
        _reproduce(run, summary),
        NOTES,
        *([LINES] if clustered(summary["cells"]) else []),
    ]
    return document(f"reroot compare: {title}", parts)


def _header(run: RunData, summary: Mapping[str, Any], title: str) -> str:
    config = run.config
    limits = listing([f"{quantity(v)} {k}" for k, v in summary["budget"].items()]) or "no limit"
    levels = sorted({x.control for x in run.learners}, key=lambda x: x.place)
    told = unfinished(summary)
    marked = f'<p class="off"><b>{escape(told)}</b></p>' if told else ""
    items = "".join(f"<li>{dot(str(x))}<b>{x}</b>: {WHERE[x]}</li>" for x in levels)
    horizons = sorted({h for task in run.tasks for h in run.horizons(task)} - {0})
    listed = f" at\n{plural(len(horizons), 'horizon')} ({', '.join(map(str, horizons))})"
    return f"""<header><p class="kicker">reroot compare {escape(str(config.get("version", "")))}</p>
<h1>{escape(title)}</h1>{marked}
<p>The same learners, problems, seeds and budget; only the generator interface changes: at which
prefixes a learner may ask the generator. {plural(len(run.learners), "learner")}{listed if horizons else ""}; each cell has
{plural(config.get("problems") or 0, "problem")} × {plural(config.get("seeds") or 0, "seed")}.
Budget per attempt: {escape(limits)}.</p>
<p>{_contracts(run)}</p>{_read(config)}
{note(_COLOURS)}
<ul class="levels">{items}</ul></header>"""


_COLOURS = """Colours say what control over prefixes a learner needs. A stronger contract permits it too,
with identical outputs, so every learner is shown once."""


def _read(config: Mapping[str, Any]) -> str:
    """What was recognized and decided as data was read."""
    items = "".join(f"<li>{escape(note)}</li>" for note in config.get("notes", ()))
    return f"<ul>{items}</ul>" if items else ""


def _contracts(run: RunData) -> str:
    """What was granted, as words."""
    grants = [Contract.parse(c) for c in run.results["contract"].unique(maintain_order=True)]
    grants.sort(key=lambda c: c.control.place)
    if len({(c.oracles, c.sampling) for c in grants}) > 1:
        return f"Contracts: {escape(listing([str(c) for c in grants]))}."
    oracles = listing([str(o) for o in Oracle if o in grants[0].oracles]) or "no oracle"
    names = listing([f"{c.control}/{c.report}" for c in grants])
    return f"Contracts: {names}, each with {oracles}, at {escape(str(grants[0].sampling))}."


def _verdicts(run: RunData, summary: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Verdict</h2>"
    for task in run.tasks:
        mine = [v for v in summary["verdicts"] if v["task"] == task]
        main = next(v for v in mine if v["main"])
        others = [v for v in mine if not v["main"]]
        notes = "".join(f"<li>{escape(s)}</li>" for s in main["notes"])
        more = tables.verdict_rows(others) if others else ""
        yield (
            f'<article class="verdict"><h3>{at_horizon(escape(task), main["horizon"])}</h3>'
            f'<p class="kind">{escape(main["kind"])}</p>{_facts(summary, main)}'
            f"<ul>{notes}</ul>{more}</article>"
        )


def _facts(summary: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    if verdict["gain"] is None:
        return ""
    here = (verdict["task"], verdict["horizon"])
    at = [c for c in summary["cells"] if (c["task"], c["horizon"]) == here]
    cells = {c["short"]: c for c in reversed(at)}  # the weakest contract of each learner
    root, prefix = cells[verdict["root"]], cells[verdict["prefix"]]
    gap = verdict["prefix_rate"] - max(verdict["root_rate"], verdict["exact_root"] or 0.0)
    low, high = map(points, verdict["gain"])
    better = (verdict["exact_root"] or 0.0) > verdict["root_rate"]
    over = "over best-of-N with the whole budget<br>" if better else ""
    found = [
        ("Best root-start learner", f"{share(root['pass_rate'])} %", _who(root)),
        ("Best with prefix control", f"{share(prefix['pass_rate'])} %", _who(prefix)),
        ("Gain of prefix control", f"{points(gap)} points", f"{over}95 % interval {low} to {high}"),
    ]
    if verdict["exact_root"] is not None:
        exact = f"{share(verdict['exact_root'])} %"
        found.append(("Best-of-N, whole budget", exact, "exact law, root-start"))
    return facts(found)


def _who(cell: Mapping[str, Any]) -> str:
    inside = f"95 % interval {shares(cell['pass_interval'])}"
    counts = f"{cell['passed']} of {judged(cell)}, {inside}"
    return f"{named(cell['control'], cell['short'])}<br>{counts}"


def _tables(run: RunData, summary: Mapping[str, Any]) -> Iterator[str]:
    yield from ("<h2>Measured against the exact law</h2>", _exact_words(summary))
    yield "<h2>What teacher forcing says</h2>"
    yield tables.reach_table(summary) or "<p>No problem has a demonstration.</p>"
    yield "<h2>Prefix control against the best root-start learner</h2>"
    yield (
        "<p>Paired on the same attempts, one comparison at a time: exact interval for the pass rate, "
        "bootstrap over problems for the reward (of no width where all problems agree: then trust the "
        "exact one).</p>"
    )
    for task in run.tasks:
        shown = tables.differences(summary, task)
        yield f"<h3>{escape(task)}</h3>{shown}" if shown else ""
    if not summary["differences"]:
        yield "<p>There are not both root-start and prefix-control learners to compare.</p>"
    yield "<h2>Every cell</h2>"
    for task in run.tasks:
        yield f"<h3>{escape(task)}</h3>{tables.all_cells(summary, task)}"
    yield from (note(escape(line)) for line in counting(summary["cells"]))


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
    known = any(h for task in run.tasks for h in run.horizons(task))
    largest = "of the largest horizon " if known else ""
    shown = [tables.examples(run, task, run.horizons(task)[-1]) for task in run.tasks]
    return (
        f"<h2>Example attempts</h2><p>Per task the problem {largest}on which the learners "
        "disagree most.</p>" + "\n".join(shown)
    )


def _reproduce(run: RunData, summary: Mapping[str, Any]) -> str:
    seconds = summary.get("seconds")
    spent = f"<p>{quantity(seconds)} s in all.</p>" if isinstance(seconds, (int, float)) else ""
    physical = tables.physical(summary) or "<p>No physical counters were recorded.</p>"
    command = escape(str(run.config.get("command", "")) or "not recorded")
    return (
        "<h2>Physical cost</h2><p>What the backend really computed.</p>"
        f"{spent}{physical}<h2>Reproduce</h2><pre>{command}</pre>{configuration(run.config)}"
    )
