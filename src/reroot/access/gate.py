"""The gate behind a session's door: checks, meters and remembers; turns queries into requests.

One gate per session. It runs in the runner's thread and is never reachable from a learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import Contract, Oracle, Report
from ..errors import AccessDenied, BudgetExceeded, InvalidInput, RerootError
from ..generators.base import Request
from ..randomness import stream_key
from ..tasks.base import Problem, check, estimate, score
from ..types import Budget, Cost, Output, Prefix, Query, Reply
from .coarsen import coarsen
from .episode import Episode
from .hidden_states import Inspected, check_inspection, checked_hidden_states, price
from .meter import Meter
from .rules import PrefixRules, no_oracle
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

_JUDGES: dict[Oracle, tuple[str, Callable[[Problem, Output], float]]] = {
    Oracle.REWARD: ("rewards", score),
    Oracle.VERIFIER: ("verifications", check),
    Oracle.VALUE: ("values", estimate),
}
MAX_CELLS = 1 << 28
"""Most array entries (draws x length x reported values) that one request may ask for."""


@dataclass(slots=True)
class Admitted:
    """An ``Ask`` that was permitted and paid for in advance."""

    queries: tuple[Query, ...]
    requests: list[Request]
    worst: Cost
    lengths: list[int] = field(default_factory=list[int])


class Gate:
    """Contract, budget and memory of one session."""

    def __init__(self, episode: Episode, contract: Contract, budget: Budget, seed: int) -> None:
        self.episode = episode
        # copies: a learner may hold the caller's contract or budget, or a report that is shared
        self.contract = deepcopy(contract.resolved)
        self.meter = Meter(replace(budget))
        self.rules = PrefixRules(episode.horizon, self.contract.sampling)
        self.seed = seed
        self._drawn: dict[tuple[int, int], int] = {}  # continuations drawn so far, per stream
        self._revealed = 0

    def facts(self) -> Facts:
        """What the learner may know from the start, in copies: nothing of the gate's own."""
        return Facts(
            prompt=self.episode.prompt,
            vocab_size=self.episode.generator.vocab_size,
            horizon=self.episode.horizon,
            stop=self.episode.stop,
            contract=deepcopy(self.contract),
            budget=replace(self.meter.budget),
            rng_key=stream_key(self.seed, self.episode.problem.id, "learner"),
        )

    # ---- queries ---------------------------------------------------------------------------

    def admit(self, message: Ask) -> Admitted:
        """Check and reserve; nothing is remembered or reserved when it raises.

        Raises:
            InvalidInput, AccessDenied, BudgetExceeded: see ``Session.ask``.
        """
        queries = message.queries
        for query in queries:
            self._check(query)
        self.rules.check(self.contract, queries)
        lengths = [self._length(query) for query in queries]
        self._check_size(queries, lengths)
        worst = sum(map(self._worst_case, queries, lengths), Cost())
        self.meter.reserve(worst)
        self.rules.note_asked(queries)
        requests = [self._request(q, n) for q, n in zip(queries, lengths, strict=True)]
        return Admitted(queries, requests, worst, lengths)

    def complete(self, admitted: Admitted, replies: Sequence[Reply]) -> Answer:
        """Charge what was used, remember what was built, coarsen what is shown.

        Raises:
            BackendError: a reply breaks the generator protocol.
        """
        vocab_size = self.episode.generator.vocab_size
        shown = [
            coarsen(reply, query, length, vocab_size)
            for query, length, reply in zip(
                admitted.queries, admitted.lengths, replies, strict=True
            )
        ]
        self.meter.settle(admitted.worst, sum(map(self._actual, admitted.queries, shown), Cost()))
        for query, seen in zip(admitted.queries, shown, strict=True):
            self.rules.note_reply(query, seen)
        return self.answer(shown)

    def admit_hidden_states(self, message: AskHiddenStates) -> Inspected:
        """As ``admit``, for hidden states."""
        what = "layer laws" if message.layers is not None else "features"
        self._granted(Oracle.HIDDEN, f"{what} at {len(message.prefixes)} prefixes")
        check_inspection(message, self.episode, self.contract, self.rules)
        worst = price(message, len(self.episode.prompt))
        self.meter.reserve(worst)
        if message.layers is not None:
            self.rules.note_inspected(message.prefixes)
        return Inspected(message, worst)

    def complete_hidden_states(
        self, inspected: Inspected, shown: npt.NDArray[np.floating[Any]]
    ) -> Answer:
        """Charge what was set aside; a copy of what is shown (``BackendError`` if it is no answer)."""
        value = checked_hidden_states(shown, inspected.message, self.episode.generator.vocab_size)
        self.meter.settle(inspected.worst, inspected.worst)
        return self.answer(value)

    def cancel(self, admitted: Admitted | Inspected, error: RerootError) -> Answer:
        """Give the reservation back after the generator failed."""
        self.meter.settle(admitted.worst, Cost())
        return self.answer(None, error)

    def answer(self, value: object, error: RerootError | None = None) -> Answer:
        """What the learner gets: a value or an error, and the account."""
        return Answer(value, None if error is None else bare(error), self.meter.spent)

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
        total = 0
        for query, length in zip(queries, lengths, strict=True):
            vocab_size, report = self.episode.generator.vocab_size, query.report
            values = vocab_size if report.has_law else 1 + min(report.top, vocab_size)
            shared = 1 if length == 1 else query.n  # one law serves all draws of a single token
            total += max(query.n * length, shared * length * values)
            if total > MAX_CELLS:
                raise InvalidInput(
                    f"{query} may fill {query.n:,} x {length:,} x {values:,} values, and all that "
                    f"is asked at once may fill {MAX_CELLS:,}; ask in smaller pieces"
                )

    def _request(self, query: Query, length: int) -> Request:
        prefix = query.prefix.tokens
        key = stream_key(self.seed, self.episode.problem.id, "draws", prefix)
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

    def _cost(self, query: Query, tokens: int) -> Cost:
        submitted = len(self.episode.prompt) + len(query.prefix)
        if query.forced is not None:
            return Cost(queries=len(query.forced), prefill=submitted + len(query.forced))
        if self.rules.is_rollout(query):
            return Cost(rollouts=query.n, tokens=tokens, prefill=submitted)
        return Cost(queries=query.n, tokens=tokens, prefill=submitted)

    def _worst_case(self, query: Query, length: int) -> Cost:
        return self._cost(query, query.n * length)

    def _actual(self, query: Query, reply: Reply) -> Cost:
        return self._cost(query, int(reply.lengths.sum()))

    # ---- oracles and text ------------------------------------------------------------------

    def serve(self, message: Message, recorded: Sequence[float] | None = None) -> Answer:
        """Answer a message that does not need the generator.

        With ``recorded``, the verdicts of an interrupted attempt, the oracle is not called again.
        """
        if isinstance(message, Consult):
            value = self._consult(message.oracle, message.prefixes, recorded)
        elif isinstance(message, Demonstrate):
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

    def _consult(
        self,
        oracle: Oracle,
        prefixes: Sequence[Prefix],
        recorded: Sequence[float] | None,
    ) -> Sequence[float]:
        if oracle not in _JUDGES:
            raise InvalidInput(f"{oracle!r} is not consulted about prefixes")
        self._granted(oracle, f"{oracle} of {len(prefixes)} prefixes")
        outputs = [self._judged(oracle, prefix) for prefix in prefixes]
        currency, ask = _JUDGES[oracle]
        cost = Cost(**{currency: len(outputs)})
        self.meter.reserve(cost)
        self.meter.settle(cost, cost)  # a call that fails inside the task is paid all the same
        if recorded is not None:
            return recorded
        return [ask(self.episode.problem, output) for output in outputs]

    def _judged(self, oracle: Oracle, prefix: Prefix):
        self.episode.check_tokens(prefix.tokens)
        output = self.episode.output(prefix.tokens)
        if oracle == Oracle.REWARD and not output.complete:
            raise InvalidInput(
                f"outcome rewards are for complete outputs; {prefix} has {len(prefix)} of "
                f"{self.episode.horizon} tokens and no stop token at its end"
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


def bare(error: RerootError) -> RerootError:
    """The same kind of error with the same text, new: no frame, cause or object travels with it."""
    if isinstance(error, AccessDenied):
        return AccessDenied(error.query, error.rule, error.weakest)
    if isinstance(error, BudgetExceeded):
        return BudgetExceeded(error.currency, error.requested, error.remaining)
    kind = next(k for k in type(error).__mro__ if k.__module__ == RerootError.__module__)
    return kind(str(error))
