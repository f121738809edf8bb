"""The page of certificates: what each method's law is said to be, what it is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract
from ...runs.folder import read_json, write_json
from ...types import CURRENCIES
from ..kit.cells import Html, dot, facts, mark, note, prose, table, table_of
from ..kit.contracts import SHORT, allowed
from ..kit.formatting import listing, quantity, rounded
from ..kit.html import document, figure, grid, legend, write_page
from .chart import law_chart, law_legend
from .formatting import (
    aimed_name,
    distance_words,
    how_words,
    methods_in_short,
    parameter_words,
    same,
)

PAGE, NUMBERS = "certificates.html", "certificates.json"

_NOTES = """<h2>How to read the numbers</h2>
<p><b>The law that is checked.</b> A method runs on a generator so small that every output can be written
down, through the same metered session as everywhere else, granted exactly what it requires.
<b>Enumerated</b>: it is run once for every sequence of random choices, the generator's and its own, so that the
law of its output is exact. <b>Per step</b>: of a Markov chain every state is stepped once for every choice; a step
must leave the stated law as it is, and the method must be what its steps make. <b>Weighted</b>: each run counts
with its estimate Ẑ/Z, which must be 1 in the mean. <b>Sampled</b>: many runs, and an interval that holds with
{confidence:.0%} for a method that does what it states.</p>
<p><b>Distances</b> are those of the law found to the one stated: total variation ½ Σ |p − q|, KL divergence in
nats, and max p/q, how much too often an output can come. 0 and 1 stand for what is nearer than {exact}: rounding.
Behind “its output to” stands a law that the method approaches or is compared with: there a distance is no
fault, it is what a user gets at these parameters.</p>
<p><b>Costs</b> are expectations over the same runs, and what the interface charges. A cost without a formula
is what was found.</p>"""


def write_certificates(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``certificates.json`` and ``certificates.html``; the path of the page.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    write_json(Path(folder) / NUMBERS, summary)
    return write_page(Path(folder) / PAGE, render(summary))


def read_certificates(folder: str | Path) -> dict[str, Any]:
    """The content of ``certificates.json``.

    Raises:
        RunFolderError: there is none, or it is not JSON.
    """
    return read_json(Path(folder) / NUMBERS, f"no certificates in {folder}")


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    notes = _NOTES.format(confidence=summary["confidence"], exact=quantity(summary["exact"]))
    sections = (part for method in summary["methods"] for part in _section(method))
    parts = [_header(summary), _overview(summary), *sections, _toys(summary), notes]
    return document("reroot certify", parts)


def _header(summary: Mapping[str, Any]) -> str:
    cases = [one for method in summary["methods"] for one in method["certificates"]]
    marks = [one["holds"] for one in cases]
    exact = [one["stated"]["tv"] for one in cases if one["stated"] and not one["margin"]]
    runs = f"{sum(one['runs'] for one in cases):,} runs"
    hold = f"{marks.count(True)} of {len(marks) - marks.count(None)}"
    only = f"{marks.count(None)} more only measured" if None in marks else ""
    largest, hows = rounded(max(exact) if exact else None, 1), [one["how"] for one in cases]
    checked = listing([f"{hows.count(how)} {how}" for how in dict.fromkeys(hows)])
    found = [
        ("Statements that hold", hold, only),
        ("Methods", str(len(summary["methods"])), runs),
        ("Cases", str(len(cases)), escape(checked)),
        ("Largest distance, exact cases", largest, "total variation"),
    ]
    kind = "every statement holds" if summary["holds"] else "a statement does not hold"
    used = dict(summary["versions"])
    own = used.pop("reroot")
    versions = f"{own}, {listing([f'{name} {value}' for name, value in used.items()])}"
    return f"""<header><p class="kicker">reroot certify {escape(versions)}</p>
<h1>What each method's output law is</h1>
<p>Each sampling and search method, run on small generators once for every sequence of random choices, and the
law of its output compared with the law that it states.</p></header>
<article class="verdict"><p class="kind">{kind}</p>{facts(found)}</article>"""


def _overview(summary: Mapping[str, Any]) -> str:
    about = {method["name"]: method["about"] for method in summary["methods"]}
    rows: list[dict[str, Any]] = []
    for row in methods_in_short(summary):
        name = escape(row["name"])
        shown = {"link": Html(f'<a href="#{name}">{name}</a>'), "about": prose(about[row["name"]])}
        rows.append(row | shown | {"mark": mark(row["holds"])})
    head = "method | what it does | checked | cases | largest TV | "
    cells = "{link} | {about} | {how} | {cases} | {tv} | {mark}"
    without = escape(listing(summary["without"]))
    said = f"Learners without a certificate: {without}." if without else ""
    return table_of(head, cells, rows, text=3) + note(said)


def _section(method: Mapping[str, Any]) -> list[str]:
    cases = method["certificates"]
    charts = [
        figure(
            f"{i}. {escape(one['toy'])}",
            law_chart(one["law"], f"Law of {one['learner']} on {one['toy']}"),
        )
        for i, one in enumerate(cases, 1)
    ]
    return [
        f'<h2 id="{escape(method["name"])}">{escape(method["name"])}</h2>',
        f"<p>{escape(method['about'])}</p>",
        _laws(cases),
        *(
            f'<p class="off">{i}. {escape(fault)}</p>'
            for i, one in enumerate(cases, 1)
            for fault in one["faults"]
        ),
        grid(charts),
        legend(law_legend([one["law"] for one in cases])),
        "<h3>Expected cost</h3>",
        _costs(cases),
        "<h3>Granted</h3>",
        _grants(cases),
    ]


def _toys(summary: Mapping[str, Any]) -> str:
    cases = [one for method in summary["methods"] for one in method["certificates"]]
    rows = [[escape(k), escape(v)] for k, v in {one["toy"]: one["about"] for one in cases}.items()]
    return f"<h2>The generators</h2>{table(['name', 'what it is'], rows, text=2)}"


def _laws(cases: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[str]] = []
    for i, one in enumerate(cases, 1):
        learner = f"<small>{escape(parameter_words(one))}</small>"
        said = f'<div class="prose">{escape(one["states"])}<br>{learner}</div>'
        how = prose(how_words(one))
        numbers = [escape(x) for x in distance_words(one["stated"])]
        rows.append([f"{i}. {escape(one['toy'])}", said, how, *numbers, mark(one["holds"])])
        if one["aimed"]:
            apart = [f'<span class="no">{escape(x)}</span>' for x in distance_words(one["aimed"])]
            name = f'<span class="no">{escape(aimed_name(one))}</span>'
            rows.append(["", name, "", *apart, ""])
    head = ["case", "what is stated", "checked", "TV", "KL, nats", "max ratio", ""]
    return table(head, rows, text=3)


def _costs(cases: Sequence[Mapping[str, Any]]) -> str:
    pays = [c for c in CURRENCIES if any(c in one["costs"] for one in cases)]
    rows = [
        [f"{i}. {escape(one['toy'])}", *(_cost(one["costs"].get(c)) for c in pays)]
        for i, one in enumerate(cases, 1)
    ]
    return table(["case", *(SHORT.get(c, c) for c in pays)], rows)


def _cost(cost: Mapping[str, Any] | None) -> str:
    """The expected cost, and whether it is that of its formula."""
    if cost is None:
        return "·"
    if cost["formula"] is None:
        return f'<span class="no">{rounded(cost["expected"])}</span>'
    said = "= formula" if same(cost) else f"formula {rounded(cost['formula'])}"
    return f"{rounded(cost['expected'])} <small>{said}</small>"


def _grants(cases: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[str]] = []
    for text in dict.fromkeys(one["grants"] for one in cases):
        numbers = [str(i) for i, one in enumerate(cases, 1) if one["grants"] == text]
        contract = Contract.parse(text)
        said = map(prose, allowed(contract))
        name = f"{dot(str(contract.control))}<code>{escape(text)}</code>"
        rows.append([name, *said, listing(numbers)])
    head = ["contract", "where it asks: it may", "it sees", "beside the generator it may", "cases"]
    return table(head, rows, text=5, kind="dense")
