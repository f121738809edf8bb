"""The hidden path (arXiv 2604.04855): one wrong turn and all is uniform."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from ..checks import check_between
from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.tabular import IntegerGenerator
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output, as_tokens

OFF = -1
"""The state of every prefix that has left the path; on the path the state is the depth."""


class PathFamily(IntegerGenerator):
    """A law that depends on how much of a secret path z ∈ V^H the prefix has followed.

    O(H) memory. The outcome reward is 1[y = z]; the process verifier says whether a prefix is one
    of z; the demonstration is z.

    Args:
        vocab_size: K ≥ 2, at most 1,000,000.
        horizon: H, 1…10,000.
        path: the secret path; ``None``: drawn uniformly by ``seed``.
        seed: names the random path.
        decoys: the path avoids the tokens 0…decoys − 1.

    Raises:
        InvalidInput: K or H is out of range, or ``path`` is no such path.
    """

    family: ClassVar[str]

    def __init__(
        self,
        vocab_size: int,
        horizon: int,
        path: Iterable[int] | None,
        seed: int,
        decoys: int = 0,
    ) -> None:
        super().__init__(vocab_size, horizon)
        self.seed = seed
        self._drawn = path is None
        if path is None:
            rng = keyed_rng(stream_key(seed, self.family, "path"))
            self.path = tuple(rng.integers(decoys, self.vocab_size, size=self.horizon).tolist())
        else:
            self.path = as_tokens(path)
        check_prefix(self.path, self.vocab_size)
        if len(self.path) != self.horizon:
            raise InvalidInput(
                f"the path must have horizon = {self.horizon} tokens, got {len(self.path)}"
            )
        if min(self.path) < decoys:
            raise InvalidInput(
                f"the path must avoid the decoys 0…{decoys - 1}, got token {min(self.path)}"
            )
        self._path = np.array(self.path, dtype=np.int64)

    @abstractmethod
    def parameters(self) -> dict[str, int | float]:
        """The parameters beside K and H, as in a spec."""

    @abstractmethod
    def path_laws(self, n: int, on: IntArray, tokens: IntArray) -> FloatArray:
        """(n, K) nats: the law on the path at the rows ``on``, where the path goes on by ``tokens``;
        the law off the path in all other rows."""

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed (or a digest of a path that was given)."""
        shown = "".join(f",{name}={value}" for name, value in self.parameters().items())
        which = f"seed={self.seed}" if self._drawn else f"path={digest(self.path)}"
        return f"{self.family}:K={self.vocab_size},H={self.horizon}{shown},{which}"

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            **self.parameters(),
            "path": digest(self.path),
        }

    def along(self, path: Iterable[int]) -> Self:
        """The same law of another path."""
        return type(self)(self.vocab_size, self.horizon, **self.parameters(), path=path)  # type: ignore[call-arg]

    def problem(self, id: str | None = None, prompt: tuple[int, ...] = ()) -> Problem:
        """The task of finding z: outcome reward 1[y = z], at most H tokens.

        Args:
            id: the problem's id; ``None``: ``label``.
            prompt: that of this path; in an ensemble it has the index.
        """
        path = self.path

        def reward(output: Output) -> float:
            return float(output.tokens == path)

        def verifier(output: Output) -> bool:
            return output.tokens == path[: len(output.tokens)]

        return Problem(
            id=self.label if id is None else id,
            prompt=prompt,
            max_tokens=self.horizon,
            reward=reward,
            verifier=verifier,
            demonstration=path,
            unique=True,
            horizon=self.horizon,
            answer=self.decode(path),
        )

    def start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        """How much of the path prompt and prefix have followed, or ``OFF``.

        Raises:
            InvalidInput: a token is outside the vocabulary, or there is no next token.
        """
        return self.depth((*prompt, *prefix), self._path)

    def depth(self, tokens: tuple[int, ...], path: IntArray) -> int:
        """``start`` of tokens, on any path (H,) of this law."""
        if len(tokens) < self.horizon and tokens == tuple(path[: len(tokens)].tolist()):
            return len(tokens)
        check_prefix(tokens, self.vocab_size, self.horizon)
        return OFF

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        return self.start(prompt, prefix)

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        on = (states != OFF) & (tokens == self._path[states])
        return np.where(on, states + 1, OFF)

    def _laws(self, states: IntArray) -> FloatArray:
        on = np.flatnonzero(states != OFF)
        return self.path_laws(len(states), on, self._path[states[on]])


class HiddenPath(PathFamily):
    """P(z_t | z_<t) = p, every other token q = (1 − p)/(K − 1); uniform off the path.

    Attributes:
        path: z, H tokens.
        p, q: probability on the path of the path's token and of each other token.

    Raises:
        InvalidInput: p outside (1/K, 1), K or H out of range, or ``path`` is no path.
    """

    family = "hidden_path"

    def __init__(
        self,
        vocab_size: int,
        horizon: int,
        p: float,
        path: Iterable[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(vocab_size, horizon, path, seed)
        self.p = check_between("p", p, 1.0 / self.vocab_size, 1.0)
        self.q = (1.0 - self.p) / (self.vocab_size - 1)
        self._log_p, self._log_q = math.log(self.p), math.log(self.q)
        self._log_uniform = -math.log(self.vocab_size)

    def parameters(self) -> dict[str, int | float]:
        return {"p": self.p}

    def path_laws(self, n: int, on: IntArray, tokens: IntArray) -> FloatArray:
        laws = np.full((n, self.vocab_size), self._log_uniform)
        laws[on] = self._log_q
        laws[on, tokens] = self._log_p
        return laws


def digest(tokens: Sequence[int]) -> str:
    """16 hexadecimal digits that name a token string."""
    return hashlib.blake2b(np.asarray(tokens, dtype="<i8").tobytes(), digest_size=8).hexdigest()
