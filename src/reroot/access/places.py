"""Identities of prefixes: 128 bits of the whole token string."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache


@lru_cache(maxsize=128)  # a walk asks at the children of what it has just asked
def digest(prefix: tuple[int, ...]) -> bytes:
    """Identity of ``prefix``: 128 bits of the whole token string."""
    return hashlib.blake2b(array("q", prefix).tobytes(), digest_size=16).digest()


def digests(prefix: Sequence[int], more: Sequence[int] = ()) -> Iterator[bytes]:
    """Identity (128 bits of the whole token string) of ``prefix``, then of each longer prefix."""
    h = hashlib.blake2b(array("q", prefix).tobytes(), digest_size=16)
    yield h.digest()
    for token in more:
        h.update(array("q", (token,)).tobytes())
        yield h.digest()
