"""Going on from a checkpoint: from the folder that is given, wherever it lies and whatever came before."""

# ruff: noqa: E402
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import trl_pairs
import trl_toys
from reroot import RunFolderError
from reroot.training import rollouts_for_trl, strategies
from reroot.training.trl.checkpoints import STATE

pytestmark = pytest.mark.slow(2)

# all six steps in one epoch: TRL's own order of a later one is not kept when it goes on
ROWS = [{"prompt": p, "demonstration": "cccc"} for p in trl_toys.PROMPTS for _ in range(3)]


def share(completions: list[str], **_: Any) -> list[float]:
    return [text.count("c") / trl_toys.LENGTH for text in completions]


def trainer(out: Path, strategy: Any = None, **changes: Any) -> Any:
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6} | changes
    rollouts = rollouts_for_trl(strategy or strategies.AdaBack())
    return trl_pairs.stock(out, ROWS, [share], rollouts, **settings)


def ended(one: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return trl_toys.weights(one), one.rollout_func.collector.state()


def assert_same(one: Any, other: Any) -> None:
    (mine, state), (known, known_state) = ended(one), ended(other)
    assert state == known_state
    assert all(torch.equal(mine[name], known[name]) for name in known)


@pytest.mark.parametrize("kind", ["moved", "elsewhere", "newest", "evaluated first"])
def test_it_goes_on_from_the_folder_that_is_given(kind: str, tmp_path: Path) -> None:
    """Moved away; with another output folder; the newest; after an evaluation by the untrained model."""
    first = trainer(tmp_path / "a")
    first.train()
    given: Any = tmp_path / "a" / "checkpoint-4"
    out = tmp_path / ("a" if kind in ("moved", "newest") else "b")
    if kind == "moved":
        given = shutil.move(given, tmp_path / "some where")
    if kind == "newest":
        shutil.rmtree(tmp_path / "a" / "checkpoint-6")
        given = True
    more = {"eval_strategy": "no", "evaluation": ROWS[:2], "per_device_eval_batch_size": 4}
    again = trainer(out, **(more if kind == "evaluated first" else {}))
    if kind == "evaluated first":
        again.evaluate()
    again.train(resume_from_checkpoint=given if given is True else str(given))
    assert_same(again, first)


def test_one_trainer_goes_back_to_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    first = trainer(tmp_path / "a")
    first.train()
    known, state = ended(first)
    first.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert first.state.global_step == 6
    again, state_again = ended(first)
    assert state_again == state
    assert all(torch.equal(again[name], known[name]) for name in known)


def test_with_root_it_is_trls(tmp_path: Path) -> None:
    """The rest of a run, with the bridge and without it."""
    whole = trl_pairs.watched(trainer(tmp_path / "a", strategies.Root()))
    whole.trainer.train()
    ours = trl_pairs.watched(trainer(tmp_path / "b", strategies.Root()))
    ours.trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert ours.completions == whole.completions[4:]
    plain = {"save_strategy": "no", "max_steps": 6}
    theirs = trl_pairs.watched(
        trl_pairs.stock(tmp_path / "c", ROWS, [share], **plain), ours.completions
    )
    theirs.trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    trl_pairs.assert_equal(ours, theirs)


def test_a_checkpoint_without_ours_is_named(tmp_path: Path) -> None:
    first = trainer(tmp_path / "a")
    first.train()
    moved = Path(shutil.move(tmp_path / "a" / "checkpoint-4", tmp_path / "moved"))
    (moved / STATE).unlink()
    with pytest.raises(RunFolderError, match=r"moved/reroot\.json cannot be read"):
        trainer(tmp_path / "a").train(resume_from_checkpoint=str(moved))
