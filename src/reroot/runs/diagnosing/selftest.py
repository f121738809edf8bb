"""``reroot diagnose --selftest``: the rule on problems whose cause is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...access.episode import bind
from ...contract import Contract, Sampling
from ...diagnosis.causes import Cause, Ruling, rule
from ...errors import MissingDependency, WorkerDied
from ..executors.base import Executor, Work, singly
from ..models import DEFAULT_LOAD, Load, load_text_generator
from .cases import Case, all_cases
from .examination import Examination

_OTHERS = ("Alan Turing", "Grace Hopper", "Emmy Noether", "Kurt Gödel", "London", "Madrid", "Oslo")
"""Answers of problems that are not there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case under one seed."""

    case: Case
    seed: int
    ruling: Ruling
    tokens: int

    @property
    def right(self) -> bool:
        """One of the causes that it has was named first."""
        return self.ruling.cause in self.case.truth

    @property
    def wrong(self) -> bool:
        """A cause was named that it does not have."""
        return not self.right and self.ruling.cause != Cause.UNDETERMINED


def selftest(
    seeds: int,
    *,
    cases: Sequence[Case] | None = None,
    told: Callable[[str], object] = lambda line: None,
) -> list[Outcome]:
    """Diagnose every case under ``seeds`` seeds, each with a budget that its tests can use up."""
    found = list[Outcome]()
    for case in all_cases() if cases is None else cases:
        found += [_one(case, seed) for seed in range(seeds)]
        told(f"{case.name}: {', '.join(str(o.ruling.cause) for o in found[-seeds:])}")
    return found


def selftest_away(
    seeds: int,
    executor: Executor,
    make: Callable[[], Sequence[Case]],
    *,
    cases: Sequence[Case],
    told: Callable[[str], object] = lambda line: None,
) -> list[Outcome]:
    """As ``selftest`` of ``cases``, in the workers of an executor.

    Args:
        seeds: of each case.
        executor: makes the diagnoses.
        make: makes the same cases, once in each worker; picklable.
        cases: the cases.
        told: gets a line on each case when all its seeds are done.

    Raises:
        WorkerDied: the workers of a case died.
    """
    places = [(i, seed) for i in range(len(cases)) for seed in range(seeds)]
    found: dict[tuple[int, int], Outcome] = {}
    with executor.pool(partial(_begin, make)) as pool:
        for done in pool.results(singly((f"{i}/{seed}", (i, seed)) for i, seed in places)):
            i, seed = map(int, done.key.split("/"))
            if done.lost:
                raise WorkerDied(f"no diagnosis of {cases[i].name}: {done.lost}")
            found[i, seed] = Outcome(cases[i], seed, *done.value)
            mine = [found[i, s] for s in range(seeds) if (i, s) in found]
            if len(mine) == seeds:
                told(f"{cases[i].name}: {', '.join(str(o.ruling.cause) for o in mine)}")
    return [found[place] for place in places]


def _begin(make: Callable[[], Sequence[Case]]) -> Work:
    cases = make()

    def work(places: Sequence[tuple[int, int]]) -> list[tuple[Ruling, int]]:
        made = [_one(cases[i], seed) for i, seed in places]
        return [(one.ruling, one.tokens) for one in made]

    return work


def made_cases(model: str, load: Load) -> list[Case]:
    """``cases_of`` without notes, for a worker."""
    return cases_of(model, load)[0]


def _one(case: Case, seed: int) -> Outcome:
    generator, problem = case.make(seed)
    granted = replace(Contract.parse("chosen/full"), sampling=Sampling.parse(case.sampling))
    examined = Examination(
        [bind(problem, generator)],
        generator,
        granted.resolved,
        group=case.group,
        budget=1_000_000,
        reaches=False,
        answers=_OTHERS,
        seed=seed,
    )
    examined.run()
    return Outcome(case, seed, rule(examined.patients[0].evidence()), examined.spent)


def confusion(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """What a case has → what was found → how often; cases near a threshold are left out."""
    table: dict[str, dict[str, int]] = {}
    for one in outcomes:
        if not one.case.near:
            row = table.setdefault(" + ".join(sorted(one.case.truth)), {})
            said = str(one.ruling.cause)
            row[said] = row.get(said, 0) + 1
    return table


def rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares of right and of wrong definite diagnoses, those near a threshold apart for the first."""
    clear = [o for o in outcomes if not o.case.near]
    return {
        "right": sum(o.right for o in clear) / len(clear),
        "wrong": sum(o.wrong for o in outcomes) / len(outcomes),
        "tokens": sum(o.tokens for o in outcomes) / len(outcomes),
    }


def cases_of(model: str, load: Load = DEFAULT_LOAD) -> tuple[list[Case], list[str]]:
    """(cases, notes): those on a model, or all that are made here; what is left out is said.

    Raises:
        InvalidInput: there is no such model, or it has no text.
    """
    from .trained import model_cases, transformer_cases

    if model:
        return model_cases(load_text_generator(model, load, {})), []
    try:
        return [*all_cases(), *transformer_cases()], []
    except MissingDependency as error:
        return all_cases(), [f"cases on a transformer are left out: {error}"]


def selftest_summary(outcomes: Sequence[Outcome], notes: Sequence[str] = ()) -> dict[str, Any]:
    """What was found as JSON values: the table of confusion, shares, and each case."""
    by_case: dict[str, dict[str, Any]] = {}
    for one in outcomes:
        truth = " + ".join(sorted(one.case.truth))
        row = by_case.setdefault(one.case.name, {"truth": truth, "near": one.case.near, "said": []})
        row["said"].append(str(one.ruling.cause))
    return {
        "confusion": confusion(outcomes),
        **rates(outcomes),
        "diagnoses": len(outcomes),
        "cases": by_case,
        "notes": list(notes),
    }
