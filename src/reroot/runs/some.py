"""Parts of long sequences whose items are made when they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Some(Sequence[T]):
    """The items of a sequence at some positions.

    Args:
        items: the sequence.
        positions: where in it.
    """

    def __init__(self, items: Sequence[T], positions: Sequence[int]) -> None:
        self._items, self._positions = items, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._items[at] for at in self._positions[index]]
        return self._items[self._positions[index]]


def where(items: Sequence[T], wanted: Callable[[T], bool]) -> Sequence[T]:
    """The items that are wanted now, in their order; four bytes each."""
    return Some(items, array("I", (at for at, item in enumerate(items) if wanted(item))))
