"""Whatever a learner leaves behind or breaks, its attempt fails at worst and the run goes on."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import select
import subprocess
import sys
import time
from typing import Any

import pytest

from reroot import Prefix
from reroot.access import learner_thread
from reroot.access.learner_thread import LearnerThread
from reroot.access.session import Session
from toys import one_rollout, play, problem, problems


class Stubborn(asyncio.Task[Any]):
    def cancel(self, msg: Any = None) -> bool:
        raise RuntimeError("no")


async def forever() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.get_running_loop().create_future()


async def unkillable() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def spinning() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        while True:
            await asyncio.sleep(0)


async def exiting() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise SystemExit(3)


async def interrupting() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise KeyboardInterrupt


async def generated() -> Any:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.get_running_loop().create_future()


async def leave_task(what: Any) -> None:
    task = asyncio.ensure_future(what)
    await asyncio.sleep(0)
    assert not task.done()


async def stubborn() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **k: Stubborn(coro, loop=loop, **k))
    await leave_task(forever())


async def patched_close() -> None:
    loop: Any = asyncio.get_running_loop()
    loop.close = loop.end = loop.burst = lambda *a: 1 / 0


async def closed_files() -> None:
    loop: Any = asyncio.get_running_loop()
    os.close(loop._selector.fileno())


async def broken_loop() -> None:
    loop: Any = asyncio.get_running_loop()
    loop._ready = loop._selector = loop._scheduled = None


async def open_generator() -> None:
    async for _ in generated():
        break
    gc.collect()
    await asyncio.sleep(0)


LEFT = {
    **{f.__name__: f for f in (stubborn, patched_close, closed_files, broken_loop, open_generator)},
    **{
        f.__name__: lambda f=f: leave_task(f())
        for f in (forever, unkillable, spinning, exiting, interrupting)
    },
}


@pytest.mark.slow(1)
@pytest.mark.parametrize("how", LEFT)
@pytest.mark.parametrize("ends", ["at once", "after a question", "with an error"])
def test_what_is_left_behind_hangs_nothing(how: str, ends: str) -> None:
    async def body(session: Session) -> Prefix:
        if session.prompt:
            await LEFT[how]()
        if session.prompt and ends == "with an error":
            raise LookupError
        return Prefix() if ends == "at once" else await one_rollout(session)

    task = [*problems(4), problem("bad", prompt=(1,), max_tokens=4), problem("q")]
    started = time.monotonic()
    attempts = play(body, task=task)
    assert time.monotonic() - started < 8
    assert [a.problem for a in attempts if a.error] in ([], ["bad"])


@pytest.mark.slow(1)
@pytest.mark.parametrize("how", ["sleeps", "computes"])
def test_clean_up_that_keeps_the_thread(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_thread, "_CLOSING", 0.5)

    async def stay() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            if how == "sleeps":
                time.sleep(30)
            while True:
                pass

    async def body(session: Session) -> Prefix:
        if session.prompt:
            await leave_task(stay())
        await session.rollouts(1)
        return await one_rollout(session)

    task = [*problems(4), problem("bad", prompt=(1,), max_tokens=4), problem("q")]
    started = time.monotonic()
    attempts = play(body, task=task)
    assert time.monotonic() - started < 8
    assert [a.error for a in attempts] == [None] * 6  # it had returned


@pytest.mark.slow(1)
def test_a_thread_that_dies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt whose turn it was fails; the others go on with a new thread."""
    take_turn = learner_thread.take_turn

    def dying(task: Any, answers: Any) -> Any:
        turn = take_turn(task, answers)
        if turn.finished is not None and len(turn.finished.output or ()) == 4:
            raise SystemExit  # below what catches the errors of learners
        return turn

    monkeypatch.setattr(learner_thread, "take_turn", dying)

    async def body(session: Session) -> Prefix:
        await session.rollouts(1)
        return Prefix((1,) * session.horizon)

    task = [*problems(4), problem("bad", prompt=(1,), max_tokens=4), problem("q")]
    attempts = play(body, task=task)
    assert [(a.problem, str(a.error)) for a in attempts if a.error] == [
        ("bad", "stalled: the thread that it ran on died")
    ]


LATE = """
import asyncio, gc
from toys import one_rollout, play
async def forever():
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.get_running_loop().create_future()
async def stays():
    while True:
        try:
            await asyncio.sleep(600)
        except BaseException:
            continue
async def body(session):
    kept.append([asyncio.ensure_future(f()) for f in (forever, stays)])
    await asyncio.sleep(0)
    return await one_rollout(session)
kept = []
print([str(a.error) for a in play(body)])
"""


@pytest.mark.slow(1)
def test_no_pending_task_is_complained_about() -> None:
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        capture_output=True,
        text=True,
        timeout=60,
        env=settings,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("['None']\n", "")


@pytest.mark.slow(2)
def test_a_thread_that_waits_in_c_is_alive() -> None:
    """It has no Python frame while it waits; on a busy machine that lasts longer than a look at it."""
    thread = LearnerThread()
    slow = (select.select, [], [], [], 1.2)
    assert thread._call([slow], [60.0]) == [([], [], [])]
    thread.end([])


@pytest.mark.slow(2)
def test_a_thread_that_has_not_begun_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be too busy to start it for longer than a look; until then no list has it."""
    start = _thread.start_new_thread

    def late(function: Any, arguments: Any) -> int:
        def begin() -> None:
            time.sleep(1.2)
            function(*arguments)

        return start(begin, ())

    monkeypatch.setattr(_thread, "start_new_thread", late)
    monkeypatch.setattr(learner_thread, "_threads", dict)
    thread = LearnerThread()
    assert thread._call([(int, "7")], [60.0]) == [7]
    monkeypatch.undo()
    thread.end([])
