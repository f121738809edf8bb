"""Tables of data: formats, what is escaped, headings that span, and what fits a terminal."""

from __future__ import annotations

import pytest

from html_checks import Reader
from reroot.pages.kit.cells import table_of
from reroot.pages.kit.markup import Html
from reroot.pages.kit.table import Table


def cells(table: Table) -> list[list[str]]:
    reader = Reader()
    reader.feed(table.html())
    (found,) = reader.tables
    return found


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("{n}", "2208"),
        ("{n:q}", "2,208"),
        ("{n:,} of {n}", "2,208 of 2208"),
        ("{log:log}", "0.42"),
        ("{far:log3}", "2.69·10⁴³"),
        ("{x:.3f}", "0.125"),
        ("{none}", "·"),
        ("{none:q}", "·"),
        ("{none:.2f}", "·"),
        ("{ends:yes}", "no"),
        ("{of[n]}", "7"),
    ],
)
def test_formats_of_a_cell(cell: str, shown: str) -> None:
    row = {"n": 2208, "log": -0.868, "far": 100.0, "x": 0.125, "none": None, "ends": []}
    assert cells(table_of("name | what", f"a | {cell}", [row | {"of": {"n": 7}}])) == [
        ["name", "what"],
        ["a", shown],
    ]


def test_data_is_escaped_and_html_is_not() -> None:
    row = {"data": "<b>|</b>", "html": Html("<i>R</i>"), "name": "visited/<sample>"}
    page = table_of("|U| | R<sub>U</sub> | at", "{data} | {html} | {name:name}", [row]).html()
    assert "<td>&lt;b&gt;" not in page  # the first column is text
    assert '<th class="text" scope="row">&lt;b&gt;|&lt;/b&gt;</th><td><i>R</i></td>' in page
    assert '<span class="dot visited"></span>visited/&lt;sample&gt;</td>' in page
    assert 'scope="col">R<sub>U</sub></th>' in page


def test_text_that_holds_the_separator_stays_in_its_cell() -> None:
    page = table_of("a | b", "{a} | {b}", [{"a": "x | y", "b": "z"}])
    assert cells(page)[1] == ["x | y", "z"]
