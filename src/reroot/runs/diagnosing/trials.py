"""Attempts on problems within one budget of tokens, whatever each of them may cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...access.attempt import Attempt, Job
from ...access.episode import Episode, oracles_of
from ...access.learner import BoundLearner
from ...contract import Contract, Sampling
from ...errors import BackendError
from ...generators.base import Generator
from ...types import Budget
from ..attempts import JUDGE_DOWN, Execution, Maker, RunFolder, make_attempts
from .patient import Patient

_SEEDS = 1_000_003
"""Seeds of one examination are apart from those of the next."""
_EVERY = 2.0
"""Seconds between lines about a phase while it goes on."""

Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt on a problem.

    Attributes:
        name: of it, among those of the problem.
        learner: what is tried.
        seed: of the attempt.
        worst: tokens that it may generate.
        episode: another form of the problem; ``None``: the problem as it is.
    """

    name: str
    learner: BoundLearner
    seed: int
    worst: int
    episode: Episode | None = None


class Trials:
    """Attempts, and what is left of the budget.

    Args:
        generator: of all problems.
        granted: what may be used; its sampling law is the trainer's.
        budget: generated tokens in all.
        how: how attempts are made.
        folder: where they are kept.
        told: called with a line as it goes on.
        seed: of the attempts.
        maker: makes them where there is a folder, in this process or elsewhere.

    Attributes:
        attempts: every attempt, by key.
        spent: generated tokens so far.
        notes: what was not tried, and why.
    """

    def __init__(
        self,
        generator: Generator,
        granted: Contract,
        budget: int,
        how: Execution,
        folder: RunFolder | None,
        told: Progress,
        seed: int,
        maker: Maker = make_attempts,
    ) -> None:
        self.generator, self.granted, self.budget = generator, granted, budget
        self.law = granted.sampling or Sampling()
        self.attempts, self.spent, self.notes = dict[str, Attempt](), 0, list[str]()
        self._how, self._folder, self._told, self._seed = how, folder, told, seed
        self._maker = maker

    @property
    def left(self) -> int:
        """Tokens that may still be generated."""
        return self.budget - self.spent

    def tell(self, line: str) -> None:
        self._told(f"{line}; {self.spent:,} of {self.budget:,} tokens")

    def note(self, line: str) -> None:
        """Say it once."""
        if line not in self.notes:
            self.notes.append(line)

    def permits(self, learner: BoundLearner, episode: Episode, law: Sampling | None = None) -> bool:
        """Whether what is granted, with the problem's oracles, allows a learner."""
        needed = self._needed(learner, law)
        return needed <= self._granted(needed, episode)

    def make(
        self,
        phase: str,
        wanted: Mapping[Patient, Sequence[Trial]],
        law: Sampling | None = None,
    ) -> dict[Patient, list[Attempt]]:
        """The attempts on those problems that the budget carries, in their order.

        As many problems at a time as could be paid for if every attempt took the most that it may; then those that
        are left, from what it has not taken.

        Args:
            phase: its name, for keys and notes.
            wanted: problem → what is tried on it; all of it or nothing.
            law: ``None``: the trainer's.

        Raises:
            BackendError: the generator failed.
        """
        waiting = {p: t for p, t in wanted.items() if t and self._allowed(phase, p, t, law)}
        made: dict[Patient, list[Attempt]] = {}
        total = sum(map(len, waiting.values()))
        while waiting:
            left, wave = self.left, list[Patient]()
            for patient, trials in waiting.items():
                left -= sum(
                    t.worst for t in trials if self._key(patient, phase, t) not in self.attempts
                )
                if left < 0:
                    break
                wave.append(patient)
            if not wave:
                break
            jobs = {p: [self._job(p, phase, t, law) for t in waiting.pop(p)] for p in wave}
            done = sum(map(len, made.values()))
            self._run(phase, [j for row in jobs.values() for j in row], done, total)
            for p, row in jobs.items():
                made[p] = [self.attempts[j.key] for j in row if j.key in self.attempts]
        return {p: made[p] for p in wanted if p in made}

    # ---- one wave ------------------------------------------------------------------------------

    def _run(self, phase: str, jobs: Sequence[Job], done: int, total: int) -> None:
        new = [job for job in jobs if job.key not in self.attempts]
        count, last = done, time.monotonic()

        def finished(attempt: Attempt) -> None:
            nonlocal count, last
            self._how.on_attempt(attempt)
            count, now = count + 1, time.monotonic()
            if now - last >= _EVERY:
                last = now
                self.tell(f"{phase}: {count} of {total} attempts")

        how = replace(self._how, on_attempt=finished)
        if self._folder is None:
            made = make_attempts(new, self.generator, how)
        else:
            made = self._maker(new, self.generator, how, self._folder)
        for job in new:
            attempt = made.get(job.key)
            if attempt is None:
                continue  # the judge was down
            if attempt.error is not None and attempt.error.who in ("generator", "reroot"):
                raise BackendError(str(attempt.error))
            self.attempts[job.key] = attempt
            self.spent += attempt.cost.tokens
        missing = sum(job.key not in self.attempts for job in jobs)
        if missing:
            self.notes.append(
                f"{phase}: the judge failed {JUDGE_DOWN} times in a row, so {missing} attempts were left"
            )
        self.tell(f"{phase}: {done + len(jobs)} of {total} attempts")

    def _key(self, patient: Patient, phase: str, trial: Trial) -> str:
        return f"{patient.id}/{phase}/{trial.name}"

    def _job(self, patient: Patient, phase: str, trial: Trial, law: Sampling | None) -> Job:
        return Job(
            self._key(patient, phase, trial),
            trial.learner,
            trial.episode or patient.episode,
            self._needed(trial.learner, law),
            Budget(tokens=trial.worst),
            self._seed * _SEEDS + trial.seed,
        )

    # ---- what is granted -----------------------------------------------------------------------

    def _needed(self, learner: BoundLearner, law: Sampling | None) -> Contract:
        return replace(learner.requires, sampling=law or self.law)

    def _granted(self, needed: Contract, episode: Episode) -> Contract:
        have = oracles_of(episode.problem)
        return replace(self.granted, sampling=needed.sampling).or_oracles(have).resolved

    def _allowed(
        self, phase: str, patient: Patient, trials: Sequence[Trial], law: Sampling | None
    ) -> bool:
        """Whether all of them are; else it is said."""
        for trial in trials:
            episode = trial.episode or patient.episode
            if not self.permits(trial.learner, episode, law):
                needed = self._needed(trial.learner, law)
                granted = self._granted(needed, episode)
                self.note(f"{phase} was not tried: it needs {needed}, granted is {granted}")
                return False
        return True
