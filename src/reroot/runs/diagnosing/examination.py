"""The examination of a set of problems: which attempts are made, in which order, within one budget.

Rollouts come first, eight of each problem at a time, until the tests of τ have decided or the budget ends; then,
of silent problems, what would tell why: more room, the model's own law, teacher forcing, walks with the verifier,
clouds for the reach and starts from demonstrations. Everything is an attempt of a learner under the contract that
it needs, metered and kept in the run folder; what the granted contract does not permit is not tried, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ...access.attempt import Attempt
from ...access.episode import Episode, bind
from ...access.learner import BoundLearner
from ...contract import Contract, Sampling
from ...diagnosis.causes import Cause, RunningTest, rule
from ...diagnosis.starts import next_cut
from ...errors import InvalidInput, OracleError
from ...generators.base import Generator
from ...learners.measuring import (
    demonstration_law,
    guarded_rollout,
    reach_clouds,
    rollout,
    value_in_demonstration,
    walked_group,
)
from ...learners.measuring.walked import WALKS
from ...learners.verified import tokenwise_rejection
from ...randomness import keyed_rng, stream_key
from ...tasks.judges import check
from ...tasks.self_check import self_check
from ...types import Prefix
from ..attempts import Execution, Maker, RunFolder, make_attempts
from .locating import locate, logprobs
from .patient import FIRST, LOOK, WALK_TEST, Patient, group_test
from .trials import Progress, Trial, Trials

_MORE_ROOM = 4
"""How many times the horizon outputs get that were cut off."""
_SPREAD, _MORE, _FROM_EACH = 4, 4, 32
"""Places of a demonstration that are started from, spread evenly and then where the rate falls most; attempts each."""
_GROUPS, _DRAWS = 16, 40
"""Groups that start on walks, of each kind; draws per token that such a walk may need."""
_LEAST_FOR_CLOUDS = 2000
"""Tokens below which clouds are not begun."""


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
        maker: makes attempts, in this process or elsewhere.

    Attributes:
        patients: one per problem.
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
        maker: Maker = make_attempts,
    ) -> None:
        test = group_test(group)
        self.patients = [
            Patient(e, test, 4 * group * e.horizon if remedy is None else remedy) for e in episodes
        ]
        self.generator, self.group = generator, group
        self._how, self._reaches, self._seed = how or Execution(), reaches, seed
        self._trials = Trials(generator, granted, budget, self._how, folder, told, seed, maker)
        self._answers = [*(e.problem.answer for e in episodes), *answers]

    def run(self) -> None:
        """Everything, in order."""
        self._look_at_judges()
        self._force()
        self._roll_out()
        silent = [p for p in self.patients if p.passes() is False]
        self._trials.tell(f"{len(silent)} of {len(self.patients)} problems are silent")
        self._walk([p for p in silent if self._cause(p) in (Cause.UNDETERMINED, Cause.ACCESS)])
        if not self._reaches:
            return
        if silent:
            self._try_walked_groups()
        self._reach(silent)
        self._start_from_demonstrations([p for p in silent if self._cause(p) == Cause.ACCESS])
        self._locate(silent)

    @property
    def attempts(self) -> dict[str, Attempt]:
        """Every attempt, by key."""
        return self._trials.attempts

    @property
    def spent(self) -> int:
        """Generated tokens so far."""
        return self._trials.spent

    @property
    def notes(self) -> list[str]:
        """What was not tried, and why."""
        return self._trials.notes

    def _cause(self, patient: Patient) -> Cause:
        return rule(patient.evidence()).cause

    def _make(
        self,
        patients: Sequence[Patient],
        phase: str,
        learner: BoundLearner,
        seeds: Iterable[int],
        worst: Callable[[Patient], int],
        *,
        episode: Callable[[Patient], Episode | None] = lambda p: None,
        law: Sampling | None = None,
    ) -> dict[Patient, list[Attempt]]:
        """The same learner under several seeds on each problem (see ``Trials.make``)."""
        numbers = list(seeds)
        wanted = {
            p: [Trial(str(n), learner, n, worst(p), episode(p)) for n in numbers] for p in patients
        }
        return self._trials.make(phase, wanted, law)

    # ---- what costs no tokens ------------------------------------------------------------------

    def _look_at_judges(self) -> None:
        limit = self._how.judge_timeout
        for patient in self.patients:
            problem = patient.episode.problem
            faults = [f.text for f in self_check([problem], limit=limit) if f.bad]
            patient.trusted = not faults
            patient.fault = next((f for f in faults if "demonstration has the reward" in f), "")
            shown = patient.episode.demonstration
            patient.sound = shown is not None and self._accepts(patient, shown)

    def _accepts(self, patient: Patient, right: Prefix) -> bool:
        """Whether the verifier accepts every prefix of a right output."""
        episode = patient.episode
        if episode.problem.verifier is None:
            return False
        prefixes = (episode.output(right.tokens[:k]) for k in range(1, len(right) + 1))
        try:
            return all(check(episode.problem, p, self._how.judge_timeout) for p in prefixes)
        except OracleError:
            return False

    def _force(self) -> None:
        """Teacher forcing: what it tells exactly needs fewer rollouts."""
        shown = [p for p in self.patients if p.episode.demonstration]
        made = self._make(
            shown, "forced", demonstration_law(), range(1), lambda p: p.episode.horizon
        )
        for p, attempt in _firsts(made):
            p.forced = logprobs(attempt)
            p.trusted = p.trusted and attempt.passed
            if attempt.complete and attempt.reward is not None and not attempt.passed:
                p.fault = p.fault or f"its demonstration has the reward {attempt.reward:g}"

    # ---- rollouts ------------------------------------------------------------------------------

    def _roll_out(self) -> None:
        """Rounds of eight for all that are not decided, until none is or the budget ends."""
        for start in range(0, int(self.patients[0].test.looks[-1]), LOOK):
            going = [p for p in self.patients if start < FIRST or self._needs_more(p)]
            if not going:
                return
            seeds = range(start, start + LOOK)
            guarded = [p for p in going if start >= FIRST and self._may_guard(p)]
            whole = [p for p in going if p not in guarded]
            made = self._make(whole, "rollout", rollout(), seeds, lambda p: p.episode.horizon)
            for p in made:
                p.rollouts += made[p]
                if start == FIRST - LOOK:
                    p.note_accidents(self._answers)
                    p.sound = p.sound and self._accepts_passes(p)
            self._remove_limits(list(made), seeds)
            ended = self._make(
                guarded, "guarded", guarded_rollout(), seeds, lambda p: p.episode.horizon
            )
            for p in ended:
                p.guarded += ended[p]
            lost = len(going) - len(made) - len(ended)
            if lost:
                self._trials.note(
                    f"the budget ended in rollouts: {lost} problems got fewer than they need"
                )
                return

    def _accepts_passes(self, patient: Patient) -> bool:
        right = {a.output for a in patient.rollouts if a.passed and a.output is not None}
        return all(self._accepts(patient, output) for output in right)

    def _may_guard(self, patient: Patient) -> bool:
        """Whether nothing more is to be read in its outputs, and a sound verifier can end them early."""
        hopeful = patient.evidence().open_tests or any(a.passed for a in patient.rollouts)
        told = len(patient.counted()) >= FIRST and not patient.judge_fault()
        if hopeful or not told or not patient.sound:
            return False
        return bool(patient.guarded) or self._trials.permits(guarded_rollout(), patient.episode)

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
        if self._trials.law.is_base:
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
                replace(problem, max_tokens=_MORE_ROOM * problem.max_tokens),
                patient.episode.generator,
            )
        except (InvalidInput, OracleError) as error:
            self._trials.note(f"{patient.id} was not tried with more room: {error}")
            return None

    # ---- silent problems -----------------------------------------------------------------------

    def _walk(self, silent: Sequence[Patient]) -> None:
        """Walks with the verifier, two at a time, until the test of ½ has decided.

        Where a demonstration shows the access, the first two tell what walks cost.
        """
        able = [p for p in silent if p.episode.problem.verifier is not None]
        for start in range(0, int(WALK_TEST.looks[-1]), 2):
            going = [
                p
                for p in able
                if RunningTest(WALK_TEST).feed(a.passed for a in p.walks).open
                and not (start and p.evidence().forced)
            ]
            seeds = range(start, start + 2)
            made = self._make(going, "walk", tokenwise_rejection(), seeds, lambda p: p.budget)
            for p in made:
                p.walks += made[p]
            if len(made) < len(going) and self._permits_walks(going):
                self._trials.note("the budget ended in walks with the verifier")
            if len(made) < len(going) or not going:
                return

    def _permits_walks(self, patients: Sequence[Patient]) -> bool:
        return all(self._trials.permits(tokenwise_rejection(), p.episode) for p in patients)

    def _reach(self, silent: Sequence[Patient]) -> None:
        """Clouds for the reach of silent problems, of equal parts of a third of what is left; starts need the rest."""
        able = [p for p in silent if p.sound and not p.episode.problem.unique]
        each = self._trials.left // (3 * max(1, len(able)))
        if able and each < _LEAST_FOR_CLOUDS:
            self._trials.note(f"no tokens are left for the reach of {len(able)} silent problems")
            return
        made = self._make(able, "reach", reach_clouds(), range(1), lambda p: each)
        for p, attempt in _firsts(made):
            p.clouds = attempt.metadata.get("log_estimates")
            p.stuck = attempt.metadata.get("stuck")

    def _try_walked_groups(self) -> None:
        """Groups of random problems that start on walks, as trainers would begin."""
        rng = keyed_rng(stream_key(self._seed, "diagnosis", "walked"))
        tried = [self.patients[i] for i in rng.permutation(len(self.patients))[:_GROUPS]]
        seeds = range(-(-_GROUPS // len(tried)))

        def worst(p: Patient) -> int:
            return (self.group + _DRAWS) * p.episode.horizon

        for walk in WALKS:
            learner = walked_group(walk=walk, size=self.group)
            for p, groups in self._make(tried, f"{walk}-group", learner, seeds, worst).items():
                p.walked[walk] = groups

    def _start_from_demonstrations(self, patients: Sequence[Patient]) -> None:
        """What places within demonstrations are worth, where teacher forcing does not say it exactly."""
        shown = [p for p in patients if p.episode.demonstration and not p.episode.problem.unique]
        for j in range(_SPREAD + _MORE):
            places = {p: k for p in shown if (k := _next_place(p, j))}
            wanted = {
                p: [Trial(str(k), value_in_demonstration(reveal=k, n=_FROM_EACH), 0, worst)]
                for p, k in places.items()
                for worst in [_FROM_EACH * (p.episode.horizon - k)]
            }
            made = self._trials.make("from", wanted)
            for p, attempt in _firsts(made):
                p.note_cut(places[p], attempt)
            if len(made) < len(wanted):
                self._trials.note("the budget ended in starts from demonstrations")
                return

    def _locate(self, silent: Sequence[Patient]) -> None:
        """Where rollouts are lost, of problems that right outputs are known of."""
        for patient, lost in locate(self._trials, silent).items():
            patient.lost = lost


def _next_place(patient: Patient, j: int) -> int | None:
    """The j-th place of its demonstration to start from, if it is a new one."""
    length = len(patient.episode.demonstration or ())
    tried = (*patient.rollouts, *patient.guarded)
    root = {0: (sum(a.passed for a in tried), len(tried))}
    k = length * (j + 1) // (_SPREAD + 1) if j < _SPREAD else next_cut(root | patient.cuts, length)
    return k if k and k not in patient.cuts else None


def _firsts(made: Mapping[Patient, Sequence[Attempt]]) -> list[tuple[Patient, Attempt]]:
    """The attempt of each problem, where there is one: the judge may have been down."""
    return [(patient, attempts[0]) for patient, attempts in made.items() if attempts]
