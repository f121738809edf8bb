"""Uniforms are NumPy's Philox words, addressed by (key, continuation, step)."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot.randomness import Uniforms, keyed_rng, stream_key, thread_uniforms

KEY = stream_key(7, "problem", "draws", (1, 2))


def word(key: tuple[int, int], i: int, step: int) -> float:
    """Uniform i of a step from a Philox of its own: word i mod 4 of block (i div 4, step)."""
    philox = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=[i // 4, step, 0, 0])
    return float(np.random.Generator(philox).random(4)[i % 4])


@pytest.mark.parametrize("step", [0, 1, 9_999])
def test_columns_are_philox_words(step: int):
    seen = Uniforms().column(KEY, 5, 9, step)
    assert seen.tolist() == [word(KEY, i, step) for i in range(5, 14)]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    first=st.integers(0, 2**40),
    n=st.integers(1, 30),
    skip=st.integers(0, 29),
    step=st.integers(0, 99),
)
def test_columns_are_addressable(first: int, n: int, skip: int, step: int):
    uniforms = Uniforms()
    whole = uniforms.column(KEY, first, n, step)
    uniforms.column((1, 2), 3, 5, 1)  # what was asked before leaves no trace
    skip %= n
    assert uniforms.column(KEY, first + skip, n - skip, step).tolist() == whole[skip:].tolist()


def test_columns_of_different_steps_and_keys_share_nothing():
    uniforms = Uniforms()
    columns = [uniforms.column((a, b), 0, 100, t) for a in (0, 1) for b in (0, 1) for t in (0, 1)]
    assert len(np.unique(np.concatenate(columns))) == 800


def test_uniforms_are_uniform_and_uncorrelated():
    # Over 100 steps x 1,000 continuations: mean and lag correlations within 5 standard errors,
    # error rate 2e-6; the key is fixed.
    uniforms = Uniforms()
    table = np.stack([uniforms.column(KEY, 0, 1000, t) for t in range(100)])
    z = (table - 0.5) * np.sqrt(12)
    for sample in (z, z[1:] * z[:-1], z[:, 1:] * z[:, :-1]):
        assert abs(sample.mean()) * np.sqrt(sample.size) < 5


def test_stream_keys_tell_everything_apart():
    keys = [
        stream_key(seed, problem, purpose, tokens)
        for seed in (0, 1, 11)
        for problem in ("", "a", "1", "a\x1fb")
        for purpose in ("draws", "learner")
        for tokens in ((), (0,), (0, 0), (1,), (256,), (1, 2))
    ]
    assert len(set(keys)) == len(keys)
    assert stream_key(1, "a", "b", (3,)) == stream_key(1, "a", "b", np.array([3]).tolist())
    assert all(0 <= half < 2**64 for key in keys for half in key)


def test_stream_keys_are_stable_across_versions():
    # runs on disk are resumed and audited by these keys
    known = (18216116987065168873, 4974376083663239623)
    assert stream_key(0, "p", "draws", (1, 2)) == known


def test_keyed_generators_repeat():
    assert (
        keyed_rng(KEY).integers(1000, size=5).tolist()
        == keyed_rng(KEY).integers(1000, size=5).tolist()
    )


def test_each_thread_has_its_own_uniforms():
    found: list[Uniforms] = []
    thread = threading.Thread(target=lambda: found.append(thread_uniforms()))
    thread.start()
    thread.join()
    assert found[0] is not thread_uniforms()
    assert thread_uniforms() is thread_uniforms()
