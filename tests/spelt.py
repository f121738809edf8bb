"""Explicit trees whose tokens are pieces of text, and the definition of an output's end, word for word."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reroot.generators.base import Generator
from reroot.generators.stops import Pieces, Stop
from reroot.generators.tabular import Tabular
from reroot.randomness import keyed_rng, stream_key
from reroot.types import FloatArray

Tokens = tuple[int, ...]

TAG = ("<", "/", "a>", "</", "x", "a></a>")
"""Pieces in which ``</a>`` begins and ends in many ways."""
ACCENT = (b"\xc3", b"\xa9", b"\xa9y", "é", b"\xa9\xc3", "x")
"""Pieces of é, whole and cut."""
SMILE = (b"\xf0\x9f", b"\x99", b"\x82", b"\x99\x82", b"\xf0", b"\x9f\x99\x82!")
"""Pieces of 🙂, cut in several ways."""


class Spelt(Tabular):
    """Random laws over tokens that spell ``pieces``; the last token, if ``ends``, ends an output."""

    pieces: tuple[bytes, ...]

    @classmethod
    def of(
        cls, pieces: Sequence[str | bytes], horizon: int, seed: int = 0, ends: bool = False
    ) -> Spelt:
        written = [p.encode() if isinstance(p, str) else p for p in pieces] + [b""] * ends
        size, last = len(written), ([len(written) - 1] if ends else [])

        def law(prefix: Tokens) -> FloatArray:
            return keyed_rng(stream_key(seed, "spelt", "law", prefix)).dirichlet(np.ones(size))

        found = cls.from_function(law, size, horizon, last, f"spelt {written}, seed {seed}")
        assert isinstance(found, Spelt)
        found.pieces = tuple(written)
        return found

    def encode_continuation(self, text: str) -> Tokens:
        """By the longest pieces."""
        left, found = text.encode(), []
        while left:
            fits = [t for t, p in enumerate(self.pieces) if p and left.startswith(p)]
            found.append(max(fits, key=lambda t: len(self.pieces[t])))
            left = left[len(self.pieces[found[-1]]) :]
        return tuple(found)

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.pieces[t] for t in tokens).decode("utf-8", "replace")

    def stops(self, texts: Sequence[str]) -> Stop:
        return Stop.of(Pieces(self.pieces), texts, self._end)


def ends_here(generator: Generator, stop: Sequence[str], tokens: Tokens) -> bool:
    """The definition: an end token, or the text holds a stop text and did not without the last token."""
    if not tokens:
        return False
    now, before = (generator.decode(part) for part in (tokens, tokens[:-1]))
    closes = any(s in now for s in stop) and not any(s in before for s in stop)
    return tokens[-1] in generator.stops(()).tokens or closes


def outputs_below(
    generator: Tabular, stop: Sequence[str], horizon: int, prefix: Tokens = ()
) -> dict[Tokens, float]:
    """Complete outputs that begin with ``prefix`` → probability given it, by the definition."""
    if len(prefix) == horizon or ends_here(generator, stop, prefix):
        return {prefix: 1.0}
    law = np.exp(generator.log_laws((), [prefix])[0]).tolist()
    return {
        y: p * q
        for token, p in enumerate(law)
        for y, q in outputs_below(generator, stop, horizon, (*prefix, token)).items()
    }


def reachable_strings(
    generator: Generator, stop: Sequence[str], horizon: int
) -> Iterator[tuple[Tokens, bool]]:
    """(string, whether it ends there) of every string of 1 … horizon tokens that no end cuts short."""
    alive: list[Tokens] = [()]
    for _ in range(horizon):
        longer = [(*u, a) for u, a in itertools.product(alive, range(generator.vocab_size))]
        ended = [ends_here(generator, stop, u) for u in longer]
        yield from zip(longer, ended, strict=True)
        alive = [u for u, end in zip(longer, ended, strict=True) if not end]


CASES: list[Any] = [
    (TAG, ("</a>",)),
    (TAG, ("</a>", "xx", "<<")),
    (TAG, ("/a>",)),
    (ACCENT, ("é",)),
    (ACCENT, ("éé", "xé")),
    (SMILE, ("🙂",)),
]
