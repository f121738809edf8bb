"""Laws on strings of T tokens by operators (observable operator models; Jaeger 2000)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .projection import relative_entropy_projection

_IMPOSSIBLE = 1e-12
"""Probability of a token, given its history, below which what follows is unknown: rounding."""
_LEAST_RATIO = 1e-3
_LARGEST_WEIGHT = 2.0
MAX_STRINGS = 1 << 18
"""Most strings that are enumerated."""


@dataclass(frozen=True, eq=False)
class Futures:
    """What weights at a position are held against: ratios Pr[z | c]/d(z) of M futures z.

    Attributes:
        here: (k_t, M) of the histories that are mixed there.
        before: (k_{t−1}, O, M) of each history of the position before, with a token.
    """

    here: FloatArray
    before: FloatArray


@dataclass(frozen=True, eq=False)
class OperatorModel:
    """A law whose state after t tokens is k_t weights α that sum to 1, of either sign.

    ``q(o) ∝ max(Σ_i α_i·N_t[i, o], floor)``, and ``α' ∝ Σ_i α_i·A_t[i, o, ·]`` after the token o. A
    hidden Markov model is one (weights: the belief), and so is a mixture of the continuations of k_t
    histories. With tests, weights that predict an impossible future, or have run away, are projected
    in relative entropy on those that do not.

    Attributes:
        start: (k_0,) weights at the beginning.
        emissions: T arrays N_t, (k_t, O).
        operators: T − 1 arrays A_t, (k_t, O, k_{t+1}).
        floor: least probability before normalization.
        tests: of the positions 1 … T − 1, or none.
        end: tokens that end a string; behind one it is only repeated.

    Raises:
        InvalidInput: shapes that do not fit together, or numbers that are not finite.
    """

    start: FloatArray
    emissions: Sequence[FloatArray]
    operators: Sequence[FloatArray]
    floor: float = 0.0
    tests: Sequence[Futures] = ()
    end: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = [len(N) for N in self.emissions]
        tokens = self.vocab_size
        moves = list(pairwise(sizes))
        known = [(len(self.start),)] + [(k, tokens) for k in sizes]
        known += [(k, tokens, after) for k, after in moves]
        found = [a.shape for a in (self.start, *self.emissions, *self.operators)]
        if known != found or known[0] != (sizes[0],):
            raise InvalidInput(f"operators of a model must have the shapes {known}, got {found}")
        if self.tests and len(self.tests) != len(moves):
            raise InvalidInput(f"expected tests of {len(moves)} positions, got {len(self.tests)}")
        if not all(np.isfinite(a).all() for a in self._arrays().values()):
            raise InvalidInput("operators of a model must be finite numbers")

    @property
    def vocab_size(self) -> int:
        """O."""
        return self.emissions[0].shape[1]

    @property
    def horizon(self) -> int:
        """T."""
        return len(self.emissions)

    @property
    def ranks(self) -> tuple[int, ...]:
        """k_1 … k_{T−1}: weights at each inner position."""
        return tuple(len(N) for N in self.emissions[1:])

    def laws(self, t: int, states: FloatArray) -> FloatArray:
        """(n, O) next-token probabilities after t tokens in (n, k_t) states."""
        mass = np.maximum(states @ self.emissions[t], self.floor)
        total = mass.sum(axis=1, keepdims=True)
        uniform = np.full_like(mass, 1.0 / mass.shape[1])
        return np.divide(mass, total, out=uniform, where=total > 0)

    def moved(self, t: int, states: FloatArray, tokens: IntArray) -> FloatArray:
        """(n, k_{t+1}) states after one of ``tokens`` each; uniform weights behind the impossible."""
        shares = states * self.emissions[t][:, tokens].T
        found = np.einsum("ni,inj->nj", states, self.operators[t][:, tokens])
        total = found.sum(axis=1, keepdims=True)
        possible = total > _IMPOSSIBLE * np.maximum(1.0, np.abs(shares).sum(axis=1, keepdims=True))
        uniform = np.full_like(found, 1.0 / found.shape[1])
        found = np.divide(found, total, out=uniform, where=possible)
        return self._held(t, found, shares, tokens) if self.tests else found

    def _held(self, t: int, found: FloatArray, shares: FloatArray, tokens: IntArray) -> FloatArray:
        tests = self.tests[t]
        wrong = (found @ tests.here).min(axis=1) < _LEAST_RATIO
        wrong |= np.abs(found).max(axis=1) > _LARGEST_WEIGHT
        total = shares.sum(axis=1)
        wrong &= total > _IMPOSSIBLE
        if wrong.any():
            ratios = np.einsum("ni,inz->nz", shares[wrong], tests.before[:, tokens[wrong]])
            wanted = np.maximum(ratios / total[wrong, None], _LEAST_RATIO)
            found[wrong] = relative_entropy_projection(tests.here, wanted)
        return found

    def log_probabilities(self, strings: IntArray) -> FloatArray:
        """(n,) nats: log-probabilities of (n, T) strings."""
        states = np.repeat(self.start[None], len(strings), axis=0)
        total = np.zeros(len(strings))
        with np.errstate(divide="ignore"):
            for t in range(self.horizon):
                tokens = strings[:, t]
                total += np.log(self.laws(t, states)[np.arange(len(strings)), tokens])
                if t + 1 < self.horizon:
                    states = self.moved(t, states, tokens)
        return total

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """(n, T) strings; what follows an end token has no meaning."""
        states = np.repeat(self.start[None], n, axis=0)
        strings = np.zeros((n, self.horizon), dtype=np.int64)
        for t in range(self.horizon):
            below = self.laws(t, states).cumsum(axis=1)
            u = rng.random(n)[:, None] * below[:, -1:]
            strings[:, t] = np.minimum((below <= u).sum(axis=1), self.vocab_size - 1)
            if t + 1 < self.horizon:
                states = self.moved(t, states, strings[:, t])
        return strings

    # ---- as text ---------------------------------------------------------------------------------

    def digest(self) -> str:
        """16 hexadecimal digits that name the law."""
        found = hashlib.blake2b(f"{self.floor!r} {self.end}".encode(), digest_size=8)
        for name, array in self._arrays().items():
            found.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """JSON values from which ``from_json`` makes the same model, to the bit."""
        arrays = {name: _packed(array) for name, array in self._arrays().items()}
        return {"floor": self.floor, "end": list(self.end), "arrays": arrays}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> OperatorModel:
        """The inverse of ``to_json``.

        Raises:
            InvalidInput: these are no such values.
        """
        try:
            arrays = {name: _unpacked(value) for name, value in known["arrays"].items()}
            horizon = sum(name.startswith("N") for name in arrays)
            tests = [
                Futures(arrays[f"here{t}"], arrays[f"before{t}"])
                for t in range(horizon)
                if f"here{t}" in arrays
            ]
            return cls(
                arrays["start"],
                [arrays[f"N{t}"] for t in range(horizon)],
                [arrays[f"A{t}"] for t in range(horizon - 1)],
                float(known["floor"]),
                tests,
                tuple(int(token) for token in known["end"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InvalidInput(f"this is no model of operators: {error!r}") from None

    def _arrays(self) -> dict[str, FloatArray]:
        named = {"start": self.start}
        named |= {f"N{t}": array for t, array in enumerate(self.emissions)}
        named |= {f"A{t}": array for t, array in enumerate(self.operators)}
        for t, tests in enumerate(self.tests):
            named |= {f"here{t}": tests.here, f"before{t}": tests.before}
        return named


def all_strings(vocab_size: int, length: int) -> IntArray:
    """(K^length, length) every string, in lexicographic order."""
    return np.indices((vocab_size,) * length).reshape(length, -1).T


def probabilities(model: OperatorModel) -> FloatArray:
    """(O^T,) probabilities of all strings under a model, in lexicographic order.

    Raises:
        InvalidInput: there are more than 2^18.
    """
    count = model.vocab_size**model.horizon
    if count > MAX_STRINGS:
        raise InvalidInput(f"{count:,} strings are too many to enumerate; at most {MAX_STRINGS:,}")
    return np.exp(model.log_probabilities(all_strings(model.vocab_size, model.horizon)))


def total_variation(
    law: OperatorModel, other: OperatorModel, draws: int = 0, seed: int = 0
) -> float:
    """TV(law, other): exact by enumeration, or E_law[max(0, 1 − other/law)] over ``draws`` strings.

    Raises:
        InvalidInput: the strings differ, or are too many to enumerate and ``draws`` is 0.
    """
    if (law.vocab_size, law.horizon) != (other.vocab_size, other.horizon):
        raise InvalidInput(
            f"laws on {law.vocab_size}^{law.horizon} and {other.vocab_size}^{other.horizon} strings "
            f"have no distance"
        )
    if not draws:
        return 0.5 * float(np.abs(probabilities(law) - probabilities(other)).sum())
    strings = law.draw(draws, np.random.default_rng(seed))
    ratios = np.exp(other.log_probabilities(strings) - law.log_probabilities(strings))
    return float(np.maximum(0.0, 1.0 - ratios).mean())


def _packed(array: npt.NDArray[np.float64]) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array, dtype="<f8").tobytes()).decode()
    return {"shape": list(array.shape), "float64": data}


def _unpacked(value: Mapping[str, Any]) -> FloatArray:
    data = base64.b64decode(value["float64"], validate=True)
    return np.frombuffer(data, dtype="<f8").astype(np.float64).reshape(value["shape"])
