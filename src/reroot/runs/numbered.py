"""Texts with a number each, of which there may be very many: none of the texts is held."""

from __future__ import annotations

import hashlib
from array import array

_FREE = 0  # of a slot; else the number of the entry after it
_SMALLEST = 8  # slots


class Numbered:
    """Text → an integer 0 … 2^64 − 1, in 30 to 40 bytes each.

    Texts are known by digests of 128 bits: that any two of n are taken for one has a probability below
    n²/2^129 (10^-24 for 10^7). Nothing can be taken out.
    """

    def __init__(self) -> None:
        self._digests = array("Q")  # two of an entry
        self._numbers = array("Q")
        self._slots = array("I", bytes(4 * _SMALLEST))  # a power of two of them, at most 2/3 taken

    def get(self, text: str) -> int | None:
        """Its number; ``None``: it has none."""
        entry = self._slots[self._slot(*_digest(text))]
        return None if entry == _FREE else self._numbers[entry - 1]

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self.get(text) is not None

    def __len__(self) -> int:
        return len(self._numbers)

    def __setitem__(self, text: str, number: int) -> None:
        digest = _digest(text)
        at = self._slot(*digest)
        if (entry := self._slots[at]) != _FREE:
            self._numbers[entry - 1] = number
            return
        self._numbers.append(number)
        self._digests.extend(digest)
        self._slots[at] = len(self._numbers)
        if 3 * len(self._numbers) > 2 * len(self._slots):
            self._grow()

    def _slot(self, first: int, second: int) -> int:
        """Where it is, or would be."""
        slots, digests, mask = self._slots, self._digests, len(self._slots) - 1
        at = first & mask
        while (entry := slots[at]) != _FREE:
            if digests[2 * entry - 2] == first and digests[2 * entry - 1] == second:
                break
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        self._slots = slots = array("I", bytes(8 * len(self._slots)))
        mask = len(slots) - 1
        for entry in range(1, len(self._numbers) + 1):
            at = self._digests[2 * entry - 2] & mask
            while slots[at] != _FREE:
                at = (at + 1) & mask
            slots[at] = entry


def _digest(text: str) -> tuple[int, int]:
    """Keys have no lone surrogates, but a foreign line may."""
    data = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
