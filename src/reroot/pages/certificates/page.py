"""The page of certificates: what each method's law is said to be, what it is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract
from ...runs.folder import read_json, write_json
from ...types import CURRENCIES
from ..kit import page as kit
from ..kit.cells import dot, mark, prose, small
from ..kit.contracts import SHORT, allowed
from ..kit.formatting import listing, rounded
from ..kit.markup import Html
from ..kit.plots import figure, grid, legend
from ..kit.table import Column, Table, columns
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


def write_certificates(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``certificates.json`` and ``certificates.html``; the path of the page.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    write_json(Path(folder) / NUMBERS, summary)
    return kit.write_page(Path(folder) / PAGE, render(summary))


def read_certificates(folder: str | Path) -> dict[str, Any]:
    """The content of ``certificates.json``.

    Raises:
        RunFolderError: there is none, or it is not JSON.
    """
    return read_json(Path(folder) / NUMBERS, f"no certificates in {folder}")


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    used = dict(summary["versions"])
    own = used.pop("reroot")
    cases = [one for method in summary["methods"] for one in method["certificates"]]
    toys = {one["toy"]: one["about"] for one in cases}
    return kit.render(
        "reroot certify",
        "certificates/page.html",
        summary=summary,
        versions=f"{own}, {listing([f'{name} {value}' for name, value in used.items()])}",
        tiles=_tiles(summary, cases),
        overview=overview_table(summary),
        without=listing(summary["without"]),
        methods=[_method(method, i) for i, method in enumerate(summary["methods"])],
        toys=Table(columns("name | what it is", 2), list(toys.items())),
    )


Tile = tuple[str, str, str]


def _tiles(summary: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> list[Tile]:
    marks = [one["holds"] for one in cases]
    exact = [one["stated"]["tv"] for one in cases if one["stated"] and not one["margin"]]
    hold = f"{marks.count(True)} of {len(marks) - marks.count(None)}"
    only = f"{marks.count(None)} more only measured" if None in marks else ""
    largest, hows = rounded(max(exact) if exact else None, 1), [one["how"] for one in cases]
    checked = listing([f"{hows.count(how)} {how}" for how in dict.fromkeys(hows)])
    return [
        ("Statements that hold", hold, only),
        ("Methods", str(len(summary["methods"])), f"{sum(one['runs'] for one in cases):,} runs"),
        ("Cases", str(len(cases)), checked),
        ("Largest distance, exact cases", largest, "total variation"),
    ]


def overview_table(summary: Mapping[str, Any]) -> Table:
    """A row of each method; a narrow terminal goes without what it does."""
    head = "method | what it does | checked | cases | largest TV | found"
    about = {method["name"]: method["about"] for method in summary["methods"]}
    rows = [
        [
            Html(f'<a href="#{escape(row["name"])}">{escape(row["name"])}</a>'),
            prose(about[row["name"]]),
            *(row["how"], row["cases"], row["tv"], mark(row["holds"])),
        ]
        for row in methods_in_short(summary)
    ]
    return Table(columns(head, 3), rows).sparing("what it does")


def certificates_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table, for files: every method, and the laws and costs of the cases of each."""
    made = {"methods": overview_table(summary).titled("Certificates")}
    for method in summary["methods"]:
        name, cases = method["name"], method["certificates"]
        made[f"{name} laws"] = laws_table(cases).titled(f"{name}: output laws")
        made[f"{name} costs"] = costs_table(cases).titled(f"{name}: expected costs")
    return made


def _method(method: Mapping[str, Any], number: int) -> dict[str, Any]:
    cases = method["certificates"]
    charts = [
        figure(
            _numbered(i, one),
            law_chart(one["law"], f"law-{number}-{i}", f"Law of {one['learner']} on {one['toy']}"),
        )
        for i, one in enumerate(cases, 1)
    ]
    return {
        "name": method["name"],
        "about": method["about"],
        "laws": laws_table(cases),
        "faults": [f"{i}. {x}" for i, one in enumerate(cases, 1) for x in one["faults"]],
        "charts": grid(charts),
        "legend": legend(law_legend([one["law"] for one in cases])),
        "costs": costs_table(cases),
        "grants": _grants(cases),
    }


def laws_table(cases: Sequence[Mapping[str, Any]]) -> Table:
    """What each case states, how far its law is from that, and from the one it is compared with."""
    rows: list[list[Any]] = []
    for i, one in enumerate(cases, 1):
        learner = f"<small>{escape(parameter_words(one))}</small>"
        said = prose(Html(f"{escape(one['states'])}<br>{learner}"))
        how, numbers = prose(how_words(one)), distance_words(one["stated"])
        rows.append([_numbered(i, one), said, how, *numbers, mark(one["holds"])])
        if one["aimed"]:
            pale = [aimed_name(one), "", *distance_words(one["aimed"]), ""]
            said = [Html(f'<span class="no">{escape(x)}</span>') if x else x for x in pale]
            rows.append(["", *said])
    head = "case | what is stated | checked | TV | KL, nats | max ratio | found"
    return Table(columns(head, 3), rows)


def costs_table(cases: Sequence[Mapping[str, Any]]) -> Table:
    """The expected cost of each case, beside that of its formula."""
    pays = [c for c in CURRENCIES if any(c in one["costs"] for one in cases)]
    rows = [
        [_numbered(i, one), *(_cost(one["costs"].get(c)) for c in pays)]
        for i, one in enumerate(cases, 1)
    ]
    return Table([Column("case", True), *(Column(SHORT.get(c, c)) for c in pays)], rows)


def _cost(cost: Mapping[str, Any] | None) -> Html | None:
    """The expected cost, and whether it is that of its formula."""
    if cost is None:
        return None
    if cost["formula"] is None:
        return Html(f'<span class="no">{rounded(cost["expected"])}</span>', cost["expected"])
    said = "= formula" if same(cost) else f"formula {rounded(cost['formula'])}"
    return small(rounded(cost["expected"]), said, cost["expected"])


def _numbered(i: int, one: Mapping[str, Any]) -> str:
    """``1. coins``, in one line."""
    return f"{i}.\u00a0{one['toy']}"


def _grants(cases: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Any]] = []
    for text in dict.fromkeys(one["grants"] for one in cases):
        numbers = [str(i) for i, one in enumerate(cases, 1) if one["grants"] == text]
        contract = Contract.parse(text)
        name = Html(f"{dot(contract.control)}<code>{escape(text)}</code>")
        rows.append([name, *map(prose, allowed(contract)), listing(numbers)])
    head = "contract | where it asks: it may | it sees | beside the generator it may | cases"
    return Table(columns(head, 5), rows, style="dense")
