"""The smallest number of rollouts at which something is reached, however large it is."""

from __future__ import annotations

from collections.abc import Callable

_RELATIVE = 10**12
"""Beyond 2^53 rollouts the answer is right to this many parts."""


def smallest(reached: Callable[[int], bool]) -> int:
    """The smallest N >= 0 with ``reached(N)``, for a monotone condition that holds in the end."""
    if reached(0):
        return 0
    bits = 1
    while not reached(1 << bits):
        bits *= 2
    low, high = (1 << (bits // 2)) if bits > 1 else 0, 1 << bits  # reached at high, not at low
    if low and reached(low):
        low, high = 0, low
    while high - low > max(1, high // _RELATIVE if high > 1 << 53 else 1):
        # halve the exponent first, then the interval
        middle = 1 << ((low.bit_length() + high.bit_length()) // 2) if high > 4 * low else 0
        if not low < middle < high:
            middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high
