"""Settings of training: said once, checked before torch is loaded, as objects and as text."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reroot import AccessDenied, Contract, InvalidInput
from reroot.cli.train import train as command
from reroot.tasks.base import Problem
from reroot.tasks.registry import get_task
from reroot.training import TrainConfig, strategies
from reroot.training.trl.config import make_config, read_config


def config(**changes: Any) -> TrainConfig:
    known: dict[str, Any] = {
        "model": "smollm2",
        "task": "running_parity",
        "horizon": 4,
        "groups": 4,
    }
    return TrainConfig(**(known | changes))


def mine(count: int = 3, **changes: Any) -> list[Problem]:
    return [
        Problem(f"p{i}", f"ask {i}", 5, reward=lambda output: 1.0, **changes) for i in range(count)
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 1}, "size must be an integer >= 2"),
        ({"lora": -3}, "lora must be an integer >= 0, got -3"),
        ({"steps": True}, "steps must be an integer"),
        ({"strategy": "rot"}, "Did you mean 'root'"),
        ({"strategy": 3}, "strategy is named by text, got 3"),
        ({"beta": -1.0}, "beta"),
        ({"beta": "0.1"}, "beta"),
        ({"kl": "k2"}, "unknown KL estimator 'k2'"),
        ({"target": 1.5}, "target"),
        ({"target": 0.5, "eval_problems": 0}, "there is none"),
        ({"roots": 9}, "roots must be an integer in 0…4"),
        ({"chat": "yes"}, "chat must be true or false, got 'yes'"),
        ({"chat": True, "generation": "trl"}, "chat must be off"),
        ({"model": 7}, "model must be a name"),
        ({"model": ()}, "model must be a name"),
        ({"task": 7}, "task must be a name or a Task, got 7"),
        (
            {"problems": "many"},
            "problems must be a list of Problem .or a number of them., got 'many'",
        ),
        ({"problems": 2.5}, "problems must be an integer"),
        ({"problems": mine()}, "not both"),
        ({"task": None, "problems": mine()}, "not both"),
        ({"task": None, "horizon": None, "problems": [*mine(), 3]}, "item 3 is 3"),
        (
            {"task": None, "horizon": None, "problems": [*mine(), *mine()]},
            "two problems have the id|problems: .*p0",
        ),
        ({"task": None, "horizon": None, "problems": mine(), "eval_problems": 4}, "of a task"),
        ({"trl": {1: 2}}, "trl must map names"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        config(**changes)


@pytest.mark.parametrize(
    ("grants", "error", "said"),
    [
        ("chosen/sampl", InvalidInput, "Did you mean 'sample'"),
        (3, InvalidInput, "grants must be a Contract or its text, got 3"),
        ("root/sample", AccessDenied, "strategy adaback.* requires chosen/sample"),
        ("chosen/sample@T=1,top_p=0.5", InvalidInput, "not on-policy"),
    ],
)
def test_bad_contracts_are_refused(grants: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        config(strategy="adaback", grants=grants).identity()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"steps: [", "is no YAML"),
        (b"- 1", "must map names to values"),
        (b"", "must map names to values"),
        (b"stepz: 3", "Did you mean 'steps'"),
        (b"_strategy: root", "unknown setting '_strategy'"),
        (b"3: 3", "unknown setting 3"),
        (b"steps: 3", "needs model and task"),
        (b"model: m\nhorizon: 3", "needs task"),
        (b"model: \xff\xfe", "is not UTF-8"),
        (b"[" * 1000, "nested too deep"),
        (b"{a: " * 1000, "nested too deep"),
        (b"steps: 2001-99-99", "is no YAML"),
        (b"steps: " + b"9" * 5000, "is no YAML"),
        (b"model: m\x07", "is no YAML"),
        (b"steps: 3\nsteps: 4", "'steps' is given 2 times"),
        (b"trl: {a: [{b: 1, b: 2}]}", "'b' is given 2 times"),
        (b"a: &a [x, x]\ntrl: {b: &b [*a, *a], c: [*b, *b]}", "aliases"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_bytes(text)
    with pytest.raises(InvalidInput, match=said) as refused:
        read_config(file, {})
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none.yaml", "."):
        with pytest.raises(InvalidInput, match="can't read"):
            read_config(tmp_path / name, {})
    with pytest.raises(InvalidInput, match="null byte"):
        read_config(Path("a\0b"), {})


LIGHT = """
import sys
from reroot.cli import main
bad = [["--lora", "-3"], ["--strategy", "rot"], ["--beta", "-1"], ["--grants", "root/sampl"],
       ["--strategy", "adaback", "--grants", "root/sample"], ["--model", "./none"],
       ["--horizon", "0"], ["--config", "none.yaml"]]
for words in bad:
    try:
        main(["train", "--model", "smollm2", "--task", "running_parity", "--horizon", "4", *words])
    except SystemExit as error:
        assert error.code == 2, (words, error.code)
    else:
        raise AssertionError(words)
heavy = {"torch", "transformers", "trl", "datasets", "peft", "polars", "scipy", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


@pytest.mark.slow(1)
def test_bad_settings_are_refused_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == 8
    assert not list(tmp_path.iterdir())  # no folder was made


def test_every_setting_is_an_option_with_its_meaning() -> None:
    options = inspect.signature(command).parameters
    for f in dataclasses.fields(TrainConfig):
        if f.init and f.name != "trl":
            assert f.metadata["help"] in options[f.name].annotation.__metadata__[0].help or (
                f.metadata["help"][:-1] in options[f.name].annotation.__metadata__[0].help
            )
    assert "(default 200)" in options["steps"].annotation.__metadata__[0].help


# ---- objects -------------------------------------------------------------------------------------


def test_objects_and_their_names_are_the_same_run() -> None:
    named = config(strategy="adaback:tau=0.25", grants="chosen/logprob")
    objects = config(
        task=get_task("running_parity"),
        strategy=strategies.AdaBack(tau=0.25),
        grants=Contract.parse("chosen/logprob"),
    )
    one, other = named.identity(), objects.identity()
    assert one.pop("command").startswith("reroot train --model smollm2 --task running_parity")
    assert other.pop("command") == "reroot.train(…) in Python"
    assert one == other


def test_a_run_is_told_apart_by_its_problems() -> None:
    def known(problems: list[Problem], **more: Any) -> dict[str, Any]:
        own = {"task": None, "horizon": None, "problems": problems}
        return config(**own, **more).identity()

    first = known(mine())
    assert first == known(mine())
    assert first["horizon"] == 5
    assert first["eval_problems"] == 0
    assert first["digest"] != known(mine(2))["digest"]
    assert first["digest"] != known(mine(pass_at=0.5))["digest"]
    held = known(mine(), eval_problems=mine(2))
    assert held["eval_problems"] == 2
    assert held["digest"] != known(mine(), eval_problems=mine(1))["digest"]


def test_a_strategy_object_is_left_as_it_was() -> None:
    given = strategies.R3(stages=2)
    settings = config(strategy=given)
    settings.make_strategy().learn((), strategies.Start(reroot_prefix()), [1.0])
    assert given.state() == settings.make_strategy().state() == {"seen": 0}


def reroot_prefix() -> Any:
    from reroot import Prefix

    return Prefix()


def test_names_are_checked_and_whole_numbers_are_numbers() -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'strategy'"):
        make_config({"model": "m", "task": "copy", "horizon": 2, "stratgy": "root"})
    found = make_config({"model": "m", "task": "copy", "horizon": 2, "beta": 1})
    assert found.beta == 1.0
    assert isinstance(found.beta, float)


def test_folders_are_named_plainly() -> None:
    assert config().folder == Path("runs/train-smollm2-running_parity-root")
    odd = config(model="/a/b c", task="dir/t.py:make", strategy="r3").folder
    assert odd == Path("runs/train-b-c-dir-t.py-make-r3")


# ---- small tasks ---------------------------------------------------------------------------------


def lines(tmp_path: Path, answers: str, prompts: str = "") -> str:
    """A task file: a line for each answer, with prompts that differ unless told otherwise."""
    file = tmp_path / "small.jsonl"
    rows = [
        json.dumps({"prompt": f"ask {prompts[i : i + 1] or i}", "answer": answer})
        for i, answer in enumerate(answers)
    ]
    file.write_text("\n".join(rows))
    return str(file)


def test_a_small_file_is_split_where_it_can_be_and_said_to_be_small(tmp_path: Path) -> None:
    task = lines(tmp_path, "ab" * 10)
    few = config(task=task, horizon=None, problems=12, eval_problems=8)
    trained, held = few.training_problems(), few.held_out_problems()
    assert (len(trained), len(held)) == (12, 8)
    assert not {p.id for p in trained} & {p.id for p in held}
    assert few.remarks() == []
    most = config(task=task, horizon=None, problems=16, eval_problems=8)
    assert len(most.held_out_problems()) == 4
    assert most.remarks() == ["evaluates on 4 problems, not 8: the task has no others"]
    whole = config(task=task, horizon=None)
    assert len(whole.held_out_problems()) == 16
    first, second = whole.remarks()
    assert first == "trains on 20 problems, not 64: the task has no others"
    assert second.startswith("evaluates on problems that are trained on: the task has no others")
    assert len(config(task=task, horizon=None, eval_problems=0).remarks()) == 1


def test_lines_with_one_prompt_are_trained_on_and_repetitions_are_said(tmp_path: Path) -> None:
    task = lines(tmp_path, "aabb", prompts="0010")
    small = config(task=task, horizon=None, problems=4, eval_problems=0)
    assert [(p.prompt, p.answer) for p in small.training_problems()] == [
        ("ask 0", "a"),
        ("ask 1", "b"),
        ("ask 0", "b"),
    ]
    assert small.remarks() == ["trains on 3 problems, not 4: 1 of 4 repeat others"]
    assert config(problems=2, eval_problems=2, horizon=16).remarks() == []
