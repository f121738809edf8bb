"""The cells of the ladder on a hidden trie and on a noisy parity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from .. import limits
from ..families.hidden_trie import HiddenTrie
from ..families.noisy_parity import NoisyParity
from ..generators.base import Generator
from ..randomness import keyed_rng, stream_key
from ..types import Budget
from .baseline_learners import root_trie, trie_by_top1
from .formulas import (
    all_met,
    collecting_law,
    elimination_success,
    likelihood_draws,
    parity_floor,
    quantile,
    rollouts_for,
)
from .ladder_cells import (
    REPORTS,
    SUCCESS,
    Cell,
    Ladder,
    Trial,
    blind_runs,
    bound,
    by_control,
    dark,
    exact,
    full_runs,
    under,
)

_DELTA = 2 * (1 - SUCCESS)  # trie_search leaves half of its delta to noisy rewards


@dataclass(frozen=True)
class TrieLadder(Ladder):
    """One hidden trie; success is to name all its leaves.

    Args:
        K, H, a, b, S: as for ``HiddenTrie``.
        seed: names the trie.
        short: (H, S) of root-start runs.
        attempts, certain: attempts of each run, and of the one that takes most and cannot fail.
    """

    K: int
    H: int
    a: float
    b: float
    S: int
    seed: int = 1
    short: tuple[int, int] = (3, 6)
    attempts: int = 40
    certain: int = 20

    @cached_property
    def trie(self) -> HiddenTrie:
        """The trie of all cells."""
        return HiddenTrie(self.K, self.H, self.a, self.b, nodes=self.S, seed=self.seed)

    @cached_property
    def small(self) -> HiddenTrie:
        """The trie of the root-start runs."""
        H, S = self.short
        return HiddenTrie(self.K, H, self.a, self.b, nodes=S, seed=self.seed)

    @property
    def draws(self) -> int:
        """m with SAMPLE reports."""
        return limits.trie_draws(self.K, self.trie.internal_nodes, self.a, self.b, _DELTA)

    @property
    def sightings(self) -> int:
        """m with LOGPROB reports: every child is drawn."""
        edges = self.trie.internal_nodes * int(1 / self.a)
        return math.ceil(math.log(edges / (1 - SUCCESS)) / -math.log1p(-self.a))

    @property
    def guessed(self) -> float:
        """Success without the guess, at most 1/K, of the children of a node that nobody saw."""
        return (SUCCESS - 1 / self.K) / (1 - 1 / self.K)

    def met(self, trie: HiddenTrie, success: float = SUCCESS) -> int:
        """Rollouts until all last nodes were passed: what FULL reports need."""
        last = len(nodes_at(trie, trie.horizon - 1))
        return rollouts_for(success, lambda N: all_met(N, last, self.a ** (trie.horizon - 1)))

    def collected(self, trie: HiddenTrie) -> int:
        """Rollouts until all leaves were drawn."""
        count = len(trie.leaves)
        return rollouts_for(SUCCESS, lambda N: all_met(N, count, self.a**trie.horizon))

    def frequent(self, trie: HiddenTrie) -> int:
        """Rollouts with which all frequencies are right: Hoeffding, averaged over visits."""
        miss = -math.expm1(-((self.a - self.b) ** 2) / 2)
        depths = [len(u) for t in range(trie.horizon) for u in nodes_at(trie, t)]

        def right(N: int) -> float:
            return 1 - self.K * sum(math.exp(N * math.log1p(-miss * self.a**d)) for d in depths)

        return rollouts_for(SUCCESS, right)

    @property
    def emitted(self) -> int:
        """Draws until the generator has emitted all internal nodes, and one at each last node."""
        inner = [u for t in range(self.H - 1) for u in nodes_at(self.trie, t)]
        below = dict.fromkeys(inner, 0)
        for t in range(1, self.H):
            for u in nodes_at(self.trie, t):
                below[u[:-1]] += 1
        laws = [collecting_law(c, self.a) for c in below.values()]
        return quantile(laws, self.guessed) + len(nodes_at(self.trie, self.H - 1))

    # ---- cells -----------------------------------------------------------------------------------

    def cells(self) -> dict[tuple[str, str], Cell]:
        S, last = self.trie.internal_nodes, len(nodes_at(self.trie, self.H - 1))
        low = self.met(self.trie, self.guessed)
        once = f"the greedy rollout shows one of {len(self.trie.leaves)} leaves"
        empty = "nothing is emitted, so only ∅ may be asked"
        every = "every leaf is drawn; below: FULL"
        nodes = "every last node is passed; less helps a guess only"
        inside = (
            "every child of every node is asked whether it is inside; of the leaves below "
            "a last node the list shows one, outcome rewards the others (without them ∞)"
        )
        rolled, share = self.frequent(self.trie), "frequencies at every node; below: FULL"
        votes = bound("root sample", share, rollouts=rolled, low=low)
        drawn = bound("root logprob", every, rollouts=self.collected(self.trie), low=low)
        passed = exact("root full", nodes, rollouts=self.met(self.trie))
        root = [*dark("root", once), votes, drawn, drawn, passed]
        frequency = f"trie_search, m = {self.draws}"
        seen = f"trie_search, m = {self.sightings}: every child is drawn"
        out, below = "; below: until all nodes are emitted", "; below: one query per node"
        visited = [*dark("visited", empty), *self._two(frequency + out, seen + out, self.emitted)]
        asked = {"queries": 1 + self.K * (S - last), "rewards": (self.K - 1) * last}
        children = "trie_search: a list as long as a node has children"
        top1 = exact("top-1", inside, trie_by_top1(threshold=self.threshold), **asked)
        listed = exact("listed", children, self._search(REPORTS[1]), queries=S)
        law = exact("law", "trie_search, one query per node", self._search("full"), queries=S)
        reset = [top1, listed, *self._two(frequency + below, seen + below, S)[:3], law]
        return by_control([root, visited, reset, reset])

    def _two(self, frequency: str, seen: str, low: int) -> list[Cell]:
        """SAMPLE, and what LOGPROB, TOPK(1) and FULL share."""
        S = self.trie.internal_nodes
        draws, sightings = S * self.draws, S * self.sightings
        sample = bound("sample", frequency, self._search("sample"), queries=draws, low=low)
        logprob = bound("logprob", seen, self._search("logprob"), queries=sightings, low=low)
        return [sample, logprob, logprob, logprob]

    @property
    def threshold(self) -> float:
        """Between children and other tokens."""
        return (self.a + self.b) / 2

    def _search(self, report: str) -> str:
        size = f"nodes={self.trie.internal_nodes},a={self.a},b={self.b},delta={_DELTA:.2g}"
        return f"trie_search:{size},report={report}"

    # ---- runs ------------------------------------------------------------------------------------

    def trials(self) -> dict[str, Trial]:
        found = full_runs(self.cells(), self._same(self.trie), leaves=True)
        certain = [self.trie] * self.certain
        found["top-1"] = replace(found["top-1"], instances=lambda: certain)
        h, leaves = self.short[0], len(self.small.leaves)
        nodes, small = len(nodes_at(self.small, h - 1)), self._same(self.small)
        for report, n, events, each in (
            ("sample", self.frequent(self.small), 0, 0.0),
            ("logprob", self.collected(self.small), leaves, self.a**h),
            ("full", self.met(self.small), nodes, self.a ** (h - 1)),
        ):
            found[f"root {report}"] = under(
                root_trie(n=n, threshold=self.threshold, report=report),
                instances=small,
                budget=Budget(rollouts=n),
                size=f"H = {h}, S = {self.short[1]}",
                leaves=True,
                exact=all_met(n, events, each) if events else None,
            )
        return found | blind_runs(self._alike, self._prefixes())

    def _same(self, trie: HiddenTrie) -> Callable[[], list[Generator]]:
        return lambda: [trie] * self.attempts

    def _alike(self) -> list[Generator]:
        """Tries with one greedy leaf and one child of the root, and all else different."""
        rng = keyed_rng(stream_key(0, "ladder", "tries"))
        first = (0,) * self.H
        others = [(0, *rng.integers(1, self.K, size=self.H - 1).tolist()) for _ in range(4)]
        return [HiddenTrie(self.K, self.H, self.a, self.b, trie=[first, y]) for y in others]

    def _prefixes(self) -> list[tuple[int, ...]]:
        tries = [trie for trie in self._alike() if isinstance(trie, HiddenTrie)]
        return sorted({u for trie in tries for t in range(self.H) for u in nodes_at(trie, t)})


def nodes_at(trie: HiddenTrie, depth: int) -> set[tuple[int, ...]]:
    """The prefixes of leaves with that many tokens."""
    return {leaf[:depth] for leaf in trie.leaves}


@dataclass(frozen=True)
class ParityLadder(Ladder):
    """A noisy parity; success is to name the secret.

    Args:
        T, noise: as for ``NoisyParity``.
        attempts: attempts of each run.
    """

    T: int
    noise: float
    attempts: int = 60

    @property
    def ranks(self) -> int:
        """Rollouts whose log-probabilities name the secret."""
        return rollouts_for(SUCCESS, lambda N: elimination_success(N, self.T - 1))

    @property
    def spanning(self) -> int:
        """Rollouts of ``parity_elimination`` with SAMPLE reports."""
        return self.T - 1 + math.ceil(-math.log2((1 - SUCCESS) / 2))

    def majority(self, delta: float) -> int:
        """Draws at each of T - 1 histories."""
        return (self.T - 1) * limits.plurality_draws(2, self.T - 1, 1 - self.noise, delta)

    def cells(self) -> dict[tuple[str, str], Cell]:
        bits, delta = self.T - 1, 1 - SUCCESS
        low = parity_floor(bits, self.noise, SUCCESS)
        odds = f"success at most (M + 1)/(2<sup>{bits}</sup> − 1) with M rewards"
        zeros = f"the greedy rollout is 0…0 whatever the secret is, and says nothing: {odds}"
        empty = f"nothing is emitted, so only ∅ may be asked, where all is uniform: {odds}"
        floor = "; below: Fano for noisy parities"
        walk, samples = 2 * bits - 1, self.majority(delta)
        likely = (
            f"the likeliest secret: few samples, but {bits}·2<sup>{bits}</sup> additions to read them "
            f"(hard to compute){floor}"
        )
        algebra = "linear algebra on noiseless parities, one per rollout: the Bayes rule"
        again = f"majorities after independent rollouts, then linear algebra{floor}"
        probe = "the probe, for certain; two thirds of it for histories that may be asked"
        sure = "the probe, for certain; fewer bits do not name the secret"
        votes = f"the probe with majorities{floor}"
        draws = likelihood_draws(bits, self.noise, delta)
        solve = "parity_elimination:"
        read, ask = "parity_probe:report=argmax(1),control=", "parity_probe:report=sample,"
        told = f"noise={self.noise},delta={delta:.2g}"
        hard = bound("root sample", likely, f"parity_root:n={draws}", rollouts=draws, low=low)
        ranks = exact("root logprob", algebra, f"{solve}n={self.ranks}", rollouts=self.ranks)
        paid = {"rollouts": self.spanning, "queries": self.majority(delta / 2)}
        asked = bound("visited sample", again, f"{solve}report=sample,{told}", low=low, **paid)
        reset = exact("reset probe", probe, f"{read}reset", queries=bits + walk)
        there = f"{ask}{told},control="
        drawn = bound("reset sample", votes, f"{there}reset", queries=samples + walk, low=low)
        chosen = exact("chosen probe", sure, f"{read}chosen", queries=bits)
        free = bound("chosen sample", votes, f"{there}chosen", queries=samples, low=low)
        told = "parity_probe:report=logprob,control=chosen"
        logprob = exact("chosen logprob", sure, told, queries=bits)
        root = [*dark("root", zeros), hard, ranks, ranks, ranks]
        visited = [*dark("visited", empty), asked, ranks, ranks, ranks]
        resets = [reset, reset, drawn, ranks, ranks, ranks]
        return by_control([root, visited, resets, [chosen, chosen, free, logprob, chosen, chosen]])

    def trials(self) -> dict[str, Trial]:
        found = full_runs(self.cells(), self._secrets)
        law = elimination_success(self.ranks, self.T - 1)
        found["root logprob"] = replace(found["root logprob"], exact=law)
        # every unit string and some more: what probes and samplers ask
        asked = {u for t in range(self.T) for u in ((0,) * t, (1,) * t, (0,) * (t - 1) + (1,))}
        return found | blind_runs(lambda: self._secrets()[:6], sorted(asked))

    def _secrets(self) -> list[Generator]:
        return [NoisyParity(self.T, self.noise, seed=seed) for seed in range(self.attempts)]
