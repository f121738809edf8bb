"""What every built-in learner has in common: contracts, budgets, reports ignored; and the registry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import reroot
from reroot import (
    AccessDenied,
    Budget,
    Contract,
    Control,
    InvalidInput,
    Oracle,
    Report,
)
from reroot.access.runner import Attempt
from reroot.families import CombinationLock, DecoyPath, HiddenPath, PathFamily
from reroot.generators.layered import LayeredTree
from reroot.generators.tabular import Tabular
from reroot.learners import BoundLearner, get_learner, list_learners
from reroot.tasks.base import Problem
from reroot.types import CURRENCIES, Output

TINY = "actions=2,goods=2,noise=0,decoders=3"
SPECS = [
    "best_of_n:n=6",
    "best_of_n:n=6,oracle=verifier",
    "first_success:max_rollouts=9",
    "first_success:max_rollouts=9,oracle=verifier",
    "self_consistency:n=6",
    "root_bayes:n=6",
    "root_bayes:n=6,rewards=2",
    "greedy_walk",
    "greedy_walk:decoys=1",
    "plurality_walk:draws_per_token=4",
    "plurality_walk:draws_per_token=4,decoys=1",
    "plurality_walk_sequential:max_draws=30",
    "plurality_walk_sequential:p=0.6",
    "posterior_walk:p=0.6",
    "posterior_walk",
    "logprob_walk",
    "logprob_walk:decoys=1",
    "logprob_walk:control=reset",
    "law_walk",
    "law_walk:decoys=1,report=topk(2),control=visited",
    "trie_search:nodes=40,a=0.4,b=0.2",
    "trie_search:nodes=40,a=0.4,b=0.2,report=logprob",
    "trie_search:nodes=40,a=0.4,b=0.2,report=full",
    "trie_search:nodes=40,a=0.4,b=0.2,report=argmax(2)",
    "parity_probe",
    "parity_probe:report=sample,noise=0.2,delta=0.3,control=chosen",
    "parity_root:n=20",
    "parity_elimination",
    "parity_elimination:report=sample,noise=0.2",
    "tokenwise_rejection",
    "backtracking:quota=6,stride=2",
    "backtracking:quota=6,stride=2,argmax_redo=true",
    "demo_prefix:reveal=2,n=4",
    "demo_prefix:reveal=0.5,n=4",
    "soft_best_of_n:n=4,beta=0.3",
    "adaptive_best_of_n:delta=0.5,max_rollouts=20",
    "softmax_rejection:beta=0.5,bound=4,n=9",
    "inference_time_pessimism:n=6",
    "power_sampling:moves=3",
    "power_sampling:moves=3,temperature=none",
    "smc:particles=3,beta=0.3",
    "smc:particles=3,twist=rollouts,samples=2",
    "action_rejection",
    "action_rejection:beta=0.3,twist=rollouts,children=2",
    "vgb:beta=0.3,steps=4",
    "vgb:twist=value,beta=0.3,children=2,steps=4",
    "beam_search:width=2",
    "beam_search:width=2,verify=true",
    "verifier_tree_search:subtrees=2,width=2",
    "diligent_search:tries=2",
    "diligent_search:tries=12,verify=true",
    "tree_search:simulations=4,children=2",
    "tree_rollouts:chains=2,rounds=2",
    "segment_tree:width=4,segment=2,branching=2",
    "latent_exploration:k=2,d=2",
    "representation_coreset:n=6,k=2",
    "representation_coreset:n=6,k=2,dims=1,oracle=verifier",
    "hmm_exact:n=20",
    "hmm_samples:histories=3,tests=4,samples=3",
    "hmm_samples:histories=2,tests=4,report=full",
    "low_rank_spanner:k=2,tests=4,samples=2,histories=2",
    "low_rank_spanner:k=2,tests=4,report=full,project=false",
    "spanner_sampling:rounds=2,coverage=1.5,pairs=3",
    "mtss:draws=4,visits=1,final=1,passes=2,starts=2",
    *(f"{name}:{TINY}" for name in ("rvfs", "pcr", "pce", "sim_golf", "golf")),
]
# whatever else is in the registry, as it comes
SPECS += [
    name for name in list_learners() if name not in {spec.partition(":")[0] for spec in SPECS}
]
PATH = HiddenPath(3, 5, 0.6, seed=1)
ENDING = Tabular.random(3, 4, seed=3, end=(2,))  # outputs end early
BITS = HiddenPath(2, 5, 0.7, seed=1)  # for learners of binary strings
LAYERED = LayeredTree([Tabular.random(3, 4, seed=5, end=(2,)), ENDING])  # with hidden states
DECOYS = DecoyPath(4, 5, 1, 0.4, 0.38, seed=1)  # for learners that know of decoys


LOCK = CombinationLock(2, 2, 2, 0, decoders=3, seed=1)  # for learners of block MDPs
Toy = PathFamily | Tabular | CombinationLock


def suited(spec: str, generator: PathFamily | Tabular = PATH) -> Toy:
    if TINY in spec:
        return LOCK
    if "decoys" in spec:
        return DECOYS
    if Oracle.HIDDEN in get_learner(spec).requires.oracles:
        return LAYERED
    return BITS if spec.startswith("parity") else generator


def _worth(output: Output) -> float:
    """Any value will do."""
    return 1.0 + len(output.tokens) % 2


def problems(generator: Toy, count: int = 6) -> list[Problem]:
    if isinstance(generator, (PathFamily, CombinationLock)):
        return [replace(generator.problem(id=f"{i}"), value=_worth) for i in range(count)]
    right = (0, 1, 2)
    return [
        Problem(
            f"{i}",
            (),
            generator.horizon,
            reward=lambda o: float(o.tokens == right),
            verifier=lambda o: o.tokens == right[: len(o.tokens)],
            demonstration=right,
            value=_worth,
        )
        for i in range(count)
    ]


def below(contract: Contract) -> Iterator[Contract]:
    """The contracts just below: one step down in control, in report, or one oracle less."""
    lower = [c for c in Control if c < contract.control]
    for control in lower:
        if not any(control < other for other in lower):
            yield replace(contract, control=control)
    weaker = {
        Report.NONE: [],
        Report.SAMPLE: [Report.NONE, Report.ARGMAX(9)],
        Report.ARGMAX(1): [Report.NONE, Report.LOGPROB],
        Report.LOGPROB: [Report.SAMPLE, Report.ARGMAX(9)],
        Report.TOPK(1): [Report.LOGPROB, Report.ARGMAX(9)],
        Report.ARGMAX(2): [Report.ARGMAX(1), Report.LOGPROB],
        Report.TOPK(2): [Report.TOPK(1), Report.ARGMAX(9)],
        Report.FULL: [Report.TOPK(9)],
    }
    for report in weaker[contract.report]:
        yield replace(contract, report=report)
    for oracle in contract.oracles:
        yield replace(contract, oracles=contract.oracles - {oracle})


@pytest.mark.slow(1)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("generator", [PATH, ENDING], ids=["path", "ending"])
def test_runs_under_exactly_what_it_requires(spec: str, generator: HiddenPath | Tabular) -> None:
    bound, toy = get_learner(spec), suited(spec, generator)
    run = reroot.run(bound, problems(toy), toy, grants=bound.requires)
    for attempt in run.attempts:
        assert attempt.error is None
        assert attempt.output is not None
        assert attempt.complete
        assert all(a >= 0 for a in attempt.cost.to_dict().values())


@pytest.mark.parametrize("spec", SPECS)
def test_is_refused_under_anything_less(spec: str) -> None:
    bound = get_learner(spec)
    for grants in below(bound.requires):
        with pytest.raises(AccessDenied, match="it requires"):
            reroot.run(bound, problems(PATH), PATH, grants=grants)


def needed(bound: BoundLearner) -> Iterator[Contract]:
    """The contracts below under which a session, not only the binding, must refuse the learner.

    Left out: reports without draws, where a session serves the mode instead, query by query.
    """
    for contract in below(bound.requires):
        if contract.report.draws or contract.report == bound.requires.report:
            yield contract


@pytest.mark.parametrize("spec", SPECS)
def test_requires_no_more_than_it_uses(spec: str) -> None:
    """Bound in spite of the contract, it runs into a refusal: the requirement is the weakest."""
    bound = get_learner(spec)
    weaker = list(needed(bound))
    assert weaker or bound.requires == Contract(Control.ROOT, Report.SAMPLE)
    generator = suited(spec)
    for grants in weaker:
        forced = replace(bound, requires=grants)
        run = reroot.run(forced, problems(generator), generator, grants=grants, on_error="record")
        assert any(a.error and a.error.kind == "AccessDenied" for a in run.attempts), grants


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", [s for s in SPECS if get_learner(s).requires.report == Report.SAMPLE]
)
def test_richer_reports_change_nothing(spec: str) -> None:
    """A learner that ignores what is richer: same outputs, equal ledgers, bit by bit."""
    bound, generator = get_learner(spec), suited(spec, ENDING)
    task = problems(generator, 12)
    runs = [
        reroot.run(bound, task, generator, grants=replace(bound.requires, report=report))
        for report in (Report.SAMPLE, Report.LOGPROB, Report.TOPK(3), Report.FULL)
    ]
    for run in runs[1:]:
        assert [a.output for a in run.attempts] == [a.output for a in runs[0].attempts]
        assert [a.cost for a in run.attempts] == [a.cost for a in runs[0].attempts]


@pytest.mark.slow(1)
@pytest.mark.parametrize("spec", SPECS)
def test_stronger_contracts_change_nothing(spec: str) -> None:
    bound, generator = get_learner(spec), suited(spec)
    judges = [Oracle.REWARD, Oracle.VERIFIER, Oracle.DEMONSTRATION, Oracle.VALUE]
    everything = Contract(Control.CHOSEN, Report.FULL, oracles=judges)
    everything = everything.with_oracles(bound.requires.oracles)
    least = reroot.run(bound, problems(generator), generator, grants=bound.requires)
    most = reroot.run(bound, problems(generator), generator, grants=everything)
    assert [a.output for a in most.attempts] == [a.output for a in least.attempts]
    assert [a.cost for a in most.attempts] == [a.cost for a in least.attempts]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_budgets_are_kept_and_what_was_found_is_returned(spec: str) -> None:
    """Every currency that it spends, at several amounts; all others at 0 change nothing."""
    bound, generator = get_learner(spec), suited(spec)
    task = problems(generator, 3)

    def attempts(**amounts: int) -> list[Attempt]:
        budget = Budget(**amounts)
        return reroot.run(bound, task, generator, grants=bound.requires, budget=budget).attempts

    free = attempts()
    spent = [c for c in CURRENCIES if any(getattr(a.cost, c) for a in free)]
    assert attempts(**{c: 0 for c in CURRENCIES if c not in spent}) == free
    for currency, amount in itertools.product(spent, (0, 1, 3, 10)):
        for attempt in attempts(**{currency: amount}):
            assert getattr(attempt.cost, currency) <= amount, (currency, amount)
            assert attempt.error is None, (currency, amount)
            assert attempt.stopped is None, (currency, amount)  # it returned by itself


# ---- the registry -------------------------------------------------------------------------------


def test_registry_lists_learners_with_their_summaries() -> None:
    known = list_learners()
    assert list(known)[:3] == ["best_of_n", "first_success", "self_consistency"]
    for name, factory in known.items():
        assert factory.name == name
        assert factory.summary.endswith(".")
        assert "Pseudo-code" in (factory.__doc__ or "")


def test_get_learner_reads_values() -> None:
    assert get_learner("best_of_n").params == {"n": 16, "oracle": "reward"}
    bound = get_learner(" best_of_n : n = 3 , oracle = verifier ")
    assert bound.params == {"n": 3, "oracle": "verifier"}
    assert str(bound.requires) == "root/sample+verifier"
    bound = get_learner("first_success:growth=1.5,max_rollouts=None,pass_at=1")
    assert bound.params["growth"] == 1.5
    assert bound.params["max_rollouts"] is None
    redo = get_learner("backtracking:argmax_redo=TRUE,check_last=false")
    assert (redo.params["argmax_redo"], redo.params["check_last"]) == (True, False)
    assert str(redo.requires) == "reset/topk(1)+verifier"
    assert str(get_learner("backtracking").requires) == "visited/sample+verifier"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("best_of", "unknown learner 'best_of'. Did you mean 'best_of_n'"),
        ("", "unknown learner ''"),
        ("best_of_n:m=3", "no parameter 'm'"),
        ("plurality_walk:draw_per_token=3", "Did you mean 'draws_per_token'"),
        ("best_of_n:", "expected 'key=value' after the colon"),
        ("best_of_n:n", "expected 'key=value' after the colon, got 'n'"),
        ("best_of_n:n=", "expected 'key=value'"),
        ("best_of_n:n=3,n=4", "gives 'n' twice"),
        ("best_of_n:n=0", "n must be an integer >= 1, got 0"),
        ("best_of_n:n=2.5", "n must be an integer >= 1, got 2.5"),
        ("best_of_n:n=true", "n must be an integer"),
        ("best_of_n:oracle=truth", "oracle must be 'reward' or 'verifier', got 'truth'"),
        ("first_success:growth=0.5", "growth must be a finite number >= 1, got 0.5"),
        ("first_success:max_rollouts=-1", "max_rollouts must be an integer >= 1 or None"),
        ("first_success:pass_at=nan", "pass_at must lie strictly between"),
        ("plurality_walk:delta=1", "delta must lie strictly between 0 and 1, got 1"),
        ("plurality_walk_sequential:p=x", "p must lie strictly between 0 and 1 or None, got 'x'"),
        ("tokenwise_rejection:max_tries=0", "max_tries must be"),
        ("backtracking:stride=0", "stride must be"),
        ("backtracking:quota=-1", "quota must be an integer >= 0"),
        ("backtracking:argmax_redo=1", "argmax_redo must be True or False, got 1"),
        ("demo_prefix:reveal=1.5", "reveal must be a number of tokens"),
        ("demo_prefix:reveal=-1", "reveal must be"),
        ("latent_exploration:k=0", "k must be an integer >= 1"),
        ("latent_exploration:d=0", "d must be an integer >= 1"),
        ("latent_exploration:renormalize=1", "renormalize must be True or False, got 1"),
        ("representation_coreset:n=0", "n must be an integer >= 1"),
        ("representation_coreset:k=none", "k must be an integer >= 1"),
        ("representation_coreset:dims=0", "dims must be an integer >= 1 or None"),
        ("representation_coreset:ridge=0", "ridge must lie strictly between"),
        ("representation_coreset:oracle=hidden", "oracle must be 'reward' or 'verifier'"),
    ],
)
def test_get_learner_refuses_with_a_hint(spec: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        get_learner(spec)
    assert message in str(error.value)


def test_get_learner_wants_text() -> None:
    with pytest.raises(InvalidInput, match="named by text"):
        get_learner(3)  # type: ignore[arg-type]
