"""A tabular softmax policy π(a|u) ∝ P(a|u)·e^θ(u, a) over any exact generator, stored lazily.

Only prefixes that were ever updated, and those above them, own a row of θ; everywhere else the
policy is the base law, at the speed of the base. So it can be trained over trees of K^H leaves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_float
from ..errors import InvalidInput
from ..types import FloatArray, IntArray, as_tokens
from .base import check_prefix
from .law import log_normalize
from .tabular import IntegerGenerator

_NONE = -1  # no such node


class SoftmaxPolicy(IntegerGenerator):
    """π_θ = P·e^θ, normalized at every prefix; θ = 0 at the beginning.

    Strings of tokens are rows of an array, filled up with any negative number behind their end;
    prompt tokens are their first tokens, as everywhere in ``IntegerGenerator``.

    Args:
        base: P.
    """

    def __init__(self, base: IntegerGenerator) -> None:
        super().__init__(base.vocab_size, base.horizon, base.stops(()).tokens)
        self.base = base
        # A state is 2·(stored node) or 2·(state of the base) + 1; both may be told apart, and
        # undone by a shift, for the negative states of a base too.
        self._stored = 0
        self._parents = np.empty(0, dtype=np.int64)
        self._tokens = np.empty(0, dtype=np.int64)  # the last token of each stored prefix
        self._states = np.empty(0, dtype=np.int64)  # of the base
        self._children = np.empty((0, self.vocab_size), dtype=np.int64)
        self._theta = np.empty((0, self.vocab_size))
        self._base_laws = np.empty((0, self.vocab_size))
        self._own_laws = np.empty((0, self.vocab_size))
        self._levels: list[list[IntArray]] = []  # nodes of each length, in batches

    # ---- the generator -------------------------------------------------------------------------

    def max_length(self) -> int:
        return self.base.max_length()

    def describe(self) -> Mapping[str, object]:
        known = {"base": dict(self.base.describe()), "stored": self._stored}
        digest = hashlib.blake2b(json.dumps(known).encode(), digest_size=8)
        for part in (self._parents, self._tokens, self._theta):
            digest.update(part[: self._stored].tobytes())
        return {
            "family": "softmax_policy",
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            **known,
            "digest": digest.hexdigest(),
        }

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        outside = 2 * self.base._start(prompt, prefix) + 1
        node = 0 if self._stored else _NONE
        for token in (*prompt, *prefix):
            if node == _NONE:
                break
            node = int(self._children[node, token])
        return outside if node == _NONE else 2 * node

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        below = states >> 1
        if not self._stored:
            return 2 * self.base._advance(below, tokens) + 1
        nodes, stored = self._split(states)
        states = np.where(stored, self._states[nodes], below)
        children = np.where(stored, self._children[nodes, tokens], _NONE)
        onward = 2 * self.base._advance(states, tokens) + 1
        return np.where(children == _NONE, onward, 2 * children)

    def _laws(self, states: IntArray) -> FloatArray:
        if not self._stored:
            return self.base._laws(states >> 1)
        nodes, stored = self._split(states)
        laws = self._own_laws[nodes]
        if not stored.all():
            laws[~stored] = self.base._laws(states[~stored] >> 1)
        return laws

    def _split(self, states: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """(the node, or 0 outside; whether it is one)."""
        stored = (states & 1) == 0
        return np.where(stored, states >> 1, 0), stored

    # ---- its parameters ------------------------------------------------------------------------

    @property
    def stored(self) -> int:
        """Number of prefixes that own a row of θ."""
        return self._stored

    def theta(self, prefix: Sequence[int]) -> FloatArray:
        """(K,) the row of θ at a prefix; zeros where none is stored."""
        state = self._start((), prefix)
        return np.zeros(self.vocab_size) if state & 1 else self._theta[state >> 1].copy()

    def log_ratios(self, tokens: IntArray) -> FloatArray:
        """(n, L) nats: log π(y_t|y_<t) − log P(y_t|y_<t) of (n, L) strings; 0 behind their end.

        Raises:
            InvalidInput: the strings are no such array, a token is outside the vocabulary, or a
                string is longer than H.
        """
        tokens = self._strings(tokens)
        found = np.zeros(tokens.shape)
        rows = np.arange(len(tokens)) if self._stored else np.arange(0)
        nodes = np.zeros(len(rows), dtype=np.int64)
        for t in range(tokens.shape[1]):
            inside = (nodes != _NONE) & (tokens[rows, t] >= 0)
            rows, nodes = rows[inside], nodes[inside]
            if not len(rows):
                break
            at = tokens[rows, t]
            found[rows, t] = self._own_laws[nodes, at] - self._base_laws[nodes, at]
            nodes = self._children[nodes, at]
        return found

    def log_probability(self, output: Sequence[int]) -> float:
        """log π(y), nats: of one string, token by token.

        Raises:
            InvalidInput: a token is outside the vocabulary, or the string is too long.
        """
        tokens = as_tokens(output)
        check_prefix(tokens, self.vocab_size)
        laws = self.log_laws((), [tokens[:t] for t in range(len(tokens))])
        return float(laws[np.arange(len(tokens)), tokens].sum())

    def update(self, tokens: IntArray, coefficients: FloatArray, rate: float, most: float) -> None:
        """θ += rate·Σ c(i, t)·∇ log π(y_it | y_i<t), all gradients taken at the present θ.

        ∇ log π(a|u) with respect to θ(u, ·) is onehot(a) − π(·|u). Prefixes with c ≠ 0 are stored.

        Args:
            tokens: (n, L) strings from the empty prefix.
            coefficients: (n, L) c, reward; 0 behind the end of a string.
            rate: learning rate, per unit of reward.
            most: largest change of an entry of θ; a row that would change more is scaled down.

        Raises:
            InvalidInput: a shape is wrong, a number is not finite, a string is too long or a
                coefficient stands behind its end.
        """
        check_float("rate", rate)
        check_between("most", most, 0.0, np.inf)
        tokens = self._strings(tokens)
        if coefficients.shape != tokens.shape or not np.isfinite(coefficients).all():
            raise InvalidInput(f"coefficients must be {tokens.shape} finite numbers")
        if coefficients[tokens < 0].any():
            raise InvalidInput("coefficients must be 0 behind the end of a string")
        used = np.flatnonzero(coefficients.any(axis=1))
        if not len(used):
            return
        nodes = self._store(tokens[used], coefficients[used] != 0.0)
        here = nodes != _NONE
        touched, row = np.unique(nodes[here], return_inverse=True)
        amounts = coefficients[used][here]
        step = -np.bincount(row, amounts)[:, None] * np.exp(self._own_laws[touched])
        np.add.at(step, (row, tokens[used][here]), amounts)
        step *= rate
        step *= np.minimum(1.0, most / np.maximum(np.abs(step).max(axis=1, keepdims=True), most))
        self._theta[touched] += step
        self._own_laws[touched] = log_normalize(self._base_laws[touched] + self._theta[touched])

    def value(self, path: Sequence[int], beta: float, reward: float = 1.0) -> float:
        """J_β(π) = reward·π(path) − β·KL(π ‖ P), exactly, by a pass over the stored prefixes.

        KL(π ‖ P) = Σ_u π(u)·KL(π(·|u) ‖ P(·|u)), with equal laws where nothing is
        stored.

        Args:
            path: the complete output that is rewarded.
            beta: β > 0, reward per nat.
            reward: R.

        Raises:
            InvalidInput: an argument is out of range.
        """
        check_between("beta", beta, 0.0, np.inf)
        won = check_float("reward", reward) * float(np.exp(self.log_probability(path)))
        return won - beta * self._kl()

    def _kl(self) -> float:
        """Nats."""
        if not self._stored:
            return 0.0
        stored = slice(0, self._stored)
        laws, base = self._own_laws[stored], self._base_laws[stored]
        with np.errstate(invalid="ignore"):  # -inf − -inf where a token is impossible
            each = np.exp(laws) * np.where(laws > -np.inf, laws - base, 0.0)
        reached = np.zeros(self._stored)
        for parts in self._levels[1:]:
            nodes = np.concatenate(parts)
            above = self._parents[nodes]
            reached[nodes] = reached[above] + laws[above, self._tokens[nodes]]
        return float(np.exp(reached) @ each.sum(axis=1))

    # ---- the stored tree -----------------------------------------------------------------------

    def _strings(self, tokens: IntArray) -> IntArray:
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
            raise InvalidInput(f"strings must be an (n, L) array of tokens, got {tokens!r}")
        if tokens.size:
            check_prefix((max(0, int(tokens.max())),), self.vocab_size)
        if (tokens[:, self.horizon :] >= 0).any():
            raise InvalidInput(f"strings have at most {self.horizon} tokens, got {tokens.shape[1]}")
        return tokens

    def _store(self, tokens: IntArray, wanted: npt.NDArray[np.bool_]) -> IntArray:
        """(n, L) the node of the prefix before each wanted token, made if missing; else −1."""
        if not self._stored:
            self._add(_NONE, np.array([_NONE]), np.array([self.base._start((), ())]), 0)
        found = np.full(tokens.shape, _NONE)
        deepest = wanted.shape[1] - 1 - wanted[:, ::-1].argmax(axis=1)
        rows = np.arange(len(tokens))
        nodes = np.zeros(len(tokens), dtype=np.int64)
        for t in range(tokens.shape[1]):
            found[rows, t] = np.where(wanted[rows, t], nodes, _NONE)
            onward = deepest[rows] > t
            rows, nodes = rows[onward], nodes[onward]
            if not len(rows):
                break
            at = tokens[rows, t]
            missing = self._children[nodes, at] == _NONE
            if missing.any():
                pairs = np.unique(nodes[missing] * self.vocab_size + at[missing])
                parents, last = np.divmod(pairs, self.vocab_size)
                self._add(parents, last, self.base._advance(self._states[parents], last), t + 1)
            nodes = self._children[nodes, at]
        return found

    def _add(self, parents: IntArray | int, tokens: IntArray, states: IntArray, depth: int) -> None:
        """Store new prefixes of one length with θ = 0."""
        first, count = self._stored, len(states)
        new = np.arange(first, first + count)
        self._grow(first + count)
        self._stored += count
        self._parents[new], self._tokens[new], self._states[new] = parents, tokens, states
        distinct, back = np.unique(states, return_inverse=True)
        laws = np.asarray(self.base._laws(distinct), dtype=np.float64)[back]
        self._theta[new], self._children[new] = 0.0, _NONE
        self._base_laws[new] = self._own_laws[new] = laws
        if depth:
            self._children[parents, tokens] = new
        if depth == len(self._levels):
            self._levels.append([])
        self._levels[depth].append(new)

    def _grow(self, size: int) -> None:
        """Make room for ``size`` nodes; what lies beyond the stored ones has no meaning."""
        room = len(self._parents)
        if size <= room:
            return
        more = max(size, 2 * room, 64) - room
        rows = ("_parents", "_tokens", "_states", "_children", "_theta", "_base_laws", "_own_laws")
        for name in rows:
            old = getattr(self, name)
            new = np.empty((more, *old.shape[1:]), old.dtype)
            setattr(self, name, np.concatenate([old, new]))
