"""Requests that a contract does not grant: each one fails with a clear error; docs/security.md lists them, and says what is not protected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import reroot
from attacks import EVERYTHING, FREE, force, is_refused
from reroot import (
    AccessDenied,
    Budget,
    BudgetExceeded,
    Contract,
    InvalidInput,
    Oracle,
    Prefix,
    Query,
    Report,
)
from reroot.access.session import (
    Session,
)
from reroot.families import HiddenPath
from reroot.types import Cost, Reply
from toys import (
    END,
    H,
    K,
    Wrapped,
    ask_and_tell,
    play,
    play_one,
    problem,
)

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
        (lambda s: s.continuations((), 1, length=2), "visited/sample or episode/sample"),
        (lambda s: s.draws((), 1), "visited/sample or episode/sample"),
        (lambda s: s.draws((1,), 1), "chosen/sample"),
        (lambda s: s.score((), (1,)), "reset/logprob"),
        (lambda s: s.law(()), "visited/full or episode/full"),
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
