"""Where rollouts are lost along a right output: which tokens, or which steps, and whether others would do."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...access.episode import Episode
from ...diagnosis.bottlenecks import SIDE, Place, tell

LONGEST = 64
"""Tokens of a right output beyond which it is looked at step by step."""
RARE = 0.25
"""Probability below which a token is a candidate."""
MOST = 8
"""Candidates of one output: the rarest."""
_STEP_END = re.compile(r"[.!?]\s|\n")


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens ``start`` to ``end`` (not included) of a right output, and their probability."""

    start: int
    end: int
    probability: float


@dataclass(slots=True, eq=False)
class Losses:
    """A right output of a problem, and what is known of its places.

    Attributes:
        episode: the problem, with that output as its demonstration.
        of: what it is.
        logs: (L,) its teacher-forced log-probabilities, nats.
        exact: it is the only right output, so that V falls at every token by its probability.
        passed: k → passes of 64 rollouts after k tokens, of as many as were drawn (``tried``).
    """

    episode: Episode
    of: str
    logs: Sequence[float]
    exact: bool
    passed: dict[int, int] = field(default_factory=dict[int, int])
    tried: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        if not self.exact:
            self.passed[self.length] = self.tried[self.length] = SIDE

    @property
    def length(self) -> int:
        """L, tokens of the output."""
        return len(self.logs)

    @property
    def by_step(self) -> bool:
        """Whether whole steps are looked at."""
        return self.length > LONGEST and not self.exact

    def tokens(self) -> list[str]:
        """(L,) the text that each token adds; empty where a letter is not yet whole."""
        tokens = () if self.episode.demonstration is None else self.episode.demonstration.tokens
        whole = [self.episode.generator.decode(tokens[:k]) for k in range(len(tokens) + 1)]
        return [
            after[len(before) :] if after.startswith(before) else after[_common(before, after) :]
            for before, after in itertools.pairwise(whole)
        ]

    def candidates(self) -> list[Piece]:
        """Rare tokens, or the least likely steps, at most ``MOST``, in their order."""
        if self.by_step:
            ends = _step_ends(self.tokens())
            starts = [0, *ends[:-1]]
            found = [
                Piece(a, b, math.exp(math.fsum(self.logs[a:b])))
                for a, b in zip(starts, ends, strict=True)
            ]
        else:
            found = [
                Piece(k, k + 1, math.exp(x)) for k, x in enumerate(self.logs) if math.exp(x) < RARE
            ]
        rarest = sorted(found, key=lambda piece: piece.probability)
        return sorted(rarest if self.exact else rarest[:MOST], key=lambda piece: piece.start)

    def sides(self) -> list[int]:
        """Numbers of tokens after which rollouts are wanted."""
        if self.exact:
            return []
        ends = {k for piece in self.candidates() for k in (piece.start, piece.end)}
        return sorted(ends - {self.length})

    def worth_more(self) -> list[int]:
        """Those that the first rollouts have not shown to be hopeless: something after them passed."""
        ends = set[int]()
        for piece in self.candidates():
            if self.passed.get(piece.end):
                ends |= {piece.start, piece.end}
        return sorted(k for k in ends if 0 < self.tried.get(k, 0) < SIDE)

    def add(self, place: int, passed: int, tried: int) -> None:
        """Count rollouts after ``place`` tokens."""
        self.passed[place] = self.passed.get(place, 0) + passed
        self.tried[place] = self.tried.get(place, 0) + tried

    def place(self, piece: Piece) -> Place:
        """What a candidate is."""
        if self.exact:
            return Place.BOTTLENECK
        ends = piece.start, piece.end
        if any(self.tried.get(k) != SIDE for k in ends):
            return Place.UNKNOWN
        return tell(self.passed[piece.start], self.passed[piece.end], SIDE)

    def to_json(self) -> Mapping[str, Any]:
        """As JSON values: every token with its probability, and the candidates."""
        texts = self.tokens()
        return {
            "of": self.of,
            "level": "step" if self.by_step else "token",
            "how": "teacher forcing of the only right output" if self.exact else "rollouts",
            "tokens": [[t, math.exp(x)] for t, x in zip(texts, self.logs, strict=True)],
            "places": [
                {
                    "start": piece.start,
                    "end": piece.end,
                    "text": "".join(texts[piece.start : piece.end]),
                    "probability": piece.probability,
                    "is": str(self.place(piece)),
                    "before": self._count(piece.start),
                    "after": self._count(piece.end),
                }
                for piece in self.candidates()
            ],
        }

    def _count(self, place: int) -> list[int] | None:
        return [self.passed[place], self.tried[place]] if self.tried.get(place) else None


def _common(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _step_ends(texts: Sequence[str]) -> list[int]:
    """Numbers of tokens after which a sentence or a line has ended; the last is all of them."""
    whole, ends = "", list[int]()
    for k, text in enumerate(texts, 1):
        before = len(whole)
        whole += text
        # a mark ends a sentence once white space follows it: the token that brings that is the first of the next
        if _STEP_END.search(whole, max(0, before - 1)) and (not ends or k - ends[-1] > 1):
            ends.append(k if text.endswith("\n") else k - 1)
    ends = [k for k in dict.fromkeys(ends) if 0 < k < len(texts)]
    return [*ends, len(texts)]
