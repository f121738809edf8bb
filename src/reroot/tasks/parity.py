"""Parities written out step by step: each step is one bit away, and a wrong one spoils all after it.

The prompt is W random bits X_1…X_W and ``=``, as in ``0110=``. With Z_0 = 0 a right output is

* running_parity: Z_1…Z_H with Z_i = Z_{i-1} ⊕ X_i; there is one, ``0100`` here.
* chain_of_parities: Y_1 Z_1…Y_L Z_L with free bits Y_i and Z_i = Z_{i-1} ⊕ Y_i ⊕ X_i; there are 2^L.

Source of the chain: Amani et al., AdaBack (arXiv 2506.18110). A character is a token in tokenizers
that split digits, so that an output ends with its last step and needs no stop text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from operator import xor

from .. import specs
from ..checks import check_int
from ..errors import InvalidInput
from ..randomness import keyed_rng, stream_key
from ..types import Output
from .base import Problem

LONGEST = 1000


@dataclass(frozen=True, slots=True)
class RightOutput:
    """Outcome reward of the prompt bits X_1…X_H: 1.0 iff complete and every step is there and right.

    Attributes:
        bits: X_1…X_H.
        free: whether a free bit precedes every step.
    """

    bits: tuple[int, ...]
    free: bool

    def __call__(self, output: Output) -> float:
        return float(output.complete and _whole(output.text, self.bits, self.free))


@dataclass(frozen=True, slots=True)
class RightSoFar:
    """Process verifier, consistent with ``RightOutput``: is every step so far right?"""

    bits: tuple[int, ...]
    free: bool

    def __call__(self, output: Output) -> bool:
        score = _whole if output.complete else _so_far
        return score(output.text, self.bits, self.free)


def _whole(text: str, bits: tuple[int, ...], free: bool) -> bool:
    return len(text) == len(bits) * (1 + free) and _so_far(text, bits, free)


def _so_far(text: str, bits: tuple[int, ...], free: bool) -> bool:
    """Whether a right output starts with ``text``."""
    if len(text) > len(bits) * (1 + free) or not set(text) <= {"0", "1"}:
        return False
    said = [int(c) for c in text]
    steps = said[1::2] if free else said
    given = said[::2] if free else [0] * len(said)
    return steps == list(_steps(bits, given))[: len(steps)]


def _steps(bits: Iterable[int], free: Iterable[int]) -> Iterator[int]:
    """Z_1, Z_2, … for X_1, X_2, … and Y_1, Y_2, …; as many as there are of both."""
    return accumulate((x ^ y for x, y in zip(bits, free, strict=False)), xor)


@dataclass(frozen=True, slots=True)
class ParityTask:
    """A parity task.

    Attributes:
        kind: registry name without parameters.
        unit: what the horizon counts.
        description: one line for listings.
        free: whether a free bit precedes every step.
        width: W, bits of a prompt; ``None``: as many as there are steps.
    """

    kind: str
    unit: str
    description: str
    free: bool
    width: int | None = None

    @property
    def name(self) -> str:
        """``kind`` or ``kind:width=W``."""
        return self.kind if self.width is None else f"{self.kind}:width={self.width}"

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` problems; problem i depends on (task, width, horizon, seed, i) alone.

        Raises:
            InvalidInput: horizon outside 1…1000 or above the width, count below 1, or a seed that
                is no integer >= 0.
        """
        most = LONGEST if self.width is None else self.width
        horizon = check_int(f"the horizon of {self.name} ({self.unit})", horizon, 1, most)
        count = check_int("count", count, 1)
        seed = check_int("seed", seed)
        return [self._problem(horizon, seed, i) for i in range(count)]

    def _problem(self, horizon: int, seed: int, index: int) -> Problem:
        id = f"{self.name}/h{horizon}/s{seed}/{index}"
        bits = _bits(seed, id, "problem", self.width or horizon)
        asked = bits[:horizon]
        shown = self._demonstration(seed, id, asked)
        return Problem(
            id=id,
            prompt=f"{_text(bits)}=",
            max_tokens=len(shown),
            reward=RightOutput(asked, self.free),
            verifier=RightSoFar(asked, self.free),
            demonstration=shown,
            unique=not self.free,
            horizon=horizon,
            answer="" if self.free else shown,
        )

    def _demonstration(self, seed: int, id: str, bits: tuple[int, ...]) -> str:
        if not self.free:
            return _text(_steps(bits, [0] * len(bits)))
        free = _bits(seed, id, "demonstration", len(bits))
        return _text(chain.from_iterable(zip(free, _steps(bits, free), strict=True)))


def parse(spec: str) -> ParityTask:
    """Read ``kind`` or ``kind:width=W``, the kind being one of ``PARITY_TASKS``.

    Raises:
        InvalidInput: another parameter, or a width that is no integer in 1…1000.
    """
    read = specs.parse(spec, "task")
    task = PARITY_TASKS[read.name]
    for name, value in read.settings.items():
        if name != "width":
            raise InvalidInput(f"task {spec!r} has no parameter {name!r}. Known: width.")
        task = replace(task, width=check_int(f"task {spec!r}: width", value, 1, LONGEST))
    return task


def _bits(seed: int, id: str, purpose: str, n: int) -> tuple[int, ...]:
    return tuple(map(int, keyed_rng(stream_key(seed, id, purpose)).integers(2, size=n)))


def _text(bits: Iterable[int]) -> str:
    return "".join(map(str, bits))


PARITY_TASKS: dict[str, ParityTask] = {
    task.kind: task
    for task in (
        ParityTask(
            "running_parity", "steps", "write the parity of the bits so far: 0110= → 0100", False
        ),
        ParityTask(
            "chain_of_parities",
            "links",
            "write free bits, each followed by the parity of all bits so far: 01= → 1100 and others",
            True,
        ),
    )
}
