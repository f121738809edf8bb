"""The base-model barrier: quick rows bear it out, each check can fail, and the page shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from experiment_rows import markup_of, rows_of
from reroot.experiments import centres, get_experiment
from reroot.experiments.base import Row
from reroot.experiments.base_barrier_fits import SWEEPS, sweep_check
from reroot.generators import LinearSoftmax

ID = "base-model-barrier"


@pytest.mark.slow(6)
def test_the_quick_run_bears_it_out_and_shows_it():
    experiment, rows = get_experiment(ID), rows_of(ID)
    checks = experiment.check(rows)
    assert len(checks) == 5
    assert all(check.holds for check in checks), [c for c in checks if not c.holds]
    page = markup_of(experiment.show(rows))
    assert (page.count("<figcaption>"), ">nan<" in page) == (2, False)


BROKEN: list[tuple[str, dict[str, object], Callable[[Row], object]]] = [
    ("process reward is cheaper", {"kind": "stair"}, lambda r: r.update(process=10**9)),
    ("pg_or in sessions", {"method": "pg_or"}, lambda r: r.update(success=r["success"] * 0.8)),
    ("pg_pr in sessions", {"method": "pg_pr"}, lambda r: r.update(queries=r["queries"] * 2)),
    ("lifts no centre", {"reward": "outcome", "bad": True}, lambda r: r.update(rewarded=1)),
    ("lifts all of them", {"reward": "walks", "bad": True}, lambda r: r.update(after=-3.0)),
]


@pytest.mark.slow(1)
@pytest.mark.parametrize(("name", "which", "change"), BROKEN, ids=[b[0] for b in BROKEN])
def test_each_check_can_fail(name: str, which: dict[str, object], change: Callable[[Row], object]):
    rows = copy.deepcopy(rows_of(ID))
    for row in rows:
        if all(row.get(k) == v for k, v in which.items()):
            change(row)
    failed = [check.name for check in get_experiment(ID).check(rows) if not check.holds]
    assert any(name in one for one in failed)


def test_an_exponent_far_from_the_stated_one_fails():
    sweep = SWEEPS["or 1/Q"]
    for power, holds in ((1.0, True), (1.5, False)):
        rows = [
            {"sweep": "or 1/Q", "at": x, "cost": x**power * f}
            for x in sweep.sizes
            for f in (1, 1.1)
        ]
        (check,) = sweep_check("or 1/Q", rows)
        assert check.holds == holds


def test_centres_are_a_linear_softmax_with_its_gradient():
    world = centres.make(3, 4, 5, 6, 2, steps=3, batch=8, seed=1)
    policy = LinearSoftmax(world.slots(), world.vectors, None, world.weights.reshape(12, 5))
    laws = world.log_laws(world.weights)
    credit, known = np.zeros((6, 3)), np.zeros((12, 5))
    for x, y in enumerate(world.answers.tolist()):
        assert np.allclose(policy.answer_laws(x, y), laws[x], atol=1e-12)
        credit[x] = [x, 1.0, 0.5]
        known += policy.gradient(policy.string(x, y), credit[x].tolist())
    found = centres.gradient(world, laws, credit)
    assert np.allclose(found.reshape(12, 5), known, atol=1e-12)
