"""The verdict on synthetic results whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from reroot.contract import Control, Oracle
from reroot.diagnosis import (
    BASE_LIMIT,
    NO_DIFFERENCE,
    ROOT_LIMIT,
    UNDETERMINED,
    Arm,
    Interval,
    decide,
    paired_difference,
)
from reroot.diagnosis.intervals import lower_bound, upper_bound
from reroot.errors import InvalidInput

V, R, D = Oracle.VERIFIER, Oracle.REWARD, Oracle.DEMONSTRATION


def arm(name: str, control: Control, passed: int, attempts: int = 24, *uses: Oracle, **more) -> Arm:
    """An arm that passes its first ``passed`` attempts."""
    return Arm(name, control, np.arange(attempts) < passed, frozenset(uses), **more)


def drawn(rng: np.random.Generator, rates: list[float], control: Control, n: int) -> list[Arm]:
    return [
        Arm(f"{control}{i}", control, rng.random(n) < rate, frozenset())
        for i, rate in enumerate(rates)
    ]


def gain_of(arms: list[Arm]) -> Interval:
    """The interval of g. A margin of 1 decides every verdict, so that nothing is planned: 14 ms less."""
    gain = decide(arms, margin=1.0).gain
    assert gain is not None
    return gain


def test_prefix_control_wins() -> None:
    verdict = decide(
        [
            arm("best_of_n", Control.ROOT, 0, 24, R),
            arm("best_of_n_verifier", Control.ROOT, 1, 24, V),
            arm("tokenwise", Control.VISITED, 23, 24, V),
            arm("plurality", Control.VISITED, 2, 24),
        ],
        task="running_sum",
        horizon=8,
    )
    assert verdict.kind == ROOT_LIMIT
    assert (verdict.root, verdict.prefix) == ("best_of_n_verifier", "tokenwise")
    assert verdict.gain is not None
    assert 0.4 < verdict.gain.low < 22 / 24 < verdict.gain.high <= 1
    text = " ".join(verdict.notes)
    assert "root-start with the same verifier: best_of_n_verifier passes 1 of 24" in text
    assert "Without the verifier, best with prefix control: plurality passes 2 of 24" in text
    assert verdict.without_verifier == BASE_LIMIT
    assert verdict.attempts_needed is None


def test_oracle_confound_is_named_when_the_root_arm_is_missing() -> None:
    arms = [arm("bon", Control.ROOT, 0, 24, R), arm("walk", Control.VISITED, 24, 24, V)]
    text = " ".join(decide(arms).notes)
    assert "No root-start learner that uses it was run" in text


def test_all_fail_is_the_base_distribution() -> None:
    arms = [
        arm("bon", Control.ROOT, 0, 24, R),
        arm("plurality", Control.VISITED, 1),
        arm("greedy", Control.RESET, 2, greedy=True),
    ]
    assert decide(arms).kind == BASE_LIMIT
    assert decide(arms, exact_root=0.3).kind == BASE_LIMIT
    assert decide(arms, exact_root=0.97).kind == NO_DIFFERENCE  # best-of-N would solve it


def test_all_fail_for_want_of_budget_is_undetermined() -> None:
    arms = [
        arm("bon", Control.ROOT, 0, 24, R),
        arm("plurality", Control.VISITED, 0, unfinished=24),
    ]
    verdict = decide(arms)
    assert verdict.kind == UNDETERMINED
    assert "out of budget" in " ".join(verdict.notes)
    assert verdict.attempts_needed is None


def test_both_solve_is_no_difference() -> None:
    arms = [arm("bon", Control.ROOT, 60, 60, R), arm("plurality", Control.VISITED, 60, 60)]
    assert decide(arms).kind == NO_DIFFERENCE
    few = decide([arm("bon", Control.ROOT, 8, 8, R), arm("plurality", Control.VISITED, 8, 8)])
    assert few.kind == UNDETERMINED
    assert few.attempts_needed is not None
    more = few.attempts_needed
    arms = [arm("bon", Control.ROOT, more, more, R), arm("walk", Control.VISITED, more, more)]
    assert decide(arms).kind == NO_DIFFERENCE  # the plan was enough
    fewer = int(0.95 * more)
    arms = [arm("bon", Control.ROOT, fewer, fewer, R), arm("w", Control.VISITED, fewer, fewer)]
    assert decide(arms).kind == UNDETERMINED  # and not more than needed


def test_root_doing_better_is_no_difference_between_interfaces() -> None:
    arms = [arm("bon", Control.ROOT, 24, 24, R), arm("plurality", Control.VISITED, 2)]
    verdict = decide(arms)
    assert verdict.kind == NO_DIFFERENCE
    assert verdict.gain is not None
    assert verdict.gain.high < 0


def test_a_small_certain_gain_is_no_difference() -> None:
    n = 5000
    root, prefix = np.arange(n) < 4000, np.arange(n) < 4150
    verdict = decide([Arm("a", Control.ROOT, root), Arm("b", Control.RESET, prefix)])
    assert verdict.gain is not None
    assert 0 < verdict.gain.low < 0.03 < verdict.gain.high < 0.1
    assert verdict.kind == NO_DIFFERENCE


def test_demonstrations_and_greedy_do_not_decide() -> None:
    arms = [
        arm("bon", Control.ROOT, 0, 24, R),
        arm("plurality", Control.VISITED, 12),
        arm("greedy", Control.RESET, 24, greedy=True),
        arm("demo", Control.CHOSEN, 24, 24, D, R),
    ]
    verdict = decide(arms)
    assert verdict.prefix == "plurality"
    text = " ".join(verdict.notes)
    assert "temperature 0" in text
    assert "Apart, as it is shown a demonstration: demo passes 24 of 24" in text
    only = decide([arms[0], arms[2], arms[3]])
    assert only.kind == UNDETERMINED
    assert "No prefix-control learner" in only.notes[0]


def test_erring_learners_are_left_out_and_named() -> None:
    arms = [
        arm("bon", Control.ROOT, 0, 24, R, errors=20),
        arm("one", Control.ROOT, 23, 24),
        arm("walk", Control.VISITED, 24, 24, errors=2),
    ]
    verdict = decide(arms)
    assert verdict.root == "one"
    assert "Left out: bon, with errors in 20 of 24 attempts." in verdict.notes


def test_exact_root_success_with_the_whole_budget_counts() -> None:
    """A root learner that left its budget unused does not make prefix control look better."""
    arms = [arm("bon", Control.ROOT, 0, 60, R), arm("walk", Control.VISITED, 60, 60)]
    assert decide(arms).kind == ROOT_LIMIT
    assert decide(arms, exact_root=1e-6).kind == ROOT_LIMIT
    assert decide(arms, exact_root=0.97).kind == NO_DIFFERENCE
    assert decide(arms, exact_root=0.5).kind == ROOT_LIMIT
    assert decide(arms, exact_root=0.85).kind == ROOT_LIMIT
    arms[1] = arm("walk", Control.VISITED, 54, 60)
    assert decide(arms, exact_root=0.85).kind == UNDETERMINED


def test_nothing_to_compare() -> None:
    for arms in ([], [arm("bon", Control.ROOT, 3)], [arm("walk", Control.RESET, 3)]):
        verdict = decide(arms)
        assert verdict.kind == UNDETERMINED
        assert verdict.gain is None
        assert verdict.attempts_needed is None
    empty = [Arm("a", Control.ROOT, np.zeros(0, bool)), Arm("b", Control.RESET, np.zeros(0, bool))]
    assert decide(empty).kind == UNDETERMINED


def test_undetermined_plans_more_attempts() -> None:
    arms = [arm("bon", Control.ROOT, 4, 16, R), arm("walk", Control.VISITED, 8, 16)]
    verdict = decide(arms)
    assert verdict.kind == UNDETERMINED
    assert verdict.attempts_needed is not None
    scale = -(-verdict.attempts_needed // 16)
    grown = [
        arm("bon", Control.ROOT, 4 * scale, 16 * scale, R),
        arm("walk", Control.VISITED, 8 * scale, 16 * scale),
    ]
    assert decide(grown).kind == ROOT_LIMIT
    assert f"about {verdict.attempts_needed:,} attempts" in " ".join(verdict.notes)


def test_a_plan_goes_up_to_a_million() -> None:
    """Equal rates, half of the attempts discordant: ±0.7·2.3/√n against the margin."""
    odd = np.arange(400) % 2 == 1
    arms = [Arm("a", Control.ROOT, odd), Arm("b", Control.RESET, np.arange(400) < 200)]
    near = decide(arms, margin=0.004).attempts_needed
    assert near is not None
    assert 100_000 < near < 300_000
    assert decide(arms, margin=0.001).attempts_needed is None


def test_ties_are_named_without_the_verifier_and_with_less_control() -> None:
    roots = [arm("v", Control.ROOT, 5, 24, V), arm("plain", Control.ROOT, 5, 24)]
    walks = [arm("chosen", Control.CHOSEN, 5), arm("visited", Control.VISITED, 5), arm("v2", Control.VISITED, 5, 24, V)]  # fmt: skip
    for order in (1, -1):
        verdict = decide([*roots[::order], *walks[::order]])
        assert (verdict.root, verdict.prefix) == ("plain", "visited")


@pytest.mark.parametrize("n", [3, 5, 6, 7, 11, 13])
def test_learners_that_never_agree_can_be_planned_for(n: int) -> None:
    """Every attempt discordant, at every number of wins: planning scales the counts and rounds."""
    for passed in range(n + 1):
        root = Arm("bon", Control.ROOT, np.arange(n) >= passed, frozenset())
        verdict = decide([root, arm("walk", Control.VISITED, passed, n)])
        assert verdict.gain is not None
        assert verdict.gain.low <= (2 * passed - n) / n <= verdict.gain.high
        assert (verdict.attempts_needed is None) == (verdict.kind != UNDETERMINED)


@pytest.mark.parametrize("exact_root", [None, 0.4])
def test_the_error_of_the_gain_is_shared_among_learners(exact_root: float | None) -> None:
    """Three prefix and two root learners: bounds at α/2 over 3 below, over 2 (or 3, with the law) above."""
    rng, n = np.random.default_rng(3), 60
    roots = drawn(rng, [0.3, 0.2], Control.ROOT, n)
    prefixes = drawn(rng, [0.5, 0.6, 0.4], Control.RESET, n)
    a_low, a_high = 0.025 / 3, 0.025 / (2 if exact_root is None else 3)
    lows, highs = [], []
    for mine in (a.passed for a in prefixes):
        pairs = [
            paired_difference(
                *((mine & ~a.passed).sum(), (a.passed & ~mine).sum(), n),
                alpha_low=a_low,
                alpha_high=a_high,
            )
            for a in roots
        ]
        low, high = [float(x) for x, _ in pairs], [float(x) for _, x in pairs]
        if exact_root is not None:
            low.append(float(lower_bound(mine.sum(), n, a_low)) - exact_root)
            high.append(float(upper_bound(mine.sum(), n, a_high)) - exact_root)
        lows.append(min(low))
        highs.append(min(high))
    gain = decide([*roots, *prefixes], exact_root=exact_root).gain
    assert gain == pytest.approx((max(lows), max(highs)), abs=1e-12)


@pytest.mark.slow
def test_false_gains_of_many_learners() -> None:
    """Nobody is better: g > 0 is false with eight prefix learners, g < 0 with eight root learners.

    Each is claimed with probability at most 2.5 %: 30 or more of 700 simulations have probability 0.4 %
    then. Where α is not divided among the eight it is claimed in 6 to 7 % of them, and in fewer than 30
    with probability 2 % at most.
    """
    rng = np.random.default_rng(8)
    better = worse = 0
    for _ in range(700):
        one, many = drawn(rng, [0.5], Control.ROOT, 40), drawn(rng, [0.5] * 8, Control.RESET, 40)
        better += gain_of([*one, *many]).low > 0
        one, many = drawn(rng, [0.5], Control.RESET, 40), drawn(rng, [0.5] * 8, Control.ROOT, 40)
        worse += gain_of([*one, *many]).high < 0
    assert better < 30
    assert worse < 30


@pytest.mark.parametrize(("passed", "kind"), [(890, BASE_LIMIT), (960, NO_DIFFERENCE), (1050, NO_DIFFERENCE)])  # fmt: skip
def test_the_base_distribution_is_the_limit_below_one_half(passed: int, kind: str) -> None:
    """Of 2,000: 890 bound a rate below 1/2 at α/2, 960 do not, and 1,050 bound it below 0.55 alone."""
    arms = [arm("bon", Control.ROOT, passed, 2000, R), arm("walk", Control.VISITED, passed, 2000)]
    assert upper_bound(890, 2000, 0.025) < 0.5 < upper_bound(960, 2000, 0.025) < 0.55
    assert decide(arms).kind == kind


@pytest.mark.parametrize(("exact", "kind"), [(0.49, BASE_LIMIT), (0.51, NO_DIFFERENCE)])
def test_an_exact_root_of_one_half_is_no_failure(exact: float, kind: str) -> None:
    arms = [arm("bon", Control.ROOT, 0, 24, R), arm("plurality", Control.VISITED, 1)]
    assert decide(arms, exact_root=exact).kind == kind


def test_where_a_learner_counts_as_erring_and_as_unfinished() -> None:
    """More than a tenth of errors leaves it out; half of its outputs unfinished is not finished."""
    root = arm("bon", Control.ROOT, 0, 40, R)
    assert decide([root, arm("walk", Control.VISITED, 40, 40, errors=4)]).kind == ROOT_LIMIT
    assert decide([root, arm("walk", Control.VISITED, 40, 40, errors=5)]).kind == UNDETERMINED
    assert decide([root, arm("walk", Control.VISITED, 0, 40, unfinished=19)]).kind == BASE_LIMIT
    assert decide([root, arm("walk", Control.VISITED, 0, 40, unfinished=20)]).kind == UNDETERMINED


@pytest.mark.slow(1)
@pytest.mark.parametrize(("rate", "n"), [(0.05, 12), (0.5, 12), (0.3, 48), (0.8, 48)])
def test_false_root_limit_without_a_difference(rate: float, n: int) -> None:
    """Four prefix and three root learners, all equally good: a claimed root limit is false.

    The rule's error is at most 2.5 %. With 400 simulations a true error of 2.5 % gives 20 or more
    false claims with probability 0.3 %.
    """
    rng = np.random.default_rng(int(1000 * rate) + n)
    false = 0
    for _ in range(400):
        arms = drawn(rng, [rate] * 3, Control.ROOT, n) + drawn(rng, [rate] * 4, Control.VISITED, n)
        false += gain_of(arms).low > 0  # what the claim rests on
    assert false < 20


def test_error_of_one_pair_is_near_its_level() -> None:
    """With one pair the bound is sharp: the error is not far below its nominal level.

    Truth: no gain, discordance 1/2, n = 200, 5,000 simulations through the counts alone. McNemar at
    3/4 of 2.5 % is 1.9 %; its discreteness takes a little off. Standard error 0.2 points.
    """
    rng = np.random.default_rng(5)
    wins, losses, _ = rng.multinomial(200, [0.25, 0.25, 0.5], size=5000).T
    low, high = paired_difference(wins, losses, 200, alpha_low=0.025, alpha_high=0.025)
    assert 0.010 < np.mean(low > 0) < 0.022
    assert 0.010 < np.mean(high < 0) < 0.022


@pytest.mark.slow
def test_false_no_difference_and_false_base_limit() -> None:
    """Truth: a gain of 0.12 (so "no difference" is false), and one learner at exactly one half.

    1,000 simulations each; a true error of 2.5 % gives 40 or more with probability 0.3 %.
    """
    rng = np.random.default_rng(11)
    no_difference = base = 0
    for _ in range(1000):
        arms = drawn(rng, [0.8, 0.7], Control.ROOT, 300)
        arms += drawn(rng, [0.92, 0.5], Control.VISITED, 300)
        no_difference += gain_of(arms).high <= 0.1  # the default margin
        arms = drawn(rng, [0.5], Control.ROOT, 40) + drawn(rng, [0.1], Control.VISITED, 40)
        base += decide(arms, margin=1.0).kind == BASE_LIMIT
    assert no_difference < 40
    assert base < 40


def test_power() -> None:
    """0.05 against 0.9 on 24 attempts is found in at least 99 of 100 simulations."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        arms = drawn(rng, [0.05, 0.05, 0.02], Control.ROOT, 24)
        arms += drawn(rng, [0.9, 0.3, 0.1, 0.05], Control.VISITED, 24)
        found += decide(arms).kind == ROOT_LIMIT
    assert found >= 99


def test_bad_arms_are_refused() -> None:
    with pytest.raises(InvalidInput, match="distinct names"):
        decide([arm("a", Control.ROOT, 1), arm("a", Control.RESET, 1)])
    with pytest.raises(InvalidInput, match="equal attempts"):
        decide([arm("a", Control.ROOT, 1, 5), arm("b", Control.RESET, 1, 6)])


def test_verdict_is_json() -> None:
    import json

    verdict = decide([arm("a", Control.ROOT, 1), arm("b", Control.RESET, 23)])
    content = json.loads(json.dumps(verdict.to_dict()))
    assert content["kind"] == ROOT_LIMIT
    assert content["gain"][0] > 0
