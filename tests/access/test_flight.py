"""A generator that answers each request when it can: nobody waits for others, and nothing else changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

import reroot
from concurrent_toys import Driven, Held, Ticket, shuffled
from reroot import Prefix
from reroot.access.runner import Attempt, execute
from reroot.access.session import Session
from reroot.generators.base import Generator, Request
from reroot.types import Reply
from toys import (
    jobs_for,
    layered,
    one_rollout,
    play,
    problem,
    problems,
    tree,
)

EVERYTHING = "reset/sample+reward+verifier"


# ---- the same results, whatever comes first -----------------------------------------------------


async def waves(session: Session) -> Prefix:
    """Many questions at the same moment, whose learner goes by its numbers, account and order."""
    told: list[Any] = []

    async def chain(start: int) -> None:
        for n in range(3):
            reply = await session.draws((), 1 + (start + n) % 3)
            told.append((start, session.spent, float(session.rng.random()), reply.tokens.tolist()))
            if start == 1:
                await session.verify(reply.outputs()[0])
                told.append(float(session.rng.random()))

    async with asyncio.TaskGroup() as group:
        for start in range(5):
            group.create_task(chain(start))
    way = sum(map(ord, str(told))) % 4
    output = (await session.rollouts(1 + way)).outputs()[way]
    return output[: max(1, len(output) - way % 2)]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_answers_reaches_no_learner(seed: int) -> None:
    plain = play(waves, EVERYTHING, task=problems(8))
    assert {str(attempt.error) for attempt in plain} == {"None"}
    with Driven(shuffled(seed)) as generator:
        assert play(waves, EVERYTHING, task=problems(8), generator=generator) == plain


@pytest.mark.parametrize("seed", range(2))
def test_beside_hidden_states_and_what_learners_wait_for_themselves(seed: int) -> None:
    """A call of features, naps and threads in between."""

    async def body(session: Session) -> Prefix:
        outputs = (await session.rollouts(3)).outputs()
        await asyncio.sleep(0.001 * float(session.rng.random()))
        laws, draws = await asyncio.gather(
            session.layer_laws(session.root, 2), session.draws((), 2)
        )
        await asyncio.to_thread(float, laws.sum())
        pick = int(draws.tokens.sum() + session.spent.tokens) % 3
        await session.features([o for o in outputs if session.is_complete(o)])
        return outputs[pick]

    grants = "chosen/full+hidden"
    plain = play(body, grants, task=problems(12), generator=layered())
    assert {str(attempt.error) for attempt in plain} == {"None"}
    with Driven(shuffled(seed), layered()) as generator:
        assert play(body, grants, task=problems(12), generator=generator) == plain


# ---- nobody waits for others ----------------------------------------------------------------------


def test_a_learner_goes_on_while_others_wait() -> None:
    """The first one's question stays open until the second has had all its own answered."""
    asked: dict[int, int] = {}
    four: dict[str, Any] = {"max_tokens": 4, "demonstration": None}

    def pick(tickets: list[Ticket]) -> Ticket | None:
        scores = [t for t in tickets if t[0].forced is not None]
        slow = [t for t in tickets if t[0].length == 5]
        fast = [t for t in tickets if t[0].length == 4]
        if scores:
            return scores[0]
        for request, _ in fast:
            asked[id(request)] = 1
        return fast[0] if fast else slow[0] if len(asked) >= 6 else None

    async def body(session: Session) -> Prefix:
        for _ in range(5):
            await session.rollouts(1)
        return await one_rollout(session)

    with Driven(pick) as generator:
        attempts = play(body, task=[problem("slow"), problem("fast", **four)], generator=generator)
    assert [attempt.error for attempt in attempts] == [None, None]
    lengths = [r.length for r in generator.submitted if r.forced is None]
    assert lengths == [5, *[4] * 6, *[5] * 5]


def test_no_more_in_flight_than_asked_for_and_new_ones_begin_at_once() -> None:
    """Three at a time; the first is held until all others are done."""
    order: list[str] = []

    def pick(tickets: list[Ticket]) -> Ticket | None:
        assert len(tickets) <= 3
        first = generator.submitted[0]
        others = [t for t in tickets if t[0].key != first.key]
        return others[0] if others else tickets[0] if len(order) == 9 else None

    def finished(attempt: Attempt) -> None:
        order.append(attempt.key)
        with generator._changed:
            generator._changed.notify_all()

    with Driven(pick) as generator:
        execute(
            jobs_for(one_rollout, problems(10), generator, "root/sample"),
            generator,
            concurrency=3,
            on_attempt=finished,
        )
    assert order == [f"p{i}" for i in (*range(1, 10), 0)]


@pytest.mark.slow(1)
def test_waiting_costs_nothing_and_takes_no_thread() -> None:
    """While everything is open the runner does nothing at all."""
    rounds: list[int] = []
    born: list[set[threading.Thread]] = []
    timer: list[threading.Timer] = []

    class Late(Held):
        def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
            futures = super().submit(requests)
            tickets = self.open[-len(requests) :]
            born.append(set(threading.enumerate()) - before)
            timer.append(threading.Timer(0.3, lambda: [*map(self.release, tickets)]))
            timer[-1].start()
            return futures

    before = set(threading.enumerate())
    generator = Late()
    execute(
        jobs_for(one_rollout, problems(50), generator, "root/sample"),
        generator,
        concurrency=50,
        on_attempt=lambda attempt: None,
        on_round=rounds.append,
    )
    for one in timer:
        one.join()
    assert not born[0]  # the learners' thread is no ``threading.Thread``: one for all
    assert len(generator.submitted) == 100
    assert len(rounds) < 2 * 100 + 10


# ---- judges ---------------------------------------------------------------------------------------


def test_a_judge_elsewhere_holds_up_nobody() -> None:
    """It says nothing until all other attempts are over; so does one that judges an output."""
    over, done = threading.Event(), list[str]()

    async def reward(output: reroot.Output) -> float:
        await asyncio.to_thread(over.wait, 20)
        return float(over.is_set())

    def tell(attempt: Attempt) -> None:
        done.append(attempt.key)
        if len(done) == 6:
            over.set()

    async def body(session: Session) -> Prefix:
        output = await one_rollout(session)
        if session.horizon == 4:
            assert await session.reward(output) == 1.0
        return await one_rollout(session)

    slow = [problem(i, max_tokens=4, reward=reward, demonstration=None) for i in "ab"]
    with Driven(shuffled(1)) as generator:
        jobs = jobs_for(body, [*slow, *problems(6)], generator, "root/sample+reward")
        made = list[Attempt]()
        execute(jobs, generator, concurrency=8, on_attempt=lambda a: (made.append(a), tell(a))[0])
    assert [attempt.error for attempt in made] == [None] * 8
    assert set(done[6:]) == {"a", "b"}
    assert [attempt.reward for attempt in made[6:]] == [1.0, 1.0]


@pytest.mark.slow(1)
def test_judges_over_their_time() -> None:
    """Of messages, and of outputs; beside others that answer."""

    async def reward(output: reroot.Output) -> float:
        if output.tokens[0] < 2:
            await asyncio.sleep(60)
        return 1.0

    async def body(session: Session) -> Prefix:
        pool = (await session.rollouts(4)).outputs()
        bad = [o for o in pool if o.tokens[0] < 2]
        good = [o for o in pool if o.tokens[0] >= 2]
        if bad:
            with pytest.raises(reroot.OracleError, match="a function of the task failed"):
                await session.rewards([*good, *bad])
        elif good:
            assert await session.rewards(good) == [1.0] * len(good)
        return pool[0]

    def run(generator: Generator) -> list[Attempt]:
        task = [problem(f"p{i}", reward=reward) for i in range(6)]
        return play(
            *(body, "root/sample+reward"), task=task, generator=generator, judge_timeout=0.05
        )

    plain = run(tree())
    assert {attempt.error and attempt.error.kind for attempt in plain} == {None, "OracleError"}
    with Driven(shuffled(1)) as generator:
        assert run(generator) == plain


def test_a_verifier_elsewhere_says_what_it_accepts() -> None:
    async def verifier(output: reroot.Output) -> bool:
        return 1 in output.tokens

    task = [problem(f"p{i}", verifier=verifier, reward=lambda o: 0.0) for i in range(8)]
    plain = play(one_rollout, task=task)
    assert {attempt.accepted for attempt in plain} == {True, False}
    with Driven(shuffled(1)) as generator:
        assert play(one_rollout, task=task, generator=generator) == plain


# ---- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["round", "attempt", "error"])
def test_what_is_open_at_the_end_is_cancelled(what: str) -> None:
    """A Ctrl-C before a round, an exception of who is told of attempts, or of their errors."""

    def pick(tickets: list[Ticket]) -> Ticket | None:
        picked.append("")
        return tickets[0] if len(picked) == 1 else None

    released, picked = list[object](), list[object]()

    async def body(session: Session) -> None:
        await one_rollout(session)
        released.append("")
        if what == "error":
            raise ValueError("mine")

    def stop(*_: object) -> None:
        if released:
            raise KeyboardInterrupt

    with Driven(pick) as generator, pytest.raises(KeyboardInterrupt):
        execute(
            jobs_for(body, problems(5), generator, "root/sample"),
            generator,
            concurrency=5,
            on_attempt=stop if what == "attempt" else lambda a: None,
            on_round=stop if what == "round" else lambda n: None,
            on_error=stop if what == "error" else None,
        )
    scores = [r for r, _ in generator.open if r.forced is not None]
    assert len(generator.open) == 4 + len(scores)
    assert all(future.cancelled() for _, future in generator.open)


@pytest.mark.slow(2)
def test_who_never_gives_the_thread_back_is_given_up_and_its_questions_are_never_asked() -> None:
    async def body(session: Session) -> Prefix:
        if session.rng.random() < 0.5:
            asyncio.ensure_future(session.rollouts(7))  # noqa: RUF006
            await session.verify(session.root)
            while True:
                pass
        return await one_rollout(session)

    with Driven(shuffled(0)) as generator:
        attempts = play(
            body,
            "root/sample+verifier",
            task=problems(4),
            generator=generator,
            attempt_timeout=0.2,
        )
    bad = [attempt for attempt in attempts if attempt.error]
    assert 0 < len(bad) < 4
    assert {attempt.error.kind for attempt in bad if attempt.error} == {"TimeoutError"}
    assert all(request.n != 7 for request in generator.submitted)


def test_no_wake_is_lost() -> None:
    """Four threads finish 4,000 futures while another one takes what came."""
    from reroot.access.inbox import Inbox
    from reroot.access.turns import wake

    futures: list[Future[Any]] = [Future() for _ in range(4000)]
    came: list[int] = []
    with Inbox() as inbox:
        for i, future in enumerate(futures):
            inbox.expect(future, lambda i=i: came.append(i))

        def finish(part: Sequence[Future[Any]]) -> None:
            for future in part:
                future.set_result(None)

        threads = [threading.Thread(target=finish, args=(futures[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        while len(came) < len(futures):
            wake([], 1.0, float("inf"), inbox.fd)
            for action in inbox.take():
                action()
        for thread in threads:
            thread.join()
        late: Future[Any] = Future()
        inbox.expect(late, lambda: came.append(-1))
    late.set_result(None)  # when nobody looks any more
    assert sorted(came) == list(range(4000))
