"""Checks of cases: by enumeration of every random choice, step by step, or by many runs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..access.learner import BoundLearner
from ..access.runner import Attempt
from ..contract import Contract, Control, Report, Sampling
from ..errors import InvalidInput, Shown
from ..runs.run import run
from ..testing import EnumeratedRun, enumerate_runs, law_of, total_variation
from ..types import CURRENCIES
from .case import (
    EXACT,
    Case,
    Chain,
    Sampled,
    Weighted,
    kl_divergence,
    largest_ratio,
)
from .toys import Law, Tokens

LIMIT = 200_000
"""Most runs of one enumeration."""

CONFIDENCE = 0.99
"""Of the interval around a sampled total variation."""


@dataclass(frozen=True)
class Distances:
    """How far a law is from another: total variation, KL (nats) and the largest ratio."""

    tv: float
    kl: float
    ratio: float

    @classmethod
    def of(cls, found: Law, law: Law) -> Distances:
        measures = total_variation, kl_divergence, largest_ratio
        return cls(*(measure(found, law) for measure in measures))


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """What was found about a case.

    Attributes:
        case: the case.
        law: what was found: the law of the output; of a chain the law after one step from the
            stationary one; of a weighted sample the weighted law.
        costs: currency → expected cost.
        runs: runs that were made.
        output: the law of the learner's own output, where that is another one.
        stated: distances of ``law`` to the one that is stated.
        aimed: distances of the learner's own output to the law that it approaches.
        margin: half of the interval around the total variation; 0: exact.
        holds: whether the statement holds; ``None``: nothing is stated.
        faults: what is wrong, in words.
        seconds: time it took.
    """

    case: Case
    law: Law
    costs: Mapping[str, float]
    runs: int
    output: Law | None = None
    stated: Distances | None = None
    aimed: Distances | None = None
    margin: float = 0.0
    holds: bool | None = None
    faults: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def how(self) -> str:
        """``"enumerated"``, ``"per step"``, ``"weighted"`` or ``"sampled"``."""
        return self.case.how

    def __repr__(self) -> str:
        said = {None: "nothing stated", True: "holds", False: "fails"}[self.holds]
        return f"Certificate({self.case.learner.label}, {self.case.states!r}, {self.how}: {said})"


def certify(case: Case) -> Certificate:
    """Check one case.

    Raises:
        InvalidInput: the enumeration is too large, or a run failed.
    """
    started = time.perf_counter()
    found = next(check(case) for kind, check in _CHECKS.items() if isinstance(case, kind))
    stated = None if case.law is None else Distances.of(found.law, case.law)
    own = found.law if found.output is None else found.output
    aimed = None if case.aim is None else Distances.of(own, case.aim.law)
    faults = list(found.faults)
    if stated is not None and stated.tv > EXACT + found.margin:
        faults.append(f"the law is {stated.tv:.3g} from the stated one in total variation")
    for currency, expected in case.costs.items():
        cost = found.costs[currency]
        tolerance = 0.1 if found.margin else 1e-9  # a mean over samples, or exact
        if not math.isclose(cost, expected, rel_tol=tolerance, abs_tol=1e-9):
            faults.append(f"{cost:.6g} {currency} in expectation, the formula gives {expected:.6g}")
    nothing = case.law is None and not case.costs and not faults
    holds = None if nothing else not faults
    seconds = time.perf_counter() - started
    more = {"stated": stated, "aimed": aimed, "faults": tuple(faults), "seconds": seconds}
    return replace(found, holds=holds, **more)


def _runs(case: Case, learner: BoundLearner, grants: Contract) -> list[EnumeratedRun]:
    problem, generator = case.toy.problem(case.beta), case.toy.generator
    runs = enumerate_runs(learner, problem, generator, grants=grants, choices=True, limit=LIMIT)
    _refuse_errors([r.attempt for r in runs])
    return runs


def _refuse_errors(attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        if attempt.error is not None:
            raise InvalidInput(f"{attempt.learner} failed in a run: {attempt.error}")


def _output(run: EnumeratedRun) -> Tokens | None:
    output = run.attempt.output
    return None if output is None else output.tokens


def _costs(runs: Sequence[EnumeratedRun]) -> dict[str, float]:
    return {
        c: math.fsum(r.probability * getattr(r.attempt.cost, c) for r in runs) for c in CURRENCIES
    }


def _enumerated(case: Case) -> Certificate:
    runs = _runs(case, case.learner, case.grants)
    return Certificate(case, law_of(runs, case.view or _output), _costs(runs), len(runs))


def _weighted(case: Weighted) -> Certificate:
    """The law of the output with each run weighted by Ẑ/Z."""
    runs = _runs(case, case.learner, case.grants)
    weighted: dict[Tokens | None, float] = {}
    total = 0.0
    for r in runs:
        log_z = r.attempt.metadata["log_normalizer"]
        weight = 0.0 if log_z is None else math.exp(log_z - case.log_z)
        total += r.probability * weight
        output = _output(r)
        weighted[output] = weighted.get(output, 0.0) + r.probability * weight
    biased = f"the mean of Ẑ is {total:.6g} times Z: the normalizer is biased"
    faults = (biased,) if abs(total - 1.0) > EXACT else ()
    output = law_of(runs, _output)
    return Certificate(case, weighted, _costs(runs), len(runs), output, faults=faults)


def _sampled(case: Sampled) -> Certificate:
    """Frequencies of many runs; the interval is E TV of draws from the stated law + McDiarmid's deviation."""
    problem, n = case.toy.problem(case.beta), case.samples
    problems = [replace(problem, id=f"{problem.id}/{i}") for i in range(n)]
    result = run(case.learner, problems, case.toy.generator, grants=case.grants, on_error="record")
    _refuse_errors(result.attempts)
    view = case.view or _output
    counts = Counter(view(EnumeratedRun(1.0 / n, a, [])) for a in result.attempts)
    spread = _spread(case.law, n) if case.law else 0.5 * math.sqrt(len(counts) / n)
    margin = spread + math.sqrt(math.log(1 / (1 - CONFIDENCE)) / (2 * n))
    costs = {c: float(np.mean([getattr(a.cost, c) for a in result.attempts])) for c in CURRENCIES}
    return Certificate(case, {y: k / n for y, k in counts.items()}, costs, n, margin=margin)


def _spread(law: Law, n: int) -> float:
    """Expected total variation of n draws from their own law, at most: ½ Σ √(p(1 − p)/n)."""
    return math.fsum(math.sqrt(max(0.0, p * (1.0 - p)) / n) for p in law.values()) / 2


def _chain(case: Chain) -> Certificate:
    """One step from every state leaves the stationary law as it is; some steps make the learner."""
    kernel, count = _kernel(case)
    faults: list[str] = []
    moved = _stepped(case.stationary, kernel)
    off = total_variation(moved, case.stationary)
    if off > EXACT:
        faults.append(f"a step moves the stationary law by {off:.3g} in total variation")
    law: Mapping[Tokens, float] = case.start
    for _ in range(case.steps):
        law = _stepped(law, kernel)
    runs = _runs(case, case.learner, case.grants)
    found = law_of(runs, case.view or _output)
    apart = total_variation(found, case.read(law))
    if apart > EXACT:
        faults.append(f"the learner is {apart:.3g} from its own steps in total variation")
    limit, output = _given_output(case.read(moved)), _given_output(found)
    if not output:
        faults.append("the learner gives no output in so few steps: that shows nothing")
    made = len(runs) + count
    return Certificate(case, limit, _costs(runs), made, output, faults=tuple(faults))


def _given_output(law: Law) -> Law:
    mass = math.fsum(v for y, v in law.items() if y is not None)
    return {y: v / mass for y, v in law.items() if y is not None}


def _kernel(case: Chain) -> tuple[dict[Tokens, Law], int]:
    """State → law of the state after one step, of every state that has stationary mass."""
    needs = case.learner.requires
    report = needs.report.join(Report.LOGPROB)
    grants = Contract(Control.CHOSEN, report, Sampling(), needs.oracles)
    kernel: dict[Tokens, Law] = {}
    count = 0
    for state in case.stationary:
        runs = _runs(case, case.step(state=state), grants)
        kernel[state], count = law_of(runs, _output), count + len(runs)
    return kernel, count


def _stepped(law: Mapping[Tokens, float], kernel: Mapping[Tokens, Law]) -> dict[Tokens, float]:
    found: dict[Tokens, float] = {}
    for state, mass in law.items():
        for to, probability in kernel[state].items():
            assert to is not None
            found[to] = found.get(to, 0.0) + mass * probability
    return found


_CHECKS: dict[type[Case], Callable[[Any], Certificate]] = {
    Chain: _chain,
    Weighted: _weighted,
    Sampled: _sampled,
    Case: _enumerated,
}
"""By the most particular kind of a case."""
