"""Tables of data: formats, what is escaped, headings that span, and what fits a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from html_checks import Reader
from reroot.pages.kit.cells import Html, fitting, table, table_of, terminal_table


def cells(page: str) -> list[list[str]]:
    reader = Reader()
    reader.feed(page)
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
    page = table_of("|U| | R<sub>U</sub> | at", "{data} | {html} | {name:name}", [row])
    assert "<td>&lt;b&gt;" not in page  # the first column is text
    assert '<td class="text">&lt;b&gt;|&lt;/b&gt;</td><td><i>R</i></td>' in page
    assert 'var(--visited)"></span>visited/&lt;sample&gt;</td>' in page
    assert "<th>R<sub>U</sub></th>" in page


def test_text_that_holds_the_separator_stays_in_its_cell() -> None:
    page = table_of("a | b", "{a} | {b}", [{"a": "x | y", "b": "z"}])
    assert cells(page)[1] == ["x | y", "z"]


def test_a_row_of_one_cell_spans_the_table() -> None:
    page = table(["a", "b", "c"], [["all"], ["1", "2", "3"]], text=(0, 2))
    assert '<tr class="group"><td class="text" colspan="3">all</td></tr>' in page
    assert '<td class="text">1</td><td>2</td><td class="text">3</td>' in page


def test_a_narrow_terminal_gets_the_first_table_that_fits() -> None:
    def made(width: int):
        made = terminal_table(["x" * width], ["n"])
        made.columns[0].no_wrap = True
        made.add_row("a", "1")
        return made

    tables = [made(width) for width in (60, 30, 10)]
    measure = Console(width=1000).measure
    assert fitting(tables, measure(tables[1]).maximum) is tables[1]
    assert fitting(tables, 5) is tables[2]
