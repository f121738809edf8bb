"""Text of anybody's making on the terminal: nothing in it moves a cursor, and nothing is markup."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from commands import call
from reroot.cli.console import PlainConsole
from reroot.errors import visible
from reroot.pages import terminal_table
from reroot.pages.kit.page import document
from reroot.runs.compare import load_comparison

HOSTILE = (
    "a\x1b[2J\x1b]0;t\x07\x9b31mb\u202ec\u2066d\u200be\r\x7f\ud800\U000e0041[red]f[/] :smile: …β½👩"
)


def controls(text: str) -> set[str]:
    """Characters of a text that show nothing and do something."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {c for c in text if c != "\n" and unicodedata.category(c) in kinds}


def printed(*renderables: Any, width: int = 400) -> str:
    out = io.StringIO()
    console = PlainConsole(file=out, width=width, force_terminal=True, color_system=None)
    for renderable in renderables:
        console.print(renderable)
    console.say(HOSTILE, "red")
    return out.getvalue()


def test_hostile_text_is_hostile() -> None:
    assert len(controls(HOSTILE)) > 8
    assert controls(visible(HOSTILE)) == set()


@pytest.mark.parametrize("text", ["", "plain", "a\n\tb", "…β½ 日本\u00a0é [red] \\x1b 👩"])
def test_what_is_harmless_stays(text: str) -> None:
    assert visible(text) == text


def test_escapes_are_those_of_python() -> None:
    assert visible("\x1b\r\x9b\u202e\ud800\U000e0041") == r"\x1b\r\x9b\u202e\ud800\U000e0041"
    assert visible(visible(HOSTILE)) == visible(HOSTILE)


def test_no_kind_of_renderable_lets_controls_through() -> None:
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE, footer=HOSTILE)
    table.add_column(Text(HOSTILE))
    table.add_row(HOSTILE, Text.assemble((HOSTILE, "bold"), "x"))
    table.add_row(Group(HOSTILE, Text(HOSTILE)), "")
    text = printed(HOSTILE, Text(HOSTILE), table)
    assert controls(text) == set()
    assert text.count(r"\x1b[2J") == 11
    assert text.count("[red]f[/] :smile:") == 9  # cells of ``Text`` are cut to their old width


@pytest.mark.slow(1)
def test_a_comparison_of_hostile_names_is_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every name and every error of a summary, replaced."""
    pytest.importorskip("matplotlib")
    family = ["--model", "hidden_path:K=3,H=4,p=0.6", "--problems", "1", "--seeds", "1"]
    folder = tmp_path / ":smile:"
    assert call("compare", *family, "--budget-tokens", "100", "--out", str(folder)) == 0
    assert ":smile:/report.html" in capsys.readouterr().out
    summary = load_comparison(folder).summary
    for cell in summary["cells"]:
        cell["errors"], cell["error"] = 1, HOSTILE
    text = json.dumps(summary)
    names = {*summary["horizons"], *(learner["short"] for learner in summary["learners"])}
    for name in names:
        text = text.replace(json.dumps(name)[1:-1], json.dumps(name + HOSTILE)[1:-1])
    shown = printed(terminal_table(json.loads(text), 400))
    assert controls(shown) == set()
    assert shown.count(r"\x1b[2J") > len(names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", f"no{HOSTILE}"],
        ["audit", f"no{HOSTILE}", "root/sample"],
        ["compare", "--model", HOSTILE, "--task", "copy"],
        ["compare", "--model", "hidden_path:K=3,H=4,p=0.6", "--learner", HOSTILE],
        ["compare", f"--{HOSTILE}", "x"],
        ["certify", HOSTILE],
        ["reproduce", HOSTILE],
        ["list", HOSTILE],
        [HOSTILE],
    ],
)
def test_errors_are_harmless(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["--out", str(tmp_path / "r")] if arguments[0] == "compare" else []
    assert call(*arguments, *where) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert controls(error) == set()
    assert len(error.splitlines()) == 1


def test_pages_are_harmless() -> None:
    page = document(HOSTILE, f"<p title='{HOSTILE}'>{HOSTILE}</p>")
    assert controls(page) == set()


def test_every_page_is_a_document() -> None:
    """So that what holds for ``document`` holds for all of them; attempts, with a policy of content, have tests of their own."""
    source = Path(__file__).parents[2] / "src" / "reroot"
    files = [
        p
        for p in source.rglob("*.*")
        if p.suffix in (".py", ".html") and "<!doctype" in p.read_text(encoding="utf-8").lower()
    ]
    found = sorted(p.relative_to(source).as_posix() for p in files)
    assert found == ["pages/attempts/templates/page.html", "pages/kit/templates/base.html"]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("compare", "--model", "a", "--budget-tokens", "nan"), "'nan'"),
        (("compare", "--model", "a", "--beta=many"), "'many'"),
        (("train", "--lora", "x"), "'x'"),
        (("list", "nosuch"), "'nosuch'"),
    ],
)
def test_a_wrong_value_is_named(
    arguments: tuple[str, ...], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    assert value in capsys.readouterr().err
