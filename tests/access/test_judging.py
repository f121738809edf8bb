"""How outputs are judged: complete ones pass, judges may be async and slow, and tell learners little."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from reroot import BackendError, OracleError, Prefix
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from reroot.randomness import Streams, learner_key, stream_key
from reroot.tasks.base import Problem
from reroot.tasks.judges import score
from reroot.types import Output
from toys import END, Failing, H, ask_and_tell, jobs_for, one_rollout, play, play_one, problem, tree

GRANTS = "root/sample+reward+verifier+value"


def run(body: Any, task: Problem, **settings: Any) -> Attempt:
    done: list[Attempt] = []
    jobs = jobs_for(body, [task], tree(), GRANTS)
    execute(jobs, tree(), concurrency=1, on_attempt=done.append, **settings)
    return done[0]


@pytest.mark.parametrize("tokens", [(), (1,), (1, 2), (1,) * (H - 1)])
def test_what_is_not_complete_is_judged_and_never_passes(tokens: tuple[int, ...]) -> None:
    async def stop_early(session: Session) -> Prefix:
        return Prefix(tokens)

    attempt = play_one(stop_early, task=problem(reward=lambda o: 1.0))
    assert (attempt.reward, attempt.passed, attempt.complete) == (1.0, False, False)
    for whole in ((END,), (1,) * H):
        returned = problem(reward=lambda o: 1.0)

        async def give(session: Session, whole: tuple[int, ...] = whole) -> Prefix:
            return Prefix(whole)

        assert play_one(give, task=returned).passed


def asynchronous(**changes: Any) -> Problem:
    """A problem whose functions are coroutines, on one event loop all of them."""
    loops: set[Any] = set()

    async def judged(output: Output) -> float:
        await asyncio.sleep(0)
        loops.add(asyncio.get_running_loop())
        assert len(loops) == 1
        return 1.0

    async def verified(output: Output) -> bool:
        return bool(await judged(output))

    return problem(**{"reward": judged, "verifier": verified, "value": judged, **changes})


@pytest.mark.parametrize("limit", [None, 10.0])
def test_async_functions_are_awaited(limit: float | None) -> None:
    async def ask(session: Session) -> Prefix:
        output = await one_rollout(session)
        assert await session.reward(output) == 1.0
        assert await session.verify(output) is True
        assert await session.value(output) == 1.0
        return output

    attempt = run(ask, asynchronous(), judge_timeout=limit)
    assert attempt.error is None
    assert attempt.passed


def test_async_functions_where_a_loop_is_running() -> None:
    """As in a notebook."""

    async def cell() -> float:
        return score(asynchronous(), Output((END,), "", True))

    assert asyncio.run(cell()) == 1.0


def test_async_functions_that_fail() -> None:
    async def broken(output: Output) -> float:
        raise LookupError("no such file")

    async def nonsense(output: Output) -> str:
        return "good"

    attempt = run(one_rollout, asynchronous(reward=broken))
    assert "the reward raised LookupError: no such file" in str(attempt.error)
    attempt = run(one_rollout, asynchronous(reward=nonsense))
    assert "must be a finite number, got 'good'" in str(attempt.error)


def blocking(output: Output) -> float:
    time.sleep(600)
    return 1.0


def computing(output: Output) -> float:
    while True:
        time.sleep(0.001)


async def waiting(output: Output) -> float:
    await asyncio.sleep(600)
    return 1.0


async def stuck(output: Output) -> float:
    time.sleep(600)
    return 1.0


@pytest.mark.parametrize("reward", [blocking, computing, waiting, stuck])
def test_a_reward_that_hangs(reward: Any) -> None:
    """And the next ones are judged as ever, async or not."""
    started = time.monotonic()
    attempt = run(one_rollout, problem(reward=reward), judge_timeout=0.2)
    assert time.monotonic() - started < 5
    assert str(attempt.error) == (
        "OracleError: problem 'p': the reward took longer than the time limit of 0.2 s"
    )
    assert (attempt.reward, attempt.passed) == (None, False)
    assert run(one_rollout, problem(reward=lambda o: 1.0), judge_timeout=5.0).passed
    assert run(one_rollout, asynchronous(), judge_timeout=5.0).passed


@pytest.mark.parametrize("verb", ["reward", "verify", "value"])
def test_the_limit_holds_for_every_oracle(verb: str) -> None:
    async def ask(session: Session) -> Prefix:
        output = await one_rollout(session)
        await getattr(session, verb)(output)
        return output

    calls = {
        name: blocking for name in ("reward", "verifier", "value") if name.startswith(verb[:3])
    }
    attempt = run(ask, problem(**calls), judge_timeout=0.2)
    assert "took longer than the time limit of 0.2 s" in str(attempt.error)


def test_a_time_out_of_the_function_itself_is_its_own() -> None:
    def impatient(output: Output) -> float:
        raise TimeoutError("the server said so")

    attempt = run(one_rollout, problem(reward=impatient), judge_timeout=5.0)
    assert "the reward raised TimeoutError: the server said so" in str(attempt.error)


def test_calls_with_a_limit_share_a_thread() -> None:
    threads: set[int] = set()
    task = problem(reward=lambda o: threads.add(threading.get_ident()) or 1.0)
    for _ in range(5):
        assert run(one_rollout, task, judge_timeout=5.0).passed
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert run(one_rollout, task).passed  # without one, they run where they always did
    assert threading.get_ident() in threads


@pytest.mark.slow(1)
def test_the_process_exits_with_a_reward_that_hangs() -> None:
    code = """
import time
from test_judging import run, one_rollout, problem, blocking, stuck
for reward in (blocking, stuck):
    print(run(one_rollout, problem(reward=reward), judge_timeout=0.2).error.kind)
"""
    paths = [os.path.dirname(__file__), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
    )
    assert (done.stdout, done.stderr) == ("OracleError\nOracleError\n", "")


# ---- what a learner is told ---------------------------------------------------------------------


def test_texts_of_the_other_side_do_not_reach_learners() -> None:
    """They may hold a law or an answer. The attempt and its record tell them."""
    told: list[str] = []

    def broken(output: Output) -> float:
        raise ValueError("the answer is 42")

    async def ask(session: Session) -> Prefix:
        output = await one_rollout(session)
        for verb in (session.reward, session.verify, session.value):
            with pytest.raises(OracleError) as caught:
                await verb(output)
            told.append(str(caught.value))
        with pytest.raises(BackendError) as failed:
            await session.rollouts(7)
        told.append(str(failed.value))
        return output

    task = problem(reward=broken, verifier=broken, value=lambda o: "the answer is 42")
    attempt = play_one(
        *(ask, GRANTS), task=task, generator=Failing(lambda q: q.n == 7, ValueError("P = 42"))
    )
    assert "42" in str(attempt.error)  # of the reward at the end
    assert not any("42" in text for text in told)
    assert told == [*["a function of the task failed; the record of the attempt says how"] * 3,
                    "the generator failed; the record of the attempt says how"]  # fmt: skip


def test_the_attempt_tells_what_the_learner_was_not_told() -> None:
    async def ask(session: Session) -> Prefix:
        return await one_rollout(session)

    attempt = play_one(ask, generator=Failing(lambda q: True, ValueError("P = 42")))
    assert "the generator failed: ValueError: P = 42" in str(attempt.error)


# ---- sessions and keys --------------------------------------------------------------------------


def test_a_session_serves_its_own_learner() -> None:
    sessions: list[Session] = []

    async def lend(session: Session) -> str | None:
        sessions.append(session)
        await session.text(session.root)
        other = next(s for s in sessions if s is not session)
        with pytest.raises(Exception, match="a session serves the learner it was made for"):
            await other.draws(Prefix(), 1)
        with pytest.raises(Exception, match="a session serves the learner it was made for"):
            await asyncio.to_thread(asyncio.run, session.rollouts(1))
        return None

    attempts = play(lend, task=[problem("a"), problem("b")])
    assert [a.error for a in attempts] == [None, None]
    assert [a.cost.calls for a in attempts] == [0, 0]


def test_the_learners_key_leads_to_no_other() -> None:
    """It is reproducible from seed and problem, apart from all streams, and not found by trying
    what streams are keyed by."""
    key = ask_and_tell(lambda s: _key(s), seed=7)
    assert key == ask_and_tell(lambda s: _key(s), seed=7) == learner_key(7, "p")
    assert key != ask_and_tell(lambda s: _key(s), seed=8)
    assert key != ask_and_tell(lambda s: _key(s), seed=7, task=problem("q"))
    purposes = ("learner", "draws", "", "rng")
    assert key not in {stream_key(seed, "p", what) for seed in range(1000) for what in purposes}


async def _key(session: Session) -> tuple[int, ...]:
    state: Any = session.rng.bit_generator.state
    return tuple(map(int, state["state"]["key"]))


def test_streams_are_stream_keys() -> None:
    """Recorded numbers rest on these keys: they stay what they are."""
    assert stream_key(3, "p", "draws", (1, 2)) == Streams(3, "p", "draws").key((1, 2))
    assert stream_key(0, "p", "draws") == (5221593028644805199, 1600323221247548023)
