"""The kit for learners accepts good ones, and each of its checks fails on one that is spoiled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reroot import BudgetExceeded, Contract, InvalidInput, learner
from reroot.testing import LearnerConformance, check_learner
from reroot.testing.base import just_below

GOOD = [
    "best_of_n:n=3",
    "best_of_n:n=3,oracle=verifier",
    "greedy_walk",
    "plurality_walk:draws_per_token=3",
    "trie_search:nodes=40,a=0.4,b=0.2",
    "demo_prefix:reveal=2,n=2",
    "latent_exploration:k=2,d=2",
    "law_walk",
]


class Kit(LearnerConformance):
    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def make(self) -> Any:
        return self.subject


@pytest.mark.slow(1)
@pytest.mark.parametrize("spec", GOOD)
def test_good_learners_pass(spec: str) -> None:
    check_learner(spec)


@pytest.mark.slow(1)
def test_a_file_of_ones_own_passes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from reroot import learner\n"
        "from reroot.learners import get_learner\n"
        "best = get_learner('best_of_n').function\n"
        "@learner(requires='root/sample+reward')\n"
        "async def mine(session, *, n: int = 2):\n    'Best.'\n    return await best(session, n=n, oracle='reward')\n"
    )
    check_learner(f"{tmp_path / 'own.py'}:mine:n=3")


async def one(session: Any) -> Any:
    with suppress(BudgetExceeded):
        return (await session.rollouts(1)).outputs()[0]


@learner(requires="root/sample")
async def raises(session: Any) -> Any:
    """Raises."""
    raise RuntimeError("no")


@learner(requires="root/sample")
async def incomplete(session: Any) -> Any:
    """Stops early."""
    return session.root


@learner(requires="root/sample")
async def asks_for_more(session: Any) -> Any:
    """Needs more than it says."""
    await session.law(session.root)
    return await one(session)


@learner(requires="reset/logprob+reward")
async def asks_for_less(session: Any) -> Any:
    """Needs less than it says."""
    return await one(session)


@learner(requires="root/sample+reward")
async def looks_at_its_contract(session: Any) -> Any:
    """Does something else where more is granted."""
    if str(session.contract).startswith("chosen"):
        await one(session)
    reply = await session.rollouts(2)
    await session.rewards(reply.outputs()[:1])
    return reply.outputs()[0]


@learner(requires="root/sample")
async def spends_it_all_or_nothing(session: Any) -> Any:
    """Lets the budget's error through."""
    reply = await session.rollouts(2)
    return reply.outputs()[0]


@learner(requires="root/sample")
async def fails_when_poor(session: Any) -> Any:
    """Takes for granted that it can ask."""
    return [await one(session)][0] or 1 / 0


ORDER: list[int] = []


@learner(requires="root/sample")
async def remembers_others(session: Any) -> Any:
    """What ran before it decides."""
    ORDER.append(1)
    await asyncio.sleep(0)
    return (await session.rollouts(1 + len(ORDER) % 2)).outputs()[-1]


@learner(requires="root/sample")
async def takes_objects(session: Any, *, what: object) -> Any:
    """Has a parameter that no text can say."""
    return await one(session)


@learner(requires="root/sample")
async def silent(session: Any) -> Any:
    return await one(session)


@pytest.mark.parametrize(
    ("check", "spoiled", "said"),
    [
        ("01", raises, "it failed: RuntimeError: no"),
        ("01", incomplete, "no complete output"),
        ("01", asks_for_more, "it failed: AccessDenied"),
        ("02", asks_for_less, "is enough"),
        ("03", looks_at_its_contract, "under chosen/full"),
        ("04", spends_it_all_or_nothing, "lets BudgetExceeded through"),
        ("05", spends_it_all_or_nothing, "lets BudgetExceeded through"),
        ("05", fails_when_poor, "it failed: ZeroDivisionError"),
        ("06", remembers_others, "at a time it returns"),
        ("07", takes_objects(what=print), "cannot be written in a spec"),
        ("07", silent, "no docstring"),
    ],
)
def test_spoiled_learners_fail(check: str, spoiled: Any, said: str) -> None:
    (name,) = (n for n in Kit.checks() if n.startswith(f"test_{check}"))
    with pytest.raises(AssertionError, match=said):
        getattr(Kit(spoiled), name)()


def test_every_check_is_shown_to_fail() -> None:
    shown = {"01", "02", "03", "04", "05", "06", "07"}
    assert {name[5:7] for name in Kit.checks()} == shown


def test_what_failed_is_named() -> None:
    with pytest.raises(AssertionError, match=r"test_01.*\n(.*\n)*test_05"):
        check_learner(raises)
    with pytest.raises(AssertionError, match="Did you mean 'best_of_n'"):
        check_learner("best_of_m")


def test_contracts_just_below() -> None:
    below = {
        "visited/sample": {"root/sample"},
        "episode/sample": {"root/sample"},
        "chosen/sample": {"reset/sample"},
        "root/logprob+reward": {"root/sample+reward", "root/logprob"},
        "reset/argmax(2)": {"visited/argmax(2)", "episode/argmax(2)", "reset/logprob"},
        "root/topk(1)": {"root/logprob"},
        "root/topk(3)": {"root/topk(2)"},
        "root/full": {"root/topk(9)"},
        "root/sample": set(),
    }
    for text, known in below.items():
        assert set(map(str, just_below(Contract.parse(text)))) == known
    with pytest.raises(InvalidInput):
        Contract.parse("root")
