"""Errors cross the wall as data, and the exception itself for whoever asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from reroot import BackendError, OracleError, Prefix
from reroot.access.attempt_json import attempt_from_json, attempt_to_json
from reroot.access.failures import Failure
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from reroot.runs.tables import attempt_to_row
from toys import Failing, H, jobs_for, one_rollout, play_one, problem, problems, tree


def test_a_failure_says_what_where_and_whose() -> None:
    async def body(session: Session) -> Prefix:
        output = await one_rollout(session)
        {}["no"]
        return output

    attempt = play_one(body)
    failure = attempt.error
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message, failure.who) == ("KeyError", "'no'", "learner")
    assert failure.file == __file__
    assert failure.line == body.__code__.co_firstlineno + 2
    assert str(failure) == f"KeyError: 'no' (line {failure.line} of {__file__})"
    row = attempt_to_row(attempt)
    assert (row["error"], row["error_kind"]) == (str(failure), "KeyError")
    assert attempt_from_json(attempt_to_json(attempt)) == attempt


def test_the_line_is_the_users_where_the_library_raises() -> None:
    """Inside the standard library or reroot: the line of the user that led there."""

    async def parse(session: Session) -> None:
        import json

        json.loads("{")

    async def ask(session: Session) -> None:
        await session.draws((1,), 1)

    for body, kind, line in ((parse, "JSONDecodeError", 3), (ask, "AccessDenied", 1)):
        failure = play_one(body).error
        assert failure is not None
        assert (failure.kind, failure.file) == (kind, __file__)
        assert failure.line == body.__code__.co_firstlineno + line


@pytest.mark.parametrize(
    ("body", "changes", "generator", "kind", "who"),
    [
        (one_rollout, {}, Failing(lambda q: True, ValueError("x")), "BackendError", "generator"),
        (one_rollout, {"reward": lambda o: 1 / 0}, tree(), "OracleError", "task"),
        (one_rollout, {"reward": lambda o: "?"}, tree(), "OracleError", "task"),
    ],
)
def test_whose_fault_it_is(body: Any, changes: Any, generator: Any, kind: str, who: str) -> None:
    failure = play_one(body, generator=generator, task=problem(**changes)).error
    assert failure is not None
    assert (failure.kind, failure.who) == (kind, who)


class Mine(Exception):
    def __init__(self, payload: object) -> None:
        super().__init__("mine")
        self.payload = payload


def errors_of(body: Any, generator: Any = None, **changes: Any) -> list[tuple[Attempt, Any]]:
    """What ``on_error`` was told."""
    generator, told, done = generator or tree(), list[tuple[Attempt, Any]](), list[Attempt]()
    execute(
        *(jobs_for(body, [problem(**changes)], generator, "root/sample"), generator),
        concurrency=1,
        on_attempt=done.append,
        on_error=lambda attempt, error: told.append((attempt, error)),
    )
    assert len(done) == 1
    return told


def test_the_very_exception_comes_back_if_asked_for() -> None:
    payload = object()

    async def body(session: Session) -> None:
        raise Mine(payload)

    ((attempt, error),) = errors_of(body)
    assert attempt.error is not None
    assert attempt.error.kind == "Mine"
    assert type(error) is Mine
    assert error.payload is payload
    assert error.__traceback__ is not None


def test_the_cause_comes_back_where_generator_or_task_failed() -> None:
    original = ValueError("out of memory")
    ((_, error),) = errors_of(one_rollout, Failing(lambda q: True, original))
    assert type(error) is BackendError

    def broken(output: object) -> float:
        raise original

    ((_, error),) = errors_of(one_rollout, reward=broken)
    assert type(error) is OracleError
    assert error.__cause__ is original
    assert errors_of(one_rollout) == []


def test_raising_from_on_error_ends_the_run() -> None:
    async def body(session: Session) -> Prefix:
        if session.horizon == H:
            raise Mine(None)
        return await one_rollout(session)

    def stop(attempt: Attempt, error: BaseException) -> None:
        raise error

    jobs = jobs_for(body, problems(5), tree(), "root/sample")
    with pytest.raises(Mine):
        execute(jobs, tree(), concurrency=2, on_attempt=lambda a: None, on_error=stop)
