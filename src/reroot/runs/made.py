"""Sequences whose items are made when they are asked for: of very many none is held."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


class Made(Sequence[T], Generic[S, T]):
    """Each item of a sequence, made into another one.

    Args:
        items: the sequence.
        make: item → what it is made into, each time that it is asked for.
    """

    def __init__(self, items: Sequence[S], make: Callable[[S], T]) -> None:
        self._items, self._make = items, make

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(item) for item in self._items[index]]
        return self._make(self._items[index])


class Picked(Made[int, T]):
    """Some items of a sequence, four bytes each.

    Attributes:
        positions: where they are in the sequence.
    """

    def __init__(self, items: Sequence[T], positions: Sequence[int]) -> None:
        super().__init__(positions, items.__getitem__)
        self.positions = positions


def where(items: Sequence[T], wanted: Callable[[T], bool]) -> Picked[T]:
    """The items that are wanted now, in their order."""
    return Picked(items, array("I", (at for at, item in enumerate(items) if wanted(item))))
