"""The prefix rules against a naive model written straight from the definition of the levels."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import (
    AccessDenied,
    Budget,
    Contract,
    Control,
    Prefix,
    Query,
    Report,
    Sampling,
)
from reroot.access.episode import bind
from reroot.access.gate import Gate
from reroot.access.places import digests
from reroot.access.rules import PrefixRules
from reroot.access.session import Ask
from reroot.errors import BackendError
from reroot.generators.base import Generator
from reroot.generators.tabular import Tabular
from reroot.tasks.base import Problem
from reroot.types import Cost, Reply
from toys import Failing

VOCAB, HORIZON = 3, 4
TREE = Tabular.random(VOCAB, HORIZON, seed=5)
Tokens = tuple[int, ...]


@dataclass
class Model:
    """Sets of whole prefixes: slow, and as it is written in the table of control levels."""

    greedy: bool = False
    standing: Counter[Tokens] = field(default_factory=Counter[Tokens])
    asked: set[Tokens] = field(default_factory=set)
    visited: set[Tokens] = field(default_factory=set)
    emitted: set[Tokens] = field(default_factory=set)

    def follows_the_law(self, query: Query) -> bool:
        return query.report.draws or self.greedy

    def steps(self, query: Query) -> int:
        """Tokens that the generator chooses per continuation."""
        room = HORIZON - len(query.prefix)
        return 0 if query.forced is not None else min(query.length or room, room)

    def permits(self, control: Control, query: Query) -> bool:
        start, given = query.prefix.tokens, query.forced or ()
        chosen_mode = self.steps(query) > 1 and not self.follows_the_law(query)
        rollout = start == () and query.forced is None and self.steps(query) == HORIZON
        if control == Control.CHOSEN or (rollout and not chosen_mode):
            return True
        strings = [start + given[:i] for i in range(len(given) + 1)]
        if control == Control.EPISODE:  # from ∅, or on from where enough passes stand
            goes_on = not start or self.stand(query) is not None
            return query.forced is None and query.report.draws and goes_on
        if control == Control.VISITED:  # every last token came from the generator
            return not chosen_mode and all(s == () or s in self.emitted for s in strings)
        if control == Control.RESET:  # the start may be asked, and so each child in turn
            seen = self.asked | self.visited
            return start == () or start[:-1] in seen or start in seen
        return False

    def stand(self, query: Query) -> Tokens | None:
        start = query.prefix.tokens
        stands = [s for s in (start, start[:-1]) if s and self.standing[s] >= query.n]
        return stands[0] if stands else None

    def note_asked(self, query: Query) -> None:
        left = self.stand(query)
        if left is not None and query.forced is None and query.report.draws:
            self.standing[left] -= query.n
        given = query.forced or ()
        start = query.prefix.tokens
        self.asked.update(start + given[:i] for i in range(max(1, len(given))))

    def note_reply(self, query: Query, reply: Reply) -> None:
        if query.forced is not None:
            return
        start = query.prefix.tokens
        for i in range(reply.n):
            tokens = reply.continuation(i)
            if query.report.draws and len(start + tokens) < HORIZON:
                self.standing[start + tokens] += 1
            for t in range(1, len(tokens) + 1):
                if self.follows_the_law(query):
                    self.emitted.add(start + tokens[:t])
                    self.visited.add(start + tokens[:t])
                elif t < len(tokens):
                    self.asked.add(start + tokens[:t])


def desk_for(contract: Contract, generator: Generator = TREE) -> Gate:
    problem = Problem("p", (), HORIZON, reward=lambda o: 0.0)
    return Gate(bind(problem, generator), contract, Budget(), seed=0)


def put(gate: Gate, queries: list[Query]) -> list[Reply] | AccessDenied:
    """The replies, or the refusal."""
    try:
        admitted = gate.admit(Ask(tuple(queries)))
    except AccessDenied as refusal:
        return refusal
    found = gate.shown(admitted, gate.episode.generator.answer(admitted.requests))
    shown = gate.charge(admitted, found).value
    assert isinstance(shown, list)
    return shown


tokens = st.integers(0, VOCAB - 1)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    prefix = tuple(draw(st.lists(tokens, max_size=HORIZON - 1)))
    room = HORIZON - len(prefix)
    kind = draw(st.sampled_from(["draw", "draw", "mode", "score"]))
    if kind == "score":
        scored = tuple(draw(st.lists(tokens, min_size=1, max_size=room)))
        return Query(Prefix(prefix), 1, None, Report.LOGPROB, scored)
    length = draw(st.none() | st.integers(1, HORIZON))
    if kind == "mode":
        return Query(Prefix(prefix), 1, length, Report.ARGMAX(1))
    return Query(Prefix(prefix), draw(st.integers(1, 3)), length, Report.SAMPLE)


requests = st.lists(st.lists(queries(), min_size=1, max_size=3), min_size=1, max_size=10)
levels = st.sampled_from(list(Control))


@pytest.mark.slow
@settings(max_examples=150)
@given(levels, st.sampled_from(["@T=1", "@T=0"]), requests)
def test_rules_agree_with_the_definition(
    control: Control, law: str, script: list[list[Query]]
) -> None:
    """Whole requests too: their queries are asked in order, all of them or none."""
    gate = desk_for(Contract.parse(f"{control}/full{law}"))
    model = Model(greedy=law == "@T=0")
    for request in script:
        trial, refused = deepcopy(model), None
        for query in request:
            if not trial.permits(control, query):
                refused = query
                break
            trial.note_asked(query)
        answer = put(gate, request)
        if refused is not None:
            assert isinstance(answer, AccessDenied)
            assert answer.query == str(refused)
            continue  # nothing of a refused request counts as asked
        assert isinstance(answer, list)
        model = trial
        for query, reply in zip(request, answer, strict=True):
            model.note_reply(query, reply)


@pytest.mark.slow(1)
@settings(max_examples=80)
@given(st.sampled_from(["root", "episode", "visited", "reset"]), requests)
def test_the_weakest_contract_named_is_the_weakest(control: str, script: list[list[Query]]) -> None:
    """A gate of the same history under the named contract permits the request up to the refused
    query; under every contract with less control, or a weaker report, it refuses."""
    history: list[list[Query]] = []
    for request in script:
        answer = put(rebuilt(Contract.parse(f"{control}/full"), history), request)
        if not isinstance(answer, AccessDenied):
            history.append(request)
            continue
        texts = [str(query) for query in request]
        upto = request[: texts.index(answer.query) + 1]
        for named in map(Contract.parse, answer.weakest.split(" or ")):
            weaker = [c for c in Control if c < named.control]
            if control in ("visited", "reset"):  # passes are followed under episode control alone
                weaker = [c for c in weaker if c != Control.EPISODE]
            assert permits_last(named, history, upto)
            assert not any(permits_last(replace(named, control=c), history, upto) for c in weaker)
            for report in (Report.NONE, Report.SAMPLE, Report.LOGPROB, Report.ARGMAX(1)):
                if report < named.report:
                    assert not permits_last(replace(named, report=report), history, upto)


def rebuilt(contract: Contract, history: list[list[Query]]) -> Gate:
    """A gate that has asked ``history``."""
    gate = desk_for(contract)
    for request in history:
        assert isinstance(put(gate, request), list)
    return gate


def permits_last(contract: Contract, history: list[list[Query]], request: list[Query]) -> bool:
    """Whether the rules let the last query pass, when all before it was permitted."""
    if contract.control == Control.EPISODE:
        law = contract.sampling or Sampling()
        mine = rebuilt(Contract(Control.EPISODE, Report.FULL, law), history).rules
        with suppress(AccessDenied):
            mine.check(Contract(Control.EPISODE, Report.FULL, law), request)
            return request[-1].report <= contract.report
        return False
    done = rebuilt(Contract(Control.CHOSEN, Report.FULL), history)
    asked = {d for q in request[:-1] for d in digests(q.prefix.tokens, (q.forced or ())[:-1])}
    if contract.sampling is not None and contract.sampling.temperature == 0.0:
        done.rules._greedy = True
    query = request[-1]
    return (
        query.report <= contract.report
        and done.rules.weakest_control(query, asked) <= contract.control
    )


STRONGER = [
    ("root/sample", "visited/sample"),
    ("root/logprob", "chosen/full"),
    ("visited/sample", "visited/logprob"),
    ("visited/argmax(1)", "reset/argmax(1)"),
    ("visited/logprob", "reset/topk(2)"),
    ("reset/argmax(1)", "reset/topk(1)"),
    ("reset/topk(1)", "reset/full"),
    ("reset/logprob", "chosen/logprob"),
    ("root/argmax(1)@T=0", "root/topk(1)@T=0"),
]


@pytest.mark.slow(1)
@settings(max_examples=80)
@given(st.sampled_from(STRONGER), requests)
def test_what_a_contract_permits_every_stronger_one_permits(
    pair: tuple[str, str], script: list[list[Query]]
) -> None:
    """With the same answers at the same cost; and stronger is what the order calls stronger."""
    weak, strong = (Contract.parse(text).resolved for text in pair)
    assert weak < strong
    one, other = desk_for(weak), desk_for(strong)
    for request in script:
        answer = put(one, request)
        if isinstance(answer, AccessDenied):
            continue
        again = put(other, request)
        assert isinstance(again, list)
        for a, b in zip(answer, again, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
        assert one.meter.spent == other.meter.spent


# ---- one by one ---------------------------------------------------------------------------------

ROLLOUT = Query()
GREEDY = Query(report=Report.ARGMAX(1))


def at(*prefix: int, **fields: object) -> Query:
    return Query(Prefix(prefix), 1, 1, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "query", "weakest"),
    [
        ([], ROLLOUT, Control.ROOT),
        ([], Query(n=50, length=HORIZON), Control.ROOT),
        ([], Query(length=99), Control.ROOT),
        ([], Query(length=HORIZON - 1), Control.VISITED),
        ([], at(), Control.VISITED),
        ([], at(report=Report.ARGMAX(1)), Control.VISITED),
        ([], GREEDY, Control.RESET),
        ([], at(1), Control.CHOSEN),
        ([at()], at(1), Control.RESET),
        ([at()], at(1, 1), Control.CHOSEN),
        ([at(), at(1)], at(1, 1), Control.RESET),
        ([at(), at(1)], at(1), Control.RESET),
        ([Query(n=64, length=1)], at(1), Control.VISITED),
        ([at(report=Report.ARGMAX(3))], at(1), Control.RESET),
        ([Query(n=3000, length=2)], at(1, 1), Control.VISITED),
        ([Query(n=3000, length=2)], at(1, 1, 1), Control.RESET),
        ([Query(n=3000, length=2)], at(1, 1, 1, report=Report.ARGMAX(1)), Control.RESET),
        ([Query(n=3000, length=2)], Query(Prefix((1,)), report=Report.ARGMAX(1)), Control.RESET),
        ([], Query(forced=(1,), report=Report.FULL), Control.RESET),
        ([Query(n=64, length=1)], Query(forced=(1,), report=Report.FULL), Control.VISITED),
        ([Query(n=64, length=1)], Query(forced=(1, 1), report=Report.FULL), Control.RESET),
        ([Query(forced=(1, 1), report=Report.FULL)], at(1, 2), Control.RESET),
        ([Query(forced=(1, 1), report=Report.FULL)], at(1, 2, 0), Control.CHOSEN),
    ],
)
def test_the_level_that_a_query_needs(before: list[Query], query: Query, weakest: Control) -> None:
    """So many draws show every string here; the seed is fixed."""
    gate = rebuilt(Contract(Control.CHOSEN, Report.FULL), [[q] for q in before])
    assert gate.rules.weakest_control(query, set()) == weakest


def test_queries_of_one_request_build_on_each_other() -> None:
    gate = desk_for(Contract.parse("reset/sample"))
    denied = put(gate, [at(1), at()])
    assert isinstance(denied, AccessDenied)
    assert denied.query == str(at(1))
    assert isinstance(put(gate, [at(), at(1), at(1, 2)]), list)


@pytest.mark.parametrize("control", ["root", "chosen"])
def test_the_weakest_control_counts_what_the_same_request_asked_before(control: str) -> None:
    gate = desk_for(Contract.parse(f"{control}/sample"))
    first = ROLLOUT if control == "root" else at()
    denied = put(gate, [first, at(1, report=Report.FULL)])
    assert isinstance(denied, AccessDenied)
    assert denied.weakest == "reset/full"


def test_a_refused_request_builds_nothing() -> None:
    gate = desk_for(Contract.parse("reset/sample"))
    assert isinstance(put(gate, [at(), at(1, report=Report.FULL)]), AccessDenied)
    denied = put(gate, [at(1)])
    assert isinstance(denied, AccessDenied)
    assert denied.weakest == "chosen/sample"
    assert gate.meter.spent == Cost()


def test_a_request_that_failed_built_nothing() -> None:
    """While it is under way its children may be asked, in the same breath; afterwards not."""
    generator = Failing(lambda q: q.n == 64, RuntimeError("down"))
    generator.inner = TREE
    gate = desk_for(Contract.parse("reset/sample"), generator)
    admitted = gate.admit(Ask((Query(n=64, length=1),)))
    with pytest.raises(RuntimeError):
        generator.answer(admitted.requests)
    assert gate.rules.weakest_control(at(1), set()) == Control.RESET
    gate.cancel(admitted)
    assert gate.rules.weakest_control(at(1), set()) == Control.CHOSEN
    assert gate.meter.spent == Cost()


def test_a_reply_that_breaks_the_protocol_builds_nothing() -> None:
    """All replies are checked before the first one counts."""
    gate = desk_for(Contract.parse("visited/sample"))
    admitted = gate.admit(Ask((Query(n=64, length=1), at())))
    good, bad = TREE.answer(admitted.requests)
    with pytest.raises(BackendError, match="emitted a token outside"):
        gate.charge(admitted, gate.shown(admitted, [good, replace(bad, tokens=np.array([[7]]))]))
    assert gate.rules.weakest_control(at(1), set()) == Control.RESET  # asked, not emitted


@given(st.lists(tokens, max_size=6), st.lists(tokens, max_size=6))
def test_digests_name_the_whole_string(prefix: list[int], more: list[int]) -> None:
    names = list(digests(prefix, more))
    whole = [tuple(prefix + more[:i]) for i in range(len(more) + 1)]
    assert names == [next(iter(digests(string))) for string in whole]
    assert len(set(names)) == len(whole)


def test_digests_of_different_strings_differ() -> None:
    strings = [(), (0,), (0, 0), (1,), (256,), (0, 1), (1, 0), (2**40,), (2**40, 0)]
    assert len({next(iter(digests(s))) for s in strings}) == len(strings)


def test_rules_keep_tokens_alone() -> None:
    """Not the laws of replies, which a learner may have thrown away."""
    gate = desk_for(Contract.parse("chosen/full"))
    put(gate, [Query(n=3, report=Report.FULL)])
    (paths,) = gate.rules._unread
    arrays = [getattr(paths, name) for name in ("_rows", "_lengths")]
    assert {a.dtype for a in arrays} == {np.dtype(np.int64)}
    assert all(a.base is None for a in arrays)


def test_rules_of_an_audit_are_those_of_a_session() -> None:
    assert desk_for(Contract.parse("root/sample@T=0")).rules._greedy
    assert not PrefixRules(HORIZON)._greedy
