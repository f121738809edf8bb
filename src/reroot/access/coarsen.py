"""Coarsening: from a generator's reply to exactly what a report names, in fresh arrays."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from ..errors import BackendError
from ..types import FloatArray, IntArray, Query, Reply

_A = TypeVar("_A", IntArray, FloatArray)


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
    if not 1 <= longest <= length or lengths.min() < 1 or lengths.max() > longest:
        raise BackendError(f"continuation lengths {lengths} are outside 1…{length} for {query}")
    inside = np.arange(longest) < lengths[:, None]
    if ((tokens < 0) | (tokens >= vocab_size))[inside].any():
        raise BackendError(f"the generator emitted a token outside 0…{vocab_size - 1} for {query}")
    k = min(report.top, vocab_size)
    return Reply(
        query.prefix,
        _seal(tokens),
        _seal(lengths),
        _floats(reply.logprobs, (n, longest), "logprobs") if report.has_logprob else None,
        _seal(_ints(reply.top_tokens, "top_tokens", (n, longest, k))) if k else None,
        _floats(reply.top_logprobs, (n, longest, k), "top_logprobs") if k else None,
        _floats(reply.laws, (n, longest, vocab_size), "laws") if report.has_law else None,
    )


def _ints(array: IntArray | None, name: str, shape: tuple[int, ...] | None = None) -> IntArray:
    if array is None:
        raise BackendError(f"the generator left out {name}")
    copy = np.array(array, dtype=np.int64)
    if shape is not None and copy.shape != shape:
        raise BackendError(f"the generator answered {name} of shape {copy.shape}, not {shape}")
    return copy


def _floats(array: FloatArray | None, shape: tuple[int, ...], name: str) -> FloatArray:
    if array is None:
        raise BackendError(f"the generator left out {name}")
    if array.shape != shape:
        raise BackendError(f"the generator answered {name} of shape {array.shape}, not {shape}")
    if shape[0] > 1 and array.strides[0] == 0:  # one law shared by n draws: keep it shared
        copy = np.broadcast_to(_seal(np.array(array[:1], dtype=np.float64)), shape)
    else:
        copy = np.array(array, dtype=np.float64)
    if np.isnan(copy).any():
        raise BackendError(f"the generator answered NaN in {name}")
    return _seal(copy)


def _seal(array: _A) -> _A:
    array.flags.writeable = False
    return array
