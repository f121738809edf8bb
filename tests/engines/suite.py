"""What a server that keeps its word does when ``Remote`` asks it: checks for the test server and for real engines.

Each takes a ``Pair`` and raises ``AssertionError`` with what was wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from reroot import Report, Sampling
from reroot.generators import Remote
from reroot.generators.base import Request
from reroot.generators.law import most_likely, sampling_laws
from reroot.generators.stops import Stop
from reroot.testing.base import check_shapes, fits
from reroot.types import FloatArray, Reply

Law = Callable[[tuple[int, ...]], FloatArray]
"""All tokens before the next one → (K,) nats."""
BASE = Sampling()
SAMPLINGS = [
    BASE,
    Sampling(temperature=0.6),
    Sampling(top_k=4),
    Sampling(temperature=1.5, top_p=0.7, top_k=30),
    Sampling(top_p=0.5),
    Sampling(temperature=0.0),
]


@dataclass
class Pair:
    """A generator over a server, and the law that the server should have.

    Attributes:
        remote: the generator.
        base: the base law.
        tolerance: nats by which stated log-probabilities may be off.
        prompt, prefix, forced: tokens to ask at, and to score.
        honours_seeds: whether the same seed gives the same tokens.
    """

    remote: Remote
    base: Law
    tolerance: float
    prompt: tuple[int, ...] = (70, 80, 304)
    prefix: tuple[int, ...] = (90, 7)
    forced: tuple[int, ...] = (300, 11, 304)
    honours_seeds: bool = True

    def law(self, tokens: tuple[int, ...], sampling: Sampling = BASE) -> FloatArray:
        return sampling_laws(self.base(tokens)[None], sampling)[0]

    def ask(self, report: Report, n: int = 3, length: int = 3, **settings: object) -> Reply:
        """The reply after ``prompt`` and ``prefix``, in the shape that the report has."""
        settings = {"stop": self.remote.stops(()), **settings}
        request = Request(self.prompt, self.prefix, n, length, report=report, **settings)  # type: ignore[arg-type]
        (reply,) = self.remote.answer([request])
        check_shapes(request, reply, self.remote.vocab_size)
        return reply


def states_laws(pair: Pair) -> None:
    prefixes = [(), pair.prefix, (*pair.prefix, pair.forced[0])]
    laws = pair.remote.log_laws(pair.prompt, prefixes)
    known = np.stack([pair.law((*pair.prompt, *u)) for u in prefixes])
    _near(pair, laws, known)


def states_reports(pair: Pair, report: Report, sampling: Sampling, length: int) -> None:
    """Log-probabilities, lists and laws are of the law that is drawn from."""
    reply = pair.ask(report, n=2 if report.draws else 1, length=length, sampling=sampling)
    for i in range(reply.n):
        tokens = reply.continuation(i)
        for t, token in enumerate(tokens):
            at = (*pair.prompt, *pair.prefix, *tokens[:t])
            law = pair.law(at, sampling)
            if report.draws:
                assert law[token] > -np.inf
            if reply.logprobs is not None:
                assert reply.base_logprobs is not None
                _near(pair, reply.logprobs[i, t], law[token])
                _near(pair, reply.base_logprobs[i, t], pair.law(at)[token])
            if reply.top_tokens is not None and reply.top_logprobs is not None:
                listed = reply.top_tokens[i, t]
                assert len(set(listed.tolist())) == report.top
                _near(pair, law[listed], law[most_likely(law[None], report.top)[0]])
                _near(pair, reply.top_logprobs[i, t], law[listed])
            if reply.laws is not None:
                _near(pair, reply.laws[i, t], law)


def draws_from_its_law(pair: Pair, sampling: Sampling, n: int) -> None:
    reply = pair.ask(Report.SAMPLE, n=n, length=1, sampling=sampling)
    law = pair.law((*pair.prompt, *pair.prefix), sampling)
    fits(reply.first_tokens(), law, f"draws at {sampling}")


def scores_given_tokens(pair: Pair, report: Report, sampling: Sampling) -> None:
    forced = pair.forced
    reply = pair.ask(report, n=1, length=len(forced), forced=forced, sampling=sampling)
    assert reply.continuation(0) == forced
    start = (*pair.prompt, *pair.prefix)
    known = [pair.law((*start, *forced[:t]), sampling)[token] for t, token in enumerate(forced)]
    assert reply.logprobs is not None
    _near(pair, reply.logprobs[0], np.array(known))


def draws_by_key_and_number(pair: Pair) -> None:
    """However continuations are split into requests."""
    whole = pair.ask(Report.SAMPLE, n=6, key=(1, 2))
    part = pair.ask(Report.SAMPLE, n=3, key=(1, 2), first=3)
    other = pair.ask(Report.SAMPLE, n=6, key=(1, 3))
    honoured = pair.honours_seeds
    assert pair.remote.seeds == honoured == ("no seeds" not in str(pair.remote.describe()))
    assert (whole.outputs()[3:] == part.outputs()) == honoured
    assert whole.outputs() != other.outputs()


def ends_where_rules_say(pair: Pair, texts: list[str], n: int, length: int) -> None:
    """At stop tokens, and at texts that run over token borders."""
    free = pair.ask(Report.LOGPROB, n=n, length=length, key=(4, 4))
    stops = pair.remote.stops(()).tokens
    rows = [tokens for i in range(n) if len(tokens := free.continuation(i)) > 3]
    last = {tokens[2] for tokens in rows} - {*pair.prefix}
    rules = [Stop(stops | last), pair.remote.stops(texts)]
    for rule in rules:
        cut = pair.ask(Report.SAMPLE, n=n, length=length, stop=rule, key=(4, 4))
        if not pair.remote.seeds:
            continue
        for whole, seen in zip(free.outputs(), cut.outputs(), strict=True):
            end = rule.first_end(whole)
            assert seen == (whole if end is None else whole[: end + 1])


def states_what_it_draws(pair: Pair, texts: list[str], report: Report, n: int, length: int) -> None:
    """Of every token of a rollout, whatever piece of text it is."""
    rule = pair.remote.stops(texts)
    reply = replace(pair, prefix=()).ask(report, n, length, stop=rule, key=(2, 3))
    assert reply.logprobs is not None
    for i in range(reply.n):
        tokens = reply.continuation(i)
        known = [pair.law((*pair.prompt, *tokens[:t]))[a] for t, a in enumerate(tokens)]
        _near(pair, reply.logprobs[i, : len(tokens)], np.array(known))


def _near(pair: Pair, seen: object, known: object) -> None:
    """Within the tolerance; impossible is impossible."""
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(seen, known, rtol=0, atol=pair.tolerance)  # type: ignore[arg-type]
