"""Low-rank laws (Mahajan et al., COLT 2023, arXiv 2302.14753; Liu & Moitra, arXiv 2411.07536): the
futures of all histories of a length are mixtures of those of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_float, check_int
from ..errors import InvalidInput, nearest
from ..generators.operators import Operators
from ..generators.tabular import MAX_HORIZON
from ..linear.operators import OperatorModel, probabilities, total_variation
from ..tasks.base import Problem
from ..types import FloatArray, Output

_ZERO = 1e-9  # singular values, of at most 1, that are below are rounding


class LowRank(Operators):
    """P(x) = πᵀ·K_1[x_1]·…·K_T[x_T]·1 with non-negative matrices: a hidden Markov model.

    ``K_t[o][s, s']`` = Pr[emit o, move from s to s']. The matrix Pr[future | history] has rank at most S
    at every position, so S histories tell all, once it is known which. Conditional probabilities, or
    conditional samples at chosen histories, are enough to learn it; rollouts alone are not, as noisy
    parity is one of these laws.

    Args:
        start: (S,) π.
        kernels: (T, O, S, S), or (O, S, S) for T equal ones.
        horizon: T, where the kernels are equal.
        label: names the instance.

    Attributes:
        start, kernels: as given, (T, O, S, S).

    Raises:
        InvalidInput: shapes do not fit, an entry is negative, π or a row of Σ_o K_t[o] does not sum to
            1 within 1e-9, or T is out of range.
    """

    family = "low_rank"

    def __init__(
        self,
        start: npt.ArrayLike,
        kernels: npt.ArrayLike,
        horizon: int | None = None,
        label: str = "",
    ) -> None:
        self.start = np.array(start, dtype=np.float64)
        given = np.array(kernels, dtype=np.float64)
        if horizon is not None and given.ndim == 3:
            length = check_int("horizon", horizon, 1, MAX_HORIZON)
            given = np.broadcast_to(given, (length, *given.shape))
        self.kernels = given
        self._check_kernels()
        emissions = self.kernels.sum(axis=3).transpose(0, 2, 1)  # (T, S, O)
        operators = self.kernels[:-1].transpose(0, 2, 1, 3)  # (T − 1, S, O, S)
        super().__init__(OperatorModel(self.start, list(emissions), list(operators)))
        self.label = label or f"{self.family}:digest={self.model.digest()}"

    @property
    def states(self) -> int:
        """S."""
        return len(self.start)

    def _check_kernels(self) -> None:
        S, shape = self.start.shape[0] if self.start.ndim == 1 else 0, self.kernels.shape
        if not S or len(shape) != 4 or shape[2:] != (S, S) or shape[0] < 1:
            raise InvalidInput(
                f"kernels must have shape (T, O, S, S) with S = {S} entries of π, got {shape}"
            )
        rows = np.concatenate([self.start[None].sum(axis=1), self.kernels.sum(axis=(1, 3)).ravel()])
        least = min(self.start.min(), self.kernels.min())
        if not (least >= 0 and np.abs(rows - 1).max() <= 1e-9):
            raise InvalidInput(
                f"π and every row of Σ_o K_t[o] must be non-negative and sum to 1; the least entry "
                f"is {least:g} and the sums lie in {rows.min():g}…{rows.max():g}"
            )

    def problem(self, id: str | None = None) -> Problem:
        """The task of drawing from the law: reward 1 for a complete string of positive probability.

        There is no right output to find. What is to be learned is the law, and learners that return
        one put it into the notes of their finding (``Operators.from_json``).

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        model, horizon = self.model, self.horizon

        def reward(output: Output) -> float:
            if len(output.tokens) != horizon:
                return 0.0
            return float(model.log_probabilities(np.array([output.tokens]))[0] > -np.inf)

        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=horizon,
            reward=reward,
            horizon=horizon,
        )

    def total_variation(self, other: Operators, draws: int = 0, seed: int = 0) -> float:
        """TV to another law: exact by enumeration, or over ``draws`` strings (see ``total_variation``)."""
        return total_variation(self.model, other.model, draws, seed)

    # ---- what makes it hard ----------------------------------------------------------------------

    def probabilities(self) -> FloatArray:
        """(O^T,) of all strings, in lexicographic order.

        Raises:
            InvalidInput: there are more than 2^18.
        """
        return probabilities(self.model)

    def spectrum(self, t: int) -> FloatArray:
        """Singular values, largest first, of Pr[x_{≤t}, x_{>t}]/√(Pr[x_{≤t}]·Pr[x_{>t}]).

        The largest is 1. How many are positive is the rank at t, and the square of the least positive
        one is the fidelity at t: how well histories, weighed by their probability, are told apart by
        their futures.

        Args:
            t: 0 … T.

        Raises:
            InvalidInput: t is out of range, or there are more than 2^18 strings.
        """
        t = check_int("t", t, 0, self.horizon)
        joint = self.probabilities().reshape(self.vocab_size**t, -1)
        mass = np.outer(joint.sum(axis=1), joint.sum(axis=0))
        weighed = np.divide(joint, np.sqrt(mass), out=np.zeros_like(joint), where=mass > 0)
        return np.linalg.svd(weighed, compute_uv=False)

    def rank(self, t: int) -> int:
        """The rank at t (see ``spectrum``)."""
        return int((self.spectrum(t) > _ZERO).sum())

    def fidelity(self, t: int) -> float:
        """Δ_t, the fidelity at t (see ``spectrum``)."""
        found = self.spectrum(t)
        return float(found[found > _ZERO].min() ** 2)


# ---- the instances -------------------------------------------------------------------------------


def markov(start: npt.ArrayLike, moves: npt.ArrayLike, emissions: npt.ArrayLike) -> FloatArray:
    """(O, S, S) kernels that emit by (S, O) ``emissions``, then move by (S, S) ``moves``."""
    return np.einsum("so,sr->osr", np.asarray(emissions), np.asarray(moves))


def two_states(horizon: int) -> LowRank:
    """π = (.5, .5), moves [[.9, .1], [.2, .8]], emissions [[.8, .2], [.3, .7]]."""
    start = [0.5, 0.5]
    kernels = markov(start, [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.2], [0.3, 0.7]])
    return LowRank(start, kernels, horizon, f"low_rank:K=2,H={horizon},law=2state")


def random_chain(horizon: int, tokens: int, states: int = 3, seed: int = 0) -> LowRank:
    """Dirichlet(1) moves, emissions and start, drawn in this order by ``default_rng(seed)``."""
    S, K = check_int("states S", states, 1, 64), check_int("vocab_size", tokens, 2, 1000)
    rng = np.random.default_rng(seed)
    moves, emissions = rng.dirichlet(np.ones(S), S), rng.dirichlet(np.ones(K), S)
    start = rng.dirichlet(np.ones(S))
    label = f"low_rank:K={K},H={horizon},S={S},seed={seed}"
    return LowRank(start, markov(start, moves, emissions), horizon, label)


def sticky_bit(horizon: int, g: float = 0.1, rho: float = 0.02) -> LowRank:
    """A bit that flips with probability ρ, seen as 0 or 1 with probability ½ ± g: low fidelity."""
    check_between("g", g, 0.0, 0.5)
    if check_float("rho", rho, 0.0) > 1.0:
        raise InvalidInput(f"rho must lie in [0, 1], got {rho!r}")
    start = [0.5, 0.5]
    kernels = markov(
        start, [[1 - rho, rho], [rho, 1 - rho]], [[0.5 + g, 0.5 - g], [0.5 - g, 0.5 + g]]
    )
    return LowRank(start, kernels, horizon, f"low_rank:K=2,H={horizon},law=bit,g={g},rho={rho}")


def reveal(horizon: int, d: float = 0.03) -> LowRank:
    """A fair bit s, told at first with probability .9; then noise until a rare 2 reveals it for ever.

    After x_1: 0 and 1 with probability (1 − d)/2 each, 2 with d; behind the 2, s with probability
    .95. States: s at the beginning, s in the noise, s behind the 2.
    """
    check_between("d", d, 0.0, 1.0)
    kernels = np.zeros((3, 6, 6))
    for s in (0, 1):
        for o, p in ((s, 0.9), (1 - s, 0.1)):
            kernels[o, s, 2 + s] = p
        kernels[0, 2 + s, 2 + s] = kernels[1, 2 + s, 2 + s] = (1 - d) / 2
        kernels[2, 2 + s, 4 + s] = d
        for o, p in ((s, 0.95), (1 - s, 0.05)):
            kernels[o, 4 + s, 4 + s] = p
    return LowRank(
        [0.5, 0.5, 0, 0, 0, 0], kernels, horizon, f"low_rank:K=3,H={horizon},law=reveal,d={d}"
    )


def menu(horizon: int) -> LowRank:
    """x_1 = k with probability .65, .05, …, .05 (8 tokens); then iid k with .6, the others .4/7.

    Rare first tokens have futures of their own: what is hard is to see all of them.
    """
    kernels = np.zeros((8, 9, 9))
    for k in range(8):
        kernels[k, 0, 1 + k] = 0.65 if k == 0 else 0.05
        kernels[:, 1 + k, 1 + k] = 0.4 / 7
        kernels[k, 1 + k, 1 + k] = 0.6
    return LowRank(np.eye(9)[0], kernels, horizon, f"low_rank:K=8,H={horizon},law=menu")


def parity(horizon: int, secret: Iterable[int], alpha: float = 0.1) -> LowRank:
    """T − 1 fair bits, then their parity over ``secret``, flipped with probability α."""
    T = check_int("horizon", horizon, 2, MAX_HORIZON)
    check_between("alpha", alpha, 0.0, 0.5)
    indices = sorted(check_int("an index of the secret", i, 0, T - 2) for i in secret)
    if not indices:
        raise InvalidInput("the secret must have at least one index")
    kernels = np.zeros((T, 2, 2, 2))
    for t in range(T - 1):
        kernels[t, 0] = np.eye(2) / 2
        kernels[t, 1] = (np.eye(2)[::-1] if t in indices else np.eye(2)) / 2
    kernels[-1] = np.diag([1 - alpha, alpha]), np.diag([alpha, 1 - alpha])
    named = "-".join(map(str, indices))
    return LowRank(
        [1.0, 0.0], kernels, label=f"low_rank:K=2,H={T},law=parity,alpha={alpha},at={named}"
    )


def _random_parity(horizon: int, alpha: float = 0.1, seed: int = 0) -> LowRank:
    bits = np.random.default_rng(seed).integers(2, size=max(1, horizon - 1))
    bits[int(seed) % len(bits)] = 1  # never empty
    return parity(horizon, np.flatnonzero(bits).tolist(), alpha)


_NAMED: Mapping[str, tuple[int | None, Callable[..., LowRank], Sequence[str]]] = {
    "rand": (None, random_chain, ("S",)),
    "2state": (2, two_states, ()),
    "bit": (2, sticky_bit, ("g", "rho")),
    "reveal": (3, reveal, ("d",)),
    "menu": (8, menu, ()),
    "parity": (2, _random_parity, ("alpha",)),
}
"""Name → (its K where it is fixed, what makes it, its parameters)."""
LAWS = tuple(_NAMED)


def named(vocab_size: int, horizon: int, law: str = "rand", seed: int = 0, **own: float) -> LowRank:
    """An instance by name (``InvalidInput``: no such law, another K, or no parameter of it)."""
    if law not in _NAMED:
        raise InvalidInput(f"unknown law {law!r} of low_rank.{nearest(law, list(_NAMED))}")
    tokens, build, known = _NAMED[law]
    if tokens not in (None, vocab_size):
        raise InvalidInput(f"the law {law!r} has K = {tokens}, got K = {vocab_size}")
    for name in own:
        if name not in known:
            raise InvalidInput(f"the law {law!r} has no parameter {name!r}.{nearest(name, known)}")
    if law == "rand":
        return random_chain(horizon, vocab_size, int(own.get("S", 3)), seed % 2**63)
    return build(horizon, **own, **({"seed": seed % 2**63} if law == "parity" else {}))
