"""What other programs are given: read back from what they wrote, number by number."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot import InvalidInput, MissingDependency, RunFolderError
from reroot.pages.tracking import Target, log_run, logged, parse_target, writers
from training_runs import write_run

SMALL: dict[str, Any] = {
    "model": "hidden_path:K=3,H=3,p=0.6",
    "learners": ["best_of_n:n=2", "beam_search:width=2"],
    "budget_tokens": 200,
    "seeds": 1,
    "problems": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reroot.compare(**SMALL, out=tmp_path_factory.mktemp("runs") / "x").folder


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Equal up to the four bytes of a number that TensorBoard keeps."""
    return found == {k: struct.unpack("f", struct.pack("f", v))[0] for k, v in expected.items()}


@pytest.mark.slow(1)
def test_the_scalars_are_those_of_the_summary(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    ((step, scalars),) = logged(folder).scalars
    assert step == 0
    for cell in summary["cells"]:
        place = f"hidden_path/h3/{cell['learner']}"
        assert scalars[f"pass_rate/{place}"] == cell["pass_rate"]
        assert scalars[f"pass_rate_low/{place}"] == cell["pass_interval"][0]
        assert scalars[f"tokens/{place}"] == cell["cost"]["tokens"]


@pytest.mark.slow(3)
@pytest.mark.parametrize("kind", ["compare", "train"])
def test_tensorboard_holds_every_scalar(kind: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = folder if kind == "compare" else write_run(tmp_path / "t", "adaback", steps=6, every=3)
    target = Target("tensorboard", str(tmp_path / "logs"))
    place = log_run(run, target)
    read = EventAccumulator(place, size_guidance={"scalars": 0, "tensors": 0})
    read.Reload()
    found: dict[int, dict[str, float]] = {}
    for tag in read.Tags()["scalars"]:
        for event in read.Scalars(tag):
            found.setdefault(event.step, {})[tag] = event.value
    expected = logged(run)
    assert sorted(found) == [step for step, _ in expected.scalars]
    assert all(close(found[step], numbers) for step, numbers in expected.scalars)
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0] for tag in read.Tags()["tensors"]}
    assert {tag.split("/")[1] for tag in texts} == set(expected.tables)
    for name, table in expected.tables.items():
        assert texts[f"tables/{name}"].decode() == table.markdown()
    with pytest.raises(InvalidInput, match="has a run already"):
        log_run(run, target)


def records(file: Path) -> Iterator[bytes]:
    """The records of an offline file of wandb: blocks of 32 KiB, chunks of (checksum, length, kind)."""
    data, at, parts = file.read_bytes(), 7, list[bytes]()
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last chunk
            yield b"".join(parts)
            parts = []


@pytest.mark.slow(12)
def test_wandb_offline_holds_every_scalar_and_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    place = Path(log_run(folder, Target("wandb", "project")))
    assert place.is_relative_to(tmp_path)
    (file,) = place.glob("*.wandb")
    found: dict[str, Any] = {}
    for data in records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            found["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    expected = logged(folder)
    assert {k: v for k, v in found.items() if k in expected.scalars[0][1]} == expected.scalars[0][1]
    for name, table in expected.tables.items():
        (kept,) = (place / "files" / "media" / "table" / "tables").glob(f"{name}_*.table.json")
        shown = json.loads(kept.read_text())
        rows = [dict(zip(shown["columns"], row, strict=True)) for row in shown["data"]]
        records_of = table.records()
        assert len(rows) == len(records_of)
        for row, record in zip(rows, records_of, strict=True):
            assert {k: row[k] for k in record} == pytest.approx(record)


def test_trackio_offline_holds_every_scalar(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip(
        "trackio", reason="it needs another huggingface-hub than the one pinned here"
    )
    from trackio.sqlite_storage import SQLiteStorage

    log_run(folder, Target("trackio", "project"))
    lines = SQLiteStorage.get_logs("project", folder.name)
    numbers = logged(folder).scalars[0][1]
    found = {k: v for line in lines for k, v in line.items() if k in numbers}
    assert found == numbers


def test_what_is_missing_or_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="expected one of tensorboard, wandb, trackio"):
        parse_target("tensorbord:x")
    with pytest.raises(InvalidInput, match="expected wandb:PROJECT"):
        parse_target("wandb:")
    (tmp_path / "config.json").write_text('{"kind": "run"}')
    with pytest.raises(RunFolderError, match="comparisons and training runs are logged"):
        log_run(tmp_path, Target("wandb", "p"))

    def gone(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(writers.importlib, "import_module", gone)
    for program, extra in (("wandb", "track"), ("tensorboard", "train"), ("trackio", "trackio")):
        with pytest.raises(MissingDependency, match=extra):
            writers.WRITERS[program](logged_nothing(), "place")


def logged_nothing() -> Any:
    return writers.Logged("x", {}, [])


@pytest.mark.slow(2)
def test_the_command_writes_every_table_and_says_where(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = ["--csv", str(tmp_path / "csv"), "--latex", str(tmp_path / "tex")]
    other = reroot.compare(**(SMALL | {"budget_tokens": 400}), out=tmp_path / "y").folder
    page = tmp_path / "page.html"
    assert call("report", str(folder), str(other), "--out", str(page), *forms) == 0
    names = {"runs", "settings", "pass_rates", "differences", "costs", "cells"}
    assert {p.stem for p in (tmp_path / "csv").iterdir()} == names
    assert {p.stem for p in (tmp_path / "tex").iterdir()} == names
    shown = " ".join(capsys.readouterr().out.split())
    assert "Difference of pass rates in points" in shown
    assert "Settings that differ" in page.read_text()
    before = page.read_bytes()
    assert call("report", str(folder), str(other), "--out", str(page), "--json") == 0
    assert page.read_bytes() == before
    assert json.loads(capsys.readouterr().out)["kind"] == "across"
    assert call("report", str(folder), "--csv", str(tmp_path / "one"), "--markdown") == 0
    said = capsys.readouterr()
    assert said.out.startswith("**Every cell**")
    assert {"cells", "verdicts", "reach"} <= {p.stem for p in (tmp_path / "one").iterdir()}
