"""Small generators, problems and one-off learners for tests of the access layer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import reroot
from reroot import Contract, Control, Prefix, Report
from reroot.access.episode import bind
from reroot.access.runner import Attempt, Job
from reroot.access.session import Session
from reroot.generators.base import Capabilities, Generator, Request
from reroot.generators.tabular import Tabular
from reroot.learners.base import BoundLearner, learner
from reroot.tasks.base import Problem
from reroot.types import Budget, FloatArray, Output, Physical, Reply

K, H, END = 4, 5, 3
"""Vocabulary, horizon and end token of ``tree()``."""

Body = Callable[[Session], Awaitable[Any]]


def tree(seed: int = 1) -> Tabular:
    """Random laws on strings over 0…3 of at most 5 tokens; token 3 ends a string."""
    return Tabular.random(K, H, seed=seed, end=(END,))


def problem(id: str = "p", **changes: Any) -> Problem:
    """Reward 1 for outputs that hold no 0, verified token by token; (1, 2, 3) is one."""
    plain = Problem(
        id,
        (),
        H,
        reward=lambda output: float(0 not in output.tokens),
        verifier=lambda output: 0 not in output.tokens,
        demonstration=(1, 2, END),
    )
    return replace(plain, **changes)


def problems(count: int) -> list[Problem]:
    return [problem(f"p{i}") for i in range(count)]


def as_learner(body: Body) -> BoundLearner:
    """A learner that requires nothing, so that whatever it tries is up to the session."""

    async def toy(session: Session) -> Any:
        return await body(session)

    return learner(requires=Contract(Control.ROOT, Report.NONE))(toy)()


def play(
    body: Body,
    grants: Contract | str = "root/sample",
    *,
    generator: Generator | None = None,
    budget: Budget | None = None,
    task: Sequence[Problem] | Problem | None = None,
    **settings: Any,
) -> list[Attempt]:
    """The attempts of a one-off learner, by default on one problem of ``tree()``."""
    task = problem() if task is None else task
    run = reroot.run(
        as_learner(body),
        [task] if isinstance(task, Problem) else task,
        generator or tree(),
        grants=grants,
        budget=budget,
        **settings,
    )
    return run.attempts


def play_one(body: Body, grants: Contract | str = "root/sample", **settings: Any) -> Attempt:
    (attempt,) = play(body, grants, **settings)
    return attempt


def ask_and_tell(body: Body, grants: Contract | str = "root/sample", **settings: Any) -> Any:
    """What ``body`` returned inside a session; its error is an error of the test."""
    told: list[Any] = []

    async def tell(session: Session) -> None:
        told.append(await body(session))

    attempt = play_one(tell, grants, **settings)
    assert attempt.error is None, attempt.error
    assert attempt.stopped is None
    return told[0]


def jobs_for(
    body: Body,
    task: Sequence[Problem],
    generator: Generator,
    grants: str = "chosen/full+reward+verifier+demonstration",
    budget: Budget | None = None,
    seed: int = 0,
) -> list[Job]:
    """Jobs for ``execute``, one per problem."""
    contract = Contract.parse(grants)
    bound = as_learner(body)
    return [Job(p.id, bound, bind(p, generator), contract, budget or Budget(), seed) for p in task]


class Wrapped:
    """A generator that hands everything on to another one; tests override what they need.

    Attributes:
        calls: calls of ``answer``.
        requests: requests that were answered, in order.
    """

    def __init__(self, inner: Generator | None = None) -> None:
        self.inner = inner or tree()
        self.calls = 0
        self.requests: list[Request] = []

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def end_token(self) -> int | None:
        return self.inner.end_token

    def encode(self, text: str) -> tuple[int, ...]:
        return self.inner.encode(text)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self.inner.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.inner.decode(tokens)

    def stop_tokens(self, texts: Sequence[str]) -> frozenset[int]:
        return self.inner.stop_tokens(texts)

    def max_length(self) -> int | None:
        return self.inner.max_length()

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.calls += 1
        replies = self.inner.answer(requests)
        self.requests += requests
        return replies

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        return self.inner.log_laws(prompt, prefixes)

    def physical(self) -> Physical:
        return self.inner.physical()

    def describe(self) -> Mapping[str, object]:
        return self.inner.describe()


class Failing(Wrapped):
    """Raises for requests that ``fails`` picks, before anything is answered."""

    def __init__(self, fails: Callable[[Request], bool], error: BaseException) -> None:
        super().__init__()
        self.fails = fails
        self.error = error

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if any(map(self.fails, requests)):
            self.calls += 1
            raise self.error
        return super().answer(requests)


class Editing(Wrapped):
    """Changes replies before they are handed out, as a sloppy backend would."""

    def __init__(self, edit: Callable[[Request, Reply], Reply | None]) -> None:
        super().__init__()
        self.edit = edit

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().answer(requests)
        return [self.edit(q, r) for q, r in zip(requests, replies, strict=True)]  # type: ignore[misc]


async def one_rollout(session: Session) -> Prefix:
    return (await session.rollouts(1)).outputs()[0]


def zeros(output: Output) -> float:
    """An outcome reward: the share of zeros."""
    return output.tokens.count(0) / max(1, len(output.tokens))
