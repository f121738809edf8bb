"""The desk behind a session's door: checks, meters and remembers; turns queries into requests.

One desk per session. It runs in the runner's thread and is never reachable from a learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import AccessDenied, InvalidInput, RerootError
from ..generators.base import Request
from ..randomness import stream_key
from ..tasks.base import check, judge
from ..types import Budget, Cost, Prefix, Query, Reply, as_tokens
from .coarsen import coarsen
from .contract import Contract, Oracle, Report
from .episode import Episode
from .meter import Meter
from .rules import PrefixRules
from .session import Answer, Ask, Consult, Decode, Demonstrate, Facts, Message

MAX_CELLS = 1 << 28
"""Most array entries (draws x length x reported values) that one query may ask for."""


@dataclass(slots=True)
class Admitted:
    """An ``Ask`` that was permitted and paid for in advance."""

    queries: tuple[Query, ...]
    requests: list[Request]
    worst: Cost
    lengths: list[int] = field(default_factory=list[int])


class Desk:
    """Contract, budget and memory of one session."""

    def __init__(self, episode: Episode, contract: Contract, budget: Budget, seed: int) -> None:
        self.episode = episode
        self.contract = contract.resolved
        self.meter = Meter(budget)
        self.rules = PrefixRules(episode.horizon)
        self.seed = seed
        self._drawn: dict[tuple[int, int], int] = {}  # continuations drawn so far, per stream
        self._revealed = 0

    def facts(self) -> Facts:
        """What the learner may know from the start."""
        return Facts(
            prompt=self.episode.prompt,
            vocab_size=self.episode.generator.vocab_size,
            horizon=self.episode.horizon,
            stop=self.episode.stop,
            contract=self.contract,
            budget=self.meter.budget,
            rng_key=stream_key(self.seed, self.episode.problem.id, "learner"),
        )

    # ---- queries ---------------------------------------------------------------------------

    def admit(self, message: Ask) -> Admitted:
        """Check and reserve; nothing is remembered or reserved when it raises.

        Raises:
            InvalidInput, AccessDenied, BudgetExceeded: see ``Session.ask``.
        """
        queries = tuple(self._checked(query) for query in message.queries)
        self.rules.check(self.contract, queries)
        lengths = [self._length(query) for query in queries]
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
        shown: list[Reply] = []
        actual = Cost()
        for query, length, reply in zip(admitted.queries, admitted.lengths, replies, strict=True):
            seen = coarsen(reply, query, length, self.episode.generator.vocab_size)
            shown.append(seen)
            actual += self._actual(query, seen)
            if query.given is None:
                self.rules.note_emitted(seen)
        self.meter.settle(admitted.worst, actual)
        return Answer(shown, None, self.meter.spent)

    def cancel(self, admitted: Admitted, error: Exception) -> Answer:
        """Give the reservation back after the generator failed."""
        self.meter.settle(admitted.worst, Cost())
        return Answer(None, error, self.meter.spent)

    def _checked(self, query: Query) -> Query:
        """A copy made of plain values, so that what is checked is what is asked."""
        n, length = _whole(query.n, "n"), query.length
        if n < 1:
            raise InvalidInput(f"a query needs n >= 1 continuations, got {n}")
        if length is not None and _whole(length, "length") < 1:
            raise InvalidInput(f"a query needs a length >= 1 or None, got {length}")
        report = query.report
        if type(report) is not Report:
            raise InvalidInput(f"a query's report must be a Report, got {report!r}")
        if not isinstance(query.prefix, (Prefix, tuple, list)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"a query's prefix must be a Prefix, got {query.prefix!r}")
        prefix = Prefix(as_tokens(query.prefix))
        self.episode.check_tokens(prefix.tokens)
        if self.episode.is_complete(prefix.tokens):
            raise InvalidInput(f"prefix {prefix} is a complete output: nothing follows it")
        if report == Report.NONE:
            raise InvalidInput(f"{query} reports nothing")
        if n != 1 and (not report.draws or query.given is not None):
            raise InvalidInput(f"{query}: a query without draws takes n = 1, got n = {n}")
        given = None if query.given is None else as_tokens(query.given)
        if given is not None:
            if not report.has_logprob or length is not None or not given:
                raise InvalidInput(
                    f"{query}: scoring takes at least one given token, no length, and LOGPROB or more"
                )
            self.episode.check_tokens(prefix.tokens + given)
        return Query(prefix, n, None if length is None else int(length), report, given)

    def _length(self, query: Query) -> int:
        """Tokens per continuation, at most."""
        if query.given is not None:
            return len(query.given)
        room = self.episode.horizon - len(query.prefix)
        length = room if query.length is None else min(query.length, room)
        values = self.episode.generator.vocab_size if query.report.has_law else 1 + query.report.top
        shared = 1 if length == 1 else query.n  # one law serves all draws of a single token
        if max(query.n * length, shared * length * values) > MAX_CELLS:
            raise InvalidInput(
                f"{query} may fill {query.n:,} x {length:,} x {values:,} values, more than "
                f"{MAX_CELLS:,}; ask in smaller pieces"
            )
        return length

    def _request(self, query: Query, length: int) -> Request:
        prefix = query.prefix.tokens
        key = stream_key(self.seed, self.episode.problem.id, "draws", prefix)
        first = self._drawn.get(key, 0)
        if query.report.draws and query.given is None:
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
            given=query.given,
        )

    def _cost(self, query: Query, tokens: int) -> Cost:
        submitted = len(self.episode.prompt) + len(query.prefix)
        if query.given is not None:
            return Cost(queries=len(query.given), prefill=submitted + len(query.given))
        if self.rules.is_rollout(query):
            return Cost(rollouts=query.n, tokens=tokens, prefill=submitted)
        return Cost(queries=query.n, tokens=tokens, prefill=submitted)

    def _worst_case(self, query: Query, length: int) -> Cost:
        return self._cost(query, query.n * length)

    def _actual(self, query: Query, reply: Reply) -> Cost:
        return self._cost(query, int(reply.lengths.sum()))

    # ---- oracles and text ------------------------------------------------------------------

    def serve(self, message: Message, recorded: list[float] | list[bool] | None = None) -> Answer:
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
        return Answer(value, None, self.meter.spent)

    def _granted(self, oracle: Oracle, what: str) -> None:
        if oracle not in self.contract.oracles:
            weakest = self.contract.with_oracles([oracle])
            raise AccessDenied(what, f"the contract does not grant the {oracle} oracle", str(weakest))

    def _consult(
        self,
        oracle: Oracle,
        prefixes: Sequence[Prefix],
        recorded: list[float] | list[bool] | None,
    ) -> list[float] | list[bool]:
        if oracle not in (Oracle.REWARD, Oracle.VERIFIER):
            raise InvalidInput(f"{oracle!r} is not consulted about prefixes")
        self._granted(oracle, f"{oracle} of {len(prefixes)} prefixes")
        outputs = [self._judged(oracle, prefix) for prefix in prefixes]
        count = len(outputs)
        cost = Cost(rewards=count) if oracle == Oracle.REWARD else Cost(verifications=count)
        self.meter.reserve(cost)
        self.meter.settle(cost, cost)  # a call that fails inside the task is paid all the same
        if recorded is not None:
            return recorded
        problem = self.episode.problem
        if oracle == Oracle.REWARD:
            return [judge(problem, output) for output in outputs]
        return [check(problem, output) for output in outputs]

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
        if length is not None and _whole(length, "length") < 0:
            raise InvalidInput(f"a demonstration prefix needs a length >= 0, got {length}")
        length = len(shown) if length is None else min(int(length), len(shown))
        cost = Cost(demonstrations=max(0, length - self._revealed))
        self.meter.reserve(cost)
        self.meter.settle(cost, cost)
        self._revealed = max(self._revealed, length)
        return shown[:length]


def _whole(value: object, name: str) -> int:
    try:
        (number,) = as_tokens((value,))  # type: ignore[arg-type]
    except InvalidInput:
        raise InvalidInput(f"{name} must be an integer, got {value!r}") from None
    return number


def refusal(error: RerootError) -> RerootError:
    """The same error without traceback, cause or context, so that no frame travels with it."""
    error.__traceback__ = None
    error.__cause__ = None
    error.__context__ = None
    return error
