"""The gate behind a session's door: checks, meters and remembers; turns queries into requests.

One gate per session. It runs in the runner's thread and is never reachable from a learner.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..contract import Contract, Oracle, Report
from ..errors import (
    AccessDenied,
    BackendError,
    BudgetExceeded,
    InvalidInput,
    OracleError,
    RerootError,
)
from ..generators.base import Request
from ..randomness import Key, Streams, learner_key
from ..tasks import judges
from ..types import Budget, Cost, FloatArray, Prefix, Query, Reply
from .charges import JUDGES, cost_of, generated
from .coarsen import coarsen
from .episode import Episode
from .failures import Failure
from .hidden_states import check_inspection, checked_hidden_states, price
from .meter import Meter
from .rules import Marks, PrefixRules, no_oracle
from .session import (
    Answer,
    Ask,
    AskHiddenStates,
    Consult,
    Decode,
    Demonstrate,
    Facts,
    Message,
)

MAX_CELLS = 1 << 28
"""Most array entries (draws x length x reported values) that one request may ask for."""


@dataclass(slots=True, eq=False)
class Admitted:
    """A message that was permitted and paid for in advance.

    Attributes:
        message: what the generator has to answer.
        kind: what can be answered in one call is of one kind.
        prompt: of its episode.
        worst: what is set aside for it.
        marks: identities of the prefixes at which it asks, query by query.
        requests: of an ``Ask``, one per query.
    """

    message: Ask | AskHiddenStates
    kind: object
    prompt: tuple[int, ...]
    worst: Cost
    marks: Marks
    requests: Sequence[Request] = ()


class Gate:
    """Contract, budget and memory of one session."""

    def __init__(
        self,
        episode: Episode,
        contract: Contract,
        budget: Budget,
        seed: int,
        judge_timeout: float | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.episode = episode
        # copies: a learner may hold the caller's contract or budget, or a report that is shared
        self.contract = contract.resolved.apart()
        prices = episode.generator.capabilities.prices
        self.meter = Meter(replace(budget), prices) if meter is None else meter
        self.rules = PrefixRules(episode.horizon, self.contract.sampling, self.contract.control)
        self.seed = seed
        self._limit = judge_timeout
        self._streams = Streams(seed, episode.problem.id, "draws")
        self._drawn: dict[Key, int] = {}  # continuations drawn so far, per stream
        self._revealed = 0
        self._causes: dict[
            str, tuple[Failure, RerootError]
        ] = {}  # by kind: what failed behind here

    def facts(self) -> Facts:
        """What the learner may know from the start, in copies: nothing of the gate's own."""
        return Facts(
            prompt=self.episode.prompt,
            vocab_size=self.episode.generator.vocab_size,
            horizon=self.episode.horizon,
            stop=self.episode.stop.apart(),
            equality=copy.copy(self.episode.problem.equality),
            contract=self.contract.apart(),
            budget=replace(self.meter.budget),
            rng_key=learner_key(self.seed, self.episode.problem.id),
            prices=copy.copy(self.meter.prices),
        )

    # ---- what the generator answers ----------------------------------------------------------

    def admit(self, message: Ask | AskHiddenStates) -> Admitted:
        """Check and reserve; nothing is remembered or reserved when it raises.

        Raises:
            InvalidInput, AccessDenied, BudgetExceeded: see ``Session.ask``, ``Session.layer_laws``
                and ``Session.features``.
        """
        if isinstance(message, AskHiddenStates):
            return self._admit_hidden_states(message)
        queries = message.queries
        for query in queries:
            self._check(query)
        marks = self.rules.check(self.contract, queries)
        lengths = [self._length(query) for query in queries]
        self._check_size(queries, lengths)
        most = [query.n * length for query, length in zip(queries, lengths, strict=True)]
        worst = self._cost(queries, most)
        self.meter.reserve(worst)
        self.rules.ask(marks)
        requests = [self._request(q, n) for q, n in zip(queries, lengths, strict=True)]
        return Admitted(message, "queries", self.episode.prompt, worst, marks, requests)

    def _admit_hidden_states(self, message: AskHiddenStates) -> Admitted:
        what = "layer laws" if message.layers is not None else "features"
        self._granted(Oracle.HIDDEN, f"{what} at {len(message.prefixes)} prefixes")
        check_inspection(message, self.episode, self.contract, self.rules)
        worst = price(message, len(self.episode.prompt))
        self.meter.reserve(worst)
        marks = [] if message.layers is None else self.rules.marks_of(message.prefixes)
        self.rules.ask(marks)
        return Admitted(message, message.layers, self.episode.prompt, worst, marks)

    def shown(self, admitted: Admitted, found: Any) -> list[Reply] | FloatArray:
        """What the learner is to see of an answer: copied, or coarsened.

        Args:
            admitted: what was asked.
            found: the replies of an ``Ask``, or the hidden states.

        Raises:
            BackendError: the generator protocol is broken.
        """
        message, vocab_size = admitted.message, self.episode.generator.vocab_size
        if isinstance(message, AskHiddenStates):
            return checked_hidden_states(found, message, vocab_size)
        return [
            coarsen(reply, query, request.length, vocab_size)
            for query, request, reply in zip(message.queries, admitted.requests, found, strict=True)
        ]

    def charge(self, admitted: Admitted, shown: Any) -> Answer:
        """Charge what was used, and remember what was built; ``shown`` is of ``admitted``."""
        message = admitted.message
        if isinstance(message, AskHiddenStates):
            self.meter.settle(admitted.worst, admitted.worst)
            self.rules.answered(admitted.marks)
            return self.answer(shown)
        self.meter.settle(admitted.worst, self._cost(message.queries, [*map(generated, shown)]))
        self.rules.answered(admitted.marks)
        for query, seen, marks in zip(message.queries, shown, admitted.marks, strict=True):
            self.rules.note_reply(query, seen, marks.prefixes[0])
        return self.answer(shown)

    def cancel(self, admitted: Admitted) -> None:
        """The generator failed: the reservation is given back, and nothing was built."""
        self.meter.settle(admitted.worst, Cost())
        self.rules.failed(admitted.marks)

    def answer(self, value: object) -> Answer:
        """What the learner gets: a value, and the account."""
        return Answer(value, None, self.meter.spent)

    def refuse(self, error: RerootError, failure: Failure) -> Answer:
        """What the learner gets instead: an error, and the account; ``failure`` is what to record."""
        if isinstance(error, (BackendError, OracleError)):
            self._causes[failure.kind] = (failure, error)
        return Answer(None, bare(error), self.meter.spent)

    def cause(self, failure: Failure) -> tuple[Failure, RerootError | None]:
        """What was behind a learner's failure, and the exception, if what failed was behind here."""
        known = self._causes.get(failure.kind)
        if known is None or failure.message != _TOLD[type(known[1])]:
            return failure, None
        return known

    def _check(self, query: Query) -> None:
        """Refuse queries that make no sense, under whatever contract (``InvalidInput``)."""
        tokens, report, forced = query.prefix.tokens, query.report, query.forced
        if query.n < 1:
            raise InvalidInput(f"a query needs n >= 1 continuations, got {query.n}")
        if query.length is not None and query.length < 1:
            raise InvalidInput(f"a query needs a length >= 1 or None, got {query.length}")
        self.episode.check_tokens(tokens)
        if self.episode.is_complete(tokens):
            raise InvalidInput(f"prefix {query.prefix} is a complete output: nothing follows it")
        if report == Report.NONE:
            raise InvalidInput(f"{query} reports nothing")
        if query.n != 1 and (not report.draws or forced is not None):
            raise InvalidInput(f"{query}: a query without draws takes n = 1, got n = {query.n}")
        if forced is not None:
            if not report.has_logprob or query.length is not None or not forced:
                raise InvalidInput(
                    f"{query}: scoring takes at least one given token, no length, and LOGPROB or more"
                )
            self.episode.check_tokens(tokens + forced)

    def _length(self, query: Query) -> int:
        """Tokens per continuation, at most."""
        if query.forced is not None:
            return len(query.forced)
        room = self.episode.horizon - len(query.prefix)
        return room if query.length is None else min(query.length, room)

    def _check_size(self, queries: Sequence[Query], lengths: Sequence[int]) -> None:
        """Refuse a request whose replies would not fit into memory (``InvalidInput``)."""
        total, vocab_size = 0, self.episode.generator.vocab_size
        for query, length in zip(queries, lengths, strict=True):
            report, values = query.report, 1
            cells = query.n * length
            if report.has_law or report.top:
                values = vocab_size if report.has_law else 1 + min(report.top, vocab_size)
                shared = 1 if length == 1 else query.n  # one law serves all draws of a single token
                cells = max(cells, shared * length * values)
            total += cells
            if total > MAX_CELLS:
                raise InvalidInput(
                    f"{query} may fill {query.n:,} x {length:,} x {values:,} values, and all that "
                    f"is asked at once may fill {MAX_CELLS:,}; ask in smaller pieces"
                )

    def _request(self, query: Query, length: int) -> Request:
        prefix = query.prefix.tokens
        key = self._streams.key(prefix)
        first = self._drawn.get(key, 0)
        if query.report.draws and query.forced is None:
            self._drawn[key] = first + query.n
        sampling = self.contract.sampling
        assert sampling is not None
        return Request(
            prompt=self.episode.prompt,
            prefix=prefix,
            n=query.n,
            length=length,
            report=query.report,
            sampling=sampling,
            stop=self.episode.stop,
            key=key,
            first=first,
            forced=query.forced,
        )

    def _cost(self, queries: Sequence[Query], tokens: Sequence[int]) -> Cost:
        """What queries cost that had so many tokens generated each."""
        return cost_of(queries, tokens, len(self.episode.prompt), self.episode.horizon)

    # ---- oracles and text ------------------------------------------------------------------

    def serve(self, message: Message) -> Answer:
        """Answer a message that needs neither the generator nor a judge."""
        if isinstance(message, Demonstrate):
            value = self._demonstrate(message.length)
        elif isinstance(message, Decode):
            self.episode.check_tokens(message.prefix.tokens)
            value = self.episode.output(message.prefix.tokens).text
        else:
            raise InvalidInput(f"unknown message {message!r}")
        return self.answer(value)

    def _granted(self, oracle: Oracle, what: str) -> None:
        if oracle not in self.contract.oracles:
            raise no_oracle(oracle, what)

    def consult(self, message: Consult, recorded: Sequence[float] | None = None) -> judges.Begun:
        """Pay for an oracle's verdicts and begin to ask for them.

        With ``recorded``, the verdicts of an interrupted attempt, the oracle is not called again.
        """
        oracle, prefixes = message.oracle, message.prefixes
        if oracle not in JUDGES:
            raise InvalidInput(f"{oracle!r} is not consulted about prefixes")
        self._granted(oracle, f"{oracle} of {len(prefixes)} prefixes")
        outputs = [self._judged(oracle, prefix) for prefix in prefixes]
        currency, what = JUDGES[oracle]
        cost = Cost(**{currency: len(outputs)})
        self.meter.reserve(cost)
        self.meter.settle(cost, cost)  # a call that fails inside the task is paid all the same
        if recorded is not None:
            elsewhere = judges.elsewhere(self.episode.problem, what)
            return judges.Begun(lambda: list(recorded), elsewhere)
        return judges.begin(self.episode.problem, what, outputs, self._limit)

    def _judged(self, oracle: Oracle, prefix: Prefix):
        self.episode.check_tokens(prefix.tokens)
        output = self.episode.output(prefix.tokens)
        if oracle == Oracle.REWARD and not output.complete:
            raise InvalidInput(
                f"outcome rewards are for complete outputs; {prefix} has {len(prefix)} of "
                f"{self.episode.horizon} tokens and no stop at its end"
            )
        return output

    def _demonstrate(self, length: int | None) -> Prefix:
        self._granted(Oracle.DEMONSTRATION, "a demonstration")
        shown = self.episode.demonstration
        assert shown is not None
        if length is not None and length < 0:
            raise InvalidInput(f"a demonstration prefix needs a length >= 0, got {length}")
        length = len(shown) if length is None else min(length, len(shown))
        cost = Cost(demonstrations=max(0, length - self._revealed))
        self.meter.reserve(cost)
        self.meter.settle(cost, cost)
        self._revealed = max(self._revealed, length)
        return shown[:length]


_TOLD: dict[type[RerootError], str] = {
    BackendError: "the generator failed; the record of the attempt says how",
    OracleError: "a function of the task failed; the record of the attempt says how",
}
"""What a learner is told: texts of generators and tasks may hold a law or an answer."""


def bare(error: RerootError) -> RerootError:
    """The same kind of error, new: no frame, cause or object travels with it, and no foreign text."""
    if isinstance(error, AccessDenied):
        return AccessDenied(error.query, error.rule, error.weakest)
    if isinstance(error, BudgetExceeded):
        return type(error)(error.currency, error.requested, error.remaining)
    kind = next(k for k in type(error).__mro__ if k.__module__ == RerootError.__module__)
    return kind(_TOLD.get(kind, str(error)))
