"""Learners that look inside the generator: latent exploration, and coresets of representations.

Laws of latent exploration come from every sequence of its own coins, and are compared with the product of
its mixtures, written here from its definition, within 1e-12.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reroot
from coins import law_of_coins
from reroot import Budget, Prefix
from reroot.generators.base import ShowsHiddenStates
from reroot.generators.layered import LayeredTree
from reroot.generators.tabular import Tabular
from reroot.learners.root_start import best_of_n
from reroot.learners.sampling.latent_exploration import latent_exploration, step_law
from reroot.learners.sampling.representation_coreset import (
    coreset,
    projected,
    representation_coreset,
)
from reroot.randomness import keyed_rng
from reroot.tasks.base import Problem
from reroot.testing import enumerate_runs, largest_difference, output_law
from reroot.types import Output

EXACT = 1e-12


def nothing(output: Output) -> float:
    """The reward of problems whose reward does not matter."""
    return 0.0


# ---- latent exploration -------------------------------------------------------------------------


def mixture(layers: list[list[float]], k: int, renormalize: bool) -> list[float]:
    """The law of a step, token by token; ``layers`` are probabilities, the last one is P."""
    own = layers[-1]
    best = sorted(range(len(own)), key=lambda a: (-own[a], a))[:k]
    sums: list[list[float]] = []
    for j in range(1, len(layers) + 1):
        total = [0.0] * len(own)
        for layer in layers[len(layers) - j :]:
            mass = math.fsum(layer[a] for a in best) if renormalize else 1.0
            for a in best:
                total[a] += layer[a] / mass
        size = math.fsum(total)
        sums.append([x / size for x in total])
    entropies = [-math.fsum(x * math.log(x) for x in s if x > 0) for s in sums]
    explored = sums[entropies.index(max(entropies))]
    top = max(own)
    return [top * x + (1 - top) * q for x, q in zip(own, explored, strict=True)]


def closed_form(
    generator: ShowsHiddenStates, prompt: tuple[int, ...], ends: frozenset[int], horizon: int, d: int,
    k: int, renormalize: bool,
) -> dict[tuple[int, ...], float]:  # fmt: skip
    law: dict[tuple[int, ...], float] = {}
    stack: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while stack:
        prefix, probability = stack.pop()
        if len(prefix) == horizon or (prefix and prefix[-1] in ends):
            law[prefix] = probability
            continue
        rows = np.exp(np.asarray(generator.layer_laws([prompt], [prefix], d)[0], dtype=np.float64))
        layers = [(row / row.sum()).tolist() for row in rows]
        for token, p in enumerate(mixture(layers, k, renormalize)):
            if p > 0:
                stack.append(((*prefix, token), probability * p))
    return law


@pytest.mark.slow(1)
@settings(max_examples=12)
@given(
    st.integers(2, 3),
    st.integers(0, 10**6),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
)
def test_latent_exploration_is_a_product_of_mixtures(
    vocab: int, seed: int, ends: bool, k: int, d: int, renormalize: bool
) -> None:
    """Layers with laws that hold zeros too."""
    end = (vocab - 1,) if ends else ()
    # concentrated layers: some are sure, so that all orders of entropies occur
    layers = [Tabular.random(vocab, 3, seed + i, 0.4, end=end) for i in range(3)]
    stack = LayeredTree(layers)
    bound = latent_exploration(k=k, d=d, renormalize=renormalize)
    law = law_of_coins(bound, Problem("p", (), 3, nothing), stack)
    known = closed_form(stack, (), frozenset(end), 3, d, k, renormalize)
    assert math.fsum(law.values()) == pytest.approx(1, abs=EXACT)
    assert largest_difference(law, known) <= EXACT


def test_which_layers_are_explored() -> None:
    """By hand: P = (.7, .2, .1, 0), A = {0, 1}; the layer before is flat on A, the first is not."""
    laws = np.array([[0.01, 0.01, 0.0, 0.98], [0.3, 0.3, 0.4, 0.0], [0.7, 0.2, 0.1, 0.0]])
    with np.errstate(divide="ignore"):
        logs = np.log(laws)
    sums = {1: [0.7, 0.2], 2: [1.0, 0.5], 3: [1.01, 0.51]}  # 3: 0.336 of the mass on 1; 2: 0.333
    explored = np.array(sums[3]) / sum(sums[3])
    known = 0.7 * laws[-1] + 0.3 * np.array([*explored, 0, 0])
    assert step_law(logs, 2) == pytest.approx(known, abs=EXACT)
    # as probability vectors: (7/9, 2/9), + (1/2, 1/2), + (1/2, 1/2)
    explored = np.array([7 / 9 + 1, 2 / 9 + 1]) / 3
    known = 0.7 * laws[-1] + 0.3 * np.array([*explored, 0, 0])
    assert step_law(logs, 2, renormalize=True) == pytest.approx(known, abs=EXACT)
    assert step_law(logs, 1) == pytest.approx(0.7 * laws[-1] + 0.3 * np.array([1, 0, 0, 0]))


def test_a_layer_that_puts_nothing_on_what_is_explored() -> None:
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([[0.0, 0.0, 1.0], [0.6, 0.4, 0.0]]))
    for renormalize in (False, True):
        known = 0.6 * np.array([0.6, 0.4, 0]) + 0.4 * np.array([0.6, 0.4, 0])
        assert step_law(logs, 2, renormalize) == pytest.approx(known, abs=EXACT)


def test_one_question_and_one_state_per_token() -> None:
    """Also where no budget is left for the next one: the tokens so far are returned."""
    stack = LayeredTree([Tabular.random(3, 5, seed=1), Tabular.random(3, 5, seed=2)])
    task = Problem("p", (0,), 4, nothing)
    run = reroot.run(latent_exploration(), [task], stack, grants="reset/none+hidden")
    cost = run.attempts[0].cost
    assert (cost.queries, cost.tokens, cost.hidden_states, cost.rollouts) == (4, 4, 4, 0)
    assert cost.prefill == 1 + 2 + 3 + 4
    short = reroot.run(
        *(latent_exploration(), [task], stack),
        grants="reset/none+hidden",
        budget=Budget(hidden_states=2),
    )
    whole = run.attempts[0].output
    assert whole is not None
    assert short.attempts[0].output == whole[:2]


def test_latent_exploration_of_a_language_model() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny_lm
    from reroot.generators.transformers import Transformers

    generator = Transformers((tiny_lm.model("llama", vocab=6), tiny_lm.tokenizer(6)))
    task = Problem("p", (3, 5), 2, nothing)
    ends = generator.stops(()).tokens
    for k, renormalize in ((3, False), (20, True)):
        law = law_of_coins(latent_exploration(k=k, renormalize=renormalize), task, generator)
        assert len(law) == 1 + 5 * 6  # one output is the end token alone
        known = closed_form(generator, (3, 5), ends, 2, 8, k, renormalize)
        assert largest_difference(law, known) <= EXACT


# ---- coresets of representations ----------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 14), st.integers(0, 10**6),
       st.sampled_from([0.01, 1.0, 30.0]))  # fmt: skip
def test_picks_are_those_of_inverses_from_scratch(
    n: int, width: int, k: int, seed: int, ridge: float
) -> None:
    features = keyed_rng((seed, 0)).normal(size=(n, width))
    picked: list[int] = []
    for _ in range(min(k, n)):
        chosen = features[picked]
        inverse = np.linalg.inv(ridge * np.eye(width) + chosen.T @ chosen)
        bonus = {i: features[i] @ inverse @ features[i] for i in range(n) if i not in picked}
        picked.append(max(bonus, key=lambda i: bonus[i]))
    assert coreset(features, k, ridge) == picked


def test_projections_keep_inner_products_on_average() -> None:
    """E[(xR)·(yR)] = x·y; with 4000 projections the means lie within 5 deviations (error < 1e-5)."""
    rng = keyed_rng((1, 2))
    pair = np.array([[1.0, 2.0, 0.0, -1.0, 0.5], [0.5, 1.0, 1.0, 1.0, 0.0]])
    seen = np.array([(p @ p.T)[[0, 0, 1], [0, 1, 1]] for p in (projected(pair, 2, rng) for _ in range(4000))])  # fmt: skip
    known = (pair @ pair.T)[[0, 0, 1], [0, 1, 1]]
    assert (np.abs(seen.mean(axis=0) - known) < 5 * seen.std(axis=0) / math.sqrt(4000)).all()
    assert projected(pair, 2, rng).shape == (2, 2)
    for dims in (None, 5, 512):
        assert projected(pair, dims, rng) is pair


RARE = 3
LAW = [0.5, 0.3, 0.15, 0.05]


def rare() -> tuple[LayeredTree, Problem]:
    """Outputs of one token, told apart by their features; the right one is rare."""
    return LayeredTree([Tabular([LAW])]), Problem("p", (), 1, lambda o: float(o.tokens == (RARE,)))


@pytest.mark.slow(1)
def test_what_is_drawn_is_found_with_few_rewards() -> None:
    """In closed form: it passes iff the right token is among the first k distinct ones drawn."""
    tree, task = rare()
    for k in (2, 3, 4):
        bound = representation_coreset(n=4, k=k)
        runs = enumerate_runs(bound, task, tree, grants=bound.requires)
        assert all((r.attempt.cost.rewards, r.attempt.cost.hidden_states) == (k, 4) for r in runs)
        drawn = 0.0
        for tokens in itertools.product(range(4), repeat=4):
            if RARE in list(dict.fromkeys(tokens))[:k]:
                drawn += math.prod(LAW[t] for t in tokens)
        assert output_law(runs)[RARE,] == pytest.approx(drawn, abs=EXACT)
        assert drawn >= 1 - 0.95**k - EXACT  # the law of best-of-k; equal for k = n alone
    assert drawn == pytest.approx(1 - 0.95**4, abs=EXACT)


@pytest.mark.slow
def test_fewer_rewards_than_best_of_n() -> None:
    """60 rollouts judged by 4 rewards pass as often as by 60; 300 problems, errors < 1e-6."""
    tree, task = rare()
    problems = [Problem(f"{i}", (), 1, task.reward) for i in range(300)]
    grants = "root/sample+reward+hidden"
    run = reroot.run(representation_coreset(n=60, k=4), problems, tree, grants=grants)
    every = reroot.run(best_of_n(n=60), problems, tree, grants=grants)
    few = reroot.run(best_of_n(n=4), problems, tree, grants=grants)
    # the same rollouts, so the same attempts pass
    assert [a.passed for a in run.attempts] == [a.passed for a in every.attempts]
    assert run.pass_rate > 0.85  # 1 - 0.95⁶⁰ = 0.954
    assert few.pass_rate < 0.35  # 1 - 0.95⁴ = 0.185
    assert (run.cost.rewards, every.cost.rewards) == (4 * 300, 60 * 300)


def test_the_verifier_judges_too_and_projections_are_of_the_session() -> None:
    tree = LayeredTree([Tabular.random(3, 4, seed=3, end=(2,))])
    right = (0, 1, 2)
    tasks = [
        Problem(f"{i}", (), 4, lambda o: float(o.tokens == right),
                verifier=lambda o: o.tokens == right[: len(o.tokens)])
        for i in range(20)
    ]  # fmt: skip
    bound = representation_coreset(n=12, k=3, dims=2, oracle="verifier")
    run = reroot.run(bound, tasks, tree, grants=bound.requires)
    again = reroot.run(bound, tasks, tree, grants=bound.requires, concurrency=1)
    assert run.attempts == again.attempts
    assert all(a.error is None and a.cost.rewards == 0 for a in run.attempts)
    assert max(a.cost.verifications for a in run.attempts) <= 3 * 3


@pytest.mark.parametrize(
    ("budget", "judged"),
    [(Budget(hidden_states=0), 2), (Budget(hidden_states=3), 2), (Budget(rewards=1), 1)],
)
def test_what_the_budget_allows(budget: Budget, judged: int) -> None:
    """Without features the first rollouts are judged."""
    tree, task = rare()
    bound = representation_coreset(n=6, k=2)
    attempt = reroot.run(bound, [task], tree, grants=bound.requires, budget=budget).attempts[0]
    assert attempt.error is None
    assert isinstance(attempt.output, Prefix)
    assert (attempt.cost.rollouts, attempt.cost.rewards) == (6, judged)
