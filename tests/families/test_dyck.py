"""Dyck strings with noise against enumeration, dynamic programs over prefixes, and their definition.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import reroot
from reroot import InvalidInput, Report
from reroot.cli import listing as catalog
from reroot.families import Dyck, DyckError, ErrorKind, parse
from reroot.families.many import ensemble
from reroot.generators.base import Request
from reroot.generators.tabular import Tabular
from reroot.learners.verified import tokenwise_rejection
from reroot.objective.tree import Tree
from reroot.runs.workload import build_workload
from reroot.tasks.judges import check, score
from reroot.testing import check_generator
from reroot.types import Output

Tokens = tuple[int, ...]
SMALL = [
    Dyck(6, (0.2, 0.8), 2, 0.1),
    Dyck(6, (0.2, 0.8), 12, 0.3),
    Dyck(4, (0.5, 0.2, 0.3), 1, 0.4),
    Dyck(8, (1.0,), 2, 0.25),
    Dyck(6, (0.2, 0.8), 3, 1.0),
    Dyck(6, (0.2, 0.8), 3, 0.0),
    Dyck(2, (0.3, 0.7), 5, 0.5),
]


def is_valid(g: Dyck, y: Tokens) -> bool:
    """By definition, with text: erase innermost pairs until nothing is left."""
    heights = np.cumsum([1 if a % 2 == 0 else -1 for a in y])
    rest = list(y)
    i = 0
    while i + 1 < len(rest):
        if rest[i] % 2 == 0 and rest[i + 1] == rest[i] + 1:
            del rest[i : i + 2]
            i = max(0, i - 1)
        else:
            i += 1
    return not rest and len(y) == g.horizon and int(heights.max()) <= g.depth


def all_strings(g: Dyck, length: int) -> list[Tokens]:
    return list(itertools.product(range(g.vocab_size), repeat=length))


def law_by_definition(g: Dyck, u: Tokens) -> np.ndarray:
    """(K,) probabilities: the stack rule of Botta et al., and noise."""
    uniform = np.full(g.vocab_size, 1 / g.vocab_size)
    stack: list[int] = []
    left = g.horizon - len(u)
    if not any(is_valid(g, u + v) for v in all_strings(g, left)):
        return uniform
    for a in u:
        stack.pop() if a % 2 else stack.append(a // 2)
    if not stack:
        close = 0.0
    elif len(stack) in (left, g.depth):
        close = 1.0
    else:
        close = 0.5
    law = np.zeros(g.vocab_size)
    law[::2] = (1 - close) * np.array(g.types)
    if stack:
        law[2 * stack[-1] + 1] = close
    return (1 - g.noise) * law + g.noise * uniform


def noisy(noise: float, seed: int = 0) -> Dyck:
    return Dyck(32, (0.2, 0.8), 12, noise, seed)


# ---- the law -----------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [g for g in SMALL if g.vocab_size**g.horizon <= 4096], ids=str)
def test_the_law_by_definition_at_every_prefix(g: Dyck) -> None:
    for length in range(g.horizon):
        prefixes = all_strings(g, length)
        known = np.array([law_by_definition(g, u) for u in prefixes])
        np.testing.assert_allclose(np.exp(g.log_laws((), prefixes)), known, atol=1e-15)


@pytest.mark.parametrize("g", SMALL, ids=str)
def test_exact_quantities_by_enumeration(g: Dyck) -> None:
    tree = Tree.of(g, horizon=g.horizon, limit=200_000)
    p = np.exp(tree.log_probabilities())
    valid = np.array([is_valid(g, y) for y in tree.outputs])
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert sum(is_valid(g, y) for y in all_strings(g, g.horizon)) == g.valid_strings
    assert p[valid].sum() == pytest.approx(np.exp(g.log_valid), abs=1e-12)
    if g.noise == 0:
        assert len(tree.outputs) == g.valid_strings
        assert valid.all()
        assert g.log_valid == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("g", SMALL, ids=str)
def test_the_verifier_says_whether_some_completion_is_valid(g: Dyck) -> None:
    right = {y for y in all_strings(g, g.horizon) if is_valid(g, y)}
    problem = g.problem()
    for length in range(g.horizon + 1):
        completable = {y[:length] for y in right}
        for u in all_strings(g, length):
            output = Output(u, "", length == g.horizon)
            assert check(problem, output) == (g.error_of(u) is None) == (u in completable)
            assert score(problem, output) == float(u in right)


def test_valid_strings_are_catalan_numbers_of_types() -> None:
    for n in (1, 5, 16):
        catalan = math.comb(2 * n, n) // (n + 1)
        assert Dyck(2 * n, depth=n).valid_strings == catalan * 2**n
        assert Dyck(2 * n, (1.0,), depth=n).valid_strings == catalan
        assert Dyck(2 * n, (0.5, 0.25, 0.25), depth=1).valid_strings == 3**n
    assert Dyck(32).valid_strings < math.comb(32, 16) // 17 * 2**16  # depth 12 binds


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3, 1.0])
def test_at_length_32_all_mass_is_counted_once(noise: float) -> None:
    """Mass over depths, from laws asked at one prefix for each; errors and valid strings sum to 1."""
    g = noisy(noise)
    mass, wrong = {0: 1.0}, 0.0
    for t in range(32):
        after: dict[int, float] = {}
        for depth, p in mass.items():
            u = (0, 1) * ((t - depth) // 2) + (2, 0, 2) * 6
            u = u[:t]  # the last ``depth`` tokens open, of both types
            assert g.error_of(u) is None
            for token, q in enumerate(np.exp(g.log_laws((), [u])[0]).tolist()):
                if g.error_of((*u, token)) is None:
                    step = depth + (-1 if token % 2 else 1)
                    after[step] = after.get(step, 0.0) + p * q
                else:
                    wrong += p * q
        mass = after
    assert set(mass) == {0}
    assert mass[0] + wrong == pytest.approx(1, abs=1e-12)
    assert math.log(mass[0]) == pytest.approx(g.log_valid, abs=1e-12)
    if noise == 1:
        assert mass[0] == pytest.approx(g.valid_strings / 4**32, rel=1e-12)


def test_log_probabilities_of_rollouts_are_sums_of_laws() -> None:
    g = noisy(0.2)
    n = 4000
    (reply,) = g.answer([Request((), n=n, length=32, report=Report.LOGPROB, key=(5, 5))])
    outputs = [tuple(y) for y in reply.tokens.tolist()]
    for i in range(5):
        laws = g.log_laws((), [outputs[i][:t] for t in range(32)])
        known = laws[np.arange(32), outputs[i]].sum()
        assert reply.total_logprobs()[i] == pytest.approx(known, abs=1e-12)
    passed = sum(is_valid(g, y) for y in outputs)
    assert stats.binomtest(passed, n, math.exp(g.log_valid)).pvalue > 1e-6  # error rate 1e-6


def test_without_noise_every_rollout_is_valid() -> None:
    g = noisy(0.0)
    (reply,) = g.answer([Request((), n=500, length=32, key=(1, 1))])
    assert all(is_valid(g, tuple(y)) for y in reply.tokens.tolist())
    opened = reply.tokens[reply.tokens % 2 == 0]
    ones = int((opened == 0).sum())
    assert stats.binomtest(ones, len(opened), 0.2).pvalue > 1e-6  # error rate 1e-6


@pytest.mark.slow(1)
def test_it_conforms() -> None:
    check_generator(lambda: Dyck(6, (0.2, 0.5, 0.3), 2, 0.2))
    check_generator(lambda: noisy(0.05))
    check_generator(
        lambda: ensemble([noisy(0.05), noisy(0.2), noisy(0.05, 1)]), prompts=((2,), (1,))
    )


@pytest.mark.slow(1)
def test_long_strings_and_deep_stacks() -> None:
    g = Dyck(10_000, (1.0,), 5000, 0.01)
    up = (0,) * 5000
    assert np.exp(g.log_laws((), [up])[0]) == pytest.approx([0.005, 0.995])
    (reply,) = g.answer([Request((), up, length=5000, report=Report.LOGPROB, forced=(1,) * 5000)])
    assert reply.total_logprobs()[0] == pytest.approx(5000 * math.log(0.995), rel=1e-12)
    assert g.error_of((*up, 0)) == (ErrorKind.TOO_DEEP, 5000)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "position"),
    [
        (")", ErrorKind.START_OR_END, 0),
        ("]()[]", ErrorKind.START_OR_END, 0),
        ("()()()(", None, None),  # one token remains and can close it
        ("()()()()", None, None),
        ("()()()[(", ErrorKind.START_OR_END, 7),
        ("())", ErrorKind.UNDERFLOW, 2),
        ("[]()](", ErrorKind.UNDERFLOW, 4),
        ("([)", ErrorKind.WRONG_TYPE, 2),
        ("[[]]()(]", ErrorKind.WRONG_TYPE, 7),
        ("((([", ErrorKind.TOO_DEEP, 3),
        ("()([[(", ErrorKind.TOO_DEEP, 5),
        ("()((((", ErrorKind.TOO_DEEP, 5),
        ("[](([[", ErrorKind.TOO_DEEP, 5),
        ("()()(([", ErrorKind.TOO_LATE, 6),
        ("()()(([)", ErrorKind.TOO_LATE, 6),
        ("([[])", ErrorKind.WRONG_TYPE, 4),
        ("([[]])", None, None),
        ("", None, None),
    ],
)
def test_errors_are_told_apart(text: str, kind: ErrorKind | None, position: int | None) -> None:
    g = Dyck(8, depth=3)
    found = g.error_of(["()[]".index(c) for c in text])
    assert found == (None if kind is None or position is None else DyckError(kind, position))


@pytest.mark.slow(1)
def test_every_kind_of_error_happens_and_the_law_is_uniform_after_it() -> None:
    g = Dyck(6, depth=3, noise=0.0)
    kinds = {error.kind for y in all_strings(g, 6) if (error := g.error_of(y)) is not None}
    assert kinds == set(ErrorKind)
    for y in all_strings(g, 6):
        error = g.error_of(y)
        if error is not None and error.position < 5:
            u = y[: error.position + 1]
            assert g.error_of(y[: error.position]) is None
            np.testing.assert_allclose(g.log_laws((), [u])[0], math.log(1 / 4))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"horizon": 7}, "horizon must be even, as brackets come in pairs, got 7"),
        ({"horizon": 0}, "horizon must be an integer in 1"),
        ({"depth": 0}, "depth must be an integer >= 1, got 0"),
        ({"noise": 1.5}, r"noise must lie in \[0, 1\], got 1.5"),
        ({"noise": -0.1}, "noise must be a finite number >= 0, got -0.1"),
        ({"noise": float("nan")}, "noise must be a finite number"),
        ({"types": ()}, r"types must be positive probabilities that sum to 1, got \(\)"),
        ({"types": (0.2, 0.7)}, "sum to 1"),
        ({"types": (0.0, 1.0)}, "positive"),
        ({"types": (0.5, float("nan"))}, "positive"),
        ({"types": 3}, "types must be probabilities, got 3"),
        ({"horizon": 200, "depth": 100}, r"2 types to depth 100 and H = 200 make more than 2\^62"),
    ],
)
def test_bad_parameters(arguments: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Dyck(**arguments)  # type: ignore[arg-type]


def test_bad_strings() -> None:
    g = Dyck(4)
    with pytest.raises(InvalidInput, match="token 4 is outside"):
        g.error_of((0, 4))
    with pytest.raises(InvalidInput, match="at most 4 tokens, got 5"):
        g.error_of((0, 1, 0, 1, 0))
    with pytest.raises(InvalidInput, match="the horizon is 4"):
        g.log_laws((), [(0, 1, 0, 1)])


# ---- tokenwise rejection -----------------------------------------------------------------------


@pytest.mark.parametrize("g", SMALL, ids=str)
def test_draws_of_tokenwise_rejection_by_enumeration(g: Dyck) -> None:
    """E(u) = (1 + Σ_a P(a given u)·V(ua)·E(ua))/Σ_a P(a given u)·V(ua)."""

    def draws(u: Tokens) -> float:
        if len(u) == g.horizon:
            return 0.0
        law = np.exp(g.log_laws((), [u])[0])
        right = [a for a in range(g.vocab_size) if law[a] > 0 and g.error_of((*u, a)) is None]
        return (1 + sum(law[a] * draws((*u, a)) for a in right)) / sum(law[a] for a in right)

    assert g.rejection_draws == pytest.approx(draws(()), rel=1e-12)
    if g.noise == 0:
        assert g.rejection_draws == g.horizon


@pytest.mark.parametrize("horizon", [2, 4, 32, 200])
def test_a_uniform_law_needs_at_most_K_times_H_draws(horizon: int) -> None:
    for types in ((1.0,), (0.2, 0.8), (0.1, 0.1, 0.8), (0.1,) * 10):
        for depth in (1, 3, 12):
            g = Dyck(horizon, types, depth, noise=1.0)
            assert horizon < g.rejection_draws <= g.vocab_size * g.horizon
    # without a choice, the bound is attained by all but the opening tokens: K and K/types draws
    single = Dyck(horizon, (0.2, 0.8), 1, noise=1.0)
    assert single.rejection_draws == pytest.approx(horizon / 2 * (4 + 2))


@pytest.mark.slow(1)
@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_tokenwise_rejection_at_length_32_is_always_valid(noise: float) -> None:
    g, count = noisy(noise), 80
    problems = [g.problem(id=f"{i}") for i in range(count)]
    run = reroot.run(
        tokenwise_rejection(growth=1), problems, g, grants="visited/sample+verifier+reward"
    )
    assert run.pass_rate == 1
    assert all(a.output is not None and is_valid(g, a.output.tokens) for a in run.attempts)
    queries = np.array([a.cost.queries for a in run.attempts])
    spread = queries.std() / math.sqrt(count)
    assert abs(queries.mean() - g.rejection_draws) < 5 * spread  # error rate 1e-6
    assert queries.mean() < 4 * 32


def test_its_law_is_not_the_law_of_valid_rollouts() -> None:
    g = Dyck(6, (0.2, 0.8), 2, 1.0)
    tree = Tree.of(g, horizon=6)
    locally = Tabular.from_function(lambda u: _accepted(g, u), 4, 6, name="accepted")
    law = dict(locally.enumerate_outputs())
    joint = dict(zip(tree.outputs, tree.log_probabilities().tolist(), strict=True))
    assert len(law) == g.valid_strings
    gap = [abs(math.exp(law[y]) - math.exp(joint[y] - g.log_valid)) for y in law]
    assert sum(gap) / 2 > 0.1


def _accepted(g: Dyck, u: Tokens) -> np.ndarray:
    right = [g.error_of((*u, a)) is None for a in range(g.vocab_size)]
    law = np.where(right, np.exp(g.log_laws((), [u])[0]), 0.0)
    return law / law.sum() if any(right) else np.full(g.vocab_size, 1 / g.vocab_size)


# ---- problems and names ------------------------------------------------------------------------


def test_demonstrations_are_valid_and_follow_the_law_without_noise() -> None:
    shown = [noisy(0.5, seed).demonstration for seed in range(50)]
    assert all(is_valid(noisy(0.5), y) for y in shown)
    assert len(set(shown)) == 50
    assert noisy(0.5, 7).demonstration == noisy(0.1, 7).demonstration
    small = Dyck(4, (0.2, 0.8), 12)
    law = {y: math.exp(w) for y, w in _tabular(small).enumerate_outputs()}
    n = 2000
    counts = dict.fromkeys(law, 0)
    for seed in range(n):
        counts[Dyck(4, (0.2, 0.8), 12, seed=seed).demonstration] += 1
    expected = [law[y] * n for y in law]
    # error rate 1e-6
    assert stats.chisquare(list(counts.values()), expected, sum_check=False).pvalue > 1e-6
    problem = small.problem()
    assert (problem.prompt, problem.max_tokens, problem.horizon, problem.unique) == (
        (),
        4,
        4,
        False,
    )
    assert problem.demonstration == small.demonstration
    assert problem.id == "dyck:H=4,p=0.2,depth=12,noise=0.0,seed=0"


def _tabular(g: Dyck) -> Tabular:
    return Tabular.from_function(lambda u: np.exp(g.log_laws((), [u])[0]), g.vocab_size, g.horizon)


def test_specs() -> None:
    g = parse("dyck:H=32,noise=0.05")(seed=3)
    assert isinstance(g, Dyck)
    assert g.describe() == noisy(0.05).describe()
    assert g.demonstration == noisy(0.05, 3).demonstration
    other = parse("dyck:p=0.6,depth=4,noise=0.5")(horizon=8)
    assert other.describe() == Dyck(8, (0.6, 0.4), 4, 0.5).describe()
    assert str(parse("dyck:H=32,p=0.6,depth=4,noise=0.5")) == "dyck:H=32,p=0.6,depth=4,noise=0.5"
    with pytest.raises(InvalidInput, match="no parameter 'K'"):
        parse("dyck:K=4,H=8")
    with pytest.raises(InvalidInput, match="positive"):
        parse("dyck:H=8,p=1.5")()
    assert any(row[0] == "dyck" for row in catalog.generators()[1])


def test_a_workload_answers_equal_laws_in_one_batch() -> None:
    work = build_workload("dyck:noise=0.05", (), (8, 32), 2, 5)
    problems = [e.problem for cell in work.cells for e in cell.episodes]
    assert len({p.demonstration for p in problems}) > 15
    before = work.generator.physical().forwards
    work.generator.answer([Request(p.prompt, key=(i, 0)) for i, p in enumerate(problems)])  # type: ignore[arg-type]
    assert work.generator.physical().forwards - before == 2  # one law for each horizon


def test_compare_runs_it_with_its_defaults(tmp_path: Path) -> None:
    found = reroot.compare(
        model="dyck:H=16,noise=0.2", budget_tokens=4000, seeds=1, problems=8, out=tmp_path / "run"
    )
    passed = {row["learner"]: row["passed"] for row in found.results.iter_rows(named=True)}
    assert set(found.results["task"]) == {"dyck"}
    assert passed["tokenwise_rejection"]
    assert not found.results["error"].drop_nulls().to_list()
