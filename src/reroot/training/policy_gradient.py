"""The update of KL-regularized policy-gradient training, written once and used by every arm.

One step follows an unbiased estimate of ∇J_β, J_β(π) = E_π[r] − β·KL(π ‖ P), from G groups of n
rollouts that each start at one prefix, and from M rollouts from the empty prefix for the KL:

* reward: (1/Gn)·Σ A_i·∇ log π(suffix of y_i), A_i = r_i − mean reward of the others of the group
  (leave-one-out: Kool et al. 2019; RLOO, arXiv 2402.14740). From the empty prefix its expectation
  is ∇E_π[r]; from start prefixes it is the gradient of the mean reward from those starts.
* KL: −(β/M)·Σ_i Σ_t (L_it − b_it)·∇ log π(y_it | y_i<t), where L_it = Σ_{s≥t} log π/P of token s is
  k1 in the reward, to go, and b_it is the mean of L_jt over the other rollouts that share y_i<t
  (0 if there are none). Its expectation is −β·∇KL(π ‖ P) (``objective.estimators``).

At π = P with rewards that are all equal within every group, the step is exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..checks import check_between, check_float, check_int
from ..types import PAD, FloatArray, IntArray, Prefix, Reply
from .advantages import centred, kl_credit


class Policy(Protocol):
    """What a trainer does with its own parameters: forward passes on outputs it has, and steps."""

    def log_ratios(self, tokens: IntArray, /) -> FloatArray:
        """(n, L) nats: log π − log P of each token of (n, L) strings; 0 behind their end."""
        ...

    def log_probability(self, output: Sequence[int], /) -> float:
        """log π(y), nats."""
        ...

    def update(
        self, tokens: IntArray, coefficients: FloatArray, rate: float, most: float, /
    ) -> None:
        """Parameters += rate·Σ c(i, t)·∇ log π(y_it | y_i<t), no entry by more than ``most``."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """The hyper-parameters of a step.

    Attributes:
        beta: β, reward per nat.
        groups, size: G groups of n >= 2 rollouts for the reward.
        kl_batch: M rollouts from the empty prefix for the KL.
        rate: learning rate, per unit of reward.
        most: largest change of a parameter in one step, nats; larger ones are scaled down.

    Raises:
        InvalidInput: a number is out of range.
    """

    beta: float
    groups: int = 4
    size: int = 16
    kl_batch: int = 16
    rate: float = 128.0
    most: float = 1.0

    def __post_init__(self) -> None:
        check_float("beta", self.beta, 0.0)
        check_int("groups", self.groups, 1)
        check_int("size", self.size, 2)
        check_int("kl_batch", self.kl_batch, 1)
        check_between("rate", self.rate, 0.0, np.inf)
        check_between("most", self.most, 0.0, np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Weighted tokens: (n, H) strings from the empty prefix, (n, H) coefficients of ∇ log π."""

    tokens: IntArray
    coefficients: FloatArray


def reward_rows(reply: Reply, rewards: Sequence[float], horizon: int, groups: int = 1) -> Rows:
    """A group: (1/Gn)·A_i on the tokens of each suffix, 0 on those of the start.

    Args:
        reply: n rollouts from one start.
        rewards: (n,) of the complete outputs.
        horizon: H.
        groups: G, among which the step is shared.

    Raises:
        InvalidInput: fewer than two rollouts.
    """
    tokens = _from_the_root(reply, horizon)
    weights = (tokens != PAD) * (centred(rewards) / (groups * reply.n))[:, None]
    weights[:, : len(reply.prefix)] = 0.0
    return Rows(tokens, weights)


def output_rows(outputs: Sequence[Prefix], weights: Sequence[float], horizon: int) -> Rows:
    """Given outputs, all tokens of each with its weight."""
    tokens = np.full((len(outputs), horizon), PAD, dtype=np.int64)
    for row, output in zip(tokens, outputs, strict=True):
        row[: len(output)] = output.tokens
    return Rows(tokens, (tokens != PAD) * np.asarray(weights, dtype=np.float64)[:, None])


def kl_rows(reply: Reply, policy: Policy, beta: float, horizon: int) -> Rows:
    """M rollouts from the empty prefix: −(β/M)·(L_it − b_it) on each token (see above)."""
    tokens = _from_the_root(reply, horizon)
    credit = kl_credit(tokens, policy.log_ratios(tokens))
    return Rows(tokens, credit * (-beta / reply.n))


def step(policy: Policy, rule: Rule, rows: Sequence[Rows]) -> None:
    """One step along the sum of all rows, every gradient taken at the present policy."""
    tokens = np.concatenate([r.tokens for r in rows])
    coefficients = np.concatenate([r.coefficients for r in rows])
    policy.update(tokens, coefficients, rule.rate, rule.most)


def _from_the_root(reply: Reply, horizon: int) -> IntArray:
    """(n, H) start and continuation of each rollout, filled up with ``PAD``."""
    tokens = np.full((reply.n, horizon), PAD, dtype=np.int64)
    start = len(reply.prefix)
    tokens[:, :start] = reply.prefix.tokens
    tokens[:, start : start + reply.tokens.shape[1]] = reply.tokens
    return tokens
