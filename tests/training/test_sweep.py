"""Sweeps of training runs: every arm, horizon and seed once; resumed; bad files refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

from commands import call
from html_checks import Reader
from reroot.errors import InvalidInput
from reroot.pages.sweep.page import sweep_table, write_sweep_page
from reroot.training.trl import sweep as module
from reroot.training.trl.sweep import load_sweep, read_sweep, run_sweep

SHARED = "model: smollm2\ntask: copy\nsteps: 4\ntarget: 0.9\n"
ARMS = "arms:\n  root: {strategy: root}\n  taught: {strategy: adaback, beta: 0.01}\n"
WHOLE = f"{SHARED}{ARMS}seeds: 3\nhorizons: [2, 4]\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text)
    return file


def test_every_arm_horizon_and_seed_once(tmp_path: Path) -> None:
    runs = read_sweep(written(tmp_path, WHOLE))
    assert [r.name for r in runs] == [
        f"{arm}-H{h}-s{s}" for arm in ("root", "taught") for h in (2, 4) for s in range(3)
    ]
    shared = {"model": "smollm2", "task": "copy", "steps": 4, "target": 0.9}
    own = {"strategy": "adaback", "beta": 0.01, "horizon": 4, "seed": 2}
    assert runs[-1].settings == {**shared, **own}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: [", "sweep.yaml is no YAML"),
        (f"{SHARED}seeds: 3\nhorizons: [2]\n", "arms must map names to settings, got None"),
        (f"{SHARED}{ARMS}horizons: [2]\n", r"seeds must be as in \[0, 1, 2\] or 3, got None"),
        (
            f"{SHARED}{ARMS}seeds: 0\nhorizons: [2]\n",
            "seeds must be an integer in 1…100,000, got 0",
        ),
        (f"{SHARED}{ARMS}seeds: 1\nhorizons: 2\n", r"horizons must be as in \[4, 8\], got 2"),
        (f"{SHARED}{ARMS}seeds: 1\nhorizons: [0]\n", "horizons must be an integer >= 1, got 0"),
        (f"{SHARED}{ARMS}seeds: [1, 1]\nhorizons: [2]\n", r"seeds repeat: \[1, 1\]"),
        (f"{SHARED}{ARMS}seeds: 90000\nhorizons: [2]\n", "asks for 180,000 runs; at most"),
        (WHOLE.replace("root:", "no:"), "got False .YAML reads it so"),
        (WHOLE.replace("taught:", "root:"), "'root' is given 2 times"),
        (f"{WHOLE}seed: 1\n", "seed is 1: a sweep has seeds"),
        (WHOLE.replace("beta", "betta"), "arm taught, horizon 2: unknown setting 'betta'"),
        (WHOLE.replace("0.01", "much"), "arm taught, horizon 2: .*'much'"),
        (WHOLE.replace("root:", "../root:"), "an arm's name is of letters"),
        (WHOLE.replace("beta: 0.01", "seed: 4"), "arm taught: seed is of the whole sweep"),
        (WHOLE.replace("{strategy: root}", "3"), "arm root must map names to values, got 3"),
    ],
)
def test_bad_files_are_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_sweep(written(tmp_path, text))


def test_a_sweep_goes_on_where_it_was_and_tells_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def train_run(config: Any, folder: Path) -> dict[str, Any]:
        made.append(folder.name)
        if len(made) == 3:
            raise KeyboardInterrupt
        if folder.name == "taught-H2-s0" and made.count(folder.name) == 1:
            raise InvalidInput("the loss <b> is no number")
        reason = "target" if config.arm == "adaback" else "steps"
        evaluation = {"root": {"1": 0.25 * config.seed}}
        spent = {"tokens": 100 * config.horizon}
        return {"reason": reason, "steps": 4, "spent": spent, "evaluation": evaluation}

    monkeypatch.setattr(module, "train_run", train_run)
    runs, out = read_sweep(written(tmp_path, WHOLE)), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(runs, out)
    counts: list[tuple[int, int]] = []
    swept = run_sweep(runs, out, on_start=lambda total, done: counts.append((total, done)))
    assert counts == [(12, 2)]
    assert made == [r.name for r in runs[:3]] + [r.name for r in runs[2:]]
    assert swept.summary["failed"] == {"taught-H2-s0": "InvalidInput: the loss <b> is no number"}
    rows = {(row["arm"], row["horizon"]): row for row in swept.summary["rows"]}
    assert rows["root", 2] == {
        "arm": "root",
        "horizon": 2,
        "planned": 3,
        "made": 3,
        "failed": 0,
        "target": 0,
        "steps": 4,
        "tokens": 200,
        "pass_at_1": 0.25,
    }
    assert (rows["taught", 2]["made"], rows["taught", 2]["target"]) == (2, 2)
    page = write_sweep_page(swept.folder, swept.summary).read_text()
    assert "11 of 12 training runs" in page
    assert "&lt;b&gt;" in page
    Reader().feed(page)
    assert "pass@1 root, median" in sweep_table(swept.summary).markdown()
    again = run_sweep(runs, out)
    assert made[-1] == "taught-H2-s0"
    assert not again.summary["failed"]
    assert load_sweep(out) == again
    assert json.loads((out / "summary.json").read_text()) == again.summary


@pytest.mark.slow(15)
def test_training_runs_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two arms of a tiny model; one reaches its target, which ends it."""
    pytest.importorskip("trl")
    import trl_toys

    model = trl_toys.save_parity_model(tmp_path / "model")
    text = (
        f"model: {model}\ntask: running_parity\nsteps: 4\ngroups: 2\nsize: 2\nproblems: 4\n"
        "eval_problems: 2\neval_size: 2\neval_every: 2\nsave_every: 2\nseeds: [3]\nhorizons: [2]\n"
        "arms: {root: {strategy: root}, easy: {strategy: root, target: 0.01, eval_size: 64}}\n"
    )
    file = written(tmp_path, text)
    assert call("sweep", str(file), "--out", str(tmp_path / "out")) == 0
    assert "Training runs by arm and horizon" in capsys.readouterr().out
    assert call("report", str(tmp_path / "out")) == 0
    assert "report:" in capsys.readouterr().out
    rows = {row["arm"]: row for row in load_sweep(tmp_path / "out").summary["rows"]}
    assert (rows["root"]["made"], rows["root"]["steps"], rows["root"]["target"]) == (1, 4, 0)
    assert (rows["easy"]["target"], rows["easy"]["steps"] < 4) == (1, True)
    assert (tmp_path / "out" / "runs" / "root-H2-s3" / "model").is_dir()
