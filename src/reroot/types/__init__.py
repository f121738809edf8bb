"""The notation, stated once: frozen records that cross the door between learner and generator.

| symbol | here | meaning |
|---|---|---|
| K | ``vocab_size`` | vocabulary size; tokens are the integers 0…K−1 |
| H | ``horizon`` | largest number of generated tokens of an output |
| u | ``Prefix`` | generated tokens so far (the prompt is not part of it) |
| y | ``Prefix`` that is complete | \\|y\\| = H, or ended by its last token |
| n | ``Query.n`` | independent continuations drawn from one prefix |
| P(a given u) | ``Reply.laws`` | next-token law, as natural log-probabilities (nats) |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, overload

import numpy as np
import numpy.typing as npt

from ..contract import Report
from ..errors import InvalidInput
from .account import CURRENCIES as CURRENCIES
from .account import LIMITS as LIMITS
from .account import Budget as Budget
from .account import Cost as Cost
from .account import Physical as Physical

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_Array = TypeVar("_Array", bound=npt.NDArray[Any])


def read_only(array: _Array) -> _Array:
    """``array``, which cannot be written to from now on."""
    array.setflags(write=False)
    return array


PAD = -1
"""Fills ``tokens`` beyond the end of a continuation; no generator has a token -1."""


@dataclass(frozen=True, slots=True)
class Prefix(Sequence[int]):
    """A tuple of generated tokens. Immutable, hashable, sliceable."""

    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not _are_plain(self.tokens):
            object.__setattr__(self, "tokens", as_tokens(self.tokens))

    @staticmethod
    def of(tokens: tuple[int, ...]) -> Prefix:
        """A prefix of what ``as_tokens`` has given: it is not looked at again."""
        prefix = _new(Prefix)
        _set(prefix, tokens)
        return prefix

    def append(self, token: int) -> Prefix:
        """The child u·a."""
        return Prefix.of((*self.tokens, *as_tokens((token,))))

    def extend(self, tokens: Iterable[int]) -> Prefix:
        """This prefix followed by ``tokens``."""
        return Prefix.of(self.tokens + as_tokens(tokens))

    @property
    def parent(self) -> Prefix:
        """This prefix without its last token; the empty prefix has none (``InvalidInput``)."""
        if not self.tokens:
            raise InvalidInput("the empty prefix has no parent")
        return Prefix(self.tokens[:-1])

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[int]:
        return iter(self.tokens)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Prefix: ...
    def __getitem__(self, index: int | slice) -> int | Prefix:
        part = self.tokens[index]
        return Prefix.of(part) if isinstance(part, tuple) else part

    def __str__(self) -> str:
        shown = " ".join(map(str, self.tokens[:12]))
        return f"[{shown}{' …' if len(self.tokens) > 12 else ''}]"


_new, _set = object.__new__, Prefix.__dict__["tokens"].__set__


def as_tokens(tokens: Iterable[int]) -> tuple[int, ...]:
    """``tokens`` as plain Python integers; booleans, floats and strings are refused.

    Raises:
        InvalidInput: an element is not an integer.
    """
    if type(tokens) is Prefix:
        tokens = tokens.tokens
    if _are_plain(tokens):
        return tokens
    if isinstance(tokens, (str, bytes)):
        raise InvalidInput(f"tokens must be integers, got the text {tokens!r}")
    out: list[int] = []
    try:
        for token in tokens:
            if isinstance(token, (bool, np.bool_)) or not isinstance(token, (int, np.integer)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInput(f"tokens must be integers, got {token!r}")
            out.append(int(token))
    except TypeError:
        raise InvalidInput(f"tokens must be a sequence of integers, got {tokens!r}") from None
    return tuple(out)


def _are_plain(tokens: object) -> TypeGuard[tuple[int, ...]]:
    """Whether ``tokens`` is a tuple of integers, not of subclasses; fast for long prefixes."""
    return type(tokens) is tuple and _INTEGERS.issuperset(map(type, tokens))  # pyright: ignore[reportUnknownArgumentType]


_INTEGERS: frozenset[type] = frozenset({int})


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt of messages, which the generator puts through its chat template.

    Attributes:
        messages: (role, text) in order; a last one of the role "assistant" is continued.
        settings: further (name, value) arguments of the template, such as ``enable_thinking``.
    """

    messages: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any], ...] = ()

    @staticmethod
    def of(messages: Iterable[Mapping[str, Any]], **settings: Any) -> Chat:
        """The chat of ``{"role": …, "content": …}`` messages.

        Raises:
            InvalidInput: there are none, or one has no role or no text.
        """
        found = [(message.get("role"), message.get("content")) for message in messages]
        for said in found:
            if not all(isinstance(part, str) for part in said):
                raise InvalidInput(f"a message needs a role and a text as content, got {said!r}")
        if not found:
            raise InvalidInput("a chat needs at least one message")
        return Chat(tuple(found), tuple(sorted(settings.items())))  # type: ignore[arg-type]

    @property
    def continued(self) -> bool:
        """Whether generation goes on inside the last message, an assistant's."""
        return self.messages[-1][0] == "assistant"

    def __str__(self) -> str:
        return "\n".join(f"{role}: {text}" for role, text in self.messages)


@dataclass(frozen=True, slots=True)
class Query:
    """Draw ``n`` continuations of at most ``length`` tokens from ``prefix``, reporting ``report``.

    A rollout is (∅, n, None); a conditional sample is (u, n, 1, SAMPLE); logits are (u, 1, 1, FULL).

    Attributes:
        prefix: where to start.
        n: number of continuations; ARGMAX reports follow the mode, so they take n = 1.
        length: most tokens per continuation; ``None``: to the end of the output.
        report: what comes back for every token.
        forced: instead of drawing, follow these tokens and report about them (scoring);
            takes n = 1, length None and a report that carries log-probabilities.
    """

    prefix: Prefix = Prefix()
    n: int = 1
    length: int | None = None
    report: Report = Report.SAMPLE
    forced: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.forced is not None:
            return f"Query(score {len(self.forced)} forced tokens at {self.prefix}, {self.report})"
        length = "to the end" if self.length is None else f"length {self.length}"
        return f"Query({self.n} x {length} from {self.prefix}, {self.report})"


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """The answer to one ``Query``, carrying what the query's report names and nothing else.

    With n continuations of at most L tokens (arrays are read-only):

    Attributes:
        prefix: the prefix that was asked.
        tokens: (n, L) generated tokens, ``PAD`` after the end of a continuation.
        lengths: (n,) number of tokens of each continuation.
        logprobs: (n, L) nats, log P(token | its prefix), 0 beyond the end; from LOGPROB on.
        top_tokens: (n, L, k) most likely tokens, most likely first; ARGMAX(k) and TOPK(k).
        top_logprobs: (n, L, k) nats; ARGMAX(k) and TOPK(k).
        laws: (n, L, K) nats, log P(· | prefix of each token); FULL.
        base_logprobs: (n, L) nats, as ``logprobs`` under the generator's own law, before temperature,
            top-k and top-p. A generator gives it with LOGPROB; no session passes it on.
    """

    prefix: Prefix
    tokens: IntArray
    lengths: IntArray
    logprobs: FloatArray | None = None
    top_tokens: IntArray | None = None
    top_logprobs: FloatArray | None = None
    laws: FloatArray | None = None
    base_logprobs: FloatArray | None = None

    @property
    def n(self) -> int:
        """Number of continuations."""
        return len(self.lengths)

    def continuation(self, i: int) -> tuple[int, ...]:
        """The tokens of continuation ``i``."""
        return tuple(self.tokens[i, : self.lengths[i]].tolist())

    def outputs(self) -> list[Prefix]:
        """The prefix reached by each continuation: start plus generated tokens."""
        return [self.prefix.extend(self.continuation(i)) for i in range(self.n)]

    def first_tokens(self) -> IntArray:
        """(n,) the first token of each continuation: the conditional draws of a length-1 query."""
        return self.tokens[:, 0]

    def counts(self) -> dict[int, int]:
        """How often each first token was drawn."""
        values, counts = np.unique(self.first_tokens(), return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    def plurality(self, rng: np.random.Generator | None = None) -> int:
        """The most frequent first token; ties go to a uniform choice by ``rng``, or the smallest id."""
        values, counts = np.unique(self.first_tokens(), return_counts=True)
        best = values[counts == counts.max()]
        return int(best[0] if rng is None else rng.choice(best))

    def total_logprobs(self) -> FloatArray:
        """(n,) nats, log-probability of each whole continuation.

        Raises:
            InvalidInput: the report carries no log-probabilities.
        """
        if self.logprobs is None:
            raise InvalidInput("this reply carries no log-probabilities; ask with LOGPROB or more")
        return self.logprobs.sum(axis=1)


@dataclass(frozen=True, slots=True)
class Output:
    """What rewards and verifiers see: generated tokens, their text, and whether the output ended.

    Attributes:
        tokens: generated tokens, those that stop it included.
        text: decoded tokens, cut before the first of the problem's stop texts.
        complete: ended by a stop token or a stop text, or the horizon is reached.
    """

    tokens: tuple[int, ...]
    text: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What a learner may return when it has found out more than an output.

    Attributes:
        output: the output, as a learner returns it alone.
        metadata: name → JSON value; kept with the attempt.
    """

    output: Prefix | None
    metadata: Mapping[str, Any]
