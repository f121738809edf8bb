"""KL-regularized outcome reward, exactly: the optimum, values and gradients on explicit trees.

J_β(π) = E_π[r] − β·KL(π ‖ P) with the sequence KL, in nats. Its optimum is the Gibbs law
π*(y) ∝ P(y)·e^(r(y)/β), reached token by token through the soft values V. Rewards and values are
in reward units, β in reward per nat. Sources: arXiv 2604.04855; soft values as in Haarnoja et al.,
arXiv 1702.08165, here with the base law P in place of the uniform one.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..checks import check_between
from ..errors import InvalidInput
from ..generators.law import log_normalize
from ..types import FloatArray
from .tree import Tree, numbers


def soft_values(tree: Tree, rewards: npt.ArrayLike, beta: float) -> tuple[FloatArray, float]:
    """V(u) = β·log Σ_a P(a|u)·e^(V(ua)/β) by backward induction from V(y) = r(y).

    Args:
        tree: the base law P.
        rewards: (m,) r(y), in the order of ``tree.outputs``.
        beta: β > 0.

    Returns:
        (n,) values of the internal prefixes, and J* = V(∅) = β·log E_P[e^(r/β)].

    Raises:
        InvalidInput: β is out of range, or the rewards are not m finite numbers.
    """
    leaves, beta = _rewards(tree, rewards), _beta(beta)

    def tilt(level: slice, ahead: FloatArray) -> FloatArray:
        laws = tree.laws[level]
        p, best = np.exp(laws), _best(laws, ahead)
        mean = (p * ahead).sum(axis=1, keepdims=True)
        with np.errstate(over="ignore", divide="ignore"):  # where the other form is chosen
            # hot: around the mean, so that β·log(1 + a little) keeps its digits
            gain = np.minimum((ahead - mean) / beta, 1.0)
            hot = mean[:, 0] + beta * np.log1p((p * np.expm1(gain)).sum(axis=1))
            cold = laws + (np.minimum(ahead, best) - best) / beta
        cold = best[:, 0] + beta * np.logaddexp.reduce(cold, axis=1)
        return np.where((best - mean)[:, 0] <= beta, hot, cold)

    values = tree.backward(leaves, tilt)
    return values, float(values[0])


def gibbs_policy(tree: Tree, rewards: npt.ArrayLike, beta: float) -> Tree:
    """The best policy π*(a|u) = P(a|u)·e^((V(ua) − V(u))/β), on the same tree.

    Arguments and errors as for ``soft_values``.
    """
    leaves = _rewards(tree, rewards)
    values, _ = soft_values(tree, leaves, beta)
    ahead = tree.behind(values, leaves)
    best = _best(tree.laws, ahead)
    with np.errstate(over="ignore"):  # to -inf
        # relative to the best child: V(u) cancels, and ties stay ties however small β is
        tilted = tree.laws + (np.minimum(ahead, best) - best) / beta
    return tree.with_laws(log_normalize(tilted))


def log_ratios(policy: Tree, base: Tree) -> FloatArray:
    """(n, K) nats: log π(a|u) − log P(a|u); 0 where π is 0, inf where only P is.

    Raises:
        InvalidInput: the two are not laws on the same tree (see ``Tree.with_laws``).
    """
    same = policy.children is base.children or (
        policy.outputs == base.outputs and np.array_equal(policy.children, base.children)
    )
    if not same:
        raise InvalidInput("policy and base must be laws on the same tree: use base.with_laws(…)")
    with np.errstate(invalid="ignore"):  # -inf - -inf is not used
        return np.where(policy.laws > -np.inf, policy.laws - base.laws, 0.0)


def finite_log_ratios(policy: Tree, base: Tree) -> FloatArray:
    """``log_ratios``, and ``InvalidInput`` if the policy leaves the base's support."""
    ratios = log_ratios(policy, base)
    outside = np.argwhere(np.isinf(ratios))
    if len(outside):
        raise InvalidInput(
            f"the policy draws {policy.step(*outside[0])}, which the base never does: "
            f"the KL is infinite and has no gradient"
        )
    return ratios


def expected_reward(policy: Tree, rewards: npt.ArrayLike) -> float:
    """E_π[r], for (m,) rewards.

    Raises:
        InvalidInput: the rewards are not m finite numbers.
    """
    return float(np.exp(policy.log_probabilities()) @ _rewards(policy, rewards))


def kl(policy: Tree, base: Tree) -> float:
    """KL(π ‖ P) of whole outputs, nats: Σ_u visits(u)·KL(π(·|u) ‖ P(·|u)); inf off the support.

    Where the two laws are close, its error is that of l², not of l, for log-ratios l.

    Raises:
        InvalidInput: the two are not laws on the same tree.
    """
    ratios = log_ratios(policy, base)
    pi, p = np.exp(policy.laws), np.exp(base.laws)
    possible = pi > 0
    close = possible & (np.abs(ratios) <= 1.0)
    excess = np.where(close, p * np.expm1(np.where(close, ratios, 0.0)), pi - p)
    ratios = np.where(possible, ratios, 0.0)
    # the excesses π − P sum to 0; with them no term is negative, so that nothing cancels
    states = (pi * ratios - excess).sum(axis=1)
    visits = policy.visits()
    return float(visits @ np.where(visits > 0, states, 0.0))


def value(policy: Tree, base: Tree, rewards: npt.ArrayLike, beta: float) -> float:
    """J_β(π) = E_π[r] − β·KL(π ‖ P); -inf where the KL is infinite.

    Args:
        policy, base: π and P, laws on the same tree.
        rewards: (m,) r(y), in the order of ``base.outputs``.
        beta: β > 0.

    Raises:
        InvalidInput: β is out of range, the rewards are not m finite numbers, or the two are not
            laws on the same tree.
    """
    nats = kl(policy, base)
    return expected_reward(policy, rewards) - _beta(beta) * nats


def gradient(policy: Tree, base: Tree, rewards: npt.ArrayLike, beta: float) -> FloatArray:
    """(n, K) ∇J_β with respect to the logits θ(u, a) of a tabular softmax policy.

    visits(u)·π(a|u)·(Q(u, a) − V(u)) with Q(u, a) = V(ua) − β·(log π(a|u) − log P(a|u)) and
    V(u) = Σ_a π(a|u)·Q(u, a) (policy gradient theorem; a token's own −β·log π adds nothing, as
    the mean score is 0). Arguments and errors as for ``value``; also if the KL is infinite.
    """
    leaves, price = _rewards(base, rewards), _beta(beta) * finite_log_ratios(policy, base)
    pi = np.exp(policy.laws)
    values = policy.backward(
        leaves, lambda level, ahead: (pi[level] * (ahead - price[level])).sum(axis=1)
    )
    gains = policy.behind(values, leaves) - price - values[:, None]
    return policy.visits()[:, None] * pi * gains


def _best(laws: FloatArray, ahead: FloatArray) -> FloatArray:
    """(w, 1) the largest value behind a possible token."""
    return ahead.max(axis=1, where=laws > -np.inf, initial=-np.inf, keepdims=True)


def _beta(beta: float) -> float:
    return check_between("beta", beta, 0.0, math.inf)


def _rewards(tree: Tree, rewards: npt.ArrayLike) -> FloatArray:
    """(m,) finite rewards, or ``InvalidInput``."""
    found = numbers("rewards", rewards, tree)
    if not np.isfinite(found).all():
        raise InvalidInput("rewards must be finite")
    return found
