"""Messages as plain data: what goes out comes back the same, and nothing else comes in."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attacks import FORGED
from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    BudgetExceeded,
    Contract,
    InvalidInput,
    Oracle,
    OracleError,
    Prefix,
    Query,
    Report,
)
from reroot.access import wire
from reroot.access.episode import bind
from reroot.access.gate import Gate
from reroot.access.isolation.frames import Broken, packed, unpacked
from reroot.access.session import Answer, Ask, AskHiddenStates, Consult, Decode, Demonstrate
from reroot.access.transcript import ARRAYS, message_to_json
from reroot.generators.stops import Decoded, Pieces, Stop
from reroot.tasks.answers.rules import Exact
from reroot.types import Cost, Reply
from reroot.types.account import Prices
from toys import END, problem, tree

A, B = Prefix((1, 2)), Prefix()
MESSAGES = [
    Ask((Query(), Query(A, 3, 2, Report.FULL), Query(A, 1, None, Report.LOGPROB, (1, END)))),
    Ask((Query(B, 1, 1, Report.ARGMAX(2)), Query(B, 0, -1, Report.TOPK(3)))),
    Ask(()),
    *(Consult(o, (A, B)) for o in (Oracle.REWARD, Oracle.VERIFIER, Oracle.VALUE)),
    Demonstrate(None),
    Demonstrate(2),
    Decode(A),
    AskHiddenStates((A,), 2),
    AskHiddenStates((A, B), None),
]


def through(value: object) -> Any:
    """Over a wire: as a frame, in two pieces."""
    frame, buffer = packed(value), bytearray()
    buffer += frame[:3]
    assert unpacked(buffer) is None
    buffer += frame[3:]
    return unpacked(buffer)


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_messages_come_back(message: Any) -> None:
    assert wire.message_from_json(through(message_to_json(message))) == message


@pytest.mark.parametrize("data", FORGED, ids=str)
def test_nothing_else_comes_in(data: object) -> None:
    with pytest.raises(InvalidInput):
        wire.message_from_json(data)


def test_answers_come_back() -> None:
    laws = np.log(np.full((1, 1, 4), 0.25))
    shared = np.broadcast_to(laws, (3, 1, 4))
    reply = Reply(
        A, np.array([[1], [2], [3]]), np.array([1, 1, 1]), np.full((3, 1), -0.1), laws=shared
    )
    spent = Cost(rollouts=1, tokens=7, values=2)
    values = [[reply, reply], laws[0], A, "text \ud800", [0.1, 1e300, float("inf")], [True], []]
    for value in values:
        answer = wire.answer_from_json(through(wire.answer_to_json(Answer(value, None, spent))))
        assert answer.error is None
        assert answer.spent == spent
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(answer.value, value)
        elif isinstance(value, list) and value and value[0] is reply:
            got = answer.value[1]
            assert got.prefix == A
            for name in ARRAYS:
                expected, array = getattr(reply, name), getattr(got, name)
                assert (expected is None) == (array is None), name
                if array is not None:
                    np.testing.assert_array_equal(array, expected)
                    assert (array.dtype, array.strides[0] == 0) == (
                        expected.dtype,
                        expected.strides[0] == 0,
                    )
                    assert not array.flags.writeable or name in ("tokens", "lengths")
        else:
            assert answer.value == value
            assert type(answer.value) is type(value)


@pytest.mark.parametrize(
    "error",
    [
        AccessDenied("q", "a rule", "chosen/full"),
        BudgetExceeded("tokens", 12, 3),
        BudgetExceeded("usd", 0.5, 0.25),
        InvalidInput("x"),
        BackendError("the generator failed"),
        OracleError("y"),
    ],
    ids=repr,
)
def test_errors_come_back(error: Exception) -> None:
    found = wire.answer_from_json(through(wire.answer_to_json(Answer(None, error, Cost())))).error
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def nobody(verb: str, arguments: list[Any]) -> Any:
    raise AssertionError(verb)


def test_facts_come_back() -> None:
    contract = Contract.parse("reset/topk(2)+reward@T=0.5").resolved
    budget = Budget(tokens=7, usd=0.5)
    generator = tree()
    gate = Gate(bind(problem(prompt=(1,), max_tokens=4), generator), contract, Budget(tokens=7), 3)
    facts = replace(gate.facts(), budget=budget, prices=Prices(0.1, 0.2))
    found = wire.facts_from_json(through(wire.facts_to_json(facts)), nobody)
    assert found == facts
    pieces = Pieces((b"a", b"b\xff", b"ab"))
    spelt = replace(facts, stop=Stop.of(pieces, ["ab"], ends=(2,)))
    stop = wire.facts_from_json(through(wire.facts_to_json(spelt)), nobody).stop
    assert [stop.ends(t) for t in ((0,), (0, 1), (2,), ())] == [False, True, True, False]


def test_rules_that_are_no_data_are_asked_for() -> None:
    decoded = Decoded(lambda tokens: "".join("ab"[t] for t in tokens), lambda: lambda tokens: "")
    stop = Stop(texts=(b"ab",), closing=frozenset({1}), writing=decoded)
    gate = Gate(bind(problem(), tree()), Contract.parse("root/sample").resolved, Budget(), 0)
    facts = replace(gate.facts(), stop=stop, equality=Exact())
    found = wire.facts_from_json(
        through(wire.facts_to_json(facts)),
        lambda verb, given: through(wire.answer_call(facts, verb, through(given))),
    )
    assert [found.stop.ends(t) for t in ((0, 1), (1, 1))] == [True, False]
    assert found.equality is not None
    assert found.equality.find(" x ") == "x"
    assert found.equality.same("x", "x") is True
    bad = [
        ("find", [1]),
        ("same", ["a"]),
        ("ends", [["x"]]),
        ("ends", []),
        (None, []),
        ("find", None),
    ]
    for verb, given in bad:
        with pytest.raises(InvalidInput):
            wire.answer_call(facts, verb, given)

    class Telling(Exact):
        def find(self, text: str) -> str | None:
            raise RuntimeError("the answer is 42")

    with pytest.raises(InvalidInput, match="a rule of the problem failed") as caught:
        wire.answer_call(replace(facts, equality=Telling()), "find", ["x"])
    assert "42" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON: RecursionError"),
        (b"1" * 5000, "is no JSON"),
    ],
)
def test_frames_that_are_none(body: bytes, said: str) -> None:
    with pytest.raises(Broken, match=said):
        unpacked(bytearray(len(body).to_bytes(4, "little") + body))


def test_a_large_frame_is_refused_by_its_head_alone() -> None:
    with pytest.raises(Broken, match="10,485,760 bytes; at most 8,388,608"):
        unpacked(bytearray((10 << 20).to_bytes(4, "little")))


def test_frames_are_ascii() -> None:
    """Lone surrogates, which outputs may hold, go over as JSON writes them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(packed("\ud800é"))
        assert json.loads(theirs.recv(100)[4:].decode("ascii")) == "\ud800é"
