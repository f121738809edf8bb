"""The kit for tasks accepts good ones, and each of its checks fails on one that is spoiled."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reroot import Problem
from reroot.families import HiddenPath, HiddenTrie
from reroot.tasks import get_task
from reroot.testing import TaskConformance, check_task


class Kit(TaskConformance):
    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def make(self) -> Any:
        return self.subject


def good(horizon: int, count: int, seed: int) -> list[Problem]:
    return list(get_task("copy").problems(horizon, count, seed))


def changed(**changes: Any) -> Any:
    """The good task, with these fields of its problems changed."""
    return lambda horizon, count, seed: [
        replace(p, **{k: v(p) if callable(v) else v for k, v in changes.items()})
        for p in good(horizon, count, seed)
    ]


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "name", ["copy", "add", "running_sum", "running_parity", "chain_of_parities:width=6"]
)
def test_good_tasks_pass(name: str) -> None:
    check_task(name)


@pytest.mark.slow(1)
def test_families_and_files_pass(tmp_path: Path) -> None:
    for family in (HiddenPath(3, 4, 0.6), HiddenTrie(4, 4, 0.3, 0.25, nodes=6)):
        check_task(lambda horizon, count, seed, f=family: [f.problem()], generator=family)
    (tmp_path / "t.jsonl").write_text('{"prompt": "2 + 2 =", "answer": "4"}\n' * 1)
    check_task(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.py").write_text(
        "from reroot.tasks import get_task\n"
        "def problems(horizon, count, seed): return get_task('copy').problems(horizon, count, seed)\n"
    )
    check_task(str(tmp_path / "t.py"))


CLOCK = itertools.count()


def by_the_clock(horizon: int, count: int, seed: int) -> list[Problem]:
    return [replace(p, prompt=f"{next(CLOCK)} {p.prompt}") for p in good(horizon, count, seed)]


def one_id(horizon: int, count: int, seed: int) -> list[Problem]:
    return [replace(p, id="a") for p in good(horizon, count, seed)]


def cut_before_stop(horizon: int, count: int, seed: int) -> list[Problem]:
    """Text is cut before the stop text, so that a beginning of the answer is accepted when it ends."""
    return [
        replace(p, verifier=lambda o, a=p.answer: f" {a}".startswith(o.text))
        for p in good(horizon, count, seed)
    ]


@pytest.mark.parametrize(
    ("check", "spoiled", "said"),
    [
        ("01", by_the_clock, "gives other problems"),
        ("02", one_id, "two problems have the id 'a'"),
        ("02", changed(prompt=" \n"), "empty prompt"),
        ("03", changed(demonstration=lambda p: " wrong\n"), "' wrong' fails its reward"),
        ("04", changed(reward=lambda p: lambda o: 1.0), "an empty output passes"),
        ("05", changed(reward=lambda p: lambda o: random.SystemRandom().random()), "has rewards"),
        ("06", changed(verifier=lambda p: lambda o: len(o.text) < 2), "the verifier refuses"),
        ("07", changed(verifier=lambda p: lambda o: True), "accepts the complete output"),
        ("07", cut_before_stop, "accepts the complete output"),
        ("08", changed(value=lambda p: lambda o: -1.0), "value must be a finite number"),
    ],
)
def test_spoiled_tasks_fail(check: str, spoiled: Any, said: str) -> None:
    (name,) = (n for n in Kit.checks() if n.startswith(f"test_{check}"))
    with pytest.raises(Exception, match=said):
        getattr(Kit(spoiled), name)()


def test_every_check_is_shown_to_fail() -> None:
    assert {name[5:7] for name in Kit.checks()} == {f"0{i}" for i in range(1, 9)}


def test_what_failed_is_named() -> None:
    with pytest.raises(AssertionError, match=r"1 checks failed\ntest_07_.*accepts the complete"):
        check_task(cut_before_stop)
    path = HiddenPath(3, 4, 0.6)
    with pytest.raises(AssertionError, match="need the generator whose tokens"):
        check_task(lambda horizon, count, seed: [path.problem()])
