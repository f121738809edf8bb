"""What a session answers: exact values, equal streams, and ordinary asyncio around it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

import reroot
from reroot import (
    Budget,
    BudgetExceeded,
    Contract,
    InvalidInput,
    Prefix,
    Query,
    Report,
    Sampling,
)
from reroot.access.session import Session
from reroot.generators.law import sampling_laws
from reroot.types import Cost, Reply
from toys import (
    END,
    H,
    K,
    Wrapped,
    as_learner,
    ask_and_tell,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    tree,
)

EVERYTHING = "chosen/full+reward+verifier+demonstration"
TREE = tree()


def test_public_facts() -> None:
    async def look(session: Session) -> list[object]:
        assert session.rng.random() != session.rng.random()
        assert repr(session) == f"<session {session.contract}, H=4, K=4>"
        ended = [session.is_complete(p) for p in (Prefix(), Prefix((1,)), Prefix((1, END)))]
        full = session.is_complete(Prefix((1,) * 4))
        return [session.root, session.prompt, session.horizon, session.vocab_size, *ended, full]

    task = problem(prompt=(1,), max_tokens=4)
    facts = ask_and_tell(look, "root/sample@T=0.5", task=task, budget=Budget(tokens=9))
    assert facts == [Prefix(), (1,), 4, K, False, False, True, True]


def test_contract_and_budget_are_shown() -> None:
    async def look(session: Session) -> tuple[Contract, Budget, Cost]:
        return session.contract, session.budget, session.spent

    contract, budget, spent = ask_and_tell(look, "reset/topk(2)", budget=Budget(tokens=9))
    assert contract == Contract.parse("reset/topk(2)@T=1")
    assert budget == Budget(tokens=9)
    assert spent == Cost()


@pytest.mark.parametrize("law", ["T=1", "T=0.5", "T=1,top_k=2", "T=2,top_p=0.7", "T=0"])
def test_laws_scores_and_lists_are_exact(law: str) -> None:
    """Against the enumerated tree, under the sampling law of the contract."""

    async def ask(session: Session) -> list[Any]:
        here = (0, 2)
        listed = await session.top_k(here, 2)
        return [await session.law(here), await session.score(here, (1, 2)), *listed]

    told, score, top, logs = ask_and_tell(ask, f"chosen/full@{law}")
    sampling = Sampling.parse(law)
    exact = sampling_laws(TREE.log_laws((), [(0, 2), (0, 2, 1)]), sampling)
    np.testing.assert_allclose(told, exact[0], atol=1e-12)
    np.testing.assert_allclose(score, [exact[0][1], exact[1][2]], atol=1e-12)
    order = np.argsort(-exact[0], kind="stable")[:2]
    assert top.tolist() == order.tolist()
    np.testing.assert_allclose(logs, exact[0][order], atol=1e-12)


def test_log_probabilities_of_rollouts_are_exact() -> None:
    async def ask(session: Session) -> Reply:
        return await session.rollouts(50, report=Report.LOGPROB)

    reply = ask_and_tell(ask, "root/logprob")
    exact = dict(TREE.enumerate_outputs())
    totals = [exact[reply.continuation(i)] for i in range(reply.n)]
    np.testing.assert_allclose(reply.total_logprobs(), totals, atol=1e-12)


def test_outputs_are_complete() -> None:
    async def ask(session: Session) -> bool:
        outputs = (await session.rollouts(100)).outputs()
        outputs += (await session.continuations((1,), 100)).outputs()
        return all(map(session.is_complete, outputs)) and len(set(map(len, outputs))) > 1

    assert ask_and_tell(ask, "chosen/sample")


@pytest.mark.parametrize("prefix", [(), (1,), (0, 2)])
def test_draws_are_one_stream(prefix: tuple[int, ...]) -> None:
    """Five draws and then three are the first eight, however they are asked."""

    async def split(session: Session) -> list[int]:
        parts = [await session.draws(prefix, 5), await session.draws(prefix, 3)]
        return [int(t) for part in parts for t in part.first_tokens()]

    async def at_once(session: Session) -> list[int]:
        query = Query(Prefix(prefix), 1, 1)
        return [int(r.tokens[0, 0]) for r in await session.ask([query] * 8)]

    async def interleaved(session: Session) -> list[int]:
        told: list[int] = []
        for n in (1, 4, 3):
            told += (await session.draws(prefix, n)).first_tokens().tolist()
            await session.draws((2,), n)  # another prefix, another stream
            await session.top_k(prefix, 1)  # no draw
        return told

    async def whole(session: Session) -> list[int]:
        return (await session.draws(prefix, 8)).first_tokens().tolist()

    expected = ask_and_tell(whole, "chosen/full")
    for body in (split, at_once, interleaved):
        assert ask_and_tell(body, "chosen/full") == expected


def test_rollouts_and_draws_at_the_root_share_a_stream() -> None:
    async def ask(session: Session) -> list[list[int]]:
        first = await session.draws((), 4)
        rest = await session.rollouts(4)
        return [first.first_tokens().tolist(), rest.first_tokens().tolist()]

    async def whole(session: Session) -> list[int]:
        return (await session.rollouts(8)).first_tokens().tolist()

    assert sum(ask_and_tell(ask, "reset/sample"), []) == ask_and_tell(whole, "reset/sample")  # noqa: RUF017


def test_draws_follow_the_law() -> None:
    """Chi-squared with 3 degrees of freedom at a fixed seed; error rate 1e-6 (quantile 30.7)."""
    n = 20_000

    async def draw(session: Session) -> list[int]:
        counts = (await session.draws((1,), n)).counts()
        return [counts.get(a, 0) for a in range(K)]

    counts = np.array(ask_and_tell(draw, "chosen/sample"))
    expected = n * np.exp(TREE.log_laws((), [(1,)])[0])
    assert ((counts - expected) ** 2 / expected).sum() < 30.7


@pytest.mark.parametrize("report", ["logprob", "topk(3)", "full"])
def test_richer_reports_change_no_token_and_no_price(report: str) -> None:
    """Served at ROOT with more than it looks at, a learner gets the same, bit by bit."""

    async def best(session: Session) -> Prefix:
        replies = [await session.rollouts(7, report=session.contract.report) for _ in range(3)]
        outputs = [o for reply in replies for o in reply.outputs()]
        return outputs[int(np.argmax(await session.rewards(outputs)))]

    plain = play(best, "root/sample+reward", task=problems(12))
    rich = play(best, f"root/{report}+reward", task=problems(12))
    assert [a.output for a in rich] == [a.output for a in plain]
    assert [a.cost for a in rich] == [a.cost for a in plain]
    assert len({a.output for a in plain}) > 3


def test_reports_by_default() -> None:
    """SAMPLE, or without draws what is granted."""

    async def ask(session: Session) -> tuple[bool, bool]:
        reply = await session.draws((), 1)
        return reply.top_tokens is not None, reply.laws is not None

    assert ask_and_tell(ask, "reset/full") == (False, False)
    assert ask_and_tell(ask, "reset/argmax(2)") == (True, False)


def test_oracles_say_what_the_problem_says() -> None:
    async def ask(session: Session) -> list[Any]:
        right, wrong = Prefix((1, 2, END)), Prefix((1, 0, END))
        return [
            await session.rewards([right, wrong]),
            await session.reward(right),
            await session.verify_all([Prefix(), right[:1], wrong]),
            await session.verify(wrong),
            await session.demonstration(),
            await session.demonstration(2),
            await session.text(wrong),
        ]

    assert ask_and_tell(ask, EVERYTHING) == [
        *([1.0, 0.0], 1.0, [True, True, False], False),
        *(Prefix((1, 2, END)), Prefix((1, 2)), "1 0"),
    ]


def test_prefixes_may_be_plain_sequences() -> None:
    async def ask(session: Session) -> list[tuple[int, ...]]:
        replies = [await session.draws(p, 1) for p in ((1, 2), [1, 2], Prefix((1, 2)))]  # type: ignore[arg-type]
        return [r.prefix.tokens for r in replies]

    assert ask_and_tell(ask, "chosen/sample") == [(1, 2)] * 3


def test_nothing_asked_is_nothing_answered() -> None:
    async def ask(session: Session) -> list[Any]:
        return [await session.ask([]), await session.rewards([]), await session.verify_all([])]

    generator = Wrapped()
    assert ask_and_tell(ask, EVERYTHING, generator=generator) == [[], [], []]
    assert generator.calls == 0


def test_a_refusal_leaves_the_session_usable() -> None:
    async def go_on(session: Session) -> Prefix:
        for wrong in (session.law(()), session.draws((9,), 1), session.rollouts(1000)):
            with pytest.raises(reroot.RerootError):
                await wrong
        return await one_rollout(session)

    attempt = play_one(go_on, budget=Budget(tokens=H))
    assert attempt.output is not None
    assert attempt.cost.rollouts == 1


# ---- asyncio ------------------------------------------------------------------------------------


def test_gather_and_task_groups_become_one_batch() -> None:
    generator = Wrapped()

    async def ask(session: Session) -> list[Reply]:
        together = await asyncio.gather(session.draws((), 2), session.draws((1,), 2))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(session.rollouts(1)) for _ in range(5)]
        return [*together, *(task.result() for task in tasks)]

    replies = ask_and_tell(ask, "reset/sample", generator=generator)
    assert [r.n for r in replies] == [2, 2, 1, 1, 1, 1, 1]
    assert generator.calls == 2


def test_tasks_are_answered_in_the_order_they_asked() -> None:
    """So that what a task gets does not depend on anything but the learner."""

    async def ask(session: Session) -> list[list[int]]:
        replies = await asyncio.gather(*(session.draws((), 3) for _ in range(4)))
        return [r.first_tokens().tolist() for r in replies]

    async def whole(session: Session) -> list[int]:
        return (await session.draws((), 12)).first_tokens().tolist()

    parts = ask_and_tell(ask, "reset/sample")
    assert [t for part in parts for t in part] == ask_and_tell(whole, "reset/sample")


def test_sleeping_threads_and_timeouts() -> None:
    async def mix(session: Session) -> list[Any]:
        await asyncio.sleep(0.01)
        thread = await asyncio.to_thread(threading.get_ident)
        assert thread != threading.get_ident()
        async with asyncio.timeout(60):
            reply = await session.rollouts(2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        sleeping = asyncio.gather(asyncio.sleep(0.02, "slept"), session.text(session.root))
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, event.set)
        await event.wait()
        return [reply.n, *await sleeping]

    assert ask_and_tell(mix) == [2, "slept", ""]


def test_a_task_that_polls_does_not_hold_back_what_is_asked() -> None:
    async def poll(session: Session) -> Prefix:
        done = False

        async def spin() -> None:
            while not done:
                await asyncio.sleep(0)

        spinner = asyncio.ensure_future(spin())
        output = await one_rollout(session)
        done = True
        await spinner
        return output

    attempt = play_one(poll)
    assert attempt.error is None
    assert attempt.output is not None


def test_cancelling_a_question_leaves_its_price() -> None:
    """It was asked; the answer finds nobody."""

    async def cancel(session: Session) -> Prefix:
        question = asyncio.ensure_future(session.rollouts(3))
        await session.text(session.root)
        await asyncio.sleep(0)
        question.cancel()
        return await one_rollout(session)

    attempt = play_one(cancel)
    assert attempt.error is None
    assert attempt.cost.rollouts == 4


def test_budget_errors_in_a_task_group_stop_the_learner_by_budget() -> None:
    async def spend(session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(session.rollouts(1))

    attempt = play_one(spend, budget=Budget(tokens=2 * H))
    assert (attempt.stopped, attempt.error) == ("budget", None)

    async def other(session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(session.law(()))

    attempt = play_one(other)
    assert attempt.stopped is None
    assert "ExceptionGroup" in str(attempt.error)
    assert "AccessDenied: refused Query(1 x length 1" in str(attempt.error)


def test_a_budget_stop_keeps_what_a_learner_returns() -> None:
    async def stop_in_time(session: Session) -> Prefix:
        found = await one_rollout(session)
        try:
            while True:
                await session.rollouts(1)
        except BudgetExceeded:
            return found

    attempt = play_one(stop_in_time, budget=Budget(rollouts=3))
    assert (attempt.stopped, attempt.cost.rollouts) == (None, 3)
    assert attempt.output is not None


def test_learners_are_bound_to_what_they_require() -> None:
    bound = as_learner(one_rollout)
    needy = reroot.learner(requires=Contract.parse("reset/full"))(bound.function)()
    with pytest.raises(reroot.AccessDenied, match="it requires reset/full"):
        reroot.run(needy, [problem()], TREE, grants="reset/sample")
    with pytest.raises(InvalidInput, match="made with @reroot"):
        reroot.run(one_rollout, [problem()], TREE, grants="reset/sample")  # type: ignore[arg-type]
