"""The hidden families against their definitions and closed forms."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from reroot import InvalidInput, Report
from reroot.families import (
    DecoyPath,
    HiddenPath,
    HiddenTrie,
    PathFamily,
)
from reroot.generators.base import Generator, Request
from reroot.generators.tabular import Tabular
from reroot.types import Output

Tokens = tuple[int, ...]
Family = PathFamily | HiddenTrie


def tree_of(g: Family) -> Tabular:
    """The same law as an explicit tree, read from ``log_laws``."""
    return Tabular.from_function(lambda u: np.exp(g.log_laws((), [u])[0]), g.vocab_size, g.horizon)


def score(g: Family, tokens: Tokens) -> tuple[float, bool]:
    problem, output = g.problem(), Output(tokens, "", len(tokens) == g.horizon)
    assert problem.verifier is not None
    return problem.reward(output), problem.verifier(output)


# ---- the hidden path ---------------------------------------------------------------------------


def test_hidden_path_outputs_have_their_closed_form():
    K, H, p, z = 3, 4, 0.6, (2, 0, 0, 1)
    g = HiddenPath(K, H, p, path=z)
    q = (1 - p) / (K - 1)
    for y, logprob in tree_of(g).enumerate_outputs():
        d = next((t for t in range(H) if y[t] != z[t]), H)
        known = p**H if d == H else p**d * q * K ** -(H - d - 1)
        assert np.exp(logprob) == pytest.approx(known, rel=1e-12)
    law = dict(tree_of(g).enumerate_outputs())
    assert len(law) == K**H
    assert sum(map(np.exp, law.values())) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.slow(1)
@pytest.mark.parametrize(("K", "H", "p"), [(2, 1, 0.9), (4, 64, 0.4), (16, 10_000, 0.25)])
def test_hidden_path_scores_its_path_as_p_to_the_h(K: int, H: int, p: float):
    g = HiddenPath(K, H, p, seed=9)
    (reply,) = g.answer([Request((), length=H, report=Report.LOGPROB, forced=g.path)])
    assert reply.total_logprobs()[0] == pytest.approx(H * np.log(p), rel=1e-12)


def test_rollouts_follow_the_path_for_a_geometric_number_of_tokens():
    # Pr(D >= d) = p^d; 20,000 rollouts, chi-square at level 1e-6, key fixed
    H, p, n = 12, 0.7, 20_000
    g = HiddenPath(5, H, p, seed=1)
    (reply,) = g.answer([Request((), n=n, length=H, key=(4, 4))])
    depth = (reply.tokens == np.array(g.path)).cumprod(axis=1).sum(axis=1)
    expected = n * np.array([*(p**d * (1 - p) for d in range(H)), p**H])
    seen = np.bincount(depth, minlength=H + 1)
    assert chi2.sf(((seen - expected) ** 2 / expected).sum(), H) > 1e-6


def test_random_paths_are_uniform_and_differ_by_seed():
    # 500 paths x 8 tokens over K = 4; chi-square at level 1e-6
    paths = np.array([HiddenPath(4, 8, 0.5, seed=seed).path for seed in range(500)])
    counts = np.stack([np.bincount(paths[:, t], minlength=4) for t in range(8)])
    assert chi2.sf(((counts - 125) ** 2 / 125).sum(), 8 * 3) > 1e-6
    assert len({tuple(path) for path in paths.tolist()}) > 490
    assert HiddenPath(4, 8, 0.9, seed=7).path == HiddenPath(4, 8, 0.5, seed=7).path


def test_attributes():
    g = HiddenPath(vocab_size=4, horizon=3, p=0.4, path=[3, 1, 2], seed=0)
    assert (g.vocab_size, g.horizon, g.p, g.q, g.path) == (4, 3, 0.4, pytest.approx(0.2), (3, 1, 2))
    assert isinstance(g, Generator)
    assert (g.end_token, g.stops(()).tokens, g.max_length()) == (None, frozenset(), 3)
    assert g.decode(g.encode("3 1 2")) == "3 1 2"


def test_memory_is_linear_in_the_horizon_and_free_of_the_vocabulary():
    HiddenPath(2, 1, 0.9)
    tracemalloc.start()
    g = HiddenPath(100_000, 10_000, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(g.path) == 10_000
    assert peak < 2e6


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"vocab_size": 1}, "vocab_size must be an integer in 2…1,000,000, got 1"),
        ({"vocab_size": 4.0}, "vocab_size must be an integer"),
        ({"vocab_size": 2_000_000}, "got 2000000"),
        ({"horizon": 0}, "horizon must be an integer in 1…10,000, got 0"),
        ({"horizon": 10_001}, "got 10001"),
        ({"p": 0.25}, r"p must lie in \(0.25, 1\), got 0.25"),
        ({"p": 1.0}, "got 1.0"),
        ({"p": float("nan")}, "got nan"),
        ({"p": "0.5"}, "got '0.5'"),
        ({"path": (1, 2)}, "must have horizon = 3 tokens, got 2"),
        ({"path": (1, 2, 4)}, "token 4 is outside the vocabulary 0…3"),
        ({"path": (1, 2, 0.5)}, "tokens must be integers"),
    ],
)
def test_hidden_path_refuses(arguments: dict[str, object], why: str):
    with pytest.raises(InvalidInput, match=why):
        HiddenPath(**{"vocab_size": 4, "horizon": 3, "p": 0.5, **arguments})  # type: ignore[arg-type]


# ---- decoys ------------------------------------------------------------------------------------


def test_decoy_path_by_definition():
    K, H, k, p0, p1 = 7, 3, 2, 0.2, 0.15
    g = DecoyPath(K, H, k, p0, p1, path=(4, 2, 6))
    q1, off = (1 - k * p0 - p1) / (K - k - 1), (1 - k * p0) / (K - k)
    assert q1 < off < p1 < p0
    for length in range(H):
        for u in itertools.product(range(K), repeat=length):
            law = np.exp(g.log_laws((), [u])[0])
            known = np.full(K, q1 if u == g.path[:length] else off)
            if u == g.path[:length]:
                known[g.path[length]] = p1
            known[:k] = p0
            np.testing.assert_allclose(law, known, rtol=1e-12)
    (reply,) = g.answer([Request((), length=H, report=Report.LOGPROB, forced=g.path)])
    assert np.exp(reply.total_logprobs()[0]) == pytest.approx(p1**H)


def test_top_k_lists_of_a_decoy_path_say_nothing_and_longer_ones_everything():
    g = DecoyPath(8, 5, 2, 0.2, 0.15, seed=3)
    prefixes = [g.path[:t] for t in range(5)] + [(0,), (1, 1), (7, 7, 7, 7)]
    replies = g.answer([Request((), u, report=Report.ARGMAX(2)) for u in prefixes])
    lists = {(r.top_tokens.tobytes(), r.top_logprobs.tobytes()) for r in replies}  # type: ignore
    assert len(lists) == 1  # bit for bit, on the path and off it
    assert replies[0].tokens.tolist() == [[0]]
    for t, reply in enumerate(
        g.answer([Request((), u, report=Report.ARGMAX(3)) for u in prefixes[:5]])
    ):
        assert reply.top_tokens is not None
        assert reply.top_tokens[0, 0].tolist() == [0, 1, g.path[t]]


def test_decoys_are_never_on_the_path():
    paths = [DecoyPath(6, 10, 3, 0.2, 0.15, seed=seed).path for seed in range(200)]
    assert {token for path in paths for token in path} == {3, 4, 5}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"vocab_size": 2}, "vocab_size must be an integer >= 3"),
        ({"k": 0}, "k must be an integer in 1…6, got 0"),
        ({"k": 7}, "k must be an integer in 1…6, got 7"),
        ({"p0": 0.5}, r"p0 must lie in \(0, 0.5\), got 0.5"),
        ({"p0": 0.125}, "p0 must exceed 1/K = 0.125"),
        ({"vocab_size": 10, "k": 3, "p0": 0.1}, "p0 must exceed 1/K = 0.1"),
        ({"p1": 0.2}, r"p1 must lie in \(0.1, 0.2\), got 0.2"),
        ({"p1": 0.1}, "got 0.1"),
        ({"p0": 0.45, "p1": 0.1}, r"p1 must lie in \(0.0166667, 0.1\), got 0.1"),
        ({"path": (2, 3, 1)}, "must avoid the decoys 0…1, got token 1"),
    ],
)
def test_decoy_path_refuses(arguments: dict[str, object], why: str):
    good = {"vocab_size": 8, "horizon": 3, "k": 2, "p0": 0.2, "p1": 0.15}
    with pytest.raises(InvalidInput, match=why):
        DecoyPath(**{**good, **arguments})  # type: ignore[arg-type]


# ---- the hidden trie ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "H", "a", "b"),
    [(8, 3, 0.3, 0.15), (4, 4, 0.5, 0.25), (16, 2, 0.2, 0.1), (3, 3, 0.6, 0.5)],
)
@pytest.mark.parametrize("seed", range(4))
def test_hidden_trie_keeps_its_bounds(K: int, H: int, a: float, b: float, seed: int):
    g = HiddenTrie(K, H, a, b, seed=seed)
    inside = {leaf[:t] for leaf in g.leaves for t in range(H + 1)}
    threshold, internal = (a + b) / 2, 0
    for length in range(H):
        for u in itertools.product(range(K), repeat=length):
            law = np.exp(g.log_laws((), [u])[0])
            assert law.sum() == pytest.approx(1.0, abs=1e-12)
            children = [t for t in range(K) if (*u, t) in inside]
            others = [t for t in range(K) if t not in children]
            if u in inside:
                internal += 1
                assert children
                assert (law[children] >= a - 1e-12).all()
                assert (law[others] <= b + 1e-12).all()
            else:
                np.testing.assert_allclose(law, 1 / K)
            assert np.flatnonzero(law >= threshold).tolist() == children
    assert g.internal_nodes == internal
    assert all(len(leaf) == H for leaf in g.leaves)


@pytest.mark.parametrize(
    ("a", "children", "other"),
    [(0.3, 1, 0.7 / 9), (0.3, 2, 0.05), (0.3, 3, 0.1 / 7), (0.2, 5, 0.0)],
)
def test_hidden_trie_law_by_definition(a: float, children: int, other: float):
    g = HiddenTrie(10, 1, a, 0.1, trie=[(t,) for t in range(children)])
    known = [a] * children + [other] * (10 - children)
    np.testing.assert_allclose(np.exp(g.log_laws((), [()])[0]), known, atol=1e-15)


@pytest.mark.parametrize("nodes", [6, 7, 11, 12, 30])
def test_drawn_tries_have_the_nodes_asked_for(nodes: int):
    for seed in range(5):
        g = HiddenTrie(16, 6, 0.25, 0.1, nodes=nodes, seed=seed)
        inner = {leaf[:t] for leaf in g.leaves for t in range(6)}
        assert g.internal_nodes == len(inner) == nodes


def test_drawn_tries_stop_where_no_node_may_branch():
    assert HiddenTrie(8, 6, 0.6, 0.2, nodes=100).internal_nodes == 6  # one child each
    assert len(HiddenTrie(8, 6, 0.6, 0.2).leaves) == 1
    full = HiddenTrie(8, 3, 0.5, 0.2, nodes=100)  # 1 + 2 + 4 nodes of two children
    assert full.internal_nodes == 7


def test_a_given_trie():
    leaves = [(0, 1, 2), (0, 1, 3), (2, 1, 1)]
    g = HiddenTrie(5, 3, 0.4, 0.25, trie=leaves[::-1] + leaves[:1])
    assert g.leaves == tuple(leaves)
    assert g.internal_nodes == 5
    for y in itertools.product(range(5), repeat=3):
        assert score(g, y) == (float(y in leaves), y in leaves)
    for u in itertools.chain.from_iterable(itertools.product(range(5), repeat=t) for t in range(3)):
        assert score(g, u) == (0.0, any(leaf[: len(u)] == u for leaf in leaves))
    law = dict(tree_of(g).enumerate_outputs())
    assert sum(map(np.exp, law.values())) == pytest.approx(1.0)
    assert np.exp(law[0, 1, 2]) == pytest.approx(0.4 * 0.4 * 0.4)


@pytest.mark.slow(1)
def test_long_tries():
    g = HiddenTrie(100_000, 2000, 0.3, 0.1, seed=1)
    assert g.internal_nodes == 4000
    for leaf in g.leaves:
        assert score(g, leaf) == (1.0, True)
    other = next(t for t in range(9) if (*g.leaves[0][:-1], t) not in g.leaves)
    assert score(g, (*g.leaves[0][:-1], other)) == (0.0, False)
    (reply,) = g.answer([Request((), length=2000, report=Report.LOGPROB, forced=g.leaves[-1])])
    assert reply.logprobs is not None
    assert (reply.logprobs >= np.log(0.3) - 1e-12).all()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"a": 1.0}, r"a must lie in \(0, 1\), got 1.0"),
        ({"b": 0.3}, r"b must lie in \(0, 0.3\), got 0.3"),
        ({"b": 0.1}, "b must be at least 1/K = 0.125, got 0.1"),
        ({"nodes": 3}, "nodes must be an integer in 4…1,000,000, got 3"),
        ({"trie": []}, "at least one leaf"),
        ({"trie": [(1, 2, 3)]}, r"every leaf must have horizon = 4 tokens, got \[1 2 3\] with 3"),
        ({"trie": [(1, 2, 3, 8)]}, "token 8 is outside"),
        ({"trie": [(0, 0, 0, t) for t in range(4)]}, "4 children; with a = 0.3 at most 3 fit"),
        ({"trie": [(0, 0, 0, 0)], "nodes": 4}, "either trie or nodes"),
    ],
)
def test_hidden_trie_refuses(arguments: dict[str, object], why: str):
    with pytest.raises(InvalidInput, match=why):
        HiddenTrie(**{"vocab_size": 8, "horizon": 4, "a": 0.3, "b": 0.15, **arguments})  # type: ignore


# ---- problems, prompts, descriptions -----------------------------------------------------------

MAKERS: list[Callable[[int], Family]] = [
    lambda seed: HiddenPath(4, 3, 0.5, seed=seed),
    lambda seed: DecoyPath(6, 3, 2, 0.25, 0.18, seed=seed),
    lambda seed: HiddenTrie(6, 3, 0.4, 0.2, seed=seed),
]


@pytest.mark.parametrize("make", MAKERS)
def test_problems(make: Callable[[int], Family]):
    g = make(1)
    problem = g.problem()
    assert (problem.prompt, problem.max_tokens, problem.horizon, problem.stop) == ((), 3, 3, ())
    right = g.leaves if isinstance(g, HiddenTrie) else (g.path,)
    assert problem.demonstration == right[0]
    assert problem.answer == " ".join(map(str, right[0]))
    assert problem.unique == (len(right) == 1)
    for length in range(4):
        for u in itertools.product(range(g.vocab_size), repeat=length):
            assert score(g, u) == (float(u in right), any(z[:length] == u for z in right))
    assert g.problem("mine").id == "mine"
    assert len({make(seed).problem().id for seed in range(10)}) == 10
    assert make(1).problem().id == problem.id


@pytest.mark.parametrize("make", MAKERS)
def test_prompts_are_the_first_tokens(make: Callable[[int], Family]):
    g = make(1)
    z = g.leaves[0] if isinstance(g, HiddenTrie) else g.path
    for u in (z[:2], (0, 0)):
        np.testing.assert_array_equal(g.log_laws(u[:1], [u[1:]]), g.log_laws((), [u]))
    for bad, why in [(z, "the horizon is 3"), ((-1,), "token -1"), ((0, 9), "token 9")]:
        with pytest.raises(InvalidInput, match=why):
            g.log_laws((), [bad])


def test_descriptions_tell_instances_apart():
    shown = [json.dumps(dict(make(seed).describe())) for make in MAKERS for seed in range(3)]
    assert len(set(shown)) == 9
    path = HiddenPath(4, 3, 0.5, seed=2).path  # the same law, however it was named
    assert HiddenPath(4, 3, 0.5, path=path).describe() == HiddenPath(4, 3, 0.5, seed=2).describe()
