"""The linear autoregressive softmax policy p_w(a | x, u) ∝ exp⟨w, φ(x, u, a)⟩, written out exactly.

A string is a context x, written in base K, and then an answer of N tokens. The features are frozen
and of the form φ(x, u, a) = e_s ⊗ v(x): a slot s that depends on the context, the position, the token before
and a, times a vector of the context. With slots of their own and v = 1 that is a table, with slots shared by
all contexts it is a linear map of v(x), as in Mousavi-Hosseini & Erdogdu (arXiv 2603.06957).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray, IntArray, as_tokens
from .base import check_prefix
from .law import log_normalize
from .tabular import IntegerGenerator

UNKNOWN = -1
"""The state behind a context that does not exist: everything is uniform there."""

_SUM = 1e-9  # most that context probabilities may miss 1 by


def context_digits(contexts: int, vocab_size: int) -> int:
    """Tokens that write one of ``contexts`` contexts in base K; 0 if there is one only."""
    digits = 0
    while vocab_size**digits < contexts:
        digits += 1
    return digits


class LinearSoftmax(IntegerGenerator):
    """p_w on strings of a context and an answer; w is what training moves.

    The context is drawn as the first tokens of a string, from its own law, which does not depend on w;
    as a prompt it is given. No token ends a string.

    Args:
        slots: (m, N, K) integers ≥ 0: the slot of each token, by context and position; or (m, N, K, K), by
            the token before as well (third axis; 0 at the first position).
        vectors: (m, d) v(x); ``None``: all 1, d = 1.
        law: (m,) probabilities of the contexts; ``None``: uniform.
        weights: (S, d) w; ``None``: zeros, where every answer is uniform.

    Attributes:
        contexts: m.
        answer_length: N.
        context_length: tokens that write a context.

    Raises:
        InvalidInput: a shape or a value is not what is described here.
    """

    def __init__(
        self,
        slots: npt.ArrayLike,
        vectors: npt.ArrayLike | None = None,
        law: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        table = np.asarray(slots)
        if table.ndim not in (3, 4) or not np.issubdtype(table.dtype, np.integer):
            raise InvalidInput(f"slots must be integers (m, N, K[, K]), got shape {table.shape}")
        m, N, K = table.shape[0], table.shape[1], table.shape[-1]
        if not table.size or table.min() < 0 or (table.ndim == 4 and table.shape[2] != K):
            raise InvalidInput(f"slots must be >= 0 and (m, N, K[, K]), got shape {table.shape}")
        self.contexts, self.answer_length = m, N
        self.context_length = context_digits(m, K)
        super().__init__(K, self.context_length + N)
        whole = table if table.ndim == 4 else table[:, :, None, :]
        self._slots = np.broadcast_to(whole.astype(np.int64), (m, N, K, K))
        self._vectors = _numbers("vectors", np.ones((m, 1)) if vectors is None else vectors, (m,))
        self.law = np.full(m, 1.0 / m) if law is None else _numbers("law", law, (m,), False)
        if (self.law < 0).any() or not abs(self.law.sum() - 1.0) <= _SUM:
            raise InvalidInput(f"context probabilities must sum to 1, got {self.law.sum()!r}")
        self._weights = np.zeros((int(table.max()) + 1, self._vectors.shape[1]))
        self._lent = False
        self._remembers = table.ndim == 4
        if weights is not None:
            self.load(weights)
        self._context_laws = self._written()
        self._first = sum(map(len, self._context_laws))  # the state of the first answer

    # ---- the generator -------------------------------------------------------------------------

    def describe(self) -> Mapping[str, object]:
        digest = hashlib.blake2b(digest_size=8)
        for part in (self._slots, self._vectors, self.law, self._weights):
            digest.update(np.ascontiguousarray(part).tobytes())
        return {
            "family": "linear_softmax",
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "contexts": self.contexts,
            "digest": digest.hexdigest(),
        }

    def _written(self) -> list[FloatArray]:
        """Per digit: (values of the digits before, K) nats; uniform where no context begins so."""
        K, c = self.vocab_size, self.context_length
        mass = np.zeros(K**c)
        mass[: self.contexts] = self.law
        laws: list[FloatArray] = []
        for t in range(c):
            each = mass.reshape(K**t, K, -1).sum(axis=2)
            total = each.sum(axis=1, keepdims=True)
            each = np.where(total > 0, each / np.where(total > 0, total, 1.0), 1.0 / K)
            with np.errstate(divide="ignore"):
                laws.append(np.log(each))
        return laws

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        c, K = self.context_length, self.vocab_size
        value = _number(tokens[:c], K)
        if len(tokens) < c:
            return sum(map(len, self._context_laws[: len(tokens)])) + value
        if value >= self.contexts:
            return UNKNOWN
        before = tokens[-1] if len(tokens) > c else 0
        return self._first + (value * self.answer_length + len(tokens) - c) * K + before

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        K, N = self.vocab_size, self.answer_length
        before = (states - self._first) % K
        onward = states - before + K + tokens
        offset = 0
        for t, laws in enumerate(self._context_laws):  # a digit more
            here = (states >= offset) & (states < offset + len(laws))
            value = (states - offset) * K + tokens
            offset += len(laws)
            if t + 1 < self.context_length:
                onward = np.where(here, offset + value, onward)
            else:
                known = np.where(value < self.contexts, self._first + value * N * K, UNKNOWN)
                onward = np.where(here, known, onward)
        return np.where(states == UNKNOWN, UNKNOWN, onward)

    def _laws(self, states: IntArray) -> FloatArray:
        laws = np.full((len(states), self.vocab_size), -np.log(self.vocab_size))
        offset = 0
        for written in self._context_laws:
            here = np.flatnonzero((states >= offset) & (states < offset + len(written)))
            laws[here] = written[states[here] - offset]
            offset += len(written)
        rows = np.flatnonzero(states >= self._first)
        place, before = np.divmod(states[rows] - self._first, self.vocab_size)
        x, i = np.divmod(place, self.answer_length)
        laws[rows] = self._token_laws(x, i, before)
        return laws

    def _token_laws(self, x: IntArray, i: IntArray, before: IntArray) -> FloatArray:
        """(n, K) nats."""
        slots = self._slots[x, i, before]
        return log_normalize(np.einsum("nkd,nd->nk", self._weights[slots], self._vectors[x]))

    # ---- its parameters ------------------------------------------------------------------------

    @property
    def weights(self) -> FloatArray:
        """(S, d) a copy of w."""
        return self._weights.copy()

    def load(self, weights: npt.ArrayLike) -> None:
        """w ← ``weights``, (S, d).

        Raises:
            InvalidInput: another shape, or a number that is not finite.
        """
        given = _numbers("weights", weights, (len(self._weights),))
        if given.shape != self._weights.shape:
            raise InvalidInput(f"weights must be {self._weights.shape}, got {given.shape}")
        self._weights = given.copy()

    @contextmanager
    def at(self, weights: FloatArray | None) -> Iterator[None]:
        """Other weights for a while: the policy that training began with, for one (``None``: these).

        Raises:
            InvalidInput: as for ``load``; or they are lent already, as where two sessions train one policy.
        """
        if weights is None:
            yield
            return
        if self._lent:
            raise InvalidInput(
                "other weights are loaded already: a policy serves one session at a time"
            )
        present = self._weights
        self.load(weights)
        self._lent = True
        try:
            yield
        finally:
            self._weights, self._lent = present, False

    def string(self, context: int, answer: Sequence[int] = ()) -> tuple[int, ...]:
        """The context written in base K, and behind it the answer."""
        K, c = self.vocab_size, self.context_length
        return (*(context // K ** (c - 1 - t) % K for t in range(c)), *as_tokens(answer))

    def read(self, string: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """(context, answer) of a string.

        Raises:
            InvalidInput: it is too long, or its context does not exist.
        """
        tokens = as_tokens(string)
        check_prefix(tokens, self.vocab_size)
        c = self.context_length
        context = _number(tokens[:c], self.vocab_size)
        if not c <= len(tokens) <= self.horizon or context >= self.contexts:
            raise InvalidInput(
                f"a string has {c} tokens of a context below {self.contexts} and at most "
                f"{self.answer_length} of an answer, got {list(tokens)}"
            )
        return context, tokens[c:]

    def answer_laws(self, context: int, answer: Sequence[int]) -> FloatArray:
        """(len(answer), K) nats: the law of each token of an answer, given those before it."""
        tokens = np.asarray(answer, dtype=np.int64)
        before = np.concatenate([[0], tokens[:-1]])[: len(tokens)]
        return self._token_laws(np.full(len(tokens), context), np.arange(len(tokens)), before)

    def _score(
        self, string: Sequence[int], credit: Sequence[float] | None
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Σ_i A_i·∇ log p_w(y_i | …) as (slots, their amounts, v): the amounts times v."""
        x, answer = self.read(string)
        tokens = np.array(answer, dtype=np.int64)
        given = np.ones(len(tokens)) if credit is None else np.asarray(credit, dtype=np.float64)
        if given.shape != tokens.shape:
            raise InvalidInput(
                f"credit must be {tokens.shape}, a number a token, got {given.shape}"
            )
        at = np.arange(len(tokens))
        amounts = -given[:, None] * np.exp(self.answer_laws(x, answer))
        amounts[at, tokens] += given
        before = np.concatenate([[0], tokens[:-1]])[: len(tokens)]
        slots, where = np.unique(self._slots[x, at, before], return_inverse=True)
        summed = np.zeros(len(slots))
        np.add.at(summed, where.ravel(), amounts.ravel())
        return slots, summed, self._vectors[x]

    def gradient(self, string: Sequence[int], credit: Sequence[float] | None = None) -> FloatArray:
        """(S, d) Σ_i A_i·∇_w log p_w(y_i | x, y_<i), i over the tokens of the answer.

        Args:
            string: a context and (a beginning of) an answer.
            credit: A, a number for each token of the answer; ``None``: 1.

        Raises:
            InvalidInput: no such string, or credit of another length.
        """
        slots, amounts, vector = self._score(string, credit)
        found = np.zeros(self._weights.shape)
        found[slots] = amounts[:, None] * vector
        return found

    def ascend(
        self,
        string: Sequence[int],
        credit: Sequence[float] | None = None,
        rate: float | None = None,
    ) -> float:
        """w += η·g with g the gradient above; returns η.

        Args:
            string, credit: as for ``gradient``.
            rate: η ≥ 0; ``None``: the adaptive step 1/(4 + 2·‖g‖²).

        Raises:
            InvalidInput: see ``gradient``; or a rate that is no number ≥ 0.
        """
        slots, amounts, vector = self._score(string, credit)
        if rate is None:
            square = float(amounts @ amounts) * float(vector @ vector)
            rate = 1.0 / (4.0 + 2.0 * square)
        elif rate != 0.0:
            check_between("rate", rate, 0.0, np.inf)
        self._weights[slots] += rate * amounts[:, None] * vector
        return rate

    def difference(self, string: Sequence[int], other: Sequence[int]) -> FloatArray:
        """(S, d) φ(y) − φ(y') of two whole answers to one context: log p_w(y) − log p_w(y') is ⟨w, that⟩.

        Raises:
            InvalidInput: contexts or lengths differ, or features depend on the token before, so that
                normalizers do not cancel.
        """
        (x, one), (also, two) = self.read(string), self.read(other)
        if self._remembers or x != also or len(one) != len(two):
            raise InvalidInput(
                "differences are linear in w for answers to one context, of one length, and for features "
                f"that do not depend on the token before; got {list(string)} and {list(other)}"
            )
        found, at = np.zeros(self._weights.shape), np.arange(len(one))
        np.add.at(found, self._slots[x, at, 0, np.array(one, np.int64)], self._vectors[x])
        np.subtract.at(found, self._slots[x, at, 0, np.array(two, np.int64)], self._vectors[x])
        return found

    def fit(self, strings: Sequence[Sequence[int]], floor: float = 1e-12) -> None:
        """w ← maximum likelihood of whole strings, where every (context, position, token) has a slot of its own.

        Tokens get their frequencies, those that were never seen ``floor``; contexts that were never
        seen keep their weights.

        Raises:
            InvalidInput: slots are shared, or no such strings.
        """
        if self._remembers or len(np.unique(self._slots[:, :, 0])) != self._slots[:, :, 0].size:
            raise InvalidInput("the fit by frequencies needs a table: a slot for each token")
        check_between("floor", floor, 0.0, 1.0)
        counts = np.zeros((self.contexts, self.answer_length, self.vocab_size))
        at = np.arange(self.answer_length)
        for string in strings:
            x, answer = self.read(string)
            if len(answer) != len(at):
                raise InvalidInput(f"strings must be whole, got {list(string)}")
            counts[x, at, np.array(answer, np.int64)] += 1
        seen = np.flatnonzero(counts[:, 0].sum(axis=1))
        shares = counts[seen] / counts[seen].sum(axis=2, keepdims=True)
        logs = np.log(np.maximum(shares, floor))
        slots, vectors = self._slots[seen, :, 0], self._vectors[seen]
        size = np.einsum("nd,nd->n", vectors, vectors)
        self._weights[slots] = np.einsum("nik,nd->nikd", logs / size[:, None, None], vectors)


def _number(digits: Sequence[int], base: int) -> int:
    value = 0
    for digit in digits:
        value = value * base + digit
    return value


def _numbers(
    name: str, values: npt.ArrayLike, start: tuple[int, ...], matrix: bool = True
) -> FloatArray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be numbers, got {values!r}") from None
    dims = len(start) + matrix
    if found.ndim != dims or found.shape[: len(start)] != start or not np.isfinite(found).all():
        shape = f"({start[0]}, d)" if matrix else f"{start}"
        raise InvalidInput(f"{name} must be finite numbers {shape}, got shape {found.shape}")
    return found
