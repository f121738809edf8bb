"""US dollars: exact amounts, never overspent, refused without prices, and unseen where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot import Budget, BudgetExceeded, InvalidInput, compare, run
from reroot.access.meter import Meter
from reroot.access.session import Session
from reroot.generators import Capabilities, Generator, Prices
from reroot.generators.remote.prices import Purse
from reroot.learners import get_learner
from reroot.types import Cost, Finding, Prefix
from toys import Wrapped, play_one, problems, tree

DRAW = Cost(queries=1, tokens=1, prefill=2)  # one token after (1, 2)


class Priced(Wrapped):
    """The toy generator at $0.1 per million generated tokens, and another price for prompts."""

    prices = Prices(0.03, 0.1)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, prices=self.prices)


decimals = st.integers(0, 10**6).map(lambda n: n / 1000)
costs = st.builds(Cost, prefill=st.integers(0, 50), tokens=st.integers(0, 50))


@given(decimals, decimals, decimals, st.lists(st.tuples(costs, costs), max_size=20))
def test_spent_and_reserved_dollars_never_pass_the_limit(
    prompt: float, generated: float, limit: float, work: list[tuple[Cost, Cost]]
) -> None:
    """Against decimals: a request is refused if and only if it does not fit."""
    prices = Prices(prompt, generated)
    meter = Meter(Budget(usd=limit / 1000), prices)
    most, used = Fraction(str(limit / 1000)), Fraction(0)
    for i, (worst, actual) in enumerate(work):
        needed = (
            Fraction(str(prompt)) * worst.prefill + Fraction(str(generated)) * worst.tokens
        ) / 10**6
        if used + needed > most:
            with pytest.raises(BudgetExceeded, match="usd"):
                meter.reserve(worst)
            continue
        meter.reserve(worst)
        actual = Cost(*map(min, worst, actual))
        if i % 2:  # every other one stays reserved
            meter.settle(worst, actual)
            needed = prices.usd(actual)
        used += needed
        assert meter.remaining("usd") == most - used >= 0


def test_three_tenths_are_three_times_a_tenth() -> None:
    """In binary fractions 3 x 0.1 is more than 0.3."""
    meter = Meter(Budget(usd=0.3), Prices(0, 0.1))
    for _ in range(3):
        meter.reserve(Cost(tokens=10**6))
    assert meter.remaining("usd") == 0


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf"), True, "1"])
def test_amounts_are_finite_numbers(amount: Any) -> None:
    with pytest.raises(InvalidInput, match="budget usd must be a number >= 0 or None, got"):
        Budget(usd=amount)
    with pytest.raises(InvalidInput, match="price of prompt tokens"):
        Prices(amount, 0.0)


def spend(seen: list[Any]) -> Callable[[Session], Any]:
    """One draw after another until one is refused."""

    async def learner(session: Session) -> Finding:
        done = 0
        try:
            while True:
                await session.draws(session.root.extend((1, 2)), 1)
                done += 1
        except BudgetExceeded as error:
            seen.extend([done, error.currency, session.remaining("usd")])
        return Finding(None, {"done": done})

    return learner


@pytest.mark.parametrize(("spare", "fits"), [(0, 5), (-1, 4), (1, 5)])
def test_a_session_buys_exactly_what_its_dollars_buy(spare: int, fits: int) -> None:
    seen: list[Any] = []
    generator = Priced(tree())
    each = Priced.prices.usd(DRAW)
    limit = float(5 * each + Fraction(spare, 10**12))
    attempt = play_one(spend(seen), "chosen/sample", generator=generator, budget=Budget(usd=limit))
    left = Fraction(str(limit)) - Priced.prices.usd(attempt.cost)
    assert seen == [fits, "usd", left]
    assert 0 <= left < each


@pytest.mark.parametrize("learner", ["best_of_n:n=40", "smc", "beam_search", "vgb"])
def test_learners_keep_within_dollars_and_return_what_they_found(learner: str) -> None:
    bound = get_learner(learner)
    for limit in (0.0, 2e-6, 1e-5):
        result = run(
            bound, problems(2), Priced(tree()), grants=bound.requires, budget=Budget(usd=limit)
        )
        for attempt in result.attempts:
            assert attempt.error is None
            assert Priced.prices.usd(attempt.cost) <= Fraction(str(limit))


@pytest.mark.parametrize("ask", ["run", "compare"])
def test_generators_without_prices_are_refused(ask: str, tmp_path: Path) -> None:
    def begin() -> object:
        if ask == "run":
            grants = "root/sample+reward"
            return run("best_of_n:n=1", problems(1), tree(), grants=grants, budget="usd=1")
        return compare(generator=tree(), problems=problems(1), out=tmp_path / "x", budget_usd=1.0)

    with pytest.raises(
        InvalidInput, match=r"needs a generator that declares prices .* declares none"
    ):
        begin()
    assert not (tmp_path / "x").exists()


def made(generator: Generator, folder: Path, **budget: Any) -> dict[str, Any]:
    """The files of a small comparison: configuration, summary and the heads of transcripts."""
    compare(
        generator=generator, problems=problems(2), grants="root/sample+reward", learners="best_of_n:n=4",
        seeds=1, out=folder, transcripts=True, **budget,
    )  # fmt: skip
    read = {n: json.loads((folder / n).read_text()) for n in ("config.json", "summary.json")}
    lines = [p.read_text().splitlines()[0] for p in sorted(folder.glob("transcripts/*"))]
    return {**read, "heads": list(map(json.loads, lines))}


def test_a_comparison_shares_dollars_and_shows_them(tmp_path: Path) -> None:
    found = made(Priced(tree()), tmp_path / "a", budget_usd=0.00002)
    assert found["config.json"]["budget"] == {"usd": 0.00001}
    assert found["config.json"]["prices"] == {"prompt": 0.03, "generated": 0.1}
    assert "--budget-usd 2e-05" in found["config.json"]["command"]
    for cell in found["summary.json"]["cells"]:
        cost = cell["cost"]
        assert cost["usd"] == (0.03 * cost["prefill"] + 0.1 * cost["tokens"]) / 1e6
        assert 0 < cost["usd"] <= 0.00001
    for head in found["heads"]:
        assert head["budget"] == {"usd": 0.00001}
        assert head["prices"] == {"prompt": 0.03, "generated": 0.1}


def test_nothing_changes_without_prices(tmp_path: Path) -> None:
    found = made(tree(), tmp_path / "a", budget_tokens=200)
    assert "usd" not in json.dumps(found)
    assert "prices" not in json.dumps(found)


def test_a_share_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="budget_usd=1e-09 leaves no usd for each of 2 problems"):
        made(Priced(tree()), tmp_path / "a", budget_usd=1e-9)


def test_a_server_declares_the_prices_it_was_given() -> None:
    assert Purse(0.15, 0.6, None).prices == Prices(0.15, 0.6)
    assert Purse(0.0, 0.6, 1.0).prices == Prices(0.0, 0.6)
    assert Purse(0.0, 0.0, None).prices is None


def test_learners_see_prices_and_what_is_left() -> None:
    async def learner(session: Session) -> Prefix:
        assert session.prices == Priced.prices
        assert session.remaining("usd") == Fraction(1, 2)
        return session.root

    attempt = play_one(learner, generator=Priced(tree()), budget=Budget(usd=0.5))
    assert attempt.error is None
