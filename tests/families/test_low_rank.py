"""Low-rank laws: check values, closed forms, and other ways to the same law."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reroot import InvalidInput
from reroot.families import LowRank, NoisyParity, noisy_parity, parse
from reroot.families.low_rank import (
    menu,
    parity,
    random_chain,
    reveal,
    sticky_bit,
    total_variation,
    two_states,
)
from reroot.objective import Tree
from reroot.testing import check_generator
from reroot.types import Output


def by_paths(law: LowRank) -> np.ndarray:
    """(K^T,) probabilities by summing over all paths of hidden states."""
    T, S = law.horizon, law.states
    found = np.zeros((law.vocab_size,) * T)
    for string in np.ndindex(*found.shape):
        for path in itertools.product(range(S), repeat=T + 1):
            p = law.start[path[0]]
            for t, token in enumerate(string):
                p *= law.kernels[t, token, path[t], path[t + 1]]
            found[string] += p
    return found.ravel()


@pytest.mark.parametrize("law", [two_states(3), random_chain(3, 3, 2, 4), sticky_bit(3)])
def test_probabilities_by_all_hidden_paths(law: LowRank) -> None:
    known = by_paths(law)
    assert law.probabilities() == pytest.approx(known, abs=1e-14)
    tree = Tree.of(law, horizon=3)
    assert np.exp(tree.log_probabilities()) == pytest.approx(known, abs=1e-14)


def test_two_states_have_their_check_values() -> None:
    known = [0.2532, 0.1068, 0.1033, 0.0867, 0.1308, 0.0842, 0.1052, 0.1298]
    law = two_states(3)
    assert law.probabilities() == pytest.approx(known, abs=5e-5)
    assert [law.fidelity(1), law.fidelity(2)] == pytest.approx([0.040694, 0.040834], abs=5e-7)


def test_random_chains_have_their_check_values() -> None:
    law = random_chain(8, 2, 3, seed=0)
    assert [law.rank(t) for t in range(1, 8)] == [2, 3, 3, 3, 3, 3, 2]
    assert law.probabilities()[0] == pytest.approx(9.51492e-6, rel=1e-6)
    assert min(law.fidelity(t) for t in range(1, 8)) == pytest.approx(1.0e-4, rel=0.05)


def test_the_sticky_bit_has_low_fidelity() -> None:
    found = [sticky_bit(10).fidelity(t) for t in range(1, 10)]
    assert (min(found), max(found)) == pytest.approx((0.0078, 0.0208), abs=5e-5)


def test_reveal_and_menu_have_their_check_values() -> None:
    law = reveal(8)
    assert [law.rank(t) for t in range(1, 8)] == [2, 4, 4, 4, 4, 4, 3]
    known = [0.1011, 0.0845, 0.0674, 0.0500, 0.0323, 0.0156, 0.0051]
    assert [law.fidelity(t) for t in range(1, 8)] == pytest.approx(known, abs=5e-5)
    assert (law.probabilities() ** 2).sum() == pytest.approx(0.002969, abs=5e-7)
    law = menu(4)
    assert [law.rank(t) for t in range(1, 4)] == [8, 8, 8]
    assert [law.fidelity(t) for t in (1, 2, 3)] == pytest.approx([0.545, 0.381, 0.175], abs=5e-4)
    assert (law.probabilities() ** 2).sum() == pytest.approx(0.024692, abs=5e-7)


def test_parity_is_the_noisy_parity_and_its_fidelity_is_not_low() -> None:
    law, same = parity(6, [2, 3], 0.2), NoisyParity(6, 0.2, secret=[2, 3])
    prefixes = list(itertools.product((0, 1), repeat=5))
    assert law.log_laws((), prefixes) == pytest.approx(same.log_laws((), prefixes), abs=1e-12)
    known = [1.0] * 3 + [0.36] * 3  # (1 − 2α)² behind the first index of the secret
    assert [law.fidelity(t) for t in range(6)] == pytest.approx(known, abs=1e-12)
    uniform = [noisy_parity.fidelity(same, t) for t in range(6)]
    assert uniform == pytest.approx(known, abs=1e-12)


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "spec", ["low_rank:K=3,H=4,S=2", "low_rank:K=2,H=4,law=bit", "low_rank:K=2,H=3,law=parity"]
)
def test_the_generator_keeps_the_protocol(spec: str) -> None:
    check_generator(lambda: parse(spec)(seed=1), length=3, draws=1000)


def test_specs_are_read_and_refused_in_words() -> None:
    law = parse("low_rank:K=3,law=reveal,d=0.1")(horizon=5)
    assert isinstance(law, LowRank)
    assert law.label == "low_rank:K=3,H=5,law=reveal,d=0.1"
    assert str(parse(law.label)) == "low_rank:K=3,H=5,law=reveal,d=0.1"
    for spec, message in (
        ("low_rank:K=3,H=5,law=revel", "Did you mean 'reveal'"),
        ("low_rank:K=2,H=5,law=reveal", "has K = 3, got K = 2"),
        ("low_rank:K=3,H=5,law=reveal,g=0.1", "has no parameter 'g'"),
        ("low_rank:K=2,H=5,law=bit,g=0.6", "g must lie in"),
        ("low_rank:K=2,H=5,S=0", "states S must be an integer"),
    ):
        with pytest.raises(InvalidInput, match=message):
            parse(spec)()


def test_kernels_that_are_no_law_are_refused() -> None:
    kernels = two_states(3).kernels
    for start, given in (
        ([0.5, 0.6], kernels),
        ([1.0], kernels),
        ([0.5, 0.5], -kernels),
        ([0.5, 0.5], kernels * 1.1),
    ):
        with pytest.raises(InvalidInput, match=r"sum to 1|shape"):
            LowRank(start, given)
    with pytest.raises(InvalidInput, match="too many to enumerate"):
        random_chain(30, 2).probabilities()
    with pytest.raises(InvalidInput, match="no distance"):
        total_variation(two_states(3).model, two_states(4).model)
    with pytest.raises(InvalidInput, match="at least one index"):
        parity(4, [])


def test_total_variation_by_draws_is_that_by_enumeration() -> None:
    a, b = two_states(5), sticky_bit(5)
    exact = a.total_variation(b)
    assert exact == pytest.approx(0.5 * np.abs(a.probabilities() - b.probabilities()).sum())
    # (1 − q/p)₊ lies in [0, 1]: Hoeffding, error rate 1e-9
    assert a.total_variation(b, draws=20_000) == pytest.approx(exact, abs=0.024)


def test_every_possible_string_is_rewarded() -> None:
    problem = menu(3).problem()
    assert problem.reward(Output((0, 1, 2), "", True)) == 1.0
    assert problem.reward(Output((0, 1), "", False)) == 0.0
    K = np.array([[[1.0]], [[0.0]]])
    assert LowRank([1.0], K, 2).problem().reward(Output((0, 1), "", True)) == 0.0
