"""The rule: each claim from the parts that it needs, and nothing from less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reroot.diagnosis.causes import SECOND, Cause, Evidence, RunningTest, rule
from reroot.diagnosis.sequential_test import sequential_test
from reroot.diagnosis.silent_groups import signal_threshold

SILENT = Evidence(passes=False, fails=True)


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        (Evidence(), Cause.UNDETERMINED),
        (Evidence(passes=True), Cause.UNDETERMINED),
        (Evidence(passes=True, fails=True), Cause.LEARNABLE),
        (Evidence(passes=True, fails=False), Cause.SOLVED),
        (Evidence(passes=True, fails=True, judge_fault="x"), Cause.LEARNABLE),
        (Evidence(judge_fault="x"), Cause.JUDGE),
        (SILENT, Cause.UNDETERMINED),
        (replace(SILENT, judge_fault="x"), Cause.JUDGE),
        (replace(SILENT, second=True, anywhere=True), Cause.JUDGE),
        (replace(SILENT, anywhere=True, walks=True), Cause.FORMAT),
        (replace(SILENT, anywhere=True, open_tests=(SECOND,)), Cause.UNDETERMINED),
        (replace(SILENT, anywhere=True, second=False, open_tests=("more room",)), Cause.FORMAT),
        (replace(SILENT, longer=True), Cause.TRUNCATED),
        (replace(SILENT, own_law=True, forced=True), Cause.LAW),
        (replace(SILENT, open_tests=("more room",), walks=True), Cause.UNDETERMINED),
        (replace(SILENT, forced=True), Cause.ACCESS),
        (replace(SILENT, walks=True), Cause.ACCESS),
        (replace(SILENT, forced=False, unique=True), Cause.BASE),
        (replace(SILENT, walks=False, sound=True), Cause.BASE),
        (replace(SILENT, walks=False), Cause.UNDETERMINED),
        (replace(SILENT, forced=False, walks=None), Cause.UNDETERMINED),
    ],
)
def test_the_rule(evidence: Evidence, cause: Cause) -> None:
    ruling = rule(evidence)
    assert ruling.cause == cause
    assert ruling.causes[0] == cause
    assert ruling.why


def test_all_that_is_found_is_named() -> None:
    found = rule(replace(SILENT, anywhere=True, longer=True, own_law=True))
    assert found.causes == (Cause.FORMAT, Cause.TRUNCATED, Cause.LAW)


def test_a_test_keeps_its_first_claim_and_looks_only_where_it_may() -> None:
    test = sequential_test(signal_threshold(8), most=128)
    fed = RunningTest(test).feed([True] * 7)
    assert (fed.claim, fed.open) == (None, True)
    assert fed.feed([True]).claim is True
    assert fed.feed([False] * 200).claim is True
    none = RunningTest(test).feed([False] * 55)
    assert none.claim is None
    assert none.feed([False]).claim is False


@pytest.mark.slow(2)
@pytest.mark.parametrize("p", [0.02, 0.0829, 0.084, 0.5, 0.915, 0.918, 0.99])
def test_wrong_claims_of_pass_rates_are_rare(p: float) -> None:
    """1,000 problems at each rate: a false definite claim in at most 2.5 % + 3.3 s.e."""
    tau = signal_threshold(8)
    test, rng, wrong = sequential_test(tau, most=128), np.random.default_rng(4), 0
    for _ in range(1000):
        hits = rng.random(128) < p
        passes, fails = RunningTest(test).feed(hits), RunningTest(test).feed(~hits)
        cause = rule(Evidence(passes=passes.claim, fails=fails.claim)).cause
        truth = Cause.LEARNABLE if tau < p < 1 - tau else Cause.SOLVED if p > 0.5 else None
        silent = passes.claim is False and p > tau
        wrong += silent or (cause in (Cause.LEARNABLE, Cause.SOLVED) and cause != truth)
    assert wrong <= 25 + 3.3 * 25**0.5
