"""Small generators, problems and one-off learners for tests of the access layer."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import (
    BuiltinMethodType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any

import numpy as np

import reroot
from reroot import Contract, Control, Prefix, Report
from reroot.access.episode import bind
from reroot.access.learner import BoundLearner, learner
from reroot.access.runner import Attempt, Job
from reroot.access.session import Session
from reroot.generators.base import Capabilities, Generator, Request
from reroot.generators.layered import LayeredTree
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.tasks.base import Problem
from reroot.types import Budget, FloatArray, Output, Physical, Reply

K, H, END = 4, 5, 3
"""Vocabulary, horizon and end token of ``tree()``."""

Body = Callable[[Session], Awaitable[Any]]


def tree(seed: int = 1) -> Tabular:
    """Random laws on strings over 0…3 of at most 5 tokens; token 3 ends a string."""
    return Tabular.random(K, H, seed=seed, end=(END,))


def layered(seed: int = 1, layers: int = 3) -> LayeredTree:
    """``tree(seed)`` with hidden states: what comes before it are other random trees."""
    return LayeredTree([*(tree(1000 + seed + i) for i in range(layers - 1)), tree(seed)])


def problem(id: str = "p", **changes: Any) -> Problem:
    """Reward 1 for outputs that hold no 0, verified token by token; (1, 2, 3) is one.

    The value of a prefix is its length.
    """
    plain = Problem(
        id,
        (),
        H,
        reward=lambda output: float(0 not in output.tokens),
        verifier=lambda output: 0 not in output.tokens,
        demonstration=(1, 2, END),
        value=lambda output: len(output.tokens),
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
        **{"on_error": "record", **settings},
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

    def stops(self, texts: Sequence[str]) -> Stop:
        return self.inner.stops(texts)

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


async def search(session: Session) -> Prefix:
    """A learner that uses all there is: its path depends on draws, oracles, tasks and its rng."""
    pool = (await session.rollouts(3)).outputs()
    while len(pool) < 8:
        start = pool[int(session.rng.integers(len(pool)))]
        start = start[: int(session.rng.integers(len(start)))]
        replies = await asyncio.gather(
            session.continuations(start, 2), session.draws(start, 3), session.verify(start)
        )
        pool += replies[0].outputs()
    rewards = await session.rewards(pool)
    return pool[int(np.argmax(rewards))]


def zeros(output: Output) -> float:
    """An outcome reward: the share of zeros."""
    return output.tokens.count(0) / max(1, len(output.tokens))


# ---- what can be reached from an object -----------------------------------------------------------


def reachable(*starts: object, limit: int = 200_000) -> list[tuple[str, object]]:
    """(path, object) of everything that attributes, containers, closures, frames, tasks,
    exceptions, array bases and iterators lead to.

    Not followed: modules, ``gc``, and the globals of modules that are not reroot's.
    """
    seen: dict[int, object] = {}
    found: list[tuple[str, object]] = []
    queue = deque((f"start{i}", start) for i, start in enumerate(starts))
    while queue:
        path, thing = queue.popleft()
        if id(thing) in seen or isinstance(thing, (ModuleType, str, bytes, int, float)):
            continue
        seen[id(thing)] = thing  # kept, so that no id is used twice
        found.append((path, thing))
        assert len(found) < limit, "the walk does not end"
        queue.extend((f"{path}.{name}", value) for name, value in _neighbours(thing))
    return found


_POINTERS: dict[type, tuple[str, ...]] = {
    MethodType: ("__self__", "__func__"),
    BuiltinMethodType: ("__self__",),
    partial: ("func", "args", "keywords"),
    property: ("fget", "fset"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    FrameType: ("f_locals", "f_back"),
    TracebackType: ("tb_frame", "tb_next"),
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
    CellType: ("cell_contents",),
    BaseException: ("__traceback__", "__cause__", "__context__", "args"),
    asyncio.Task: ("_coro", "_context", "_callbacks", "_result", "_exception"),
    asyncio.Handle: ("_callback", "_args", "_context"),
    np.ndarray: ("base",),
}


def _neighbours(thing: Any) -> Iterator[tuple[str, object]]:
    yield "__class__", type(thing)
    for kind, names in _POINTERS.items():
        if isinstance(thing, kind):
            yield from ((name, getattr(thing, name, None)) for name in names)
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in dict(thing).items())
        yield from (("key", key) for key in dict(thing))
    elif isinstance(thing, (list, tuple, set, frozenset, deque)):
        yield from ((f"[{i}]", value) for i, value in enumerate(thing))
    elif isinstance(thing, FunctionType):
        yield "__closure__", thing.__closure__
        yield "defaults", (thing.__defaults__, thing.__kwdefaults__, thing.__dict__)
        if thing.__module__.startswith("reroot"):
            yield "__globals__", thing.__globals__
    elif isinstance(thing, type):
        if thing.__module__.startswith("reroot"):
            yield "__dict__", dict(vars(thing))
    elif isinstance(thing, weakref.ref):
        yield "()", thing()
    elif type(thing) in (map, filter, zip, chain, type(iter(str, ""))):
        yield "__reduce__", thing.__reduce__()
    if not isinstance(thing, type):
        yield "__dict__", getattr(thing, "__dict__", None)
        for cls in type(thing).__mro__:
            slots = vars(cls).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                yield name, getattr(thing, name, None)
