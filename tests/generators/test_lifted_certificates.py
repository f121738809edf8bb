"""What reports leave open: rank, diameters of truncations, and what seeds and scores buy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reroot import BackendError, InvalidInput, Sampling
from reroot.generators import Tabular
from reroot.generators.law import log_normalize, most_likely, sampling_laws
from reroot.generators.lifted import Bias, Held, Lifted, LogitServer, Narrowed, formulas
from reroot.generators.lifted.by_lists import draw_by_scores
from reroot.generators.lifted.by_seeds import cumulative_by_seeds
from reroot.generators.lifted.certificates import (
    Call,
    min_p_diameter,
    other_law,
    top_p_diameter,
    truncation_diameter,
    truncation_loss,
)

P = np.array([0.35, 0.25, 0.2, 0.12, 0.08])


def listed(law: np.ndarray, bias: dict[int, float], k: int) -> tuple[list[int], np.ndarray]:
    """The ids and log-probabilities of a processed list."""
    shift = np.zeros(len(law))
    shift[list(bias)] = list(bias.values())
    biased = log_normalize(law + shift)
    ids = most_likely(biased[None], k)[0].tolist()
    return ids, biased[ids]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_too_few_lists_leave_another_law(k: int) -> None:
    """One call less than ⌈(K - 1)/k⌉, 40 random laws and adaptive biases: another law has the same reports."""
    rng = np.random.default_rng(k)
    for _ in range(40):
        law, calls = log_normalize(rng.normal(0, 2, 9)), list[Call]()
        for _ in range(math.ceil(8 / k) - 1):
            bias = {int(i): float(rng.uniform(0, 12)) for i in rng.choice(9, 4, replace=False)}
            calls.append(Call(bias, listed(law, bias, k)[0]))
        other = other_law(law, calls)
        assert other is not None
        assert np.abs(np.exp(other) - np.exp(law)).max() > 1e-9
        assert np.exp(other).sum() == pytest.approx(1.0)
        for call in calls:
            shift = np.zeros(9)
            shift[list(call.bias)] = list(call.bias.values())
            one, two = (log_normalize(x + shift)[list(call.tokens)] for x in (law, other))
            assert one == pytest.approx(two, abs=1e-11)


@pytest.mark.parametrize(("k", "drawn"), [(2, 0), (3, 0), (2, 2)])
def test_the_fewest_calls_determine_the_law(k: int, drawn: int) -> None:
    """⌈(K - 1)/(k + n)⌉ calls that show new tokens: rank K."""
    law = log_normalize(np.random.default_rng(0).normal(0, 1, 9))
    each = k + drawn
    batches = [list(range(i, min(8, i + each))) for i in range(0, 8, each)]
    calls = [Call(dict.fromkeys(batch, 9.0), batch) for batch in batches]
    assert len(calls) == math.ceil(8 / each)
    assert other_law(law, calls) is None
    assert other_law(law, calls[:-1]) is not None
    with pytest.raises(InvalidInput, match="impossible"):
        other_law(np.array([0.0, -np.inf]), calls)


def test_diameters_of_truncations() -> None:
    """Attained for top-k and min-p by a tail of nothing and one as high as it may be; never passed for top-p."""
    head, size = np.array([0.6, 0.4]), 6
    for q, bound in (
        (0.4, truncation_diameter(0.4, size, 2)),
        (0.3, min_p_diameter(0.6, size, 2, 0.5)),
    ):
        low = np.append(head, np.zeros(4))
        high = np.append(head, np.full(4, q))
        high /= high.sum()
        assert 0.5 * np.abs(low - high).sum() == pytest.approx(bound)
    rng, p = np.random.default_rng(0), 0.7
    bound, most, laws = top_p_diameter(0.4, size, 2, p), 0.0, [np.append(head, np.zeros(4))]
    for m in rng.uniform(p, 1.0, 300):
        tail = rng.dirichlet(np.ones(4)) * (1 - m)
        law = np.append(m * head, tail)
        if tail.max() <= m * 0.4 and m * 0.6 < p:
            shown = sampling_laws(np.log(law)[None], Sampling(1.0, p))[0]
            assert np.exp(shown[:2]) == pytest.approx(head)
            laws.append(law)
    for one, two in itertools.combinations(laws[:60], 2):
        most = max(most, 0.5 * float(np.abs(one - two).sum()))
    assert 0.5 * bound < most <= bound + 1e-12


@pytest.mark.parametrize("sampling", ["T=1,top_k=2", "T=1,top_p=0.7"])
def test_truncated_rollouts_as_they_are(sampling: str) -> None:
    tree, cut = Tabular.random(4, 3, seed=1), Sampling.parse(sampling)
    loss, tv, kl = truncation_loss(tree, cut, 3), 0.0, 0.0
    for y in itertools.product(range(4), repeat=3):
        laws = tree.log_laws((), [y[:t] for t in range(3)])
        there = sampling_laws(laws, cut)
        p, q = (float(x[np.arange(3), list(y)].sum()) for x in (laws, there))
        tv += 0.5 * abs(math.exp(p) - math.exp(q))
        kl += math.exp(q) * (q - p) if q > -np.inf else 0.0
    assert loss == pytest.approx((tv, kl))
    with pytest.raises(InvalidInput, match="temperature 1"):
        truncation_loss(tree, Sampling(2.0), 2)


def test_known_noise_gives_a_cumulative_value_by_bisection() -> None:
    for epsilon in (0.01, 1e-4):
        for token, known in enumerate(np.cumsum(P)[:-1].tolist()):
            held = Held(Narrowed(Tabular([P]), "chosen/sample"))
            found = cumulative_by_seeds(held.at(), token, epsilon)
            assert found.low <= known <= found.high <= found.low + 2 * epsilon
            assert found.calls == held.used.calls
            assert abs(found.calls - math.ceil(math.log2(1 / (2 * epsilon)))) <= 2


def test_other_noise_than_said_is_noticed_or_wrong() -> None:
    """A Gumbel-max race does not follow the uniforms: the bounds miss, or no seed is left."""
    server = LogitServer(Tabular([P]), "chosen/sample", Bias(1, 1.0), sampler="gumbel")
    missed = 0
    for token, known in enumerate(np.cumsum(P)[:-1].tolist()):
        try:
            found = cumulative_by_seeds(Held(server).at(), token, 0.01)
        except BackendError:
            missed += 1
        else:
            missed += not found.low <= known <= found.high
    assert missed >= 3


def test_draws_by_scores() -> None:
    """Chi-squared of 300 draws at error 1e-4; K·p₁ scores each, in 4.5 standard errors."""
    held = Held(Narrowed(Tabular([P]), "chosen/logprob"))
    place, rng = held.at(), np.random.default_rng(0)
    tokens = [draw_by_scores(place, math.log(0.35), rng) for _ in range(300)]
    assert stats.chisquare(np.bincount(tokens, minlength=5), 300 * P).pvalue > 1e-4
    price = 5 * 0.35
    band = 4.5 * math.sqrt(price * (price - 1) / 300)
    assert abs(held.used.calls / 300 - price) <= band
    with pytest.raises(InvalidInput, match="above the bound"):
        [draw_by_scores(place, math.log(0.1), rng) for _ in range(50)]


@pytest.mark.parametrize(("b", "most"), [(3, 20), (5, 26)])
def test_gaps_bisected_together(b: int, most: int) -> None:
    """Every gap ± ε, TV <= tanh(ε/2), in fewer calls than token by token and no fewer than the floor."""
    rng, epsilon = np.random.default_rng(b), 8 / 2**9
    p = np.exp(log_normalize(np.append(0.0, -rng.uniform(0, 8, b))))
    held = LogitServer(Tabular([p]), "chosen/argmax(1)", Bias(b, 10.0))
    lifted = Lifted(held, "chosen/full", by="together", gap=8.0, epsilon=epsilon)
    law = lifted.log_laws((), [()])[0]
    gaps = (law - law[0]) - np.log(p / p[0])
    assert np.abs(gaps).max() <= epsilon + 1e-12
    assert 0.5 * np.abs(np.exp(law) - p).sum() <= math.tanh(epsilon / 2)
    floor = formulas.bisection_floor(b + 1, 8.0, epsilon, b)
    assert lifted.price.value == floor
    assert floor <= lifted.used.calls <= most < formulas.bisection_calls(b + 1, 8.0, epsilon)
