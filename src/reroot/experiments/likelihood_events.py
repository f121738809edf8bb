"""PG-OR and PG-PR without the waiting: rounds that move nothing are skipped by a geometric draw.

Between two updates the policy stands still, so the number of rounds until the next one is geometric, and what
they cost is known in law. Where the wrong tokens of a position are alike, so they stay, and a policy is one
number for each right token: the gap of its logit to the others. Accounts have the law of those of
``training.pg_or`` and ``training.pg_pr`` on ``families.Planted``, nothing is approximated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..types import FloatArray

_CHUNK = 16384


@dataclass(slots=True)
class Spent:
    """What a run took.

    Attributes:
        queries: reward calls, or verifications.
        rounds, updates: rounds, and those that moved the policy.
        success: E[p_w(y*|x)] at the end.
    """

    queries: int
    rounds: int
    updates: int
    success: float


class Gaps:
    """p_w of a table (or of features that all contexts and positions share) as gaps of right tokens.

    Args:
        token_logs: (m, N) nats, log p of the right tokens at the start; the wrong ones share the rest.
        vocab_size: K.
        law: (m,) probabilities of the contexts.
        shared: all tokens have one gap, that of the first entry, as in ``Planted.shared``.
    """

    def __init__(
        self, token_logs: FloatArray, vocab_size: int, law: FloatArray, shared: bool = False
    ) -> None:
        self.law, self.shared, self.others = law, shared, vocab_size - 1
        self.length = token_logs.shape[1]
        p = np.exp(token_logs[:1, :1] if shared else token_logs)
        self.gaps = np.log(p) - np.log1p(-p) + math.log(self.others)
        self.p = np.array([self._likelihood(x) for x in range(len(law))])

    def _tokens(self, x: int) -> FloatArray:
        """(N,) probabilities of the right tokens; (1,) where they are shared."""
        return 1.0 / (1.0 + self.others * np.exp(-self.gaps[0 if self.shared else x]))

    def _likelihood(self, x: int) -> float:
        t = self._tokens(x)
        return float(t[0]) ** self.length if self.shared else float(t.prod())

    def ascend(self, x: int, got: int) -> None:
        """The adaptive step on the first ``got`` right tokens of context x."""
        spread = 1.0 + 1.0 / self.others  # squared length of a step that widens a gap by it
        short = 1.0 - self._tokens(x)[:got]
        if self.shared:
            short = short * got
        rate = 1.0 / (4.0 + 2.0 * spread * float(short @ short))
        self.gaps[0 if self.shared else x, :got] += rate * spread * short
        for at in range(len(self.p)) if self.shared else (x,):
            self.p[at] = self._likelihood(at)

    def climb(self, x: int, curve: list[float], updates: int) -> None:
        """Append p of context x after each further update by its whole answer, up to that many."""
        gap, alike = float(self.gaps[x, 0]), bool(np.ptp(self.gaps[x]) == 0.0)
        N, others, spread = self.length, self.others, 1.0 + 1.0 / self.others
        while len(curve) <= updates and not alike:
            self.ascend(x, N)
            curve.append(float(self.p[x]))
        while len(curve) <= updates:  # one number for all tokens: the same step without arrays
            short = 1.0 - 1.0 / (1.0 + others * math.exp(-gap))
            gap += spread * short / (4.0 + 2.0 * spread * N * short * short)
            curve.append((1.0 + others * math.exp(-gap)) ** -N)
        if alike:
            self.gaps[x], self.p[x] = gap, curve[-1]

    @property
    def success(self) -> float:
        """E[p_w(y*|x)]."""
        return float(self.law @ self.p)


def outcome(
    policy: Gaps,
    target: float,
    rng: np.random.Generator,
    *,
    proposals: FloatArray,
    m: int = 1,
    own: bool = False,
    rounds: float = math.inf,
) -> Spent:
    """PG-OR until the target, or as many rounds.

    Args:
        policy: is trained.
        target: of E[p_w(y*|x)].
        rng: draws.
        proposals: (contexts,) q(y*|x), fixed.
        m: most proposals in a round.
        own: whether p_w's own rollout is tried first.
    """
    miss = (1.0 - proposals) ** m
    spent, done, updates = 0, 0, 0
    while policy.success < target and done < rounds:
        p = policy.p
        hit = p + (1.0 - p) * (1.0 - miss) if own else 1.0 - miss
        mass = policy.law * hit
        wait = int(rng.geometric(min(1.0, mass.sum())))
        if wait > rounds - done:
            spent, done = spent + int(rounds - done) * (m + own), int(rounds)
            break
        x = int(np.searchsorted(np.cumsum(mass / mass.sum()), rng.random(), side="right"))
        x = min(x, len(mass) - 1)
        spent, done, updates = spent + (wait - 1) * (m + own) + own, done + wait, updates + 1
        if not own or rng.random() * hit[x] >= p[x]:
            spent += _tries(float(proposals[x]), float(miss[x]), m, rng)
        policy.ascend(x, policy.length)
    return Spent(spent, done, updates, policy.success)


def _tries(q: float, miss: float, m: int, rng: np.random.Generator) -> int:
    """Draws up to the first success, given that it is among the first m."""
    if q >= 1.0:
        return 1
    return min(m, 1 + int(math.log1p(-rng.random() * (1.0 - miss)) / math.log1p(-q)))


def outcome_fixed(
    policy: Gaps, target: float, rng: np.random.Generator, *, proposals: FloatArray
) -> Spent:
    """PG-OR with one proposal of a fixed q in each round, on separate weights: many updates at once.

    A context's likelihood after its n-th update does not depend on when that comes, so all that is random is
    how many each has had.
    """
    mass = policy.law * proposals
    contexts, share = len(mass), mass / mass.sum()
    curves = [[float(p)] for p in policy.p]
    counts = np.zeros(contexts, dtype=np.int64)
    spent = 0
    while True:
        waits = rng.geometric(mass.sum(), _CHUNK)
        who = rng.choice(contexts, _CHUNK, p=share)
        had = np.cumsum(who[:, None] == np.arange(contexts), axis=0) + counts
        success = np.zeros(_CHUNK)
        for x in range(contexts):
            policy.climb(x, curves[x], int(had[-1, x]))
            curve = np.array(curves[x][counts[x] : had[-1, x] + 1])
            success += policy.law[x] * curve[had[:, x] - counts[x]]
        over = np.flatnonzero(success >= target)
        if len(over):
            queries = spent + int(waits[: over[0] + 1].sum())
            return Spent(queries, queries, int(had[over[0]].sum()), float(success[over[0]]))
        spent, counts = spent + int(waits.sum()), had[-1]


def process(
    policy: Gaps,
    target: float,
    rng: np.random.Generator,
    *,
    proposals: FloatArray,
    tries: int,
    rounds: float = math.inf,
) -> Spent:
    """PG-PR until the target, or as many rounds.

    Args:
        policy, target, rng: as for ``outcome``.
        proposals: (contexts, N) q(y*_i | x, y*_<i), fixed.
        tries: m, most tokens tried at a position.
    """
    N = policy.length
    spent, done, updates, upto = 0, 0, 0, np.cumsum(policy.law)
    while policy.success < target and done < rounds:
        x = min(int(np.searchsorted(upto, rng.random(), side="right")), len(upto) - 1)
        spent, done, got = spent + 1, done + 1, N
        if rng.random() >= policy.p[x]:
            drawn = rng.geometric(proposals[x])
            failed = np.flatnonzero(drawn > tries)
            got = int(failed[0]) if len(failed) else N
            spent += int(np.minimum(drawn[: got + 1], tries).sum())
        if got:
            policy.ascend(x, got)
            updates += 1
    return Spent(spent, done, updates, policy.success)
