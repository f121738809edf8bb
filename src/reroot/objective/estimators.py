"""Estimators of KL(π ‖ P) from one sampled trajectory, and what following their gradients does.

With l_t = log π(y_t|y_<t) − log P(y_t|y_<t), tokens y drawn from π, and the sequence KL:

* Values: k1 is unbiased; so is k3 where π > 0 wherever P > 0 (else it misses P's mass there);
  k2 and k2_sequence are biased.
* k1 in the reward (times the score) has the expected gradient ∇KL; k1 in the loss has 0.
* k2_sequence in the loss has ∇KL: its derivative is (Σ l_t)·∇log π(y).
* k2 in the loss has the gradient of each state's own KL with the states held: it lacks the effect
  of a token on later states.
* k3 in the loss has the gradient of the forward KL(P(·|u) ‖ π(·|u)) at the states u of π, held:
  visits(u)·(π − P) where the supports agree.
* Near P the errors of k2 and k3 in the loss are of second order; k2, k3 and k2_sequence in the
  reward are biased, and of second order as a whole: close to P they hardly pull back.
* From other starts all this holds for the KL of the suffix. Its gradient weighs states by their
  visits from the starts and is 0 at states before them: not ∇KL of the sequence.

Sources: k1, k2, k3 from Schulman, "Approximating KL divergence" (joschu.net/blog/kl-approx.html);
k3 in the loss as in GRPO (arXiv 2402.03300); on rewards and losses compare arXiv 2510.01555.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ..checks import check_float
from ..errors import InvalidInput, nearest
from ..types import FloatArray, Prefix, as_tokens
from .exact import finite_log_ratios, gradient, kl
from .tree import Tree, numbers

Kind = Literal["k1", "k2", "k3", "k2_sequence"]
"""k1 = Σ l_t, k2 = ½·Σ l_t², k3 = Σ (e^(−l_t) − 1 + l_t), k2_sequence = ½·(Σ l_t)²."""

Place = Literal["reward", "loss"]
"""Where an estimate is differentiated: as a constant times the score, or itself."""

Start = Literal["root", "prefix"]
"""Where trajectories start."""

KINDS: tuple[Kind, ...] = get_args(Kind)
PLACES: tuple[Place, ...] = get_args(Place)

Starts = Mapping[Sequence[int], float]
"""Start prefix → probability that a trajectory starts there."""

_SUM = 1e-9  # most that the weights of starts may miss 1 by
_ROUNDING = 1e-14  # a gradient of this size is 0


def estimate_kl(
    log_ratios: npt.ArrayLike, kind: Kind, lengths: npt.ArrayLike | None = None
) -> FloatArray:
    """(n,) estimates of the sequence KL, nats, one per sampled trajectory.

    Args:
        log_ratios: (n, L) l_t = log π(y_t | y_<t) − log P(y_t | y_<t), nats; anything beyond the
            end of a trajectory.
        kind: the estimator.
        lengths: (n,) tokens of each trajectory; ``None``: L.

    Raises:
        InvalidInput: a shape or a length is wrong, ``kind`` is unknown, or a log-ratio is NaN.
    """
    _known("kind", kind, KINDS)
    ratios = numbers("log_ratios", log_ratios)
    if ratios.ndim != 2:
        raise InvalidInput(f"log_ratios must have shape (n, L), got {ratios.shape}")
    n, width = ratios.shape
    if lengths is not None:
        sizes = np.asarray(lengths)
        right = sizes.shape == (n,) and np.issubdtype(sizes.dtype, np.integer)
        if not right or ((sizes < 0) | (sizes > width)).any():
            raise InvalidInput(f"lengths must be {n} integers in 0…{width}, got {lengths!r}")
        ratios = np.where(np.arange(width) < sizes[:, None], ratios, 0.0)  # 0 adds 0 to every kind
    if np.isnan(ratios).any():
        raise InvalidInput("log_ratios hold NaN")
    if kind == "k1":
        return ratios.sum(axis=1)
    if kind == "k2":
        return 0.5 * (ratios**2).sum(axis=1)
    if kind == "k3":
        with np.errstate(over="ignore"):  # inf is right
            return (np.expm1(-ratios) + ratios).sum(axis=1)
    return 0.5 * ratios.sum(axis=1) ** 2


def expected_estimate(policy: Tree, base: Tree, kind: Kind, starts: Starts | None = None) -> float:
    """E[k] over trajectories of π, nats, exactly.

    Args:
        policy, base: π and P, laws on the same tree.
        kind: the estimator k.
        starts: distribution over internal prefixes where trajectories start; k is of the suffix.
            ``None``: at the empty prefix.

    Raises:
        InvalidInput: ``kind`` is unknown, ``starts`` is no such distribution, the laws are not on
            the same tree, or the policy leaves the base's support.
    """
    _known("kind", kind, KINDS)
    return float(_start_weights(policy, starts) @ _onward(policy, base, kind).sum(axis=1))


def expected_kl_gradient(
    policy: Tree,
    base: Tree,
    kind: Kind,
    place: Place,
    starts: Starts | None = None,
    to_go: bool = False,
) -> FloatArray:
    """(n, K) expectation, with respect to the logits θ(u, a), of what is differentiated.

    With place "reward" E[∇log π(y)·k(y)], k a constant; with place "loss" E[∇k(y)], the samples
    held. Both sums over all outputs are taken by passes over the tree.

    Args:
        policy, base, kind, starts: as for ``expected_estimate``.
        place: where k is differentiated.
        to_go: in the reward: each token's score is multiplied by k of the trajectory from that
            token on. For sums over tokens the expectation is the same; for ``k2_sequence`` not.

    Raises:
        InvalidInput: as for ``expected_estimate``; ``place`` is unknown, or ``to_go`` in the loss.
    """
    _known("kind", kind, KINDS)
    _known("place", place, PLACES)
    if to_go and place == "loss":
        raise InvalidInput("to_go is for estimates in the reward; the loss has none")
    weights = _start_weights(policy, starts)
    if place == "loss":
        return _loss_gradient(policy, base, kind, weights)
    visits = policy.visits(weights)
    found = _centred(policy, visits, _onward(policy, base, kind))
    if kind == "k2_sequence" and not to_go:
        # ½·(before + onward)²: the first square is a baseline, the product is not
        before = policy.flow(np.zeros(len(visits)), visits[:, None] * _tokens(policy, base, "k1"))
        found += _centred(policy, before, _onward(policy, base, "k1"))
    return found


@dataclass(frozen=True, slots=True)
class BiasRow:
    """What one way to penalize the KL does in expectation, against the root-start sequence KL.

    Attributes:
        kind, place: the estimator and where it is differentiated.
        start: trajectories from the empty prefix ("root"), or from other prefixes too ("prefix").
        value_bias: E[k] − KL(π ‖ P), nats.
        gradient_error: ‖g − ∇KL‖/‖∇KL‖ for the expected gradient g.
        cosine: of the angle between g and ∇KL; 0 if g = 0.
    """

    kind: Kind
    place: Place
    start: Start
    value_bias: float
    gradient_error: float
    cosine: float


def bias_table(policy: Tree, base: Tree, starts: Starts | None = None) -> list[BiasRow]:
    """Every kind, place and start against the exact KL and its gradient.

    Args:
        policy, base: π and P, laws on the same tree.
        starts: the prefix starts; ``None``: all internal prefixes, equally often.

    Raises:
        InvalidInput: as for ``expected_estimate``; or ∇KL is 0, as at π = P.
    """
    nats = kl(policy, base)
    exact = -gradient(policy, base, np.zeros(len(base.outputs)), 1.0)
    size = float(np.linalg.norm(exact))
    if size <= _ROUNDING:
        raise InvalidInput("the gradient of the KL is 0 here: nothing to compare with")
    if starts is None:
        starts = dict.fromkeys(policy.prefixes, 1.0 / len(policy.prefixes))
    sources: tuple[tuple[Start, Starts | None], ...] = (("root", None), ("prefix", starts))
    rows: list[BiasRow] = []
    for kind in KINDS:
        for start, given in sources:
            bias = expected_estimate(policy, base, kind, given) - nats
            for place in PLACES:
                found = expected_kl_gradient(policy, base, kind, place, given)
                error = float(np.linalg.norm(found - exact)) / size
                norm = float(np.linalg.norm(found))
                cosine = float(np.sum(found * exact)) / (norm * size) if norm else 0.0
                rows.append(BiasRow(kind, place, start, bias, error, cosine))
    return rows


def _tokens(policy: Tree, base: Tree, kind: Kind) -> FloatArray:
    """(n, K) π(a|u) × what the token adds to k; so written, nothing overflows."""
    pi, ratios = np.exp(policy.laws), finite_log_ratios(policy, base)
    if kind == "k1":
        return pi * ratios
    if kind == "k2":
        return 0.5 * pi * ratios**2
    return pi * ratios - pi + _drawn(policy, base)


def _drawn(policy: Tree, base: Tree) -> FloatArray:
    """(n, K) π·e^(−l): P on the policy's support, 0 off it."""
    return np.where(policy.laws > -np.inf, np.exp(base.laws), 0.0)


def _onward(policy: Tree, base: Tree, kind: Kind) -> FloatArray:
    """(n, K) π(a|u)·E[k of the trajectory from u on | its first token is a]."""
    if kind != "k2_sequence":
        return _accumulated(policy, _tokens(policy, base, kind))
    # E½(l + rest)², where rest is the sum behind the token
    first, ratios = _tokens(policy, base, "k1"), finite_log_ratios(policy, base)
    rest = policy.behind(_accumulated(policy, first).sum(axis=1), 0.0)
    return _accumulated(policy, first * (0.5 * ratios + rest))


def _accumulated(policy: Tree, tokens: FloatArray) -> FloatArray:
    """(n, K) π(a|u)·E[sum of the tokens' amounts from u on | a], from amounts times π."""
    pi = np.exp(policy.laws)
    values = policy.backward(
        0.0, lambda level, ahead: (tokens[level] + pi[level] * ahead).sum(axis=1)
    )
    return tokens + pi * policy.behind(values, 0.0)


def _loss_gradient(policy: Tree, base: Tree, kind: Kind, weights: FloatArray) -> FloatArray:
    """E[Σ_t (dk/dl_t)·∇log π(y_t|y_<t)]: l_t depends on θ through log π alone."""
    visits = policy.visits(weights)
    if kind == "k1":
        return np.zeros(policy.laws.shape)  # dk/dl = 1, and the mean score is 0
    if kind == "k2":
        return _centred(policy, visits, _tokens(policy, base, "k1"))
    if kind == "k3":
        return _centred(policy, visits, -_drawn(policy, base))  # dk/dl = 1 − e^(−l)
    return _centred(policy, visits, _onward(policy, base, "k1"))  # dk/dl = Σ l: k1 in the reward


def _centred(policy: Tree, visits: FloatArray, amounts: FloatArray) -> FloatArray:
    """(n, K) Σ_a visits(u)·amounts(u, a)·∇log π(a|u), for amounts that hold the factor π."""
    means = amounts.sum(axis=1, keepdims=True)
    return visits[:, None] * (amounts - np.exp(policy.laws) * means)


def _start_weights(policy: Tree, starts: Starts | None) -> FloatArray:
    """(n,) probability of each start prefix."""
    weights = np.zeros(len(policy.prefixes))
    if starts is None:
        weights[0] = 1.0
        return weights
    places = {prefix: i for i, prefix in enumerate(policy.prefixes)}
    for prefix, weight in starts.items():
        tokens = as_tokens(prefix)
        if tokens not in places:
            raise InvalidInput(f"start {Prefix(tokens)} is no internal prefix of the tree")
        weights[places[tokens]] += check_float("the weight of a start", weight, 0.0)
    if abs(weights.sum() - 1.0) > _SUM:
        raise InvalidInput(f"the weights of the starts must sum to 1, got {weights.sum():g}")
    return weights


def _known(name: str, given: str, names: tuple[str, ...]) -> None:
    if given not in names:
        raise InvalidInput(f"unknown {name} {given!r}.{nearest(given, names)}")
