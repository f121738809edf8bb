"""Advantages of tokens: what ∇ log π of each token of a batch is multiplied by.

A batch has B rollouts in groups of n, M of them from the empty prefix. With advantages A_it, the step

    (1/B)·Σ_i Σ_t A_it·∇ log π(y_it | y_i<t)

has the expectation

    mean over groups of ∇E_{y~π(·|u)}[r(y)]  −  β·∇KL(π ‖ P),

the starts u held, KL of the whole output in nats and from the empty prefix, wherever rewards come
from. For groups at ∅ that is ∇J_β. A_it is the sum of

* r_i − mean reward of the others of the group (leave-one-out, arXiv 2402.14740), or the token's own
  credit where the strategy gives one;
* in groups at ∅: −β·(B/M)·(L_it − b_it), k1 in the reward, to go: L_it = Σ_{s≥t} log π/P of token
  s, and b_it the mean of L_jt over the other rollouts of the group that share y_i<t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..checks import check_float
from ..errors import InvalidInput, nearest
from ..types import PAD, FloatArray, IntArray
from .group import Group

Estimator = Literal["k1_reward", "k3_loss"]
"""``k1_reward``: as above. ``k3_loss``: what GRPO does, e^(−l) − 1 + l of every trained token in the loss,
after whatever start: its expected gradient is not that of KL(π ‖ P) (``objective.estimators``)."""

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


@dataclass(frozen=True, slots=True)
class KL:
    """The KL term of the objective.

    Attributes:
        beta: β >= 0, reward per nat.
        estimator: how its gradient is estimated.

    Raises:
        InvalidInput: β is no finite number >= 0, or the estimator is unknown.
    """

    beta: float = 0.0
    estimator: Estimator = "k1_reward"

    def __post_init__(self) -> None:
        check_float("beta", self.beta, 0.0)
        if self.estimator not in ESTIMATORS:
            raise InvalidInput(
                f"unknown KL estimator {self.estimator!r}.{nearest(str(self.estimator), ESTIMATORS)}"
            )

    @property
    def needs_root(self) -> bool:
        """Whether every batch must hold rollouts from the empty prefix."""
        return self.beta > 0 and self.estimator == "k1_reward"


def centred(rewards: Sequence[float]) -> FloatArray:
    """(n,) each reward less the mean of the others; exactly 0 where all are equal.

    A rollout without a reward (NaN) has no advantage, and counts in nobody's mean.

    Raises:
        InvalidInput: fewer than two rewards.
    """
    if len(rewards) < 2:
        raise InvalidInput(f"leave-one-out needs at least two rewards, got {len(rewards)}")
    given = np.asarray(rewards, dtype=np.float64)
    there = ~np.isnan(given)
    found = np.zeros(len(given))
    if there.sum() > 1:
        above = given[there] - given[there][0]
        found[there] = above - (above.sum() - above) / (len(above) - 1)
    return found


def kl_credit(tokens: IntArray, log_ratios: FloatArray) -> FloatArray:
    """(n, L) L_it − b_it, nats, of n rollouts from ∅ after the same prompt; 0 behind their ends.

    Args:
        tokens: (n, L), filled up with ``PAD``.
        log_ratios: (n, L) nats: log π − log P of each token; 0 behind the ends.
    """
    n, length = tokens.shape
    ahead = log_ratios[:, ::-1].cumsum(axis=1)[:, ::-1]
    shares = np.ones((n, n, length), dtype=bool)  # whether y_i<t = y_j<t
    np.logical_and.accumulate(
        tokens[:, None, :-1] == tokens[None, :, :-1], axis=2, out=shares[:, :, 1:]
    )
    shares[np.arange(n), np.arange(n)] = False
    others = np.maximum(shares.sum(axis=1), 1)
    centre = np.einsum("ijt,jt->it", shares, ahead) / others
    return (tokens != PAD) * (ahead - centre)


def token_advantages(
    groups: Sequence[Group],
    log_ratios: Mapping[int, FloatArray],
    beta: float,
    centre: bool = True,
) -> list[FloatArray]:
    """A_it of each group, (n, L) over its generated tokens; 0 behind their ends.

    Args:
        groups: all groups of a batch, of every process.
        log_ratios: of groups at ∅, by their index: as for ``kl_credit``. Without any there is no
            KL part.
        beta: β.
        centre: whether r_i − mean is part of it; a trainer may have a reward part of its own.

    Raises:
        InvalidInput: a group with log-ratios does not start at ∅, or has fewer than two rollouts.
    """
    priced = sum(len(groups[i].tokens) for i in log_ratios)
    weight = beta * sum(len(g.tokens) for g in groups) / max(1, priced)
    found: list[FloatArray] = []
    for i, group in enumerate(groups):
        tokens = padded_tokens(group.tokens)
        mine = _reward_part(group, tokens, centre)
        if i in log_ratios:
            if group.start.prefix:
                raise InvalidInput(f"the KL is of outputs from the root, not {group.start.prefix}")
            mine = mine - weight * kl_credit(tokens, log_ratios[i])
        found.append(mine)
    return found


def padded_tokens(rows: Sequence[Sequence[int]]) -> IntArray:
    """(n, L) the rows, filled up with ``PAD``."""
    found = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for row, tokens in zip(found, rows, strict=True):
        row[: len(tokens)] = tokens
    return found


def _reward_part(group: Group, tokens: IntArray, centre: bool) -> FloatArray:
    if group.credit is None and centre:
        return (tokens != PAD) * centred(group.rewards)[:, None]
    found = np.zeros(tokens.shape)
    if group.credit is None:
        return found
    for row, credit in zip(found, group.credit, strict=True):
        row[: len(credit)] = credit
    return found
