"""The records that cross the door: prefixes, queries, replies, costs, budgets."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reroot
from reroot.contract import Report
from reroot.errors import InvalidInput
from reroot.types import (
    CURRENCIES,
    LIMITS,
    PAD,
    Budget,
    Cost,
    Physical,
    Prefix,
    Query,
    Reply,
    as_tokens,
)

token_lists = st.lists(st.integers(-(2**70), 2**70), max_size=20)
costs = st.builds(Cost, *[st.integers(-(10**20), 10**20)] * len(CURRENCIES))


# ---- tokens and prefixes --------------------------------------------------------------------


@given(token_lists, token_lists)
def test_a_prefix_is_an_immutable_tuple_of_tokens(a: list[int], b: list[int]) -> None:
    u = Prefix(tuple(a))
    assert list(u) == a
    assert len(u) == len(a)
    assert isinstance(u, Sequence)
    assert u.extend(b) == Prefix((*a, *b))
    assert u.extend(b)[len(a) :] == Prefix(tuple(b))
    assert (u == Prefix(tuple(b))) == (a == b)
    assert hash(u) == hash(Prefix(tuple(a)))
    assert u != tuple(a)  # a prefix is not a tuple
    grown = u
    for token in b:
        grown = grown.append(token)
    assert grown == u.extend(b)
    for _ in b:
        grown = grown.parent
    assert grown == u


@given(token_lists, st.slices(20))
def test_slices_of_a_prefix_are_prefixes(tokens: list[int], cut: slice) -> None:
    assert Prefix(tuple(tokens))[cut] == Prefix(tuple(tokens[cut]))


def test_prefix_indexing_and_membership() -> None:
    u = Prefix((5, 7, 5))
    assert u[0] == u[-1] == 5
    assert type(u[1]) is int
    assert 7 in u
    assert 8 not in u
    assert u.count(5) == 2
    with pytest.raises(IndexError):
        u[3]
    assert not Prefix()
    with pytest.raises(InvalidInput, match="no parent"):
        _ = Prefix().parent


def test_a_prefix_is_shown_shortened() -> None:
    assert str(Prefix()) == "[]"
    assert str(Prefix((1, 2))) == "[1 2]"
    assert str(Prefix(tuple(range(12)))) == "[0 1 2 3 4 5 6 7 8 9 10 11]"
    assert str(Prefix(tuple(range(13)))) == "[0 1 2 3 4 5 6 7 8 9 10 11 …]"


class OddInt(int):
    """An integer that lies about itself."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "tokens",
    [
        (1, 2, 3),
        [1, 2, 3],
        range(1, 4),
        np.array([1, 2, 3], dtype=np.uint8),
        np.array([1, 2, 3]),
        (np.int32(1), OddInt(2), 3),
        iter([1, 2, 3]),
        Prefix((1, 2, 3)),
    ],
)
def test_tokens_become_plain_integers(tokens: Any) -> None:
    plain = as_tokens(tokens)
    assert plain == (1, 2, 3)
    assert [type(t) for t in plain] == [int] * 3


def test_a_prefix_normalizes_what_it_is_given() -> None:
    for tokens in ([1, 2], np.array([1, 2]), (np.int64(1), OddInt(2))):
        u = Prefix(tokens)  # type: ignore[arg-type]
        assert u.tokens == (1, 2)
        assert [type(t) for t in u.tokens] == [int] * 2


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        ((1, 2.0), "2.0"),
        ((True,), "True"),
        ((np.bool_(False),), "False"),
        ((None,), "None"),
        (("1",), "'1'"),
        ("123", "'123'"),
        (b"12", "b'12'"),
        (np.array([0.5]), "0.5"),
        (np.array([[1, 2]]), r"\[1, 2\]"),
        (5, "5"),
        (None, "None"),
    ],
)
def test_tokens_that_are_not_integers_are_refused(tokens: Any, named: str) -> None:
    for make in (as_tokens, Prefix, Prefix((3,)).extend):
        with pytest.raises(InvalidInput, match=f"must be .*integers, got .*{named}"):
            make(tokens)


@pytest.mark.parametrize("token", [1.0, True, None, "1", (1,), np.array([1])])
def test_only_one_integer_is_appended(token: Any) -> None:
    with pytest.raises(InvalidInput, match="tokens must be integers"):
        Prefix().append(token)


@pytest.mark.parametrize(
    "record", [Prefix((1, 2)), Query(Prefix((1,)), 3, 4, Report.TOPK(2)), Cost(1, 2), Budget(3)]
)
def test_records_are_frozen_values(record: Any) -> None:
    names = record._fields if isinstance(record, Cost) else [f.name for f in fields(record)]
    for name in names:
        with pytest.raises(AttributeError):  # dataclasses raise a kind of it
            setattr(record, name, getattr(record, name))
    for duplicate in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert duplicate == record
        assert hash(duplicate) == hash(record)


def test_queries_say_what_they_ask() -> None:
    assert str(Query()) == "Query(1 x to the end from [], sample)"
    asked = Query(Prefix((1, 2)), 5, 1, Report.TOPK(3))
    assert str(asked) == "Query(5 x length 1 from [1 2], topk(3))"
    scored = Query(Prefix((1,)), report=Report.LOGPROB, forced=(4, 5, 6))
    assert str(scored) == "Query(score 3 forced tokens at [1], logprob)"


# ---- replies --------------------------------------------------------------------------------


def reply_of(prefix: Prefix, rows: list[list[int]], **reported: Any) -> Reply:
    width = max(map(len, rows))
    tokens = np.array([row + [PAD] * (width - len(row)) for row in rows], dtype=np.int64)
    return Reply(prefix, tokens, np.array([len(row) for row in rows]), **reported)


@given(
    st.lists(st.integers(0, 5), max_size=4),
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8),
)
def test_a_reply_gives_back_its_continuations(start: list[int], rows: list[list[int]]) -> None:
    reply = reply_of(Prefix(tuple(start)), rows)
    assert reply.n == len(rows)
    assert [list(reply.continuation(i)) for i in range(reply.n)] == rows
    assert reply.outputs() == [Prefix((*start, *row)) for row in rows]
    assert all(type(t) is int for y in reply.outputs() for t in y)
    first = [row[0] for row in rows]
    assert reply.first_tokens().tolist() == first
    assert reply.counts() == dict(Counter(first))
    modes = [t for t, c in Counter(first).items() if c == max(Counter(first).values())]
    assert reply.plurality() == min(modes)
    assert reply.plurality(np.random.default_rng(0)) in modes


def test_ties_of_the_plurality_are_broken_uniformly() -> None:
    """Tokens 2 and 7 tie. 2,000 fair choices leave [900, 1100] with probability below 1e-5."""
    reply = reply_of(Prefix(), [[7], [2], [2], [7], [3]])
    rng = np.random.default_rng(0)
    chosen = [reply.plurality(rng) for _ in range(2000)]
    assert set(chosen) == {2, 7}
    assert 900 <= chosen.count(2) <= 1100


def test_total_log_probabilities_need_a_report_that_carries_them() -> None:
    logprobs = np.log(np.array([[0.5, 0.25], [0.125, 1.0]]))
    reply = reply_of(Prefix(), [[0, 1], [1]], logprobs=logprobs)
    assert np.exp(reply.total_logprobs()) == pytest.approx([0.125, 0.125])
    with pytest.raises(InvalidInput, match="ask with LOGPROB or more"):
        reply_of(Prefix(), [[0]]).total_logprobs()


# ---- costs and budgets ----------------------------------------------------------------------


@given(costs, costs, costs)
def test_costs_add_per_currency(a: Cost, b: Cost, c: Cost) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Cost() == a
    assert (a + b) - b == a
    total = (a + b).to_dict()
    assert total == {k: a.to_dict()[k] + b.to_dict()[k] for k in CURRENCIES}
    assert Cost(**total) == a + b


def test_costs_and_budgets_have_the_same_currencies() -> None:
    assert tuple(f.name for f in fields(Budget)) == (*LIMITS, "usd")
    assert (*CURRENCIES, "calls") == LIMITS
    assert CURRENCIES == (
        "rollouts", "queries", "tokens", "prefill", "rewards", "verifications", "demonstrations",
        "values", "hidden_states",
    )  # fmt: skip


@pytest.mark.parametrize("currency", LIMITS)
@pytest.mark.parametrize("amount", [-1, 1.0, True, "10", float("inf"), np.int64(3)])
def test_bad_budgets_name_the_currency(currency: str, amount: Any) -> None:
    with pytest.raises(InvalidInput, match=f"budget {currency} must be an integer >= 0 or None"):
        Budget(**{currency: amount})


def test_budgets_list_their_limits() -> None:
    assert Budget().to_dict() == {}
    assert Budget(tokens=0, rewards=7).to_dict() == {"tokens": 0, "rewards": 7}


def test_physical_counters_subtract() -> None:
    later, earlier = Physical(5, 100, 40, 7, 900), Physical(2, 60, 30, 7, 800)
    assert (later - earlier).to_dict() == {
        "forwards": 3, "computed": 40, "cached": 10, "recomputed": 0, "peak_bytes": 900,
    }  # fmt: skip
    assert later + earlier == Physical(7, 160, 70, 14, 900)


# ---- the package ----------------------------------------------------------------------------


def test_every_public_name_resolves() -> None:
    assert sorted(reroot.__all__) == list(reroot.__all__)
    assert dir(reroot) == reroot.__all__
    for name in reroot.__all__:
        assert getattr(reroot, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = reroot.nonsense  # type: ignore[attr-defined]
