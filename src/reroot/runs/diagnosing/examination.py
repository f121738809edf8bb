"""The examination of a set of problems: which attempts are made, in which order, within one budget.

Rollouts come first, eight of each problem at a time, until the tests of τ have decided or the budget ends; then,
of silent problems, what would tell why: more room, the model's own law, teacher forcing, walks with the verifier,
clouds for the reach and starts from demonstrations. Everything is an attempt of a learner under the contract that
it needs, metered and kept in the run folder; what the granted contract does not permit is not tried, and said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ...access.attempt import Attempt, Job
from ...access.episode import Episode, bind, oracles_of
from ...access.learner import BoundLearner
from ...contract import Contract, Oracle, Sampling
from ...diagnosis.causes import Cause, RunningTest, rule
from ...diagnosis.starts import next_cut
from ...errors import BackendError, InvalidInput, OracleError
from ...generators.base import Generator
from ...learners.measuring import (
    demonstration_law,
    from_demonstration,
    reach_clouds,
    rollout,
    walked_group,
)
from ...learners.measuring.walked import WALKS
from ...learners.verified import tokenwise_rejection
from ...randomness import keyed_rng, stream_key
from ...tasks.judges import check
from ...tasks.self_check import self_check
from ...types import Budget
from ..attempts import JUDGE_DOWN, Execution, RunFolder, make_attempts
from .patient import LOOK, WALK_TEST, Patient, group_test

_MORE_ROOM = 4
"""How many times the horizon outputs get that were cut off."""
_SPREAD, _MORE, _FROM_EACH = 4, 4, 32
"""Places of a demonstration that are started from, spread evenly and then where the rate falls most; attempts each."""
_GROUPS, _DRAWS = 16, 40
"""Groups that start on walks, of each kind; draws per token that such a walk may need."""
_SEEDS = 1_000_003
"""Seeds of one examination are apart from those of the next."""
_LEAST_FOR_CLOUDS = 2000
"""Tokens below which clouds are not begun."""

Progress = Callable[[str], object]


class Examination:
    """Attempts on all problems, and what is left of the budget.

    Args:
        episodes: the problems.
        generator: of all of them.
        granted: what may be used; its sampling law is the trainer's.
        group: G.
        budget: generated tokens in all.
        remedy: B, tokens of a remedy per problem; ``None``: 4·G·H.
        how: how attempts are made.
        folder: where they are kept.
        told: called with a line as it goes on.
        seed: of the attempts.
        reaches: measure the reach of silent problems, and what places in demonstrations are worth.
        answers: right answers of other problems, to see how often answers stand in outputs by accident.

    Attributes:
        patients: one per problem.
        attempts: every attempt, by key.
        spent: generated tokens so far.
        notes: what was not tried, and why.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        generator: Generator,
        granted: Contract,
        *,
        group: int,
        budget: int,
        remedy: int | None = None,
        how: Execution | None = None,
        folder: RunFolder | None = None,
        told: Progress = lambda line: None,
        seed: int = 0,
        reaches: bool = True,
        answers: Sequence[str] = (),
    ) -> None:
        test = group_test(group)
        self.patients = [
            Patient(e, test, 4 * group * e.horizon if remedy is None else remedy) for e in episodes
        ]
        self.generator, self.group, self.budget, self.granted = generator, group, budget, granted
        self.spent, self.notes = 0, list[str]()
        self._how, self._folder, self._told, self._seed = how or Execution(), folder, told, seed
        self._law, self._reaches = granted.sampling or Sampling(), reaches
        self._answers = [*(e.problem.answer for e in episodes), *answers]
        self.attempts: dict[str, Attempt] = {}

    def run(self) -> None:
        """Everything, in order."""
        self._look_at_judges()
        self._roll_out()
        silent = [p for p in self.patients if p.passes().claim is False]
        self._tell(f"{len(silent)} of {len(self.patients)} problems are silent")
        self._force([p for p in self.patients if p.episode.problem.unique or p in silent])
        self._walk([p for p in silent if self._cause(p) in (Cause.UNDETERMINED, Cause.ACCESS)])
        if not self._reaches:
            return
        if silent:
            self._try_walked_groups()
        self._reach(silent)
        self._start_from_demonstrations([p for p in silent if self._cause(p) == Cause.ACCESS])

    def _cause(self, patient: Patient) -> Cause:
        return rule(patient.evidence()).cause

    def _tell(self, line: str) -> None:
        self._told(f"{line}; {self.spent:,} of {self.budget:,} tokens")

    # ---- what costs no tokens ------------------------------------------------------------------

    def _look_at_judges(self) -> None:
        limit = self._how.judge_timeout
        for patient in self.patients:
            problem = patient.episode.problem
            faults = [f.text for f in self_check([problem], limit=limit) if f.bad]
            patient.fault = next((f for f in faults if "demonstration has the reward" in f), "")
            patient.sound = self._accepts_the_demonstration(patient)

    def _accepts_the_demonstration(self, patient: Patient) -> bool:
        episode = patient.episode
        shown = episode.demonstration
        if episode.problem.verifier is None or shown is None:
            return False
        prefixes = (episode.output(shown.tokens[:k]) for k in range(1, len(shown) + 1))
        try:
            return all(check(episode.problem, p, self._how.judge_timeout) for p in prefixes)
        except OracleError:
            return False

    # ---- rollouts ------------------------------------------------------------------------------

    def _roll_out(self) -> None:
        """Rounds of eight for all that are not decided, until none is or the budget ends."""
        for start in range(0, int(self.patients[0].test.looks[-1]), LOOK):
            going = [p for p in self.patients if start < 2 * LOOK or self._needs_more(p)]
            if not going:
                return
            seeds = range(start, start + LOOK)
            made = self._make(going, "rollout", rollout(), seeds, lambda p: p.episode.horizon)
            for p in made:
                p.rollouts += made[p]
            if start == LOOK:
                for p in self.patients:
                    p.note_accidents(self._answers)
            self._remove_limits(list(made), seeds)
            if len(made) < len(going):
                self.notes.append(
                    f"the budget ended in rollouts: {len(going) - len(made)} problems got fewer than they need"
                )
                return

    def _needs_more(self, patient: Patient) -> bool:
        e = patient.evidence()
        undecided = e.passes is None or (e.passes is True and e.fails is None)
        return undecided or bool(e.open_tests)

    def _remove_limits(self, patients: Sequence[Patient], seeds: range) -> None:
        """The same rollouts with more room, and under the model's own law, of problems that hardly pass."""
        poor = [p for p in patients if sum(a.passed for a in p.rollouts) <= len(p.rollouts) // 8]
        cut = [p for p in poor if any(map(p.truncated, p.rollouts))]
        longer = {p: self._with_room(p) for p in cut}
        fit = [p for p in cut if longer[p] is not None]
        seeds = range(seeds.stop)  # those before too, where a problem has got poor only now

        def room(p: Patient) -> int:
            return _MORE_ROOM * p.episode.horizon

        made = self._make(fit, "longer", rollout(), seeds, room, episode=lambda p: longer[p])
        for p in made:
            p.longer = made[p]
        if self._law.is_base:
            return
        made = self._make(
            poor, "own-law", rollout(), seeds, lambda p: p.episode.horizon, law=Sampling()
        )
        for p in made:
            p.own_law = made[p]

    def _with_room(self, patient: Patient) -> Episode | None:
        problem = patient.episode.problem
        try:
            return bind(
                replace(problem, max_tokens=_MORE_ROOM * problem.max_tokens), self.generator
            )
        except (InvalidInput, OracleError) as error:
            self.notes.append(f"{patient.id} was not tried with more room: {error}")
            return None

    # ---- silent problems -----------------------------------------------------------------------

    def _force(self, silent: Sequence[Patient]) -> None:
        shown = [p for p in silent if p.episode.demonstration]
        made = self._make(
            shown, "forced", demonstration_law(), range(1), lambda p: p.episode.horizon
        )
        for p, attempt in _firsts(made):
            logs = attempt.metadata.get("logprobs")
            p.forced = None if logs is None else [-math.inf if x is None else x for x in logs]

    def _walk(self, silent: Sequence[Patient]) -> None:
        """Walks with the verifier, two at a time, until the test of ½ has decided."""
        able = [p for p in silent if p.episode.problem.verifier is not None]
        for start in range(0, int(WALK_TEST.looks[-1]), 2):
            going = [p for p in able if RunningTest(WALK_TEST).feed(a.passed for a in p.walks).open]
            seeds = range(start, start + 2)
            made = self._make(going, "walk", tokenwise_rejection(), seeds, lambda p: p.budget)
            for p in made:
                p.walks += made[p]
            if len(made) < len(going):
                self.notes.append("the budget ended in walks with the verifier")
            if len(made) < len(going) or not going:
                return

    def _reach(self, silent: Sequence[Patient]) -> None:
        """Clouds for the reach of silent problems, of equal parts of what is left; half is kept for starts."""
        able = [p for p in silent if p.sound and not p.episode.problem.unique]
        each = (self.budget - self.spent) // (2 * max(1, len(able)))
        if able and each < _LEAST_FOR_CLOUDS:
            self.notes.append(f"no tokens are left for the reach of {len(able)} silent problems")
            return
        made = self._make(able, "reach", reach_clouds(), range(1), lambda p: each)
        for p, attempt in _firsts(made):
            p.clouds = attempt.metadata.get("log_estimates")
            p.stuck = attempt.metadata.get("stuck")

    def _try_walked_groups(self) -> None:
        """Groups of random problems that start on walks, as trainers would begin."""
        order = keyed_rng(stream_key(self._seed, "diagnosis", "walked")).permutation(
            len(self.patients)
        )
        tried = [self.patients[i] for i in order[:_GROUPS]]
        seeds = range(-(-_GROUPS // len(tried)))
        for walk in WALKS:
            learner = walked_group(walk=walk, size=self.group)
            made = self._make(
                tried,
                f"{walk}-group",
                learner,
                seeds,
                lambda p: (self.group + _DRAWS) * p.episode.horizon,
            )
            for p in made:
                p.walked[walk] = made[p]

    def _start_from_demonstrations(self, patients: Sequence[Patient]) -> None:
        """What places within demonstrations are worth, where teacher forcing does not say it exactly."""
        shown = [p for p in patients if p.episode.demonstration and not p.episode.problem.unique]
        for j in range(_SPREAD + _MORE):
            places = dict[int, list[Patient]]()
            for p in shown:
                length = len(p.episode.demonstration or ())
                root = {0: (sum(a.passed for a in p.rollouts), len(p.rollouts))}
                k = next_cut(root | p.cuts, length)
                k = length * (j + 1) // (_SPREAD + 1) if j < _SPREAD else k
                if k and k not in p.cuts:
                    places.setdefault(k, []).append(p)
            for k, here in sorted(places.items()):
                made = self._make(
                    here,
                    f"from-{k}",
                    from_demonstration(reveal=k),
                    range(_FROM_EACH),
                    lambda p: p.episode.horizon,
                )
                for p, attempts in made.items():
                    p.note_cut(k, attempts)
                if len(made) < len(here):
                    self.notes.append("the budget ended in starts from demonstrations")
                    return

    # ---- attempts ------------------------------------------------------------------------------

    def _make(
        self,
        patients: Sequence[Patient],
        phase: str,
        learner: BoundLearner,
        seeds: Iterable[int],
        worst: Callable[[Patient], int],
        *,
        episode: Callable[[Patient], Episode | None] = lambda p: p.episode,
        law: Sampling | None = None,
    ) -> dict[Patient, list[Attempt]]:
        """The attempts of one phase on those problems that the budget carries, in their order.

        Raises:
            BackendError: the generator failed.
        """
        numbers = list(seeds)
        if not patients:
            return {}
        law = law or self._law
        needed = replace(learner.requires, sampling=law)
        if not self._permitted(needed, phase, patients):
            return {}
        jobs = {
            p: [
                Job(
                    f"{p.id}/{phase}/{n}",
                    learner,
                    episode(p) or p.episode,
                    needed,
                    Budget(tokens=worst(p)),
                    self._seed * _SEEDS + n,
                )
                for n in numbers
            ]
            for p in patients
        }
        left, carried, new = self.budget - self.spent, list[Patient](), list[Job]()
        for p in patients:
            missing = [job for job in jobs[p] if job.key not in self.attempts]
            left -= len(missing) * worst(p)
            if left < 0:
                break
            carried.append(p)
            new += missing
        self._add(make_attempts(new, self.generator, self._how, self._folder), new)
        found = {
            p: [self.attempts[j.key] for j in jobs[p] if j.key in self.attempts] for p in carried
        }
        missing = sum(job.key not in self.attempts for p in carried for job in jobs[p])
        if missing:
            self.notes.append(
                f"{phase}: the judge failed {JUDGE_DOWN} times in a row, so {missing} attempts were left"
            )
        self._tell(f"{phase}: {sum(map(len, found.values()))} attempts")
        return found

    def _add(self, made: Mapping[str, Attempt], jobs: Sequence[Job]) -> None:
        for job in jobs:
            attempt = made.get(job.key)
            if attempt is None:
                continue  # the judge was down
            if attempt.error is not None and attempt.error.who in ("generator", "reroot"):
                raise BackendError(str(attempt.error))
            self.attempts[job.key] = attempt
            self.spent += attempt.cost.tokens

    def _permitted(self, needed: Contract, phase: str, patients: Sequence[Patient]) -> bool:
        """Whether what is granted, with the problems' oracles, allows a phase; else it is said."""
        have = frozenset(Oracle).intersection(*(oracles_of(p.episode.problem) for p in patients))
        granted = replace(self.granted, sampling=needed.sampling).or_oracles(have).resolved
        if needed <= granted:
            return True
        self.notes.append(f"{phase} was not tried: it needs {needed}, granted is {granted}")
        return False


def _firsts(made: Mapping[Patient, Sequence[Attempt]]) -> list[tuple[Patient, Attempt]]:
    """The attempt of each problem, where there is one: the judge may have been down."""
    return [(patient, attempts[0]) for patient, attempts in made.items() if attempts]
