"""Whether draws follow the stated law: error rates by enumeration, power on what servers do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import gammaln

from hidden_laws import DEFAULTS, drawn, everywhere, flat, sampled, shapes
from reroot.errors import InvalidInput
from reroot.probe import sampling_law
from reroot.probe.sampling_law import Drawn, follows, surprisal


def multinomials(n: int, k: int):
    """All counts of k outcomes that sum to n."""
    for bars in itertools.combinations(range(n + k - 1), k - 1):
        yield np.diff([-1, *bars, n + k - 1]) - 1


def exact_p_values(p: np.ndarray, n: int, listed: int) -> tuple[np.ndarray, np.ndarray]:
    """The p-value of every outcome of n draws, and the probability of each."""
    values, masses = [], []
    for counts in multinomials(n, len(p)):
        tokens = np.repeat(np.arange(len(p)), counts)
        one = Drawn(np.arange(listed), np.log(p[:listed]), tokens, (), len(p))
        values.append(follows(one, 0.5).p_value)
        masses.append(
            np.exp(gammaln(n + 1) - gammaln(counts + 1).sum() + (counts * np.log(p)).sum())
        )
    return np.array(values), np.array(masses)


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("p", "n", "listed"), [([0.5, 0.3, 0.2], 20, 3), ([0.6, 0.3, 0.1], 14, 2), ([0.9, 0.1], 60, 2)]
)
def test_no_level_is_exceeded(p: list[float], n: int, listed: int) -> None:
    """Over all outcomes: the p-value is below a with probability at most a; and it is not idle."""
    values, masses = exact_p_values(np.array(p), n, listed)
    assert masses.sum() == pytest.approx(1)
    for level in np.unique(values):
        assert masses[values <= level].sum() <= level * (1 + 1e-3)
    assert masses[values <= 0.1].sum() > 0.01


def test_the_convolution_is_that_of_the_sum() -> None:
    """Two draws, of tokens whose surprisals are on the lattice: the p-value is twice the smaller tail."""
    step = sampling_law._MOST / sampling_law._STEPS
    p = np.exp(-step * np.array([3.0, 6.0]))
    law = np.append(p, 0.0) / p.sum()
    for ranks, side in (([0, 0], law[0] ** 2), ([1, 1], law[1] ** 2)):
        assert surprisal([law], [np.array(ranks)])[1] == pytest.approx(2 * side, abs=1e-10)


def test_far_tails_are_bounds_and_no_rounding() -> None:
    """400 draws of a token with probability 0.6: at least 0.6⁴⁰⁰, and not much more."""
    law = np.array([0.6, 0.25, 0.15, 0.0])
    p = surprisal([law], [np.zeros(400, dtype=int)])[1]
    assert 0.6**400 <= p < 0.6**400 * 100


def test_llama_server_is_found_and_an_honest_server_is_not_accused() -> None:
    """The rows of the table of servers: 200 draws at about 5.6 nats, by default and with all neutral."""
    logs = flat(1500, np.random.default_rng(0), 1.2)
    entropy = -float(np.exp(logs) @ logs)
    assert entropy == pytest.approx(5.65, abs=0.2)
    rng = np.random.default_rng(1)
    for settings, honest in (
        ({}, True),
        (DEFAULTS, False),
        (DEFAULTS | {"temperature": 1.0}, False),
    ):
        for listed in (None, 100, 20):
            p = sampled(logs, **settings)
            found = follows(drawn(logs, p, 200, rng, listed), 1e-6)
            assert found.holds is honest, found
    law, draws = (
        np.append(np.exp(logs), 0.0),
        rng.choice(len(logs), 200, p=sampled(logs, **DEFAULTS)),
    )
    assert surprisal([law], [draws])[0] < -10


def test_exchanged_tokens_are_seen_in_the_counts_alone() -> None:
    logs = flat(300, np.random.default_rng(0))
    p = np.exp(logs)
    p[:10] = p[:10][::-1].copy()
    one = drawn(logs, p, 2000, np.random.default_rng(1))
    ranks = [one.ranks()]
    assert not follows(one, 1e-4).holds
    assert sampling_law.top_counts([one.law()], ranks)[1] < 1e-6
    assert sampling_law.never_drawn([one.law()], ranks) > 0.01


def test_small_departures_add_up_over_prefixes() -> None:
    """A cut of the last 1 % is nothing at one prefix with 100 draws, and plain at thirty."""
    laws = [flat(200, np.random.default_rng(i)) for i in range(30)]
    cut = everywhere(laws, [100] * 30, 0, top_p=0.97)
    assert follows(cut[0], 1e-4).holds
    assert not follows(cut, 1e-4).holds


def test_single_draws_along_outputs_are_a_sample() -> None:
    laws = shapes(400) * 15
    assert follows(everywhere(laws, [1] * len(laws), 3), 0.01).holds
    assert not follows(everywhere(laws, [1] * len(laws), 3, **DEFAULTS), 1e-3).holds


def test_what_cannot_be_drawn_was_not() -> None:
    stated = np.array([np.log(0.5), np.log(0.5), -np.inf])
    one = Drawn(np.arange(3), stated, np.array([0, 1, 2, 1]), (), 3)
    assert follows(one, 1e-9).p_value == 0


def test_rounded_lists_are_no_fault() -> None:
    """Log-probabilities to four digits, which sum to a little more than 1."""
    logs = np.round(flat(500, np.random.default_rng(2)), 4) + 2e-5
    one = drawn(logs, np.exp(logs) / np.exp(logs).sum(), 2000, np.random.default_rng(3))
    assert follows(one, 0.01).holds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ids": [0, 0]}, "twice"),
        ({"ids": [0, 7]}, "0…2"),
        ({"tokens": [3]}, "0…2"),
        ({"logprobs": [-1.0]}, "one log-probability per token"),
        ({"logprobs": [-2.0, -1.0]}, "sorted"),
        ({"logprobs": [0.5, -1.0]}, "<= 0"),
        ({"logprobs": [-1.0, np.nan]}, "nan"),
        ({"vocab": 0}, "vocab"),
        ({"generated": 5}, "generated"),
    ],
)
def test_what_is_no_law_is_refused(given: dict[str, object], said: str) -> None:
    fine = {"ids": [0, 1], "logprobs": [-0.5, -1.0], "tokens": [0], "prefix": (1,), "vocab": 3}
    with pytest.raises(InvalidInput, match=said):
        Drawn(**(fine | given))  # type: ignore[arg-type]


def test_nothing_drawn_is_refused() -> None:
    one = Drawn(np.array([0]), np.array([-0.1]), np.array([], dtype=int), (), 3)
    with pytest.raises(InvalidInput, match="nothing was drawn"):
        follows(one, 0.01)
    with pytest.raises(InvalidInput, match="level"):
        follows(one.take(np.array([0])), 1.5)
