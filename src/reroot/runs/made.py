"""Sequences whose items are made when they are asked for: of very many none is held."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

TOGETHER, HELD = 512, 16_384
"""Of ``Recent``: items that are made at a time, and the most that stay."""

S = TypeVar("S")
T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence of which each item is made when it is asked for."""

    @abstractmethod
    def item(self, at: int) -> T:
        """The item at 0 ≤ ``at`` < the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        found = range(len(self))[index]
        return self.item(found) if isinstance(found, int) else [self.item(at) for at in found]


class Made(Lazy[T], Generic[S, T]):
    """Each item of a sequence, made into another one.

    Args:
        items: the sequence.
        make: item → what it is made into, each time that it is asked for.
    """

    def __init__(self, items: Sequence[S], make: Callable[[S], T]) -> None:
        self._items, self._make = items, make

    def __len__(self) -> int:
        return len(self._items)

    def item(self, at: int) -> T:
        return self._make(self._items[at])


class Recent(Lazy[T]):
    """Items that are made when they are asked for, some together; those asked for last stay a while.

    Args:
        count: how many there are.
        make: index → its item.
    """

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make
        self._blocks = OrderedDict[int, list[T]]()

    def __len__(self) -> int:
        return self._count

    def item(self, at: int) -> T:
        number, at = divmod(at, TOGETHER)
        block = self._blocks.get(number)
        if block is None:
            start = number * TOGETHER
            end = min(start + TOGETHER, self._count)
            block = self._blocks[number] = [self._make(i) for i in range(start, end)]
            if len(self._blocks) * TOGETHER > HELD:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block[at]


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
