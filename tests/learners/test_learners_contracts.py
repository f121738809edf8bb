"""What every built-in learner has in common: contracts, budgets, reports ignored; and the registry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import reroot
from every_learner import (
    ENDING,
    PATH,
    SPECS,
    problems,
    suited,
)
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
from reroot.families import HiddenPath
from reroot.generators.tabular import Tabular
from reroot.learners import BoundLearner, get_learner, list_learners
from reroot.types import CURRENCIES


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
