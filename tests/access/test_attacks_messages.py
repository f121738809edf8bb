"""Attempts on oracles, budgets, the letter box and the randomness of others; docs/security.md lists them, and says what is not protected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attacks import EVERYTHING, FREE, force, is_refused
from reroot import (
    AccessDenied,
    Budget,
    BudgetExceeded,
    InvalidInput,
    Oracle,
    Prefix,
    Query,
)
from reroot.access.session import (
    Answer,
    Ask,
    AskHiddenStates,
    Consult,
    Decode,
    Demonstrate,
    Envelope,
    Session,
)
from reroot.types import Cost
from toys import (
    END,
    H,
    ask_and_tell,
    layered,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    tree,
)

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
