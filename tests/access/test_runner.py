"""The runner: the same results in any order and number, and what can't be run is refused before."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import (
    Budget,
    Contract,
    Finding,
    InvalidInput,
    Prefix,
    Query,
    Report,
)
from reroot.access import runner, running
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from reroot.generators.base import Capabilities
from reroot.types import CURRENCIES
from toys import (
    END,
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


@pytest.mark.slow(1)
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
    monkeypatch.setattr(running, "MOST_IDLE", 500)

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
    monkeypatch.setattr(running, "MOST_IDLE", 50)

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


def test_a_method_of_that_name_makes_no_wall() -> None:
    """A generator of a user's that happens to have one is asked here, under this side's contract."""

    class Opening(Wrapped):
        def open_session(self, job: object) -> None:
            raise AssertionError("sessions are held here")

    generator = Opening()
    assert play_one(one_rollout, generator=generator).error is None
    assert generator.requests
