"""The generator protocol: what reroot asks of anything that produces tokens.

A generator knows prompts, prefixes, laws and draws; it knows nothing of sessions, contracts or
budgets. Third-party generators implement ``Generator`` (or subclass ``SteppingGenerator``, which
needs three short methods) and inherit the checks of ``reroot.testing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..contract import Contract, Control, Oracle, Report, Sampling
from ..errors import InvalidInput
from ..randomness import Key
from ..types import Chat, FloatArray, Physical, Prefix, Reply
from ..types.account import Prices
from .stops import Stop


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a generator can honour, at most.

    Attributes:
        control: the strongest control level it can serve.
        report: the strongest report it can give.
        sampling: whether it can draw at temperatures and truncations other than the base law.
        forced: whether it can report on forced tokens (teacher forcing).
        hidden: whether it shows hidden states; then it is ``ShowsHiddenStates``.
        prices: what its tokens cost; ``None``: it has no prices, and budgets in US dollars are refused.
    """

    control: Control = Control.CHOSEN
    report: Report = Report.FULL
    sampling: bool = True
    forced: bool = True
    hidden: bool = False
    prices: Prices | None = None

    def refusal(self, contract: Contract) -> str | None:
        """Why ``contract`` cannot be honoured, or ``None`` if it can."""
        if contract.control > self.control:
            return f"it serves control up to {self.control}, not {contract.control}"
        if not contract.report <= self.report:
            return f"it reports up to {self.report}, not {contract.report}"
        if not self.sampling and contract.resolved.sampling != Sampling():
            return f"it draws at temperature 1 only, not at {contract.sampling}"
        if Oracle.HIDDEN in contract.oracles and not self.hidden:
            return "it shows no hidden states"
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """One query as a generator sees it, with everything resolved.

    Attributes:
        prompt: prompt tokens.
        prefix: generated tokens so far.
        n: number of continuations (1 for ARGMAX reports and forced tokens).
        length: most tokens per continuation, at least 1.
        report: what to report for each token.
        sampling: the law that draws follow; log-probabilities are those of this law.
        stop: when an output, which is ``prefix`` and what follows, ends; its last token belongs to it.
        key, first: the random stream and the index of the first continuation in it.
        forced: tokens to follow instead of drawing; their report needs log-probabilities.
    """

    prompt: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    n: int = 1
    length: int = 1
    report: Report = Report.SAMPLE
    sampling: Sampling = Sampling()
    stop: Stop = Stop()
    key: Key = (0, 0)
    first: int = 0
    forced: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.n < 1 or self.length < 1 or self.first < 0:
            raise InvalidInput(
                f"a request needs n >= 1, length >= 1 and first >= 0, got n = {self.n}, "
                f"length = {self.length}, first = {self.first}"
            )
        if self.report == Report.NONE:
            raise InvalidInput("a request needs a report")
        if self.n != 1 and (self.forced is not None or not self.report.draws):
            raise InvalidInput(f"a request that draws nothing takes n = 1, got n = {self.n}")
        if self.forced is None:
            return
        if len(self.forced) != self.length or not self.report.has_logprob:
            raise InvalidInput(
                f"{len(self.forced)} forced tokens need that length and log-probabilities, "
                f"got length = {self.length} and {self.report}"
            )


@runtime_checkable
class ChatGenerator(Protocol):
    """A generator that has a chat template."""

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → prompt tokens; a last message of the assistant is continued."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Anything that answers requests about an autoregressive law P(· | prompt, prefix)."""

    @property
    def vocab_size(self) -> int:
        """K: tokens are 0…K−1."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The strongest contract it can honour."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → prompt tokens (chat template and begin token included, where used)."""
        ...

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        """Text that follows a prompt → tokens, nothing added."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Generated tokens → text, special tokens left out."""
        ...

    @property
    def end_token(self) -> int | None:
        """The token that ends an output by itself (EOS), if there is one."""
        ...

    def stops(self, texts: Sequence[str]) -> Stop:
        """When an output ends: at the generator's own end token(s), and at the token with which its
        text first contains one of ``texts``, however many tokens those have.

        ``Stop.of`` makes the rule of a generator whose text is that of its tokens one after the other.
        Learners are given a copy: it must lead to nothing that they may not have.
        """
        ...

    def max_length(self) -> int | None:
        """Most prompt plus generated tokens it can hold; ``None``: no limit."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer all requests, one reply each, in order; batch what is asked together.

        A draw depends on its law and on its uniform ``Uniforms().column(request.key,
        request.first, n, t)`` at step t alone, so that replies do not depend on the batch: by inverse
        transform of the cumulative law in token order (``law.invert``), or, for large vocabularies
        whose laws carry rounding, by ``wide.draw_wide``.
        """
        ...

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """(len(prefixes), K) nats: the exact base law log P(· | prompt, prefix) of each prefix."""
        ...

    def physical(self) -> Physical:
        """Counters of the work done since construction."""
        ...

    def describe(self) -> Mapping[str, object]:
        """JSON-able identity, written into run configurations: same description, same law."""
        ...


@runtime_checkable
class ConcurrentGenerator(Protocol):
    """A generator that answers each request when it can, not all of a batch together."""

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        """Begin to answer; one ``concurrent.futures.Future`` per request, in order, at once. A future may be cancelled:
        the engine then stops working on it where it can. Errors are the futures' exceptions."""
        ...


@runtime_checkable
class ShowsHiddenStates(Protocol):
    """A generator that shows hidden states: what ``Capabilities.hidden`` promises.

    Several prompts at once, as what many sessions ask at the same moment is one call.
    """

    def layer_laws(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], layers: int
    ) -> npt.NDArray[np.floating[Any]]:
        """(n, d, K) nats: the next-token law that each of the last d = min(``layers``, L) of L layers
        gives at (prompt, prefix) i; the last row is the base law, as in ``log_laws``."""
        ...

    def features(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.floating[Any]]:
        """(n, d) the features of output i after prompt i: of a language model, the mean of the last
        layer's states at the tokens of the output."""
        ...


def check_prefix(tokens: Sequence[int], vocab_size: int, horizon: int | None = None) -> None:
    """Refuse tokens outside 0…K−1 and prefixes with no next token (``InvalidInput``)."""
    if len(tokens) and not (min(tokens) >= 0 and max(tokens) < vocab_size):
        wrong = next(t for t in tokens if not 0 <= t < vocab_size)
        raise InvalidInput(f"token {wrong} is outside the vocabulary 0…{vocab_size - 1}")
    if horizon is not None and len(tokens) >= horizon:
        raise InvalidInput(
            f"prefix {Prefix(tuple(tokens))} has {len(tokens)} tokens; the horizon is {horizon}"
        )
