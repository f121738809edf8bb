"""The prefix tree, its store of laws, and draws from laws of many tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("torch")
pytest.importorskip("transformers")


import tiny_lm
from reroot import BackendError
from reroot.contract import Report, Sampling
from reroot.generators.base import Request
from reroot.generators.law import cumulative, invert
from reroot.generators.prefix_tree import ROOT, Limits, PrefixTree, plan_pass
from reroot.generators.transformers import Transformers
from reroot.generators.wide import LawStore, draw_wide
from reroot.randomness import Uniforms
from served_lm import TEXT

# ---- the tree ------------------------------------------------------------------------------


def path_of(tree: PrefixTree, node: int) -> tuple[int, ...]:
    path: list[int] = []
    while node != ROOT:
        path.append(int(tree.token[node]))
        node = int(tree.parent[node])
    return tuple(reversed(path))


def test_slots_are_held_by_whole_paths_after_any_eviction() -> None:
    rng = np.random.default_rng(0)
    tree = PrefixTree(limit=12)
    for _ in range(300):
        prompts = [tuple(rng.integers(0, 3, rng.integers(1, 9)).tolist()) for _ in range(3)]
        asked = np.unique([tree.start(prompt, ()) for prompt in prompts])
        while len(asked):
            step = plan_pass(tree, asked, Limits(row=2, positions=6))
            assert len(set(step.write.tolist())) == len(step.write)
            asked = np.setdiff1d(asked, step.asked)
        held = np.flatnonzero(tree.slot[: tree._size] >= 0)
        assert len(set(tree.slot[held].tolist())) == len(held) == tree.held
        parents = tree.parent[held]
        assert (tree.slot[parents[parents != ROOT]] >= 0).all()
    assert tree.capacity <= 12 + 8  # one pass may exceed the limit by the paths it needs


def test_a_decode_step_pads_nothing() -> None:
    """64 tokens after a prompt of 200: rows of 22, which cost least, would leave two places empty."""
    tree = PrefixTree(limit=1000)
    prompt = tree.start(range(200), ())
    while prompt not in plan_pass(tree, np.array([prompt]), Limits()).asked:
        pass
    asked = np.full(64, prompt)
    for _ in range(2):
        asked = tree.children(asked, np.arange(64))
        step = plan_pass(tree, asked, Limits())
        assert step.tokens.size == len(step.valid) == 64


def test_forgetting_keeps_what_is_held() -> None:
    tree = PrefixTree(limit=100)
    kept = tree.start((1, 2, 3), (4,))
    step = plan_pass(tree, np.array([kept]), Limits())
    remembered = tree.start((1, 2), (9, 9))
    dropped = tree.start((7, 7), (7,))
    tree.forget(np.array([remembered]))
    assert len(tree) == 4 + 2
    assert path_of(tree, remembered) == (1, 2, 9, 9)
    assert tree.start((1, 2, 3, 4), ()) == kept
    assert tree.slot[kept] in step.write
    fresh = {tree.start((5,), ()), tree.start((6,), ()), tree.start((8,), ())}
    assert dropped in fresh  # numbers are used again
    assert {path_of(tree, node) for node in fresh} == {(5,), (6,), (8,)}


def test_law_store_keeps_the_most_recent() -> None:
    store = LawStore(3, 2)
    laws = np.arange(10, dtype=np.float32).reshape(5, 2)
    store.write(np.array([1, 2, 3]), laws[:3])
    out = np.zeros((2, 2), dtype=np.float32)
    assert store.read(np.array([1, 9]), out).tolist() == [1]
    assert out.tolist() == [[0, 1], [0, 0]]
    store.write(np.array([4]), laws[3:4])  # 2 is now the oldest
    assert [node in store for node in (1, 2, 3, 4)] == [True, False, True, True]
    store.write(np.array([5, 6, 7, 8]), laws[:4])
    assert store.nodes() == [6, 7, 8]
    assert store.read(np.array([7]), out[:1]).tolist() == []
    assert out[0].tolist() == [4, 5]
    LawStore(0, 2).write(np.array([1]), laws[:1])


# ---- draws ---------------------------------------------------------------------------------


def wide_law(vocab: int, seed: int = 0) -> np.ndarray:
    """(1, vocab) nats: a peaked law with a long tail, a third of it impossible."""
    rng = np.random.default_rng(seed)
    law = rng.normal(0.0, 3.0, (1, vocab))
    law[0, rng.random(vocab) < 1 / 3] = -np.inf
    return law - np.logaddexp.reduce(law[0])


@pytest.mark.slow(1)
@pytest.mark.parametrize("vocab", [1024, 1300, 5000])
def test_wide_draws_follow_the_law(vocab: int) -> None:
    """χ² of 100,000 draws; a right program fails with probability 1e-4 in each case."""
    law, n = wide_law(vocab), 100_000
    u = Uniforms().column((3, vocab), 0, n, 0)
    tokens = draw_wide(law, np.zeros(n, dtype=np.int64), u)
    counts, expected = np.bincount(tokens, minlength=vocab), np.exp(law[0]) * n
    assert not counts[expected == 0].any()  # what is impossible is never drawn
    common = expected >= 5
    seen = np.append(counts[common], counts[~common].sum())
    assert stats.chisquare(seen, np.append(expected[common], expected[~common].sum())).pvalue > 1e-4


def test_wide_draws_depend_on_their_law_and_uniform_alone() -> None:
    laws = np.concatenate([wide_law(1300, seed) for seed in range(40)]).astype(np.float32)
    rows = np.random.default_rng(1).integers(40, size=700)
    u = Uniforms().column((4, 4), 0, 700, 0)
    together = draw_wide(laws, rows, u)
    alone = [int(draw_wide(laws[[r]], np.array([0]), u[[i]])[0]) for i, r in enumerate(rows)]
    assert together.tolist() == alone


def test_rounding_moves_hardly_any_wide_draw() -> None:
    """Laws that differ by 1e-6 nats: 20,000 draws of each; inverse transform moves more."""
    law, n = wide_law(20_000, seed=2), 20_000
    noisy = law + np.random.default_rng(0).normal(0.0, 1e-6, law.shape)
    noisy -= np.logaddexp.reduce(noisy[0])
    u, rows = Uniforms().column((5, 5), 0, n, 0), np.zeros(n, dtype=np.int64)
    assert (draw_wide(law, rows, u) != draw_wide(noisy, rows, u)).sum() <= 3
    moved = invert(cumulative(law), rows, u) != invert(cumulative(noisy), rows, u)
    assert moved.sum() >= 5


def test_a_law_that_is_none_is_refused() -> None:
    laws = np.full((2, 1100), -np.log(1100))
    assert 0 <= draw_wide(laws, np.array([1]), np.array([0.5]))[0] < 1100
    laws[0, 3] = np.nan
    with pytest.raises(BackendError, match="misses probability 1"):
        draw_wide(laws, np.array([1]), np.array([0.5]))


def test_wide_models_draw_from_the_law_they_report() -> None:
    network = tiny_lm.model("llama", vocab=1300)
    generator = Transformers((network, TEXT))
    request = Request((4, 5), n=30, length=4, report=Report.FULL, key=(1, 2))
    warm = replace(request, sampling=Sampling(temperature=0.5, top_k=20))
    for reply in generator.answer([request, warm]):
        assert reply.laws is not None
        for t in range(4):
            u = Uniforms().column((1, 2), 0, 30, t)
            tokens = draw_wide(reply.laws[:, t], np.arange(30), u)
            assert (reply.tokens[:, t] != tokens).sum() <= 1  # rounding to float32
