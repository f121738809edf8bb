"""Tasks, threads and the ways a learner may end: each ends its attempt alone; docs/security.md lists them, and says what is not protected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attacks import FREE
from reroot import Finding, Prefix
from reroot.access import learner_thread
from reroot.access.session import (
    Session,
)
from toys import (
    END,
    H,
    Wrapped,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
)

# ---- tasks, threads and the ways a learner may end ----------------------------------------------


def test_only_its_own_tasks_are_seen() -> None:
    async def count(session: Session) -> None:
        await session.rollouts(1)
        alone = asyncio.all_tasks()
        other = asyncio.ensure_future(asyncio.sleep(0))
        assert len(alone) == 1
        assert asyncio.all_tasks() == {*alone, other}
        await session.rollouts(1)

    assert [a.error for a in play(count, task=problems(8))] == [None] * 8


def test_tasks_do_not_outlive_their_learner() -> None:
    """What a background task has put into the box when its learner returns is never asked."""
    generator, late = Wrapped(), []

    async def leave_behind(session: Session) -> None:
        async def go_on() -> None:
            try:
                while True:
                    await session.rollouts(1)
                    late.append(1)
            finally:
                late.append(0)
                await session.rollouts(1)

        task = asyncio.ensure_future(go_on())
        await session.rollouts(1)
        await asyncio.sleep(0)
        assert not task.done()

    attempt = play_one(leave_behind, generator=generator)
    assert attempt.error is None
    assert attempt.cost.rollouts == len(generator.requests) == 2
    assert late == [1, 0]


def test_a_learner_that_asks_nothing() -> None:
    async def guess(session: Session) -> Prefix:
        return Prefix((1,) * H)

    attempt = play_one(guess)
    assert attempt.passed
    assert attempt.cost == FREE


async def _wait_for_nothing() -> None:
    await asyncio.get_running_loop().create_future()


async def _tick() -> None:
    while True:
        await asyncio.sleep(0.01)


async def _spin() -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("wait", [_wait_for_nothing, _tick, _spin])
def test_waiting_for_ever(wait: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_thread, "PATIENCE", 0.2)

    async def stall(session: Session) -> Prefix:
        if not session.prompt:
            await wait()
        return await one_rollout(session)

    stalled, good = play(stall, task=[problem(), problem("q", prompt=(1,), max_tokens=4)])
    assert str(stalled.error) == "stalled: went on for 0.2 s without asking its session"
    assert good.error is None


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Odd])
@pytest.mark.parametrize("where", ["learner", "task", "callback"])
def test_whatever_a_learner_raises_ends_its_attempt_alone(kind: Any, where: str) -> None:
    async def burst() -> None:
        raise kind("bang")

    def bang() -> None:
        raise kind("bang")

    async def explode(session: Session) -> Prefix:
        await session.text(session.root)
        if not session.prompt:
            if where == "learner":
                await burst()
            if where == "task":
                await asyncio.ensure_future(burst())
            asyncio.get_running_loop().call_soon(bang)
            for _ in range(5):
                await asyncio.sleep(0)
        return await one_rollout(session)

    tasks = [problem(), problem("q", prompt=(1,), max_tokens=4)]
    bad, good = play(explode, task=tasks)
    assert good.error is None
    assert good.output is not None
    if where == "callback" and kind in (GeneratorExit, Odd):
        return  # asyncio itself logs these and goes on
    assert f"{kind.__name__}: bang (line " in str(bad.error)
    assert bad.output is None
    assert not bad.passed


@pytest.mark.parametrize(
    ("garbage", "message"),
    [
        (object(), "the learner returned <object"),
        ("012", "the learner returned '012', expected a Prefix, a Finding or None"),
        ({1: 2}, "expected a Prefix, a Finding or None"),
        ([1.5], "tokens must be integers, got 1.5"),
        ([True], "tokens must be integers, got True"),
        ([[1]], "tokens must be integers"),
        ((9,), "token 9 is outside the vocabulary"),
        ((2**80,), "is outside the vocabulary"),
        ((1,) * 6, "outputs have at most 5"),
        ((END, 1), "goes on after the stop token"),
    ],
)
def test_returning_garbage(garbage: Any, message: str) -> None:
    async def return_it(session: Session) -> Any:
        return garbage

    attempt = play_one(return_it)
    assert message in str(attempt.error)
    assert attempt.output is None
    assert (attempt.reward, attempt.passed) == (0.0, False)


@pytest.mark.parametrize(
    ("levels", "good"), [(99, True), (100, False), (985, False), (5000, False)]
)
def test_metadata_that_nest_too_deep(levels: int, good: bool, tmp_path: Path) -> None:
    """A little less than the stack holds would end the run where its record is written."""

    async def nest(session: Session) -> Finding:
        value: list[Any] = []
        for _ in range(levels - 1):
            value = [value]
        return Finding(None, {"a": value})

    attempt = play_one(nest, out=tmp_path / "run")
    assert (attempt.error is None) == good
    assert good or "InvalidInput: " in str(attempt.error)


def test_breaking_ones_own_loop() -> None:
    """Stopping, closing or emptying it harms nobody else."""

    async def sabotage(session: Session) -> Prefix:
        if session.prompt:
            return await one_rollout(session)
        loop = asyncio.get_running_loop()
        loop.stop()
        with pytest.raises(RuntimeError):
            loop.close()
        session._box.clear()
        for task in asyncio.all_tasks():
            task.cancel()
        return await one_rollout(session)

    bad, good = play(sabotage, task=[problem(), problem("q", prompt=(1,), max_tokens=4)])
    assert str(bad.error) == "CancelledError: the learner cancelled itself"
    assert good.error is None
