"""The noisy parity and its learners against definitions, enumeration and closed forms.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

import reroot
from reroot import AccessDenied, Budget, InvalidInput, Report, RunResult
from reroot.access.episode import bind
from reroot.cli import listing as catalog
from reroot.families import HiddenPath, NoisyParity, catalogue, fidelity, parse
from reroot.generators.base import Request
from reroot.generators.ensemble import Ensemble
from reroot.learners import BoundLearner
from reroot.learners.parity import parity_probe, parity_root
from reroot.limits import parity_sample_floor, plurality_draws
from reroot.randomness import stream_key
from reroot.runs.workload import build_workload
from reroot.testing import check_generator
from reroot.types import Output


def strings(length: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=length))


def parity(tokens: tuple[int, ...], secret: tuple[int, ...]) -> int:
    return sum(tokens[i] for i in secret) % 2


def secrets(horizon: int) -> list[tuple[int, ...]]:
    subsets = [tuple(i for i, bit in enumerate(s) if bit) for s in strings(horizon - 1)]
    return [subset for subset in subsets if subset]


def at_most(failures: int, n: int, rate: float, error: float = 1e-6) -> bool:
    """Whether ``failures`` of n is compatible with a failure rate of at most ``rate``."""
    return failures <= stats.binom.ppf(1 - error, n, rate)


# ---- the law -----------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [2, 3, 5])
def test_outputs_have_their_probability_by_definition(horizon: int):
    alpha = 0.3
    for secret in secrets(horizon):
        g = NoisyParity(horizon, alpha, secret=secret)
        for y in strings(horizon):
            request = Request((), length=horizon, report=Report.LOGPROB, forced=y)
            (reply,) = g.answer([request])
            flipped = y[-1] != parity(y, secret)
            known = 0.5 ** (horizon - 1) * (alpha if flipped else 1 - alpha)
            assert math.exp(reply.total_logprobs()[0]) == pytest.approx(known, rel=1e-12)
        for u in strings(horizon - 1):  # asked alone, not along a string
            one = 1 - alpha if parity(u, secret) else alpha
            np.testing.assert_allclose(np.exp(g.log_laws((), [u])), [[1 - one, one]], rtol=1e-12)


def test_it_conforms():
    check_generator(lambda: NoisyParity(6, 0.2, seed=3), prompts=((), (1, 0)))
    check_generator(lambda: NoisyParity(2, 0.01, secret=[0]))


def test_prompts_are_the_first_tokens():
    g = NoisyParity(4, 0.1, secret=(0, 2))
    for u in strings(3):
        np.testing.assert_array_equal(g.log_laws(u[:2], [u[2:]]), g.log_laws((), [u]))
    for bad, why in [((0, 1, 1, 0), "the horizon is 4"), ((-1,), "token -1"), ((0, 2), "token 2")]:
        with pytest.raises(InvalidInput, match=why):
            g.log_laws((), [bad])


def test_long_parities():
    g = NoisyParity(10_000, 0.2, seed=5)
    assert 4500 < len(g.secret) < 5500
    words = np.random.default_rng(0).integers(0, 2, size=(20, 9_999))
    odd = words @ np.array(g.indicator) % 2
    known = np.where(odd[:, None] == [0, 1], 0.8, 0.2)
    np.testing.assert_allclose(np.exp(g.log_laws((), words.tolist())), known)
    late = words[0, -300:].tolist()  # walked there, not started there
    (reply,) = g.answer(
        [Request((), (*words[0, :-300],), length=301, report=Report.FULL, forced=(*late, 0))]
    )
    assert reply.laws is not None
    np.testing.assert_allclose(np.exp(reply.laws[0, -1]), known[0])
    np.testing.assert_allclose(np.exp(reply.laws[0, :-1]), 0.5)


def test_drawn_secrets_are_uniform_non_empty_sets():
    # 7 sets, 2,100 seeds; chi-square at level 1e-6
    drawn = [NoisyParity(4, 0.1, seed=seed).secret for seed in range(2100)]
    counts = np.array([drawn.count(secret) for secret in secrets(4)])
    assert counts.sum() == 2100
    assert stats.chi2.sf(((counts - 300) ** 2 / 300).sum(), 6) > 1e-6
    assert NoisyParity(50, 0.1, seed=7).secret == NoisyParity(50, 0.4, seed=7).secret


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"horizon": 1}, "horizon must be an integer in 2…10,000, got 1"),
        ({"horizon": 10_001}, "got 10001"),
        ({"noise": 0.0}, r"noise alpha must lie in \(0, 0.5\), got 0.0"),
        ({"noise": 0.5}, "got 0.5"),
        ({"noise": float("nan")}, "got nan"),
        ({"secret": ()}, "must have at least one index"),
        ({"secret": (0, 3)}, "an index of the secret must be an integer in 0…2, got 3"),
        ({"secret": (1, 2, 1)}, r"must be a set, got \(1, 2, 1\) with an index twice"),
        ({"secret": 2}, "must be a sequence of integers"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], why: str):
    with pytest.raises(InvalidInput, match=why):
        NoisyParity(**{"horizon": 4, "noise": 0.1, **arguments})


# ---- the task ----------------------------------------------------------------------------------


def test_the_right_outputs_name_the_secret():
    g = NoisyParity(4, 0.1, secret=(2, 0))
    assert (g.secret, g.indicator, g.vocab_size) == ((0, 2), (1, 0, 1), 2)
    problem = g.problem()
    assert (problem.prompt, problem.max_tokens, problem.horizon, problem.stop) == ((), 4, 4, ())
    assert problem.verifier is None
    assert (problem.demonstration, problem.answer) == ((1, 0, 1, 0), "1 0 1")
    right = {(1, 0, 1, 0), (1, 0, 1, 1)}
    for length in range(5):
        for u in strings(length):
            assert problem.reward(Output(u, "", length == 4)) == float(u in right)
    assert not problem.unique  # a rollout passes with more than P(demonstration)
    assert bind(problem, g).demonstration == reroot.Prefix((1, 0, 1, 0))


def test_ids_and_descriptions_tell_instances_apart():
    made = [NoisyParity(30, 0.1, seed=seed) for seed in range(9)]
    assert len({g.problem().id for g in made}) == len({json.dumps(g.describe()) for g in made}) == 9
    same = NoisyParity(30, 0.1, secret=made[2].secret)
    assert same.describe() == made[2].describe()
    assert same.label != made[2].label


def test_specs():
    for text in ("noisy_parity:H=12,alpha=0.1", "noisy_parity:alpha=0.25"):
        spec = parse(text)
        assert (spec.family, spec.vocab_size) == ("noisy_parity", 2)
        assert str(spec) == text
        assert parse(str(spec)) == spec
        g = spec(seed=3, horizon=9)
        assert g.describe() == NoisyParity(9, spec.parameters["alpha"], seed=3).describe()
        instance, _, seed = g.label.rpartition(",seed=")
        assert parse(instance)(int(seed)).describe() == g.describe()
    with pytest.raises(InvalidInput, match=r"alpha must lie in \(0, 0.5\), got 0.6"):
        parse("noisy_parity:H=4,alpha=0.6")()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("noisy_parity", "noisy_parity needs alpha, as in 'noisy_parity:H=12,alpha=0.1'"),
        ("noisy_parity:K=2,H=4,alpha=0.1", "no parameter 'K'. Known: H, alpha."),
        ("noisy_parity:H=4,alph=0.1", "no parameter 'alph'. Did you mean 'alpha'?"),
        ("noisy_parity:H=4,alpha=x", "alpha must be a finite number, got 'x'"),
        ("hidden_path:H=4,p=0.5", "hidden_path needs K, as in"),
    ],
)
def test_bad_specs(text: str, why: str):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert why in str(caught.value)


def test_listings_and_workloads_know_it():
    line = catalogue()["noisy_parity"]
    assert parse(line.rpartition("(")[2].rstrip(")"))(seed=1).horizon == 12
    assert ("noisy_parity", line) in catalog.generators()[1]
    made = build_workload("noisy_parity:alpha=0.1", (), (4, 6), 2, 3)
    assert {str(oracle) for oracle in made.oracles("noisy_parity")} == {"reward", "demonstration"}


# ---- fidelity ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.49])
def test_fidelity_has_its_closed_form(alpha: float):
    # 0.36 at T = 6, alpha = 0.2, t = 4
    for T, secret in [(2, (0,)), (6, (4,)), (6, (0, 3)), (8, (2, 3, 6))]:
        g = NoisyParity(T, alpha, secret=secret)
        for t in range(T):
            known = (1 - 2 * alpha) ** 2 if t > secret[0] else 1.0
            assert fidelity(g, t) == pytest.approx(known, rel=1e-9)


def test_fidelity_by_its_formula():
    T, t, alpha, secret = 5, 3, 0.3, (0, 3)
    futures, histories = strings(T - t), strings(t)
    P = np.zeros((len(futures), len(histories)))
    for (j, f), (i, h) in itertools.product(enumerate(futures), enumerate(histories)):
        flipped = f[-1] != parity(h + f, secret)
        P[j, i] = 0.5 ** (T - t - 1) * (alpha if flipped else 1 - alpha)
    root = np.eye(len(histories)) / math.sqrt(len(histories))
    values = np.linalg.svd(root @ P.T @ np.diag(1 / P.mean(axis=1)) @ P @ root, compute_uv=False)
    known = min(v for v in values if v > 1e-9)
    assert fidelity(NoisyParity(T, alpha, secret=secret), t) == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize(("horizon", "t"), [(15, 3), (6, 6), (6, -1), (6, 2.0)])
def test_fidelity_refuses(horizon: int, t: int):
    with pytest.raises(InvalidInput, match="must be an integer in"):
        fidelity(NoisyParity(horizon, 0.2), t)


# ---- parity_probe ------------------------------------------------------------------------------


def find(bound: BoundLearner, g: NoisyParity, grants: str = "", count: int = 1) -> RunResult:
    """The same problem ``count`` times, with randomness of its own each time."""
    problems = [g.problem(id=f"{i}") for i in range(count)]
    return reroot.run(bound, problems, g, grants=grants or bound.requires, on_error="record")


@pytest.mark.parametrize("report", ["logprob", "topk(1)", "full", "argmax", "argmax(2)"])
def test_probe_is_exact_with_laws_and_costs_what_it_says(report: str):
    for T, seed in itertools.product((2, 3, 9, 20), range(3)):
        g = NoisyParity(T, 0.45, seed=seed)
        for control, queries, tokens in [
            ("reset", 3 * (T - 1) - 1, (T - 1) * (T + 2) // 2),
            ("chosen", T - 1, T - 1),
        ]:
            run = find(parity_probe(report=report, control=control), g, f"{control}/{report}")
            assert tuple(run.attempts[0].output or ()) == (*g.indicator, 0)
            cost = run.cost
            assert (cost.queries, cost.tokens, cost.rollouts) == (queries, tokens, 0)


@pytest.mark.parametrize(("control", "walk"), [("reset", 2 * 5 - 1), ("chosen", 0)])
def test_probe_with_samples_fails_at_most_delta(control: str, walk: int):
    g, count, delta, alpha = NoisyParity(6, 0.3, seed=4), 80, 0.1, 0.3

    def run_with(noise: float) -> RunResult:
        bound = parity_probe(noise=noise, delta=delta, report="sample", control=control)
        return find(bound, g, f"{control}/sample", count)

    run = run_with(alpha)
    m = plurality_draws(2, 5, 1 - alpha, delta)
    assert m == math.ceil(math.log(5 / delta) / -math.log(2 * math.sqrt(alpha * (1 - alpha))))
    assert run.cost.queries == count * (5 * m + walk)
    assert at_most(sum(not a.passed for a in run.attempts), count, delta)  # error rate 1e-6
    # the draws that suffice for less noise do not suffice here: the bound is about something
    few = run_with(0.02)
    assert not at_most(sum(not a.passed for a in few.attempts), count, delta)


def test_probe_needs_the_control_it_names():
    g = NoisyParity(5, 0.1, seed=1)
    for grants, params in [
        ("root/full", {}),
        ("root/sample", {"report": "sample", "noise": 0.1}),
        ("visited/full", {}),
        ("reset/sample", {}),
        ("reset/full", {"control": "chosen"}),
    ]:
        with pytest.raises(AccessDenied, match="it requires"):
            find(parity_probe(**params), g, grants)
    # bound in spite of the contract, the session refuses: no less would do
    for control, granted in [("reset", "visited"), ("chosen", "reset")]:
        grants = f"{granted}/full"
        forced = replace(parity_probe(control=control), requires=reroot.Contract.parse(grants))
        run = find(forced, g, grants)
        assert "AccessDenied" in str(run.attempts[0].error)


def test_probe_costs_the_same_under_stronger_contracts():
    g = NoisyParity(7, 0.2, seed=2)
    for params in ({}, {"report": "sample", "noise": 0.2}):
        least, most = (find(parity_probe(**params), g, to, 5) for to in ("", "chosen/full"))
        assert [a.output for a in least.attempts] == [a.output for a in most.attempts]
        assert least.cost == most.cost


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"noise": 0.5}, "noise must lie strictly between 0 and 0.5 or None, got 0.5"),
        ({"delta": 0}, "delta must lie strictly between 0 and 1, got 0"),
        ({"report": "sample"}, "report = 'sample' needs noise"),
        ({"report": "none"}, "report must tell something"),
        ({"report": "ful"}, "unknown report 'ful'. Did you mean 'full'?"),
        ({"control": "visited"}, "control must be 'reset' or 'chosen', got 'visited'"),
    ],
)
def test_probe_refuses(params: dict[str, Any], why: str):
    with pytest.raises(InvalidInput) as caught:
        parity_probe(**params)
    assert why in str(caught.value)


# ---- parity_root -------------------------------------------------------------------------------


@pytest.mark.slow(1)
def test_root_needs_the_information_floor_and_little_more():
    T, alpha, count, delta = 12, 0.1, 100, 0.05
    generator = Ensemble([NoisyParity(T, alpha, seed=seed) for seed in range(count)])

    def passes(n: int) -> int:
        run = reroot.run(parity_root(n=n), generator.problems(), generator, grants="root/sample")
        assert (run.cost.rollouts, run.cost.queries) == (count * n, 0)
        return sum(attempt.passed for attempt in run.attempts)

    floor, secret_nats = parity_sample_floor(T, alpha), math.log(2 ** (T - 1) - 1)
    few = int(floor / 4)  # Fano bounds what any learner can do, on average over the secrets
    fano = ((T - 1) * math.log(2) * few / floor + math.log(2)) / secret_nats
    assert at_most(passes(few), count, fano)  # error rate 1e-6
    rate = -math.log(0.5 + math.sqrt(alpha * (1 - alpha)))
    enough = math.ceil(((T - 1) * math.log(2) - math.log(delta)) / rate)
    assert enough < 2.5 * floor
    assert at_most(count - passes(enough), count, delta)  # error rate 1e-6


def test_root_is_the_maximum_likelihood_rule():
    T, alpha = 5, 0.2
    g = NoisyParity(T, alpha, seed=1)
    for n in (1, 2, 6):  # few: many ties
        for i, attempt in enumerate(find(parity_root(n=n), g, count=20).attempts):
            key = stream_key(0, f"{i}", "draws")  # what the session drew
            (seen,) = g.answer([Request((), n=n, length=T, key=key)])
            fits = []
            for s in secrets(T):
                flips = sum(y[-1] != parity(y, s) for y in seen.tokens.tolist())
                fits.append(alpha**flips * (1 - alpha) ** (n - flips))
            best = secrets(T)[int(np.argmax(np.array(fits) > max(fits) * (1 - 1e-9)))]
            assert tuple(attempt.output or ()) == (*(int(k in best) for k in range(T - 1)), 0)


def test_root_is_root_start():
    g = NoisyParity(6, 0.1, seed=3)
    plain, rich = (find(parity_root(n=60), g, to, 5) for to in ("root/sample", "root/full"))
    assert [a.output for a in plain.attempts] == [a.output for a in rich.attempts]
    assert plain.cost == rich.cost
    with pytest.raises(AccessDenied, match="it requires"):
        find(parity_root(n=60), g, "reset/argmax")


def test_root_refuses_what_it_cannot_search_and_pays_nothing():
    run = find(parity_root(), NoisyParity(24, 0.1))
    assert "takes T - 1 <= 22 bits, got 23" in str(run.attempts[0].error)
    assert run.cost.rollouts == 0
    with pytest.raises(InvalidInput, match="n must be an integer >= 1, got 0"):
        parity_root(n=0)


def test_learners_of_bits_refuse_other_vocabularies():
    path = HiddenPath(3, 4, 0.6)
    for bound in (parity_probe(), parity_root()):
        (attempt,) = reroot.run(
            bound, [path.problem()], path, grants=bound.requires, on_error="record"
        ).attempts
        assert "K = 2 and T >= 2 tokens, got K = 3 and T = 4" in str(attempt.error)


@pytest.mark.parametrize("currency", ["queries", "tokens", "rollouts", "prefill"])
def test_budgets_are_kept(currency: str):
    g = NoisyParity(5, 0.1, seed=1)
    for bound in (parity_probe(), parity_probe(report="sample", noise=0.1), parity_root(n=9)):
        for amount in (0, 1, 12, 30):
            budget = Budget(**{currency: amount})
            run = reroot.run(bound, [g.problem()], g, grants=bound.requires, budget=budget)
            (attempt,) = run.attempts
            assert getattr(attempt.cost, currency) <= amount
            assert (attempt.error, attempt.stopped) == (None, None)  # it returned by itself


def test_comparisons_show_what_the_interface_costs(tmp_path: Path):
    made = reroot.compare(
        model="noisy_parity:alpha=0.1",
        horizons=[4, 30],
        learners=[parity_root(), parity_probe(report="sample", noise=0.1), "first_success"],
        grants=["root/sample", "reset/sample"],
        budget_tokens=60_000,
        seeds=1,
        problems=3,
        out=tmp_path / "run",
    )
    # the seed is fixed; parity_probe fails on one of its 6 with probability at most 0.3
    rows = made.results.group_by("learner", "horizon").agg(pl.col("passed").mean())
    passed = {(name.partition("(")[0], horizon): rate for name, horizon, rate in rows.iter_rows()}
    for learner, long in [("parity_root", 0), ("parity_probe", 1), ("first_success", 0)]:
        assert (passed[learner, 4], passed[learner, 30]) == (1, long)
