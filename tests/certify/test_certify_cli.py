"""``reroot certify``: what it prints, its exit codes, its folder, its page, and its errors."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from commands import call
from html_checks import Reader
from reroot.certify import cases as all_cases
from reroot.certify.case import EXACT, Aim, Case
from reroot.certify.every import certify_methods
from reroot.certify.toys import SHORT
from reroot.learners import list_learners
from reroot.pages.certificates.chart import law_chart, law_legend, output_name
from reroot.pages.certificates.formatting import ratio, small
from reroot.pages.certificates.page import render
from reroot.pages.kit import plots

QUICK = ["beam_search", "latent_exploration"]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leave no cases but those given."""

    def leave(*cases: Case) -> None:
        monkeypatch.setattr(all_cases, "_CASES", (lambda: list(cases),))

    return leave


def wrong() -> Case:
    """A method that always gives the mode of P, said to draw from P."""
    case = all_cases.cases_of("beam_search")[0]
    toy = case.toy
    return dataclasses.replace(case, law=toy.law(toy.p), costs={"rollouts": 7.0})


@pytest.mark.slow(1)
def test_tables_of_named_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("certify", *QUICK, "--processes", "1") == 0
    printed = capsys.readouterr().out
    for text in (*QUICK, "1.\xa0", "KL, nats", "enumerated", "holds", "= formula"):
        assert text in printed
    assert "2 methods, 5 cases: 5 hold" in printed
    assert "report:" not in printed


@pytest.mark.slow
def test_numbers_as_json_are_the_same_in_any_number_of_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for processes in ("1", "2"):
        assert call("certify", *QUICK, "--json", "--processes", processes) == 0
        numbers = json.loads(capsys.readouterr().out)
        for method in numbers["methods"]:
            for one in method["certificates"]:
                assert one.pop("seconds") >= 0
        found.append(numbers)
    assert found[0] == found[1]
    assert [m["name"] for m in found[0]["methods"]] == QUICK
    first = found[0]["methods"][1]["certificates"][0]
    assert first["stated"]["tv"] <= EXACT
    assert first["costs"]["hidden_states"]["expected"] == pytest.approx(
        first["costs"]["hidden_states"]["formula"]
    )
    assert sum(row["found"] for row in first["law"]) == pytest.approx(1.0, abs=1e-12)
    assert first["grants"] == "reset/none+hidden@T=1"


def test_a_wrong_method_is_named_and_exits_with_1(
    only: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only(wrong())
    assert call("certify", "beam_search", "--processes", "1") == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "fails" in printed
    assert "from the stated one in total variation" in printed
    assert "1 method, 1 case: 0 hold, 1 fail" in printed
    folder = tmp_path / "all"
    assert call("certify", "--all", "--processes", "1", "--out", str(folder)) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "fails: beam_search(" in printed
    assert "the formula gives 7" in printed
    page = (folder / "certificates.html").read_text(encoding="utf-8")
    assert "a statement does not hold" in page
    assert "in total variation" in page


def test_what_is_only_measured_is_no_failure(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    case = dataclasses.replace(wrong(), law=None, costs={}, aim=Aim("P", SHORT.law(SHORT.p)))
    only(case)
    assert call("certify", "beam_search") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 method, 1 case: 0 hold, 1 only measured" in printed
    assert "its output to P" in printed
    assert "∞" in printed  # the mode of another toy is no output of this one


def test_the_list_names_who_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("certify", "--list") == 0
    listed, _, without = capsys.readouterr().out.partition("Without a certificate:")
    methods = {case.method for case in all_cases.cases_of()}
    without = without.replace("\n", " ")
    for name in list_learners():
        assert (name in without.replace(".", " ").replace(",", " ").split()) != (name in methods)
    for name in methods:
        assert name in listed
    for how in ("enumerated", "per step", "weighted", "sampled"):
        assert how in listed


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["scm"], "Did you mean 'smc'?"),
        (["law_walk"], "reroot certify --list"),
        ([], "name a method, or --all"),
        (["smc", "--all"], "name none beside it"),
        (["beam_search", "--processes", "0"], "processes must be an integer >= 1, got 0"),
    ],
)
def test_errors(arguments: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("certify", *arguments) == 2
    assert shown in capsys.readouterr().err


@pytest.mark.slow(1)
def test_a_folder_is_replaced_by_its_like_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "certificates"
    command = ["certify", "beam_search", "--processes", "1", "--out", str(folder)]
    assert call(*command) == 0
    before = (folder / "certificates.json").read_bytes()
    (folder / "certificates.html").unlink()
    assert call(*command) == 0
    assert (folder / "certificates.html").exists()
    assert call("certify", "latent_exploration", "--out", str(folder)) == 2
    assert "another configuration" in capsys.readouterr().err
    assert json.loads((folder / "certificates.json").read_bytes())["methods"] == [
        {**method, "certificates": [{**one, "seconds": again["seconds"]} for one, again in pairs]}
        for method, pairs in _pairs(folder, before)
    ]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("…")
    assert call("certify", "beam_search", "--out", str(foreign)) == 2
    assert [p.name for p in foreign.iterdir() if p.name != ".lock"] == ["thesis.tex"]


def _pairs(folder: Path, before: bytes) -> Any:
    now = json.loads((folder / "certificates.json").read_bytes())["methods"]
    for old, new in zip(json.loads(before)["methods"], now, strict=True):
        yield old, list(zip(old["certificates"], new["certificates"], strict=True))


@pytest.mark.slow(1)
def test_report_makes_the_page_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certificates"
    assert call("certify", "beam_search", "--processes", "1", "--out", str(folder)) == 0
    page = (folder / "certificates.html").read_text(encoding="utf-8")
    (folder / "certificates.html").unlink()
    assert call("report", str(folder)) == 0
    assert (folder / "certificates.html").read_text(encoding="utf-8") == page
    (folder / "certificates.json").unlink()
    capsys.readouterr()
    assert call("report", str(folder)) == 2
    assert "no certificates in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_shows_laws_costs_and_contracts() -> None:
    methods = ["beam_search", "latent_exploration", "inference_time_pessimism"]
    found = certify_methods(methods)
    page = render(found)
    reader = Reader()
    reader.feed(page)
    assert [link for link in reader.outside if not link.startswith("#")] == []
    overview, *sections, toys = reader.tables
    assert [row[0] for row in overview[1:]] == methods
    for i, method in enumerate(found["methods"]):
        laws, costs, grants = sections[3 * i : 3 * i + 3]
        cases = method["certificates"]
        named = [row for row in laws[1:] if row[0]]
        assert [row[0] for row in named] == [f"{n}.\xa0{c['toy']}" for n, c in enumerate(cases, 1)]
        assert all(row[3:] == ["0", "0", "1", "holds"] for row in named)
        assert len(laws) - 1 == len(cases) + sum(c["aimed"] is not None for c in cases)
        assert len(costs) - 1 == len(cases)
        assert {row[0] for row in grants[1:]} == {c["grants"] for c in cases}
    assert {row[0] for row in toys[1:]} == {
        c["toy"] for m in found["methods"] for c in m["certificates"]
    }
    assert page.count("<figure>") == sum(len(m["certificates"]) for m in found["methods"])
    assert "every statement holds" in page
    assert not re.search(r"\de-\d", page)  # no number as a machine writes it


def test_numbers_that_are_rounding_are_shown_as_such() -> None:
    assert (small(0.9 * EXACT), small(2 * EXACT)) == ("0", "2·10⁻¹⁰")
    assert (small(3e-16), small(2e-7), small(0.01234), small("inf")) == (
        "0",
        "2·10⁻⁷",
        "0.0123",
        "∞",
    )
    assert (ratio(1 + 4e-15), ratio(0.9999999999999996), ratio(1.5)) == ("1", "1", "1.5")
    assert ratio("inf") == "∞"


def drawn(law: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The axes of a chart, before they become a picture."""
    pytest.importorskip("matplotlib")
    kept: list[Any] = []
    to_svg = plots.to_svg

    def keep(figure: Any, *given: Any, **settings: Any) -> Any:
        kept.append(figure.axes[0])
        return to_svg(figure, *given, **settings)

    monkeypatch.setattr(plots, "to_svg", keep)
    assert 'aria-label="Law"' in law_chart(law, "law", "Law")
    return kept[0]


def test_the_chart_draws_every_output_at_its_height(monkeypatch: pytest.MonkeyPatch) -> None:
    law = [
        {"output": [0, 1], "found": 0.5, "stated": 0.25, "aimed": 0.0, "own": None},
        {"output": None, "found": 0.0, "stated": 0.0, "aimed": 0.5, "own": None},
    ]
    axes = drawn(law, monkeypatch)
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.0]
    levels = axes.collections[0]  # the grid comes last
    assert [line[0][1] for line in levels.get_segments()] == [0.25, 0.0]
    (rings,) = axes.lines
    assert list(rings.get_ydata()) == [0.0, 0.5]
    assert output_name(None) == "none"


def test_the_chart_shows_the_learners_own_output_where_another_law_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    law = [{"output": [0], "found": 0.5, "stated": 0.5, "aimed": 0.5, "own": 1.0}]
    (rings,) = drawn(law, monkeypatch).lines
    assert list(rings.get_ydata()) == [1.0]
    assert "its own output" in law_legend([law])[-1]
    plain = [{"output": [0], "found": 1.0, "stated": None, "aimed": None, "own": None}]
    assert len(law_legend([plain])) == 2
    assert not drawn(plain, monkeypatch).lines
