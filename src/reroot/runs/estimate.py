"""What a comparison will take, from a few of its own attempts.

The probe makes one attempt of every stratum (learner, law, task and horizon), and then, if that was
quick, three more of each. They are attempts of the run: they count, and none is made twice. Each
stratum has the same share of the problems, so the mean over its attempts stands for the rest of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from ..access.runner import Attempt, Job
from .made import Picked

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


@dataclass(slots=True)
class Share:
    """What is left of a stratum.

    Attributes:
        first: its first jobs, as many as a probe may take.
        count: all of them.
    """

    first: list[Job]
    count: int = 0


def shares_of(
    left: Picked[Job], place: Callable[[int], tuple[object, ...]]
) -> dict[tuple[object, ...], Share]:
    """The strata of the jobs that are left; these are counted, and few are made.

    Args:
        left: the jobs.
        place: position of a job in all jobs → its stratum.
    """
    shares = dict[tuple[object, ...], Share]()
    for number, position in enumerate(left.positions):
        share = shares.setdefault(place(position), Share([]))
        share.count += 1
        if share.count <= FIRST + SECOND:
            share.first.append(left[number])
    return shares


def probe(
    shares: Mapping[tuple[object, ...], Share],
    make: Callable[[Sequence[Job], float], Mapping[str, Attempt]],
    concurrency: int,
) -> Estimate:
    """Make a few of the attempts that are left, and say what the others will take.

    Args:
        shares: stratum → what is left of it, which is made from its first on.
        make: makes attempts, for at most so many seconds; every finished attempt, by key.
        concurrency: attempts in flight.
    """
    waves, found = list[Wave](), dict[str, Attempt]()
    left, taken, cut = sum(share.count for share in shares.values()), 0, False
    for count in (FIRST, SECOND):
        jobs = [job for share in shares.values() for job in share.first[taken : taken + count]]
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
    return Estimate(
        left,
        len(found),
        tokens_of(shares.values(), found),
        seconds_of(waves, left - len(found), concurrency),
        cut,
    )


def tokens_of(shares: Iterable[Share], found: Mapping[str, Attempt]) -> Range:
    """Generated tokens of all the jobs, from those whose attempts were found."""
    total = variance = unknown = known = 0.0
    for share in shares:
        seen = np.array([found[job.key].cost.tokens for job in share.first if job.key in found])
        known += float(seen.sum())
        if len(seen):
            total += share.count * float(seen.mean())
            rest = share.count - len(seen)  # those that were made are known
            if len(seen) > 1 and rest:
                variance += float(seen.var(ddof=1)) * rest * (1 + rest / len(seen))
        else:
            unknown += share.count * (share.first[0].budget.tokens or 0)
    around = 2 * variance**0.5
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
