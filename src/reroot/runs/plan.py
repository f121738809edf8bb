"""What a comparison will do: decided, checked and written down before anything runs."""

from __future__ import annotations

import shlex
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

from .._version import __version__
from ..access.episode import Episode
from ..access.learner import BoundLearner, LearnerFactory
from ..access.runner import Job
from ..access.wall import Wall, refusal
from ..checks import check_float, check_int
from ..contract import Contract, Sampling
from ..errors import InvalidInput
from ..generators.base import Generator
from ..tasks.base import Task
from ..types import Budget
from ..types.account import check_priced, noted, share
from .cells import Cell
from .inputs import check_shares
from .made import Lazy
from .models import Load, is_family
from .numbered import Numbered
from .tables import attempt_key
from .workload import Workload

AnyLearner = BoundLearner | LearnerFactory[...] | str

DEFAULT_BUDGET_TOKENS = 200_000
_LARGEST = 2**40  # more than there are problems in a cell


class Stratum(NamedTuple):
    """The attempts of one learner under one law on the problems of a cell.

    Attributes:
        cell: the problems.
        learner: who makes the attempts.
        contract: what it is served.
        budget: of each attempt.
    """

    cell: Cell
    learner: BoundLearner
    contract: Contract
    budget: Budget

    @property
    def place(self) -> tuple[object, ...]:
        """(learner, law, task, horizon): strata that differ in their seeds alone have the same."""
        law = str(self.contract.sampling)
        return self.learner.label, law, self.cell.task, self.cell.horizon

    def job(self, episode: Episode) -> Job:
        """The attempt on one of the problems."""
        label, law = self.learner.label, str(self.contract.sampling)
        key = attempt_key(episode.problem.id, label, law)
        return Job(key, self.learner, episode, self.contract, self.budget, self.cell.seed)


class Jobs(Lazy[Job]):
    """All attempts of a comparison, each made when it is asked for: of many neither jobs nor keys are held.

    Args:
        strata: what they consist of, in this order.
    """

    def __init__(self, strata: Sequence[Stratum]) -> None:
        self._strata = strata
        self._ends = list(accumulate(len(stratum.cell.episodes) for stratum in strata))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def item(self, at: int) -> Job:
        stratum, at = self._at(at)
        return stratum.job(stratum.cell.episodes[at])

    def _at(self, index: int) -> tuple[Stratum, int]:
        number = bisect_right(self._ends, index)
        stratum = self._strata[number]
        return stratum, index - self._ends[number] + len(stratum.cell.episodes)

    def place(self, index: int) -> tuple[object, ...]:
        """The place of the stratum of a job, which is not made for it."""
        return self._at(index)[0].place


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before anything runs."""

    workload: Workload
    grants: tuple[Contract, ...]
    learners: tuple[BoundLearner, ...]
    budgets: Mapping[str, float]
    seeds: int
    beta: float
    load: Load

    def check(self) -> None:
        """Refuse what the generator or the budgets do not allow (``InvalidInput``)."""
        generator = self.workload.generator
        if isinstance(generator, Wall) and not generator.results:
            raise InvalidInput(
                "a comparison needs rewards of what learners return, which the key is not told: "
                "see 'reroot keys add --results'"
            )
        check_shares(self.budgets, self._largest)
        usd = Budget(usd=self.budgets.get("usd"))
        check_priced(usd, self.workload.generator.capabilities.prices)
        for contract in self.grants:
            refused = refusal(self.workload.generator, contract)
            if refused is not None:
                raise InvalidInput(f"the generator cannot honour {contract}: {refused}")

    @property
    def _largest(self) -> int:
        """Problems of the largest cell: a file may have fewer than are asked for."""
        return max(len(cell.episodes) for cell in self.workload.cells)

    def granted(self, task: str) -> list[Contract]:
        """The contracts with the task's oracles, which are those of all its problems."""
        oracles = self.workload.oracles(task)
        return [contract.or_oracles(oracles).resolved for contract in self.grants]

    def jobs(self) -> Jobs:
        """Every learner on every problem, once per sampling law, served exactly what it requires.

        A stronger contract would give identical outputs at identical logical cost (it is a test),
        so nothing is run twice.
        """
        laws = {
            (n, task): sorted({c.sampling for c in granted if learner.requires <= c}, key=str)
            for task in self.workload.tasks
            for granted in [self.granted(task)]
            for n, learner in enumerate(self.learners)
        }
        return Jobs(
            [
                self._stratum(cell, learner, law)
                for cell in self.workload.cells
                for number, learner in enumerate(self.learners)
                for law in laws[number, cell.task]
            ]
        )

    def finder(self) -> Callable[[tuple[str, str, Sampling]], Job]:
        """(problem, learner, law) → that job; the jobs themselves are in no memory."""
        cells, places = self.workload.cells, Numbered()
        for number, cell in enumerate(cells):
            for at, episode in enumerate(cell.episodes):
                places[episode.problem.id] = number * _LARGEST + at
        learners = {learner.label: learner for learner in self.learners}

        def find(told: tuple[str, str, Sampling]) -> Job:
            problem, label, law = told
            place = places.get(problem)
            assert place is not None
            cell = cells[place // _LARGEST]
            return self._stratum(cell, learners[label], law).job(cell.episodes[place % _LARGEST])

        return find

    def _stratum(self, cell: Cell, learner: BoundLearner, law: Sampling | None) -> Stratum:
        budget = Budget(**_shared(self.budgets, len(cell.episodes)))
        return Stratum(cell, learner, replace(learner.requires, sampling=law), budget)

    def config(self) -> dict[str, Any]:
        """The identity of the comparison, as written to ``config.json``."""
        work = self.workload
        return {
            "kind": "compare",
            "version": __version__,
            "model": work.model,
            **({"code": dict(work.code)} if work.code else {}),
            "generator": dict(work.generator.describe()),
            "tasks": list(work.tasks),
            **({"value": work.value} if work.value else {}),
            **({"data": dict(work.data), "notes": list(work.notes)} if work.data else {}),
            "horizons": list(work.horizons),
            "grants": [str(g) for g in self.grants],
            "granted": {t: list(map(str, self.granted(t))) for t in work.tasks},
            "learners": [
                {**x.identity(), "label": x.label, "requires": str(x.requires)}
                for x in self.learners
            ],
            "budget": _shared(self.budgets, self._largest),
            **noted(work.generator.capabilities.prices),
            **{f"budget_{c}_per_cell": amount for c, amount in self.budgets.items()},
            "seeds": self.seeds,
            "problems": self._largest,
            "digest": work.digest(),
            "beta": self.beta,
            "command": self.command(),
        }

    def command(self) -> str:
        """A shell command that makes the same comparison; what it cannot say it names at the end."""
        work = self.workload
        parts = ["reroot", "compare", "--model", work.model]
        if not is_family(work.model):
            parts += ["--task", ",".join(work.tasks)]
        parts += ["--value", work.value] if work.value else []
        if sizes := [str(h) for h in work.horizons if h]:
            parts += ["--horizons", ",".join(sizes)]
        parts += ["--grants", ",".join(map(str, self.grants))]
        for learner in self.learners:
            parts += ["--learner", learner.spec]
        for currency, amount in self.budgets.items():
            parts += [f"--budget-{currency}", str(amount)]
        parts += ["--seeds", str(self.seeds), "--problems", str(work.count)]
        parts += ["--beta", repr(self.beta)]
        for name, value in sorted(
            self.load.changed().items(), key=lambda item: item[1] is not True
        ):
            parts += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
        objects = [*work.objects, *(x.label for x in self.learners if x.is_object)]
        return shlex.join(parts) + (f"  # from Python: {', '.join(objects)}" if objects else "")


def budgets_of(tokens: int | None, calls: int | None, usd: float | None) -> dict[str, float]:
    """Currency → amount per cell; tokens, unless something else alone is limited."""
    if tokens is None and calls is None and usd is None:
        tokens = DEFAULT_BUDGET_TOKENS
    given = {"tokens": tokens, "calls": calls}
    found: dict[str, float] = {
        c: check_int(f"budget_{c}", n, 1) for c, n in given.items() if n is not None
    }
    return found if usd is None else {**found, "usd": check_float("budget_usd", usd, 0.0)}


def _shared(budgets: Mapping[str, float], count: int) -> dict[str, Any]:
    return {c: share(n, count) if c == "usd" else n // count for c, n in budgets.items()}


DEFAULT_GRANTS = ("root/sample", "visited/sample", "reset/sample", "chosen/full")


def granted_by(generator: Generator) -> tuple[Contract, ...]:
    """The contracts that are compared where none is named: ``DEFAULT_GRANTS``, or what a server's key is
    granted, if that is less."""
    usual = tuple(map(Contract.parse, DEFAULT_GRANTS))
    if isinstance(generator, Wall) and not all(c.resolved <= generator.grants for c in usual):
        return (generator.grants,)
    return usual


def contracts_of(grants: Contract | str | Sequence[Contract | str]) -> tuple[Contract, ...]:
    contracts = tuple(map(Contract.parse, several("grants", grants, Contract)))
    if not contracts:
        raise InvalidInput("compare needs at least one contract in grants")
    if len(set(contracts)) != len(contracts):
        raise InvalidInput(f"grants repeat: {', '.join(map(str, contracts))}")
    return contracts


def chosen_learners(learners: AnyLearner | Sequence[AnyLearner]) -> tuple[AnyLearner, ...]:
    """What was given, or the default set."""
    from ..learners import DEFAULT_COMPARISON

    return several("learners", learners, BoundLearner, LearnerFactory) or DEFAULT_COMPARISON


def learners_of(
    learners: AnyLearner | Sequence[AnyLearner],
    find: Callable[[AnyLearner], BoundLearner] | None = None,
) -> tuple[BoundLearner, ...]:
    """The learners of a comparison; ``find``: what was given → the learner (``None``: ``get_learner``)."""
    from ..learners import get_learner

    bound = tuple(map(find or get_learner, chosen_learners(learners)))
    labels = [learner.label for learner in bound]
    if len(set(labels)) != len(labels):
        raise InvalidInput(f"learners repeat: {', '.join(labels)}")
    return bound


def tasks_of(tasks: str | Task | Sequence[str | Task]) -> tuple[str | Task, ...]:
    if callable(getattr(tasks, "problems", tasks)):
        return (tasks,)  # type: ignore[return-value]
    return several("task", tasks)


def several(name: str, value: Any, *kinds: type) -> tuple[Any, ...]:
    """One or more, as a tuple (``InvalidInput`` for what is neither)."""
    if isinstance(value, (str, *kinds)):
        return (value,)
    if not isinstance(value, Sequence):
        raise InvalidInput(f"{name} must be one or a list of them, got {value!r}")
    return tuple(value)
