"""Families made of families: several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import InvalidInput
from ..generators.tabular import MAX_VOCABULARY, IntegerGenerator
from ..tasks.base import Problem
from ..types import FloatArray, Output
from .composed import Composed, Judge, Tokens, checked_members, plain


class Product(Composed):
    """The members side by side: a token is one token of each, P(a | u) = Π_i P_i(a_i | u_i).

    Token a is written in mixed radix, the first member's digit first: K = Π K_i. Right is what is
    right for every member: rewards are multiplied, the verifier accepts what all accept, and the
    demonstration shows all. Reaches, coverages and ranks of members multiply, and entropies add.

    Args:
        members: at least 2 families with the same H and without end tokens.

    Raises:
        InvalidInput: members do not fit together, or K is above 1,000,000.
    """

    family = "product"

    def __init__(self, members: Sequence[IntegerGenerator]) -> None:
        made = checked_members(members, "a product")
        horizons = {member.horizon for member in made}
        ending = [type(m).__name__ for m in made if m.stops(()).tokens]
        if len(horizons) > 1 or ending:
            raise InvalidInput(
                f"members of a product need one H and no end tokens, got H in {sorted(horizons)}"
                + (f" and end tokens of {', '.join(ending)}" if ending else "")
            )
        self.sizes = tuple(member.vocab_size for member in made)
        if math.prod(self.sizes) > MAX_VOCABULARY:
            raise InvalidInput(
                f"the product has K = {math.prod(self.sizes):,}; at most {MAX_VOCABULARY:,}"
            )
        super().__init__(made, math.prod(self.sizes), horizons.pop())

    def split(self, tokens: Sequence[int]) -> list[Tokens]:
        """The tokens of each member."""
        digits = np.unravel_index(np.array(tokens, dtype=np.int64), self.sizes)
        return [tuple(row.tolist()) for row in digits]

    def join(self, strings: Sequence[Sequence[int]]) -> Tokens:
        """Strings of all members, equally long, as one."""
        digits = tuple(np.array(string, dtype=np.int64) for string in strings)
        return tuple(np.ravel_multi_index(digits, self.sizes).tolist())

    def problem(self, id: str | None = None) -> Problem:
        """The task of an output that is right for every member.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        problems = self.problems()
        shown = [p.demonstration for p in problems if p.demonstration is not None]
        strings = [
            m.encode_continuation(s) if isinstance(s, str) else s
            for m, s in zip(self.members, shown, strict=False)
        ]
        whole = len(strings) == len(problems) and len(set(map(len, strings))) == 1
        joined = self.join(strings) if whole else None

        def seen(output: Output) -> list[Output]:
            parts = zip(self.members, self.split(output.tokens), strict=True)
            return [Output(part, m.decode(part), output.complete) for m, part in parts]

        def reward(output: Output) -> float:
            views = zip(problems, seen(output), strict=True)
            return math.prod(plain(p.reward(view)) for p, view in views)

        def verifier(judges: Sequence[Judge], output: Output) -> bool:
            return all(bool(j(view)) for j, view in zip(judges, seen(output), strict=True))

        return self._posed(
            id,
            reward,
            verifier,
            demonstration=joined,
            unique=joined is not None and all(p.unique for p in problems),
            answer="" if joined is None else self.decode(joined),
        )

    def _laws_at(self, prefixes: Sequence[Tokens]) -> FloatArray:
        parts = [self.split(u) if u else [()] * len(self.members) for u in prefixes]
        laws = np.zeros((len(prefixes), 1))
        for i, member in enumerate(self.members):
            own = member.log_laws((), [part[i] for part in parts])
            laws = (laws[:, :, None] + own[:, None, :]).reshape(len(prefixes), -1)
        return laws
