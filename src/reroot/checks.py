"""Checks of numbers at the boundary: the value, or an error that names it and what was expected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import InvalidInput


def check_int(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """``value`` as an ``int`` in least…most (``None``: no upper limit), else ``InvalidInput``."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"in {least}…{most:,}"
        long = integer and int(value).bit_length() > 256  # of thousands of digits there is no text
        got = f"one of {int(value).bit_length():,} bits" if long else repr(value)
        raise InvalidInput(f"{name} must be an integer {bounds}, got {got}")
    return int(value)


def check_between(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a ``float`` in the open interval (low, high), else ``InvalidInput``."""
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not number or not low < value < high:
        raise InvalidInput(f"{name} must lie in ({low:g}, {high:g}), got {value!r}")
    return float(value)


def check_float(name: str, value: Any, least: float = -math.inf) -> float:
    """``value`` as a finite ``float`` >= ``least``, else ``InvalidInput``."""
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        bound = "" if least == -math.inf else f" >= {least:g}"
        raise InvalidInput(f"{name} must be a finite number{bound}, got {value!r}")
    return float(value)
