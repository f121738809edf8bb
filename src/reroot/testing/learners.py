"""What every learner must honour: its contract, its budget, and the seed alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from ..access.learner import BoundLearner, LearnerFactory
from ..access.runner import Attempt
from ..contract import Contract, Control, Oracle, Report
from ..families import HiddenPath
from ..generators.base import Generator
from ..generators.layered import LayeredTree
from ..generators.tabular import Tabular
from ..learners import get_learner
from ..tasks.base import Problem
from ..types import LIMITS, Budget, Output
from .base import Conformance, attempts, check_all, expect, uses_all

AnyLearner = BoundLearner | LearnerFactory[...] | str
Places = Sequence[tuple[Generator, Sequence[Problem]]]
JUDGES = (Oracle.REWARD, Oracle.VERIFIER, Oracle.DEMONSTRATION, Oracle.VALUE)
COUNT = 6


def places() -> Places:
    """Generators with problems that have every oracle: a hidden path, and a tree with hidden states
    whose outputs end early."""
    ending = Tabular.random(3, 4, seed=3, end=(2,))
    layered = LayeredTree([Tabular.random(3, 4, seed=5, end=(2,)), ending])
    path, right = HiddenPath(3, 5, 0.6, seed=1), (0, 1, 2)
    plain = Problem(
        "0",
        (),
        4,
        reward=lambda output: float(output.tokens == right),
        verifier=lambda output: output.tokens == right[: len(output.tokens)],
        demonstration=right,
        value=_worth,
    )
    return [
        (layered, [replace(plain, id=str(i)) for i in range(COUNT)]),
        (path, [replace(path.problem(id=str(i)), value=_worth) for i in range(COUNT)]),
    ]


def _worth(output: Output) -> float:
    """Any value will do."""
    return 1.0 + len(output.tokens) % 2


class LearnerConformance(Conformance, ABC):
    """Subclass it and give ``make``; pytest finds the checks.

    Attributes:
        places: generators with problems that have the oracles it requires; learners that need
            something special (binary strings, decoys) bring their own.
    """

    places: Places = places()

    @abstractmethod
    def make(self) -> AnyLearner:
        """The learner, as an object or by name."""
        ...

    def test_01_runs_under_exactly_what_it_requires(self) -> None:
        for attempt in self._everywhere():
            expect(attempt.error is None, f"it failed: {attempt.error}")
            expect(attempt.stopped is None, "it needs more than there is without a budget")
            expect(attempt.output is not None, "it returned no output")
            expect(attempt.complete, f"{attempt.output} is no complete output")

    def test_02_requires_the_weakest_contract(self) -> None:
        learner = get_learner(self.make())
        uses_all(learner.requires, [(learner, p, g) for g, p in self._places(learner)])

    def test_03_stronger_contracts_change_nothing(self) -> None:
        learner = get_learner(self.make())
        for generator, problems in self._places(learner):
            most = Contract(Control.CHOSEN, Report.FULL, learner.requires.sampling, JUDGES)
            most = most.with_oracles(learner.requires.oracles)
            least = attempts(learner, problems, generator, learner.requires)
            for id, attempt in attempts(learner, problems, generator, most).items():
                _same(attempt, least[id], f"under {most}")

    def test_04_budgets_are_kept_and_what_was_found_is_returned(self) -> None:
        for currency in LIMITS:
            spent = max(getattr(a.cost, currency) for a in self._everywhere())
            for amount in sorted({1, 3, spent // 2, spent - 1} if spent > 1 else {0}):
                self._within(Budget(**{currency: amount}))

    def test_05_nothing_to_spend_is_survived(self) -> None:
        self._within(Budget(**dict.fromkeys(LIMITS, 0)))

    def test_06_the_seed_decides_whatever_runs_beside_it(self) -> None:
        learner = get_learner(self.make())
        for generator, problems in self._places(learner):
            known = attempts(learner, problems, generator, learner.requires)
            for concurrency in (1, 2, len(problems)):
                for order in (problems, problems[::-1]):
                    again = attempts(
                        learner, order, generator, learner.requires, concurrency=concurrency
                    )
                    for id, attempt in again.items():
                        _same(attempt, known[id], f"with {concurrency} at a time")

    def test_07_its_text_makes_it_again(self) -> None:
        learner = get_learner(self.make())
        for name, value in learner.params.items():
            plain = value is None or isinstance(value, (bool, int, float, str))
            expect(plain, f"{name}={value!r} cannot be written in a spec")
        expect(bool((learner.function.__doc__ or "").strip()), "it has no docstring")

    def _places(self, learner: BoundLearner) -> Places:
        """Those that can serve it."""
        return [
            (generator, problems)
            for generator, problems in self.places
            if generator.capabilities.refusal(learner.requires) is None
        ]

    def _everywhere(self, budget: Budget | None = None) -> list[Attempt]:
        learner = get_learner(self.make())
        return [
            attempt
            for generator, problems in self._places(learner)
            for attempt in attempts(
                learner, problems, generator, learner.requires, budget=budget
            ).values()
        ]

    def _within(self, budget: Budget) -> None:
        for attempt in self._everywhere(budget):
            within = f"with {budget.to_dict()}"
            for currency, limit in budget.to_dict().items():
                spent = getattr(attempt.cost, currency)
                expect(spent <= limit, f"it spent {spent} {currency} {within}")
            expect(attempt.error is None, f"{within} it failed: {attempt.error}")
            expect(attempt.stopped is None, f"{within} it lets BudgetExceeded through")


def _same(attempt: Attempt, known: Attempt, what: str) -> None:
    expect(
        attempt.output == known.output, f"{what} it returns {attempt.output}, not {known.output}"
    )
    expect(attempt.cost == known.cost, f"{what} it costs {attempt.cost}, not {known.cost}")


def check_learner(learner: AnyLearner, places: Places | None = None) -> None:
    """Run every check of ``LearnerConformance``.

    Args:
        learner: a learner, its factory or its name (``FILE.py:NAME`` too).
        places: see ``LearnerConformance``.

    Raises:
        AssertionError: names every check that failed, with its reason.
    """
    check_all(LearnerConformance, lambda: learner, places=places)
