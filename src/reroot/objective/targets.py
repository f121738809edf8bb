"""The laws that sampling methods aim at, exactly, on explicit trees.

Each is P reweighted: π(y) ∝ P(y)·w(y) over whole outputs, whatever their lengths. As a policy it goes
from prefix to prefix by π(a|u) = P(a|u)·V(ua)/V(u) with the value V(u) = E_P[w | u], which is also the
optimal twist of sequential Monte Carlo (arXiv 2404.17546) and the value of VGB (arXiv 2510.03149).

| law | w(y) | source |
|---|---|---|
| ``power_law`` | P(y)^(α − 1) | power sampling, arXiv 2510.14901 |
| ``exact.gibbs_policy`` | e^(r(y)/β) | KL-regularized optimum |
| ``pessimistic_law`` | max(0, (r̂(y) − λ)/β) | χ²-regularized optimum, arXiv 2503.21878 |
| ``conditioned_law`` | 1[y accepted], or r(y) | the law given a verifier |
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_float
from ..errors import InvalidInput
from ..limits import pessimistic_level
from ..types import FloatArray
from .tree import Tree, numbers


def log_twists(tree: Tree, log_weights: npt.ArrayLike) -> tuple[FloatArray, float]:
    """((n,) log V(u) of the internal prefixes, log Z), nats, with V(u) = E_P[w | u] and Z = V(∅).

    Args:
        tree: the base law P.
        log_weights: (m,) log w(y) < ∞, in the order of ``tree.outputs``; −inf where w is 0.

    Raises:
        InvalidInput: not m numbers below infinity.
    """
    leaves = _log_weights(tree, log_weights)

    def expect(level: slice, ahead: FloatArray) -> FloatArray:
        return np.logaddexp.reduce(tree.laws[level] + ahead, axis=1)

    values = tree.backward(leaves, expect)
    return values, float(values[0])


def reweighted(tree: Tree, log_weights: npt.ArrayLike) -> Tree:
    """The law π(y) ∝ P(y)·w(y) as a policy on the same tree, with its next-token laws.

    At prefixes that π never reaches, the next-token law is P's. Arguments as for ``log_twists``.

    Raises:
        InvalidInput: see ``log_twists``; or w is 0 on all outputs.
    """
    leaves = _log_weights(tree, log_weights)
    values, log_z = log_twists(tree, leaves)
    if log_z == -np.inf:
        raise InvalidInput("no output has a positive weight: there is no such law")
    dead = values == -np.inf
    behind = tree.behind(values, leaves)
    with np.errstate(invalid="ignore"):  # where the policy is never
        laws = tree.laws + behind - values[:, None]
    laws[dead] = tree.laws[dead]
    laws[tree.laws == -np.inf] = -np.inf  # 0 stands behind impossible tokens
    return tree.with_laws(laws)


def power_law(tree: Tree, alpha: float) -> Tree:
    """π(y) ∝ P(y)^α over whole outputs; not the law at temperature 1/α, whose prefixes forget.

    Raises:
        InvalidInput: α is not positive and finite.
    """
    return reweighted(tree, (_positive("alpha", alpha) - 1.0) * tree.log_probabilities())


def temperature_law(tree: Tree, temperature: float) -> Tree:
    """The law that tempers each next-token law by itself: π(a|u) ∝ P(a|u)^(1/T).

    Raises:
        InvalidInput: T is not positive and finite.
    """
    cooled = tree.laws / _positive("temperature", temperature)
    return tree.with_laws(cooled - np.logaddexp.reduce(cooled, axis=1, keepdims=True))


def conditioned_law(tree: Tree, rewards: npt.ArrayLike) -> Tree:
    """π(y) ∝ P(y)·r(y) for r >= 0: with r = 1[y right] the law given that the answer is right.

    Raises:
        InvalidInput: not m finite rewards >= 0, or all of them are 0.
    """
    found = numbers("rewards", rewards)
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise InvalidInput("rewards must be finite and >= 0 to condition on them")
    with np.errstate(divide="ignore"):
        return reweighted(tree, np.log(found))


def pessimistic_law(tree: Tree, rewards: npt.ArrayLike, beta: float) -> Tree:
    """π(y) = P(y)·max(0, (r̂(y) − λ)/β): the optimum of E_π[r̂] − (β/2)·E_P[(π/P)²].

    It never leaves the outputs whose reward is above λ, and its density ratio grows linearly in the
    reward, not exponentially (arXiv 2503.21878, in its closed form). λ is ``pessimistic_level``.

    Raises:
        InvalidInput: not m finite rewards, or β is not positive.
    """
    leaves = numbers("rewards", rewards)
    level = pessimistic_level(leaves, np.exp(tree.log_probabilities()), beta)
    with np.errstate(divide="ignore"):
        return reweighted(tree, np.log(np.maximum(leaves - level, 0.0)))


def _log_weights(tree: Tree, log_weights: npt.ArrayLike) -> FloatArray:
    found = numbers("log_weights", log_weights, tree)
    if np.isnan(found).any() or (found == np.inf).any():
        raise InvalidInput("log_weights must be numbers below infinity")
    return found


def _positive(name: str, value: float) -> float:
    return check_between(name, check_float(name, value), 0.0, math.inf)
