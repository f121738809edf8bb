"""``reroot diagnose``: causes that are known, numbers that can be checked, folders that go on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot.diagnosis.causes import Cause
from reroot.families import HiddenPath
from reroot.runs.diagnosing.cases import Case, all_cases
from reroot.runs.diagnosing.opinions import accidents, holds_anywhere, second_opinion
from reroot.runs.diagnosing.sayings import Sayings
from reroot.runs.diagnosing.selftest import confusion, rates, selftest, selftest_away
from reroot.runs.executors.processes import Processes
from reroot.testing import check_generator

PATH = "hidden_path:K=4,H=12,p=0.4"


# ---- the constructed suite ------------------------------------------------------------------------


def test_there_are_cases_of_every_cause_and_of_pairs() -> None:
    cases = all_cases()
    assert len(cases) >= 40
    assert len({c.name for c in cases}) == len(cases)
    assert set(Cause) == {cause for c in cases for cause in c.truth}
    assert any(len(c.truth) > 1 for c in cases)


@pytest.mark.slow(8)
def test_causes_are_found() -> None:
    """43 cases: 90 % right is the promise, and none wrong here (1 % is)."""
    outcomes = selftest(1)
    found = rates(outcomes)
    assert found["right"] >= 0.95, confusion(outcomes)
    assert not [o for o in outcomes if o.wrong]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("path 0.7^4", Cause.LEARNABLE),
        ("a judge that misses \\boxed", Cause.JUDGE),
        ("tags that are not written", Cause.FORMAT),
        ("cut off, 0.9", Cause.TRUNCATED),
        ("0.3 under T=0.2", Cause.LAW),
        ("a rare last letter", Cause.BASE),
    ],
)
def test_one_of_each(name: str, cause: Cause) -> None:
    (case,) = (c for c in all_cases() if c.name == name)
    (outcome,) = selftest(1, cases=[case])
    assert outcome.ruling.cause == cause


def test_a_wrong_definite_diagnosis_would_be_seen() -> None:
    (case,) = (c for c in all_cases() if c.name == "path 0.7^4")
    lie = replace(case, truth=frozenset({Cause.BASE}))
    outcomes = selftest(2, cases=[lie, case])
    assert rates(outcomes) == {**rates(outcomes), "right": 0.5, "wrong": 0.5}
    assert confusion(outcomes)["base-limited"] == {Cause.LEARNABLE: 2}


def two_cases() -> list[Case]:
    return [c for c in all_cases() if c.name in ("path 0.7^4", "cut off, 0.9")]


@pytest.mark.slow(4)
def test_workers_diagnose_the_same() -> None:
    told: list[list[str]] = [[], []]
    cases = two_cases()
    here = selftest(1, cases=cases, told=told[0].append)
    away = selftest_away(1, Processes(2), two_cases, cases=cases, told=told[1].append)
    assert [(o.case.name, o.seed, o.ruling, o.tokens) for o in away] == [
        (o.case.name, o.seed, o.ruling, o.tokens) for o in here
    ]
    assert sorted(told[0]) == sorted(told[1])


def test_workers_are_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("diagnose", "--selftest", "--replicas", "2") == 2
    assert "replicas=2 is of Ray" in capsys.readouterr().err


@pytest.mark.slow(2)
def test_its_generator_conforms() -> None:
    said = {"?": {"yes": 0.3, "no": 0.7}, "!": {"no": 1.0}}
    check_generator(lambda: Sayings(said), prompts=["?", "!"])
    generator = Sayings(said)
    law = generator.log_laws(generator.encode("?"), [()])[0]
    assert math.exp(law[generator.encode("y")[0]]) == pytest.approx(0.3)


# ---- opinions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "passes", "anywhere"),
    [
        ("1200", "so \\boxed{1,200}", True, True),
        ("1200", "$1,200.00", True, True),
        ("12", "it is 12 I think", False, True),
        ("12", "3 * 4 = 12\n#### 12", True, True),
        ("12", "it is 120", False, False),
        ("12", "the answer is 13, not 12", False, True),
        ("1.2", "1.25", False, False),
        ("Paris", "PARIS.", True, True),
        ("Paris", "I went to Paris", False, True),
        ("B", "The answer is (B).", True, True),
        ("12", "", False, False),
        ("", "anything", False, False),
    ],
)
def test_second_opinions(answer: str, text: str, passes: bool, anywhere: bool) -> None:
    assert second_opinion(answer, text) is passes
    assert holds_anywhere(answer, text) is anywhere


def test_accidents_are_counted() -> None:
    texts = ["1 2 3 4 5 6 7 8 9"] * 16
    assert accidents("5", texts, ["5", "6", "7"]) > 0.2  # one-digit answers stand everywhere
    assert accidents("5012", ["there are 5012"] * 16, ["17", "99"]) < 0.05
    assert accidents("Paris", ["Paris"], ["Paris"]) == 1.0  # nothing to compare with


# ---- end to end -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return reroot.diagnose(PATH, problems=6, budget_tokens=200_000).summary


@pytest.mark.slow(2)
def test_an_exact_family(found: dict[str, Any]) -> None:
    """Reach p^H by teacher forcing, exactly; the wait is that of its groups."""
    assert {p["cause"] for p in found["problems"]} == {"access-limited"}
    for p in found["problems"]:
        assert p["reach"] == pytest.approx(0.4**12)
        assert p["interval"] == [pytest.approx(0.4**12)] * 2
        assert p["walks"] == [
            2,
            2,
        ]  # the demonstration shows the access; these tell what walks cost
        assert p["rollouts"] == 16  # and that it is silent
        assert p["forced_cost"] == pytest.approx(12 / 0.4)
    assert found["shares"]["access-limited"]["interval"][0] > 0.5
    seen = found["forecast"]
    assert seen["zero_variance"] == pytest.approx((1 - 0.4**12) ** 8)
    assert seen["zero_variance_prediction"]["groups"] == 6
    assert seen["zero_variance_prediction"]["these"] == [1.0, 1.0]
    silent = (1 - 0.4**12) ** (6 * 8)  # of a step: six problems are fewer than eight groups
    median = math.ceil(math.log(0.5) / math.log(silent))
    assert seen["first_signal"]["steps"]["median"] == pytest.approx(median, rel=0.01)
    assert found["tokens"] <= 200_000


@pytest.mark.slow(1)
def test_remedies_say_what_they_need_and_rest_on(found: dict[str, Any]) -> None:
    names = {r["name"]: r for r in found["remedies"]}
    walks = names["verifier-guided prefixes"]
    assert walks["granted"]
    assert walks["needs"].startswith("visited/sample")
    assert walks["tokens"]["median"] < names["groups of 64"]["tokens"]["median"] / 500
    for name in ("AdaBack", "demonstration prefixes (R3)"):
        tokens = names[name]["tokens"]
        assert 6 * 8 <= tokens["low"] <= tokens["median"] <= tokens["high"] < 6 * 8 * 12 * 20
        assert "teacher forcing of 6 demonstrations" in names[name]["evidence"]
    assert "of 18 groups that were started so had signal" in walks["evidence"]
    assert names["own plurality prefixes"]["needs"] == "visited/sample+reward"
    assert names["SFT on demonstrations first"]["tokens"] is None
    costs = [
        r["tokens"]["median"] for r in found["remedies"] if r["tokens"] and r["tokens"]["median"]
    ]
    assert costs == sorted(costs)


def test_what_is_not_granted_is_not_tried_and_said() -> None:
    family = HiddenPath(4, 12, 0.4, seed=0)
    done = reroot.diagnose(family, [family.problem()], grants="root/sample", budget_tokens=20_000)
    (problem,) = done.summary["problems"]
    assert problem["cause"] == "undetermined"
    assert problem["walks"] == [0, 0]
    said = " ".join(done.summary["notes"])
    assert "walk was not tried: it needs visited/sample+verifier" in said
    assert {a.contract.partition("/")[0] for a in done.attempts.values()} == {"root"}


def test_the_budget_is_hard_and_its_end_is_said() -> None:
    done = reroot.diagnose(PATH, problems=6, budget_tokens=1_500)
    assert sum(a.cost.tokens for a in done.attempts.values()) == done.summary["tokens"] <= 1_500
    assert any("the budget ended" in note for note in done.summary["notes"])


@pytest.mark.slow(2)
def test_a_folder_is_resumed_and_gives_the_same(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"problems": 3, "budget_tokens": 20_000}
    first = reroot.diagnose(PATH, out=tmp_path / "a", **settings)
    whole = (tmp_path / "a" / "diagnosis.json").read_bytes()
    journal = tmp_path / "a" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))  # as after a kill
    again = reroot.diagnose(PATH, out=tmp_path / "a", **settings)
    assert again.summary == first.summary
    assert (tmp_path / "a" / "diagnosis.json").read_bytes() == whole
    with pytest.raises(reroot.RunFolderError):
        reroot.diagnose(PATH, out=tmp_path / "a", group=16, **settings)


@pytest.mark.slow(3)
def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "why"
    arguments = ["--problems", "2", "--budget-tokens", "20000", "--out", str(out)]
    assert call("diagnose", "--model", PATH, *arguments) == 0
    said = capsys.readouterr().out
    assert "2 of 2 access-limited" in said
    kept = json.loads((out / "diagnosis.json").read_text())
    assert {"problems", "forecast", "remedies"} <= set(kept)
    assert isinstance(kept["forecast"]["zero_variance"], float)
    page = (out / "diagnosis.html").read_text()
    assert "verifier-guided prefixes" in page
    assert call("report", str(out)) == 0
    assert capsys.readouterr().out == said
    assert (out / "diagnosis.html").read_text() == page


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(reroot.InvalidInput, match="group"):
        reroot.diagnose(PATH, group=1)
    with pytest.raises(reroot.InvalidInput, match="exact family"):
        reroot.diagnose(PATH, "copy")
    with pytest.raises(reroot.InvalidInput, match="needs a task"):
        reroot.diagnose("smollm2")
    for name in ("budget_tokens", "remedy_tokens", "problems", "per_step", "concurrency"):
        settings: dict[str, Any] = {name: 0}
        with pytest.raises(reroot.InvalidInput, match=f"{name} must be an integer"):
            reroot.diagnose(PATH, **settings)
    with pytest.raises(reroot.InvalidInput, match="needs rollouts"):
        reroot.diagnose(PATH, grants="root/argmax(1)")
    with pytest.raises(reroot.InvalidInput, match="pass_at is for a trainer_log alone"):
        reroot.diagnose(PATH, pass_at=0.5)


def test_problems_without_a_judged_rollout_are_in_no_forecast_and_said() -> None:
    family = HiddenPath(4, 4, 0.6, seed=0)
    silent = [replace(family.problem(), reward=lambda output: None)]
    done = reroot.diagnose(family, silent, budget_tokens=20_000).summary
    assert (done["forecast"], done["remedies"]) == (None, [])
    assert any("no judged rollout" in note for note in done["notes"])


def test_a_judge_that_is_down_leaves_the_rest_and_says_so() -> None:
    """More attempts than go on at once: after 16 failures in a row the others are not begun."""

    def reward(output: reroot.Output) -> float:
        raise RuntimeError("down")

    family = HiddenPath(4, 4, 0.6, seed=0)
    many = [replace(family.problem(), id=f"p{i}", reward=reward) for i in range(8)]
    done = reroot.diagnose(family, many, budget_tokens=20_000, concurrency=8).summary
    assert {p["cause"] for p in done["problems"]} <= {"judge-limited", "undetermined"}
    assert any("the judge failed 16 times in a row" in note for note in done["notes"])


def test_a_judge_that_fails_is_the_cause_and_loses_nothing() -> None:
    def reward(output: reroot.Output) -> float:
        raise RuntimeError("the service is down")

    family = HiddenPath(4, 4, 0.6, seed=0)
    broken = [replace(family.problem(), id=f"p{i}", reward=reward) for i in range(2)]
    done = reroot.diagnose(family, broken, budget_tokens=20_000)
    assert set(done.causes.values()) == {"judge-limited"}
    assert "the service is down" in done.summary["problems"][0]["why"]
