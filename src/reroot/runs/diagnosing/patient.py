"""One problem under examination: its attempts, and the tests that they feed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...access.attempt import Attempt
from ...access.episode import Episode
from ...diagnosis.causes import SECOND, Evidence, RunningTest
from ...diagnosis.intervals import lower_bound
from ...diagnosis.sequential_test import SequentialTest, sequential_test
from ...diagnosis.silent_groups import signal_threshold
from .losses import Losses
from .opinions import accidents, holds_anywhere, second_opinion

LOOK = 8
"""Attempts between two looks of the tests of pass rates."""
FIRST = 16
"""Rollouts that every problem gets, so that shares over problems are not biased by stopping."""
_LENGTH = 10.6
"""Most attempts of a test, in units of 1/τ."""
_JUDGE_ERRORS = 0.05
"""Share of calls of a judge that may fail."""


def group_test(group: int) -> SequentialTest:
    """The test of τ for groups of G."""
    tau = signal_threshold(group)
    return sequential_test(tau, most=max(FIRST, math.ceil(_LENGTH / tau)), every=LOOK)


WALK_TEST = sequential_test(0.5, most=24, every=2, spending=0.3)
"""Do walks succeed more often than not?"""


@dataclass(slots=True, eq=False)
class Patient:
    """A problem and what has been tried on it.

    Attributes:
        episode: the problem as tokens of the generator.
        test: of τ.
        fault: what the judge gets wrong of what is known, before any token is paid.
        trusted: whether it gets all of that right, so that the demonstration passes.
        sound: whether the verifier accepts every prefix of the demonstration and of outputs that pass.
        rollouts, longer, own_law, walks: attempts in the order of their seeds.
        guarded: more rollouts, which ended where the verifier rejected them.
        forced: teacher-forced log-probabilities of the demonstration, nats; ``None``: not asked.
        clouds: log-estimates of the reach; ``None``: not asked.
        stuck: the position at which the verifier accepts too little to go on.
        cuts: tokens of the demonstration that are shown, not none → (passed, attempts).
        cut_tokens: the same → tokens of a continuation, in the mean.
        walked: kind of walk → groups that start on one, where they were tried.
        lost: where rollouts are lost along a right output; ``None``: not looked at.
        budget: B, tokens of a remedy per problem.
        accident: upper bound of how often a wrong answer stands in its outputs; ``None``: not asked.
    """

    episode: Episode
    test: SequentialTest
    budget: int
    fault: str = ""
    trusted: bool = False
    sound: bool = False
    rollouts: list[Attempt] = field(default_factory=list[Attempt])
    longer: list[Attempt] = field(default_factory=list[Attempt])
    own_law: list[Attempt] = field(default_factory=list[Attempt])
    walks: list[Attempt] = field(default_factory=list[Attempt])
    guarded: list[Attempt] = field(default_factory=list[Attempt])
    forced: list[float] | None = None
    clouds: list[float | None] | None = None
    stuck: int | None = None
    cuts: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    cut_tokens: dict[int, float] = field(default_factory=dict[int, float])
    walked: dict[str, list[Attempt]] = field(default_factory=dict[str, list[Attempt]])
    accident: float | None = None
    lost: Losses | None = None

    @property
    def id(self) -> str:
        return self.episode.problem.id

    def counted(self) -> list[Attempt]:
        """Rollouts on which the judge did not abstain."""
        return [a for a in self.rollouts if not a.abstained]

    def truncated(self, attempt: Attempt) -> bool:
        """Whether the horizon ended an output before it ended by itself."""
        tokens = () if attempt.output is None else attempt.output.tokens
        ends = self.episode.stop
        return (
            len(tokens) >= self.episode.horizon
            and bool(ends.tokens or ends.texts)
            and not ends.ends(tokens)
        )

    def note_cut(self, k: int, attempt: Attempt) -> None:
        """Fix what continuations of k tokens of the demonstration gave."""
        rewards = attempt.metadata.get("rewards", ())
        if rewards:
            passed = sum(x >= self.episode.problem.pass_at for x in rewards)
            self.cuts[k] = (passed, len(rewards))
            self.cut_tokens[k] = attempt.cost.tokens / len(rewards)

    def note_accidents(self, answers: Sequence[str]) -> None:
        """Fix how often wrong answers stand in outputs, from the first rollouts."""
        texts = [a.text for a in self.rollouts[:FIRST]]
        self.accident = accidents(self.episode.problem.answer, texts, answers)

    # ---- tests ---------------------------------------------------------------------------------

    def _tested(self) -> list[Attempt]:
        return self.counted() + [a for a in self.guarded if not a.abstained]

    def passes(self) -> bool | None:
        """Whether p > τ (``True``) or p < τ (``False``) is shown."""
        claim = RunningTest(self.test).feed(a.passed for a in self._tested()).claim
        low, high = self.known
        tau = self.test.threshold
        return claim if claim is not None else True if low > tau else False if high < tau else None

    def fails(self) -> bool | None:
        """The same of 1 − p."""
        claim = RunningTest(self.test).feed(not a.passed for a in self._tested()).claim
        low, high = self.known
        most = 1.0 - self.test.threshold
        return (
            claim if claim is not None else True if high < most else False if low > most else None
        )

    @property
    def known(self) -> tuple[float, float]:
        """Bounds of p by teacher forcing: P(d), and P(d but its last token) where the right output is unique."""
        logs = self.forced
        if not logs or not self.trusted or self.judge_fault():
            return 0.0, 1.0
        unique = self.episode.problem.unique
        return math.exp(math.fsum(logs)), math.exp(math.fsum(logs[:-1])) if unique else 1.0

    def _second(self) -> RunningTest:
        answer = self.episode.problem.answer
        hits = (a.passed or (a.complete and second_opinion(answer, a.text)) for a in self.counted())
        return RunningTest(self.test).feed(hits)

    def _anywhere(self) -> RunningTest:
        tau, f0 = self.test.threshold, self.accident if self.accident is not None else 1.0
        level = f0 + tau * (1.0 - f0)
        if level >= 0.95:
            return RunningTest(self.test)  # by accident nearly everywhere: it tells nothing
        test = sequential_test(round(level, 3), most=int(self.test.looks[-1]), every=LOOK)
        answer = self.episode.problem.answer
        return RunningTest(test).feed(holds_anywhere(answer, a.text) for a in self.counted())

    def _more(self, attempts: Sequence[Attempt]) -> RunningTest:
        return RunningTest(self.test).feed(a.passed for a in attempts if not a.abstained)

    def judge_fault(self) -> str:
        """What is wrong with the judge whatever the rates are; empty: nothing that is known."""
        failed = [a.error for a in self.rollouts if a.error is not None and a.error.who == "task"]
        if self.fault:
            return self.fault
        if failed and lower_bound(len(failed), len(self.rollouts), 0.025) > _JUDGE_ERRORS:
            return f"it failed on {len(failed)} of {len(self.rollouts)} outputs: {failed[0]}"
        rewards: dict[str, set[float]] = {}
        for attempt in self.rollouts:
            if attempt.reward is not None and attempt.complete and attempt.error is None:
                rewards.setdefault(attempt.text, set()).add(attempt.reward)
        several = next(((t, r) for t, r in rewards.items() if len(r) > 1), None)
        if several:
            return f"one text got the rewards {sorted(several[1])}: {several[0][-60:]!r}"
        return ""

    def evidence(self) -> Evidence:
        """What the rule decides on."""
        passes = self.passes()
        silent = passes is False
        others = {
            SECOND: self._second(),
            "the answer anywhere": self._anywhere(),
            "more room": self._more(self.longer),
            "the model's own law": self._more(self.own_law),
        }
        second, anywhere, longer, own_law = (t.claim for t in others.values())
        return Evidence(
            passes=passes,
            fails=self.fails(),
            judge_fault=self.judge_fault(),
            second=second,
            anywhere=anywhere,
            longer=longer,
            own_law=own_law,
            open_tests=tuple(k for k, t in others.items() if silent and t.hits and t.open),
            forced=self._forced_claim(),
            unique=self.episode.problem.unique,
            walks=RunningTest(WALK_TEST).feed(a.passed for a in self.walks).claim,
            sound=self.sound and not any(a.accepted for a in (*self.rollouts, *self.walks)),
        )

    def _forced_claim(self) -> bool | None:
        cost = self.forced_cost
        return None if cost is None else cost <= self.budget

    @property
    def forced_cost(self) -> float | None:
        """Σ_t 1/P(d_t | d_<t), draws to walk along the demonstration; inf where a token is never drawn."""
        if self.forced is None:
            return None
        with_zeros = (math.inf if x == -math.inf else math.exp(-x) for x in self.forced)
        return math.fsum(with_zeros)
