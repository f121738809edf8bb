"""Where runs go that name no folder: never where another run is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from commands import call
from reroot.cli import main
from reroot.cli.app import in_free_folder
from reroot.errors import OtherRun
from reroot.runs.folder import JournalFolder


def opened(folder: Path, config: dict[str, object]) -> Path:
    with JournalFolder(folder, config, lambda line: line["name"]):
        return folder


def test_other_runs_get_a_number_and_the_same_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [
        in_free_folder(None, "x", lambda folder, k=k: opened(folder, {"seed": k})).name
        for k in (1, 2, 1, 3, 2)
    ]
    assert found == ["x", "x-2", "x", "x-3", "x-2"]
    told = capsys.readouterr().out
    assert "runs/x holds a run with another configuration: seed is 1 there and 2 now" in told


def test_a_folder_that_is_named_is_the_one(tmp_path: Path) -> None:
    opened(tmp_path / "mine", {"seed": 1})
    with pytest.raises(OtherRun, match="another configuration"):
        in_free_folder(tmp_path / "mine", "x", lambda folder: opened(folder, {"seed": 2}))
    assert not (tmp_path / "mine-2").exists()


@pytest.mark.slow(5)
def test_training_with_other_settings_gets_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl")
    from reroot.training.trl import train

    def trained(config: Any, folder: Path, callbacks: object) -> dict[str, Any]:
        opened(folder, config.identity())
        return {"reason": "steps", "steps": 0, "spent": {"tokens": 0}}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train_run", trained)
    options = ["--model", "smollm2", "--task", "copy", "--horizon", "2", "--strategy", "root"]
    for steps in ("2", "3", "2"):
        call("train", *options, "--steps", steps)
    said = capsys.readouterr().out
    folders = re.findall(r"model: (\S+)/model", said)
    name = "runs/train-smollm2-copy-root"
    assert folders == [name, f"{name}-2", name]


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--model", "hidden_path:K=3,H=3,p=0.6"],
        ["diagnose", "--model", "hidden_path:K=3,H=3,p=0.6"],
        ["diagnose", "--selftest"],
        ["probe", "http://127.0.0.1:9"],
        ["certify", "best_of_n"],
        ["reproduce", "collapse", "--quick"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_folder_that_cannot_be_is_refused_before_the_work(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", "/dev/null/x"])
    assert ended.value.code == 2
    assert "/dev/null/x" in capsys.readouterr().err
