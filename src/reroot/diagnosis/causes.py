"""What limits a problem's reward: a decision rule over sequential tests, each claim with its error rate.

τ = 1 − 2^(−1/G) (``signal_threshold``): from τ on half of the groups hold a pass. Every claim below is a conjunction
of claims about a binomial probability, each of them false with probability at most 2.5 %; a conjunction is false
only where a part is, so each part takes the full 2.5 %.

1. **learnable**: τ < p < 1 − τ; **solved**: p > 1 − τ; **silent**: p < τ, where something else is asked:
2. what, removed, lifts the pass rate above τ? A second judge on the same outputs: **judge-limited**; the wanted answer
   anywhere in them, more often than by accident: **format-limited**; the same outputs with more room:
   **truncated**; the generator's own law in place of the trainer's: **law-limited**. All that are found are named.
3. Nothing of that: **access-limited** where walks with the verifier, or a teacher-forced demonstration, reach a right
   output within the budget of a remedy; **base-limited** where they do not, for a verifier that is sound or a right
   string that is unique.
4. **undetermined** otherwise, with what would decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .sequential_test import SequentialTest


class Cause(StrEnum):
    """What limits a problem."""

    LEARNABLE = "learnable"
    SOLVED = "solved"
    ACCESS = "access-limited"
    BASE = "base-limited"
    JUDGE = "judge-limited"
    FORMAT = "format-limited"
    TRUNCATED = "truncated"
    LAW = "law-limited"
    UNDETERMINED = "undetermined"


class RunningTest:
    """A sequential test that is fed one attempt after the other, and keeps its first claim.

    Attributes:
        claim: ``True``: p > θ is shown; ``False``: p < θ is; ``None``: neither yet.
        hits, attempts: so far.
    """

    def __init__(self, test: SequentialTest) -> None:
        self.test = test
        self.hits = self.attempts = 0
        self.claim: bool | None = None
        self._looks = frozenset(test.looks.tolist())

    def feed(self, hits: Iterable[bool]) -> RunningTest:
        """Count more attempts; those behind the last look, or a claim, decide nothing."""
        for hit in hits:
            self.hits += bool(hit)
            self.attempts += 1
            if self.claim is None and self.attempts in self._looks:
                self.claim = self.test.decide(self.hits, self.attempts)
        return self

    @property
    def open(self) -> bool:
        """Whether more attempts may still decide."""
        return self.claim is None and self.attempts < int(self.test.looks[-1])


SECOND = "a second judge"
"""The name of its test in ``Evidence.open_tests``."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one problem. Claims are ``None`` where they were not shown, or not asked.

    Attributes:
        passes: p > τ (``True``) or p < τ (``False``).
        fails: 1 − p > τ or < τ.
        judge_fault: a fault of the judge that needs no rate: it rejects the demonstration, gives one text two
            rewards, or fails.
        second: a second judge passes the same outputs at a rate above τ.
        anywhere: the answer stands anywhere in them at a rate above accidents and τ.
        longer: outputs with more room pass at a rate above τ.
        own_law: outputs of the generator's own law do.
        open_tests: names of those of these whose tests have hits and may still decide.
        forced: a teacher-forced demonstration costs no more than a remedy may, Σ 1/P(d_t) ≤ B.
        unique: the demonstration is the only right string.
        walks: walks with the verifier succeed more often than not within B tokens.
        sound: the verifier accepted every right prefix that was tried, and no wrong output.
    """

    passes: bool | None = None
    fails: bool | None = None
    judge_fault: str = ""
    second: bool | None = None
    anywhere: bool | None = None
    longer: bool | None = None
    own_law: bool | None = None
    open_tests: tuple[str, ...] = ()
    forced: bool | None = None
    unique: bool = False
    walks: bool | None = None
    sound: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rule says of a problem.

    Attributes:
        cause: the one to mend first.
        causes: all that were found, in the order in which they are to be mended.
        why: in words.
    """

    cause: Cause
    causes: tuple[Cause, ...]
    why: str


def rule(evidence: Evidence) -> Ruling:
    """Decide as the module says."""
    e = evidence
    if e.passes is True and e.fails is not None:
        if e.fails:
            return _one(Cause.LEARNABLE, "groups hold passes and fails")
        return _one(Cause.SOLVED, "nearly every rollout passes, so groups have no variance")
    if e.passes is not False:
        if e.judge_fault:
            return _one(Cause.JUDGE, e.judge_fault)
        return _one(Cause.UNDETERMINED, "more rollouts are needed to tell the pass rate from τ")
    removed = _removed(e)
    if removed:
        causes = tuple(cause for cause, _ in removed)
        return Ruling(causes[0], causes, "; ".join(why for _, why in removed))
    if e.open_tests:
        return _one(
            Cause.UNDETERMINED, f"more rollouts are needed to decide: {', '.join(e.open_tests)}"
        )
    return _by_access(e)


def _removed(e: Evidence) -> list[tuple[Cause, str]]:
    """What, removed, gives signal."""
    found = list[tuple[Cause, str]]()
    if e.judge_fault or e.second:
        found.append((Cause.JUDGE, e.judge_fault or "a second judge passes outputs that score 0"))
    judge_may_be = e.second or SECOND in e.open_tests  # then the answer may stand there plainly
    if e.anywhere and not judge_may_be:
        found.append((Cause.FORMAT, "the wanted answer is in outputs that score 0"))
    if e.longer:
        found.append((Cause.TRUNCATED, "the same outputs pass with more room"))
    if e.own_law:
        found.append((Cause.LAW, "the model's own law passes where the trainer's does not"))
    return found


def _by_access(e: Evidence) -> Ruling:
    if e.forced:
        return _one(Cause.ACCESS, "the demonstration is in the model, token by token")
    if e.walks:
        return _one(Cause.ACCESS, "walks with the verifier reach a right output")
    if e.forced is False and e.unique:
        return _one(Cause.BASE, "the only right output has a step that is too rare")
    if e.walks is False and e.sound:
        return _one(Cause.BASE, "walks with a sound verifier get stuck")
    if e.walks is False:
        return _one(
            Cause.UNDETERMINED, "walks get stuck, but the verifier was not found to be sound"
        )
    if e.walks is None and e.forced is None:
        return _one(
            Cause.UNDETERMINED, "there is neither a verifier nor a demonstration to walk by"
        )
    return _one(
        Cause.UNDETERMINED, "a demonstration is too rare, others may not be: needs a verifier"
    )


def _one(cause: Cause, why: str) -> Ruling:
    return Ruling(cause, (cause,), why)
