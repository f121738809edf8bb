"""Judges: asked together, awaited together, in batches, in other processes, again, or abstaining."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import InvalidInput, Output, Problem
from reroot.errors import OracleError
from reroot.tasks import judge, score
from reroot.tasks.calls import Workers
from reroot.tasks.judges import begin, rate
from toys import tree

DONE = Output((1,), "1", complete=True)


def problem(reward: Any, id: str = "p", **more: Any) -> Problem:
    return Problem(id, (), 3, reward, **more)


# ---- one call -----------------------------------------------------------------------------------


def test_a_batch_is_one_call() -> None:
    sizes: list[int] = []

    @judge(batch=True)
    def reward(outputs: Sequence[Output]) -> list[float]:
        sizes.append(len(outputs))
        return [float(len(o.tokens)) for o in outputs]

    outputs = [Output((1,) * n, "", complete=True) for n in range(5)]
    assert begin(problem(reward), "reward", outputs).results() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert score(problem(reward), outputs[3]) == 3.0
    assert sizes == [5, 1]

    @judge(batch=True)
    async def later(outputs: Sequence[Output]) -> list[float]:
        await asyncio.sleep(0)
        return [1.0] * len(outputs)

    assert begin(problem(later), "reward", outputs).results() == [1.0] * 5
    assert score(problem(later), DONE) == 1.0
    short = problem(judge(lambda outputs: [1.0], batch=True))
    with pytest.raises(OracleError, match=r"must return a list of 5 answers, got \[1.0\]"):
        begin(short, "reward", outputs).results()


def test_batches_are_one_call_from_a_session_too() -> None:
    sizes: list[int] = []

    @judge(batch=True)
    def reward(outputs: Sequence[Output]) -> list[float]:
        sizes.append(len(outputs))
        return [0.0] * len(outputs)

    reroot.run("best_of_n:n=7", [problem(reward)], tree(), grants="root/sample+reward")
    assert sizes == [7, 1]  # the learner's seven, and the output that it returned


def test_errors_that_pass_are_tried_again() -> None:
    pytest.importorskip("tenacity")
    calls: list[int] = []

    @judge(transient=ConnectionError, tries=3, wait=0.001)
    def busy(output: Output) -> float:
        calls.append(1)
        if len(calls) % 3:
            raise ConnectionError("busy")
        return 1.0

    assert score(problem(busy), DONE) == 1.0
    assert len(calls) == 3

    @judge(transient=(ConnectionError, TimeoutError), tries=2, wait=0.0)
    async def down(output: Output) -> float:
        calls.append(1)
        raise ConnectionError("down")

    with pytest.raises(OracleError, match="the reward raised ConnectionError: down"):
        score(problem(down), DONE)
    assert len(calls) == 5

    @judge(transient=ConnectionError)
    def wrong(output: Output) -> float:
        calls.append(1)
        raise ValueError("wrong")

    with pytest.raises(OracleError, match="the reward raised ValueError: wrong"):
        score(problem(wrong), DONE)
    assert len(calls) == 6  # other errors are told at once


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transient": "busy"}, "transient must be a type of error"),
        ({"tries": 0}, "tries must be an integer >= 1, got 0"),
        ({"wait": -1}, r"wait must be a number >= 0 \(seconds\), got -1"),
    ],
)
def test_settings_of_a_judge(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        judge(lambda output: 1.0, **settings)


def test_none_abstains() -> None:
    assert rate(problem(lambda o: None), DONE) is None
    run = reroot.run(
        "best_of_n:n=3",
        [problem(lambda o: None), problem(lambda o: 1.0, "q")],
        tree(),
        grants="root/sample+reward",
    )
    silent, told = run.attempts
    assert (silent.reward, silent.error, silent.passed) == (None, None, False)
    assert (told.reward, told.passed) == (1.0, True)


# ---- many calls ---------------------------------------------------------------------------------


def test_what_is_awaited_goes_on_together() -> None:
    most, now = 0, 0

    async def slow(output: Output) -> float:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return 1.0

    problems = [problem(slow, str(i)) for i in range(32)]
    run = reroot.run("best_of_n:n=2", problems, tree(), grants="root/sample+reward")
    assert all(a.passed for a in run.attempts)
    assert most == 64  # two of each of 32 attempts, all in the air at once


def test_judges_work_while_the_generator_does() -> None:
    """A judge that waits for the generator's next call: were they one after the other, it would
    wait in vain."""
    asked = threading.Event()

    class Watched(type(tree())):
        def answer(self, requests: Any) -> Any:
            asked.set()
            return super().answer(requests)

    async def waits(output: Output) -> float:
        if first.is_set():
            return 1.0
        first.set()
        asked.clear()
        await asyncio.to_thread(asked.wait, 20)
        return float(asked.is_set())

    first = threading.Event()
    generator = tree()
    generator.__class__ = Watched
    problems = [problem(waits, "one"), problem(lambda o: 0.0, "two")]
    run = reroot.run(
        "first_success:max_rollouts=20", problems, generator, grants="root/sample+reward"
    )
    assert run.attempts[0].passed


def test_what_calling_a_judge_raises_is_the_judges_error() -> None:
    async def takes_nothing() -> float:
        return 1.0

    with pytest.raises(OracleError, match="the reward raised TypeError"):
        score(problem(takes_nothing), DONE)
    run = reroot.run(
        "best_of_n:n=2",
        [problem(takes_nothing), problem(lambda o: 1.0, "q")],
        tree(),
        grants="root/sample+reward",
        on_error="record",
    )
    assert [a.error and a.error.who for a in run.attempts] == ["task", None]


# ---- processes ----------------------------------------------------------------------------------

JUDGES = """
import os, time
def process(output):
    return float(os.getpid())
def hang(output):
    if output.text == "hang":
        while True: pass
    return 1.0
async def later(output):
    return 2.0
def own(output):
    raise TimeoutError("the server's")
"""


def load(tmp_path: Path, name: str) -> Any:
    from reroot import specs

    (tmp_path / "mine.py").write_text(JUDGES)
    return specs.load(f"{tmp_path / 'mine.py'}:{name}", "judge")


@pytest.mark.slow(6)
def test_worker_processes(tmp_path: Path) -> None:
    pytest.importorskip("pebble")
    with Workers(2):
        pids = begin(problem(load(tmp_path, "process")), "reward", [DONE] * 8).results()
        assert os.getpid() not in pids
        assert 1 <= len(set(pids)) <= 2
        slow = problem(load(tmp_path, "hang"))
        with pytest.raises(OracleError, match=r"took longer than the time limit of 0.5 s"):
            score(slow, Output((), "hang", complete=True), 0.5)
        assert score(slow, DONE, 20.0) == 1.0  # its process was replaced
        with pytest.raises(OracleError, match="the reward raised TimeoutError: the server's"):
            score(problem(load(tmp_path, "own")), DONE, 20.0)
        local = 5.0
        assert score(problem(lambda output: local), DONE) == 5.0  # by value
        lock = threading.Lock()
        with pytest.raises(InvalidInput, match="cannot go to a worker process"):
            score(problem(lambda output: lock.locked()), DONE)
    assert score(problem(load(tmp_path, "process")), DONE) == os.getpid()


def test_time_limits_of_calls_that_go_on_together() -> None:
    async def hangs(output: Output) -> float:
        await asyncio.sleep(60)
        return 1.0

    with pytest.raises(OracleError, match=r"took longer than the time limit of 0.05 s"):
        begin(problem(hangs), "reward", [DONE] * 20, 0.05).results()
