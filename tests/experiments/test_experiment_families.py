"""Decoy, trie, noisy parity and ladder: what quick runs find, and that each check can fail."""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from experiment_rows import failing, markup_of, rows_of
from reroot import Contract
from reroot.experiments import get_experiment
from reroot.experiments.base import Row, where
from reroot.experiments.ladder import _TRIALS, FAMILIES
from reroot.experiments.ladder_cells import (
    CONTROLS,
    REPORTS,
    Cell,
    Ladder,
    PathLadder,
    Trial,
    permitted,
)
from reroot.experiments.ladder_more import TrieLadder

IDS = ["decoy", "trie", "noisy-parity", "ladder"]


# ---- quick runs ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_quick_run_bears_the_claim_out_and_shows_it(id: str):
    experiment = get_experiment(id)
    checks = experiment.check(rows_of(id))
    assert all(check.holds and check.detail for check in checks), [c for c in checks if not c.holds]
    page = markup_of(experiment.show(rows_of(id)))
    figures, tables = {"decoy": (1, 3), "trie": (1, 2), "noisy-parity": (2, 2)}.get(id, (0, 6 + 4))
    assert page.count("<figcaption>") == figures
    assert page.count("<table>") == tables
    assert (">nan<" in page, page.count("<svg") >= figures) == (False, True)


@pytest.mark.parametrize(
    ("id", "number"), [("decoy", 8), ("trie", 2), ("noisy-parity", 8), ("ladder", 61)]
)
def test_measurements_depend_on_the_setting_alone(id: str, number: int):
    experiment = get_experiment(id)
    assert number in experiment.quick
    first = experiment.measure(experiment.setting(number))
    assert experiment.measure(json.loads(json.dumps(experiment.setting(number)))) == first


# ---- each check can fail ---------------------------------------------------------------------------


def put(**values: object) -> Callable[[Row], None]:
    """Change a row: numbers are added to what is there, other values replace it."""

    def change(row: Row) -> None:
        for name, value in values.items():
            row[name] = row[name] + value if type(value) is int else value

    return change


def more_queries(row: Row) -> None:
    row["most"]["queries"] += 1


BROKEN: list[tuple[str, str, dict[str, object], Callable[[Row], None]]] = [
    ("decoy", "answers the same whatever", {"kind": "blind", "k": 2}, put(blind=1)),
    ("decoy", "answers the same whatever", {"kind": "blind", "k": 1}, put(refused=1)),
    ("decoy", "tells all secrets apart", {"kind": "blind", "k": 4}, put(sees=-1)),
    ("decoy", "(M + 1)/(K − k)^H", {"kind": "guess"}, put(passed=60)),
    ("decoy", "(M + 1)/(K − k)^H", {"kind": "guess"}, put(passed=-55)),
    ("decoy", "find every path", {"report": "argmax"}, put(passed=-1)),
    ("decoy", "find every path", {"report": "logprob"}, put(passed=-1)),
    ("decoy", "find every path", {"report": "full", "kind": "walk"}, put(errors=1)),
    ("decoy", "find every path", {"report": "sample"}, put(passed=-8)),
    ("decoy", "take H queries", {"report": "sample"}, put(most=1)),
    ("decoy", "take H queries", {"report": "argmax"}, put(least=-1)),
    ("decoy", "LOGPROB waits", {"report": "logprob"}, put(queries=20)),
    ("decoy", "LOGPROB waits", {"report": "logprob"}, put(queries=-16)),
    ("decoy", "root-start reading", {"kind": "root"}, put(passed=25)),
    ("decoy", "root-start reading", {"kind": "root"}, put(passed=-25)),
    ("trie", "δ/2 at most", {"report": "sample", "short": 0}, put(exact=-10)),
    ("trie", "δ/2 at most", {"report": "full"}, put(errors=1)),
    ("trie", "δ/(2S) at most", {"report": "sample", "short": 0}, put(misread=14)),
    ("trie", "laws show every trie", {"report": "full"}, put(exact=-1)),
    ("trie", "no run takes more", {"short": 4}, put(over=1)),
    ("trie", "no run takes more", {"report": "full"}, put(queries=-1)),
    ("trie", "every run reports failure", {"short": 1}, put(reported=-1)),
    ("trie", "no wrong trie", {"short": 4}, put(wrong=1)),
    ("noisy-parity", "α = 0.2 is 0.36", {"kind": "fidelity"}, put(fidelity=0.3601)),
    ("noisy-parity", "and 1 before", {"kind": "fidelity"}, put(off=1e-6)),
    ("noisy-parity", "for certain", {"report": "logprob", "control": "chosen"}, put(passed=-1)),
    ("noisy-parity", "for certain", {"report": "sample", "kind": "probe"}, put(errors=1)),
    ("noisy-parity", "the probe fails", {"report": "sample", "control": "reset"}, put(passed=-14)),
    ("noisy-parity", "(T − 1)·m queries", {"kind": "probe"}, put(queries=1)),
    ("noisy-parity", "(T − 1)·m queries", {"kind": "probe"}, put(same=False)),
    ("noisy-parity", "samples hold the secret", {"kind": "samples", "share": None}, put(passed=-14)),
    ("noisy-parity", "than Fano allows", {"share": 0.25}, put(passed=40)),
    ("noisy-parity", "law of ranks", {"spare": 4}, put(passed=-25)),
    ("noisy-parity", "law of ranks", {"spare": 0}, put(passed=30)),
    ("noisy-parity", "law of ranks", {"spare": 4}, put(errors=1)),
    ("noisy-parity", "asking again", {"kind": "elimination", "report": "sample"}, put(passed=-9)),
    ("ladder", "numbers of the table suffice", {"trial": "reset full"}, put(passed=-16)),
    ("ladder", "numbers of the table suffice", {"trial": "law"}, put(errors=1)),
    ("ladder", "exact numbers are what", {"trial": "reset argmax"}, more_queries),
    ("ladder", "exact formulas of the root row", {"trial": "root logprob"}, put(exact=0.7)),
    ("ladder", "one and the same answer", {"trial": "blind chosen/argmax(1)"}, put(answers=1)),
    ("ladder", "answers at ∅ alone", {"trial": "blind visited/argmax(3)"}, put(answered=1)),
    ("ladder", "answers at ∅ alone", {"trial": "blind visited/argmax(3)"}, put(refused=False)),
]  # fmt: skip
_cases = [pytest.param(*case, id=f"{i}-{case[0]}") for i, case in enumerate(BROKEN)]


@pytest.mark.slow
@pytest.mark.parametrize(("id", "name", "at", "change"), _cases)
def test_checks_can_fail(id: str, name: str, at: dict[str, object], change: Callable[[Row], None]):
    """One row is wrong: this check fails, and no other."""
    rows = copy.deepcopy(rows_of(id))
    spoiled = where(rows, **at)
    assert spoiled
    for row in spoiled:
        change(row)
    (failed,) = failing(id, rows)
    assert name in failed


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_each_check_is_seen_failing(id: str):
    names = {check.name for check in get_experiment(id).check(rows_of(id))}
    seen = {name for name in names for case in BROKEN if case[0] == id and case[1] in name}
    alone = {"at K = 2 LOGPROB equals FULL at every control level"}  # below
    assert names - seen <= alone


@pytest.mark.slow
def test_checks_of_rows_that_the_full_run_adds_can_fail(monkeypatch: pytest.MonkeyPatch):
    root: Row = {"kind": "root", "report": "sample", "attempts": 100}
    assert failing("decoy", [*rows_of("decoy"), {**root, "passed": 95}]) == []
    (name,) = failing("decoy", [*rows_of("decoy"), {**root, "passed": 80}])
    assert "ROOT/SAMPLE succeeds" in name
    rows: list[Row] = rows_of("ladder")
    weak: Row = {"family": "small-advantage", "trial": "sample"}
    assert failing("ladder", [*rows, {**weak, "queries": 16 * 225.0}]) == []
    for queries in (16 * 40.0, 16 * 1000.0):
        (name,) = failing("ladder", [*rows, {**weak, "queries": queries}])
        assert "small advantage" in name
    monkeypatch.setitem(FAMILIES, "two-tokens", FAMILIES["hidden-path"])
    (name,) = failing("ladder", where(rows, family="decoy-path"))
    assert "at K = 2 LOGPROB equals FULL" in name


# ---- the ladder ------------------------------------------------------------------------------------


@functools.cache
def cells_of(family: str) -> dict[tuple[str, str], Cell]:
    return FAMILIES[family].cells()


@functools.cache
def trials_of(family: str) -> dict[str, Trial]:
    return FAMILIES[family].trials()


SETTINGS = dict(_TRIALS)


def test_settings_are_those_trials_in_order():
    settings = get_experiment("ladder").settings
    listed = [(family, trial) for family, trials in _TRIALS for trial in trials]
    assert [(s["family"], s["trial"]) for s in settings] == listed
    assert len(set(listed)) == len(listed)
    assert list(SETTINGS) == list(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trial_of_the_settings_exists_and_backs_a_cell(family: str):
    backing = {cell.trial for cell in cells_of(family).values()}
    assert set(SETTINGS[family]) <= set(trials_of(family))
    assert set(SETTINGS[family]) == backing


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_is_backed_by_a_run_that_it_permits(family: str):
    assert list(cells_of(family)) == list(itertools.product(CONTROLS, REPORTS))
    for (control, report), cell in cells_of(family).items():
        trial = trials_of(family)[cell.trial]
        if cell.kind == "never":  # the blind run was granted no less than the cell
            mine, this = Contract.parse(trial.grants), Contract.parse(f"{control}/{report}")
            assert trial.learner.name == "ask_all"
            assert this.report <= mine.report
            assert (control, str(mine.control)) in [
                *zip(CONTROLS, CONTROLS, strict=True),
                ("reset", "chosen"),
            ]
            assert (cell.rollouts, cell.queries, cell.rewards, cell.low) == (0, 0, 0, None)
            assert len(trial.instances()) > 1
        else:
            assert cell.kind in ("exact", "quantile", "mean", "bound")
            assert permitted(trial, control, report), (control, report, trial.grants)
            assert trial.learner.requires <= Contract.parse(trial.grants)
            assert cell.rollouts or cell.queries or cell.kind == "mean"
            assert (cell.low is not None) == (cell.kind in ("bound", "mean"))


def smaller(family: Ladder) -> Ladder:
    """The family at the size of its root-start runs."""
    if isinstance(family, PathLadder):
        return replace(family, H=family.short)
    if isinstance(family, TrieLadder):
        return replace(family, H=family.short[0], S=family.short[1])
    return family


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_of_the_cells_are_the_budgets_of_the_runs(family: str):
    """Where a run is smaller, those of the same formula there."""
    small = smaller(FAMILIES[family]).cells()
    for place, cell in cells_of(family).items():
        if cell.kind in ("never", "mean"):
            continue
        trial = trials_of(family)[cell.trial]
        right = small[place] if trial.size else cell
        numbers = {c: getattr(right, c) for c in ("rollouts", "queries", "rewards")}
        assert trial.budget.to_dict() == {c: n for c, n in numbers.items() if n}, place
        if cell.low is not None and not cell.queries * cell.rollouts:
            assert 0 < cell.low <= (cell.queries or cell.rollouts)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_access_never_takes_more(family: str):
    """Finite stays finite; exact numbers of queries do not grow. VISITED/ARGMAX draws nothing, so
    it is not above ROOT/ARGMAX; behind temperature 0 lies another law."""
    cells = cells_of(family)
    for (one, less), (two, more) in itertools.product(cells.items(), repeat=2):
        a, b = (Contract.parse("/".join(place)) for place in (one, two))
        if not (a.control <= b.control and a.report <= b.report):
            continue
        if one[0] == "root" and not a.report.draws:
            continue
        if less.kind != "never":
            assert more.kind != "never", (one, two)
        if one[0] != "root" and less.kind == "exact" == more.kind and not less.rollouts:
            paid = more.queries + more.rollouts + more.rewards
            assert paid <= less.queries + less.rewards, (one, two)


def test_the_page_shows_every_cell():
    page = markup_of(get_experiment("ladder").show([]))
    assert page.count("<table>") == len(FAMILIES)
    assert all(family.title in page for family in FAMILIES.values())
    for kind, shown in [("never", "∞<sup>"), ("bound", "bounds<"), ("mean", "floor<"),
                        ("exact", ">exact<"), ("quantile", ">quantile<")]:  # fmt: skip
        count = sum(c.kind == kind for family in FAMILIES for c in cells_of(family).values())
        assert page.count(shown) == count > 0


def test_permission_is_what_the_cell_grants():
    trial = trials_of("hidden-path")["visited logprob"]
    allowed = [(c, r) for c, r in itertools.product(CONTROLS, REPORTS) if permitted(trial, c, r)]
    assert allowed == list(itertools.product(CONTROLS[1:], ("logprob", "topk(1)", "full")))
