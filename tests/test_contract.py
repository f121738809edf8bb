"""Contracts: the partial orders against brute force, meet and join, refusals."""

from __future__ import annotations

import copy
import operator
import pickle
from dataclasses import FrozenInstanceError, fields
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot.contract import Contract, Control, Oracle, Report, Sampling, _Kind
from reroot.errors import InvalidInput

REPORTS = [
    Report.NONE,
    Report.SAMPLE,
    Report.LOGPROB,
    *(Report.ARGMAX(k) for k in range(1, 5)),
    *(Report.TOPK(k) for k in range(1, 5)),
    Report.FULL,
]


def atoms(report: Report) -> frozenset[object]:
    """What a report reveals, as a set: the order is inclusion. Ranks stop at 4, FULL has them all."""
    ranks = frozenset(range(1, report.k + 1))
    if report == Report.FULL:
        return frozenset({"draw", "its log-probability", *range(1, 5), "the rest"})
    if report.has_logprob:
        return ranks | {"draw", "its log-probability"}
    return ranks | {"draw"} if report.draws else ranks


lists = st.integers(1, 6) | st.integers(1, 10**12)
reports = st.one_of(
    st.sampled_from([Report.NONE, Report.SAMPLE, Report.LOGPROB, Report.FULL]),
    lists.map(Report.ARGMAX),
    lists.map(Report.TOPK),
)
samplings = st.builds(
    Sampling,
    st.sampled_from([0.0, 0.7, 1.0]) | st.floats(0, 1e300),
    st.just(1.0) | st.floats(0, 1, exclude_min=True),
    st.just(0) | st.integers(0, 10**9),
)
few_samplings = st.sampled_from([None, Sampling(), Sampling(0.7), Sampling(1.0, 0.9, 50)])
oracle_sets = st.frozensets(st.sampled_from(list(Oracle)))
contracts = st.builds(Contract, st.sampled_from(list(Control)), reports, few_samplings, oracle_sets)
any_contracts = st.builds(
    Contract, st.sampled_from(list(Control)), reports, st.none() | samplings, oracle_sets
)


def compatible(a: Contract, b: Contract) -> bool:
    """Whether the two have an upper bound."""
    return None in (a.sampling, b.sampling) or a.sampling == b.sampling


# ---- the orders -----------------------------------------------------------------------------


def check_order(a: Any, b: Any, c: Any) -> None:
    assert a <= a
    assert not a < a
    assert not (a <= b and b <= a) or a == b
    assert not (a <= b and b <= c) or a <= c
    assert (a >= b) == (b <= a)
    assert (a < b) == (a <= b and a != b)
    assert (a > b) == (b < a)


def test_control_is_the_documented_order() -> None:
    for middle in (Control.EPISODE, Control.VISITED):
        for lower, upper in pairwise([Control.ROOT, middle, Control.RESET, Control.CHOSEN]):
            assert lower < upper
    assert not Control.EPISODE <= Control.VISITED
    assert not Control.VISITED <= Control.EPISODE
    for a, b, c in product(Control, repeat=3):
        check_order(a, b, c)


def test_levels_are_listed_behind_those_below_them() -> None:
    for a, b in product(Control, repeat=2):
        assert not a < b or a.place < b.place


def test_reports_are_ordered_exhaustively_up_to_4() -> None:
    for a, b, c in product(REPORTS, repeat=3):
        check_order(a, b, c)


@given(reports, reports, reports)
def test_reports_are_ordered(a: Report, b: Report, c: Report) -> None:
    check_order(a, b, c)


@given(contracts, contracts, contracts)
def test_contracts_are_ordered(a: Contract, b: Contract, c: Contract) -> None:
    check_order(a, b, c)


def test_the_order_of_reports_is_inclusion_of_what_they_reveal() -> None:
    for a, b in product(REPORTS, repeat=2):
        assert (a <= b) == (atoms(a) <= atoms(b)), (a, b)


def test_documented_chains_of_reports() -> None:
    ks = [1, 2, 3, 4, 5, 100, 10**9]
    draws = [Report.NONE, Report.SAMPLE, Report.LOGPROB, *map(Report.TOPK, ks), Report.FULL]
    lists_only = [Report.NONE, *map(Report.ARGMAX, ks), Report.FULL]
    for chain in (draws, lists_only):
        for lower, upper in pairwise(chain):
            assert lower < upper
            assert upper > lower
    for k in ks:
        assert Report.ARGMAX(k) < Report.TOPK(k)
        assert not Report.ARGMAX(k + 1) <= Report.TOPK(k)
        assert not Report.TOPK(1) <= Report.ARGMAX(k)
        for drawn in (Report.SAMPLE, Report.LOGPROB):
            assert not drawn <= Report.ARGMAX(k)
            assert not Report.ARGMAX(k) <= drawn


@given(contracts, contracts)
def test_a_contract_is_below_another_in_every_part(a: Contract, b: Contract) -> None:
    parts = [
        a.control <= b.control,
        a.report <= b.report,
        a.sampling is None or a.sampling == b.sampling,
        a.oracles <= b.oracles,
    ]
    assert (a <= b) == all(parts)


@pytest.mark.parametrize(
    "value", [Control.EPISODE, Report.SAMPLE, Contract(Control.ROOT, Report.SAMPLE)]
)
@pytest.mark.parametrize("other", ["root/sample", 1, None])
def test_only_like_is_compared(value: Any, other: Any) -> None:
    for compare in (operator.le, operator.ge, operator.lt, operator.gt):
        with pytest.raises(TypeError, match="not supported"):
            compare(value, other)
    assert value != other


# ---- meet and join --------------------------------------------------------------------------


def test_meet_and_join_of_reports_against_brute_force() -> None:
    for a, b in product(REPORTS, repeat=2):
        above = [r for r in REPORTS if a <= r and b <= r]
        below = [r for r in REPORTS if r <= a and r <= b]
        assert [r for r in above if all(r <= s for s in above)] == [a.join(b)]
        assert [r for r in below if all(s <= r for s in below)] == [a.meet(b)]


def test_meet_and_join_of_control_against_brute_force() -> None:
    for a, b in product(Control, repeat=2):
        above = [c for c in Control if a <= c and b <= c]
        below = [c for c in Control if c <= a and c <= b]
        assert [c for c in above if all(c <= d for d in above)] == [a.join(b)]
        assert [c for c in below if all(d <= c for d in below)] == [a.meet(b)]
    assert Control.EPISODE.join(Control.VISITED) == Control.RESET
    assert Control.EPISODE.meet(Control.VISITED) == Control.ROOT


def test_meet_and_join_of_contracts_against_brute_force() -> None:
    """Every pair of a small grid; bounds are searched in the grid, which is closed under both."""
    some = [Report.NONE, Report.ARGMAX(1), Report.SAMPLE, Report.LOGPROB, Report.TOPK(1)]
    laws = [None, Sampling(), Sampling(0.5)]
    levels = [Control.ROOT, Control.EPISODE, Control.VISITED, Control.RESET]
    grants: list[frozenset[Oracle]] = [frozenset(), frozenset({Oracle.REWARD})]
    grid = [Contract(*parts) for parts in product(levels, some[1:3], laws[:2], grants)]
    grid += [Contract(*parts) for parts in product([levels[0], levels[3]], some, laws, grants)]
    grid = list(dict.fromkeys(grid))
    grid += [c for c in {a.meet(b) for a, b in product(grid, repeat=2)} if c not in grid]
    grid += [
        c
        for c in {a.join(b) for a, b in product(grid, repeat=2) if compatible(a, b)}
        if c not in grid
    ]
    for a, b in product(grid, repeat=2):
        below = [c for c in grid if c <= a and c <= b]
        assert [c for c in below if all(d <= c for d in below)] == [a.meet(b)]
        above = [c for c in grid if a <= c and b <= c]
        assert bool(above) == compatible(a, b)
        if above:
            assert [c for c in above if all(c <= d for d in above)] == [a.join(b)]


def check_lattice(a: Any, b: Any, c: Any) -> None:
    assert a.meet(b) == b.meet(a)
    assert a.join(b) == b.join(a)
    assert a.meet(a) == a == a.join(a)
    assert a.meet(b.meet(c)) == a.meet(b).meet(c)
    assert a.join(b.join(c)) == a.join(b).join(c)
    assert a.meet(a.join(b)) == a == a.join(a.meet(b))
    assert (a <= b) == (a.meet(b) == a) == (a.join(b) == b)


@given(reports, reports, reports)
def test_lattice_laws_of_reports(a: Report, b: Report, c: Report) -> None:
    check_lattice(a, b, c)
    assert a.meet(b) <= a <= a.join(b)


@given(contracts, contracts, contracts)
def test_lattice_laws_of_contracts_that_share_a_law(a: Contract, b: Contract, c: Contract) -> None:
    if compatible(a, b) and compatible(b, c) and compatible(a, c):
        check_lattice(a, b, c)


@given(contracts, contracts, contracts)
def test_meets_of_contracts_exist_whatever_their_laws(
    a: Contract, b: Contract, c: Contract
) -> None:
    assert a.meet(b) == b.meet(a)
    assert a.meet(b.meet(c)) == a.meet(b).meet(c)
    assert a.join(a.meet(b)) == a
    assert (a <= b) == (a.meet(b) == a)


# ---- sampling laws --------------------------------------------------------------------------


def test_no_law_lies_below_every_law() -> None:
    anything = Contract(Control.ROOT, Report.SAMPLE)
    for law in (Sampling(), Sampling(0.0), Sampling(1.0, 0.9)):
        named = Contract(Control.ROOT, Report.SAMPLE, law)
        assert anything < named
        assert anything.join(named) == named
        assert anything.meet(named) == anything


def test_two_different_laws_have_no_join() -> None:
    cold = Contract(Control.RESET, Report.SAMPLE, Sampling(0.5))
    warm = Contract(Control.RESET, Report.SAMPLE, Sampling(1.0))
    assert not cold <= warm
    assert not warm <= cold
    assert cold.meet(warm) == Contract(Control.RESET, Report.SAMPLE)
    with pytest.raises(InvalidInput, match=r"T=0\.5 and reset/sample@T=1: .*differ"):
        cold.join(warm)


def test_a_grant_without_a_law_is_at_temperature_1() -> None:
    grant = Contract.parse("reset/topk(5)+reward")
    assert grant.resolved == Contract.parse("reset/topk(5)+reward@T=1")
    named = Contract.parse("reset/topk(5)@T=0.5")
    assert named.resolved == named
    assert Sampling().is_base
    for law in (Sampling(0.5), Sampling(top_p=0.5), Sampling(top_k=1)):
        assert not law.is_base


def test_with_oracles_adds() -> None:
    grant = Contract.parse("root/sample+reward@T=1").with_oracles([Oracle.VERIFIER])
    assert grant == Contract.parse("root/sample+reward+verifier@T=1")


@pytest.mark.parametrize(
    "arguments",
    [(-0.1,), (float("nan"),), (float("inf"),), (10**400,), ("1",), (True,), (None,)]
    + [(1.0, p) for p in (0.0, -1.0, 1.1, float("nan"), "0.5", None)]
    + [(1.0, 1.0, k) for k in (-1, 1.0, True, "3", np.int64(3))],
)
def test_bad_sampling_laws(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput):
        Sampling(*arguments)


def test_a_law_is_made_of_plain_numbers() -> None:
    law = Sampling(np.float32(0.7), np.float64(0.1 + 0.2))  # type: ignore[arg-type]
    assert Sampling.parse(str(law)) == law
    assert type(law.temperature) is float
    assert str(Sampling(1)) == "T=1"
    assert str(Sampling(-0.0)) == "T=0"


# ---- values --------------------------------------------------------------------------------


@given(any_contracts)
def test_a_contract_reads_back_from_its_text(contract: Contract) -> None:
    assert Contract.parse(str(contract)) == contract


@given(reports, samplings)
def test_reports_and_laws_read_back_from_their_text(report: Report, law: Sampling) -> None:
    assert Report.parse(str(report)) == report
    assert Sampling.parse(str(law)) == law


class BoastfulInt(int):
    """Claims to be smaller than every number: must not talk its way past a grant."""

    def __le__(self, other: int) -> bool:
        return True


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3", None, np.int64(2), BoastfulInt(5)])
def test_list_lengths_are_plain_positive_integers(k: Any) -> None:
    for make in (Report.TOPK, Report.ARGMAX):
        with pytest.raises(InvalidInput, match="needs an integer k >= 1"):
            make(k)


@pytest.mark.parametrize("arguments", [(2,), (5, 0), ("full",), (None,), (_Kind.FULL, 3), (_Kind.SAMPLE, False)])  # fmt: skip
def test_reports_are_made_of_kinds(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput):
        Report(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("root", Report.SAMPLE),
        (0, Report.SAMPLE),
        (Control.ROOT, "sample"),
        (Control.ROOT, None),
        (Control.ROOT, Report.SAMPLE, "T=1"),
        (Control.ROOT, Report.SAMPLE, 1.0),
        (Control.ROOT, Report.SAMPLE, None, "reward"),
        (Control.ROOT, Report.SAMPLE, None, Oracle.REWARD),
        (Control.ROOT, Report.SAMPLE, None, [Oracle.REWARD, None]),
        (Control.ROOT, Report.SAMPLE, None, [[Oracle.REWARD]]),
    ],
)
def test_contracts_are_made_of_their_parts(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"must be (a |Oracle members)"):
        Contract(*arguments)


@given(any_contracts)
def test_contracts_are_values(contract: Contract) -> None:
    twin = Contract(
        contract.control, contract.report, contract.sampling, sorted(contract.oracles, key=str)
    )
    assert twin == contract
    assert hash(twin) == hash(contract)
    for duplicate in (pickle.loads(pickle.dumps(contract)), copy.deepcopy(contract)):
        assert duplicate == contract
        assert len({contract, duplicate}) == 1


@pytest.mark.parametrize("value", [Report.FULL, Sampling(), Contract.parse("root/sample")])
def test_contracts_are_frozen(value: Any) -> None:
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))
    with pytest.raises((AttributeError, TypeError)):  # slots: nothing can be added either
        value.note = "more"


def test_what_reports_carry() -> None:
    rows = {
        Report.NONE: (False, False, False, 0),
        Report.ARGMAX(3): (False, False, False, 3),
        Report.SAMPLE: (True, False, False, 0),
        Report.LOGPROB: (True, True, False, 0),
        Report.TOPK(5): (True, True, False, 5),
        Report.FULL: (True, True, True, 0),
    }
    for report, row in rows.items():
        assert (report.draws, report.has_logprob, report.has_law, report.top) == row
