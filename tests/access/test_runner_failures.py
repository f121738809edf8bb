"""One failure of a learner, a reward or a generator stays one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reroot import (
    BackendError,
    Prefix,
    Report,
)
from reroot.access.runner import Attempt
from reroot.access.session import Session
from reroot.generators.base import Capabilities, Request
from reroot.types import Output, Reply
from toys import (
    Editing,
    Failing,
    Wrapped,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    tree,
)


def with_bad(**changes: Any) -> list[Any]:
    return [*problems(3), problem("bad", **changes), *[problem(f"q{i}") for i in range(3)]]


def only_bad_fails(attempts: Sequence[Attempt], message: str) -> Attempt:
    bad = [a for a in attempts if a.error is not None]
    assert [a.problem for a in bad] == ["bad"]
    assert message in str(bad[0].error)
    assert all(a.output is not None and a.reward is not None for a in attempts if a is not bad[0])
    return bad[0]


def test_a_learner_that_fails_on_one_problem() -> None:
    async def fragile(session: Session) -> Prefix:
        if session.horizon == 2:
            raise KeyError("no such thing")
        return await one_rollout(session)

    bad = only_bad_fails(
        play(fragile, task=with_bad(max_tokens=2, demonstration=None)), "KeyError: 'no such thing'"
    )
    assert "test_runner_failures.py)" in str(bad.error)  # with the line that raised
    assert (bad.output, bad.reward, bad.passed, bad.surprisal) == (None, 0.0, False, None)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda o: float("nan"), "the reward must be a finite number, got nan"),
        (lambda o: float("inf"), "the reward must be a finite number, got inf"),
        (lambda o: "good", "the reward must be a finite number, got 'good'"),
        (lambda o: "x", "the reward must be a finite number, got 'x'"),
        (lambda o: 1 / 0, "the reward raised ZeroDivisionError: division by zero"),
        (lambda o: exit(3), "the reward raised SystemExit: 3"),
    ],
)
def test_a_reward_that_fails(reward: Any, message: str) -> None:
    bad = only_bad_fails(play(one_rollout, task=with_bad(reward=reward)), message)
    assert bad.output is not None  # what the learner found is kept
    assert (bad.reward, bad.passed) == (None, False)


def test_a_failing_reward_reaches_the_learner_that_asks() -> None:
    async def ask(session: Session) -> Prefix:
        output = await one_rollout(session)
        await session.reward(output)
        return output

    bad = only_bad_fails(
        play(ask, "root/sample+reward", task=with_bad(reward=lambda o: 1 / 0)),
        "OracleError: problem 'bad': the reward raised ZeroDivisionError",
    )
    assert bad.cost.rewards == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), BackendError("out of memory"), MemoryError("out of memory")],
)
def test_a_generator_that_fails_for_one_request(error: Exception) -> None:
    """The others asked in the same batch; they get the answers they would have got alone."""

    def is_bad(request: Request) -> bool:
        return request.prompt == (2,) and request.forced is None

    task = with_bad(prompt=(2,), max_tokens=4)
    attempts = play(one_rollout, task=task, generator=Failing(is_bad, error))
    bad = only_bad_fails(attempts, "out of memory")
    assert str(bad.error).startswith("BackendError: ")
    assert bad.cost.rollouts == 0
    healthy = play(one_rollout, task=task)
    assert [a for a in attempts if a is not bad] == [a for a in healthy if a.problem != "bad"]


def test_a_generator_that_answers_nonsense_to_one_request() -> None:
    def spoil(request: Request, reply: Reply) -> Reply | None:
        if request.prompt != (2,) or request.forced is not None:
            return reply
        return replace(reply, tokens=reply.tokens + 50)

    task = with_bad(prompt=(2,), max_tokens=4)
    attempts = play(one_rollout, task=task, generator=Editing(spoil))
    only_bad_fails(attempts, "the generator emitted a token outside 0…3")
    attempts = play(
        *(one_rollout,),
        task=task,
        generator=Editing(lambda q, r: None if q.prompt == (2,) and q.forced is None else r),
    )
    only_bad_fails(attempts, "BackendError: the generator failed: AttributeError")


@pytest.mark.parametrize(
    ("report", "fields", "message"),
    [
        (
            Report.SAMPLE,
            {"lengths": np.array([9, 9])},
            "continuation lengths [9 9] are outside 1…1",
        ),
        (Report.SAMPLE, {"lengths": np.array([0, 1])}, "are outside 1…1"),
        (Report.SAMPLE, {"lengths": np.array([1])}, "expected (2, L) and (2,)"),
        (Report.SAMPLE, {"tokens": np.array([1, 1])}, "expected (2, L) and (2,)"),
        (Report.SAMPLE, {"tokens": None}, "the generator left out tokens"),
        (Report.SAMPLE, {"tokens": np.array([[4], [0]])}, "a token outside 0…3"),
        (Report.SAMPLE, {"tokens": np.array([[-1], [0]])}, "a token outside 0…3"),
        (Report.LOGPROB, {"logprobs": None}, "the generator left out logprobs"),
        (Report.LOGPROB, {"logprobs": np.full((2, 1), np.nan)}, "NaN in logprobs"),
        (Report.LOGPROB, {"logprobs": np.zeros((2, 2))}, "logprobs of shape (2, 2), not (2, 1)"),
        (Report.TOPK(2), {"top_tokens": np.zeros((2, 1, 3))}, "top_tokens of shape (2, 1, 3)"),
        (Report.TOPK(2), {"top_logprobs": None}, "the generator left out top_logprobs"),
        (Report.FULL, {"laws": np.zeros((2, 1, 9))}, "laws of shape (2, 1, 9), not (2, 1, 4)"),
        (Report.FULL, {"laws": np.full((2, 1, 4), np.nan)}, "NaN in laws"),
    ],
)
def test_replies_that_break_the_protocol(
    report: Report, fields: dict[str, Any], message: str
) -> None:
    generator = Editing(lambda q, r: replace(r, **fields))

    async def ask(session: Session) -> None:
        await session.draws((), 2, report=report)

    attempt = play_one(ask, "reset/full", generator=generator)
    assert message in str(attempt.error)
    assert attempt.cost.queries == 0


def test_too_few_replies() -> None:
    class Short(Wrapped):
        def answer(self, requests: Sequence[Request]) -> list[Reply]:
            return super().answer(requests)[:-1]

    for attempt in play(one_rollout, task=problems(2), generator=Short()):
        assert str(attempt.error) == "BackendError: 1 requests got 0 replies"


def test_a_generator_that_cannot_decode() -> None:
    class Mute(Wrapped):
        def decode(self, tokens: Sequence[int]) -> str:
            raise LookupError("no such token")

    async def read(session: Session) -> Prefix:
        with pytest.raises(BackendError, match="the generator failed; the record"):
            await session.text(session.root)
        with pytest.raises(BackendError, match="the generator failed; the record"):
            await session.verify(session.root)
        return await one_rollout(session)

    attempt = play_one(read, "root/sample+verifier", generator=Mute())
    assert "BackendError: the generator failed: LookupError" in str(attempt.error)
    assert (attempt.reward, attempt.text) == (None, "")
    assert attempt.output is not None
    assert attempt.cost.verifications == 0


def test_surprisal_is_that_of_the_output_and_missing_where_scoring_fails() -> None:
    """One by one: what cannot be scored does not take the column from what ended beside it."""
    exact = dict(tree().enumerate_outputs())
    generator = Failing(lambda q: q.forced is not None and len(q.forced) == 1, ValueError("x"))
    attempts = play(one_rollout, task=problems(30), generator=generator)
    assert len({len(a.output or ()) for a in attempts}) > 1
    for attempt in attempts:
        assert attempt.output is not None
        if len(attempt.output) == 1:
            assert attempt.surprisal is None
        else:
            assert attempt.surprisal == pytest.approx(-exact[attempt.output.tokens])


def test_no_surprisal_without_teacher_forcing() -> None:
    class Drawing(Wrapped):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(forced=False)

    assert play_one(one_rollout, generator=Drawing()).surprisal is None


def test_no_output_passes_no_problem() -> None:
    """Even where a reward of 0 would pass."""

    async def give_up(session: Session) -> None:
        return None

    attempt = play_one(give_up, task=problem(pass_at=-1.0))
    assert (attempt.reward, attempt.passed, attempt.error) == (0.0, False, None)
    assert play_one(one_rollout, task=problem(pass_at=-1.0)).passed


def test_incomplete_outputs_are_kept_and_marked() -> None:
    async def stop_early(session: Session) -> Prefix:
        return Prefix((1,))

    seen: list[Output] = []
    attempt = play_one(stop_early, task=problem(reward=lambda o: seen.append(o) or 0.5))
    assert (attempt.output, attempt.complete, attempt.reward) == (Prefix((1,)), False, 0.5)
    assert seen == [Output((1,), "1", False)]


def test_texts_that_no_file_can_hold(tmp_path: Path) -> None:
    """Lone surrogates and line separators, from a learner's error or a generator's text."""

    class Odd(Wrapped):
        def decode(self, tokens: Sequence[int]) -> str:
            return "\ud800\u2028\x85\r\n" + self.inner.decode(tokens)

    async def shout(session: Session) -> Prefix:
        if session.horizon == 4:
            raise ValueError("\udfff\u2028\x85!")
        await session.text(session.root)
        return await one_rollout(session)

    tasks = [problem("a"), problem("b", max_tokens=4)]
    first = play(shout, generator=Odd(), task=tasks, out=tmp_path, transcripts=True)
    again = play(shout, generator=Odd(), task=tasks, out=tmp_path, transcripts=True)
    assert first == again
    assert first[0].text.startswith("\\ud800\u2028\x85\r\n")
    assert "\\udfff\u2028\x85" in str(first[1].error)


def test_long_errors_are_cut() -> None:
    async def ramble(session: Session) -> None:
        raise ValueError("x" * 10**6)

    assert len(str(play_one(ramble).error)) < 5000
