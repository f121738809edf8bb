"""Failures of generators that answer one by one: who is told, and what is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from concurrent_toys import Driven, Held, Ticket, shuffled
from reroot import BackendError, Budget, Prefix, Query
from reroot.access.session import Session
from reroot.generators.base import Request
from reroot.types import Reply
from toys import (
    Failing,
    one_rollout,
    play,
    play_one,
    problems,
    tree,
)
from transcripts import left_in


async def tries(session: Session) -> Prefix:
    """Fails to ask two things at once, with others beside, then goes on with what is left."""
    told: list[object] = []
    asks = [[Query(n=1)], [Query(n=2), Query(n=3), Query(n=4)], [Query(n=2)]]
    for found in await asyncio.gather(*map(session.ask, asks), return_exceptions=True):
        told.append(type(found))
        assert session.spent.rollouts == 3
    assert told == [list, BackendError, list]
    return (await session.rollouts(5)).outputs()[0]


def fails(request: Request) -> bool:
    return request.n in (3, 4) and request.forced is None


@pytest.mark.slow(1)
def test_one_future_that_fails_is_that_message_alone(tmp_path: Path) -> None:
    """And what was set aside for it is given back."""
    settings: dict[str, Any] = {"budget": Budget(rollouts=16), "task": problems(4)}
    error = ValueError("too many")
    failing = Failing(fails, error)
    failing.inner = tree()
    plain = play(tries, generator=failing, out=tmp_path / "0", transcripts=True, **settings)
    assert [(a.error, a.cost.rollouts) for a in plain] == [(None, 8)] * 4
    with Driven(shuffled(1), failing) as generator:
        out = tmp_path / "1"
        assert play(tries, generator=generator, out=out, transcripts=True, **settings) == plain
    assert left_in(tmp_path / "0") == left_in(tmp_path / "1")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_first_failure_is_told_and_the_rest_is_cancelled(order: tuple[int, ...]) -> None:
    """Of three requests the last two fail, in any order."""
    states: list[bool] = []

    class Scripted(Held):
        def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
            futures = super().submit(requests)
            tickets = [*self.open]
            for i in order if len(tickets) > 1 else ():
                if not tickets[i][1].cancelled():
                    self.release(tickets[i], ValueError(f"no {i}") if i else None)
            states.extend(future.cancelled() for future in futures)
            return futures

    async def body(session: Session) -> None:
        await session.ask([Query(n=1), Query(n=2), Query(n=3)])

    attempt = play_one(body, generator=Scripted())
    assert "no 1" in str(attempt.error)
    assert attempt.cost.tokens == 0


def test_cancelled_after_a_failure() -> None:
    """What comes after it is no longer worked on, what comes before it is waited for."""
    seen: list[list[bool]] = []

    def pick(tickets: list[Ticket]) -> Ticket | None:
        wave = {t[0].n: t for t in tickets}
        if 2 in wave and len(generator.submitted) == 3:
            generator.open.remove(wave[2])
            wave[2][1].set_exception(ValueError("no"))
            wave[3][1].add_done_callback(lambda f: seen.append([f.cancelled()]))
            return None
        return tickets[0] if seen else None

    class Waking(Driven):
        pass

    with Waking(pick) as generator:

        def wake(*_: object) -> None:
            with generator._changed:
                generator._changed.notify_all()

        async def body(session: Session) -> None:
            await session.ask([Query(n=1), Query(n=2), Query(n=3)])

        timers = [threading.Timer(0.05 * i, wake) for i in range(1, 5)]
        for timer in timers:
            timer.start()
        attempt = play_one(body, generator=generator)
        for timer in timers:
            timer.join()
    assert "the generator failed: ValueError: no" in str(attempt.error)
    assert seen == [[True]]


@pytest.mark.parametrize("how", ["raises", "few", "none", "cancels"])
def test_a_generator_that_breaks_the_protocol(how: str) -> None:
    """It fails each message that it cannot take, and no other."""

    class Broken(Driven):
        def submit(self, requests: Sequence[Request]) -> list[Any]:
            bad = any(r.n == 2 for r in requests)
            if bad and how == "raises":
                raise ValueError("not two")
            futures: list[Any] = super().submit(requests)
            if bad and how == "cancels":
                for ticket in [t for t in self.open if t[0].n == 2]:
                    ticket[1].cancel()
            if bad and how == "none":
                return [None for _ in futures]
            return futures[: -1 if bad and how == "few" else None]

    async def body(session: Session) -> Prefix:
        n = 1 + int(session.rng.integers(2))
        return (await session.rollouts(n)).outputs()[0]

    with Broken(lambda tickets: tickets[0]) as generator:
        attempts = play(body, task=problems(12), generator=generator)
    failed = [attempt for attempt in attempts if attempt.error]
    assert 0 < len(failed) < 12
    said = {
        "raises": "the generator failed: ValueError: not two",
        "few": "1 requests got 0 futures",
        "none": "1 requests got 1 futures, or what is none",
        "cancels": "the generator failed: CancelledError",
    }
    assert all(said[how] in str(attempt.error) for attempt in failed)
    assert all(attempt.cost.tokens == 0 for attempt in failed)


def test_a_surprisal_that_nobody_knows() -> None:
    inner = Failing(lambda request: request.forced is not None, ValueError("no scores"))
    inner.inner = tree()
    with Driven(shuffled(0), inner) as generator:
        attempts = play(one_rollout, task=problems(5), generator=generator)
    assert [(a.error, a.surprisal) for a in attempts] == [(None, None)] * 5
    assert attempts == play(one_rollout, task=problems(5), generator=inner)
