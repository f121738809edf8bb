"""Pairs of laws that differ where few rollouts go, and the best test between the two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..access.learner import learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..generators.tabular import Tabular
from ..randomness import keyed_rng, stream_key
from ..runs.run import run
from ..tasks.base import Problem
from ..types import FloatArray, Prefix, Reply
from .base import Setting

BIAS = 0.8
"""Behind the door: P(0) under the first law, and P(1) under the second."""

# ---- pairs of laws -------------------------------------------------------------------------------


def doors(p: float, depth: int) -> tuple[Tabular, Tabular]:
    """Two laws on bits that differ at one prefix, 0…0 of length ``depth``: R_U = p^depth.

    On the way there 0 has probability p; off it both tokens are alike.
    """

    def behind(first: float) -> Tabular:
        def law(prefix: tuple[int, ...]) -> FloatArray:
            zero = 0.5 if any(prefix) else p if len(prefix) < depth else first
            return np.array([zero, 1.0 - zero])

        return Tabular.from_function(law, 2, depth + 1, name=f"door {p}, {depth}, {first}")

    return behind(BIAS), behind(1.0 - BIAS)


def random_pair(s: Setting) -> tuple[tuple[Tabular, Tabular], frozenset[tuple[int, ...]]]:
    """Two random trees that differ at a random set U of prefixes and nowhere else, and U.

    At the prefixes of U the second law is drawn afresh, or (``change="swap"``) it is the first one
    with its two least likely tokens swapped, so that weaker reports show less of the difference.
    """
    K, H, ends = s["K"], s["H"], frozenset(s["end"])
    rng = keyed_rng(stream_key(s["tree"], "barrier", "pair"))
    inner = [token for token in range(K) if token not in ends]
    prefixes = [u for t in range(1, H) for u in itertools.product(inner, repeat=t)]
    chosen = rng.random(len(prefixes)) < 0.2
    chosen[rng.integers(len(prefixes))] = True  # never empty
    differ = frozenset(u for u, here in zip(prefixes, chosen, strict=True) if here)
    first = [rng.dirichlet(np.ones(K), size=(K,) * t) for t in range(H)]
    second = [level.copy() for level in first]
    for u in sorted(differ):
        row = second[len(u)][u]
        low = np.argsort(row)[:2]
        if s["change"] == "swap":
            row[low] = row[low[::-1]]
        else:
            row[:] = rng.dirichlet(np.ones(K))
    return (Tabular(first, end=ends), Tabular(second, end=ends)), differ


def reach_of(
    tree: Tabular, differ: frozenset[tuple[int, ...]], prefix: tuple[int, ...] = ()
) -> float:
    """R_U: probability that a rollout going on from ``prefix`` draws from a law in ``differ``."""
    if prefix in differ:
        return 1.0
    if len(prefix) == tree.horizon or tree.stops(()).ends(prefix):
        return 0.0
    law = np.exp(tree.log_laws((), [prefix])[0])
    return math.fsum(p * reach_of(tree, differ, (*prefix, a)) for a, p in enumerate(law.tolist()))


# ---- the test between two laws -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pair:
    """What the learner is told: both laws at every prefix, shorter ones first, each (prefixes, K)."""

    name: str
    laws: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, trees: tuple[Tabular, Tabular]) -> Pair:
        K, H = trees[0].vocab_size, trees[0].horizon
        prefixes = [u for t in range(H) for u in itertools.product(range(K), repeat=t)]
        first, second = (tree.log_laws((), prefixes) for tree in trees)
        return cls(str(trees[0]), (first, second))

    def __str__(self) -> str:
        return self.name

    def evidence(self, reply: Reply) -> float:
        """Log-likelihood ratio, nats, of rollouts of H tokens; ±∞ where a law was seen."""
        first, second = self.laws
        node, total = np.zeros(reply.n, dtype=np.int64), 0.0
        for t in range(reply.tokens.shape[1]):
            token = reply.tokens[:, t]
            if reply.laws is None:
                total += float((first[node, token] - second[node, token]).sum())
            elif not np.array_equal(reply.laws[:, t], first[node]):
                return -math.inf
            elif not np.array_equal(reply.laws[:, t], second[node]):
                return math.inf
            node = node * first.shape[1] + token + 1  # where the next level numbers this prefix
        return total


def _contract(params: Mapping[str, Any]) -> Contract:
    return Contract(Control.ROOT, Report.parse(params["report"]))


@learner(requires=_contract)
async def tell_apart(session: Session, *, pair: Pair, rollouts: int, report: str) -> Prefix:
    """The best test between two known laws, equally likely: the likelihood ratio, a coin on ties.

    Returns 0…0 for the first law and 1…1 for the second.
    """
    reply = await session.rollouts(rollouts, report=Report.parse(report))
    evidence = pair.evidence(reply)
    second = int(session.rng.integers(2)) if abs(evidence) < 1e-9 else int(evidence < 0)
    return Prefix((second,) * session.horizon)


def wrong_guesses(
    trees: tuple[Tabular, Tabular], rollouts: int, report: str, attempts: int, seed: int
) -> int:
    """How often ``tell_apart`` names the wrong law, one of the two at random in each attempt."""
    rng = keyed_rng(stream_key(seed, "barrier", f"truth, N = {rollouts}"))
    truth = rng.integers(2, size=attempts)
    bound = tell_apart(pair=Pair.of(trees), rollouts=rollouts, report=report)
    wrong = 0
    for which, tree in enumerate(trees):  # nothing that the learner holds says which
        problems = [
            Problem(f"{i}", (), tree.horizon, lambda y, it=which: float(y.tokens[0] == it))
            for i in np.flatnonzero(truth == which).tolist()
        ]
        at_once = max(1, min(64, 400_000 // rollouts))
        grants = bound.requires
        result = run(bound, problems, tree, grants=grants, seed=seed, concurrency=at_once)
        wrong += sum(not attempt.passed for attempt in result.attempts)
    return wrong


def sampled_error(rollouts: int, reach: float) -> float:
    """Error of the best test between ``doors`` with SAMPLE reports.

    Of h rollouts that pass the door, each shows a bit that is right with probability ``BIAS``: the
    majority decides, a coin on ties.
    """
    h = np.arange(rollouts + 1)
    half = h // 2
    tie = np.where(h % 2, 0.0, stats.binom.pmf(half, h, BIAS) / 2)
    return float(stats.binom.pmf(h, rollouts, reach) @ (stats.binom.cdf(half, h, BIAS) - tie))
