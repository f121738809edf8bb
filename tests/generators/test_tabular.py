"""Explicit trees against enumeration, and what they refuse."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from reroot import InvalidInput, Report
from reroot.generators.base import Generator, Request
from reroot.generators.tabular import Tabular

LEVELS = [
    np.array([0.5, 0.3, 0.2]),
    np.array([[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]),
]


def test_it_is_a_generator():
    assert isinstance(Tabular(LEVELS), Generator)


def test_arrays_are_the_laws():
    tree = Tabular(LEVELS)
    assert (tree.vocab_size, tree.horizon, tree.max_length()) == (3, 2, 2)
    laws = np.exp(tree.log_laws((), [(), (0,), (1,), (2,)]))
    np.testing.assert_allclose(laws, np.vstack([LEVELS[0], LEVELS[1]]), atol=1e-15)


def test_enumeration_by_hand():
    known = {
        (a, b): float(np.log(LEVELS[0][a]) + np.log(LEVELS[1][a, b]))
        for a in range(3)
        for b in range(3)
        if LEVELS[1][a, b] > 0
    }
    listed = Tabular(LEVELS).enumerate_outputs()
    assert [y for y, _ in listed] == sorted(known)
    assert dict(listed) == pytest.approx(known)


def test_enumeration_with_end_tokens():
    tree = Tabular(LEVELS, end=(1,))
    law = {y: np.exp(w) for y, w in tree.enumerate_outputs()}
    assert law == pytest.approx(
        {
            (0, 0): 0.4,
            (0, 1): 0.05,
            (0, 2): 0.05,
            (1,): 0.3,
            (2, 0): 0.05,
            (2, 1): 0.05,
            (2, 2): 0.1,
        }
    )


@pytest.mark.parametrize("concentration", [0.01, 0.3, 1.0, 20.0])
def test_random_trees_are_laws(concentration: float):
    tree = Tabular.random(4, 4, seed=1, concentration=concentration, end=(3,))
    outputs = tree.enumerate_outputs()
    assert sum(np.exp(w) for _, w in outputs) == pytest.approx(1.0, abs=1e-12)
    assert all(len(y) == 4 or y[-1] == 3 for y, _ in outputs)
    assert all(3 not in y[:-1] for y, _ in outputs)


def test_random_trees_repeat_by_seed_whatever_is_asked_first():
    prefixes = [(), (0,), (1, 1), (2, 0)]
    one = Tabular.random(3, 3, seed=5)
    other = Tabular.random(3, 3, seed=5)
    forward = np.stack([one.log_laws((), [u])[0] for u in prefixes])
    backward = np.stack([other.log_laws((), [u])[0] for u in prefixes[::-1]])[::-1]
    np.testing.assert_array_equal(forward, backward)
    assert (forward != Tabular.random(3, 3, seed=6).log_laws((), prefixes)).any()


def test_dirichlet_concentration():
    # the variance of an entry is (1/K)(1 − 1/K)/(Kc + 1); 3,000 laws, within 10 %: more than 5
    # standard errors
    K, H = 3, 8
    prefixes = list(itertools.product(range(K), repeat=H - 1))
    for concentration in (0.5, 4.0):
        tree = Tabular.random(K, H, seed=0, concentration=concentration)
        seen = np.exp(tree.log_laws((), prefixes))[:, 0].var()
        assert seen == pytest.approx((1 / K) * (1 - 1 / K) / (K * concentration + 1), rel=0.1)


def test_functions_are_read_once_per_prefix_and_only_when_needed():
    asked: list[tuple[int, ...]] = []

    def law(prefix: tuple[int, ...]) -> list[float]:
        asked.append(prefix)
        return [0.5, 0.5]

    tree = Tabular.from_function(law, 2, 200)
    assert asked == []
    tree.log_laws((), [(0, 1), (0,), (0, 1)])
    tree.answer([Request((), (0, 1), n=100), Request((), (0,), n=10)])
    assert sorted(asked) == [(0,), (0, 1)]
    (reply,) = tree.answer([Request((), length=200)])  # 2^200 outputs, one path read
    assert reply.lengths.tolist() == [200]
    assert len(asked) < 203


def test_prompts_are_the_first_tokens():
    tree = Tabular.random(3, 4, seed=0)
    np.testing.assert_array_equal(tree.log_laws((1, 2), [(0,)]), tree.log_laws((), [(1, 2, 0)]))
    with pytest.raises(InvalidInput, match="pass the generator's 4 positions"):
        tree.answer([Request((1, 2), (0,), length=2)])


def test_written_arrays_do_not_change_the_generator():
    levels = [level.copy() for level in LEVELS]
    tree = Tabular(levels)
    levels[0][:] = [1, 0, 0]
    assert np.exp(tree.log_laws((), [()]))[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("law", "why"),
    [
        ([0.5, 0.4], r"the law at \[1\] must .* its sum 0.9"),
        ([0.5, 0.5 + 2e-9], r"the law at \[1\] must .* its sum 1.000000002"),
        ([1.5, -0.5], "its least entry is -0.5"),
        ([np.nan, 1.0], "its sum nan"),
        ([np.inf, 0.0], "its sum inf"),
        ([0.5, 0.25, 0.25], r"has shape \(3,\); expected \(2,\)"),
        ("ab", "is not numeric: 'ab'"),
        ([0.5, None], "not numeric|sum nan"),
    ],
)
def test_what_is_no_law_is_refused_with_its_prefix(law: object, why: str):
    tree = Tabular.from_function(lambda u: law if u == (1,) else [0.5, 0.5], 2, 3)  # type: ignore
    tree.log_laws((), [(), (0,)])
    with pytest.raises(InvalidInput, match=why):
        tree.log_laws((), [(1,)])


def test_a_sum_off_by_rounding_is_normalized():
    tree = Tabular.from_function(lambda u: [0.5, 0.5 + 5e-10], 2, 1)
    assert np.exp(tree.log_laws((), [()])).sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ([], "at least one level"),
        ([[0.5, 0.5], [0.5, 0.5]], r"level 1 must have shape \(2, 2\), got \(2,\)"),
        ([[1.0]], "vocab_size must be an integer in 2"),
        ([0.5], r"level 0 must have shape"),
        ([[0.5, 0.5], [[0.5, 0.5], [0.5, 0.6]]], r"the law at \[1\]"),
    ],
)
def test_bad_arrays(levels: list[object], why: str):
    with pytest.raises(InvalidInput, match=why):
        Tabular(levels)  # type: ignore[arg-type]


def test_entries_behind_an_end_token_are_ignored():
    tree = Tabular([[0.5, 0.5], [[0.25, 0.75], [np.nan, np.nan]]], end=(1,))
    assert len(tree.enumerate_outputs()) == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"vocab_size": 1}, "vocab_size must be an integer in 2…1,000,000, got 1"),
        ({"vocab_size": True}, "vocab_size"),
        ({"vocab_size": 2.0}, "vocab_size"),
        ({"horizon": 0}, "horizon must be an integer in 1…10,000, got 0"),
        ({"horizon": 10_001}, "got 10001"),
        ({"end": (3,)}, "token 3 is outside"),
        ({"end": ("x",)}, "tokens must be integers"),
        ({"concentration": 0.0}, r"concentration must lie in \(0, inf\), got 0.0"),
        ({"concentration": float("nan")}, "got nan"),
        ({"concentration": "much"}, "got 'much'"),
    ],
)
def test_bad_parameters(arguments: dict[str, object], why: str):
    good: dict[str, object] = {"vocab_size": 3, "horizon": 2, "seed": 0}
    with pytest.raises(InvalidInput, match=why):
        Tabular.random(**{**good, **arguments})  # type: ignore[arg-type]


def test_nothing_follows_an_end_token():
    tree = Tabular.random(3, 4, seed=0, end=(2,))
    with pytest.raises(InvalidInput, match=r"\[0 2 1\] goes on after its end token 2"):
        tree.log_laws((), [(0, 2, 1)])
    with pytest.raises(InvalidInput, match="past its end token 2; stop there"):
        tree.answer([Request((), n=50, length=4)])  # does not name the stop token
    with pytest.raises(InvalidInput, match="past its end token 2"):
        tree.answer([Request((), length=2, report=Report.LOGPROB, forced=(2, 0))])
    (reply,) = tree.answer([Request((), length=2, report=Report.LOGPROB, forced=(0, 2))])
    assert reply.lengths.tolist() == [2]


def test_enumeration_has_a_limit():
    with pytest.raises(InvalidInput, match="more than 1,000 outputs"):
        Tabular.random(2, 30, seed=0).enumerate_outputs(limit=1000)


def test_text_is_integers():
    tree = Tabular.random(12, 4, seed=0, end=(7, 9))
    assert tree.encode("3 11  0") == (3, 11, 0)
    assert tree.encode("") == ()
    assert tree.encode_continuation("1") == (1,)
    assert tree.decode((3, 11, 7)) == "3 11"
    assert tree.end_token == 7
    assert tree.stops(()).tokens == {7, 9}
    assert tree.stops(("1", "2")).tokens == {1, 2, 7, 9}
    for call, why in [
        (lambda: tree.encode("3 x"), "integers separated by spaces, got '3 x'"),
        (lambda: tree.encode("12"), "token 12 is outside"),
        (lambda: tree.stops(("\n",)), r"tokens as integers, got '\\n'"),
        (lambda: tree.stops(("-1",)), "token -1"),
    ]:
        with pytest.raises(InvalidInput, match=why):
            call()


def test_descriptions_tell_laws_apart():
    trees = [
        Tabular(LEVELS),
        Tabular(LEVELS, end=(1,)),
        Tabular([LEVELS[0], LEVELS[1][::-1]]),
        Tabular.random(3, 2, seed=0),
        Tabular.random(3, 2, seed=1),
        Tabular.random(3, 2, seed=0, concentration=0.5),
        Tabular.from_function(lambda u: LEVELS[0], 3, 2, name="constant"),
        Tabular.from_function(test_it_is_a_generator, 3, 2),  # type: ignore[arg-type]
    ]
    shown = [json.dumps(dict(tree.describe()), sort_keys=True) for tree in trees]
    assert len(set(shown)) == len(shown)
    assert json.dumps(dict(Tabular(LEVELS).describe()), sort_keys=True) == shown[0]
    assert "test_it_is_a_generator" in shown[-1]
    assert repr(trees[3]).startswith("Tabular(vocab_size=3, horizon=2")
