"""Attempts by a learner to reach around the door, and what hides in replies. Each one fails with a
clear error or reveals nothing; docs/security.md lists them, and says what is not protected."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import reroot
from attacks import EVERYTHING, force, is_refused
from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    BudgetExceeded,
    Contract,
    InvalidInput,
    Oracle,
    OracleError,
    Prefix,
    Query,
    Report,
)
from reroot.access.episode import Episode
from reroot.access.gate import Admitted, Gate
from reroot.access.learner_thread import LearnerTask, LearnerThread
from reroot.access.meter import Meter
from reroot.access.rules import PrefixRules
from reroot.access.runner import Job
from reroot.access.session import (
    Ask,
    Consult,
    Decode,
    Demonstrate,
    Envelope,
    Facts,
    Session,
)
from reroot.generators.stepping import SteppingGenerator
from reroot.runs.attempts import RunFolder
from reroot.tasks.base import Problem
from reroot.types import Reply
from toys import (
    END,
    Editing,
    Failing,
    H,
    Wrapped,
    ask_and_tell,
    play,
    play_one,
    problem,
    problems,
    reachable,
    tree,
)

BEHIND = (
    *(SteppingGenerator, Wrapped, Gate, Meter, PrefixRules, Episode, Admitted, Job, Problem),
    *(LearnerThread, RunFolder, SimpleQueue),
)
"""What no learner may reach. Other learners' turns would wait in the queues of the thread."""


# ---- reaching around the door -------------------------------------------------------------------

WALKS: list[tuple[int, list[tuple[str, object]]]] = []


async def look_around(session: Session) -> Prefix:
    """Everything that leads anywhere from here, with a reply and refusals at hand."""
    start = len(WALKS)
    reply = await session.rollouts(3)
    refusals: list[BaseException] = []
    for attack in (session.law(session.root), session.rollouts(10**6), session.draws((9,), 1)):
        try:
            await attack
        except reroot.RerootError as error:
            refusals.append(error)
    walk = reachable(
        *(session, reply, refusals, sys._getframe(), threading.current_thread()),
        *(session._loop, session._box, session._facts, asyncio.all_tasks(), session.ask),
    )
    WALKS.append((start, walk))
    return reply.outputs()[0]


@pytest.fixture
def walks() -> Iterator[list[list[tuple[str, object]]]]:
    WALKS.clear()
    attempts = play(look_around, "root/sample", task=problems(3), budget=Budget(tokens=10**6))
    assert all(a.passed or a.error is None for a in attempts)
    yield [walk for _, walk in WALKS]
    WALKS.clear()


def test_nothing_leads_behind_the_door(walks: list[list[tuple[str, object]]]) -> None:
    """No attribute, container, closure, frame, task, exception or array base does."""
    assert len(walks) == 3
    for walk in walks:
        assert len(walk) > 1000
        assert [(path, type(x)) for path, x in walk if isinstance(x, BEHIND)] == []


def test_nothing_leads_to_another_learner(walks: list[list[tuple[str, object]]]) -> None:
    for walk in walks:
        for kind in (Session, LearnerTask, Facts):
            assert len([x for _, x in walk if isinstance(x, kind)]) == 1, kind


def test_no_law_is_in_reach_of_samples(walks: list[list[tuple[str, object]]]) -> None:
    arrays = [x for walk in walks for _, x in walk if isinstance(x, np.ndarray)]
    assert arrays  # the tokens
    assert {a.dtype.kind for a in arrays} == {"i"}


def test_the_walk_finds_what_is_in_reach() -> None:
    """The three tests above can fail: a generator or a queue that is in reach is found."""
    secret, queue = tree(), SimpleQueue()
    found: list[object] = []

    async def careless(session: Session) -> None:
        await session.rollouts(1)
        _ = secret, queue.get
        found.extend(x for _, x in reachable(sys._getframe()))

    assert play_one(careless).error is None
    assert any(x is secret for x in found)
    assert any(x is queue for x in found)


def test_frames_end_in_the_learner_thread() -> None:
    async def climb(session: Session) -> list[str]:
        frame, files = sys._getframe(), []
        while frame is not None:
            files.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_name}")
            frame = frame.f_back
        return files

    files = ask_and_tell(climb)
    assert files[-1] == "learner_thread.py:take_turn"
    assert not {"runner.py", "gate.py", "running.py", "stepping.py", "tabular.py"} & {
        name.partition(":")[0] for name in files
    }


@pytest.mark.parametrize("private", ["generator", "gate", "meter", "rules", "episode", "contract_"])
def test_no_such_attribute(private: str) -> None:
    async def reach(session: Session) -> tuple[bool, list[str]]:
        return hasattr(session, private) or hasattr(session, f"_{private}"), dir(session)

    there, names = ask_and_tell(reach)
    assert not there
    own = {name for name in names if name.startswith("_") and not name.startswith("__")}
    assert own == {"_box", "_default", "_facts", "_loop", "_one", "_send", "_spent"}


@pytest.mark.parametrize("attack", [pickle.dumps, copy.copy, copy.deepcopy])
def test_sessions_are_not_copied(attack: Callable[[object], object]) -> None:
    async def duplicate(session: Session) -> None:
        attack(session)

    is_refused(duplicate, EVERYTHING, InvalidInput, "can't be pickled or copied")


class Revealing(BackendError):
    """A backend's error that carries the backend."""

    def __init__(self, text: str, backend: object) -> None:
        super().__init__(text, backend)
        self.backend = backend

    def __str__(self) -> str:
        return "out of memory"


def test_errors_carry_nothing_from_behind() -> None:
    """Refusals, failures of the generator and of oracles: no frame, cause, context or object."""
    generator = Failing(lambda q: q.length == 2, ValueError("x"))
    generator.error = Revealing("x", generator)
    caught: list[BaseException] = []

    async def collect(session: Session) -> None:
        attacks = (
            session.continuations((), 1, length=2),
            session.draws((1, 2), 1),
            session.rollouts(1000),
            session.draws((7,), 1),
            session.rewards([Prefix((0, END))]),
        )
        for attack in attacks:
            try:
                await attack
            except reroot.RerootError as error:
                caught.append(error)

    def broken(output: object) -> float:
        raise RuntimeError(generator)

    attempt = play_one(
        collect,
        "reset/sample+reward",
        generator=generator,
        task=problem(reward=broken),
        budget=Budget(tokens=100),
    )
    assert attempt.error is None
    kinds = [BackendError, AccessDenied, BudgetExceeded, InvalidInput, OracleError]
    assert [type(e) for e in caught] == kinds
    for error in caught:
        assert error.__cause__ is None
        assert error.__context__ is None
        assert all(isinstance(x, (str, int)) for x in [*error.args, *vars(error).values()])
        assert [p for p, x in reachable(error.__traceback__, error) if isinstance(x, BEHIND)] == []


def test_code_of_a_learner_never_runs_behind_the_door() -> None:
    """Iterators, conversions, comparisons, texts and finalizers of its objects run in its thread."""
    ran: list[tuple[str, int, bool]] = []

    def note(what: str) -> None:
        frame, behind = sys._getframe(), False
        while frame is not None:
            behind |= frame.f_code.co_filename.endswith(("gate.py", "runner.py", "rules.py"))
            frame = frame.f_back
        ran.append((what, threading.get_ident(), behind))

    class Tokens(list[int]):
        def __iter__(self) -> Iterator[int]:
            note("iter")
            return iter((Number(1), 2))

        def __len__(self) -> int:
            note("len")
            return 2

        def __repr__(self) -> str:
            note("repr")
            return "Tokens"

        def __del__(self) -> None:
            note("del")

    class Number(int):
        def __int__(self) -> int:
            note("int")
            return 1

        def __index__(self) -> int:
            note("index")
            return 1

        def __lt__(self, other: object) -> bool:
            note("lt")
            return True

    class Trouble(Exception):
        def __str__(self) -> str:
            note("str")
            return "trouble"

    def query() -> Query:
        return force(Query(), prefix=Tokens(), n=Number(1), length=Number(1), forced=None)

    async def by_the_verbs(session: Session) -> Any:
        await session.ask([query()])
        await session.draws(Tokens(), Number(2))  # type: ignore[arg-type]
        await session.score((), Tokens())
        await session.verify_all([Tokens()])  # type: ignore[arg-type]
        await session.demonstration(Number(1))
        return Tokens()

    def by_the_box(message: Any) -> Any:
        async def drop(session: Session) -> Any:
            await asyncio.sleep(0)
            session._box.append(Envelope(message(), session._loop.create_future()))
            await session.text(session.root)
            kept = Tokens()
            raise Trouble(kept)

        return drop

    forged = (
        lambda: Ask((query(),)),
        lambda: Ask(Tokens()),  # type: ignore[arg-type]
        lambda: Consult(Oracle.REWARD, (Tokens(),)),  # type: ignore[arg-type]
        lambda: Demonstrate(Number(1)),
        lambda: Decode(Tokens()),  # type: ignore[arg-type]
        lambda: Tokens(),
    )
    for body in (by_the_verbs, *map(by_the_box, forged)):
        play(body, EVERYTHING)
    assert {"iter", "int", "repr", "str", "del"} <= {what for what, _, _ in ran}
    assert threading.get_ident() not in {thread for _, thread, _ in ran}
    assert not any(behind for _, _, behind in ran)


# ---- replies ------------------------------------------------------------------------------------


def test_writing_into_replies_changes_nothing() -> None:
    """Not by force either: what is behind the door and what comes later is as before."""

    async def scribble(session: Session) -> tuple[list[Any], list[Any]]:
        first = [await session.continuations((), 4, report=Report.FULL), await session.law(())]
        kept = copy.deepcopy([first[0].laws, first[0].tokens, first[1]])
        for array in (first[0].laws, first[0].tokens, first[0].logprobs, first[1]):
            while array is not None:
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0
                try:
                    array.flags.writeable = True
                    array[...] = 0
                except ValueError:
                    pass
                array = array.base
        again = await session.law(())
        return kept, [again]

    kept, again = ask_and_tell(scribble, "chosen/full")
    exact = tree().log_laws((), [()])[0]
    np.testing.assert_array_equal(kept[2], exact)
    np.testing.assert_array_equal(again[0], exact)
    # another learner and another session get what they would have got anyway
    fresh = ask_and_tell(lambda s: s.continuations((), 4, report=Report.FULL), "chosen/full")
    np.testing.assert_array_equal(fresh.tokens, kept[1])
    np.testing.assert_array_equal(fresh.laws, kept[0])


def test_forged_replies_build_no_prefix() -> None:
    """A reply is the learner's to write on; what the generator emitted is remembered elsewhere."""

    async def forge(session: Session) -> None:
        reply = await session.draws((), 1)
        other = 1 - int(reply.tokens[0, 0]) if reply.tokens[0, 0] < 2 else 0
        reply.tokens.flags.writeable = True
        reply.tokens[...] = other
        force(reply, tokens=np.full((1, 1), other), lengths=np.array([1]))
        force(reply.prefix, tokens=(other,))
        await session.draws((other,), 1)

    is_refused(forge, "visited/sample", AccessDenied, "visited control permits")


FIELDS = ("logprobs", "top_tokens", "top_logprobs", "laws")


@pytest.mark.parametrize(
    ("report", "fields"),
    [
        (Report.SAMPLE, ()),
        (Report.LOGPROB, ("logprobs",)),
        (Report.ARGMAX(2), ("top_tokens", "top_logprobs")),
        (Report.TOPK(2), ("logprobs", "top_tokens", "top_logprobs")),
        (Report.FULL, ("logprobs", "laws")),
    ],
)
def test_replies_carry_what_the_report_names(report: Report, fields: tuple[str, ...]) -> None:
    """Also when the generator volunteers everything."""
    full = tree()

    def generous(request: Any, reply: Reply) -> Reply:
        asked = replace(request, report=Report.FULL if reply.n > 1 else request.report)
        rich = full.answer([replace(asked, report=Report.FULL)])[0] if reply.n > 1 else reply
        lists = full.answer([replace(request, n=1, report=Report.ARGMAX(2))])[0]
        return Reply(
            reply.prefix,
            reply.tokens,
            reply.lengths,
            reply.logprobs if reply.logprobs is not None else np.zeros(reply.tokens.shape),
            reply.top_tokens if reply.top_tokens is not None else lists.top_tokens,
            reply.top_logprobs if reply.top_logprobs is not None else lists.top_logprobs,
            reply.laws if reply.laws is not None else rich.laws,
        )

    async def look(session: Session) -> Reply:
        return await session.draws((), 1 if report.top and not report.draws else 5, report=report)

    reply = ask_and_tell(look, "chosen/full", generator=Editing(generous))
    assert tuple(name for name in FIELDS if getattr(reply, name) is not None) == fields
    if report.top:
        assert reply.top_tokens.shape == (reply.n, 1, 2)


def test_nothing_hides_beside_or_beyond_the_tokens() -> None:
    """A backend that cuts tokens from a buffer with the law in it, and fills the padding with it."""

    def leak(request: Any, reply: Reply) -> Reply:
        wide = np.full((reply.n, H + 8), 77)
        wide[:, : reply.tokens.shape[1]] = reply.tokens
        for row, length in zip(wide, reply.lengths.tolist(), strict=True):
            row[length:] = 77
        return Reply(reply.prefix, wide[:, : reply.tokens.shape[1]], reply.lengths)

    async def look(session: Session) -> Reply:
        return await session.rollouts(20)

    reply = ask_and_tell(look, "root/sample", generator=Editing(leak))
    assert reply.lengths.min() < reply.tokens.shape[1]  # some outputs end early
    assert reply.tokens.base is None
    assert reply.tokens.strides == (reply.tokens.shape[1] * 8, 8)
    assert 77 not in reply.tokens
    assert all((row[n:] == -1).all() for row, n in zip(reply.tokens, reply.lengths, strict=True))


# ---- what the caller and the learner share -----------------------------------------------------


def test_changing_the_callers_objects_changes_nothing() -> None:
    """Contract, report and budget of the caller may be within reach of a learner; the gate has its own."""
    contract, budget = Contract(reroot.Control.ROOT, Report.parse("sample")), Budget(tokens=8)
    tried: list[str] = []

    async def body(session: Session) -> None:
        object.__setattr__(contract.report, "kind", Report.FULL.kind)
        object.__setattr__(contract, "control", reroot.Control.CHOSEN)
        object.__setattr__(budget, "tokens", 10**6)
        for query in (Query(report=Report.FULL), Query(Prefix((1,)), 1, 1), Query(n=100)):
            try:
                await session.ask([query])
            except (AccessDenied, BudgetExceeded) as error:
                tried.append(type(error).__name__)

    play_one(body, contract, budget=budget)
    assert tried == ["AccessDenied", "AccessDenied", "BudgetExceeded"]
