"""Pure functions on laws against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import BackendError, Sampling
from reroot.generators.law import (
    cumulative,
    invert,
    log_normalize,
    most_likely,
    sampling_laws,
)

repeat = settings(deadline=None, max_examples=60, derandomize=True)


def random_laws(seed: int, rows: int = 5, vocab: int = 7, zeros: bool = False) -> np.ndarray:
    """Rows of nats with ties (probabilities are multiples of 1/sum), and zeros if asked."""
    weights = np.random.default_rng(seed).integers(0 if zeros else 1, 5, size=(rows, vocab)) * 1.0
    weights[:, 0] += 1
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum(axis=1, keepdims=True))


def by_definition(law: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Probabilities of the sampling law, one law at a time, in plain Python arithmetic."""
    p = [float(x) for x in np.exp(law)]
    ranked = sorted(range(len(p)), key=lambda a: (-p[a], a))
    if sampling.temperature == 0:
        return np.eye(len(p))[ranked[0]]
    p = [x ** (1 / sampling.temperature) for x in p]
    p = [x / sum(p) for x in p]
    if sampling.top_k:
        p = [x if a in ranked[: sampling.top_k] else 0.0 for a, x in enumerate(p)]
        p = [x / sum(p) for x in p]
    kept, mass = [], 0.0
    for a in ranked:
        if mass < sampling.top_p - 1e-12:
            kept.append(a)
        mass += p[a]
    p = [x if a in kept else 0.0 for a, x in enumerate(p)]
    return np.array([x / sum(p) for x in p])


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(t, top_p, top_k)
        for t, top_p, top_k in itertools.product(
            (0.0, 0.5, 1.0, 3.0), (0.3, 0.8, 1.0), (0, 1, 3, 9)
        )
    ],
    ids=str,
)
def test_sampling_laws_by_definition(sampling: Sampling, zeros: bool):
    laws = random_laws(3, zeros=zeros)
    seen = np.exp(sampling_laws(laws, sampling))
    known = np.stack([by_definition(law, sampling) for law in laws])
    np.testing.assert_allclose(seen, known, atol=1e-12)


def test_top_p_takes_the_smallest_set_that_reaches_it_in_spite_of_rounding():
    uniform = np.log(np.full((1, 10), 0.1))  # ten times 0.1 sums to 0.9999999999999999
    for count in range(1, 11):
        kept = np.isfinite(sampling_laws(uniform, Sampling(top_p=count / 10)))
        assert kept[0].tolist() == [True] * count + [False] * (10 - count)


def test_tiny_temperatures_are_the_mode_and_not_nan():
    laws = np.log([[0.2, 0.5, 0.3]])
    for temperature in (1e-3, 1e-300, 5e-324):
        law = np.exp(sampling_laws(laws, Sampling(temperature)))
        np.testing.assert_allclose(law, [[0, 1, 0]], atol=1e-12)


def test_the_base_law_is_left_alone():
    laws = random_laws(1)
    assert sampling_laws(laws, Sampling()) is laws


@repeat
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 45))
def test_most_likely_sorts_by_probability_then_token(seed: int, vocab: int, k: int):
    laws = random_laws(seed, rows=3, vocab=vocab)
    for law, ids in zip(laws, most_likely(laws, k), strict=True):
        known = sorted(range(vocab), key=lambda a: (-law[a], a))[:k]
        assert ids.tolist() == known


def test_most_likely_of_a_wide_law_with_ties_at_the_edge():
    law = np.zeros((1, 1000))
    law[0, [900, 10, 500]] = 1.0
    assert most_likely(law, 5).tolist() == [[10, 500, 900, 0, 1]]
    assert most_likely(law, 2).tolist() == [[10, 500]]


@pytest.mark.slow(1)
@repeat
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6))
def test_invert_counts_the_cumulative_entries_up_to_u(seed: int, vocab: int, rows: int):
    cum = cumulative(random_laws(seed, rows, vocab, zeros=True))
    rng = np.random.default_rng(seed)
    row = rng.integers(rows, size=50)
    edges = cum[rng.integers(rows, size=50), rng.integers(vocab, size=50)]
    for u in (rng.random(50), np.minimum(edges, np.nextafter(1, 0)), np.zeros(50)):
        known = [int((cum[r] <= x).sum()) for r, x in zip(row, u, strict=True)]
        assert invert(cum, row, u).tolist() == known


def test_tokens_of_probability_zero_are_never_drawn():
    with np.errstate(divide="ignore"):
        laws = np.log([[0.0, 0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]])
    u = np.array([0.0, 0.5 - 2**-53, 0.5, np.nextafter(1, 0)])
    cum = cumulative(laws)
    assert invert(cum, np.zeros(4, dtype=np.int64), u).tolist() == [1, 1, 3, 3]
    assert invert(cum, np.ones(4, dtype=np.int64), u).tolist() == [2, 2, 2, 2]
    assert invert(cum[:1], np.zeros(4, dtype=np.int64), u).tolist() == [1, 1, 3, 3]


def test_inversion_of_rounded_float32_laws_reaches_the_last_token_only_below_one():
    laws = log_normalize(np.random.default_rng(0).normal(size=(4, 50_000))).astype(np.float32)
    cum = cumulative(laws)  # type: ignore[arg-type]
    assert (cum[:, -1] == 1.0).all()
    assert (np.diff(cum, axis=1) >= 0).all()
    u = np.full(4, np.nextafter(1, 0))
    assert (invert(cum, np.arange(4), u) < 50_000).all()


@pytest.mark.parametrize("law", [[0.5, 0.6], [0.3, 0.3], [np.nan, 1.0], [0.0, 0.0]])
def test_a_law_that_is_no_law_is_a_backend_error(law: list[float]):
    with np.errstate(divide="ignore"), pytest.raises(BackendError, match="sums to"):
        cumulative(np.log([[0.5, 0.5], law]))


def test_log_normalize():
    logits = np.array([[1000.0, 1000.0], [-np.inf, 3.0], [0.0, np.log(3)]])
    np.testing.assert_allclose(np.exp(log_normalize(logits)), [[0.5, 0.5], [0, 1], [0.25, 0.75]])
