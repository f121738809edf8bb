"""Block MDPs in token strings: what is public about them, for environments and learners alike.

An episode is o_0 a_0 o_1 a_1 … a_{H−1} o_H. An action is one token, an observation a block of L tokens,
the base-B digits of a code x. Behind the code is a latent state s and n bits of noise; a decoder
φ: x ↦ s of each layer is secret, a finite class that holds it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .checks import check_int
from .errors import InvalidInput
from .randomness import keyed_rng, stream_key
from .types import FloatArray

MAX_CODES = 1 << 16
"""Most observations of one layer."""


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a block MDP.

    Attributes:
        layers: H, actions of an episode; observations are of layers 0…H.
        actions: A; actions are the tokens 0…A − 1.
        states: S, latent states of a layer, at least 2.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.

    Raises:
        InvalidInput: a size is out of range, or S·2ⁿ > 65,536.
    """

    layers: int
    actions: int
    states: int
    noise: int
    base: int = 2

    def __post_init__(self) -> None:
        check_int("layers H", self.layers, 1, 1_000)
        check_int("actions A", self.actions, 1, 1_000)
        check_int("latent states S", self.states, 2, 1_000)
        check_int("noise bits n", self.noise, 0, 16)
        check_int("base B", self.base, 2, 1_000)
        if self.codes > MAX_CODES:
            raise InvalidInput(f"S·2ⁿ must be at most {MAX_CODES}, got {self.codes} codes")

    @cached_property
    def codes(self) -> int:
        """S·2ⁿ: observations of a layer."""
        return self.states << self.noise

    @cached_property
    def length(self) -> int:
        """L = ⌈log_B(S·2ⁿ)⌉: tokens of a block."""
        length, room = 1, self.base
        while room < self.codes:
            length, room = length + 1, room * self.base
        return length

    @property
    def tokens(self) -> int:
        """T = (H + 1)·L + H: tokens of an episode."""
        return (self.layers + 1) * self.length + self.layers

    @property
    def vocab_size(self) -> int:
        """max(A, B)."""
        return max(self.actions, self.base)

    def code(self, block: Sequence[int]) -> int:
        """The code that a block of digits spells, the first digit the most significant."""
        code = 0
        for digit in block:
            code = code * self.base + digit
        return code

    def block(self, code: int) -> tuple[int, ...]:
        """The L digits of a code."""
        digits = [code // self.base**i % self.base for i in range(self.length)]
        return tuple(reversed(digits))


class LockClass:
    """A public class of what each layer of a lock may be, the true one among them.

    Member k of layer h is a decoder, a uniform permutation of the codes, and an injection of the
    good states into actions: those that lead on from each of them. The last latent state is bad.

    Args:
        shape: sizes.
        members: |Φ|, members of each layer.
        seed: names the class.

    Attributes:
        labels: (H + 1, members, S·2ⁿ) latent state of each code.
        keys: (H, members, S − 1) the right action at each good state.

    Raises:
        InvalidInput: ``members`` is out of range, or there are more good states than actions.
    """

    def __init__(self, shape: BlockShape, members: int, seed: int = 0) -> None:
        check_int("decoders |Φ|", members, 1, 10_000)
        goods = shape.states - 1
        if goods > shape.actions:
            raise InvalidInput(
                f"a lock has at most as many good states as actions, got G = {goods} and "
                f"A = {shape.actions}"
            )
        self.shape, self.members = shape, members
        rng = keyed_rng(stream_key(seed, "lock class", repr(shape)))
        self.labels = np.empty((shape.layers + 1, members, shape.codes), dtype=np.int64)
        self.keys = np.empty((shape.layers, members, goods), dtype=np.int64)
        for h in range(shape.layers + 1):
            for k in range(members):
                self.labels[h, k] = rng.permutation(shape.codes) >> shape.noise
                if h < shape.layers:
                    self.keys[h, k] = rng.permutation(shape.actions)[:goods]

    def values(self, fail: float) -> list[FloatArray]:
        """H arrays (members, S·2ⁿ, A): the optimal values that each member of a layer stands for, in a
        lock whose right actions fail with probability ``fail``: (1 − fail)^(H−h) for the right action at
        a good state, else 0."""
        shape, found = self.shape, list[FloatArray]()
        for h in range(shape.layers):
            worth = (1.0 - fail) ** (shape.layers - h)
            table = np.zeros((self.members, shape.codes, shape.actions))
            for k in range(self.members):
                good = np.flatnonzero(self.labels[h, k] < shape.states - 1)
                table[k, good, self.keys[h, k][self.labels[h, k, good]]] = worth
            found.append(table)
        return found
