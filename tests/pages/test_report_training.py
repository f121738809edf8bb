"""The report of training runs, on synthetic run folders whose numbers are known."""

from __future__ import annotations

import math
import re
import sys
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from commands import call
from html_checks import Checker
from reroot.contract import Contract
from reroot.errors import MissingDependency
from reroot.pages.kit.contracts import may
from reroot.pages.training.data import last_passes, passes
from reroot.pages.training.page import load_runs, write_training_page
from reroot.pages.training.tables import common_tokens
from reroot.pages.training.terminal import training_table
from training_runs import HOSTILE, journal, table_of, write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished root run, a finished adaback run, and one of plurality that goes on."""
    path = tmp_path_factory.mktemp("runs")
    return [
        write_run(path / "t1", "root"),
        write_run(path / "t2", "adaback"),
        write_run(path / "t3", "plurality", steps=33, end=None),
    ]


@pytest.fixture(scope="module")
def page(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "all.html"
    assert write_training_page(folders, out) == out
    return out.read_text(encoding="utf-8")


# -- the page ----------------------------------------------------------------------------------


def test_the_page_shows_the_numbers_of_the_journal(folders: list[Path], page: str) -> None:
    shown = table_of(page, "transfer gap, points")
    assert list(shown) == ["root", "adaback", "plurality"]
    for folder, row in zip(folders, shown.values(), strict=True):
        last = journal(folder, "eval")[-1]
        assert row["evaluated at, tokens"] == f"{last['tokens']:,}"
        assert row["problems × samples"] == "64 × 8"
        p = last["root"]["1"]
        more = (64 * p + 1) / 66
        error = 100 * math.sqrt(more * (1 - more) / 64)
        assert row["pass@1, root, %"] == f"{100 * p:.0f} ± {error:.0f}"
        assert row["pass@k, root, %"] == f"{100 * last['root']['8']:.0f} k = 8"
        if last["prefix"] is None:
            assert row["pass@1, prefixes, %"] == row["transfer gap, points"] == "·"
        else:
            assert row["pass@1, prefixes, %"] == f"{100 * last['prefix']['1']:.0f}"
            gap = 100 * (last["prefix"]["1"] - p)
            assert row["transfer gap, points"] == f"{gap:+.0f}"
    assert shown["plurality"]["state"] == "unfinished: step 33 of 60"


def test_the_page_shows_the_last_steps(folders: list[Path], page: str) -> None:
    shown = table_of(page, "KL, nats per output")
    for folder, row in zip(folders, shown.values(), strict=True):
        steps = journal(folder, "step")
        for counted, column in (
            (steps, "zero-variance, all steps, %"),
            (steps[-10:], "zero-variance groups, %"),
        ):
            equal = sum(x["zero_variance"] for x in counted) / sum(x["groups"] for x in counted)
            assert row[column] == f"{100 * equal:.0f}"
        assert row["KL, nats per output"] == f"{np.mean([x['kl'] for x in steps[-10:]]):.3g}"
        assert row["longest"] == f"{steps[-1]['longest']}"
    assert shown["root"]["reward, prefixes"] == "·"


def test_runs_are_compared_at_tokens_that_all_have_spent(folders: list[Path], page: str) -> None:
    """plurality was last evaluated at step 20, 78,000 tokens: that is where all can be compared."""
    runs = load_runs(folders)
    assert common_tokens(runs) == 20 * 3900
    shown = table_of(page, "within 78,000 tokens: pass@1, root, %")
    rates = [row["within 78,000 tokens: pass@1, root, %"] for row in shown.values()]
    # root: step 20 of 3000 tokens each (60,000); adaback and plurality: step 20
    assert rates == [f"{100 * 20 / 60 * 0.25:.0f}", f"{100 * 20 / 60 * 0.9:.0f}", f"{100 * 20 / 60 * 0.9:.0f}"]  # fmt: skip
    assert common_tokens(runs[:1]) is None
    assert common_tokens([runs[1], runs[1]]) is None
    assert last_passes(runs[0], within=-1) is None


def test_arms_are_shown_over_their_seeds(tmp_path: Path, page: str) -> None:
    assert "Arms over seeds" not in page
    rates = (0.2, 0.5, 0.6)
    folders = [write_run(tmp_path / "alone", "root")]
    for seed, rate in enumerate(rates):
        passed = {"1": rate, "8": 0.9}
        folders.append(
            write_run(
                tmp_path / f"t{seed}",
                seed=seed,
                budget={"tokens": 240_000},
                change=lambda line, p=passed: line.update(root=p) if "horizons" in line else None,
            )
        )
    shown = table_of(write_training_page(folders, tmp_path / "s.html").read_text(), "seeds")
    assert list(shown) == ["adaback()"]
    row = shown["adaback()"]
    spent = 60 * 3900
    assert (row["seeds"], row["tokens spent"]) == ("3", f"{spent:,}")
    assert row["least share of the budget"] == f"{100 * spent / 240_000:.0f}"
    # 4.303: the 97.5 % quantile of Student's t with two degrees of freedom
    mean, half = np.mean(rates), 4.303 * np.std(rates, ddof=1) / math.sqrt(3)
    assert row["pass@1, root, %"] == f"{100 * mean:.0f} {100 * max(0, mean - half):.0f}–{100 * min(1, mean + half):.0f}"  # fmt: skip


def test_the_headline_names_the_best_run_and_its_gap(folders: list[Path], page: str) -> None:
    assert "Highest pass@1 from the root: adaback<" in page
    assert re.search(r"<dt>Root pass@1, pass@8</dt><dd><b>90 %, 100 %</b>", page)
    assert "64 problems × 8 samples<br>at step 60<br>at step 0: 0 %, 0 %" in page
    assert re.search(r"<dt>Transfer gap</dt><dd><b>\+8 points</b><span>98 % from its", page)
    largest = r"<dt>Largest transfer gap</dt><dd><b>\+20 points</b>.*?plurality</span><br>50 % from prefixes"
    assert re.search(largest, page)
    within = (
        "Highest within the 78,000 tokens that every run has spent: adaback and plurality, 30 %"
    )
    assert within in page
    assert re.search(r"<dt>Generated tokens per run</dt><dd><b>128,700 to 234,000</b>", page)


def test_costs_and_what_building_prefixes_took(folders: list[Path], page: str) -> None:
    shown = table_of(page, "generated tokens")
    assert shown["adaback"]["generated tokens"] == "234,000"
    assert shown["adaback"]["tokens that built prefixes"] == "54,000 23 %"
    assert shown["root"]["tokens that built prefixes"] == "0"
    assert shown["root"]["root-start rollouts"] == "1,920"
    assert shown["root"]["prefix queries"] == "·"
    assert "verifier calls" not in shown["root"]


def test_contracts_in_words(page: str) -> None:
    shown = table_of(page, "what it may ask")
    assert shown["root"]["what it may ask"] == (
        "It may start at the beginning only. It sees what is drawn. "
        "Beside the generator it may have outputs scored."
    )
    assert (
        "start anywhere. It sees what is drawn and how likely that was"
        in (shown["adaback"]["what it may ask"])
    )
    assert "be shown a right output" in shown["adaback"]["what it may ask"]
    assert "the 5 most likely" in may(Contract.parse("reset/topk(5)"))
    for report in ("none", "sample", "logprob", "full", "argmax(2)"):
        assert may(Contract.parse(f"reset/{report}")).endswith("It may ask nothing else.")


def test_the_page_is_self_contained_and_takes_texts_literally(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert "script" not in checker.tags
    assert all(link.startswith("#") for link in checker.links)
    assert HOSTILE in unescape(page)
    body = page[page.index("</style>") :]
    assert not re.search(r"#[0-9a-fA-F]{6}\b", body)
    assert "nan" not in body.replace("dominan", "")
    # reward, gap, KL, zero-variance, start length, and pass@k at one horizon
    assert page.count('role="img"') == 6
    assert "reroot train --strategy plurality --seed 0" in page


@pytest.mark.slow(1)
def test_every_setting_is_taken_literally(tmp_path: Path) -> None:
    names = ("model", "task", "strategy", "command", "kl", "version", "more")
    made = [
        write_run(tmp_path / f"{i}", **{name: f"{name}{i}{HOSTILE}" for name in names})
        for i in range(2)
    ]
    for folders in (made, made[:1]):
        text = write_training_page(folders).read_text(encoding="utf-8")
        assert "<script" not in text
        for name in names:
            assert f"{name}0{HOSTILE}" in unescape(text)


@pytest.mark.slow(1)
def test_the_page_is_deterministic(folders: list[Path], tmp_path: Path) -> None:
    first = write_training_page(folders[:1], tmp_path / "a.html").read_bytes()
    assert write_training_page(folders[:1], tmp_path / "b.html").read_bytes() == first


@pytest.mark.slow(1)
def test_several_horizons_have_a_panel_each(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "t", horizons=(4, 8, 16))
    text = write_training_page([folder]).read_text(encoding="utf-8")
    for horizon in (4, 8, 16):
        assert f"pass@k at horizon {horizon};" in text
    assert "pass@1 against horizon" in text
    assert text.count('role="img"') == 5 + 4
    assert (folder / "report.html").exists()


def _no_numbers(line: dict[str, Any]) -> None:
    for name in (
        "root",
        "prefix",
        "kl",
        "zero_variance",
        "start",
        "longest",
        "loss",
        "spent",
        "building",
        "horizons",
    ):
        if name in line:
            line[name] = None


SHAPES: dict[str, tuple[dict[str, Any], str, int]] = {
    "no evaluation": ({"every": 0, "end": None}, "No run has an evaluation yet", 4),
    "one step": ({"steps": 1, "every": 0, "end": None}, "unfinished: step 1 of 60", 4),
    "before the first step": ({"steps": 0, "end": None}, "<b>0 %, 0 %</b>", 3),
    "all null": ({"change": _no_numbers}, "No run has an evaluation yet", 0),
    "no settings": ({"steps": 3, "budget": None, "model": None, "command": None}, "command not recorded", 6),
}  # fmt: skip


@pytest.mark.slow(1)
@pytest.mark.parametrize("shape", SHAPES)
def test_unfinished_and_empty_runs(tmp_path: Path, shape: str) -> None:
    what, said, figures = SHAPES[shape]
    folder = write_run(tmp_path / "t", **what)
    text = write_training_page([folder]).read_text(encoding="utf-8")
    body = text[text.index("</style>") :]
    assert said in body
    assert body.count('role="img"') == figures
    assert "nan" not in body.replace("dominan", "")
    assert printed([folder], 100)


def test_runs_of_different_tasks_are_not_ranked(tmp_path: Path) -> None:
    made = [write_run(tmp_path / task, task=task) for task in ("running_sum", "parity")]
    text = write_training_page(made).read_text(encoding="utf-8")
    assert "Highest" not in text
    assert "do not rank each other" in text
    assert "do not rank strategies" in text


def test_a_page_needs_matplotlib(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install reroot\[report\]"):
        write_training_page(folders, tmp_path / "x.html")


def test_errors_of_a_rate() -> None:
    line = {"step": 1, "tokens": 2, "root": {1: 0.2, 4: 0.5}, "prefix": {}, "problems": 100}
    found = passes(line)
    assert found.error == pytest.approx(math.sqrt(21 / 102 * 81 / 102 / 100))
    assert found.gap is None
    assert (found.k, found.root_k, found.n) == (4, 0.5, None)
    assert (passes({**line, "root": {1: 0.0}}).error or 0) > 0.009
    assert passes({**line, "problems": None}).error is None


# -- the terminal --------------------------------------------------------------------------------


def printed(folders: list[Path], width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(training_table(load_runs(folders), width))
    return out.getvalue()


def test_terminal_table(folders: list[Path], tmp_path: Path) -> None:
    text = printed(folders, 160)
    row = re.search(r"^ adaback .*$", text, re.MULTILINE)
    assert row is not None
    last = journal(folders[1], "eval")[-1]
    cells = re.split(r"  +", row.group().strip())
    assert cells[1:7] == [
        "60/60",
        "234,000",
        f"{100 * last['root']['1']:.0f}",
        f"{100 * last['root']['8']:.0f} k = 8",
        f"{100 * last['prefix']['1']:.0f}",
        f"{100 * (last['prefix']['1'] - last['root']['1']):+.0f}",
    ]
    assert re.search(r"^ plurality +33/60 ", text, re.MULTILINE)
    assert "[red]" in text  # the event, literally
    stopped = write_run(tmp_path / "t", steps=21, end="budget")
    assert " 21/60, budget " in printed([stopped], 100)


def test_narrow_terminals_keep_the_gap(folders: list[Path]) -> None:
    for width in (100, 80, 60):
        text = printed(folders, width)
        assert max(map(len, text.splitlines())) <= width
        assert "adaback" in text
        assert "gap" in text.splitlines()[1]
    assert "reward root" not in printed(folders, 60)


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.slow(1)
def test_report_overlays_training_runs(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "x.html"
    assert call("report", *map(str, folders[:2]), "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert f"report: {out}" in shown
    assert "adaback" in shown
    assert "2 training runs" in out.read_text(encoding="utf-8")
    alone = write_run(tmp_path / "alone")
    assert call("report", str(alone)) == 0
    assert (alone / "report.html").exists()


@pytest.mark.parametrize(
    ("kinds", "more", "said"),
    [
        (("train", "compare"), (), "holds no training run"),
        (("compare", "compare"), (), "holds no finished attempt"),
        (("reproduce", "compare"), (), "of kind 'reproduce'"),
        (("compare",), ("--out", "x.html"), "--out is for training runs"),
        (("compare",), ("--record", "x.parquet"), "--record is for training runs"),
    ],
)
def test_other_folders_are_reported_alone(
    kinds: tuple[str, ...],
    more: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = [str(write_run(tmp_path / f"{i}", kind=kind)) for i, kind in enumerate(kinds)]
    assert call("report", *made, *more) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert said in shown
