"""The meter: never overspent, whatever the interleaving; and the price of every verb."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot import (
    BackendError,
    Budget,
    BudgetExceeded,
    OracleError,
    Prefix,
    Query,
    Report,
)
from reroot.access.meter import Meter
from reroot.access.session import Session
from reroot.types import CURRENCIES, LIMITS, Cost
from toys import END, Failing, H, ask_and_tell, layered, play_one, problem

amounts = st.integers(0, 12)
costs = st.builds(Cost, *[amounts] * len(CURRENCIES))
budgets = st.builds(Budget, *[st.none() | amounts] * len(LIMITS))


@given(budgets, st.lists(st.tuples(costs, costs, st.integers(0, 3)), max_size=30), st.randoms())
def test_never_overspent_in_any_interleaving(
    budget: Budget, work: list[tuple[Cost, Cost, int]], random: Any
) -> None:
    """Reservations come and go in any order; at every moment spent + reserved fits."""
    meter = Meter(budget)
    pending: list[tuple[Cost, Cost]] = []
    spent, reserved = Cost(), Cost()

    def settle() -> None:
        nonlocal spent, reserved
        worst, actual = pending.pop(random.randrange(len(pending)))
        meter.settle(worst, actual)
        spent, reserved = spent + actual, reserved - worst

    def agrees() -> None:
        assert meter.spent == spent
        for currency in LIMITS:
            limit = getattr(budget, currency)
            used = getattr(spent, currency) + getattr(reserved, currency)
            assert meter.remaining(currency) == (None if limit is None else limit - used)
            assert limit is None or used <= limit

    for worst, less, settled in work:
        actual = Cost(*(min(getattr(worst, c), getattr(less, c)) for c in CURRENCIES))
        fits = all(
            (left := meter.remaining(c)) is None or getattr(worst, c) <= left for c in LIMITS
        )
        if fits:
            meter.reserve(worst)
            pending.append((worst, actual))
            reserved = reserved + worst
        else:
            with pytest.raises(BudgetExceeded) as refused:
                meter.reserve(worst)
            short = refused.value
            assert short.requested == getattr(worst, short.currency) > short.remaining
            assert short.remaining == meter.remaining(short.currency)
        agrees()
        for _ in range(min(settled, len(pending))):
            settle()
            agrees()
    while pending:
        settle()
    agrees()


def test_a_reservation_is_all_or_nothing() -> None:
    meter = Meter(Budget(tokens=10, queries=1))
    with pytest.raises(BudgetExceeded, match="may cost 2 queries, but 1 are left"):
        meter.reserve(Cost(tokens=5, queries=2))
    assert meter.remaining("tokens") == 10


def test_calls_are_rollouts_and_queries_together() -> None:
    meter = Meter(Budget(calls=5))
    meter.reserve(Cost(rollouts=2, queries=1, tokens=100))
    with pytest.raises(BudgetExceeded, match="may cost 3 calls, but 2 are left"):
        meter.reserve(Cost(rollouts=1, queries=2))
    meter.settle(Cost(rollouts=2, queries=1, tokens=100), Cost(rollouts=2, tokens=9))
    assert meter.spent.calls == 2
    assert meter.remaining("calls") == 3


def test_a_wrong_worst_case_is_a_bug_and_not_a_price() -> None:
    meter = Meter(Budget())
    meter.reserve(Cost(tokens=3))
    with pytest.raises(AssertionError, match="a worst case is wrong"):
        meter.settle(Cost(tokens=3), Cost(tokens=4))


# ---- prices -------------------------------------------------------------------------------------

PROMPT = (1, 2)
Verb = Callable[[Session], Awaitable[Any]]


async def rollouts(session: Session) -> tuple[int, Cost]:
    reply = await session.rollouts(7)
    return int(reply.lengths.sum()), Cost(rollouts=7, prefill=2)


async def whole_from_the_root(session: Session) -> tuple[int, Cost]:
    """A rollout by another name."""
    reply = await session.continuations((), 3, length=H)
    return int(reply.lengths.sum()), Cost(rollouts=3, prefill=2)


async def short_from_the_root(session: Session) -> tuple[int, Cost]:
    reply = await session.continuations((), 6, length=2)
    return int(reply.lengths.sum()), Cost(queries=6, prefill=2)


async def continuations(session: Session) -> tuple[int, Cost]:
    reply = await session.continuations((0, 0), 6)
    assert reply.lengths.max() <= 1
    return int(reply.lengths.sum()), Cost(queries=6, prefill=4)


async def draws(session: Session) -> tuple[int, Cost]:
    await session.draws((0,), 9)
    return 9, Cost(queries=9, prefill=3)


async def law(session: Session) -> tuple[int, Cost]:
    await session.law((0,))
    return 1, Cost(queries=1, prefill=3)


async def top_k(session: Session) -> tuple[int, Cost]:
    await session.top_k((0,), 2)
    return 1, Cost(queries=1, prefill=3)


async def score(session: Session) -> tuple[int, Cost]:
    await session.score((0,), (1, 2))
    return 0, Cost(queries=2, prefill=2 + 1 + 2)


async def two_at_once(session: Session) -> tuple[int, Cost]:
    queries = [Query(n=2), Query(Prefix((0,)), 3, 1), Query(forced=(1,), report=Report.LOGPROB)]
    replies = await session.ask(queries)
    return int(replies[0].lengths.sum()) + 3, Cost(rollouts=2, queries=4, prefill=2 + 3 + 3)


async def rewards(session: Session) -> tuple[int, Cost]:
    await session.rewards([Prefix((END,)), Prefix((END,))])
    return 0, Cost(rewards=2)


async def verifications(session: Session) -> tuple[int, Cost]:
    await session.verify_all([Prefix(), Prefix((1,)), Prefix((1,))])
    return 0, Cost(verifications=3)


async def demonstration(session: Session) -> tuple[int, Cost]:
    await session.demonstration(1)
    await session.demonstration(2)
    return 0, Cost(demonstrations=2)


async def values(session: Session) -> tuple[int, Cost]:
    await session.values([Prefix(), Prefix((END,)), Prefix((1,))])
    await session.value(Prefix())
    return 0, Cost(values=4)


async def layer_laws(session: Session) -> tuple[int, Cost]:
    """As a law, whatever the number of layers, and one state."""
    await session.layer_laws((0,), 2)
    return 1, Cost(queries=1, prefill=3, hidden_states=1)


async def features(session: Session) -> tuple[int, Cost]:
    await session.features([Prefix((END,)), Prefix((1, END))])
    return 0, Cost(prefill=(2 + 1) + (2 + 2), hidden_states=2)


async def free_of_charge(session: Session) -> tuple[int, Cost]:
    await session.text((0, 1))
    await session.ask([])
    await session.rewards([])
    assert session.is_complete(Prefix((END,)))
    return 0, Cost()


async def twice(session: Session) -> tuple[int, Cost]:
    """Nothing is cheaper the second time: what a backend caches is not the interface's price."""
    await session.law((0,))
    await session.law((0,))
    return 2, Cost(queries=2, prefill=6)


VERBS = [
    rollouts,
    whole_from_the_root,
    short_from_the_root,
    continuations,
    draws,
    law,
    top_k,
    score,
    two_at_once,
    rewards,
    verifications,
    demonstration,
    values,
    layer_laws,
    features,
    free_of_charge,
    twice,
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_the_price_of(verb: Verb) -> None:
    task = problem(prompt=PROMPT, max_tokens=3, demonstration=(1, END))

    async def pay(session: Session) -> None:
        tokens, cost = await verb(session)
        assert session.spent == cost + Cost(tokens=tokens)

    grants = "chosen/full+reward+verifier+demonstration+value+hidden"
    attempt = play_one(pay, grants, task=task, generator=layered())
    assert attempt.error is None, attempt.error


def test_discarded_branches_are_charged() -> None:
    """What a learner draws and throws away costs what it costs."""

    async def waste(session: Session) -> Prefix:
        await asyncio.gather(*(session.rollouts(4) for _ in range(5)))
        return (await session.rollouts(1)).outputs()[0]

    attempt = play_one(waste)
    assert attempt.cost.rollouts == 21
    assert attempt.cost.tokens > 21


def test_stop_tokens_save_tokens_that_were_set_aside() -> None:
    async def spend(session: Session) -> list[int]:
        reply = await session.rollouts(4)
        left = session.remaining("tokens")
        assert left == 4 * H - int(reply.lengths.sum())
        await session.rollouts(left // H)
        return [left]

    assert ask_and_tell(spend, budget=Budget(tokens=4 * H))[0] >= H


def test_a_failed_generator_gives_its_reservation_back() -> None:
    async def survive(session: Session) -> Prefix:
        with pytest.raises(BackendError, match="the generator failed; the record"):
            await session.continuations((), 4, length=2)
        assert session.spent == Cost()
        assert session.remaining("tokens") == 8
        return (await session.rollouts(1)).outputs()[0]

    generator = Failing(lambda q: q.length == 2, ValueError("down"))
    attempt = play_one(survive, "reset/sample", generator=generator, budget=Budget(tokens=8))
    assert attempt.error is None
    assert attempt.output is not None


def test_a_failed_oracle_is_paid() -> None:
    """Its work was done; otherwise a learner could call for free what makes a reward fail."""

    async def call(session: Session) -> None:
        with pytest.raises(OracleError):
            await session.reward(Prefix((END,)))
        assert session.spent == Cost(rewards=1)

    def broken(output: object) -> float:
        raise ZeroDivisionError("no")

    attempt = play_one(call, "root/sample+reward", task=problem(reward=broken))
    assert attempt.error is None


@pytest.mark.parametrize("currency", LIMITS)
def test_what_remains(currency: str) -> None:
    async def look(session: Session) -> int | None:
        await session.rollouts(1)
        await session.draws((), 1)
        return session.remaining(currency)

    assert ask_and_tell(look, "reset/sample") is None
    left = ask_and_tell(look, "reset/sample", budget=Budget(**{currency: 50}))
    most = {"rollouts": 49, "queries": 49, "calls": 48, "tokens": 48}.get(currency, 50)
    assert most - (H - 1) * (currency == "tokens") <= left <= most


def test_an_unknown_currency_is_named() -> None:
    async def ask(session: Session) -> None:
        session.remaining("euro")

    assert "unknown currency 'euro'; known: ['rollouts'" in str(play_one(ask).error)
