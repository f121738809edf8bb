"""Families made of families: one of several at random."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..generators.base import Request, check_prefix
from ..generators.law import log_normalize
from ..generators.tabular import IntegerGenerator
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output, Reply

Tokens = tuple[int, ...]
Judge = Callable[[Output], object]
"""A member's verifier."""
_MOST_STORED = 1 << 17
_SUM = 1e-9  # most that given weights may miss 1 by


@runtime_checkable
class _Posed(Protocol):
    def problem(self, id: str | None = None) -> Problem: ...


class Composed(IntegerGenerator):
    """What its members' laws at a prefix make: states are prefixes, numbered as they are met.

    A law at a prefix of t tokens asks each member for its own, which takes most of them O(t) steps.

    Attributes:
        members: the families.
    """

    family: str

    def __init__(
        self,
        members: Sequence[IntegerGenerator],
        vocab_size: int,
        horizon: int,
        end: Sequence[int] = (),
    ) -> None:
        super().__init__(vocab_size, horizon, end)
        self.members = tuple(members)
        self._forget()

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "members": [dict(member.describe()) for member in self.members],
        }

    @property
    def label(self) -> str:
        """The family with a digest of its members."""
        described = json.dumps(dict(self.describe()), sort_keys=True).encode()
        return f"{self.family}:digest={hashlib.blake2b(described, digest_size=8).hexdigest()}"

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if len(self._prefixes) > _MOST_STORED:
            self._forget()
        return super().answer(requests)

    def _forget(self) -> None:
        self._number: dict[Tokens, int] = {}
        self._prefixes: list[Tokens] = []

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        for token in self._end.intersection(tokens):
            raise InvalidInput(f"{list(tokens)} goes on after its end token {token}")
        return self._state(tokens)

    def _state(self, tokens: Tokens) -> int:
        number = self._number.setdefault(tokens, len(self._prefixes))
        if number == len(self._prefixes):
            self._prefixes.append(tokens)
        return number

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        pairs = zip(states.tolist(), tokens.tolist(), strict=True)
        return np.array([self._state((*self._prefixes[s], a)) for s, a in pairs], dtype=np.int64)

    def _laws(self, states: IntArray) -> FloatArray:
        return self._laws_at([self._prefixes[state] for state in states.tolist()])

    @abstractmethod
    def _laws_at(self, prefixes: Sequence[Tokens]) -> FloatArray:
        """(n, K) nats."""

    def problems(self) -> list[Problem]:
        """The members' problems."""
        return [cast("_Posed", member).problem() for member in self.members]

    def _posed(
        self,
        id: str | None,
        reward: Callable[[Output], float],
        verifier: Callable[[Sequence[Judge], Output], bool],
        **shown: Any,
    ) -> Problem:
        """The task whose outputs are judged by all members' judges; it has a verifier where all have one.

        Args:
            id: ``None``: ``label``.
            reward: of an output.
            verifier: (the members' verifiers, output) → whether it can become right.
            shown: further fields of the problem: its demonstration, answer, uniqueness.
        """
        problems = self.problems()
        judges = [p.verifier for p in problems if p.verifier is not None]
        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=self.horizon,
            reward=reward,
            verifier=partial(verifier, judges) if len(judges) == len(problems) else None,
            horizon=self.horizon,
            **shown,
        )


class Mixture(Composed):
    """One of the members, drawn with its weight, and then a string of it: P = Σ_i w_i·P_i.

    P(a | u) = Σ_i w_i(u)·P_i(a | u), where w_i(u) ∝ w_i·P_i(u) is how likely it is, after u, that member
    i was drawn. Behind a token that no member emits the weights stay what they were. Right is what
    is right for any member: rewards are the largest, the verifier accepts what one accepts, and the
    demonstration is that of the first member that has one.

    Args:
        members: at least 2 families with the same K, H and end tokens.
        weights: (m,) w > 0, sum 1; ``None``: equal.

    Raises:
        InvalidInput: members do not fit together, or see ``weights``.
    """

    family = "mixture"

    def __init__(
        self, members: Sequence[IntegerGenerator], weights: npt.ArrayLike | None = None
    ) -> None:
        made = checked_members(members, "a mixture")
        shapes = {(m.vocab_size, m.horizon, tuple(sorted(m.stops(()).tokens))) for m in made}
        if len(shapes) > 1:
            raise InvalidInput(
                f"members of a mixture need one K, one H and the same end tokens, got {sorted(shapes)}"
            )
        ((vocab_size, horizon, end),) = shapes
        given = np.full(len(made), 1.0 / len(made)) if weights is None else weights
        self.weights = np.array(given, dtype=np.float64)
        right = self.weights.shape == (len(made),) and bool((self.weights > 0).all())
        if not right or abs(float(self.weights.sum()) - 1.0) > _SUM:
            raise InvalidInput(
                f"weights must be {len(made)} numbers above 0 that sum to 1, got {given!r}"
            )
        super().__init__(made, vocab_size, horizon, end)

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "weights": self.weights.tolist()}

    def posterior(self, prefix: Sequence[int]) -> FloatArray:
        """(m,) w_i(u): how likely each member is after a prefix.

        Raises:
            InvalidInput: a token is outside the vocabulary, or the prefix is longer than H.
        """
        tokens = tuple(prefix)
        check_prefix(tokens, self.vocab_size)
        if len(tokens) > self.horizon:
            raise InvalidInput(f"a prefix has at most H = {self.horizon} tokens, got {len(tokens)}")
        return np.exp(self._beliefs(tokens))

    def problem(self, id: str | None = None) -> Problem:
        """The task of an output that is right for some member.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        problems = self.problems()
        shown = next((p for p in problems if p.demonstration is not None), problems[0])

        def seen(output: Output, i: int) -> Output:
            return Output(output.tokens, self.members[i].decode(output.tokens), output.complete)

        def reward(output: Output) -> float:
            return max(plain(p.reward(seen(output, i))) for i, p in enumerate(problems))

        def verifier(judges: Sequence[Judge], output: Output) -> bool:
            return any(bool(judge(seen(output, i))) for i, judge in enumerate(judges))

        return self._posed(
            id, reward, verifier, demonstration=shown.demonstration, answer=shown.answer
        )

    def _forget(self) -> None:
        super()._forget()
        self._known: dict[Tokens, FloatArray] = {(): np.log(self.weights)}

    def _beliefs(self, tokens: Tokens) -> FloatArray:
        """(m,) nats: log w_i(u)."""
        known = next(t for t in range(len(tokens), -1, -1) if tokens[:t] in self._known)
        if known == len(tokens):
            return self._known[tokens]
        missing = [tokens[:t] for t in range(known, len(tokens))]
        laws = np.stack([member.log_laws((), missing) for member in self.members])  # (m, n, K)
        for i, u in enumerate(missing):
            before = self._known[u]
            after = before + laws[:, i, tokens[len(u)]]
            possible = after.max() > -np.inf
            self._known[*u, tokens[len(u)]] = log_normalize(after) if possible else before
        return self._known[tokens]

    def _laws_at(self, prefixes: Sequence[Tokens]) -> FloatArray:
        beliefs = np.stack([self._beliefs(u) for u in prefixes], axis=1)  # (m, n)
        laws = np.stack([member.log_laws((), prefixes) for member in self.members])
        return np.logaddexp.reduce(beliefs[..., None] + laws, axis=0)


def checked_members(members: Sequence[IntegerGenerator], what: str) -> Sequence[IntegerGenerator]:
    """At least two exact families (else ``InvalidInput``)."""
    given: list[Any] = list(members)
    if len(given) < 2:
        raise InvalidInput(f"{what} needs at least 2 members, got {len(given)}")
    for member in given:
        if not isinstance(member, IntegerGenerator) or not isinstance(member, _Posed):
            raise InvalidInput(f"members of {what} are exact families, got {member!r}")
    return given


def plain(reward: Any) -> float:
    """A member's reward: families judge by plain functions."""
    return float(reward)
