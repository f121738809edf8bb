"""The small generators that methods are certified on: every output can be written down."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..generators.layered import LayeredTree
from ..generators.tabular import IntegerGenerator, Tabular
from ..objective import Tree, log_twists
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray

Tokens = tuple[int, ...]
Law = Mapping[Tokens | None, float]
"""Output → probability; ``None``: no output, or all outputs that a statement does not tell apart."""


@dataclass(frozen=True)
class Toy:
    """A generator, the rewards of its outputs, and everything about them, exactly.

    Attributes:
        name: as in tables.
        what: one line about it.
        generator: a law that is small enough to be written out as a tree.
        reward: output tokens → outcome reward; it passes from 1 on.
        noise: log of the factor by which its value oracle may be off at an inner prefix.
    """

    name: str
    what: str
    generator: IntegerGenerator
    reward: Callable[[Tokens], float]
    noise: float = 0.0

    @cached_property
    def tree(self) -> Tree:
        """The law P, written out."""
        return Tree.of(self.generator, horizon=self.generator.horizon)

    @cached_property
    def p(self) -> FloatArray:
        """(m,) probabilities of the outputs."""
        return np.exp(self.tree.log_probabilities())

    @cached_property
    def rewards(self) -> FloatArray:
        """(m,) rewards of the outputs."""
        return np.array([self.reward(y) for y in self.tree.outputs])

    @cached_property
    def passes(self) -> np.ndarray:
        """(m,) whether an output passes."""
        return self.rewards >= 1.0

    @cached_property
    def right(self) -> set[Tokens]:
        """Every prefix of an output that passes: what the process verifier accepts."""
        outputs = [y for y, good in zip(self.tree.outputs, self.passes, strict=True) if good]
        return {y[:t] for y in outputs for t in range(len(y) + 1)}

    @cached_property
    def accepted(self) -> np.ndarray:
        """(n, K) whether the verifier accepts a token at an inner prefix."""
        K = self.generator.vocab_size
        return np.array([[(*u, a) in self.right for a in range(K)] for u in self.tree.prefixes])

    def law(self, probabilities: FloatArray) -> Law:
        """(m,) probabilities as output → probability."""
        return dict(zip(self.tree.outputs, probabilities.tolist(), strict=True))

    def of(self, policy: Tree) -> FloatArray:
        """(m,) probabilities of the outputs under another law on the same tree."""
        return np.exp(policy.log_probabilities())

    def law_of(self, policy: Tree) -> Law:
        """Another law on the same tree, as output → probability."""
        return self.law(self.of(policy))

    @property
    def mean_length(self) -> float:
        """E_P |y|, tokens."""
        return float(self.p @ np.array([len(y) for y in self.tree.outputs]))

    def problem(self, beta: float | None = None) -> Problem:
        """The problem whose value oracle is E_P[τ | u], with the toy's noise; τ = e^(r/β), or r."""
        values = self._values(beta)
        return Problem(
            f"{self.name}/{beta}",
            (),
            self.generator.horizon,
            reward=lambda output: self.reward(output.tokens) if output.complete else 0.0,
            verifier=lambda output: output.tokens in self.right,
            value=lambda output: values[output.tokens],
        )

    def log_values(self, beta: float | None) -> FloatArray:
        """(n, K) log of what the value oracle says of each child of an inner prefix."""
        values, K = self._values(beta), self.generator.vocab_size
        below = [[values.get((*u, a), 1.0) for a in range(K)] for u in self.tree.prefixes]
        with np.errstate(divide="ignore"):
            return np.log(below)

    def _values(self, beta: float | None) -> dict[Tokens, float]:
        with np.errstate(divide="ignore"):
            logs = np.log(self.rewards) if beta is None else self.rewards / beta
        inner, _ = log_twists(self.tree, logs)
        rng = keyed_rng(stream_key(0, self.name, "values"))
        off = self.noise * rng.choice([-1.0, 1.0], size=len(inner))
        off[0] = 0.0
        found = dict(zip(self.tree.prefixes, np.exp(inner + off).tolist(), strict=True))
        return found | dict(zip(self.tree.outputs, np.exp(logs).tolist(), strict=True))


def _graded(tokens: Tokens) -> float:
    """0, 1/2 or 1, by a digest of the tokens: no structure that a method could profit from."""
    return hashlib.blake2b(bytes(tokens), digest_size=1).digest()[0] % 3 / 2


def features(tokens: Tokens) -> FloatArray:
    """(3,) numbers in [0, 1) of a digest: no two outputs are equally long, in any direction."""
    digest = hashlib.blake2b(bytes(tokens), digest_size=12).digest()
    return np.frombuffer(digest, dtype="<u4") / 2.0**32


def _printed() -> Tabular:
    """aa, ab, ba, bb with (0, .40, .25, .25)/.90, the toy of arXiv 2510.14901."""
    p = np.array([[0.0, 0.40], [0.25, 0.25]]) / 0.90
    first = p.sum(axis=1)
    return Tabular([first, p / first[:, None]])


LENGTHS = Toy(
    "lengths",
    "K = 3, H = 3, token 2 ends an output: 15 outputs of 1 to 3 tokens, rewards 0, ½, 1",
    Tabular.random(3, 3, seed=11, end=(2,)),
    _graded,
    noise=math.log(1.5),
)
COINS = Toy(
    "coins",
    "K = 2, H = 3: 8 outputs, right where the number of ones is even",
    Tabular.random(2, 3, seed=4, concentration=3.0),
    lambda tokens: float(sum(tokens) % 2 == 0),
)
SHORT = Toy(
    "short",
    "K = 2, H = 3, token 1 ends an output: 4 outputs of 1 to 3 tokens, rewards 1, ½, 0, 1",
    Tabular.random(2, 3, seed=8, end=(1,)),
    lambda tokens: {(1,): 1.0, (0, 1): 0.5, (0, 0, 1): 0.0}.get(tokens, 1.0),
    noise=math.log(1.5),
)
PRINTED = Toy(
    "printed",
    "aa, ab, ba, bb ∝ 0, .40, .25, .25, right where the last is b (arXiv 2510.14901)",
    _printed(),
    lambda tokens: float(tokens[-1] == 1),
)
TWO = Toy(
    "two",
    "one token of two, right with probability 0.1",
    Tabular([[0.1, 0.9]]),
    lambda tokens: float(tokens[0] == 0),
)
LONGER = Toy(
    "longer",
    "K = 3, H = 5, token 2 ends an output: 63 outputs",
    Tabular.random(3, 5, seed=3, concentration=2.0, end=(2,)),
    _graded,
    noise=math.log(1.5),
)
STACK = LayeredTree([Tabular.random(3, 2, seed=38 + i, end=(2,)) for i in range(3)], features)
LAYERED = Toy(
    "layered",
    "K = 3, H = 2, token 2 ends an output, laws of three layers and features: 7 outputs, two of them right",
    STACK,
    lambda tokens: float(tokens in ((0, 2), (1, 1))),
)
TOYS = (LENGTHS, COINS, SHORT, PRINTED, TWO, LONGER, LAYERED)
