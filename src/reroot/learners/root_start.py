"""Learners that only roll forward from the root: repeated sampling, and what judges it."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..types import Prefix
from .common import (
    COUNT,
    GROWTH,
    REAL,
    SPENT_ON,
    affordable,
    best_rewarded,
    checked,
    collect,
    oracle_of,
    unbounded,
)

LARGEST_BATCH = 256


def _judged(params: Params) -> Contract:
    return Contract(Control.ROOT, Report.SAMPLE, oracles=[oracle_of(params)])


@learner(requires=checked(_judged, n=COUNT))
async def best_of_n(session: Session, *, n: int = 16, oracle: str = "reward") -> Prefix | None:
    """Best of n rollouts: by outcome reward, or by longest verified prefix.

    Pseudo-code (repeated sampling; Cobbe et al. 2021, arXiv 2110.14168)::

        y¹ … yⁿ ~ P                                (fewer when the budget does not allow n)
        reward:   return argmax_i r(yⁱ)            (first on ties)
        verifier: return argmax_i max{t : V(yⁱ_≤t) = 1}    (by bisection, first on ties)

    With outcome reward 1[y right] it passes with probability 1 - (1 - P(right))^n. The verifier arm
    is root-start with the process verifier: it sees how far each rollout is right, and still
    cannot go back there.

    Args:
        n: rollouts.
        oracle: ``"reward"`` (n rewards) or ``"verifier"`` (at most n·⌈log2(H + 1)⌉ verifications).
    """
    each = 1 if oracle == "reward" else session.horizon.bit_length()
    outputs = await collect(
        session, session.root, affordable(session, n, **{SPENT_ON[oracle]: each})
    )
    if not outputs:
        return None
    best = best_rewarded if oracle == "reward" else longest_verified
    return await best(session, outputs)


@learner(
    requires=checked(_judged, batch=COUNT, max_rollouts=COUNT.or_none, growth=GROWTH, pass_at=REAL)
)
async def first_success(
    session: Session,
    *,
    batch: int = 4,
    growth: float = 2.0,
    oracle: str = "reward",
    max_rollouts: int | None = None,
    pass_at: float = 1.0,
) -> Prefix | None:
    """Roll out until one output passes, or the budget or ``max_rollouts`` is exhausted.

    Pseudo-code (Las Vegas repeated sampling)::

        repeat: draw a batch of rollouts;  judge them in order;  return the first that passes
        exhausted: return the best seen      (verifier: the first seen)

    Outputs are judged one after the other, so the number of judge calls is geometric with
    parameter Pr_P(pass) whatever the batches; rollouts overshoot by less than the last batch.

    Args:
        batch: rollouts in the first batch.
        growth: each batch is this many times the one before (at most 256 rollouts); 1: constant.
        oracle: ``"reward"``, or ``"verifier"`` (V of the whole output).
        max_rollouts: most rollouts; ``None``: until the budget ends.
        pass_at: reward from which an output passes.

    Raises:
        InvalidInput: neither ``max_rollouts`` nor a budget bounds the search.
    """
    paid = {"rollouts": 1, "tokens": session.horizon, SPENT_ON[oracle]: 1}
    if max_rollouts is None and unbounded(session, **paid):
        raise InvalidInput(
            "first_success has no end: give max_rollouts, or a budget in rollouts, tokens or "
            f"{SPENT_ON[oracle]}"
        )
    best, best_score, drawn = None, -math.inf, 0
    with suppress(BudgetExceeded):
        while max_rollouts is None or drawn < max_rollouts:
            wanted = batch if max_rollouts is None else min(batch, max_rollouts - drawn)
            if not (n := affordable(session, wanted, **paid)):
                break
            for output in (await session.rollouts(n)).outputs():
                if oracle == "reward":
                    score = await session.reward(output)
                    passed = score >= pass_at
                else:
                    passed = await session.verify(output)
                    score = float(passed)
                if passed:
                    return output
                if score > best_score:
                    best, best_score = output, score
            drawn += n
            batch = max(batch, min(LARGEST_BATCH, math.ceil(batch * growth)))
    return best


@learner(requires=checked("root/sample", n=COUNT))
async def self_consistency(session: Session, *, n: int = 16) -> Prefix | None:
    """Majority vote over the answers of n rollouts, as the task compares answers; no oracle.

    Pseudo-code (Wang et al. 2023, arXiv 2203.11171)::

        y¹ … yⁿ ~ P                                (fewer when the budget does not allow n)
        return the first yⁱ whose answer is the most frequent   (ties: the answer seen first)

    Where a task does not say how answers are found, the whole text is the answer, white space at its
    ends aside. An output without an answer has no vote.

    Args:
        n: rollouts.
    """
    outputs = await collect(session, session.root, n)
    if not outputs:
        return None
    votes = await session.votes(outputs)
    counted = Counter(vote for vote in votes if vote >= 0) or Counter(votes)
    winner = counted.most_common(1)[0][0]  # keeps the order of first appearance on ties
    return outputs[votes.index(winner)]


async def longest_verified(session: Session, outputs: list[Prefix]) -> Prefix:
    """The output with the longest verified prefix, the first of those on ties.

    Bisection over the length: keep the outputs that pass at the deepest length at which any does.
    It relies on V(u) = 0 implying V(ua) = 0, as it does for "u can become a right output".
    Asks each distinct prefix once, at most len(outputs)·⌈log2(L + 1)⌉ in all, L the longest length.
    """
    alive, low, high = list(outputs), 0, max(map(len, outputs)) + 1
    verdicts: dict[Prefix, bool] = {}
    while high - low > 1:
        middle = (low + high) // 2
        heads = dict.fromkeys(output[:middle] for output in alive)
        new = [head for head in heads if head not in verdicts]
        verdicts.update(zip(new, await session.verify_all(new), strict=True))
        passed = [output for output in alive if verdicts[output[:middle]]]
        if passed:
            alive, low = passed, middle
        else:
            high = middle
    return alive[0]
