"""Formulas of the experiments against enumeration: every value is recomputed from its definition.

"Exact" means within 1e-12 (1e-9 where alternating sums cancel); no test is statistical.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from reroot.experiments import formulas
from reroot.families import DecoyPath, HiddenPath, PathFamily
from reroot.limits import root_success

EXACT = 1e-12


def paths(K: int, H: int, p: float, k: int = 0, p0: float = 0.0) -> list[PathFamily]:
    """Every member of a family."""
    secrets = itertools.product(range(k, K), repeat=H)
    return [DecoyPath(K, H, k, p0, p, z) if k else HiddenPath(K, H, p, z) for z in secrets]


def stepwise(path: PathFamily) -> dict[tuple[int, ...], list[float]]:
    """Output → the probability of each of its tokens."""
    K, H = path.vocab_size, path.horizon
    prefixes = [u for t in range(H) for u in itertools.product(range(K), repeat=t)]
    laws = dict(zip(prefixes, np.exp(path.log_laws((), prefixes)), strict=True))
    return {
        y: [float(laws[y[:t]][y[t]]) for t in range(H)]
        for y in itertools.product(range(K), repeat=H)
    }


# ---- paths from the root ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "H", "N", "p", "k", "p0"),
    [(2, 2, 3, 0.6, 0, 0), (2, 3, 2, 0.7, 0, 0), (3, 2, 2, 0.5, 0, 0), (3, 2, 3, 0.4, 0, 0),
     (3, 1, 4, 0.5, 0, 0), (4, 2, 2, 0.3, 0, 0), (3, 3, 1, 0.5, 0, 0),
     (4, 2, 2, 0.36, 1, 0.4), (5, 1, 3, 0.4, 1, 0.41), (6, 1, 2, 0.26, 2, 0.27)],
)  # fmt: skip
def test_root_logprob_success_is_the_bayes_rule(
    K: int, H: int, N: int, p: float, k: int, p0: float
):
    """The likeliest path forced tokens and log-probabilities of N rollouts, over all of them."""
    likelihood: dict[object, list[float]] = defaultdict(list)
    members = paths(K, H, p, k, p0)
    for path in members:
        seen = stepwise(path)
        for rollouts in itertools.combinations_with_replacement(seen.items(), N):
            report = tuple((y, *(round(step, 9) for step in steps)) for y, steps in rollouts)
            counts = [len(list(group)) for _, group in itertools.groupby(report)]
            orders = math.factorial(N) // math.prod(map(math.factorial, counts))
            mass = math.prod(step for _, steps in rollouts for step in steps)
            likelihood[report].append(orders * mass)
    success = math.fsum(max(masses) for masses in likelihood.values()) / len(members)
    q = (1 - k * p0 - p) / (K - k - 1)
    assert formulas.root_logprob_success(N, K - k, H, p, q) == pytest.approx(success, abs=1e-9)


def test_root_logprob_success_at_two_tokens_is_that_of_laws():
    for N, H in [(1, 1), (1, 5), (10, 6), (1000, 12), (10**30, 40), (10**12, 60)]:
        exact = root_success(N, 2, H, 0.6)
        assert formulas.root_logprob_success(N, 2, H, 0.6, 0.4) == pytest.approx(exact, rel=1e-9)
        assert formulas.root_logprob_success(N, 4, H, 0.5, 1 / 6) <= root_success(N, 4, H, 0.5)


def plurality_failure(counts: dict[tuple[int, ...], int], z: tuple[int, ...], K: int) -> float:
    """Ties are broken uniformly, and where nothing is seen the token is guessed."""
    right, u = 1.0, ()
    for token in z:
        at = [sum(n for y, n in counts.items() if y[: len(u) + 1] == (*u, a)) for a in range(K)]
        right *= (at[token] == max(at)) / at.count(max(at))
        u = (*u, token)
    return 1 - right


@pytest.mark.parametrize(("K", "H", "p"), [(2, 2, 0.8), (2, 2, 0.65), (3, 1, 0.6), (2, 1, 0.7)])
def test_root_plurality_failure_bounds_the_failure(K: int, H: int, p: float):
    path = HiddenPath(K, H, p, seed=1)
    outputs = {y: math.prod(steps) for y, steps in stepwise(path).items()}
    q, bounds = (1 - p) / (K - 1), list[float]()
    for N in (1, 2, 5, 9, 14):
        failure = 0.0
        for some in itertools.product(range(N + 1), repeat=len(outputs) - 1):
            if sum(some) <= N:
                counts = (*some, N - sum(some))
                mass = stats.multinomial.pmf(counts, N, list(outputs.values()))
                failure += mass * plurality_failure(
                    dict(zip(outputs, counts, strict=True)), path.path, K
                )
        bounds.append(formulas.root_plurality_failure(N, K, H, p, q))
        assert failure <= bounds[-1] + EXACT
        assert N > 1 or failure > 0.1  # it is about something
    assert bounds == sorted(bounds, reverse=True)
    mixture = [  # the bound is Chernoff's for each rival, averaged over the visits
        sum(stats.binom.pmf(n, 5, p**t) * (1 - (math.sqrt(p) - math.sqrt(q)) ** 2) ** n
            for n in range(6))
        for t in range(H)
    ]  # fmt: skip
    assert bounds[2] == pytest.approx((K - 1) * sum(mixture), rel=1e-12)


def test_rollouts_for_is_the_least_number():
    assert formulas.rollouts_for(0.95, lambda n: 1 - 0.5**n) == 5
    assert formulas.rollouts_for(0.5, lambda n: 1.0) == 1  # never 0
    for success in (0.1, 0.5, 0.95):

        def reached(n: int) -> float:
            return formulas.root_logprob_success(n, 3, 4, 0.5, 0.25)

        least = formulas.rollouts_for(success, reached)
        assert reached(least) >= success
        assert least == 1 or reached(least - 1) < success


# ---- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 2, 3, 5])
@pytest.mark.parametrize(("L", "x"), [(1, 0.3), (2, 0.5), (3, 0.2), (4, 0.25)])
def test_all_met_by_enumeration(N: int, L: int, x: float):
    law = [*[x] * L, 1 - L * x]
    met = math.fsum(
        math.prod(law[i] for i in draw)
        for draw in itertools.product(range(L + 1), repeat=N)
        if set(range(L)) <= set(draw)
    )
    assert formulas.all_met(N, L, x) == pytest.approx(met, abs=EXACT)


def test_all_met_in_the_limits():
    assert formulas.all_met(0, 3, 0.2) == 0
    assert formulas.all_met(29, 30, 1e-4) == pytest.approx(0, abs=1e-6)  # less than one each
    assert formulas.all_met(10**9, 40, 0.02) == pytest.approx(1)
    assert formulas.all_met(1, 1, 1.0) == 1


@pytest.mark.parametrize("tokens", [0, 1, 2, 7])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_waiting_quantile_by_counting_hits(tokens: int, p: float):
    """n draws suffice if they hold that many hits: a binomial tail."""
    for success in (0.01, 0.5, 0.95, 0.999):
        n = 0
        while stats.binom.sf(tokens - 1, n, p) < success:
            n += 1
        assert formulas.waiting_quantile(tokens, p, success) == n


def scored(n: int, p: float, q: float) -> dict[int, float]:
    """Queries for one token of ``logprob_walk`` with RESET: each place of it, each first draw."""
    law = defaultdict[int, float](float)
    for z, drawn in itertools.product(range(n), range(n + 1)):  # n: a decoy
        mass = (p if drawn == z else q if drawn < n else 1 - p - (n - 1) * q) / n
        left = [a for a in range(n) if a != drawn]
        scores = 0 if drawn == z else min(left.index(z) + 1, len(left) - 1)
        law[1 + scores] += mass
    return law


def quantiles(laws: Sequence[dict[int, float]]) -> list[tuple[int, float]]:
    """(n, Pr(sum <= n)) for independent variables."""
    total: dict[int, float] = {0: 1.0}
    for law in laws:
        grown = defaultdict[int, float](float)
        for (a, x), (b, y) in itertools.product(total.items(), law.items()):
            grown[a + b] += x * y
        total = grown
    steps = sorted((n, mass) for n, mass in total.items() if mass > EXACT)
    return list(zip([n for n, _ in steps], np.cumsum([m for _, m in steps]), strict=True))


@pytest.mark.parametrize(
    ("n", "H", "p", "q"),
    [(2, 4, 0.6, 0.4), (3, 3, 0.5, 0.25), (4, 2, 0.4, 0.2), (6, 4, 0.2, 0.06), (3, 2, 0.36, 0.12)],
)
def test_scoring_quantile_by_enumeration(n: int, H: int, p: float, q: float):
    steps, below = quantiles([scored(n, p, q)] * H), 0.0
    for queries, reached in steps:  # levels inside every step of the law
        for share in (0.01, 0.99):
            level = below + share * (reached - below)
            assert formulas.scoring_quantile(n, H, p, q, level) == queries
        below = reached
    assert steps[-1][1] == pytest.approx(1, abs=EXACT)


def test_scoring_quantile_at_two_tokens_is_one_query_each():
    assert formulas.scoring_quantile(2, 16, 0.6, 0.4, 0.999) == 16


@pytest.mark.parametrize(("coupons", "each"), [(0, 0.3), (1, 0.3), (2, 0.5), (3, 0.25), (4, 0.1)])
def test_collecting_law_is_that_of_the_chain(coupons: int, each: float):
    law = formulas.collecting_law(coupons, each)
    have = np.zeros(coupons + 1)  # how many were drawn
    have[0], before = 1.0, 0.0
    for n, mass in enumerate(law):
        assert mass == pytest.approx(have[-1] - before, abs=1e-11)
        before = have[-1]
        new = (coupons - np.arange(coupons + 1)) * each
        have = have * (1 - new) + np.append(0, (have * new)[:-1])
        assert n or mass == (coupons == 0)
    assert law.sum() == pytest.approx(1, abs=2e-12)
    mean = sum(1 / (j * each) for j in range(1, coupons + 1))
    assert law @ np.arange(len(law)) == pytest.approx(mean, rel=1e-8)


def test_quantile_by_enumeration():
    laws = [np.array([0.0, 0.3, 0.7]), np.array([0.25, 0.0, 0.0, 0.75]), np.array([0.5, 0.5])]
    below = 0.0
    for n, reached in quantiles([dict(enumerate(law)) for law in laws]):
        for share in (1e-6, 0.5, 1 - 1e-6):
            assert formulas.quantile(list(laws), below + share * (reached - below)) == n
        below = reached
    assert formulas.quantile([np.array([0.5, 0.25, 0.25])], 0.5) == 0  # reached, not passed
    assert formulas.quantile([], 0.5) == 0


# ---- parities --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "N"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 4), (3, 2), (3, 3), (3, 4)]
)
def test_elimination_success_over_all_matrices(d: int, N: int):
    """2^-r at corank r: one of the 2^r solutions."""
    vectors = list(itertools.product((0, 1), repeat=d))
    total = 0.0
    for rows in itertools.product(vectors, repeat=N):
        zeros = sum(
            all(sum(a * b for a, b in zip(x, s, strict=True)) % 2 == 0 for x in rows)
            for s in vectors
        )
        total += 1 / zeros
    assert formulas.elimination_success(N, d) == pytest.approx(total / 2 ** (d * N), abs=EXACT)


def test_elimination_success_without_rollouts_and_with_many():
    assert formulas.elimination_success(0, 5) == 2.0**-5
    assert formulas.elimination_success(200, 64) == pytest.approx(1)
    for spare in range(8):  # the span is all but for 2^-spare
        assert formulas.elimination_success(30 + spare, 30) >= 1 - 2.0**-spare


def best_guess(d: int, alpha: float, n: int) -> float:
    """Bayes success with n noisy parities of a uniform secret ≠ 0, over all samples."""
    secrets = [s for s in itertools.product((0, 1), repeat=d) if any(s)]
    cells = [(x, b) for x in itertools.product((0, 1), repeat=d) for b in (0, 1)]
    odds = np.array(
        [[(1 - alpha if sum(a * b for a, b in zip(x, s, strict=True)) % 2 == bit else alpha) / 2**d
          for x, bit in cells] for s in secrets]
    )  # fmt: skip
    joint = odds
    for _ in range(n - 1):
        joint = (joint[:, :, None] * odds[:, None, :]).reshape(len(secrets), -1)
    return float(joint.max(axis=0).sum() / len(secrets))


@pytest.mark.parametrize(
    ("d", "alpha", "success"), [(2, 0.2, 0.95), (2, 0.3, 0.95), (3, 0.1, 0.9), (4, 0.2, 0.6)]
)
def test_parity_floor_holds_for_the_bayes_rule(d: int, alpha: float, success: float):
    least = formulas.parity_floor(d, alpha, success)
    assert least > 1
    most = min(least - 1, {2: 6, 3: 4, 4: 3}[d])
    assert all(best_guess(d, alpha, n) < success for n in range(1, most + 1))
    entropy = stats.bernoulli(alpha).entropy()
    fano = success * math.log(2**d - 1) - math.log(2)
    assert (least - 1) * (math.log(2) - entropy) < fano <= least * (math.log(2) - entropy)
    assert formulas.parity_floor(1, alpha, success) == 0  # a single secret


@pytest.mark.parametrize("d", [2, 5, 11, 63])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.4])
@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_likelihood_draws_are_a_guarantee(d: int, alpha: float, delta: float):
    """A wrong secret scores less by Σ ±1, over the parities in which the two differ: exact tail."""
    n = formulas.likelihood_draws(d, alpha, delta)
    differ = np.arange(n + 1)
    share = stats.binom.pmf(differ, n, 0.5)
    beaten = share @ stats.binom.sf(np.ceil(differ / 2) - 1, differ, alpha)  # flips >= half: D <= 0
    assert (2**d - 2) * beaten <= delta
    rate = 0.5 + math.sqrt(alpha * (1 - alpha))
    assert 2**d * rate**n <= delta < 2**d * rate ** (n - 1)


# ---- bands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 20, 60])
@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("error", [0.1, 1e-3, 1e-6])
def test_bands_hold_what_they_say(n: int, p: float, error: float):
    law = stats.binom(n, p)
    inside = [k for k in range(n + 1) if formulas.inside(k, n, p, error)]
    assert law.pmf(inside).sum() >= 1 - error - EXACT
    assert inside == list(range(inside[0], inside[-1] + 1))
    for end, tail in ((inside[0], law.cdf(inside[0])), (inside[-1], law.sf(inside[-1] - 1))):
        assert tail >= error / 2 or end in (0, n)  # no wider than that
    most = [k for k in range(n + 1) if formulas.at_most(k, n, p, error)]
    assert law.sf(most[-1]) <= error + EXACT
    assert most == list(range(most[-1] + 1))
    assert most[-1] == 0 or law.sf(most[-1] - 1) > error
    assert formulas.inside(n, n, 1.0 + 1e-9, error)  # what rounding does to a certainty
