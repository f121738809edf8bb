"""A generator behind a weaker interface: what it serves is enforced, and what it did is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...contract import Contract, Control, Sampling
from ...errors import InvalidInput
from ...types import FloatArray, Physical, Prefix, Reply
from ..base import Capabilities, Generator, Request
from ..stops import Stop


@dataclass(slots=True)
class Used:
    """What was asked of a held generator.

    Attributes:
        calls: requests; a rollout that was waited for is one.
        draws: tokens or rollouts that were drawn.
    """

    calls: int = 0
    draws: int = 0


class Narrowed:
    """``generator`` behind the interface ``serves``: anything stronger is refused.

    Prefixes are remembered per prompt since construction, as a session remembers them. Its base law
    is not shown (``log_laws``), not even where it is served at temperature 1.

    Args:
        generator: what answers.
        serves: control, report and sampling law; requests name this sampling law.

    Raises:
        InvalidInput: ``generator`` cannot honour ``serves``, or it grants oracles.
    """

    def __init__(self, generator: Generator, serves: Contract | str) -> None:
        contract = Contract.parse(serves).resolved
        refusal = generator.capabilities.refusal(contract)
        if refusal is not None or contract.oracles:
            why = refusal or "an interface to a generator grants no oracles"
            raise InvalidInput(f"{contract} cannot be served by {generator!r}: {why}")
        self._inner = generator
        self._serves = contract
        self._known: dict[tuple[int, ...], tuple[set[tuple[int, ...]], set[tuple[int, ...]]]] = {}
        self._standing: dict[tuple[int, ...], Counter[tuple[int, ...]]] = {}
        self._calls = self._draws = 0

    @property
    def serves(self) -> Contract:
        """The interface, its sampling law named."""
        return self._serves

    @property
    def used(self) -> Used:
        """Calls and draws since construction."""
        return Used(self._calls, self._draws)

    @property
    def vocab_size(self) -> int:
        return self._inner.vocab_size

    @property
    def capabilities(self) -> Capabilities:
        one = self._serves
        forced = one.control >= Control.RESET and one.report.has_logprob
        return Capabilities(one.control, one.report, not _base(one.sampling), forced)

    @property
    def end_token(self) -> int | None:
        return self._inner.end_token

    def encode(self, text: str) -> tuple[int, ...]:
        return self._inner.encode(text)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._inner.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._inner.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        return self._inner.stops(texts)

    def max_length(self) -> int | None:
        return self._inner.max_length()

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """Refused: the interface does not show the base law (``InvalidInput``)."""
        raise InvalidInput(f"an interface at {self._serves} does not show the base law")

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer in order; each request may use what the ones before it have visited.

        Raises:
            InvalidInput: the interface does not permit a request; the message says why.
        """
        return [self._served(request) for request in requests]

    def physical(self) -> Physical:
        return self._inner.physical()

    def describe(self) -> Mapping[str, object]:
        return {
            "family": "narrowed",
            "serves": str(self._serves),
            "of": dict(self._inner.describe()),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r}, {self._serves})"

    def _served(self, request: Request) -> Reply:
        self._check(request)
        (reply,) = self._inner.answer([request])
        self._note(request, reply)
        return reply

    def _note(self, request: Request, reply: Reply) -> None:
        self._calls += 1
        self._draws += request.n if request.report.draws and request.forced is None else 0
        asked, visited = self._places(request.prompt)
        asked.add(request.prefix)
        passes = self._passes(request.prompt)
        if self._serves.control == Control.EPISODE and (left := self._stand(request)):
            passes[left] -= request.n
        for output in reply.outputs() if request.forced is None else ():
            visited.update(output.tokens[:t] for t in range(len(request.prefix) + 1, len(output)))
            visited.add(output.tokens)
            passes[output.tokens] += 1

    def _places(self, prompt: tuple[int, ...]) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
        return self._known.setdefault(prompt, (set(), {()}))

    def _passes(self, prompt: tuple[int, ...]) -> Counter[tuple[int, ...]]:
        """How many passes stand where."""
        return self._standing.setdefault(prompt, Counter())

    def _stand(self, request: Request) -> tuple[int, ...] | None:
        """Where the passes stand that a request goes on with; () begins some, ``None``: there are none."""
        at, passes = request.prefix, self._passes(request.prompt)
        stands = (at, at[:-1]) if len(at) > 1 else (at,)
        return next((u for u in stands if not u or passes[u] >= request.n), None)

    def _check(self, request: Request) -> None:
        said = self._serves
        if not request.report <= said.report:
            raise InvalidInput(f"it reports up to {said.report}, not {request.report}")
        if request.sampling != said.sampling:
            raise InvalidInput(f"it draws at {said.sampling}, not at {request.sampling}")
        if request.forced is not None and said.control < Control.RESET:
            raise InvalidInput(f"{said.control} forces no tokens")
        asked, visited = self._places(request.prompt)
        at = request.prefix
        if said.control == Control.ROOT:
            limit = self.max_length()
            room = None if limit is None else limit - len(request.prompt)
            allowed = at == () and (room is None or request.length == room)
        elif said.control == Control.EPISODE:
            greedy = not request.report.draws and at != ()
            allowed = not greedy and self._stand(request) is not None
        elif said.control == Control.VISITED:
            allowed = at in visited
        elif said.control == Control.RESET:
            allowed = at == () or at[:-1] in asked or at[:-1] in visited
        else:
            allowed = True
        if not allowed:
            raise InvalidInput(
                f"{said.control} does not permit {request.length} tokens at {Prefix(at)}"
            )


def _base(sampling: Sampling | None) -> bool:
    return sampling is None or sampling.is_base


def at_prefix(request: Request, prefix: tuple[int, ...]) -> Request:
    """``request`` for one token at ``prefix``."""
    return replace(request, prefix=prefix, length=1)
