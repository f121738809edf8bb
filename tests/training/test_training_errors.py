"""What a strategy raises reaches the user as what it was, whoever trains; and nobody else is blamed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import reroot
import trl_toys
from reroot import InvalidInput, RerootError
from reroot.access.episode import bind
from reroot.cli import main
from reroot.generators.transformers import Transformers
from reroot.training import rollouts_for_trl, strategies
from reroot.training.group import Group
from reroot.training.trl.collector import Collector

SOURCE = """
from reroot.training import strategies

class BadStart(strategies.Root):
    name = "bad_start"
    async def start(self, session):
        return {}["no"]  # here

class BadCredit(strategies.Root):
    name = "bad_credit"
    async def credit(self, session, reply, rewards):
        return rewards.missing  # here

class BadLearn(strategies.Root):
    name = "bad_learn"
    def learn(self, prompt, start, rewards):
        open("/nowhere/notes.txt")  # here
"""
KINDS = {"BadStart": KeyError, "BadCredit": AttributeError, "BadLearn": FileNotFoundError}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def expect(kind: type[Exception], file: Path, act: Callable[[], object]) -> None:
    """``act`` raises ``kind`` itself, and the traceback ends at the marked line of ``file``."""
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    last = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == str(file)]
    assert last[-1].line is not None
    assert last[-1].line.endswith("# here")


def stock(out: Path, strategy: strategies.Strategy) -> Any:
    """TRL's own trainer."""
    from trl import GRPOTrainer

    model, tokenizer = trl_toys.fresh()
    rollouts = rollouts_for_trl(strategy, problems=trl_toys.problems())
    return GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(out, max_steps=1),
        train_dataset=rollouts.dataset(),
        reward_funcs=[rollouts.reward],
        rollout_func=rollouts,
    )


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", list(KINDS))
def test_from_trls_trainer(name: str, file: Path, tmp_path: Path) -> None:
    trainer = stock(tmp_path / "t", strategies.get_strategy(f"{file}:{name}"))
    expect(KINDS[name], file, trainer.train)


def settings(name: str, file: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "strategy": f"{file}:{name}",
        "out": tmp_path / "r",
        "horizon": 4,
        "steps": 1,
        "groups": 2,
        "size": 2,
        "problems": 2,
        "eval_problems": 1,
    }


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", list(KINDS))
def test_from_the_function(name: str, file: Path, tmp_path: Path) -> None:
    model = trl_toys.save_parity_model(tmp_path / "m")
    given = settings(name, file, tmp_path)
    expect(KINDS[name], file, lambda: reroot.train(model, "running_parity", **given))


@pytest.mark.slow(1)
def test_from_the_command_line(file: Path, tmp_path: Path) -> None:
    model = trl_toys.save_parity_model(tmp_path / "m")
    words = ["train", "--model", str(model), "--task", "running_parity"]
    for name, value in settings("BadStart", file, tmp_path).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    expect(KeyError, file, lambda: main(words))


class Guided(strategies.Root):
    """A strategy that is asked for its starts in evaluations, too."""

    name = "guided"
    from_root = False

    async def start(self, session: Any) -> strategies.Start:
        raise ZeroDivisionError("mine")


def test_from_an_evaluation(tmp_path: Path) -> None:
    problems = trl_toys.problems()
    with pytest.raises(ZeroDivisionError, match="mine"):
        reroot.train(
            trl_toys.fresh(),
            problems=problems[:2],
            eval_problems=problems[2:],
            strategy=Guided(),
            out=tmp_path / "r",
        )


def collected(strategy: strategies.Strategy, gather: Callable[[list[Any]], list[Any]]) -> Any:
    generator = Transformers(trl_toys.fresh())
    episodes = [bind(p, generator) for p in trl_toys.problems()[:2]]
    collector = Collector(generator, strategy, strategy.requires)
    return collector.collect(episodes, 2, total=4, gather=gather)


def test_other_processes_hear_of_it_and_do_not_wait() -> None:
    """An exception of the user's own need not travel: it may hold anything."""
    sent: list[Any] = []

    def also(mine: list[Any]) -> list[Any]:
        sent.extend(mine)
        return mine

    with pytest.raises(ZeroDivisionError):
        collected(Guided(), also)
    told, other = sent  # for each of its groups
    assert other is told
    assert type(told) is RerootError
    assert str(told) == "in another process: ZeroDivisionError: mine"

    def from_there(mine: Sequence[Group]) -> list[Any]:
        return [*mine, told]

    with pytest.raises(RerootError, match="in another process"):
        collected(strategies.Root(), from_there)


def test_strategies_of_one_session_are_refused() -> None:
    with pytest.raises(InvalidInput, match="tabular_training"):
        collected(strategies.PluralityFront(), list)
