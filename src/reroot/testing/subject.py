"""A generator under test with one prompt: which prefixes to probe, and requests about them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..contract import Report, Sampling
from ..generators.base import Generator, Request
from ..generators.law import most_likely
from ..generators.stops import Stop
from ..randomness import Key, stream_key
from ..types import FloatArray, Reply

Tokens = tuple[int, ...]


def stream(name: str, tokens: Tokens = ()) -> Key:
    """A key of the kit's own."""
    return stream_key(0, "conformance", name, tokens)


@dataclass(frozen=True)
class Subject:
    """A generator, prompt tokens, and the most tokens that a rollout may have here."""

    generator: Generator
    prompt: Tokens
    room: int

    def laws(self, prefixes: Sequence[Tokens]) -> FloatArray:
        """(len(prefixes), K) nats: what the generator says its laws are."""
        return self.generator.log_laws(self.prompt, prefixes)

    def answer(self, *requests: Request) -> list[Reply]:
        return self.generator.answer(requests)

    def along(self, reply: Reply) -> Iterator[tuple[int, Tokens, FloatArray]]:
        """(i, tokens, the laws that they were drawn from) of each continuation."""
        for i in range(reply.n):
            tokens = reply.continuation(i)
            yield i, tokens, self.laws([(*reply.prefix, *tokens[:t]) for t in range(len(tokens))])

    @cached_property
    def own(self) -> frozenset[int]:
        """The generator's own end tokens."""
        return self.generator.stops(()).tokens

    @cached_property
    def probes(self) -> list[Tokens]:
        """Prefixes along the mode, ones that differ from them in the first token only (so that
        they share every suffix), and short strings over a few tokens."""
        few = self._ranked(())
        mode: Tokens = ()
        while len(mode) < self.room - 1:
            mode = (*mode, self._ranked(mode)[0])
        probes = [mode[:t] for t in range(len(mode) + 1)]
        probes += [(b, *u[1:]) for u in probes[1:] for b in few[1:]]
        probes += [u for t in range(1, min(3, self.room)) for u in itertools.product(few, repeat=t)]
        return list(dict.fromkeys(probes))

    def _ranked(self, prefix: Tokens) -> list[int]:
        """The three likeliest tokens that do not end the output."""
        law = self.laws([prefix])
        return [t for t in most_likely(law, len(self.own) + 3)[0].tolist() if t not in self.own][:3]

    def request(
        self, prefix: Tokens = (), n: int = 1, length: int = 1, report: Report = Report.SAMPLE
    ) -> Request:
        """A request that stops at the generator's own end tokens."""
        key = stream(str(report), prefix) if prefix else stream("root")
        return Request(self.prompt, prefix, n, length, report, stop=Stop(self.own), key=key)

    def rollouts(self, n: int, report: Report = Report.SAMPLE) -> Request:
        """``n`` rollouts from the empty prefix."""
        return self.request((), n, self.room, report)

    def mixture(self, samplings: Sequence[Sampling]) -> list[Request]:
        """Requests of every kind, at all probes and with several sampling laws."""
        reports = [Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL]
        requests: list[Request] = []
        for i, u in enumerate(self.probes):
            requests.append(self.request(u, 3, 1, reports[i % 4]))
            requests.append(self.request(u, 1 + i % 3, self.room - len(u), reports[i % 4]))
        requests.append(self.rollouts(1, Report.ARGMAX(2)))
        if self.generator.capabilities.forced and self.probes[-1]:
            requests.append(scoring(requests[0], self.probes[-1]))
        if self.generator.capabilities.sampling:
            requests += [
                replace(request, sampling=law)
                for law, request in zip(samplings, requests[:8:2], strict=False)
            ]
        return requests


def scoring(request: Request, forced: Tokens) -> Request:
    """The request for the log-probabilities of ``forced`` where ``request`` starts."""
    return replace(request, n=1, length=len(forced), forced=forced, report=Report.LOGPROB)
