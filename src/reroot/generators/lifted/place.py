"""What is held: a generator behind an interface, asked at one prefix, which is built where it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from ...contract import Contract, Control, Report, Sampling
from ...errors import BackendError, InvalidInput
from ...randomness import Key, stream_key
from ...types import FloatArray, Prefix, Reply
from ..base import Generator, Request
from .narrowed import Used
from .server import Bias, TakesBias

MOST = 1_000_000
"""Calls after which a wait for a prefix or a token is given up."""

_AT_ONCE = 32  # draws that are asked for together where they are looked at one by one


@runtime_checkable
class _Serves(Protocol):
    @property
    def serves(self) -> Contract: ...


@dataclass(frozen=True, slots=True)
class Interface:
    """A contract, and what comes with it.

    Attributes:
        contract: control, report and sampling law.
        bias: the logit bias it takes; from the root it is the same at every position.
        scores: whether it scores given tokens (teacher forcing).
    """

    contract: Contract
    bias: Bias | None = None
    scores: bool = False

    def __str__(self) -> str:
        kind = "" if self.bias is None else " + raw bias" if self.bias.raw else " + bias"
        return f"{self.contract}{kind}"


def interface_of(generator: Generator) -> Interface:
    """The interface of a generator: what it ``serves``, or all that it can, at temperature 1."""
    bias = generator.bias if isinstance(generator, TakesBias) else None
    can = generator.capabilities
    own = generator.serves if isinstance(generator, _Serves) else None
    contract = own or Contract(can.control, can.report, Sampling())
    return Interface(contract, bias, can.forced and can.report.has_logprob)


class Held:
    """A generator with its interface, and the account of what was asked of it.

    Args:
        generator: what is held.
        seed: of all draws that reductions make.
        most: calls after which a wait is given up.
    """

    def __init__(self, generator: Generator, seed: int = 0, most: int = MOST) -> None:
        self.generator = generator
        self.interface = interface_of(generator)
        self.used = Used()
        self.most = most
        self.built: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self._seed = seed

    @property
    def control(self) -> Control:
        return self.interface.contract.control

    @property
    def report(self) -> Report:
        return self.interface.contract.report

    @property
    def sampling(self) -> Sampling:
        sampling = self.interface.contract.resolved.sampling
        assert sampling is not None
        return sampling

    @property
    def bias(self) -> Bias:
        """The bias it takes (``InvalidInput`` if none)."""
        if self.interface.bias is None:
            raise InvalidInput(f"this needs a logit bias; {self.interface} takes none")
        return self.interface.bias

    def key(self, prompt: Sequence[int], prefix: Sequence[int], call: int, stream: Key) -> Key:
        """The random stream of one call; ``stream`` sets apart what must be independent."""
        tokens = (*prompt, -1, *prefix, -1, *(word >> 1 for word in stream), call)
        return stream_key(self._seed, "", "lifted", tokens)

    def send(self, request: Request, bias: Mapping[int, float] | None = None) -> Reply:
        """One call, with a bias where there is one; it is counted."""
        self.used.calls += 1
        self.used.draws += request.n if request.report.draws and request.forced is None else 0
        if not bias:
            return self.generator.answer([request])[0]
        self.bias.check(bias, self.generator.vocab_size)
        assert isinstance(self.generator, TakesBias)
        return self.generator.answer_biased(request, bias)

    def at(
        self, prompt: Sequence[int] = (), prefix: Sequence[int] = (), stream: Key = (0, 0)
    ) -> Place:
        """The place at a prefix; nothing is asked yet."""
        return Place(self, tuple(prompt), tuple(prefix), stream)


class Place:
    """One prefix of what is held. The first question builds the prefix, once, as the control demands.

    * ROOT: nothing is built; each answer waits for a rollout that passes the prefix.
    * EPISODE: nothing is built; each answer takes a pass of its own, which draws every second token of the
      prefix and puts in the others, and is given up where it draws another one; with a bias all are forced.
    * VISITED: redraws each token until the generator emits it; with a bias forces it.
    * RESET: asks at each prefix on the way once.
    * CHOSEN: nothing.
    """

    def __init__(
        self, held: Held, prompt: tuple[int, ...], prefix: tuple[int, ...], stream: Key
    ) -> None:
        self.held, self.prompt, self.prefix = held, prompt, prefix
        self.stream = stream
        self._calls = 0
        self._drawn: Reply | None = None
        self._next = 0
        self._built = held.control not in (Control.VISITED, Control.RESET) or not prefix

    @property
    def vocab_size(self) -> int:
        return self.held.generator.vocab_size

    def ask(
        self,
        n: int = 1,
        bias: Mapping[int, float] | None = None,
        forced: int | None = None,
    ) -> Reply:
        """n draws of one token (1 where nothing is drawn) with the held report.

        Args:
            n: number of draws.
            bias: token → nats.
            forced: a token to score instead.

        Raises:
            BackendError: the prefix was not met within the calls allowed.
        """
        if not self._built and (self.prompt, self.prefix) not in self.held.built:
            self.build()
        if self.held.control == Control.ROOT:
            return self._waited(n, bias)
        if self.held.control == Control.EPISODE and self.prefix:
            return self._passed(n, bias)
        request = self._request(self.prefix, n, 1)
        if forced is not None:
            request = replace(request, n=1, forced=(forced,))
        return self.held.send(request, bias)

    def draw(self) -> tuple[Reply, int]:
        """The next draw: a reply, and which of its draws. Only draws that are handed out are counted."""
        if self._drawn is None or self._next == self._drawn.n:
            waits = (Control.ROOT, Control.EPISODE)
            n = 1 if self.held.control in waits or not self.held.report.draws else _AT_ONCE
            self._drawn, self._next = self.ask(n), 0
            self.held.used.draws -= n if n > 1 else 0
        if self._drawn.n > 1:
            self.held.used.draws += 1
        self._next += 1
        return self._drawn, self._next - 1

    def token(self) -> int:
        """The next drawn token."""
        reply, i = self.draw()
        return int(reply.tokens[i, 0])

    def build(self, continuing: bool = False) -> None:
        """Make the prefix one that may be asked.

        Args:
            continuing: VISITED: draw on to the end of the prefix instead of one token at a time.

        Raises:
            BackendError: a token of the prefix was not drawn within the calls allowed.
        """
        self._built = True
        self.held.built.add((self.prompt, self.prefix))
        u, at, tries = self.prefix, 0, 0
        if self.held.control == Control.RESET:
            for t in range(len(u)):
                self.held.send(self._request(u[:t], 1, 1, -1 - t))
        while self.held.control == Control.VISITED and at < len(u):
            tries += 1
            length = len(u) - at if continuing else 1
            request = self._request(u[:at], 1, length, -tries)
            taken = self.held.interface.bias
            forced = {u[at]: taken.bound} if taken is not None and not continuing else None
            reply = self.held.send(request, forced)
            drawn = reply.continuation(0)
            at += next((i for i, a in enumerate(drawn) if a != u[at + i]), len(drawn))
            if tries > self.held.most:
                raise BackendError(f"{Prefix(u)} was not visited in {self.held.most:,} calls")

    def _waited(self, n: int, bias: Mapping[int, float] | None) -> Reply:
        """n rollouts that pass the prefix, cut to the token after it."""
        u, t, found = self.prefix, len(self.prefix), list[Reply]()
        room = self.held.generator.max_length()
        if room is None:
            raise InvalidInput("rollouts to be waited for need a generator with a largest length")
        drawn = self.held.report.draws  # else the rollout is always the same
        for _ in range(self.held.most if drawn else 1):
            reply = self.held.send(self._request((), 1, room - len(self.prompt)), bias)
            tokens = reply.continuation(0)
            if len(tokens) > t and tokens[:t] == u:
                found.append(_cut(reply, u))
                if len(found) == n:
                    return _joined(found)
        raise BackendError(f"no rollout passed {Prefix(u)} in {self.held.most:,} calls")

    def _passed(self, n: int, bias: Mapping[int, float] | None) -> Reply:
        """n answers, each at the end of a pass that met the prefix."""
        found: list[Reply] = []
        taken, u = self.held.interface.bias, self.prefix
        for _ in range(n):
            at, tries = 0, 0
            while at < len(u):
                tries += 1
                forced = None if taken is None else {u[at]: taken.bound}
                drawn = self.held.send(self._request(u[:at], 1, 1), forced).continuation(0)
                met = drawn == u[at : at + 1]
                at = 0 if not met else at + 1 if taken is not None else at + 2
                if tries > self.held.most:
                    raise BackendError(f"no pass met {Prefix(u)} in {self.held.most:,} calls")
            found.append(self.held.send(self._request(u, 1, 1), bias))
        return _joined(found)

    def _request(self, prefix: tuple[int, ...], n: int, length: int, call: int = 0) -> Request:
        """``call`` numbers what builds the prefix, so that answers do not depend on it."""
        self._calls += not call
        return Request(
            self.prompt,
            prefix,
            n if self.held.report.draws else 1,
            length,
            self.held.report,
            self.held.sampling,
            self.held.generator.stops(()),
            self.held.key(self.prompt, self.prefix, call or self._calls, self.stream),
        )


def _cut(reply: Reply, u: tuple[int, ...]) -> Reply:
    """Of a reply of one rollout, what it says about the token after u."""
    t = len(u)

    def part(name: str) -> FloatArray | None:
        array = getattr(reply, name)
        return None if array is None else array[:, t : t + 1]

    shown = ("logprobs", "top_tokens", "top_logprobs", "laws", "base_logprobs")
    tokens, one = reply.tokens[:, t : t + 1], np.ones(1, dtype=np.int64)
    return Reply(Prefix(u), tokens, one, **{name: part(name) for name in shown})  # type: ignore[arg-type]


def _joined(replies: list[Reply]) -> Reply:
    """Replies at one prefix as one."""
    first = replies[0]

    def all_of(name: str) -> FloatArray | None:
        if getattr(first, name) is None:
            return None
        return np.concatenate([getattr(reply, name) for reply in replies])

    shown = ("logprobs", "top_tokens", "top_logprobs", "laws", "base_logprobs")
    tokens = np.concatenate([reply.tokens for reply in replies])
    lengths = np.ones(len(replies), dtype=np.int64)
    return Reply(first.prefix, tokens, lengths, **{name: all_of(name) for name in shown})  # type: ignore[arg-type]
