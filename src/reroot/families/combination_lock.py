"""The combination lock with rich observations: a block MDP whose right actions an observation hides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..blocks import BlockShape, LockClass
from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.tabular import MAX_HORIZON, IntegerGenerator
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output

_OPEN, _SHUT, _VOID = range(3)  # law of a block: of the next layer, of the bad state, of nothing


class CombinationLock(IntegerGenerator):
    """Observations as blocks of tokens, actions as tokens: o_0 a_0 o_1 … a_{H−1} o_H.

    A layer has G good latent states and a bad one. The first state is a uniform good one. At good
    state i of layer h one action, σ_h(i), leads with probability 1 − q to a uniform good state of the
    next layer; all else leads to the bad state, from which nothing leads back. An observation is
    the code of the state and of n uniform bits under a secret permutation, in base B. The outcome
    reward is 1 if the last state is good.

    The law of a token within a block is that of the codes that begin as the block does; at an
    action it is uniform. A block that could not have been drawn is an observation of the bad state,
    whatever it spells: no teleporting. A state is (layer, position, kind of block, code so far).

    Decoders and right actions of a layer are one member of a public ``LockClass``, which learners may
    know; which one is the secret. Closed forms are in ``limits.lock``.

    Attributes:
        shape: sizes: H, A, S = G + 1, n, B.
        fail: q.
        members: the public class.
        truth: (H + 1,) the member of each layer that is true.
        labels: (H + 1, S·2ⁿ) latent state of each code; G is the bad one.
        keys: (H, G) σ.

    Args:
        layers: H.
        actions: A ≥ G.
        goods: G.
        noise: n, bits.
        fail: q in [0, 1).
        base: B.
        decoders: members of the public class of each layer.
        class_seed: names the public class.
        seed: names the secret.

    Raises:
        InvalidInput: a parameter is out of range, or episodes have more than 10,000 tokens.
    """

    family = "combination_lock"

    def __init__(
        self,
        layers: int,
        actions: int = 4,
        goods: int = 2,
        noise: int = 6,
        fail: float = 0.0,
        base: int = 2,
        decoders: int = 16,
        class_seed: int = 0,
        seed: int = 0,
    ) -> None:
        shape = BlockShape(layers, actions, goods + 1, noise, base)
        if not 0.0 <= fail < 1.0:
            raise InvalidInput(f"fail q must lie in [0, 1), got {fail!r}")
        if shape.tokens > MAX_HORIZON:
            raise InvalidInput(f"{shape.tokens:,} tokens an episode; at most {MAX_HORIZON:,}")
        super().__init__(shape.vocab_size, shape.tokens)
        self.shape, self.fail = shape, float(fail)
        self.seed, self.class_seed = seed, class_seed
        self.members = LockClass(shape, decoders, class_seed)
        rng = keyed_rng(stream_key(seed, self.family, "secret"))
        self.truth = rng.integers(decoders, size=shape.layers + 1)
        each = np.arange(shape.layers + 1)
        self.labels: IntArray = self.members.labels[each, self.truth]
        self.keys: IntArray = self.members.keys[each[:-1], self.truth[:-1]]
        self._offsets = np.cumsum([0, *(base**j for j in range(shape.length + 1))])
        self._mass = self._masses()

    @property
    def goods(self) -> int:
        """G."""
        return self.shape.states - 1

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed."""
        s = self.shape
        sizes = f"H={s.layers},A={s.actions},G={self.goods},n={s.noise},q={self.fail:g},B={s.base}"
        known = f"decoders={self.members.members},class_seed={self.class_seed}"
        return f"{self.family}:{sizes},{known},seed={self.seed}"

    def describe(self) -> Mapping[str, object]:
        s = self.shape
        secret = hashlib.sha256(self.labels.tobytes() + self.keys.tobytes()).hexdigest()
        sizes = {"layers": s.layers, "actions": s.actions, "goods": self.goods, "noise": s.noise}
        return {
            "family": self.family,
            **sizes,
            "q": self.fail,
            "base": s.base,
            "secret": secret[:16],
        }

    def problem(self, id: str | None = None) -> Problem:
        """The task of ending in a good state: empty prompt, outcome reward 1[s_H is good].

        The process verifier says whether a prefix can still do so. The demonstration is a right
        output.

        Args:
            id: the problem's id; ``None``: ``label``.
        """

        def reward(output: Output) -> float:
            whole = len(output.tokens) == self.horizon
            return float(whole and self.latent(output.tokens) < self.goods)

        def verifier(output: Output) -> bool:
            return self._alive(output.tokens)

        shown = self._demonstration()
        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=self.horizon,
            reward=reward,
            verifier=verifier,
            demonstration=shown,
            horizon=self.shape.layers,
            answer=self.decode(shown),
        )

    def latent(self, tokens: Sequence[int]) -> int:
        """The latent state of the last whole block of an episode so far; G is bad.

        Raises:
            InvalidInput: no block is whole, or a token is outside the vocabulary.
        """
        length = self.shape.length
        check_prefix(tokens, self.vocab_size)
        if len(tokens) < length:
            raise InvalidInput(f"a block has {length} tokens, got {len(tokens)} tokens in all")
        past = len(tokens) % (length + 1)
        end = len(tokens) if past == length else len(tokens) - past - 1
        return self._walk(tokens[:end])[3]

    def occupancies(self, policy: npt.ArrayLike) -> FloatArray:
        """(H + 1, S) probability of each latent state at each layer under a policy of observations.

        Args:
            policy: (H, S·2ⁿ, A) probability of each action at each code.
        """
        policy = np.asarray(policy, dtype=np.float64)
        shape = self.shape
        found = np.zeros((shape.layers + 1, shape.states))
        found[0, :-1] = 1.0 / self.goods
        for h in range(shape.layers):
            for i in range(self.goods):
                right = policy[h, self.labels[h] == i, self.keys[h, i]].mean()
                found[h + 1, :-1] += found[h, i] * right * (1.0 - self.fail) / self.goods
            found[h + 1, -1] = 1.0 - found[h + 1, :-1].sum()
        return found

    def value(self, policy: npt.ArrayLike) -> float:
        """The exact expected reward of a policy, given as in ``occupancies``."""
        return float(self.occupancies(policy)[-1, :-1].sum())

    # ---- the token law -------------------------------------------------------------------------

    def _masses(self) -> FloatArray:
        """(H + 1, 2, Σ_j B^j) mass of the codes that begin with each string of digits, by kind of block."""
        shape, goods, offsets = self.shape, self.goods, self._offsets
        mass = np.zeros((shape.layers + 1, 2, int(offsets[-1])))
        each = 2.0**-shape.noise
        good = self.labels < goods
        leaves = mass[:, :, offsets[-2] :]
        leaves[:, _SHUT, : shape.codes] = np.where(good, 0.0, each)
        lost = np.full(shape.layers + 1, self.fail)
        lost[0] = 0.0
        leaves[:, _OPEN, : shape.codes] = np.where(
            good, (1.0 - lost[:, None]) / goods * each, lost[:, None] * each
        )
        for j in reversed(range(shape.length)):
            below = mass[:, :, offsets[j + 1] : offsets[j + 2]]
            mass[:, :, offsets[j] : offsets[j + 1]] = below.reshape(
                *below.shape[:2], -1, shape.base
            ).sum(-1)
        return mass

    def _pack(
        self,
        layer: int | IntArray,
        at: int | IntArray,
        kind: int | IntArray,
        code: int | IntArray,
    ) -> IntArray:
        room, steps = self.shape.base**self.shape.length, self.shape.length + 1
        return np.asarray(((layer * steps + at) * 3 + kind) * room + code, dtype=np.int64)

    def _unpack(self, states: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        rest, code = np.divmod(states, self.shape.base**self.shape.length)
        rest, kind = np.divmod(rest, 3)
        layer, at = np.divmod(rest, self.shape.length + 1)
        return layer, at, kind, code

    def _walk(self, tokens: Sequence[int]) -> tuple[int, int, int, int]:
        """(layer, position, kind, code so far, or the latent state behind a block) after ``tokens``."""
        shape, goods, offsets = self.shape, self.goods, self._offsets
        kind, layer, length = _OPEN, 0, shape.length
        for start in range(0, len(tokens), length + 1):
            block = tokens[start : start + length]
            code, layer = shape.code(block), start // (length + 1)
            inside = kind != _VOID and max(block) < shape.base
            if not inside or not self._mass[layer, kind, offsets[len(block)] + code]:
                kind, code = _VOID, 0
            if len(block) < length:
                return layer, len(block), kind, code
            state = goods if kind == _VOID else int(self.labels[layer, code])
            if start + length >= len(tokens):
                return layer, length, _OPEN, state
            opens = state < goods and tokens[start + length] == self.keys[layer, state]
            kind = _OPEN if opens else _SHUT
        return (layer + 1 if len(tokens) else 0), 0, kind, 0

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        return int(self._pack(*self._walk(tokens)))

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        shape, goods = self.shape, self.goods
        layer, at, kind, code = self._unpack(states)
        acts = at == shape.length
        digits = np.minimum(tokens, shape.base - 1)
        longer = np.where(acts, 0, code * shape.base + digits)
        there = self._offsets[np.where(acts, 0, at + 1)] + longer
        possible = (kind != _VOID) & (tokens < shape.base)
        possible &= self._mass[layer, np.minimum(kind, _SHUT), there] > 0
        new_kind, new_code = np.where(possible, kind, _VOID), np.where(possible, longer, 0)
        ended = ~acts & (at + 1 == shape.length)
        seen = self.labels[layer, np.where(ended, np.minimum(new_code, shape.codes - 1), 0)]
        new_code = np.where(ended, np.where(possible, seen, goods), new_code)
        state = np.where(acts, np.minimum(code, goods), goods)
        right = self.keys[np.minimum(layer, shape.layers - 1), np.minimum(state, goods - 1)]
        opens = (state < goods) & (tokens == right)
        blocks = self._pack(layer, at + 1, np.where(ended, _OPEN, new_kind), new_code)
        return np.where(acts, self._pack(layer + 1, 0, np.where(opens, _OPEN, _SHUT), 0), blocks)

    def _laws(self, states: IntArray) -> FloatArray:
        shape = self.shape
        layer, at, kind, code = self._unpack(states)
        laws = np.zeros((len(states), self.vocab_size))
        acts = at == shape.length
        laws[acts, : shape.actions] = 1.0 / shape.actions
        laws[~acts & (kind == _VOID), : shape.base] = 1.0 / shape.base
        drawn = np.flatnonzero(~acts & (kind != _VOID))
        layer, at, kind, code = layer[drawn], at[drawn], kind[drawn], code[drawn]
        below = (self._offsets[at + 1] + code * shape.base)[:, None] + np.arange(shape.base)
        whole = self._mass[layer, kind, self._offsets[at] + code]
        laws[drawn, : shape.base] = (
            self._mass[layer[:, None], kind[:, None], below] / whole[:, None]
        )
        with np.errstate(divide="ignore"):
            return np.log(laws)

    def _alive(self, tokens: Sequence[int]) -> bool:
        """Whether a good last state is still possible."""
        if not tokens:
            return True
        layer, at, kind, code = self._walk(tokens)
        if at == self.shape.length:
            return code < self.goods
        span = self.shape.base ** (self.shape.length - at)
        rest = self.labels[layer, code * span : (code + 1) * span]
        return kind == _OPEN and bool((rest < self.goods).any())

    def _demonstration(self) -> tuple[int, ...]:
        """The right output with the smallest good code at every layer."""
        shape, tokens = self.shape, list[int]()
        for h in range(shape.layers + 1):
            code = int(np.flatnonzero(self.labels[h] < self.goods)[0])
            tokens += shape.block(code)
            if h < shape.layers:
                tokens.append(int(self.keys[h, self.labels[h, code]]))
        return tuple(tokens)
