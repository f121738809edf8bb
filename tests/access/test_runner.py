"""The runner: the same results in any order and number, and failures that stay where they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reroot
from reroot import (
    BackendError,
    Budget,
    Contract,
    Finding,
    InvalidInput,
    Prefix,
    Query,
    Report,
)
from reroot.access import runner
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from reroot.generators.base import Capabilities, Request
from reroot.types import CURRENCIES, Output, Reply
from toys import (
    END,
    Editing,
    Failing,
    H,
    Wrapped,
    as_learner,
    jobs_for,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    search,
    tree,
    zeros,
)


def test_order_and_number_change_nothing(tmp_path: Path) -> None:
    """1 and 64 in flight, problems shuffled: equal attempts, and equal bytes in the table."""
    tasks = [replace(p, reward=zeros) for p in problems(70)]
    shuffled = tasks.copy()
    random.Random(3).shuffle(shuffled)
    bound = as_learner(search)
    tables: list[bytes] = []
    attempts: list[dict[str, Attempt]] = []
    for name, order, concurrency in (("a", tasks, 64), ("b", shuffled, 1), ("c", shuffled, 7)):
        result = reroot.run(
            *(bound, order, tree()),
            grants="reset/sample+reward+verifier",
            budget=Budget(tokens=200),
            concurrency=concurrency,
            out=tmp_path / name,
        )
        assert [a.problem for a in result.attempts] == [p.id for p in order]
        attempts.append({a.problem: a for a in result.attempts})
        tables.append((tmp_path / name / "results.parquet").read_bytes())
    assert attempts[0] == attempts[1] == attempts[2]
    assert tables[0] == tables[1] == tables[2]
    assert len({a.output for a in attempts[0].values()}) > 20  # they do differ among themselves


def test_another_seed_is_another_run() -> None:
    first, again, other = (
        [a.output for a in play(search, "reset/sample+reward+verifier", task=problems(20), seed=s)]
        for s in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_no_more_in_flight_than_asked_for(concurrency: int) -> None:
    """And no less, as long as there are problems: all of a wave is one call of the generator."""
    generator, rounds, done = Wrapped(), list[int](), list[Attempt]()

    async def three_steps(session: Session) -> None:
        for _ in range(3):
            await session.rollouts(1)

    jobs = jobs_for(three_steps, problems(10), generator, "root/sample")
    execute(
        *(iter(jobs), generator),
        concurrency=concurrency,
        on_attempt=done.append,
        on_round=rounds.append,
    )
    assert max(rounds) == min(concurrency, 10)
    assert len(done) == 10
    assert generator.calls <= -(-10 // concurrency) * 3
    assert len(generator.requests) == 30


@pytest.mark.parametrize("concurrency", [0, -1, True, 2.5, "4", None])
def test_a_number_in_flight_that_is_none(concurrency: Any) -> None:
    with pytest.raises(InvalidInput, match="concurrency must be an integer >= 1"):
        play(one_rollout, concurrency=concurrency)


def test_more_in_flight_than_files_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.resource, "getrlimit", lambda which: (140, 140))
    rounds = list[int]()
    jobs = jobs_for(one_rollout, problems(9), tree(), "root/sample")
    execute(jobs, tree(), concurrency=500, on_attempt=lambda a: None, on_round=rounds.append)
    assert max(rounds) == 4


def test_each_attempt_is_told_once() -> None:
    told: list[Attempt] = []
    attempts = play(one_rollout, task=problems(5), on_attempt=told.append)
    assert (
        sorted(a.key for a in told)
        == sorted(a.key for a in attempts)
        == [f"p{i}" for i in range(5)]
    )


# ---- one failure stays one ----------------------------------------------------------------------


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
    assert "test_runner.py)" in str(bad.error)  # with the line that raised
    assert (bad.output, bad.reward, bad.passed, bad.surprisal) == (None, 0.0, False, None)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda o: float("nan"), "the reward must be a finite number, got nan"),
        (lambda o: float("inf"), "the reward must be a finite number, got inf"),
        (lambda o: "good", "the reward must be a finite number, got 'good'"),
        (lambda o: None, "the reward must be a finite number, got None"),
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
        with pytest.raises(BackendError, match="the generator failed: LookupError: no such token"):
            await session.text(session.root)
        with pytest.raises(BackendError, match="no such token"):
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


# ---- before anything runs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"task": [problem(), problem()]}, InvalidInput, "two problems have the id 'p'"),
        ({"grants": "root/sample+reward+telepathy"}, InvalidInput, "unknown oracle 'telepathy'"),
        (
            {"grants": "root/sample+verifier", "task": problem(verifier=None)},
            *(InvalidInput, "problem 'p' has no verifier to grant"),
        ),
        (
            {"grants": "root/sample+demonstration", "task": problem(demonstration=None)},
            *(InvalidInput, "problem 'p' has no demonstration to grant"),
        ),
        ({"task": problem(max_tokens=H + 1)}, InvalidInput, "exceed the generator's 5 positions"),
        ({"task": problem(demonstration=(1, END, 1))}, reroot.OracleError, "bad demonstration"),
        ({"seed": -1}, InvalidInput, "seed must be an integer >= 0, got -1"),
        ({"seed": 1.5}, InvalidInput, "seed must be an integer >= 0, got 1.5"),
    ],
)
def test_what_cannot_be_run(settings: dict[str, Any], error: Any, message: str) -> None:
    generator = Wrapped()
    with pytest.raises(error) as refused:
        play(one_rollout, generator=generator, **settings)
    assert message in str(refused.value)
    assert generator.calls == 0


@pytest.mark.parametrize(
    ("able", "grants", "message"),
    [
        (
            Capabilities(report=Report.LOGPROB),
            "root/topk(1)",
            "it reports up to logprob, not topk(1)",
        ),
        (Capabilities(sampling=False), "root/sample@T=0.5", "it draws at temperature 1 only"),
        (
            Capabilities(control=Contract.parse("root/sample").control),
            *("visited/sample", "it serves control up to root, not visited"),
        ),
    ],
)
def test_what_a_generator_cannot_honour(able: Capabilities, grants: str, message: str) -> None:
    class Limited(Wrapped):
        @property
        def capabilities(self) -> Capabilities:
            return able

    with pytest.raises(InvalidInput, match="cannot honour") as refused:
        play(one_rollout, grants, generator=Limited())
    assert message in str(refused.value)


def test_no_problems_is_an_empty_run(tmp_path: Path) -> None:
    assert play(one_rollout, task=[], out=tmp_path) == []
    assert play(one_rollout, task=[], out=tmp_path) == []


def test_the_sum_of_the_ledgers() -> None:
    result = reroot.run(
        as_learner(search), problems(5), tree(), grants="reset/sample+reward+verifier"
    )
    for currency in CURRENCIES:
        total = sum(getattr(a.cost, currency) for a in result.attempts)
        assert getattr(result.cost, currency) == total
    assert result.pass_rate == sum(a.passed for a in result.attempts) / 5
    assert result.to_frame().height == 5


def test_one_batch_for_all_that_is_asked_at_the_same_moment() -> None:
    """Also where some learners consult oracles in between: those wait for no generator."""
    generator = Wrapped()

    async def step(session: Session) -> Prefix:
        if session.horizon == 4:
            for _ in range(3):
                await session.verify(session.root)
        return (await session.ask([Query(), Query()]))[0].outputs()[0]

    tasks = [problem("a"), problem("b", max_tokens=4, demonstration=None), problem("c")]
    play(step, "root/sample+verifier", task=tasks, generator=generator)
    assert [q.forced is None for q in generator.requests] == [True] * 6 + [False] * 3
    assert generator.calls == 2  # the rollouts of all, and the surprisals of all


# ---- learners that never pay -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["refused", "free"])
def test_a_learner_that_never_pays_is_given_up_and_holds_up_nobody(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST_IDLE", 500)

    async def spin(session: Session) -> None:
        while kind == "free":
            await session.text(session.root)
        while True:
            with suppress(reroot.BudgetExceeded):
                await session.rollouts(10**5)

    async def body(session: Session) -> Prefix | None:
        if session.spent.tokens == 0 and session.rng.random() < 0.5:
            await spin(session)
        return await one_rollout(session)

    attempts = play(body, task=problems(8), budget=Budget(tokens=50))
    stalled = [a for a in attempts if a.error]
    assert 0 < len(stalled) < 8  # the rng is keyed by the problem
    assert all("stalled: sent 500 messages in a row" in str(a.error) for a in stalled)
    assert all(a.output is not None for a in attempts if not a.error)


def test_refusals_between_paid_messages_are_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MOST_IDLE", 50)

    async def body(session: Session) -> Prefix:
        for _ in range(20):
            for _ in range(40):
                with suppress(reroot.BudgetExceeded):
                    await session.rollouts(10**5)
            output = (await session.rollouts(1)).outputs()[0]
        return output

    (attempt,) = play(body, budget=Budget(tokens=200))
    assert attempt.error is None


# ---- findings -----------------------------------------------------------------------------------


def test_notes_are_kept_with_the_attempt(tmp_path: Path) -> None:
    async def body(session: Session) -> Finding:
        output = await one_rollout(session)
        return Finding(output, {"length": len(output), "curve": [0.5, 1], "nested": {"a": None}})

    (attempt,) = play(body, task=problems(1), out=tmp_path)
    assert attempt.output is not None
    assert attempt.metadata == {
        "length": len(attempt.output),
        "curve": [0.5, 1],
        "nested": {"a": None},
    }
    (again,) = play(body, task=problems(1), out=tmp_path)
    assert again == attempt


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Finding(None, {"x": object()}), "metadata of a Finding must be JSON values"),
        (Finding(None, [1]), "must map names to JSON values"),  # type: ignore[arg-type]
        (Finding("ab", {}), "expected a Prefix, a Finding or None"),  # type: ignore[arg-type]
        (3, "expected a Prefix, a Finding or None"),
    ],
)
def test_findings_are_plain_data(value: Any, message: str) -> None:
    async def body(session: Session) -> Any:
        return value

    assert message in str(play_one(body).error)
