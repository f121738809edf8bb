"""What a comparison will take, from a few of its own attempts.

The probe makes one attempt of every stratum (learner, law, task and horizon), and then, if that was
quick, three more of each. They are attempts of the run: they count, and none is made twice. Each
stratum has the same share of the problems, so the mean over its attempts stands for the rest of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from ..access.runner import Attempt, Job

FIRST, SECOND = 1, 3
"""Attempts of each stratum in the first and in the second wave of the probe."""

WORTH = 16
"""Attempts left per stratum from which a comparison that was not asked for an estimate makes one."""

QUICK = 5.0
"""Seconds of a first wave up to which there is a second."""

LONGEST = 30.0
"""Seconds after which a wave is cut off; what it has begun goes on with the run, nothing is lost."""


class Range(NamedTuple):
    """An estimate between what it would be at best and at worst."""

    middle: float
    low: float
    high: float


class Wave(NamedTuple):
    """Attempts that were made together, and the seconds that took."""

    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the rest of a comparison will take.

    Attributes:
        attempts: that were left before the probe.
        probed: how many of them the probe has made.
        tokens: generated tokens of all ``attempts``; the range is two standard errors, and where no attempt
            of a stratum has finished its budget is what counts.
        seconds: after the probe. The low end holds if attempts beside others cost no time, up to the
            concurrency; the high end, if they save none; between them two waves of unequal size tell.
        cut: a wave took longer than ``LONGEST`` and was cut off: the seconds are the least, not the most.
    """

    attempts: int
    probed: int
    tokens: Range
    seconds: Range
    cut: bool = False

    def __str__(self) -> str:
        middle, low, high = map(_clock, self.seconds)
        time = f"at least {middle}" if self.cut else f"about {middle} more ({low} to {high})"
        spread = self.tokens.middle - self.tokens.low
        tokens = f"{_round(self.tokens.middle):,} ± {_round(spread):,} generated tokens"
        return f"estimate, from {self.probed:,} of {self.attempts:,} attempts, which count: {time}, {tokens}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "tokens": self.tokens._asdict(), "seconds": self.seconds._asdict()}


def probe(
    strata: Mapping[str, tuple[object, ...]],
    left: Sequence[Job],
    make: Callable[[Sequence[Job], float], Mapping[str, Attempt]],
    concurrency: int,
) -> Estimate:
    """Make a few of the attempts that are left, and say what the others will take.

    Args:
        strata: key of a job → its stratum.
        left: the jobs; each stratum's are taken from its first on.
        make: makes attempts, for at most so many seconds; every finished attempt, by key.
        concurrency: attempts in flight.
    """
    waves, found = list[Wave](), dict[str, Attempt]()
    taken, cut = 0, False
    for count in (FIRST, SECOND):
        jobs = _first_of_each(strata, left, taken, count)
        if not jobs:
            break
        since = time.perf_counter()
        made = make(jobs, LONGEST)
        seconds = time.perf_counter() - since
        finished = {job.key: made[job.key] for job in jobs if job.key in made}
        found |= finished
        taken += count
        waves.append(Wave(len(jobs), seconds))
        cut = len(finished) < len(jobs)
        if cut or seconds > QUICK:
            break
    rest = len(left) - len(found)
    return Estimate(
        len(left),
        len(found),
        tokens_of(strata, left, found),
        seconds_of(waves, rest, concurrency),
        cut,
    )


def _first_of_each(
    strata: Mapping[str, tuple[object, ...]], left: Sequence[Job], start: int, count: int
) -> list[Job]:
    """Jobs number ``start`` … ``start + count − 1`` of each stratum."""
    seen, jobs = Counter[tuple[object, ...]](), list[Job]()
    for job in left:
        here = strata[job.key]
        if start <= seen[here] < start + count:
            jobs.append(job)
        seen[here] += 1
    return jobs


def tokens_of(
    strata: Mapping[str, tuple[object, ...]], left: Sequence[Job], found: Mapping[str, Attempt]
) -> Range:
    """Generated tokens of all the jobs, from those whose attempts were found."""
    spent: dict[tuple[object, ...], list[float]] = {}
    for job in left:
        if job.key in found:
            spent.setdefault(strata[job.key], []).append(found[job.key].cost.tokens)
    total = variance = 0.0
    unknown = 0.0
    for here, count in Counter(strata[job.key] for job in left).items():
        seen = np.array(spent.get(here, ()))
        if len(seen):
            total += count * float(seen.mean())
            rest = count - len(seen)  # those that were made are known
            if len(seen) > 1 and rest:
                variance += float(seen.var(ddof=1)) * rest * (1 + rest / len(seen))
        else:
            budget = next(job.budget.tokens for job in left if strata[job.key] == here)
            unknown += count * (budget or 0)
    around = 2 * variance**0.5
    known = sum(sum(values) for values in spent.values())
    return Range(total + unknown, max(total - around, known), total + unknown + around)


def seconds_of(waves: Sequence[Wave], rest: int, concurrency: int) -> Range:
    """Seconds of the ``rest``, where a wave of n attempts takes a + b·n with a, b >= 0.

    Of a wave that was cut off its seconds are what it took at least.
    """
    attempts, seconds = waves[-1]
    turns = rest / max(min(concurrency, rest), attempts, 1)
    low, high = seconds * turns, seconds * rest / max(attempts, 1)
    low = min(low, high)
    if len(waves) < 2 or attempts <= waves[0].attempts:
        return Range(high, low, high)
    each = max(seconds - waves[0].seconds, 0.0) / (attempts - waves[0].attempts)
    each = min(each, seconds / attempts)
    middle = (seconds - each * attempts) * turns + each * rest
    return Range(min(max(middle, low), high), low, high)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _round(number: float) -> int:
    """To two digits."""
    return int(float(f"{number:.2g}")) if number >= 100 else round(number)
