"""Is it root-start access or the base distribution that limits a task? A rule with error rates.

All learners of one task and horizon were run on the same attempts (problems x seeds) and were
granted the same oracles. *Root* learners need nothing but root-start rollouts, *prefix* learners
are available only with prefix control. Where each problem has one right output, the exact success
of best-of-N with the whole budget is known and counts as one more root learner, so that root
learners which left budget unused can't make prefix control look better than it is. Let g = (best
pass probability of a prefix learner) − (best pass probability of a root learner). ``decide`` gives g an
interval [low, high] that contains it with probability at least 1 − α, whichever learners look best in
the data, and decides in this order:

1. **root-start access is the limit**: low > 0 and high > margin;
2. **the base distribution is the limit**: every learner, with and without prefix control, passes
   less than half of the attempts (each upper bound, at α/2, below 1/2), and some prefix learner
   finished most of its outputs, so that it failed by what it wrote and not by the budget;
3. **no difference**: high <= margin. A contract with prefix control permits the root learners too,
   so what it adds is max(0, g) <= margin, even where the prefix learners alone do worse;
4. **undetermined**, with the number of attempts that would decide if the observed rates held.

Error rates, for any number of attempts: each of the claims 1, 2 and 3 is false with probability at
most α/2 (2.5 %). The interval is low = max_L min_R low(L, R), high = max_L min_R high(L, R) over
prefix learners L and root learners R, from the exact paired bounds of ``paired_difference``
(Clopper-Pearson bounds of L's rate where R's is known) at α/2 divided by the number of prefix learners
(low) or root learners (high). They speak about the mean over the problems that were run, or over the
task when every attempt has its own problem. Attempts on one line of a file are a cluster that counts
once: each of its k attempts as 1/k of a win, loss or pass, in the same bounds. That is exact where they
agree; shares spread less than whole wins and losses do, and no rate above α/2 was measured (docs/log.md).

Left out of the comparison, and named: learners that use the demonstration (at the root a demonstration
is the answer); learners with errors, or not judged, in more than a tenth of the attempts; and in claims
1 and 3 learners that only follow the most likely token, since a root rollout at temperature 0 gives
the same output: that is the sampling law, not the prefix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import Control, Oracle
from ..errors import InvalidInput
from ..types import FloatArray
from .clusters import cluster_means, cluster_weights, pass_interval
from .intervals import (
    Interval,
    lower_bound,
    paired_difference,
    upper_bound,
)

ROOT_LIMIT = "root-start access is the limit"
BASE_LIMIT = "the base distribution is the limit"
NO_DIFFERENCE = "no difference"
UNDETERMINED = "undetermined"

MOST_LOST = 0.1
"""Share of attempts with errors, or not judged, above which a learner is left out."""
_MOST_ATTEMPTS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One learner on the attempts of one task and horizon.

    Attributes:
        learner: its name, unique among the arms.
        control: the weakest control level that permits it.
        passed: (attempts,) which attempts passed; the same attempts in every arm.
        uses: oracles it uses.
        greedy: it only follows the most likely token.
        unfinished: attempts that ended without a complete output.
        errors: attempts that failed with an error (they count as not passed).
        abstained: attempts that the judge did not judge (more than a tenth: left out).
        clusters: (attempts,) the line of each attempt, the same in every arm; ``None``: its own.
    """

    learner: str
    control: Control
    passed: npt.NDArray[np.bool_]
    uses: frozenset[Oracle] = frozenset()
    greedy: bool = False
    unfinished: int = 0
    errors: int = 0
    abstained: int = 0
    clusters: Sequence[object] | None = None

    @property
    def lines(self) -> Sequence[object]:
        """(attempts,) the cluster of each attempt."""
        return range(len(self.passed)) if self.clusters is None else self.clusters

    @property
    def rate(self) -> float:
        """Share of attempts that passed; each line counts once."""
        return float(cluster_means(self.passed, self.lines).mean())

    def words(self) -> str:
        """Name, counts and 95 % interval."""
        k, n = int(self.passed.sum()), len(self.passed)
        low, high = pass_interval(self.passed, self.lines)
        over = f" over {c} lines" if (c := len(set(self.lines))) < n else ""
        said = f"{percent(self.rate)}, 95 % interval {100 * low:.0f}–{100 * high:.0f}{over}"
        return f"{self.learner} passes {k} of {n} ({said})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What limits one task at one horizon, and the numbers that say so.

    Attributes:
        task, horizon: where.
        kind: one of the four verdicts.
        sentences: the numbers it rests on, in words.
        notes: why, and what must not be mistaken: oracles, greedy decoding, what was left out.
        attempts, clusters: attempts per learner, and different lines among them.
        root, prefix: the best root and prefix learner of the comparison, if there are any.
        root_rate, prefix_rate: their pass rates.
        gain: interval of the best prefix minus the best root pass probability.
        exact_root: exact pass rate of best-of-N with the whole budget, where it is known.
        without_verifier: the verdict on the learners that do not use the process verifier.
        attempts_needed: attempts per learner, each on another line, that would decide an undetermined
            verdict if the observed rates held; ``None`` if it is decided, or beyond a million.
    """

    task: str
    horizon: int
    kind: str
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    attempts: int = 0
    clusters: int = 0
    root: str | None = None
    prefix: str | None = None
    root_rate: float | None = None
    prefix_rate: float | None = None
    gain: Interval | None = None
    exact_root: float | None = None
    without_verifier: str | None = None
    attempts_needed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content["sentences"], content["notes"] = list(self.sentences), list(self.notes)
        content["gain"] = None if self.gain is None else list(self.gain)
        return content


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What the rule looks at, as counts that can be scaled to plan more attempts."""

    wins: FloatArray  # (prefix, root): lines on which only the prefix learner passed
    losses: FloatArray  # (prefix, root)
    successes: FloatArray  # (prefix,)
    passed: FloatArray  # (learners,) of every learner in claim 2
    attempts: float
    exact_root: float | None

    def scaled(self, factor: float) -> _Counts:
        names = ("wins", "losses", "successes", "passed", "attempts")
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    def gain(self, alpha: float) -> tuple[Interval, int]:
        """Interval of g, and the row of the prefix learner that gives the lower bound."""
        prefixes, roots = self.wins.shape
        known = self.exact_root
        a_low, a_high = alpha / 2 / prefixes, alpha / 2 / (roots + (known is not None))
        low, high = paired_difference(
            self.wins, self.losses, self.attempts, alpha_low=a_low, alpha_high=a_high
        )
        if known is not None:
            below = lower_bound(self.successes, self.attempts, a_low) - known
            above = upper_bound(self.successes, self.attempts, a_high) - known
            low, high = np.column_stack([low, below]), np.column_stack([high, above])
        worst = low.min(axis=1)
        return Interval(float(worst.max()), float(high.min(axis=1).max())), int(worst.argmax())

    def all_fail(self, alpha: float) -> bool:
        below = bool((upper_bound(self.passed, self.attempts, alpha / 2) < 0.5).all())
        return below and (self.exact_root or 0.0) < 0.5


def decide(
    arms: Sequence[Arm],
    *,
    task: str = "",
    horizon: int = 0,
    exact_root: float | None = None,
    alpha: float = 0.05,
    margin: float = 0.1,
) -> Verdict:
    """Decide by the rule of this module.

    Args:
        arms: every learner, granted the same oracles, on the same attempts.
        task, horizon: what to write on the verdict.
        exact_root: exact mean success of best-of-N with the whole budget, if it is known.
        alpha: twice the largest error probability of a claim.
        margin: the largest difference that counts as none.

    Raises:
        InvalidInput: arms of unequal length, or names that repeat.
    """
    lengths = {len(arm.passed) for arm in arms}
    if len(lengths) > 1 or len({arm.learner for arm in arms}) != len(arms):
        raise InvalidInput(
            f"arms need distinct names and equal attempts, got {[a.learner for a in arms]}, "
            f"{sorted(lengths)} attempts"
        )
    attempts, lines = lengths.pop() if lengths else 0, len(set(arms[0].lines)) if arms else 0
    counted = [a for a in arms if not _left_out(a)] if attempts else []
    at = {"attempts": attempts, "clusters": lines, "exact_root": exact_root}
    verdict = Verdict(task, horizon, UNDETERMINED, **at)
    verdict = _decide(counted, verdict, alpha, margin)
    notes = [*verdict.notes, *_verifier_notes(counted, verdict)]
    other = None
    if any(Oracle.VERIFIER in a.uses for a in counted):
        plain = [a for a in counted if Oracle.VERIFIER not in a.uses]
        if any(a.control > Control.ROOT for a in plain):
            other = _decide(plain, verdict, alpha, margin)
            notes.append(_without_verifier(plain, other))
    notes += [_left_out_words(a) for a in arms if attempts and _left_out(a)]
    return replace(verdict, notes=tuple(notes), without_verifier=other and other.kind)


def _left_out(arm: Arm) -> bool:
    lost = max(arm.errors, arm.abstained)
    return Oracle.DEMONSTRATION in arm.uses or lost > MOST_LOST * len(arm.passed)


def _decide(arms: Sequence[Arm], verdict: Verdict, alpha: float, margin: float) -> Verdict:
    """Claims 1 to 4 for ``arms``, with the sentences that state them."""
    roots = [a for a in arms if a.control == Control.ROOT]
    prefixes = [a for a in arms if a.control > Control.ROOT and not a.greedy]
    if not (roots and prefixes):
        return replace(verdict, kind=UNDETERMINED, notes=(_missing(roots, prefixes),))
    counts = _count(roots, prefixes, arms, verdict.exact_root)
    gain, row = counts.gain(alpha)
    root = max(roots, key=_goodness)
    prefix = prefixes[row] if gain.low > 0 else max(prefixes, key=_goodness)
    finished = [a for a in arms if a.control > Control.ROOT and a.unfinished * 2 < len(a.passed)]

    def kind(counts: _Counts, gain: Interval) -> str:
        if gain.low > 0 and gain.high > margin:
            return ROOT_LIMIT
        if counts.all_fail(alpha):
            return BASE_LIMIT if finished else UNDETERMINED
        return NO_DIFFERENCE if gain.high <= margin else UNDETERMINED

    found = kind(counts, gain)
    unfinished = counts.all_fail(alpha) and not finished  # more attempts would not decide
    needed = None
    if found == UNDETERMINED and not unfinished:
        needed = _needed(counts, lambda c: kind(c, c.gain(alpha)[0]) != UNDETERMINED)
    best = {"root": root.learner, "prefix": prefix.learner}
    rates = {"root_rate": root.rate, "prefix_rate": prefix.rate, "gain": gain}
    verdict = replace(verdict, kind=found, **best, **rates, attempts_needed=needed)
    reason = _reason(verdict, unfinished, margin)
    notes = ([reason] if reason else []) + _greedy_words(arms, prefix)
    return replace(verdict, sentences=_numbers(verdict, root, prefix), notes=tuple(notes))


def _goodness(arm: Arm) -> tuple[float, bool, int]:
    """Order by pass rate; on ties prefer no verifier, then less control."""
    return arm.rate, Oracle.VERIFIER not in arm.uses, -arm.control.place


def _count(
    roots: Sequence[Arm], prefixes: Sequence[Arm], arms: Sequence[Arm], exact_root: float | None
) -> _Counts:
    w = cluster_weights(arms[0].lines)
    p, r, all_of = (
        np.array([a.passed for a in some], dtype=np.float64) for some in (prefixes, roots, arms)
    )
    lines = float(len(set(arms[0].lines)))
    won, lost = (p * w) @ (1 - r).T, ((1 - p) * w) @ r.T
    successes, passed = (np.minimum(x @ w, lines) for x in (p, all_of))  # sums of thirds round
    return _Counts(won, lost, successes, passed, lines, exact_root)


def _needed(counts: _Counts, decided: Callable[[_Counts], bool]) -> int | None:
    """Attempts from which the rule decides if every count grows in proportion."""
    low, high = 1.0, 2.0
    while not decided(counts.scaled(high)):
        low, high = high, 2 * high
        if high * counts.attempts > _MOST_ATTEMPTS:
            return None
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(counts.scaled(middle)) else (middle, high)
    return math.ceil(counts.attempts * high)


def percent(x: float) -> str:
    """A share in percent, with as many digits as small values need."""
    value = 100 * x
    if 0 < value < 0.01:
        return "<0.01 %"
    if 0 < value < 1:
        return f"{value:.2g} %"
    return f"{value:.0f} %"


def _points(x: float) -> str:
    """A difference of shares in points, signed."""
    rounded = round(100 * x)
    return f"{rounded:+d}".replace("-", "−") if rounded else "0"


def _missing(roots: Sequence[Arm], prefixes: Sequence[Arm]) -> str:
    if not roots and not prefixes:
        return "No learner is left to compare."
    what = "root-start" if not roots else "prefix-control"
    return f"No {what} learner was run with the oracles in question, so nothing can be compared."


def _numbers(verdict: Verdict, root: Arm, prefix: Arm) -> tuple[str, ...]:
    assert verdict.gain is not None
    said = [
        f"Best with prefix control: {prefix.words()}; it needs {prefix.control} control.",
        f"Best root-start: {root.words()}.",
    ]
    exact = verdict.exact_root
    if exact is not None:
        said.append(f"Best-of-N with the whole budget would pass {percent(exact)} (exact law).")
    gain = _points(prefix.rate - max(root.rate, exact or 0.0))
    low, high = map(_points, verdict.gain)
    over = " over the latter" if (exact or 0.0) > root.rate else ""
    said.append(f"Gain of prefix control{over}: {gain} points (95 % interval {low} to {high}).")
    return tuple(said)


def _reason(verdict: Verdict, unfinished: bool, margin: float) -> str:
    """Why root-start access is not shown to be the limit; empty where it is."""
    assert verdict.gain is not None
    if verdict.kind == ROOT_LIMIT:
        return ""
    if verdict.kind == BASE_LIMIT:
        return "No learner reaches one half; prefix control finishes its outputs, but wrong ones."
    if verdict.kind == NO_DIFFERENCE:
        most = _points(max(0.0, verdict.gain.high))
        return (
            f"A contract with prefix control permits the root-start learners too; it adds at most {most} "
            f"points, and up to {100 * margin:.0f} count as none."
        )
    if unfinished:
        return "Every learner fails, but those with prefix control mostly ran out of budget first."
    needed, now = verdict.attempts_needed, verdict.clusters
    what = "lines" if now < verdict.attempts else "attempts"
    if needed is None:
        return f"Even {_MOST_ATTEMPTS:,} {what} per learner would not decide at these rates."
    return f"If these rates held, about {needed:,} {what} per learner would decide (now {now:,})."


def _greedy_words(arms: Sequence[Arm], prefix: Arm) -> list[str]:
    greedy = max((a for a in arms if a.greedy), key=_goodness, default=None)
    if greedy is None or greedy.rate <= 0 or greedy.learner == prefix.learner:
        return []
    return [
        f"Greedy decoding stands apart: {greedy.words()}. A root-start rollout at temperature 0 gives "
        "the same output: this is the sampling law, not the prefix."
    ]


def _verifier_notes(arms: Sequence[Arm], verdict: Verdict) -> list[str]:
    """When the best prefix learner uses the verifier: what the root arm made of the same verifier."""
    best = next((a for a in arms if a.learner == verdict.prefix), None)
    if best is None or Oracle.VERIFIER not in best.uses:
        return []
    same = [a for a in arms if a.control == Control.ROOT and Oracle.VERIFIER in a.uses]
    if not same:
        return [
            f"{best.learner} uses the process verifier. No root-start learner that uses it was run, so "
            "part of the difference may come from the oracle and not from the interface."
        ]
    root = max(same, key=_goodness)
    return [
        f"{best.learner} uses the process verifier; root-start with the same verifier: {root.words()}."
    ]


def _without_verifier(plain: Sequence[Arm], other: Verdict) -> str:
    prefixes = [a for a in plain if a.control > Control.ROOT]
    best = max([a for a in prefixes if not a.greedy] or prefixes, key=_goodness)
    return f"Without the verifier, best with prefix control: {best.words()}. There: {other.kind}."


def _left_out_words(arm: Arm) -> str:
    if Oracle.DEMONSTRATION in arm.uses:
        return f"Apart, as it is shown a demonstration: {arm.words()}."
    if arm.abstained > arm.errors:
        return f"Left out: {arm.learner}, as the judge abstains on {arm.abstained} of its attempts."
    return f"Left out: {arm.learner}, with errors in {arm.errors} of {len(arm.passed)} attempts."
