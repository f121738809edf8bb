"""The plurality walk that stops each stage as soon as the evidence suffices."""

from __future__ import annotations

import math
from bisect import bisect_left
from contextlib import suppress

import numpy as np

from ..access.learner import learner
from ..access.session import Session
from ..errors import BudgetExceeded, InvalidInput
from ..types import IntArray, Prefix
from .common import COUNT, between, checked


@learner(
    requires=checked(
        "visited/sample", delta=between(0, 1), p=between(0, 1).or_none, max_draws=COUNT
    )
)
async def plurality_walk_sequential(
    session: Session, *, delta: float = 0.05, p: float | None = None, max_draws: int = 1024
) -> Prefix | None:
    """Append the most frequent token, drawing only until the evidence suffices.

    Pseudo-code (Wald 1945; p unknown: after PPR-1v1, Jain et al. 2022, arXiv 2109.05047)::

        u ← ∅;  left ← delta
        until complete:
            level ← left / (H - |u|);  draw from P(· | u) until error ≤ level, or max_draws
            u ← u·plurality;           left ← left - min(error, level)

    **p known** (hidden path): ``error`` is the posterior probability that the leader is wrong under
    a uniform prior, 1 - r^n₁ / Σ_a r^n_a with r = p/q. Guarantee: the output is the path with
    probability at least 1 - delta. Proof: given all draws so far, a first error at this stage has
    probability ``error``, also at a stopping time; by construction the errors of all stages add up
    to at most delta on every run. The rule treats all tokens alike, so what holds for a uniform
    path holds for each.

    **p unknown**: ``error`` is 1/evidence that the leader a beats every other token b, counting
    draws after a's first appearance only, E_ab = 2·∫_½^1 (2θ)^n_a (2 - 2θ)^n_b dθ, weighted by
    1/(j(j+1)) where a was the j-th token to appear. Guarantee: with probability at least 1 - delta
    every appended token is the most likely one at its prefix. Proof: if some z is likelier than a,
    then E_az is a nonnegative supermartingale with mean at most 1 after a's appearance, as
    2θ·x + (2 - 2θ)(1 - x) ≤ 1 for x ≤ ½ ≤ θ; by Ville it ever reaches j(j+1)/level with
    probability at most level/(j(j+1)), which sums to level over j; sum over stages. No log K.

    Both guarantees leave out stages that end at ``max_draws`` (tied or nearly tied laws).

    Args:
        delta: failure probability.
        p: probability of the path token, 1/K < p < 1; ``None``: unknown.
        max_draws: most draws at one prefix.

    Raises:
        InvalidInput: p is not above 1/K.
    """
    K, H = session.vocab_size, session.horizon
    if p is not None and p * K <= 1:
        raise InvalidInput(f"p must lie in (1/{K}, 1), got {p!r}")
    prefix, left = session.root, delta
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            level = left / (H - len(prefix))
            draws = np.zeros(0, dtype=np.int64)
            while True:
                if p is None:
                    short, error = by_evidence(draws, level)
                else:
                    short, error = by_posterior(draws, level, p, K)
                if not short or len(draws) >= max_draws:
                    break
                # nothing can stop sooner; an eighth more saves round trips when the law is flat
                n = min(max(short, len(draws) // 8), max_draws - len(draws))
                draws = np.concatenate([draws, (await session.draws(prefix, n)).first_tokens()])
            tokens, counts = np.unique(draws, return_counts=True)
            prefix = prefix.append(int(session.rng.choice(tokens[counts == counts.max()])))
            left -= min(error, level)
    return prefix


def by_posterior(draws: IntArray, level: float, p: float, vocab_size: int) -> tuple[int, float]:
    """(fewest further draws that could suffice, 0: enough; posterior error of the leader).

    The odds against the leader are Σ_b r^(n_b - n_1); a draw of the leader divides them by r.
    """
    log_ratio = math.log(p / (1.0 - p)) + math.log(vocab_size - 1)
    counts = np.sort(np.unique(draws, return_counts=True)[1])
    ahead, behind = counts.max(initial=0), counts[:-1]
    unseen = vocab_size - max(1, len(counts))
    odds = float(np.exp((behind - ahead) * log_ratio).sum() + unseen * math.exp(-ahead * log_ratio))
    error = odds / (1.0 + odds)
    if error <= level:
        return 0, error
    return max(1, math.ceil(math.log(odds * (1.0 - level) / level) / log_ratio)), error


def by_evidence(draws: IntArray, level: float) -> tuple[int, float]:
    """(fewest further draws that could suffice, 0: enough; ``level``) for an unknown law."""
    ahead = behind = 0
    rank = skipped = 1  # before any draw: the next one is the first appearance, and not counted
    if len(draws):
        _, firsts, counts = np.unique(draws, return_index=True, return_counts=True)
        leader = counts.argmax()
        rank, skipped = 1 + int((firsts < firsts[leader]).sum()), 0
        later = draws[firsts[leader] + 1 :]
        rivals = np.unique(later[later != draws[firsts[leader]]], return_counts=True)[1]
        ahead, behind = int(counts[leader]) - 1, int(rivals.max(initial=0))
    needed = math.log(rank * (rank + 1) / level)
    # a range that is too short only makes the next batch smaller
    batch = range(64 + len(draws))
    more = bisect_left(batch, needed, key=lambda s: log_evidence(ahead + s, behind))
    return more + skipped, level


def log_evidence(ahead: int, behind: int) -> float:
    """log 2·∫_½^1 (2θ)^ahead (2 - 2θ)^behind dθ, nats: evidence that one token beats another."""
    from scipy.special import betainc  # here, as importing scipy takes time that others save

    log_beta = math.lgamma(ahead + 1) + math.lgamma(behind + 1) - math.lgamma(ahead + behind + 2)
    above_half = betainc(behind + 1, ahead + 1, 0.5)  # Pr(Beta(ahead + 1, behind + 1) > 1/2)
    return (ahead + behind + 1) * math.log(2) + log_beta + math.log(above_half)
