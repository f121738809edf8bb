"""Reproducing: immutable settings, parallel and resumable measuring, summaries, pages, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest

import reroot
from reroot import InvalidInput, RunFolderError
from reroot.cli import main
from reroot.experiments import get_experiment, list_experiments, reproduce, runner
from reroot.experiments.base import Check, Experiment, Row, Setting
from reroot.experiments.page import write_page
from reroot.experiments.records import keep_rows
from reroot.experiments.runner import command, load_reproduction
from reroot.experiments.suite import usual

CHEAP = "kl-estimators"

RELEASED: dict[str, tuple[int, str]] = {
    "collapse": (27, "1e86c83377d7a8ac"),
    "barrier": (35, "15050fc6c5cb3a76"),
    "hidden-path": (71, "a19eedaf67621c23"),
    "decoy": (66, "4cbda52d8edf0198"),
    "trie": (27, "883c44b35ee4431c"),
    "kl-gap": (27, "4e2fb35082270016"),
    "ladder": (77, "bfe8c56ed467384d"),
    "noisy-parity": (81, "edb5bd786c5b8bf5"),
    "settle": (86, "f19dd7fdb7169a8d"),
    "settle-neural": (169, "50d2c93eb12877f9"),
    "price-list": (43, "7a8cfd42a4bed1a6"),
    "locks": (59, "3c8bfb23d5abe0fc"),
    "kl-estimators": (18, "4b50b8e23aa6c239"),
    "base-model-barrier": (64, "cf3dd0bbfbfdde40"),
    "base-model-barrier-large": (3, "62321a1263bc944a"),
    "spanners": (51, "caec26844704e4ad"),
}
"""Id → how many settings were released, and their digest. Append to settings, never change them."""


def digest(settings: tuple[Setting, ...]) -> str:
    text = json.dumps([dict(s) for s in settings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize("id", list(list_experiments()))
def test_released_settings_never_change(id: str) -> None:
    count, known = RELEASED[id]
    settings = get_experiment(id).settings
    assert len(settings) >= count
    assert digest(settings[:count]) == known, "released settings were changed, moved or removed"


@pytest.mark.parametrize("experiment", list_experiments().values(), ids=list(list_experiments()))
def test_experiments_are_well_formed(experiment: Experiment) -> None:
    assert re.fullmatch(r"[a-z][a-z-]*", experiment.id)
    assert experiment.claim
    assert experiment.statement
    assert set(experiment.quick) <= set(range(len(experiment.settings)))
    assert len(experiment.quick) <= len(experiment.settings)
    assert experiment.quick or experiment.alone
    json.dumps([dict(s) for s in experiment.settings])
    assert all("seed" not in s for s in experiment.settings)
    assert experiment.setting(3 % len(experiment.settings))["seed"] == 3 % len(experiment.settings)


def test_reproduce_writes_a_run_folder(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    names: list[str] = []
    found = reproduce(
        CHEAP,
        quick=True,
        out=tmp_path / "run",
        workers=1,
        on_start=lambda total, done: told.append((total, done)),
        on_setting=lambda name, seconds: names.append(name),
    )
    quick = get_experiment(CHEAP).quick
    assert told == [(len(quick), 0)]
    assert names == [f"{CHEAP}/{n}" for n in quick]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == found.summary
    assert summary["kind"] == "reproduce"
    assert summary["holds"] is True
    (entry,) = summary["experiments"]
    assert entry["id"] == CHEAP
    assert entry["command"] == f"reroot reproduce {CHEAP} --quick"
    assert all(check["holds"] and check["detail"] for check in entry["checks"])
    table = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert len(table) == len(found.rows[CHEAP])
    assert table["experiment"].unique().to_list() == [CHEAP]
    again = load_reproduction(tmp_path / "run")
    assert again.rows == found.rows
    assert again.checks == found.checks


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    one = reproduce(CHEAP, quick=True, out=tmp_path / "one", workers=1)
    two = reproduce(CHEAP, quick=True, out=tmp_path / "two", workers=2)
    assert one.rows == two.rows
    assert one.checks == two.checks


def test_finished_settings_are_not_measured_again(tmp_path: Path) -> None:
    reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:40])  # a kill in the middle of a line
    names: list[str] = []
    reproduce(
        CHEAP,
        quick=True,
        out=tmp_path / "run",
        workers=1,
        on_setting=lambda name, seconds: names.append(name),
    )
    assert names == [f"{CHEAP}/{n}" for n in get_experiment(CHEAP).quick[2:]]
    kept = journal.read_text().splitlines(keepends=True)
    assert kept[:2] == lines[:2]
    assert [json.loads(a)["rows"] for a in kept] == [json.loads(a)["rows"] for a in lines]


@pytest.mark.slow
def test_kill_and_continue(tmp_path: Path) -> None:
    """kill -9 in the middle of a run with two workers; the same command finishes the rest."""
    folder = tmp_path / "run"
    arguments = ["reproduce", "noisy-parity", "--quick", "--workers", "2", "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "reroot", *arguments], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journal = folder / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = journal.read_bytes()
    assert before
    with pytest.raises(RunFolderError, match="no finished reproduction"):
        load_reproduction(folder)
    found = reproduce("noisy-parity", quick=True, out=folder, workers=1)
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert found.holds


def test_a_folder_of_a_version_with_fewer_settings_is_shown(tmp_path: Path) -> None:
    found = reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)
    experiment = get_experiment(CHEAP)
    more = replace(
        experiment, settings=(*experiment.settings, {"new": 1}), quick=(*experiment.quick, 99)
    )
    with patch.dict(runner.__dict__, get_experiment=lambda id: more):
        assert load_reproduction(tmp_path / "run").rows == found.rows


def test_another_selection_is_another_run(tmp_path: Path) -> None:
    reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)
    with pytest.raises(RunFolderError, match="another configuration"):
        reproduce("kl-gap", quick=True, out=tmp_path / "run")


def test_rows_of_a_record_are_not_measured_again(tmp_path: Path) -> None:
    """A recording that grows: two settings were kept, of a folder that is not finished; the rest is new."""
    found = reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[1] + lines[0] + lines[2][:40])  # out of order, and cut off by a kill
    record = tmp_path / "kept.parquet"
    quick = get_experiment(CHEAP).quick
    assert keep_rows(tmp_path / "run", record) == (2, len(quick))
    kept = pl.read_parquet(record)
    assert kept["seed"].unique(maintain_order=True).to_list() == list(quick[:2])

    told: list[tuple[int, int]] = []
    names: list[str] = []
    grown = reproduce(
        CHEAP, quick=True, out=tmp_path / "grown", workers=1, known=record,
        on_start=lambda total, done: told.append((total, done)),
        on_setting=lambda name, seconds: names.append(name),
    )  # fmt: skip
    assert told == [(len(quick), 2)]
    assert names == [f"{CHEAP}/{n}" for n in quick[2:]]
    assert grown.checks == found.checks
    table = [pl.read_parquet(tmp_path / n / "results.parquet") for n in ("run", "grown")]
    assert table[0].equals(table[1])


def test_rows_of_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)
    table = pl.read_parquet(tmp_path / "run" / "results.parquet")
    name = next(iter(get_experiment(CHEAP).settings[0]))
    other = tmp_path / "other.parquet"
    table.with_columns(pl.lit("another").alias(name)).write_parquet(other)
    number = table["seed"][0]
    with pytest.raises(InvalidInput, match=f"{CHEAP}/{number} is of another setting: {name} is"):
        reproduce(CHEAP, quick=True, out=tmp_path / "new", known=other)
    table.with_columns(seed=pl.lit(9999)).write_parquet(other)
    with pytest.raises(InvalidInput, match=f"{CHEAP}/9999 is no setting of this version"):
        reproduce(CHEAP, quick=True, out=tmp_path / "new", known=other)
    pl.DataFrame({"a": [1]}).write_parquet(other)
    with pytest.raises(RunFolderError, match="no rows of experiments"):
        reproduce(CHEAP, quick=True, out=tmp_path / "new", known=other)
    assert not (tmp_path / "new").exists()


def test_report_keeps_the_rows_of_an_unfinished_reproduction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, record = tmp_path / "run", tmp_path / "kept.parquet"
    reproduce(CHEAP, quick=True, out=run, workers=1)
    journal = run / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("")
    with pytest.raises(SystemExit):
        main(["report", str(run), "--record", str(record)])
    assert "measured nothing" in capsys.readouterr().err
    journal.write_text("".join(lines[:-1]))
    main(["report", str(run), "--record", str(record)])
    said = capsys.readouterr()
    assert f"({len(lines) - 1} of {len(lines)} settings)" in said.out + said.err
    assert record.with_suffix(".html").is_file()
    with pytest.raises(SystemExit):
        main(["report", str(run), "--out", str(record)])
    assert "--out is for training runs" in capsys.readouterr().err


def test_commands() -> None:
    assert command(usual(), quick=False) == "reroot reproduce"
    assert "settle-neural" in command(list(list_experiments()), quick=False)
    assert command(["barrier"], quick=True) == "reroot reproduce barrier --quick"


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'hidden-path'"):
        reproduce("hidden_path", out=tmp_path / "run")
    with pytest.raises(InvalidInput, match="workers must be an integer >= 1"):
        reproduce(CHEAP, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "kl-estimatrs", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "Did you mean 'kl-estimators'" in capsys.readouterr().err
    with pytest.raises(RunFolderError):
        load_reproduction(tmp_path)


class Links(HTMLParser):
    """Ids and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "src", "xlink:href"):
                self.links.append(str(value))


def test_page_is_self_contained(tmp_path: Path) -> None:
    page = write_page(reproduce(CHEAP, quick=True, out=tmp_path / "run", workers=1)).read_text()
    links = Links()
    links.feed(page)
    assert len(links.ids) == len(set(links.ids))
    assert all(link.startswith("#") and link[1:] in links.ids for link in links.links)
    for check in get_experiment(CHEAP).check(load_reproduction(tmp_path / "run").rows[CHEAP]):
        assert check.name in page.replace("&#x27;", "'")
    assert f"reroot reproduce {CHEAP} --quick" in page


def test_a_check_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the check by name, and a page that says so."""

    def measure(setting: Setting) -> list[Row]:
        return [{"x": setting["seed"]}]

    def check(rows: list[Row]) -> list[Check]:
        return [Check("x is never 1", all(r["x"] != 1 for r in rows), "x = 1 was measured")]

    failing = Experiment(
        "failing", "x is never 1", ("A false claim.",), ({"a": 1}, {"a": 2}), (0,), measure, check,
        lambda rows: [],
    )  # fmt: skip
    monkeypatch.setattr("reroot.experiments.suite._EXPERIMENTS", (failing,))
    assert reproduce("failing", quick=True, out=tmp_path / "quick").holds
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "failing", "--workers", "1", "--out", str(tmp_path / "run")])
    assert stop.value.code == 1
    assert "fails: failing: x is never 1: x = 1 was measured" in capsys.readouterr().out
    assert '<span class="off">fails</span>' in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["holds"] is False


def test_reproduce_is_a_call_of_the_package() -> None:
    assert reroot.reproduce is reproduce
