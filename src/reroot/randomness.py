"""Order-free randomness: uniforms keyed by what is drawn, not by when.

The uniform behind token t of continuation i from prefix u depends on (run seed, problem, u, i, t)
alone, so batching, caching and concurrency cannot change a result. Philox is counter-based: a
stream is entered at any place at no cost.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import threading
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Key = tuple[int, int]
"""A Philox key: two unsigned 64-bit words."""

_KEY = struct.Struct("<2Q")


def stream_key(seed: int, problem: str, purpose: str, tokens: Sequence[int] = ()) -> Key:
    """The key of one stream: a 128-bit hash of (seed, problem, purpose, prefix tokens)."""
    return Streams(seed, problem, purpose).key(tokens)


class Streams:
    """``stream_key`` of one purpose at many prefixes: what they share is hashed once."""

    def __init__(self, seed: int, problem: str, purpose: str) -> None:
        shared = f"{seed}\x1f{len(problem)}\x1f{problem}\x1f{purpose}\x1f"
        self._head = hashlib.blake2b(shared.encode(), digest_size=16)

    def key(self, tokens: Sequence[int]) -> Key:
        """The key at one prefix."""
        h = self._head.copy()
        h.update(array("q", tokens).tobytes())
        return _KEY.unpack(h.digest())  # type: ignore[return-value]


def learner_key(seed: int, problem: str) -> Key:
    """The key of a learner's own choices: it is shown, and does not lead to any other key.

    It is hashed from the seed as ``_stretched``, so that trying seeds against it is slow.
    """
    data = problem.encode("utf-8", "surrogatepass")
    return _KEY.unpack(hashlib.blake2b(data, digest_size=16, key=_stretched(seed)).digest())  # type: ignore[return-value]


@functools.lru_cache(maxsize=4096)
def _stretched(seed: int) -> bytes:
    """32 bytes from a seed, at the price of some milliseconds."""
    return hashlib.scrypt(str(seed).encode(), salt=b"reroot learner", n=1 << 12, r=8, p=1, dklen=32)


def keyed_rng(key: Key) -> np.random.Generator:
    """A NumPy generator over the stream ``key``."""
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))


class Uniforms:
    """Random access to the uniforms of many streams; one object serves one thread."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._philox)
        self._counter = np.zeros(4, dtype=np.uint64)
        self._key = np.zeros(2, dtype=np.uint64)
        self._state = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": self._key},
            "buffer": np.zeros(4, dtype=np.uint64),
            "buffer_pos": 4,  # empty: the next draw starts at the counter's own block
            "has_uint32": 0,
            "uinteger": 0,
        }

    def column(self, key: Key, first: int, n: int, step: int) -> npt.NDArray[np.float64]:
        """(n,) uniforms in [0, 1) for step ``step`` of continuations first … first + n − 1.

        Each entry depends on (key, its continuation, step) alone: word i mod 4 of the Philox
        block (i div 4, step).
        """
        self._key[0], self._key[1] = key
        self._counter[0], self._counter[1] = first // 4, step
        self._philox.state = self._state  # pyright: ignore[reportAttributeAccessIssue]
        skip = first % 4
        found = self._generator.random(skip + n)
        return found[skip:] if skip else found


_local = threading.local()


def thread_uniforms() -> Uniforms:
    """This thread's ``Uniforms``; nothing is carried from one ``column`` to the next."""
    if not hasattr(_local, "uniforms"):
        _local.uniforms = Uniforms()
    return _local.uniforms
