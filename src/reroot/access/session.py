"""The session: the only thing a learner is handed. It holds public facts and a letter box.

A session has no reference to a generator, a meter, a rule book or another session: its verbs drop
a message into the letter box and wait for the answer, which arrives as plain data. What is behind
the door (``gate.py``) runs in another thread, so neither attributes nor closures nor the frames of
an exception lead there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NoReturn, Protocol, overload

from ..contract import Contract, Oracle, Report
from ..errors import InvalidInput
from ..randomness import Key, keyed_rng
from ..types import Budget, Cost, FloatArray, IntArray, Prefix, Query, Reply, as_tokens
from ..types.account import Prices, left


class Equality(Protocol):
    """When two outputs give the same answer; it knows no right one."""

    def find(self, text: str) -> str | None: ...
    def same(self, answer: str, found: str) -> bool | float: ...


class EndRule(Protocol):
    """When an output ends: a plain value, and a function of the tokens alone (``Generator.stops``)."""

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether an output ends at the last of ``tokens``, all its tokens so far."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a learner may know before it asks anything."""

    prompt: tuple[int, ...]
    vocab_size: int
    horizon: int
    stop: EndRule
    contract: Contract
    budget: Budget
    rng_key: Key
    equality: Equality | None = None
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Message: answer these queries, all of them or none."""

    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Consult:
    """Message: ask an oracle about these outputs (reward) or prefixes (verifier, value)."""

    oracle: Oracle
    prefixes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Demonstrate:
    """Message: reveal the first ``length`` tokens of a demonstration (``None``: all)."""

    length: int | None


@dataclass(frozen=True, slots=True)
class Decode:
    """Message: the text of a prefix (free)."""

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class AskHiddenStates:
    """Message: hidden states of the generator.

    Attributes:
        prefixes: where.
        layers: the laws of how many of the last layers; ``None``: features of complete outputs.
    """

    prefixes: tuple[Prefix, ...]
    layers: int | None


Message = Ask | Consult | Demonstrate | Decode | AskHiddenStates


def sanitize(message: object) -> Message:
    """The message once more, made of nothing but new plain values.

    What a learner makes stops here, in its own thread: what is checked behind the door is what is
    asked, and no iterator or property of a learner runs there.

    Raises:
        InvalidInput: it is not a message, or a field is not what it should be.
    """
    if type(message) is Ask:
        return Ask(tuple(map(_query, message.queries)))
    if type(message) is Consult:
        oracle = message.oracle
        if type(oracle) is not Oracle:
            raise InvalidInput(f"expected an Oracle, got {oracle!r}")
        return Consult(oracle, tuple(map(_prefix, message.prefixes)))
    if type(message) is Demonstrate:
        return Demonstrate(_integer(message.length, "length"))
    if type(message) is Decode:
        return Decode(_prefix(message.prefix))
    if type(message) is AskHiddenStates:
        return AskHiddenStates(
            tuple(map(_prefix, message.prefixes)), _integer(message.layers, "layers")
        )
    raise InvalidInput(f"a session sends messages, not {message!r}")


def _query(query: object) -> Query:
    if type(query) is not Query:
        raise InvalidInput(f"ask takes Query objects, got {query!r}")
    report, forced, n, length = query.report, query.forced, query.n, query.length
    if type(report) is not Report:
        raise InvalidInput(f"a query's report must be a Report, got {report!r}")
    if type(n) is not int and (n := _integer(n, "n")) is None:
        raise InvalidInput("n must be an integer, got None")
    return Query(
        _prefix(query.prefix),
        n,
        length if type(length) is int else _integer(length, "length"),
        Report(report.kind, report.k),
        None if forced is None else as_tokens(forced),
    )


def _integer(value: object, name: str) -> int | None:
    if value is None or type(value) is int:
        return value
    try:
        return as_tokens((value,))[0]  # type: ignore[arg-type]
    except InvalidInput:
        raise InvalidInput(f"{name} must be an integer, got {value!r}") from None


@dataclass(slots=True)
class Answer:
    """What comes back for a message: a value or an error, and the account after it."""

    value: Any
    error: Exception | None
    spent: Cost


@dataclass(slots=True, eq=False)
class Envelope:
    """A message and the future that its answer resolves."""

    message: Message
    future: asyncio.Future[Answer]


class Session:
    """A metered, contract-enforced view of one generator on one problem.

    Every verb that touches the generator lowers to ``ask``. Refused requests raise
    ``AccessDenied`` or ``BudgetExceeded`` and cost nothing.
    """

    __slots__ = ("_box", "_facts", "_loop", "_spent", "rng")

    def __init__(self, facts: Facts, loop: asyncio.AbstractEventLoop, box: list[Envelope]) -> None:
        self._facts = facts
        self._loop = loop
        self._box = box
        self._spent = Cost()
        self.rng = keyed_rng(facts.rng_key)

    # ---- public facts ----------------------------------------------------------------------

    @property
    def root(self) -> Prefix:
        """The empty prefix ∅."""
        return Prefix()

    @property
    def prompt(self) -> tuple[int, ...]:
        """Prompt tokens."""
        return self._facts.prompt

    @property
    def horizon(self) -> int:
        """H: most tokens of an output."""
        return self._facts.horizon

    @property
    def vocab_size(self) -> int:
        """K."""
        return self._facts.vocab_size

    @property
    def contract(self) -> Contract:
        """What is granted."""
        return self._facts.contract

    @property
    def budget(self) -> Budget:
        """The most this session may spend."""
        return self._facts.budget

    @property
    def spent(self) -> Cost:
        """What was charged up to the last answer."""
        return self._spent

    @property
    def prices(self) -> Prices | None:
        """US dollars per million tokens, if the generator declares them."""
        return self._facts.prices

    @overload
    def remaining(
        self, currency: Literal["tokens", "queries", "calls"] = "tokens"
    ) -> int | None: ...
    @overload
    def remaining(self, currency: str) -> int | Fraction | None: ...
    def remaining(self, currency: str = "tokens") -> int | Fraction | None:
        """What is left of a budget, exactly (US dollars as a fraction); ``None``: unlimited."""
        if currency not in Budget.__dataclass_fields__:
            raise InvalidInput(
                f"unknown currency {currency!r}; known: {list(Budget.__dataclass_fields__)}"
            )
        return left(self.budget, currency, self.prices, self._spent)

    def is_complete(self, prefix: Prefix) -> bool:
        """Whether ``prefix`` is an output: ended by its last token (a stop token, or one that completes
        a stop text), or H tokens long."""
        return len(prefix) >= self.horizon or self._facts.stop.ends(prefix)

    # ---- the generator ---------------------------------------------------------------------

    async def ask(self, queries: Iterable[Query]) -> list[Reply]:
        """Ask everything at once: one reply per query, in order; all are permitted or none is asked.

        Raises:
            InvalidInput: a query is malformed.
            AccessDenied: a query is not permitted.
            BudgetExceeded: the worst case of all queries together does not fit.
        """
        queries = tuple(queries)
        return await self._send(Ask(queries)) if queries else []

    async def _one(self, query: Query) -> Reply:
        return (await self._send(Ask((query,))))[0]

    async def rollouts(self, n: int, *, report: Report | None = None) -> Reply:
        """``n`` complete outputs from the root."""
        return await self._one(Query(Prefix(), n, None, self._default(report)))

    async def continuations(
        self, prefix: Prefix, n: int, *, length: int | None = None, report: Report | None = None
    ) -> Reply:
        """``n`` continuations of ``prefix`` of at most ``length`` tokens (``None``: to the end)."""
        return await self._one(Query(_prefix(prefix), n, length, self._default(report)))

    async def draws(self, prefix: Prefix, n: int, *, report: Report | None = None) -> Reply:
        """``n`` conditional draws of the next token at ``prefix``."""
        return await self._one(Query(_prefix(prefix), n, 1, self._default(report)))

    async def law(self, prefix: Prefix) -> FloatArray:
        """(K,) nats: the next-token law at ``prefix``. Needs FULL reports."""
        reply = await self._one(Query(_prefix(prefix), 1, 1, Report.FULL))
        assert reply.laws is not None
        return reply.laws[0, 0]

    async def top_k(self, prefix: Prefix, k: int = 1) -> tuple[IntArray, FloatArray]:
        """((k,) tokens, (k,) nats): the most likely next tokens. Needs ARGMAX(k), TOPK(k) or FULL."""
        reply = await self._one(Query(_prefix(prefix), 1, 1, Report.ARGMAX(k)))
        assert reply.top_tokens is not None
        assert reply.top_logprobs is not None
        return reply.top_tokens[0, 0], reply.top_logprobs[0, 0]

    async def score(self, prefix: Prefix, continuation: Iterable[int]) -> FloatArray:
        """(len,) nats: log P of each forced token after ``prefix``. Needs LOGPROB and control over
        every prefix it passes through."""
        forced = as_tokens(continuation)
        query = Query(_prefix(prefix), 1, None, Report.LOGPROB, forced)
        reply = await self._one(query)
        assert reply.logprobs is not None
        return reply.logprobs[0]

    # ---- oracles ---------------------------------------------------------------------------

    async def rewards(self, outputs: Sequence[Prefix]) -> list[float]:
        """Outcome rewards of complete outputs (any outputs, also ones the generator never drew)."""
        return await self._send(Consult(Oracle.REWARD, tuple(map(_prefix, outputs))))

    async def reward(self, output: Prefix) -> float:
        """Outcome reward of one complete output."""
        return (await self.rewards([output]))[0]

    async def verify_all(self, prefixes: Sequence[Prefix]) -> list[bool]:
        """For each prefix: can it still become a right output?"""
        return await self._send(Consult(Oracle.VERIFIER, tuple(map(_prefix, prefixes))))

    async def verify(self, prefix: Prefix) -> bool:
        """Can this prefix still become a right output?"""
        return (await self.verify_all([prefix]))[0]

    async def demonstration(self, length: int | None = None) -> Prefix:
        """The first ``length`` tokens of a right output (``None``: all of it)."""
        return await self._send(Demonstrate(length))

    async def values(self, prefixes: Sequence[Prefix]) -> list[float]:
        """For each prefix an estimate ≥ 0 of its value; the problem says of what."""
        return await self._send(Consult(Oracle.VALUE, tuple(map(_prefix, prefixes))))

    async def value(self, prefix: Prefix) -> float:
        """An estimate ≥ 0 of the value of one prefix."""
        return (await self.values([prefix]))[0]

    async def layer_laws(self, prefix: Prefix, layers: int) -> FloatArray:
        """(d, K) nats: the next-token laws at ``prefix`` read out of the last d = min(``layers``, L) of
        the generator's L layers through its output head. The last row is the generator's own law,
        before the contract's temperature, top-k and top-p.

        Needs the oracle +hidden and control over ``prefix``, as ``law`` does, but no report. Charged
        as ``law`` is, and one state.
        """
        return (await self._send(AskHiddenStates((_prefix(prefix),), layers)))[0]

    async def features(self, outputs: Sequence[Prefix]) -> FloatArray:
        """(n, d): the generator's features of outputs, or of prefixes of at least one token, one row
        each; of a language model the mean of the last layer's states at these tokens.

        Needs the oracle +hidden; below chosen control, strings whose every token the generator itself
        emitted in this session. Charged for each: its tokens and the prompt's as prefill, one state.
        """
        return await self._send(AskHiddenStates(tuple(map(_prefix, outputs)), None))

    async def text(self, prefix: Prefix) -> str:
        """The text of ``prefix``, cut before the stop text. Free: it says nothing about the law."""
        return await self._send(Decode(_prefix(prefix)))

    async def votes(self, outputs: Sequence[Prefix]) -> list[int]:
        """For each output the number of its answer: equal where the problem takes the answers for the
        same, counted from 0 in order of appearance; −1 where an output gives no answer. Free."""
        by, firsts, found = self._facts.equality, list[str](), list[int]()
        for output in outputs:
            text = await self.text(output)
            answer = text.strip() if by is None else by.find(text)
            if answer is None:
                found.append(-1)
                continue
            known = (i for i, a in enumerate(firsts) if a == answer or (by and by.same(a, answer)))
            place = next(known, len(firsts))
            firsts += [answer] * (place == len(firsts))
            found.append(place)
        return found

    # ---- the letter box --------------------------------------------------------------------

    def _default(self, report: Report | None) -> Report:
        if report is not None:
            return report
        granted = self.contract.report
        return Report.SAMPLE if granted.draws else granted

    async def _send(self, message: Message) -> Any:
        if asyncio._get_running_loop() is not self._loop:
            raise InvalidInput(
                "a session serves the learner it was made for, in its own event loop: it was used by "
                "another learner, or in another thread"
            )
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._box.append(Envelope(sanitize(message), future))
        answer = await future
        self._spent = answer.spent
        if answer.error is not None:
            raise answer.error
        return answer.value

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("a session can't be pickled or copied: it is a place, not a value")

    def __repr__(self) -> str:
        return f"<session {self.contract}, H={self.horizon}, K={self.vocab_size}>"


def _prefix(prefix: object) -> Prefix:
    """A fresh, checked prefix: a learner's object is never trusted beyond its tokens."""
    if type(prefix) is not Prefix and not isinstance(prefix, (Prefix, tuple, list)):
        raise InvalidInput(f"expected a Prefix or a sequence of tokens, got {prefix!r}")
    return Prefix.of(as_tokens(prefix))  # type: ignore[arg-type]
