"""Coarsening: from a generator's reply to exactly what a report names, in fresh arrays."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..types import PAD, FloatArray, IntArray, Query, Reply, read_only

_Mask = npt.NDArray[np.bool_]


def coarsen(reply: Reply, query: Query, length: int, vocab_size: int) -> Reply:
    """The part of ``reply`` that ``query.report`` names, copied and checked.

    Nothing in the result aliases the generator's arrays, so neither writing into it nor following
    ``.base`` leads anywhere.

    Raises:
        BackendError: the reply breaks the protocol (shape, token range, missing field, NaN).
    """
    n, report = query.n, query.report
    tokens = _ints(reply.tokens, "tokens")
    lengths = _ints(reply.lengths, "lengths")
    if tokens.ndim != 2 or len(tokens) != n or lengths.shape != (n,):
        raise BackendError(
            f"the generator answered tokens {tokens.shape} and lengths {lengths.shape} to {query}; "
            f"expected ({n}, L) and ({n},)"
        )
    longest = tokens.shape[1]
    alike = 1 <= longest <= length and lengths.tobytes() == _alike(n, longest)
    if not alike and not (lengths.min() >= 1 and lengths.max() <= longest <= length):
        raise BackendError(f"continuation lengths {lengths} are outside 1…{length} for {query}")
    beyond = None if alike else cast("_Mask", np.arange(longest) >= lengths[:, None])
    shown = tokens if beyond is None else tokens[~beyond]
    if shown.view(np.uint64).max() >= vocab_size:  # which a negative token is, too
        raise BackendError(f"the generator emitted a token outside 0…{vocab_size - 1} for {query}")
    if beyond is not None:
        tokens[beyond] = PAD
    k = min(report.top, vocab_size)
    return Reply(
        query.prefix,
        read_only(tokens),
        read_only(lengths),
        _floats(reply.logprobs, (n, longest), beyond, "logprobs") if report.has_logprob else None,
        _lists(reply.top_tokens, (n, longest, k), beyond) if k else None,
        _floats(reply.top_logprobs, (n, longest, k), beyond, "top_logprobs") if k else None,
        _floats(reply.laws, (n, longest, vocab_size), beyond, "laws") if report.has_law else None,
    )


def _ints(array: IntArray | None, name: str) -> IntArray:
    if array is None:
        raise BackendError(f"the generator left out {name}")
    if type(array) is np.ndarray and array.dtype == np.int64:
        return array.copy()
    return np.array(array, dtype=np.int64)


@lru_cache(maxsize=64)
def _alike(n: int, length: int) -> bytes:
    """(n,) lengths that are all the same, as they lie in memory."""
    return np.full(n, length, dtype=np.int64).tobytes()


def _lists(array: IntArray | None, shape: tuple[int, ...], beyond: _Mask | None):
    copy = _ints(array, "top_tokens")
    if copy.shape != shape:
        raise BackendError(f"the generator answered top_tokens of shape {copy.shape}, not {shape}")
    if beyond is not None:
        copy[beyond] = PAD
    return read_only(copy)


def _floats(
    array: FloatArray | None, shape: tuple[int, ...], beyond: _Mask | None, name: str
) -> FloatArray:
    if array is None:
        raise BackendError(f"the generator left out {name}")
    if array.shape != shape:
        raise BackendError(f"the generator answered {name} of shape {array.shape}, not {shape}")
    # one law shared by n draws stays shared
    shared = shape[0] > 1 and array.strides[0] == 0 and beyond is None
    copy = np.array(array[:1] if shared else array, dtype=np.float64)
    if beyond is not None:
        copy[beyond] = 0.0  # what a backend leaves beyond the end of an output is not for learners
    if np.isnan(copy).any():
        raise BackendError(f"the generator answered NaN in {name}")
    return read_only(np.broadcast_to(read_only(copy), shape) if shared else copy)
