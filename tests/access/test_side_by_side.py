"""Learners that wait for something else than their session wait side by side and stop nobody."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import reroot
from reroot import Prefix
from reroot.access import learner_thread
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from toys import Wrapped, jobs_for, one_rollout, problem, problems, search, tree


def run(body: Any, count: int = 8, generator: Any = None, **settings: Any) -> list[Attempt]:
    """Attempts in the order in which they ended."""
    generator, done = generator or tree(), list[Attempt]()
    task = [problem(f"p{i}") for i in range(count)]
    execute(
        *(jobs_for(body, task, generator), generator),
        concurrency=64,
        on_attempt=done.append,
        **settings,
    )
    return done


async def nap() -> None:
    await asyncio.sleep(0.4)


async def work() -> None:
    await asyncio.to_thread(time.sleep, 0.4)


async def socket() -> None:
    async def late(reader: object, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        writer.write(b"!")
        writer.close()

    async with await asyncio.start_server(late, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"!"
        writer.close()


@pytest.mark.slow(1)
@pytest.mark.parametrize(("wait", "count"), [(nap, 64), (work, 8), (socket, 8)])
def test_they_wait_together(wait: Callable[[], Any], count: int) -> None:
    async def body(session: Session) -> Prefix:
        await session.draws((), 1)  # type: ignore[arg-type]
        await wait()
        await session.draws((), 1)  # type: ignore[arg-type]
        return await one_rollout(session)

    started = time.monotonic()
    attempts = run(body, count)
    assert time.monotonic() - started < 1.5  # one after the other: 25.6 s, and 3.2 s
    assert [str(a.error) for a in attempts if a.error] == []
    assert len(attempts) == count


@pytest.mark.slow(1)
def test_nobody_waits_for_one_that_sleeps_and_its_time_is_limited() -> None:
    """Under an hour of sleep: the others are done long before its time is over."""
    ended: dict[str, float] = {}

    async def body(session: Session) -> Prefix:
        if not ended.get("slept"):
            ended["slept"] = 1
            await asyncio.sleep(3600)
        return await one_rollout(session)

    started = time.monotonic()
    attempts = run(
        body,
        attempt_timeout=1.0,
        on_error=lambda a, e: ended.update(limit=time.monotonic() - started),
    )
    assert 1.0 <= ended["limit"] < 3.0
    assert [str(a.error) for a in attempts[:-1]] == ["None"] * 7
    assert str(attempts[-1].error) == (
        "TimeoutError: it took more than the 1 s that an attempt may take"
    )


@pytest.mark.slow(1)
@pytest.mark.parametrize("how", ["blocks", "spins", "computes"])
def test_the_limit_holds_for_those_who_keep_the_thread(how: str) -> None:
    """They are left behind with their thread, and the others go on with another one."""
    first: list[str] = []

    async def body(session: Session) -> Prefix:
        await session.draws((), 1)  # type: ignore[arg-type]
        first.append("")
        if len(first) == 3:
            if how == "blocks":
                time.sleep(20)
            while how == "computes":
                pass
            while True:
                await asyncio.sleep(0)
        return await one_rollout(session)

    attempts = run(body, attempt_timeout=0.5)
    assert sum(a.error is None for a in attempts) == 7
    (bad,) = [a.error for a in attempts if a.error]
    assert bad.kind == "TimeoutError"


@pytest.mark.slow(1)
def test_time_at_the_generator_is_not_the_learners() -> None:
    class Slow(Wrapped):
        def answer(self, requests: Any) -> Any:
            time.sleep(0.4)
            return super().answer(requests)

    attempts = run(one_rollout, 2, Slow(), attempt_timeout=0.3)
    assert [a.error for a in attempts] == [None, None]


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "5"])
@pytest.mark.parametrize("which", ["attempt_timeout", "judge_timeout"])
def test_limits_that_are_none(limit: Any, which: str) -> None:
    with pytest.raises(reroot.InvalidInput, match=which):
        run(one_rollout, **{which: limit})


def test_waiting_for_nothing_ends_with_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_thread, "PATIENCE", 0.3)

    async def body(session: Session) -> Prefix:
        if session.rng.random() < 0.5:
            await asyncio.get_running_loop().create_future()
        return await one_rollout(session)

    attempts = run(body)
    errors = {str(a.error) for a in attempts if a.error}
    assert errors == {"stalled: went on for 0.3 s without asking its session"}
    assert 0 < sum(a.error is None for a in attempts) < 8


def test_results_do_not_depend_on_who_waits() -> None:
    """Naps of any length between the questions change no draw and no choice."""

    def with_naps(seed: int) -> list[Attempt]:
        delays = iter((seed * 7919 + i * 104729) % 13 / 1000 for i in range(10**6))

        async def body(session: Session) -> Prefix:
            async def sleepy(verb: Callable[..., Any], *args: Any) -> Any:
                await asyncio.sleep(next(delays) if seed else 0)
                return await verb(*args)

            pool = await sleepy(session.rollouts, 3)
            await asyncio.gather(*(sleepy(session.draws, (), 2) for _ in range(2)))
            await asyncio.to_thread(time.sleep, next(delays) if seed else 0)
            return pool.outputs()[int(session.rng.integers(3))]

        return sorted(run(body, 16), key=lambda a: a.key)

    plain = with_naps(0)
    assert plain == with_naps(1) == with_naps(2)
    assert sorted(run(search, 16), key=lambda a: a.key) == sorted(
        [*run_alone(search, 16)], key=lambda a: a.key
    )


def run_alone(body: Any, count: int) -> list[Attempt]:
    done: list[Attempt] = []
    jobs = jobs_for(body, problems(count), tree())
    execute(jobs, tree(), concurrency=1, on_attempt=done.append)
    return done


AT_EXIT = """
import asyncio, time
from toys import one_rollout, play
async def body(session):
    {body}
    return await one_rollout(session)
print([str(a.error) for a in play(body)])
"""


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "body",
    [
        "asyncio.ensure_future(asyncio.to_thread(time.sleep, 600)); await asyncio.sleep(0.1)",
        "asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)",
        "asyncio.ensure_future(asyncio.sleep(600))",
        "asyncio.ensure_future(session.rollouts(1))",
    ],
)
def test_the_process_exits_in_silence(body: str) -> None:
    """Threads that never return keep nobody, and no pending task is complained about."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT.format(body=body)],
        capture_output=True,
        text=True,
        timeout=60,
        env=settings,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("['None']\n", "")
