"""Rows of the caches that transformers' models keep between passes, whatever such a cache consists of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedConfig

_WHOLE = (torch.nn.Module, PreTrainedConfig, torch.dtype, torch.device, type)  # no part of a state


def selected(cache: Any, rows: torch.Tensor, size: int) -> Any:
    """A copy of ``cache``, which holds ``size`` rows, with the rows ``rows``, in that order and as often."""

    def select(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim > 1 and tensor.shape[0] == size:
            return tensor.index_select(0, rows)
        return tensor.clone()

    return _mapped(cache, select, {})


def memory(cache: Any) -> int:
    """Bytes of its tensors."""
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    _mapped(cache, count, {})
    return total


def _mapped(
    value: Any, change: Callable[[torch.Tensor], torch.Tensor], known: dict[int, tuple[Any, Any]]
) -> Any:
    """A copy of ``value`` with other tensors; what is one object in it stays one object."""
    if id(value) in known:
        return known[id(value)][1]
    if isinstance(value, torch.Tensor):
        new: Any = change(value)
    elif isinstance(value, dict):
        new = copy.copy(value)
        new.update({key: _mapped(inner, change, known) for key, inner in value.items()})  # pyright: ignore
    elif isinstance(value, list):
        new = [_mapped(inner, change, known) for inner in value]  # pyright: ignore
    elif isinstance(value, tuple):
        new = tuple(_mapped(inner, change, known) for inner in value)  # pyright: ignore
    elif hasattr(value, "__dict__") and not isinstance(value, _WHOLE) and not callable(value):
        new = copy.copy(value)
        known[id(value)] = value, new
        for name, inner in vars(value).items():
            vars(new)[name] = _mapped(inner, change, known)
    else:
        return value
    known[id(value)] = value, new  # the value too: its number is its own while it lives
    return new
