"""Logs of trainers: what TRL itself writes, reroot's own folders, and JSONL; and what they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot.errors import InvalidInput
from reroot.runs.diagnosing.trainer_log import read_trainer_log
from training_runs import write_run


@pytest.fixture(scope="module")
def trl_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of TRL's own GRPO trainer, with its tables of completions and its state."""
    for package in ("torch", "trl", "pandas"):
        pytest.importorskip(package)
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    import trl_toys

    def share(completions: Any, **kwargs: Any) -> list[float | None]:
        return [float("c" in text) for text in completions]

    out = tmp_path_factory.mktemp("trl")
    model, tokenizer = trl_toys.fresh()
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=share,
        args=trl_toys.settings(out, max_steps=3, log_completions=True),
        train_dataset=Dataset.from_dict({"prompt": list(trl_toys.PROMPTS)}),
    )
    trainer.train()
    trainer.save_state()
    return out


@pytest.mark.slow(8)
def test_trl_is_read_as_it_writes(trl_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own share of zero-variance groups is that of its completions."""
    state = json.loads((trl_run / "trainer_state.json").read_text())
    said = [h["frac_reward_zero_std"] for h in state["log_history"] if "frac_reward_zero_std" in h]
    told = read_trainer_log(trl_run / "trainer_state.json")
    assert [s["silent"] for s in told.steps] == said
    tables = read_trainer_log(trl_run / "completions")
    assert len(tables.rows) == 3 * 8
    assert "share" in tables.kind
    both = read_trainer_log(trl_run)
    assert (both.steps, both.rows) == (told.steps, tables.rows)
    mean = sum(row.reward for row in tables.rows) / 24
    assert mean == pytest.approx(sum(s["reward"] for s in told.steps) / 3)


def rows(rewards: dict[str, list[float]], step: int = 0) -> str:
    lines = [
        {"step": step, "prompt": prompt, "completion": f"text {i}", "reward": reward}
        for prompt, given in rewards.items()
        for i, reward in enumerate(given)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_a_log_alone_is_diagnosed_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(rows({"easy": [1.0] * 64, "half": [1.0, 0.0] * 32, "never": [0.0] * 64}))
    out = tmp_path / "why"
    assert call("diagnose", "--trainer-log", str(file), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "no model was asked" in " ".join(said.split())
    kept = json.loads((out / "diagnosis.json").read_text())
    assert {p["id"]: p["cause"] for p in kept["problems"]} == {
        "easy": "solved",
        "half": "learnable",
        "never": "undetermined",
    }
    assert kept["forecast"]["zero_variance"] == pytest.approx(2 / 3, abs=0.02)
    assert kept["trainer_log"]["zero_variance"] == pytest.approx(2 / 3)
    assert call("report", str(out)) == 0


def test_a_judge_that_changes_its_mind_is_named(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    line = {"prompt": "p", "completion": "the same", "reward": 0.0}
    file.write_text("".join(json.dumps({**line, "reward": r}) + "\n" for r in (0.0, 1.0, 0.0)))
    found = reroot.diagnose(trainer_log=file).summary
    assert found["problems"][0]["cause"] == "judge-limited"
    assert any("more than one reward" in note for note in found["notes"])


def test_what_a_state_tells(tmp_path: Path) -> None:
    history = [
        {
            "step": i,
            "reward": 0.1,
            "frac_reward_zero_std": 0.5 if 3 <= i < 8 else 1.0,
            "completions/mean_length": 100.0 + 20 * i,
            "entropy": 2.0 / (1 + i),
            "completions/clipped_ratio": 0.4,
        }
        for i in range(1, 21)
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    found = " | ".join(read_trainer_log(tmp_path).findings())
    for words in (
        "88% of groups had zero variance over 20 steps",
        "since step 7 no group has had variance",
        "the first group with variance came at step 3",
        "completions got longer",
        "entropy fell",
        "40% of completions were cut off",
    ):
        assert words in found, found


def test_own_folders_are_read(tmp_path: Path) -> None:
    log = read_trainer_log(write_run(tmp_path / "run", "adaback"))
    assert log.kind == "reroot train"
    assert len(log.steps) == 60
    assert all(0 <= s["silent"] <= 1 for s in log.steps)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            read_trainer_log(path)

    refused(tmp_path / "none.json", "there is no trainer log")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has neither")
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    refused(tmp_path / "a.jsonl", "a.jsonl:1 needs prompt, completion and a reward")
    (tmp_path / "b.json").write_text('{"log_history": [{"loss": 1.0, "step": 1}]}')
    refused(tmp_path / "b.json", "no rewards of groups")
    (tmp_path / "c.txt").write_text("x")
    refused(tmp_path / "c.txt", "a trainer log is a folder")
    with pytest.raises(InvalidInput, match="name a model, or a trainer_log"):
        reroot.diagnose()
