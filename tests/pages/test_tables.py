"""One table, everywhere the same data: HTML, terminal, Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console

from html_checks import Reader
from reroot.pages.kit.markup import Html, plain
from reroot.pages.kit.page import document, render
from reroot.pages.kit.table import Column, Table, columns

EVIL = "<b>|</b>\x1b[31m\u202e & \\x"
SHOWN = "<b>|</b>\\x1b[31m\\u202e & \\x"


def table() -> Table:
    rate = Html("0.50 <small>0.25 to 0.75</small>", 0.5, (0.25, 0.75))
    rows = [["root"], [EVIL, 2208, rate, None], ["b", 0.001, "·", Html("2<sup>H</sup>")]]
    heads = [Column("learner", text=True), Column("tokens", format="q", spare=1)]
    return Table([*heads, Column("rate"), Column("J<sub>β</sub>")], rows, "What it cost")


def printed(made: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(made.terminal(width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_form_holds_every_cell() -> None:
    made = table()
    reader = Reader()
    reader.feed(document("t", made.html()))
    (found,) = reader.tables
    assert found[0] == [
        "learner",
        "tokens",
        "rate",
        "J<sub>β</sub>",
    ]  # text is escaped: only Html is HTML
    assert found[1] == ["root"]
    assert found[2] == [SHOWN, "2,208", "0.50 0.25 to 0.75", "·"]
    assert found[3] == ["b", "0.001", "·", "2H"]
    for text in ("2,208", "0.50 0.25 to 0.75", "2^H", "learner", "What it cost"):
        assert text in printed(made, 100)
        assert text.replace("_", "\\_").replace("^", "^") in made.markdown()
    assert "2,208 & 0.50 0.25 to 0.75 & $\\cdot$" in made.latex()
    assert r"2\textasciicircum{}H" in made.latex()
    for form in (made.markdown(), made.latex(), printed(made, 100), document("t", made.html())):
        assert not re.search("[\x1b\u202e]", form)


def test_markdown_rows_have_as_many_cells_whatever_is_in_them() -> None:
    lines = [line for line in table().markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}


def test_data_is_data_in_csv_and_json() -> None:
    found = list(csv.DictReader(io.StringIO(table().csv())))
    assert found[0]["tokens"] == "2208"
    assert (found[0]["rate"], found[0]["rate low"], found[0]["rate high"]) == (
        "0.5",
        "0.25",
        "0.75",
    )
    assert found[0]["group"] == "root"
    rows = json.loads(table().json())["rows"]
    assert rows[0]["learner"] == EVIL  # escaped by JSON, not changed
    assert rows[1]["tokens"] == 0.001
    assert rows[0]["rate high"] == 0.75


@pytest.mark.parametrize(("width", "shown"), [(100, True), (34, False)])
def test_a_narrow_terminal_goes_without_spare_columns(width: int, shown: bool) -> None:
    rows = [["a", 1, Html("0.5 <small>0.25 to 0.75</small>")]]
    heads = [Column("learner", text=True), Column("tokens spent", spare=1), Column("rate")]
    text = printed(Table(heads, rows), width)
    assert ("tokens spent" in text) == shown
    assert "0.25 to 0.75" in text
    assert max(map(len, text.splitlines())) <= width


def test_small_parts_go_last_and_nothing_is_cut() -> None:
    rows = [["name of it", Html("0.5 <small>0.25 to 0.75</small>")]]
    made = Table([Column("learner", text=True), Column("rate")], rows)
    assert "0.25" not in printed(made, 18)
    assert "0.5" in printed(made, 18)
    words = [["a sentence with words"], ["x", "many words that do not fit"]]
    narrow = printed(Table(columns("a | b", 2), [["x", "many words that do not fit"]]), 20)
    assert "".join(narrow.split()).count("manywordsthatdonotfit") == 1, words


def test_html_is_accessible() -> None:
    page = document("t", Html("<h2>Costs</h2>" + 2 * table().html() + table().titled("").html()))
    assert page.count('role="region" tabindex="0"') == 3
    names = re.findall(r'aria-label="([^"]*)"', page)
    assert names == ["What it cost", "What it cost (2)", "Costs"]
    assert '<caption class="unseen">Costs</caption>' in page
    assert page.count("<caption") == 3
    assert '<th scope="col"' in page or 'scope="col">' in page
    assert page.count('scope="row"') == 6
    assert "<th></th>" not in page


def test_headings_are_listed_and_have_anchors() -> None:
    body = "<header><h1>T</h1></header><h2>A &amp; b</h2><h2 id='x'>A</h2><h2>A b</h2><h3>c</h3>"
    page = document("t", Html(body.replace("'", '"')))
    assert re.findall(r'<li><a href="#([^"]*)">([^<]*)</a>', page) == [
        ("a-b", "A &amp; b"),
        ("x", "A"),
        ("a-b-2", "A b"),
    ]
    assert page.index("</header>") < page.index("<nav") < page.index("<h2")
    assert '<h3 id="c">' in page


def test_templates_escape_and_refuse_what_is_not_there(tmp_path: object) -> None:
    from jinja2 import UndefinedError

    from reroot.pages.kit.page import environment

    made = environment().from_string("{{ text }}{{ html }}{{ table }}{{ 1234 | quantity }}")
    text = made.render(text="<i>", html=Html("<i>"), table=table())
    assert text.startswith("&lt;i&gt;<i><div")
    assert text.endswith("1,234")
    with pytest.raises(UndefinedError, match="nowhere"):
        environment().from_string("{{ nowhere }}").render()
    with pytest.raises(UndefinedError):
        render("t", "base.html")


def test_plain_text_of_html() -> None:
    assert plain(Html("a &lt; <b>b</b><br>c<svg><text>x</text></svg>")) == "a < b\nc"
    assert plain("a &lt; <b>") == "a &lt; <b>"
