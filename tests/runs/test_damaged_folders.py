"""Folders that were edited, flipped, cut off or named oddly: one clear line, never other results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reroot
from reroot import RunFolderError
from reroot.access.sealing import sealed, unsealed
from reroot.cli import main
from reroot.runs.attempts import USAGE
from reroot.runs.compare import load_comparison
from toys import Wrapped, play, problem, search, zeros

GRANTS = "reset/sample+reward+verifier"
TASKS = [problem(f"p{i}", reward=zeros) for i in range(4)]
SMALL: dict[str, Any] = {
    "model": "hidden_path:K=3,H=4,p=0.6",
    "budget_tokens": 2_000,
    "seeds": 1,
    "problems": 3,
}


def run(folder: Path, **settings: Any) -> Any:
    return play(search, GRANTS, **{"task": TASKS, "out": folder, "concurrency": 2, **settings})


def with_line(file: Path, number: int, change: Callable[[dict[str, Any]], Any], seal: bool) -> None:
    """Change a line; with ``seal`` so that its checksum is right again."""
    lines = file.read_bytes().splitlines(keepends=True)
    line = unsealed(lines[number].rstrip(b"\n"))
    if seal:
        change(line)
        lines[number] = sealed(line)
    else:
        held = json.loads(lines[number])
        change(held)
        text = json.dumps(held, ensure_ascii=False) + "\n"
        lines[number] = text.encode("utf-8", "backslashreplace")
    file.write_bytes(b"".join(lines))


def refused(folder: Path, file: str, number: int, **settings: Any) -> str:
    with pytest.raises(RunFolderError, match=rf"{file}, line {number}: not a \w+ line: ") as error:
        run(folder, **settings)
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- journals ------------------------------------------------------------------------------------

EDITS: dict[str, Any] = {
    "passed": {"passed": "yes"},
    "reward": {"reward": "1.0"},
    "reward int": {"reward": True},
    "cost": {"cost": {"tokens": 2**70}},
    "negative": {"cost": {"tokens": -1}},
    "cost list": {"cost": [1]},
    "token": {"output": [2**70]},
    "tokens": {"output": "1 2"},
    "text": {"text": "\ud800"},
    "error": {"error": "KeyError"},
    "seed": {"seed": 1.5},
    "metadata": {"metadata": []},
}


@pytest.mark.slow(1)
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("seal", [True, False])
def test_an_edited_journal_line(edit: dict[str, Any], seal: bool, tmp_path: Path) -> None:
    """Found by its checksum; and whoever makes a new one gets no other types past it."""
    run(tmp_path)
    with_line(tmp_path / "journal.jsonl", 1, lambda line: line.update(edit), seal)
    refused(tmp_path, "journal.jsonl", 2)


def test_a_plausible_edit_is_found_too(tmp_path: Path) -> None:
    run(tmp_path)
    with_line(tmp_path / "journal.jsonl", 0, lambda line: line.update(passed=True), seal=False)
    assert "checksum" in refused(tmp_path, "journal.jsonl", 1)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """Of the first line: whatever it hits, it is that line or the one it now runs into."""
    run(tmp_path)
    file = tmp_path / "journal.jsonl"
    data = file.read_bytes()
    for i in range(0, data.index(b"\n") + 1, 7):
        file.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        refused(tmp_path, "journal.jsonl", 1)


def test_deep_json(tmp_path: Path) -> None:
    run(tmp_path)
    deep = b'{"key": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    file = tmp_path / "journal.jsonl"
    file.write_bytes(deep + file.read_bytes())
    refused(tmp_path, "journal.jsonl", 1)
    (tmp_path / "config.json").write_bytes(deep)
    with pytest.raises(RunFolderError, match=r"config\.json is not JSON"):
        run(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"x"'])
def test_a_configuration_that_is_no_object(content: str, tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"config\.json is damaged: expected an object"):
        run(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [{"seconds": "long"}, {"seconds": float("nan")}, {"forwards": 2**70}, {"forwards": -1}, {"computed": None}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("seal", [True, False])
def test_an_edited_usage_line(edit: dict[str, Any], seal: bool, tmp_path: Path) -> None:
    run(tmp_path)
    with_line(tmp_path / USAGE, 0, lambda line: line.update(edit), seal)
    refused(tmp_path, r"usage\.jsonl", 1)


# ---- attempts in flight --------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run that was stopped while its attempts had said something, and wrote that down."""

    class Stops(Wrapped):
        def answer(self, requests: Any) -> Any:
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().answer(requests)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, generator=Stops())
    return tmp_path


def test_what_was_said_is_not_asked_again(interrupted: Path, tmp_path: Path) -> None:
    generator, fresh = Wrapped(), Wrapped()
    assert run(interrupted, generator=generator) == run(tmp_path / "other", generator=fresh)
    assert generator.calls < fresh.calls
    assert not list((interrupted / "inflight").iterdir())


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "value": lambda line: line.update(value=[99]),
    "none": lambda line: line.update(value=None),
    "no number": lambda line: line.pop("i"),
    "no message": lambda line: line.pop("message"),
    "list": lambda line: line.update(i=[1]),
    "negative": lambda line: line.update(i=-1),
    "whose": lambda line: line.update(of=7),
    "of": lambda line: line.update(of="0"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_forged_messages(change: Callable[[dict[str, Any]], Any], interrupted: Path) -> None:
    file = interrupted / "inflight" / "messages.jsonl"
    number = next(
        i for i, line in enumerate(file.read_bytes().splitlines()) if "i" in json.loads(line)
    )
    with_line(file, number, change, seal=False)
    refused(interrupted, r"messages\.jsonl", number + 1)


@pytest.mark.parametrize("name", [name for name in FORGED if name not in ("value", "none")])
def test_lines_of_the_wrong_form(name: str, interrupted: Path) -> None:
    """With a checksum that is right."""
    file = interrupted / "inflight" / "messages.jsonl"
    number = next(
        i for i, line in enumerate(file.read_bytes().splitlines()) if "i" in json.loads(line)
    )
    with_line(file, number, FORGED[name], seal=True)
    refused(interrupted, r"messages\.jsonl", number + 1)


def test_a_message_that_was_cut_off(interrupted: Path, tmp_path: Path) -> None:
    file = interrupted / "inflight" / "messages.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert run(interrupted) == run(tmp_path / "other")


# ---- comparisons ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reroot.compare(**SMALL, out=tmp_path_factory.mktemp("whole") / "run").folder


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", ["r[2]", "r*", "r?", "[red]", "r2{a}", "~r", "a=1"])
def test_names_are_names(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a folder that the name would match, were it a pattern."""
    pytest.importorskip("matplotlib")
    for other in ("r2", "rr", "red"):
        reroot.compare(**{**SMALL, "problems": 2}, out=tmp_path / other)
    folder = tmp_path / name
    result = reroot.compare(**SMALL, out=folder)
    assert set(result.results["problem"]) == {f"hidden_path/H4/s0/00{i}" for i in range(3)}
    assert load_comparison(folder).results.equals(result.results)
    main(["report", str(folder)])
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out


@pytest.mark.slow(1)
@pytest.mark.parametrize("cut", [0, 1, 9, 20])
def test_the_report_of_an_interrupted_comparison(
    cut: int, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed before a table was written: the journal is the truth, and the page says what it is."""
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for name in ("results.parquet", "summary.json"):
        (folder / name).unlink()
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
    if cut == 0:
        with pytest.raises(RunFolderError, match="holds no finished attempt"):
            load_comparison(folder)
        return
    main(["report", str(folder)])
    told = f"Not finished: {cut} of {len(lines)} attempts made"
    assert told in " ".join(capsys.readouterr().out.split())
    assert told in (folder / "report.html").read_text()
    assert (folder / "journal.jsonl").read_bytes().endswith(lines[cut][:20])  # perhaps in use
    assert reroot.compare(**SMALL, out=folder).results.equals(load_comparison(whole).results)
    main(["report", str(folder)])
    assert "Not finished" not in (folder / "report.html").read_text()


DAMAGE: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "column": lambda table: table.drop("passed"),
    "type": lambda table: table.with_columns(cost_tokens=pl.lit("many")),
    "negative": lambda table: table.with_columns(cost_tokens=-pl.col("cost_tokens") - 1),
    "null": lambda table: table.with_columns(contract=pl.lit(None, pl.String)),
    "contract": lambda table: table.with_columns(contract=pl.lit("sideways/sample")),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damaged_tables(
    change: Callable[[pl.DataFrame], pl.DataFrame], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run" / "results.parquet"
    change(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(RunFolderError):
        load_comparison(tmp_path / "run")


@pytest.mark.parametrize("name", ["results.parquet", "problems.parquet"])
def test_bytes_that_are_no_table(name: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run" / name
    data = file.read_bytes()
    for damaged in (b"", b"PAR1", data[:100], data[:-40], data[:60] + b"\xff" * 400 + data[460:]):
        file.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=name):
            load_comparison(tmp_path / "run")


@pytest.mark.parametrize(
    "edit",
    [
        {"learners": None}, {"learners": [3]}, {"learners": [{"name": "x"}]}, {"granted": []},
        {"granted": {}}, {"granted": {"hidden_path": [3]}}, {"beta": "small"}, {"tasks": 5},
        {"budget": "much"}, {"budget": {"tokens": "much"}}, {"grants": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_configuration(edit: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **edit}))
    with pytest.raises(RunFolderError):
        load_comparison(tmp_path / "run")
