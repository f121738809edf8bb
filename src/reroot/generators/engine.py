"""What computes the laws of a causal language model at nodes of a prefix tree."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..types import IntArray
from .prefix_tree import PrefixTree

Laws = npt.NDArray[np.float32]


class Engine(Protocol):
    """Computes laws at nodes of a ``PrefixTree``, which knows the string of each.

    Attributes:
        name: what it is, in words; part of the generator's description.
        going_on: whether what is asked next will follow what is asked now.
        passes, positions, again: forward passes, tokens computed, and how many of them once more.
    """

    name: str
    going_on: bool
    passes: int
    positions: int
    again: int

    @property
    def bytes(self) -> int:
        """Memory of what is kept between passes."""
        ...

    @property
    def slot_bytes(self) -> int:
        """Memory of a token in the tree; 0: nothing is kept by token."""
        ...

    def reset(self, tree: PrefixTree, budget: int) -> None:
        """Forget all passes; from now on nodes are those of ``tree``, and ``budget`` bytes may be kept."""
        ...

    def some(self, asked: IntArray) -> tuple[IntArray, Laws]:
        """(m nodes of ``asked``, (m, K) nats: their laws) of one pass; m = 0 where the pass only came
        nearer to them."""
        ...

    def nodes(self) -> IntArray:
        """Nodes whose numbers must stay valid."""
        ...

    def rows(self, length: int) -> int | None:
        """How many strings of so many tokens can be continued side by side; ``None``: no such limit."""
        ...
