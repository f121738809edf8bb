"""Episode control: passes go forward, each once from a place, with at most one token put in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rules import HORIZON, TREE, VOCAB, desk_for, put

from reroot import AccessDenied, Contract, Control, Prefix, Query, Report, Sampling
from reroot.access.gate import Gate
from reroot.access.session import Ask
from toys import Failing


def pass_of(n: int = 1, length: int = 1) -> tuple[Gate, list[tuple[int, ...]]]:
    """A gate with n passes under way, and where they stand."""
    gate = desk_for(Contract.parse("episode/full"))
    (reply,) = put(gate, [Query(n=n, length=length)])  # type: ignore[misc]
    return gate, [tuple(o.tokens) for o in reply.outputs()]


def draw(*tokens: int, n: int = 1, length: int | None = 1, report: Report = Report.SAMPLE) -> Query:
    return Query(Prefix(tokens), n, length, report)


def refused(gate: Gate, *queries: Query) -> bool:
    return isinstance(put(gate, [*queries]), AccessDenied)


def test_a_pass_goes_on_from_where_it_stands_once() -> None:
    gate, [here] = pass_of()
    assert not refused(gate, draw(*here))
    assert refused(gate, draw(*here))


@pytest.mark.parametrize("token", range(VOCAB))
def test_a_token_may_be_put_in(token: int) -> None:
    gate, [here] = pass_of()
    assert not refused(gate, draw(*here, token))
    assert refused(gate, draw(*here, (token + 1) % VOCAB))  # the pass is elsewhere now
    assert refused(gate, draw(*here))


def test_not_two_tokens_and_not_in_the_place_of_one_that_was_drawn() -> None:
    gate, [here] = pass_of()
    assert refused(gate, draw(*here, 0, 0))
    assert refused(gate, draw((here[0] + 1) % VOCAB))


def test_a_pass_stands_at_its_end_alone() -> None:
    gate, [here] = pass_of(length=2)
    assert refused(gate, draw(*here[:1]))
    assert not refused(gate, draw(*here, 0))


def test_two_passes_at_one_place_are_two() -> None:
    gate, places = pass_of(n=16)
    here = places[0]
    there = places.count(here)
    assert there > 1
    assert refused(gate, draw(*here, n=there + 1))
    assert refused(gate, draw(*here, n=there), draw(*here, 0))  # of one request too
    assert not refused(gate, draw(*here, n=there - 1), draw(*here, 0))
    assert refused(gate, draw(*here))


def test_looks_without_a_draw_and_scores_are_no_passes() -> None:
    gate, [here] = pass_of()
    assert refused(gate, draw(*here, report=Report.ARGMAX(1)))
    assert refused(gate, Query(Prefix(here), 1, None, Report.LOGPROB, (0,)))
    assert not refused(gate, draw(*here, report=Report.FULL))


@pytest.mark.parametrize("k", [1, 2])
def test_passes_of_argmax_reports_are_greedy_rollouts_and_no_more(k: int) -> None:
    """episode/argmax(k) grants what root/argmax(k) does: at temperature 1 it would grant nothing."""
    report = Report.ARGMAX(k)
    root, passes = (Contract.parse(f"{at}/{report}").resolved for at in ("root", "episode"))
    assert root < passes
    assert passes.sampling == Sampling(0.0)
    for contract in (root, passes):
        gate = desk_for(contract)
        (reply,) = put(gate, [Query(report=report)])  # type: ignore[misc]
        seen = reply.outputs()[0].tokens
        for prefix in ((), seen[:1], ((seen[0] + 1) % VOCAB,)):
            assert refused(gate, draw(*prefix, report=report))
    steering = desk_for(Contract.parse("episode/sample@T=0"))
    assert not refused(steering, draw())
    assert refused(desk_for(Contract.parse(f"episode/{report}@T=1")), Query(report=report))


def test_rollouts_are_always_permitted_and_leave_no_pass() -> None:
    gate = desk_for(Contract.parse("episode/sample"))
    (reply,) = put(gate, [Query()])  # type: ignore[misc]
    assert refused(gate, draw(*reply.outputs()[0].tokens[: HORIZON - 1]))


def test_a_pass_that_failed_stands_where_it_stood() -> None:
    generator = Failing(lambda q: len(q.prefix) > 0, RuntimeError("down"))
    generator.inner = TREE
    gate = desk_for(Contract.parse("episode/sample"), generator)
    (reply,) = put(gate, [draw()])  # type: ignore[misc]
    here = reply.outputs()[0].tokens
    for _ in range(2):
        admitted = gate.admit(Ask((draw(*here, 0),)))
        assert refused(gate, draw(*here, 1))  # under way
        with pytest.raises(RuntimeError):
            generator.answer(admitted.requests)
        gate.cancel(admitted)


def test_refusals_name_what_would_do() -> None:
    gate, [here] = pass_of()
    put(gate, [draw(*here, 0)])
    again = put(gate, [draw(*here)])
    assert isinstance(again, AccessDenied)
    assert (again.weakest, "no pass returns" in again.rule) == ("visited/sample", True)
    other = put(gate, [draw(*here, 1)])
    assert isinstance(other, AccessDenied)
    assert other.weakest == "reset/sample"
    rooted = put(desk_for(Contract.parse("root/sample")), [draw()])
    assert isinstance(rooted, AccessDenied)
    assert rooted.weakest == "visited/sample or episode/sample"
    few = desk_for(Contract.parse("episode/sample"))
    shy = put(few, [draw(report=Report.FULL)])
    assert isinstance(shy, AccessDenied)
    assert shy.weakest == "episode/full"


steps = st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, VOCAB - 1)), max_size=8)


@settings(max_examples=30)
@given(steps)
def test_what_passes_may_ask_reset_control_permits(script: list[tuple[int, int | None]]) -> None:
    """Several passes side by side: the same queries, under episode and under reset control."""
    gates = [desk_for(Contract(c, Report.SAMPLE)) for c in (Control.EPISODE, Control.RESET)]
    places: dict[int, tuple[int, ...]] = {}
    for which, token in script:
        here = places.get(which, ())
        put_in = () if token is None or not here else (token,)
        if len(here + put_in) >= HORIZON:
            continue
        replies = [put(gate, [draw(*here, *put_in)]) for gate in gates]
        assert not any(isinstance(reply, AccessDenied) for reply in replies)
        places[which] = tuple(replies[0][0].outputs()[0].tokens)  # type: ignore[index]
