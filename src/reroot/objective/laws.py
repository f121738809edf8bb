"""Exact output laws of sampling methods, from the probabilities and rewards of all outputs.

Each function states what a method does to m outputs with probabilities p and rewards r, apart from how
it is done; ``reroot certify`` compares them with what the learners do, draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from ..limits import pessimistic_level
from ..types import FloatArray
from .tree import Tree

Tokens = tuple[int, ...]


def best_of_n(p: FloatArray, rewards: FloatArray, n: int) -> FloatArray:
    """(m,) law of the best of n draws, the first on ties: p(y)/p(r = r(y))·(F(r)^n − F(r⁻)^n)."""
    law = np.zeros(len(p))
    for level in np.unique(rewards):
        here, below = rewards == level, rewards < level
        mass, under = p[here].sum(), p[below].sum()
        if mass > 0:
            law[here] = p[here] / mass * ((under + mass) ** n - under**n)
    return law


def soft_best_of_n(p: FloatArray, rewards: FloatArray, n: int, beta: float) -> FloatArray:
    """(m,) law of one of n draws chosen by e^(r/β): p(y)·E[n·e^(r/β)/(e^(r/β) + Σ_{j<n} e^(r_j/β))]."""
    law = np.zeros(len(p))
    for probability, drawn in reward_samples(p, rewards, n - 1):
        law += probability * p * n / (1.0 + _tilted(drawn, rewards[:, None], beta).sum(axis=1))
    return law


def _tilted(rewards: FloatArray, against: FloatArray | float, beta: float) -> FloatArray:
    """e^((r − against)/β); infinite where that is beyond a double."""
    with np.errstate(over="ignore"):
        return np.exp((rewards - against) / beta)


def first_accepted(p: FloatArray, accepted: FloatArray, n: int) -> FloatArray:
    """(m,) law of rejection with n proposals, then a fresh draw; ``accepted``: (m,) probabilities."""
    passed = p * accepted
    rate = min(1.0, float(passed.sum()))
    missed = (1.0 - rate) ** n
    return missed * p + (passed / rate * (1.0 - missed) if rate else 0.0)


def expected_proposals(rate: float, n: int) -> float:
    """Expected number of proposals until one of rate a is accepted, at most n."""
    return (1.0 - (1.0 - rate) ** n) / rate if rate else float(n)


def softmax_rejection(
    p: FloatArray, rewards: FloatArray, n: int, beta: float, bound: float
) -> FloatArray:
    """(m,) law of SoftmaxSampler with an estimated normalizer (arXiv 2503.07453)."""
    law = np.zeros(len(p))
    for probability, drawn in reward_samples(p, rewards, n):
        best = drawn.max()  # in Ẑ/e^(best/β), which is at least 1/n, nothing over- or underflows
        normalizer = _tilted(drawn, best, beta).mean() * bound
        accepted = np.minimum(1.0, _tilted(rewards, best, beta) / normalizer)
        law += probability * first_accepted(p, accepted, n)
    return law


def pessimism(
    p: FloatArray, rewards: FloatArray, n: int, beta: float, top: float = 1.0
) -> FloatArray:
    """(m,) law of InferenceTimePessimism with an estimated λ (arXiv 2503.21878)."""
    law = np.zeros(len(p))
    for probability, drawn in reward_samples(p, rewards, n):
        best = drawn.max()  # λ − best keeps every digit where β is tiny and λ itself would not
        level = pessimistic_level(drawn - best, np.full(n, 1.0 / n), beta)
        accepted = np.clip((rewards - best - level) / (top - best - level), 0.0, 1.0)
        law += probability * first_accepted(p, accepted, n)
    return law


def adaptive_best_of_n(p: FloatArray, delta: float, most: int) -> tuple[FloatArray, float]:
    """((m,) law, expected number of draws) of the stopping rule of arXiv 2412.01951, App. D.

    The chain is that of the best draw so far; ties in p are kept apart by which came first.
    """
    mu = math.log(2.0 / delta)
    best, law, expected = p.copy(), np.zeros(len(p)), 1.0  # after one draw
    for k in range(1, most):
        stops = 1.0 / p <= k / mu * (1 + 1e-12)
        law += np.where(stops, best, 0.0)
        best = np.where(stops, 0.0, best)
        expected += float(best.sum())
        stays = np.array([p[p <= own].sum() for own in p])
        better = np.array([best[p < own].sum() for own in p])
        best = best * stays + p * better
    return law + best, expected


def of_independent_draws(
    p: FloatArray, n: int, choice: Callable[[Sequence[int]], int]
) -> FloatArray:
    """(m,) law of what ``choice`` takes among the indices of n draws, over all m^n sequences."""
    law = np.zeros(len(p))
    for places in np.ndindex(*(len(p),) * n):
        law[choice(places)] += math.prod(p[i] for i in places)
    return law


def reward_samples(p: FloatArray, values: FloatArray, n: int) -> Iterator[tuple[float, FloatArray]]:
    """(probability, (n,) values) of every multiset of n draws, as far as its values go."""
    levels = np.unique(values)
    mass = np.array([p[values == level].sum() for level in levels])
    slots = n + len(levels) - 1
    for bars in combinations(range(slots), len(levels) - 1):  # between the levels of n draws
        counts = (np.diff([-1, *bars, slots]) - 1).tolist()
        ways = math.factorial(n) // math.prod(map(math.factorial, counts))
        probability = ways * math.prod(q**c for q, c in zip(mass.tolist(), counts, strict=True))
        if probability:
            yield probability, np.repeat(levels, counts)


# ---- methods that walk down the tree ---------------------------------------------------------------


def guided(tree: Tree, accepted: FloatArray, tries: int) -> Tree:
    """The law that takes the first accepted of ``tries`` drawn tokens, or else the first drawn.

    Args:
        tree: the base law P.
        accepted: (n, K) whether a token is accepted.
        tries: draws at each prefix.
    """
    p = np.exp(tree.laws)
    rate = (p * accepted).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(rate > 0, (1.0 - (1.0 - rate) ** tries) / rate, 0.0)
        return tree.with_laws(np.log(p * np.where(accepted, hit, (1.0 - rate) ** (tries - 1))))


def weighed(tree: Tree, log_values: FloatArray) -> Tree:
    """Π_t P(a|u)·V̂(ua)/Σ_b P(b|u)·V̂(ub): token by token in proportion to values (ActionLevelRS).

    Args:
        tree: the base law P.
        log_values: (n, K) log V̂(ua) below each prefix u; −inf where V̂ is 0.
    """
    logs = tree.laws + log_values
    return tree.with_laws(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))


def explored(tree: Tree, layers: FloatArray, k: int, *, renormalize: bool = False) -> Tree:
    """max P·P + (1 − max P)·Q at each prefix: latent exploration decoding (arXiv 2602.01698).

    Q is, of the laws of the last 1, 2, … layers summed on the k most likely tokens, the one of
    largest entropy.

    Args:
        tree: the law P.
        layers: (n, d, K) probabilities, the laws of the last d layers at each prefix, P last.
        k: tokens that may be explored.
        renormalize: sum the restricted laws as probability vectors.
    """
    found = np.exp(tree.laws)
    for u, rows in enumerate(layers):
        likely = sorted(range(len(rows[-1])), key=lambda a: (-rows[-1][a], a))[:k]
        best, q = -1.0, rows[-1][likely]
        total = np.zeros(len(likely))
        for row in rows[::-1]:
            part = row[likely]
            total = total + (part / part.sum() if renormalize else part)
            mixed = total / total.sum()
            entropy = -math.fsum(x * math.log(x) for x in mixed.tolist() if x > 0)
            if entropy > best:
                best, q = entropy, mixed
        top = found[u].max()
        found[u] *= top
        found[u, likely] += (1.0 - top) * q
    with np.errstate(divide="ignore"):
        return tree.with_laws(np.log(found))


def tokenwise_rejection(tree: Tree, accepted: FloatArray, tries: int) -> tuple[FloatArray, float]:
    """((m,) probability to end with each output, expected draws), at most ``tries`` draws at a prefix.

    Without a limit it is Π_t P·V / Σ P·V; the mass that is missing ended at a prefix.
    """
    p, m = np.exp(tree.laws), len(tree.outputs)
    end = np.eye(m)
    laws, costs = np.zeros((len(tree.prefixes), m)), np.zeros(len(tree.prefixes))
    for u in _upwards(tree):
        kept = p[u] * accepted[u]
        repeats = expected_proposals(float(kept.sum()), tries)
        laws[u] = _mixture(tree, u, kept * repeats, laws, end)
        costs[u] = repeats + float(kept @ _below(tree, u, costs)) * repeats
    return laws[0], float(costs[0])


def backtracking(tree: Tree, accepted: FloatArray, quota: int) -> FloatArray:
    """(m,) law of backtracking by one token: each rejected token is erased, as long as quota is left."""
    p = np.exp(tree.laws)
    n, m = len(tree.prefixes), len(tree.outputs)
    end = np.eye(m)
    laws = _descend(tree, p, end)  # quota 0: draws of P
    for _ in range(quota):
        fewer, laws = laws, np.zeros((n, m))
        rejected = (p * (1.0 - accepted)).sum(axis=1)
        for u in _upwards(tree):
            kept = _mixture(tree, u, p[u] * accepted[u], laws, end)
            laws[u] = kept + rejected[u] * fewer[u]
    return laws[0]


def _descend(tree: Tree, p: FloatArray, end: FloatArray) -> FloatArray:
    """(n, m) law of the output below each prefix."""
    laws = np.zeros((len(tree.prefixes), len(end)))
    for u in _upwards(tree):
        laws[u] = _mixture(tree, u, p[u], laws, end)
    return laws


def _upwards(tree: Tree) -> range:
    """The internal prefixes, longest first: they are numbered breadth-first."""
    return range(len(tree.prefixes) - 1, -1, -1)


def _mixture(tree: Tree, u: int, weights: FloatArray, laws: FloatArray, end: FloatArray):
    """(m,) Σ_a weights(a)·(law below ua)."""
    n = len(tree.prefixes)
    found = np.zeros(len(end))
    for child, weight in zip(tree.children[u].tolist(), weights.tolist(), strict=True):
        if weight:
            found += weight * (laws[child] if child < n else end[child - n])
    return found


def diligent(tree: Tree, passes: FloatArray, tries: int) -> tuple[FloatArray, float]:
    """((m,) probability to end with each passing output, expected number of proposals) of the DFS.

    s(u) = 1 − (1 − A(u))^b with A(u) = Σ_c P(c|u)·s(uc); the passing child is distributed ∝ P·s.

    Args:
        tree: the base law P.
        passes: (m,) whether an output passes.
        tries: b, proposals at each prefix.
    """
    p, m = np.exp(tree.laws), len(tree.outputs)
    end = np.diag(passes.astype(np.float64))
    laws, costs = np.zeros((len(tree.prefixes), m)), np.zeros(len(tree.prefixes))
    for u in _upwards(tree):
        once = _mixture(tree, u, p[u], laws, end)
        repeats = expected_proposals(float(once.sum()), tries)
        laws[u] = once * repeats
        costs[u] = repeats * (1.0 + float(p[u] @ _below(tree, u, costs)))
    return laws[0], float(costs[0])


def _below(tree: Tree, u: int, costs: FloatArray) -> FloatArray:
    """(K,) the cost below each token; 0 at outputs."""
    n = len(costs)
    return np.array([costs[c] if 0 <= c < n else 0.0 for c in tree.children[u].tolist()])


# ---- methods that grow a tree ------------------------------------------------------------------------


def forked(tree: Tree) -> FloatArray:
    """(m,) law of either of a rollout and one more continuation from before its most surprising token."""
    p = np.exp(tree.log_probabilities())
    law = np.zeros(len(p))
    for y, mass in zip(tree.outputs, p, strict=True):
        surprisal = [-tree.laws[tree.prefixes.index(y[:t]), a] for t, a in enumerate(y)]
        law += mass * _given(tree, p, y[: int(np.argmax(surprisal))])
    return (p + law) / 2


_History = tuple[float, dict[Tokens, list[float]], frozenset[Tokens], int, float]
"""(probability, prefixes and outputs that were visited: rewards below them, expanded, best, top)"""


def puct(
    tree: Tree,
    rewards: FloatArray,
    simulations: int,
    exploration: float = 1.0,
    pass_at: float = 1.0,
) -> tuple[FloatArray, float]:
    """((m,) law, expected simulations) of PUCT with rollouts, all children listed, over all histories.

    Args:
        tree: the base law P.
        rewards: (m,) rewards of the outputs.
        simulations, exploration, pass_at: of ``learners.sampling.tree_search``.
    """
    p = np.exp(tree.log_probabilities())
    law, expected = np.zeros(len(p)), 0.0
    open_: list[_History] = [(1.0, {}, frozenset(), -1, -math.inf)]
    for _ in range(simulations):
        ahead: list[_History] = []
        for mass, below, expanded, best, top in open_:
            expected += mass
            path: list[Tokens] = [()]
            while path[-1] in expanded:
                path.append(_upper_bound(tree, path[-1], below, exploration))
            reached = _given(tree, p, path[-1])
            inner = expanded | {u for u in path[-1:] if u not in tree.outputs}
            for y in np.flatnonzero(reached).tolist():
                reward = float(rewards[y])
                now = (y, reward) if reward > top else (best, top)
                if reward >= pass_at:
                    law[now[0]] += mass * reached[y]
                    continue
                counted = below | {u: [*below.get(u, []), reward] for u in path}
                ahead.append((mass * float(reached[y]), counted, inner, *now))
        open_ = ahead
    for mass, _, _, best, _ in open_:
        law[best] += mass
    return law, expected


def _upper_bound(
    tree: Tree, u: Tokens, below: dict[Tokens, list[float]], exploration: float
) -> Tokens:
    """The child of the largest mean reward plus exploration·P·√visits/(1 + its visits)."""
    law = np.exp(tree.laws[tree.prefixes.index(u)]).tolist()
    scale = exploration * math.sqrt(len(below[u]))

    def bound(a: int) -> float:
        seen = below.get((*u, a), [])
        return (math.fsum(seen) / len(seen) if seen else 0.0) + scale * law[a] / (1 + len(seen))

    likely = sorted((a for a in range(len(law)) if law[a]), key=lambda a: (-law[a], a))
    return (*u, max(likely, key=bound))


def _given(tree: Tree, p: FloatArray, u: Tokens) -> FloatArray:
    """(m,) P(y | u)."""
    law = np.where([y[: len(u)] == u for y in tree.outputs], p, 0.0)
    return law / law.sum()
