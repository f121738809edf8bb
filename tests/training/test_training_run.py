"""Runs of ``reroot train``: resumable at any moment, with the same result; bad settings refused."""

# ruff: noqa: E402
from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import reroot
import trl_toys
from forks import Forks
from reroot import AccessDenied, InvalidInput
from reroot.cli import main
from reroot.errors import RunFolderError
from reroot.runs.folder import RESULTS
from reroot.runs.record_folders import read_records
from reroot.training import Callbacks, strategies
from reroot.training.trl import run as run_module
from reroot.training.trl.checkpoints import STATE
from reroot.training.trl.config import CHECKPOINTS, MODEL, TrainConfig
from reroot.training.trl.setup import last_checkpoint
from reroot.training.trl.train import train_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trl_toys.save_parity_model(tmp_path_factory.mktemp("model"))


def config(model: Path, /, **changes: Any) -> TrainConfig:
    known: dict[str, Any] = {
        "model": str(model),
        "task": "running_parity",
        "horizon": 4,
        "strategy": "adaback",
        "beta": 0.01,
        "steps": 6,
        "groups": 4,
        "size": 4,
        "learning_rate": 1e-2,
        "problems": 8,
        "eval_problems": 4,
        "eval_size": 4,
        "eval_every": 3,
        "save_every": 2,
    }
    return TrainConfig(**(known | changes))


def lines(folder: Path) -> dict[str, Any]:
    found = {}
    for text in (folder / "journal.jsonl").read_text().splitlines():
        line = json.loads(text)
        found[line["name"]] = {k: v for k, v in line.items() if k not in ("seconds", "checksum")}
    return found


def final(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / MODEL / "model.safetensors")


@dataclass(frozen=True)
class Finished:
    """A run of ``config(model)``, what it told, and its summary."""

    folder: Path
    told: list[str]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    told: list[str] = []
    folder = tmp_path_factory.mktemp("finished") / "r"
    callbacks = Callbacks(*[lambda line: told.append(line["name"])] * 3)
    return Finished(folder, told, train_run(config(model), folder, callbacks))


@pytest.mark.slow
def test_a_run_tells_all_and_is_not_done_twice(model: Path, finished: Finished) -> None:
    folder, told, summary = finished.folder, finished.told, finished.summary
    assert [n for n in told if n.startswith("step/")] == [f"step/{i}" for i in range(1, 7)]
    assert [n for n in told if n.startswith("eval/")] == ["eval/0", "eval/3", "eval/6"]
    known = lines(folder)
    assert set(told) | {"end"} == set(known)
    assert summary["reason"] == "steps"
    assert summary["spent"] == known["step/6"]["spent"]
    assert (folder / RESULTS).is_file()
    assert list((folder / "tensorboard").rglob("events*"))
    kept = read_records(folder).records
    assert [r.step for r in kept] == [step for step in range(1, 7) for _ in range(8)]
    assert {r.outcome for r in kept} == {"passed", "failed"}
    assert all(r.output and r.prompt and r.answer for r in kept)
    assert any(r.given for r in kept)
    for step in range(1, 7):
        line = known[f"step/{step}"]
        assert line["root"] is not None  # a group of each step starts there, as β > 0
        assert line["kl"] is not None
        assert 0 <= line["zero_variance"] <= line["groups"] == 4
    evaluation = known["eval/6"]
    assert evaluation["gap"] == pytest.approx(evaluation["prefix"]["1"] - evaluation["root"]["1"])
    again: list[str] = []
    assert train_run(config(model), folder, Callbacks(lambda line: again.append("x"))) == summary
    assert not again
    with pytest.raises(RunFolderError, match="another configuration"):
        train_run(config(model, beta=0.02), folder)


IMPORTS = "import test_training_run as t; from pathlib import Path; import torch; torch.set_num_threads(1)"


@pytest.mark.slow(30)
def test_killed_at_any_moment_it_ends_with_the_same_weights_and_account(
    model: Path, finished: Finished, tmp_path: Path
) -> None:
    """Twice in a step, soon after the journal grew; twice at any moment since the start."""
    whole, broken = finished.folder, tmp_path / "broken"
    program = f"t.train_run(t.config(Path({str(model)!r})), Path({str(broken)!r}))"
    program = f"{IMPORTS}\n{program}"
    rng, kills, journal = random.Random(0), 0, broken / "journal.jsonl"
    with Forks(IMPORTS, (Path(__file__).parent, Path(__file__).parents[1])) as forks:
        while not (broken / "summary.json").exists():
            written = len(journal.read_bytes()) if journal.exists() else 0
            forks.start(program)
            if kills in (2, 3):  # anywhere after the start
                time.sleep(rng.uniform(0.0, 1.5))
            while (ended := forks.poll()) is None:
                stepped = journal.exists() and len(journal.read_bytes()) > written
                if kills in (2, 3) or (kills < 2 and stepped):
                    time.sleep(rng.uniform(0.0, 0.1))  # anywhere in a step
                    forks.kill()
                    ended = forks.wait()
                    kills += 1
                    break
                time.sleep(0.005)
            assert ended in (0, -signal.SIGKILL)
    assert kills >= 2
    assert lines(broken) == lines(whole)
    assert [r.to_json() | {"run": ""} for r in read_records(broken).records] == [
        r.to_json() | {"run": ""} for r in read_records(whole).records
    ]
    mine, known = final(broken), final(whole)
    assert all(torch.equal(mine[k], known[k]) for k in known)


@pytest.mark.slow
def test_half_a_checkpoint_is_none(model: Path, finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(finished.folder, folder)
    (folder / "summary.json").unlink()
    newest = last_checkpoint(folder / CHECKPOINTS)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    (newest / STATE).unlink()
    (newest / "model.safetensors").write_bytes(b"half")
    before = final(folder)
    summary = train_run(config(model), folder)
    assert summary["steps"] == 6
    assert all(torch.equal(final(folder)[k], v) for k, v in before.items())


@pytest.mark.slow
def test_budget_and_target_end_a_run(model: Path, tmp_path: Path) -> None:
    summary = train_run(config(model, budget_tokens=120, steps=50), tmp_path / "b")
    assert summary["reason"] == "budget"
    assert 0 < summary["spent"]["tokens"] <= 120
    assert 0 < summary["steps"] < 50
    # an untrained policy that meets the target is not trained
    easy = config(model, target=1e-9, horizon=1, eval_size=64, strategy="root", steps=50)
    summary = train_run(easy, tmp_path / "t")
    assert summary["reason"] == "target"
    assert summary["steps"] == 0


@pytest.mark.slow
def test_a_run_that_has_met_its_target_goes_no_further(model: Path, tmp_path: Path) -> None:
    """Killed between its last checkpoint and its end."""
    folder = tmp_path / "r"
    easy = config(model, target=1e-9, horizon=2, eval_every=1, save_every=1, steps=50)
    summary = train_run(easy, folder)
    assert summary["reason"] == "target"
    assert 0 < summary["steps"] < 50
    before = final(folder)
    forget_the_end(folder)
    assert train_run(easy, folder) == summary
    assert all(torch.equal(final(folder)[k], v) for k, v in before.items())


def forget_the_end(folder: Path) -> None:
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / MODEL)
    journal = folder / "journal.jsonl"
    kept = [t for t in journal.read_text().splitlines(True) if '"name": "end"' not in t]
    journal.write_text("".join(kept))


@pytest.mark.slow
def test_steps_without_signal_are_counted_through_a_kill(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "NO_SIGNAL", 3)
    folder = tmp_path / "r"
    steady = config(
        model, horizon=12, strategy="root", beta=0.0, eval_problems=0, steps=7, save_every=4
    )
    train_run(steady, folder)
    known = lines(folder)
    assert {"event/3", "event/6"} <= set(known)
    forget_the_end(folder)
    newest = last_checkpoint(folder / CHECKPOINTS)
    assert newest is not None
    shutil.rmtree(newest)
    earlier = last_checkpoint(folder / CHECKPOINTS)
    assert earlier is not None
    assert (
        3 < int(earlier.name.removeprefix("checkpoint-")) < 7
    )  # in the midst of the second stretch
    train_run(steady, folder)
    assert lines(folder) == known


@pytest.mark.slow
def test_many_steps_without_signal_are_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "NO_SIGNAL", 2)
    told: list[dict[str, Any]] = []
    steady = config(model, horizon=12, strategy="root", beta=0.0, eval_problems=0, steps=7)
    train_run(steady, tmp_path / "r", Callbacks(event=told.append))
    assert [line["step"] for line in told] == [2, 4]
    assert "no signal for 4 steps" in told[1]["text"]
    assert lines(tmp_path / "r")["step/7"]["zero_variance"] == 4


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_later(
    model: Path, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    saves, plain = [0], Trainer._save_checkpoint

    def full(self: Any, *args: Any, **kwargs: Any) -> None:
        saves[0] += 1
        if saves[0] == 2:
            raise OSError(28, "No space left on device")
        plain(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "_save_checkpoint", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*same command"):
        train_run(config(model), tmp_path / "r")
    summary = train_run(config(model), tmp_path / "r")
    assert summary["steps"] == 6
    mine, known = final(tmp_path / "r"), final(finished.folder)
    assert all(torch.equal(mine[k], v) for k, v in known.items())


@pytest.mark.slow
def test_adapters_are_trained_against_the_model_without_them(model: Path, tmp_path: Path) -> None:
    summary = train_run(config(model, lora=2), tmp_path / "r")
    assert summary["reason"] == "steps"
    assert (tmp_path / "r" / MODEL / "adapter_config.json").is_file()
    assert lines(tmp_path / "r")["step/1"]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert lines(tmp_path / "r")["step/6"]["kl"] != 0.0


@pytest.mark.slow
def test_the_command_line_trains_from_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        f"model: {model}\ntask: running_parity\nhorizon: 4\nsteps: 2\ngroups: 2\nsize: 2\n"
        "eval_problems: 2\nbeta: 0\ntrl: {max_grad_norm: 0.5}\n"
    )
    main(["train", "--config", str(file), "--strategy", "argmax", "--out", str(tmp_path / "r")])
    said = capsys.readouterr().out
    assert "all steps taken: 2 steps" in said
    known = json.loads((tmp_path / "r" / "config.json").read_text())
    assert known["arm"] == "argmax"
    assert known["contract"] == "reset/topk(1)+reward@T=1"
    assert known["trl"] == {"max_grad_norm": 0.5}
    assert (tmp_path / "r" / "report.html").is_file()


@pytest.mark.slow
def test_a_run_that_could_not_start_leaves_its_folder_free(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    for changes, error, said in (
        ({"model": str(tmp_path / "none")}, InvalidInput, "neither"),
        ({"last_layers": 9}, InvalidInput, "has 2 layers"),
        ({"grants": "root/sample"}, AccessDenied, "requires"),
        ({"trl": {"loss_type": 3, "nothing": 1}}, InvalidInput, "TRL refuses"),
    ):
        with pytest.raises(error, match=said):
            train_run(config(model, **changes), folder)
    assert train_run(config(model, steps=1), folder)["steps"] == 1
    with pytest.raises(RunFolderError, match="another configuration"):
        train_run(config(model, steps=2), folder)


@pytest.mark.slow
def test_a_run_takes_objects(tmp_path: Path) -> None:
    """A loaded model, problems and a strategy; the folder knows them again."""
    problems = trl_toys.problems()
    given: dict[str, Any] = {
        "problems": problems[:2],
        "eval_problems": problems[2:],
        "strategy": strategies.R3(stages=2),
        "steps": 2,
        "groups": 2,
        "size": 2,
        "eval_size": 2,
        "out": tmp_path / "r",
    }
    model, tokenizer = trl_toys.fresh()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    summary = reroot.train((model, tokenizer), **given, learning_rate=1e-2)
    assert summary["steps"] == 2
    assert summary["evaluation"]["problems"] == 2
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert reroot.train(trl_toys.fresh(), **given, learning_rate=1e-2) == summary
    for changes in ({"strategy": strategies.R3(stages=3)}, {"problems": problems[:1]}):
        with pytest.raises(RunFolderError, match="another configuration"):
            reroot.train(trl_toys.fresh(), **(given | changes), learning_rate=1e-2)
    with pytest.raises(RunFolderError, match="another configuration"):
        reroot.train((model, tokenizer), **given, learning_rate=1e-2)  # other weights now
    assert main(["report", str(tmp_path / "r")]) is None


@pytest.mark.slow
def test_prompts_go_through_the_chat_template(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no chat template"):
        train_run(config(model, chat=True), tmp_path / "r")


@pytest.mark.slow(3)
def test_a_small_task_is_said_to_be_small(model: Path, tmp_path: Path) -> None:
    """Lines with one prompt are trained on by themselves; that they are evaluated on is an event, once."""
    file = tmp_path / "small.jsonl"
    rows = [("0=", "0"), ("0=", "1"), ("1=", "1"), ("1=", "1")]
    file.write_text("\n".join(json.dumps({"prompt": p, "answer": a}) for p, a in rows))
    small = config(model, task=str(file), horizon=None, steps=1, beta=0.0, roots=0, problems=16)
    train_run(small, tmp_path / "r")
    known = lines(tmp_path / "r")
    assert json.loads((tmp_path / "r" / "config.json").read_text())["horizon"] == 0
    page = Path(reroot.report(tmp_path / "r")).read_text(encoding="utf-8")
    assert "horizon" not in page.partition("<h2")[0] + str(re.findall("<h3.*?</h3>", page))
    events = [line["text"] for name, line in known.items() if name.startswith("event/")]
    assert events == [
        "trains on 3 problems, not 16: 1 of 4 repeat others; evaluates on problems that are trained on: the "
        "task has no others (--problems trains on fewer)"
    ]
