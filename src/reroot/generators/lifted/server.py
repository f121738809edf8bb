"""A server over an exact law that takes a logit bias: lists, draws, raw or processed reports, seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from ...checks import check_int
from ...contract import Contract, Sampling
from ...errors import InvalidInput
from ...types import FloatArray, IntArray, Reply, read_only
from ..base import Generator, Request
from ..law import log_normalize, most_likely
from ..stops import Stop
from ..wide import draw_wide
from .by_prefix import ByPrefix
from .narrowed import Narrowed

_RACE = 256  # tokens up to which ``draw_wide`` is one Gumbel race, which bans do not disturb

Sampler = Literal["inverse", "gumbel"]


@dataclass(frozen=True, slots=True)
class Bias:
    """A logit bias: β_i nats are added to the logits of at most ``tokens`` tokens, at every position.

    Logits are biased first, then follow temperature, top-k and top-p.

    Attributes:
        tokens: b, most tokens that a call may name.
        bound: B, nats: -B <= β_i <= B.
        bans: whether -inf is taken as well.
        raw: reported log-probabilities and lists are those of the law without bias; only what is drawn
            is biased.

    Raises:
        InvalidInput: b < 1, or B is not positive.
    """

    tokens: int = 300
    bound: float = 100.0
    bans: bool = True
    raw: bool = False

    def __post_init__(self) -> None:
        check_int("tokens", self.tokens, 1)
        if not 0.0 < self.bound < math.inf:
            raise InvalidInput(f"bound must be positive and finite, got {self.bound!r}")

    def check(self, bias: Mapping[int, float], vocab_size: int) -> None:
        """Refuse a bias that such a server does not take (``InvalidInput``)."""
        if len(bias) > self.tokens:
            raise InvalidInput(f"a call biases at most {self.tokens} tokens, got {len(bias)}")
        for token, value in bias.items():
            check_int("a biased token", token, 0, vocab_size - 1)
            if not (abs(value) <= self.bound or (self.bans and value == -math.inf)):
                raise InvalidInput(
                    f"a bias lies in ±{self.bound:g}, got {value!r} at token {token}"
                )


@runtime_checkable
class TakesBias(Protocol):
    """A generator that takes a logit bias with a request."""

    @property
    def bias(self) -> Bias:
        """What it takes."""
        ...

    def answer_biased(self, request: Request, bias: Mapping[int, float]) -> Reply:
        """The answer to ``request`` with β = ``bias`` (token → nats) at every position."""
        ...


class LogitServer(Narrowed):
    """``generator`` behind ``serves``, with a logit bias.

    Args:
        generator: the exact law.
        serves: control, report and sampling law.
        bias: what biases it takes.
        sampler: how a draw follows from its uniform (its seed): by inverse transform, or by the
            Gumbel-max race, where the noise of a token depends on the seed and on the token alone.

    Raises:
        InvalidInput: as ``Narrowed``; a Gumbel-max race over more than 256 tokens; or raw reports at
            another law than temperature 1.
    """

    def __init__(
        self,
        generator: Generator,
        serves: Contract | str,
        bias: Bias | None = None,
        sampler: Sampler = "inverse",
    ) -> None:
        super().__init__(generator, serves)
        if sampler == "gumbel" and generator.vocab_size > _RACE:
            raise InvalidInput(
                f"sampler='gumbel' takes up to {_RACE} tokens, got {generator.vocab_size}"
            )
        self._bias = bias or Bias()
        if self._bias.raw and self.serves.sampling != Sampling():
            raise InvalidInput(f"raw reports are of draws at temperature 1, got {self.serves}")
        self._sampler: Sampler = sampler

    @property
    def bias(self) -> Bias:
        return self._bias

    def _served(self, request: Request) -> Reply:
        return self.answer_biased(request, {})

    def answer_biased(self, request: Request, bias: Mapping[int, float]) -> Reply:
        """One answer under a bias that is constant over positions.

        Raises:
            InvalidInput: the interface permits neither the request nor the bias.
        """
        self._check(request)
        self._bias.check(bias, self.vocab_size)
        (reply,) = _Shifted(self._inner, bias, self._sampler).answer([request])
        if self._bias.raw and request.report.has_logprob | bool(request.report.top):
            reply = self._raw(request, reply)
        self._note(request, reply)
        return reply

    def _raw(self, request: Request, reply: Reply) -> Reply:
        """``reply`` with values and lists of the law without bias."""
        n, length = reply.tokens.shape
        own = np.zeros((n, length, self.vocab_size))
        for i in range(n):
            tokens = reply.continuation(i)
            prefixes = [(*request.prefix, *tokens[:t]) for t in range(len(tokens))]
            own[i, : len(tokens)] = self._inner.log_laws(request.prompt, prefixes)
        drawn = np.take_along_axis(own, np.maximum(reply.tokens, 0)[:, :, None], axis=2)[:, :, 0]
        changed = replace(reply, base_logprobs=None)
        if reply.logprobs is not None:
            changed = replace(changed, logprobs=read_only(np.where(reply.tokens < 0, 0.0, drawn)))
        if reply.laws is not None:
            changed = replace(changed, laws=read_only(own))
        if reply.top_tokens is not None:
            k = reply.top_tokens.shape[2]
            ids = most_likely(own.reshape(n * length, -1), k).reshape(n, length, k)
            values = np.take_along_axis(own, ids, axis=2)
            changed = replace(changed, top_tokens=read_only(ids), top_logprobs=read_only(values))
        return changed


class _Shifted(ByPrefix):
    """The law of a generator with β added to its logits, for one call."""

    def __init__(self, inner: Generator, bias: Mapping[int, float], sampler: Sampler) -> None:
        super().__init__()
        self._inner, self._sampler = inner, sampler
        self._shift = np.zeros(inner.vocab_size)
        for token, value in bias.items():
            self._shift[token] = value

    @property
    def vocab_size(self) -> int:
        return self._inner.vocab_size

    @property
    def end_token(self) -> int | None:
        return self._inner.end_token

    def max_length(self) -> int | None:
        return self._inner.max_length()

    def stops(self, texts: Sequence[str]) -> Stop:
        return self._inner.stops(texts)

    def _laws(self, states: IntArray) -> FloatArray:
        places = [self._places[s] for s in states.tolist()]
        laws = np.stack([self._inner.log_laws(prompt, [u])[0] for prompt, u in places])
        return log_normalize(laws + self._shift)

    def _draw(self, laws: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
        if self._sampler == "gumbel":
            return draw_wide(laws, rows, u)
        return super()._draw(laws, rows, u)
