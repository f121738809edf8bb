"""Attempts by a learner to get more than its contract grants. Each one fails with a clear error or
reveals nothing; docs/security.md lists them, and says what is not protected."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import reroot
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
from reroot.access import learner_thread
from reroot.access.episode import Episode
from reroot.access.gate import Admitted, Gate
from reroot.access.learner_thread import LearnerTask, LearnerThread
from reroot.access.meter import Meter
from reroot.access.rules import PrefixRules
from reroot.access.runner import Job
from reroot.access.session import (
    Answer,
    Ask,
    AskHiddenStates,
    Consult,
    Decode,
    Demonstrate,
    Envelope,
    Facts,
    Session,
)
from reroot.families import HiddenPath
from reroot.generators.stepping import SteppingGenerator
from reroot.runs.attempts import RunFolder
from reroot.tasks.base import Problem
from reroot.types import Cost, Reply
from toys import (
    END,
    Editing,
    Failing,
    H,
    K,
    Wrapped,
    ask_and_tell,
    layered,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    reachable,
    tree,
)

FREE = Cost()
EVERYTHING = "chosen/full+reward+verifier+demonstration"

BEHIND = (
    *(SteppingGenerator, Wrapped, Gate, Meter, PrefixRules, Episode, Admitted, Job, Problem),
    *(LearnerThread, RunFolder, SimpleQueue),
)
"""What no learner may reach. Other learners' turns would wait in the queues of the thread."""


def force(record: object, **fields: object) -> Any:
    """Change a frozen record behind its back."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)
    return record


def is_refused(
    attack: Callable[[Session], Any],
    grants: str,
    error: type[Exception],
    message: str,
    **settings: Any,
) -> None:
    """The attack gets ``error`` saying ``message``."""
    spent: list[Cost] = []

    async def attempt(session: Session) -> None:
        with pytest.raises(error) as caught:
            await attack(session)
        assert message in str(caught.value)
        assert caught.value.__cause__ is None
        spent.append(session.spent)

    outcome = play_one(attempt, grants, **settings)
    assert outcome.error is None, outcome.error
    assert spent == [outcome.cost]


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
    assert files[-1] == "learner_thread.py:_take_turn"
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


# ---- prefixes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "grants", "message"),
    [
        ((1,), "reset/full", "weakest contract that allows it: chosen/sample"),
        ((1, 2), "reset/full", "weakest contract that allows it: chosen/sample"),
        ((1,), "visited/full", "visited control permits"),
        ((1,), "root/full", "root control permits only complete rollouts"),
    ],
)
def test_prefixes_that_were_never_built(prefix: tuple[int, ...], grants: str, message: str) -> None:
    """∅'s child before ∅ was asked; a grandchild; at weaker levels any chosen prefix."""
    is_refused(lambda s: s.draws(prefix, 1), grants, AccessDenied, message)


def test_a_grandchild_of_an_asked_prefix() -> None:
    async def skip_one(session: Session) -> None:
        await session.draws((), 1, report=Report.SAMPLE)
        await session.draws((1,), 1)  # a child: permitted
        await session.draws((2, 2), 1)

    is_refused(skip_one, "reset/sample", AccessDenied, "parent was asked or visited")


def test_prefixes_that_another_session_built() -> None:
    """Two learners on the same generator at the same time: what one builds the other has not."""
    errors: dict[str, str] = {}
    built = asyncio.Event()

    async def builder_or_thief(session: Session) -> None:
        mine = session.prompt == ()
        if mine:
            await session.draws((), 64)
            await session.draws((1,), 64)
            built.set()
        else:
            await session.text(session.root)
        try:
            await session.draws((1, 2), 1)
        except AccessDenied as error:
            errors["builder" if mine else "thief"] = error.weakest

    tasks = [problem("a"), problem("b", prompt=(1,), max_tokens=4)]
    play(builder_or_thief, "reset/sample", task=tasks)
    assert errors == {"thief": "chosen/sample"}


def test_oracles_and_texts_build_no_prefix() -> None:
    async def build(session: Session) -> None:
        shown = await session.demonstration()
        await session.reward(shown)
        await session.verify(shown[:1])
        await session.text(shown[:1])
        await session.draws(shown[:1], 1)

    attempt = play_one(build, "reset/sample+reward+verifier+demonstration")
    assert "AccessDenied" in str(attempt.error)


class Growing(Prefix):
    """A prefix that says something else every time it is read."""

    __slots__ = ("reads",)

    def __iter__(self) -> Iterator[int]:
        object.__setattr__(self, "reads", getattr(self, "reads", 0) + 1)
        return iter((1, 2, 0)[: self.reads])

    def __len__(self) -> int:
        return 0


def test_prefixes_that_change_between_check_and_use() -> None:
    """It is read once, and what was read is what is checked, asked, charged and answered."""
    generator = Wrapped()

    async def change(session: Session) -> tuple[Reply, Cost]:
        await session.draws((), 1)
        before = session.spent
        return await session.draws(Growing(), 1), session.spent - before

    reply, cost = ask_and_tell(change, "reset/sample", generator=generator)
    assert reply.prefix == Prefix((1,))
    assert type(reply.prefix) is Prefix
    assert generator.requests[-1].prefix == (1,)
    assert cost == Cost(queries=1, tokens=1, prefill=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": -5}, "n >= 1"),
        ({"n": 2.0}, "n must be an integer, got 2.0"),
        ({"n": None}, "n must be an integer, got None"),
        ({"length": "5"}, "length must be an integer, got '5'"),
        ({"prefix": Prefix((9,))}, "token 9 is outside the vocabulary"),
        ({"prefix": force(Prefix(), tokens=(0.5,))}, "tokens must be integers, got 0.5"),
        ({"prefix": None}, "expected a Prefix"),
        ({"report": "full"}, "a query's report must be a Report"),
        ({"report": force(Report(Report.SAMPLE.kind), kind=99)}, "a report is Report.SAMPLE"),
        ({"report": force(Report.TOPK(2), k=2.5)}, "needs an integer k"),
        ({"forced": "12"}, "tokens must be integers"),
        ({"forced": 7}, "tokens must be a sequence of integers"),
    ],
)
def test_queries_forged_after_they_were_made(fields: dict[str, object], message: str) -> None:
    is_refused(lambda s: s.ask([force(Query(), **fields)]), EVERYTHING, InvalidInput, message)


def test_a_kind_of_query_of_its_own() -> None:
    @dataclass(frozen=True)
    class Sly(Query):
        pass

    is_refused(lambda s: s.ask([Sly()]), EVERYTHING, InvalidInput, "ask takes Query objects")
    is_refused(lambda s: s.ask(["query"]), EVERYTHING, InvalidInput, "ask takes Query objects")  # type: ignore[list-item]


def test_queries_changed_while_they_are_on_their_way() -> None:
    """After it was sent, a query, its prefix and its report are the learner's no more."""
    generator = Wrapped()

    async def change(session: Session) -> Reply:
        query = Query(Prefix(), 1, 1, Report.SAMPLE)
        task = asyncio.ensure_future(session.ask([query]))
        await asyncio.sleep(0)
        (envelope,) = session._box
        assert envelope.message.queries[0] is not query  # type: ignore[union-attr]
        force(query, n=1000, report=Report.FULL)
        force(query.prefix, tokens=(1, 2))
        return (await task)[0]

    reply = ask_and_tell(change, "reset/sample", generator=generator)
    assert (reply.n, reply.laws, reply.prefix.tokens) == (1, None, ())
    assert [(q.n, q.report, q.prefix) for q in generator.requests] == [(1, Report.SAMPLE, ())]


# ---- sizes and tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(n=0), "n >= 1 continuations, got 0"),
        (Query(n=-1), "n >= 1 continuations, got -1"),
        (Query(length=0), "length >= 1 or None, got 0"),
        (Query(length=-3), "length >= 1 or None, got -3"),
        (Query(n=10**12), "ask in smaller pieces"),
        (Query(n=2**40, length=2**40), "ask in smaller pieces"),  # 2**80 wraps round to 0
        (Query(n=2**63, length=1), "ask in smaller pieces"),
        (Query(n=2**26, length=H, report=Report.FULL), "ask in smaller pieces"),
        (Query(n=2, report=Report.ARGMAX(1)), "takes n = 1, got n = 2"),
        (Query(report=Report.NONE), "reports nothing"),
        (Query(forced=(), report=Report.FULL), "at least one given token"),
        (Query(forced=(1,), n=2, report=Report.FULL), "takes n = 1"),
        (Query(forced=(1,), length=1, report=Report.FULL), "no length"),
        (Query(forced=(1,) * (H + 1), report=Report.FULL), "at most 5"),
    ],
)
def test_sizes_that_make_no_sense(query: Query, message: str) -> None:
    is_refused(lambda s: s.ask([query]), EVERYTHING, InvalidInput, message)


def test_many_queries_that_are_too_large_together() -> None:
    many = [Query(n=2**24, length=1)] * 40
    is_refused(lambda s: s.ask(many), EVERYTHING, InvalidInput, "all that is asked at once")


@pytest.mark.parametrize(
    "tokens", [(0.0,), (True,), (np.float64(1),), (np.bool_(1),), ("1",), (None,), ((1,),), "12"]
)
def test_tokens_that_are_no_integers(tokens: Any) -> None:
    for verb in (
        lambda s: s.draws(tokens, 1),
        lambda s: s.verify(tokens),
        lambda s: s.text(tokens),
        lambda s: s.score((), tokens),
    ):
        with pytest.raises(AssertionError, match="InvalidInput"):
            ask_and_tell(verb, EVERYTHING)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, int])
def test_integers_of_numpy_are_tokens(integer: Callable[[int], Any]) -> None:
    async def ask(session: Session) -> Prefix:
        return (await session.draws((integer(1), integer(2)), integer(3))).prefix

    prefix = ask_and_tell(ask, "chosen/sample")
    assert prefix.tokens == (1, 2)
    assert {type(t) for t in prefix.tokens} == {int}


@pytest.mark.parametrize("token", [-1, K, 2**31, 2**63, 2**70, -(2**70)])
def test_tokens_outside_the_vocabulary(token: int) -> None:
    for verb in (
        lambda s: s.draws((token,), 1),
        lambda s: s.score((), (token,)),
        lambda s: s.verify((token,)),
        lambda s: s.text((1, token)),
    ):
        is_refused(verb, EVERYTHING, InvalidInput, "outside the vocabulary 0…3")


def test_going_on_after_the_end() -> None:
    for verb, message in (
        (lambda s: s.draws((1, END, 1), 1), "goes on after the stop token 3 at position 1"),
        (lambda s: s.score((), (1, END, 1)), "goes on after the stop token"),
        (lambda s: s.draws((1, END), 1), "is a complete output: nothing follows it"),
        (lambda s: s.draws((1,) * H, 1), "is a complete output: nothing follows it"),
        (lambda s: s.draws((1,) * (H + 1), 1), "outputs have at most 5"),
        (lambda s: s.verify((END, 1)), "goes on after the stop token"),
    ):
        is_refused(verb, EVERYTHING, InvalidInput, message)


# ---- control and reports ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "weakest"),
    [
        (lambda s: s.continuations((), 1, length=2), "visited/sample"),
        (lambda s: s.draws((), 1), "visited/sample"),
        (lambda s: s.draws((1,), 1), "chosen/sample"),
        (lambda s: s.score((), (1,)), "reset/logprob"),
        (lambda s: s.law(()), "visited/full"),
        (lambda s: s.top_k((), 1), "visited/argmax(1)"),
    ],
)
def test_root_control_is_rollouts_only(attack: Callable[[Session], Any], weakest: str) -> None:
    message = f"The weakest contract that allows it: {weakest}."
    is_refused(attack, "root/full", AccessDenied, message)


@pytest.mark.parametrize("grants", ["root/full", "root/topk(3)", "root/argmax(2)@T=1"])
def test_the_mode_is_no_rollout(grants: str) -> None:
    """Following the most likely token walks straight down a hidden path, which rollouts cannot."""
    path = HiddenPath(4, 12, 0.5, seed=3)

    async def greedy(session: Session) -> Prefix:
        return (await session.rollouts(1, report=Report.ARGMAX(1))).outputs()[0]

    is_refused(
        *(greedy, grants, AccessDenied, "allows it: root/argmax(1)@T=0."),
        generator=path,
        task=path.problem(),
    )
    for declared in ("root/argmax(1)@T=0", "root/argmax(1)", "root/full@T=0", "reset/argmax(1)"):
        assert play_one(greedy, declared, generator=path, task=path.problem()).passed


def test_the_mode_is_not_emitted() -> None:
    """Under visited control a top-k list shows a token, but only a draw leads on to it."""

    async def follow(session: Session) -> None:
        tokens, _ = await session.top_k((), 1)
        await session.top_k((int(tokens[0]),), 1)

    async def walk(session: Session) -> None:
        await session.continuations((), 1, length=3, report=Report.ARGMAX(1))

    path = HiddenPath(4, 6, 0.5, seed=3)
    for attack in (follow, walk):
        is_refused(
            *(attack, "visited/full", AccessDenied, "allows it: reset/argmax(1)"),
            generator=path,
            task=path.problem(),
        )


def test_scoring_tokens_that_were_never_emitted() -> None:
    """Under visited control the tokens are the generator's choice, the last one too: otherwise K
    scores at one prefix would be its law."""

    path = HiddenPath(4, 6, 0.5, seed=3)

    async def score(session: Session, wrong: int) -> None:
        tokens = list((await session.rollouts(1)).continuation(0))
        assert len(await session.score((), tokens)) == 6  # emitted: permitted
        assert len(await session.score(tokens[:2], tokens[2:4])) == 2
        tokens[wrong] = (tokens[wrong] + 1) % 4
        await session.score((), tokens)

    for wrong in range(6):
        is_refused(
            lambda s, wrong=wrong: score(s, wrong),
            *("visited/logprob", AccessDenied, "allows it: reset/logprob"),
            generator=path,
            task=path.problem(),
        )


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        ("sample", Report.LOGPROB),
        ("sample", Report.ARGMAX(1)),  # incomparable
        ("logprob", Report.TOPK(1)),
        ("logprob", Report.ARGMAX(1)),
        ("topk(2)", Report.TOPK(3)),
        ("topk(2)", Report.ARGMAX(3)),
        ("topk(2)", Report.FULL),
        ("argmax(2)", Report.SAMPLE),  # incomparable
        ("argmax(2)", Report.ARGMAX(3)),
        ("argmax(2)", Report.TOPK(1)),
    ],
)
def test_reports_beyond_the_granted_one(granted: str, asked: Report) -> None:
    is_refused(
        lambda s: s.draws((), 1, report=asked),
        *(f"reset/{granted}", AccessDenied, f"the contract reports {granted}, not {asked}"),
    )


@pytest.mark.parametrize(
    "verb", [lambda s: s.law(()), lambda s: s.top_k((), 3), lambda s: s.score((), (1,))]
)
def test_verbs_beyond_the_granted_report(verb: Callable[[Session], Any]) -> None:
    is_refused(verb, "chosen/sample", AccessDenied, "the contract reports sample")


def test_changing_the_contract_and_budget_one_is_shown() -> None:
    async def promote(session: Session) -> None:
        force(session.contract, control=reroot.Control.CHOSEN, report=Report.FULL)
        force(session.contract, oracles=frozenset(Oracle))
        force(session.budget, tokens=None, rewards=None)
        with pytest.raises(AttributeError):  # a tuple: it can't be changed at all
            force(session.spent, tokens=-1000)
        for attack, error in (
            (session.law((1, 2)), AccessDenied),
            (session.demonstration(), AccessDenied),
            (session.rollouts(10), BudgetExceeded),
        ):
            with pytest.raises(error):
                await attack

    attempt = play_one(promote, "reset/sample", budget=Budget(tokens=20))
    assert attempt.error is None, attempt.error
    assert attempt.cost == FREE


def test_a_session_of_ones_own() -> None:
    """A new session with better facts on the same letter box is served by the same gate."""

    async def make(session: Session) -> None:
        facts = replace(session._facts, contract=Contract.parse(EVERYTHING), budget=Budget())
        await Session(facts, session._loop, session._box).law((1, 2))

    is_refused(make, "reset/sample", AccessDenied, "the contract reports sample")


# ---- oracles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "oracle"),
    [
        (lambda s: s.reward(Prefix((1,) * H)), "reward"),
        (lambda s: s.verify(Prefix()), "verifier"),
        (lambda s: s.demonstration(), "demonstration"),
        (lambda s: s.demonstration(0), "demonstration"),
        (lambda s: s._send(Consult(Oracle.REWARD, ())), "reward"),
        (lambda s: s._send(Demonstrate(1)), "demonstration"),
        (lambda s: s.value(Prefix()), "value"),
        (lambda s: s._send(Consult(Oracle.VALUE, ())), "value"),
        (lambda s: s.layer_laws(Prefix(), 1), "hidden"),
        (lambda s: s.features([Prefix((END,))]), "hidden"),
    ],
)
def test_oracles_that_are_not_granted(attack: Callable[[Session], Any], oracle: str) -> None:
    others = "".join(f"+{o}" for o in Oracle if str(o) != oracle)
    message = f"does not grant the {oracle} oracle. The weakest contract that allows it: root/none+{oracle}."
    generator = tree() if oracle == "hidden" else layered()
    is_refused(attack, f"chosen/full{others}", AccessDenied, message, generator=generator)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Consult(Oracle.DEMONSTRATION, ()), "is not consulted about prefixes"),
        (Consult("reward", ()), "expected an Oracle, got 'reward'"),  # type: ignore[arg-type]
        (Consult(Oracle.HIDDEN, ()), "is not consulted about prefixes"),
        (AskHiddenStates((Prefix(),), 1.5), "layers must be an integer"),  # type: ignore[arg-type]
        (AskHiddenStates((Prefix(),), True), "layers must be an integer, got True"),
        (AskHiddenStates((0.5,), 1), "expected a Prefix or a sequence"),  # type: ignore[arg-type]
        (Demonstrate(1.5), "length must be an integer"),  # type: ignore[arg-type]
        (Demonstrate(-1), "length >= 0, got -1"),
        (Answer(None, None, FREE), "a session sends messages, not Answer("),
        (None, "a session sends messages, not None"),
    ],
)
def test_forged_messages(message: Any, said: str) -> None:
    is_refused(lambda s: s._send(message), EVERYTHING, InvalidInput, said)


def test_rewards_are_for_complete_outputs() -> None:
    message = "outcome rewards are for complete outputs; [1 2] has 2 of 5 tokens"
    is_refused(lambda s: s.reward(Prefix((1, 2))), EVERYTHING, InvalidInput, message)


def test_demonstrations_are_paid_by_the_token() -> None:
    async def reveal(session: Session) -> list[int]:
        shown = [await session.demonstration(length) for length in (0, 1, 1, 99, None)]
        assert [len(s) for s in shown] == [0, 1, 1, 3, 3]
        return [session.spent.demonstrations]

    assert ask_and_tell(reveal, EVERYTHING) == [3]
    is_refused(
        lambda s: s.demonstration(),
        *(EVERYTHING, BudgetExceeded, "may cost 3 demonstrations, but 2 are left"),
        budget=Budget(demonstrations=2),
    )


# ---- budgets ------------------------------------------------------------------------------------


def test_sixty_four_tasks_overspend_together() -> None:
    async def rush(session: Session) -> int:
        async def one() -> bool:
            try:
                await session.rollouts(1)
            except BudgetExceeded:
                return False
            return True

        return sum(await asyncio.gather(*(one() for _ in range(64))))

    served = ask_and_tell(rush, "root/sample", budget=Budget(tokens=10 * H))
    assert served == 10  # the worst case of each was set aside before any was asked


def test_sixty_four_sessions_do_not_share_a_budget() -> None:
    async def spend(session: Session) -> None:
        while True:
            await session.rollouts(1)

    attempts = play(spend, task=problems(64), budget=Budget(rollouts=7, prefill=100, tokens=30))
    assert all(a.stopped == "budget" for a in attempts)
    assert all(a.cost.rollouts <= 7 and a.cost.tokens <= 30 for a in attempts)
    assert {a.cost.rollouts for a in attempts} >= {7}


@pytest.mark.parametrize(
    ("budget", "attack", "short"),
    [
        (Budget(tokens=9), lambda s: s.rollouts(2), "10 tokens, but 9"),
        (Budget(rollouts=1), lambda s: s.rollouts(2), "2 rollouts, but 1"),
        (Budget(queries=2, tokens=99), lambda s: s.draws((), 3), "3 queries, but 2"),
        (Budget(queries=1), lambda s: s.score((), (1, 2)), "2 queries, but 1"),
        (Budget(prefill=3), lambda s: s.ask([Query(Prefix((1, 2)))] * 2), "4 prefill, but 3"),
        (Budget(prefill=1), lambda s: s.score((), (1, 2)), "2 prefill, but 1"),
        (Budget(rewards=1), lambda s: s.rewards([Prefix((END,))] * 2), "2 rewards, but 1"),
        (Budget(verifications=0), lambda s: s.verify(()), "1 verifications, but 0"),
        (Budget(tokens=5), lambda s: s.ask([Query(length=3), Query(length=3)]), "6 tokens, but 5"),
    ],
)
def test_every_currency_is_hard(budget: Budget, attack: Any, short: str) -> None:
    """Also when a request would be affordable in every currency but one, or query by query."""
    is_refused(attack, EVERYTHING, BudgetExceeded, short, budget=budget)


def test_forging_the_account() -> None:
    async def forge(session: Session) -> None:
        await session.rollouts(1)
        session._spent = Cost(tokens=-(10**6))
        session._facts = replace(session._facts, budget=Budget())
        assert session.remaining("tokens") is None  # the learner fools itself
        await session.rollouts(100)

    attempt = play_one(forge, budget=Budget(tokens=50))
    assert attempt.stopped == "budget"
    assert 1 <= attempt.cost.tokens <= H


# ---- the letter box -----------------------------------------------------------------------------


def test_answering_oneself() -> None:
    """A learner that resolves its own future hears itself; the gate charges and answers as ever."""

    async def forge(session: Session) -> str:
        future = session._loop.create_future()
        session._box.append(Envelope(Demonstrate(None), future))
        future.set_result(Answer(Prefix((0,)), None, FREE))
        assert (await future).value == Prefix((0,))
        with pytest.raises(AccessDenied):
            await session.demonstration()
        return "done"

    assert ask_and_tell(forge, "root/sample") == "done"


def test_sending_an_envelope_twice() -> None:
    async def twice(session: Session) -> Cost:
        envelope = Envelope(Ask((Query(),)), session._loop.create_future())
        session._box.extend([envelope, envelope])
        (reply,) = (await envelope.future).value
        await session.text(reply.prefix)
        return session.spent

    assert ask_and_tell(twice, "root/sample").rollouts == 2  # asked twice, charged twice


@pytest.mark.parametrize(
    "forged",
    [
        "a letter",
        Envelope("a letter", None),  # type: ignore[arg-type]
        Envelope(Ask((Query(),)), None),  # type: ignore[arg-type]
        Envelope(Ask(None), None),  # type: ignore[arg-type]
        Envelope(Consult(Oracle.REWARD, (0.5,)), None),  # type: ignore[arg-type]
        Envelope(force(Decode(Prefix()), prefix=None), None),  # type: ignore[arg-type]
    ],
)
def test_forged_envelopes_end_the_attempt_alone(forged: Any) -> None:
    async def drop(session: Session) -> Prefix:
        if session.prompt:
            return await one_rollout(session)
        session._box.append(forged)
        return await one_rollout(session)

    honest = problem("honest", prompt=(1,), max_tokens=4)
    bad, good = play(drop, EVERYTHING, task=[problem("bad"), honest])
    assert bad.error is not None
    assert bad.output is None
    assert good.error is None
    assert good.output is not None


# ---- tasks, threads and the ways a learner may end ----------------------------------------------


def test_only_its_own_tasks_are_seen() -> None:
    async def count(session: Session) -> None:
        await session.rollouts(1)
        alone = asyncio.all_tasks()
        other = asyncio.ensure_future(asyncio.sleep(0))
        assert len(alone) == 1
        assert asyncio.all_tasks() == {*alone, other}
        await session.rollouts(1)

    assert [a.error for a in play(count, task=problems(8))] == [None] * 8


def test_tasks_do_not_outlive_their_learner() -> None:
    """What a background task has put into the box when its learner returns is never asked."""
    generator, late = Wrapped(), []

    async def leave_behind(session: Session) -> None:
        async def go_on() -> None:
            try:
                while True:
                    await session.rollouts(1)
                    late.append(1)
            finally:
                late.append(0)
                await session.rollouts(1)

        task = asyncio.ensure_future(go_on())
        await session.rollouts(1)
        await asyncio.sleep(0)
        assert not task.done()

    attempt = play_one(leave_behind, generator=generator)
    assert attempt.error is None
    assert attempt.cost.rollouts == len(generator.requests) == 2
    assert late == [1, 0]


def test_a_learner_that_asks_nothing() -> None:
    async def guess(session: Session) -> Prefix:
        return Prefix((1,) * H)

    attempt = play_one(guess)
    assert attempt.passed
    assert attempt.cost == FREE


async def _wait_for_nothing() -> None:
    await asyncio.get_running_loop().create_future()


async def _tick() -> None:
    while True:
        await asyncio.sleep(0.01)


async def _spin() -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("wait", [_wait_for_nothing, _tick, _spin])
def test_waiting_for_ever(wait: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_thread, "PATIENCE", 0.2)

    async def stall(session: Session) -> Prefix:
        if not session.prompt:
            await wait()
        return await one_rollout(session)

    stalled, good = play(stall, task=[problem(), problem("q", prompt=(1,), max_tokens=4)])
    assert str(stalled.error) == "stalled: went on for 0.2 s without asking its session"
    assert good.error is None


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Odd])
@pytest.mark.parametrize("where", ["learner", "task", "callback"])
def test_whatever_a_learner_raises_ends_its_attempt_alone(kind: Any, where: str) -> None:
    async def burst() -> None:
        raise kind("bang")

    def bang() -> None:
        raise kind("bang")

    async def explode(session: Session) -> Prefix:
        await session.text(session.root)
        if not session.prompt:
            if where == "learner":
                await burst()
            if where == "task":
                await asyncio.ensure_future(burst())
            asyncio.get_running_loop().call_soon(bang)
            for _ in range(5):
                await asyncio.sleep(0)
        return await one_rollout(session)

    tasks = [problem(), problem("q", prompt=(1,), max_tokens=4)]
    bad, good = play(explode, task=tasks)
    assert good.error is None
    assert good.output is not None
    if where == "callback" and kind in (GeneratorExit, Odd):
        return  # asyncio itself logs these and goes on
    assert f"{kind.__name__}: bang (line " in str(bad.error)
    assert bad.output is None
    assert not bad.passed


@pytest.mark.parametrize(
    ("garbage", "message"),
    [
        (object(), "the learner returned <object"),
        ("012", "the learner returned '012', expected a Prefix, a Finding or None"),
        ({1: 2}, "expected a Prefix, a Finding or None"),
        ([1.5], "tokens must be integers, got 1.5"),
        ([True], "tokens must be integers, got True"),
        ([[1]], "tokens must be integers"),
        ((9,), "token 9 is outside the vocabulary"),
        ((2**80,), "is outside the vocabulary"),
        ((1,) * 6, "outputs have at most 5"),
        ((END, 1), "goes on after the stop token"),
    ],
)
def test_returning_garbage(garbage: Any, message: str) -> None:
    async def return_it(session: Session) -> Any:
        return garbage

    attempt = play_one(return_it)
    assert message in str(attempt.error)
    assert attempt.output is None
    assert (attempt.reward, attempt.passed) == (0.0, False)


def test_breaking_ones_own_loop() -> None:
    """Stopping, closing or emptying it harms nobody else."""

    async def sabotage(session: Session) -> Prefix:
        if session.prompt:
            return await one_rollout(session)
        loop = asyncio.get_running_loop()
        loop.stop()
        with pytest.raises(RuntimeError):
            loop.close()
        session._box.clear()
        for task in asyncio.all_tasks():
            task.cancel()
        return await one_rollout(session)

    bad, good = play(sabotage, task=[problem(), problem("q", prompt=(1,), max_tokens=4)])
    assert str(bad.error) == "CancelledError: the learner cancelled itself"
    assert good.error is None


# ---- randomness ---------------------------------------------------------------------------------


def test_streams_of_learners_are_apart() -> None:
    async def draw(session: Session) -> tuple[list[float], list[Any]]:
        draws = await session.draws((), 40)
        return session.rng.random(4).tolist(), draws.first_tokens().tolist()

    one = ask_and_tell(draw, "reset/sample", task=problem("a"))
    same = ask_and_tell(draw, "reset/sample", task=problem("a"))
    other = ask_and_tell(draw, "reset/sample", task=problem("b"))
    seeded = ask_and_tell(draw, "reset/sample", task=problem("a"), seed=1)
    assert one == same
    for different in (other, seeded):
        assert one[0] != different[0]
        assert one[1] != different[1]


def test_asking_again_gives_fresh_draws() -> None:
    """The same question is a new experiment, whoever of the session asks it, and in whatever way."""

    async def again(session: Session) -> list[list[int]]:
        replies = [await session.draws((), 30), await session.draws((), 30)]
        replies += await asyncio.gather(session.draws((), 30), session.continuations((), 30))
        session.rng.bit_generator.state = session.rng.bit_generator.state
        return [r.first_tokens().tolist() for r in replies]

    streams = ask_and_tell(again, "reset/sample")
    assert len({tuple(s) for s in streams}) == 4
    assert streams == ask_and_tell(again, "reset/sample")


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
