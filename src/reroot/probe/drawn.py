"""What the statistics of a probe start from and return: draws beside the law stated for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray

ROUNDING = 1e-4
"""Probability by which what is stated may miss 1, for rounding; so likely is what no list shows, at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Tokens drawn at one prefix, and the law that is stated there.

    Attributes:
        ids: (k,) tokens of the stated list, most likely first.
        logprobs: (k,) nats, what is stated of them; their mass may be below 1.
        tokens: (n,) drawn tokens.
        prefix: all tokens before them, prompt and output.
        vocab: K; a list of K tokens is the whole law.
        generated: how many tokens at the end of the prefix the server wrote in the same answer, as some
            servers count only those as used; ``None``: unknown.
        log_partition: what log Σ exp(logits) can be at this prefix, nats, where a reference model or
            ``log_partition`` tells it; nothing: anything.

    Raises:
        InvalidInput: lengths differ, a token is outside 0…K − 1 or listed twice, a log-probability is nan
            or above 0, or the list is not sorted.
    """

    ids: IntArray
    logprobs: FloatArray
    tokens: IntArray
    prefix: tuple[int, ...]
    vocab: int
    generated: int | None = None
    log_partition: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_int("vocab", self.vocab, 1)
        if self.generated is not None:
            check_int("generated", self.generated, 0, len(self.prefix))
        for name in ("ids", "tokens"):
            object.__setattr__(self, name, _tokens(name, getattr(self, name), self.vocab))
        logs = np.asarray(self.logprobs, dtype=np.float64)
        object.__setattr__(self, "logprobs", logs)
        if logs.shape != self.ids.shape or not len(logs):
            raise InvalidInput(
                f"a stated list has one log-probability per token, got {logs.shape} for {self.ids.shape}"
            )
        if len(np.unique(self.ids)) != len(self.ids):
            raise InvalidInput(f"a stated list of {len(self.ids)} tokens names a token twice")
        if np.isnan(logs).any() or logs[0] > ROUNDING:
            raise InvalidInput("log-probabilities must be numbers <= 0, got nan or more")
        if (np.diff(logs) > ROUNDING).any():
            raise InvalidInput("a stated list must be sorted, most likely first")

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.tokens)

    @property
    def whole(self) -> bool:
        """Whether the whole law is stated."""
        return len(self.ids) == self.vocab

    def law(self) -> FloatArray:
        """(k + 1,) probabilities of the listed tokens, then of all others together; they sum to 1."""
        p = np.exp(self.logprobs)
        rest = 0.0 if self.whole else max(1.0 - float(p.sum()), ROUNDING)
        return np.append(p, rest) / (p.sum() + rest)

    def ranks(self) -> IntArray:
        """(n,) place of each draw in the list, from 0; k: it is not listed."""
        order = np.argsort(self.ids)
        at = np.minimum(np.searchsorted(self.ids, self.tokens, sorter=order), len(self.ids) - 1)
        return np.where(self.ids[order[at]] == self.tokens, order[at], len(self.ids))

    def used(self, generated: bool = False) -> Counter[int]:
        """Token → how often it stands in the prefix; in its generated part, where that is asked and known."""
        known = generated and self.generated is not None
        return Counter(
            self.prefix[len(self.prefix) - (self.generated or 0) :] if known else self.prefix
        )

    def take(self, tokens: IntArray) -> Drawn:
        """The same with other draws."""
        return replace(self, tokens=tokens)


def _tokens(name: str, given: Any, vocab: int) -> IntArray:
    found = np.asarray(given, dtype=np.int64)
    if found.ndim != 1 or (len(found) and not (found.min() >= 0 and found.max() < vocab)):
        raise InvalidInput(f"{name} must be a row of tokens in 0…{vocab - 1:,}, got {given!r:.80}")
    return found


def as_draws(drawn: Drawn | Sequence[Drawn]) -> list[Drawn]:
    """The prefixes with draws (``InvalidInput``: there are none)."""
    found = [one for one in ([drawn] if isinstance(drawn, Drawn) else drawn) if one.n]
    if not found:
        raise InvalidInput("nothing was drawn")
    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a test.

    Attributes:
        name: of what is tested.
        holds: whether the draws are compatible with it.
        evidence: what was seen, in words.
        p_value: probability of what was seen, or of more against it, where it holds; conservative.
    """

    name: str
    holds: bool
    evidence: str
    p_value: float


@dataclass(frozen=True, slots=True)
class Setting:
    """A sampling setting that was not asked for.

    Attributes:
        name: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty``,
            ``presence_penalty`` or ``frequency_penalty``.
        value: the most likely; of values that are equally likely the one with the fewest digits.
        low: of a 95 % interval.
        high: of a 95 % interval; it reaches the neutral value (top_k: infinity) where another setting
            may do what is seen.
        note: what the draws cannot tell, and which order of settings it is read in.
    """

    name: str
    value: float
    low: float
    high: float
    note: str = ""
