"""What a run keeps of each attempt and problem: bytes, counted; none of it changes what is read."""

from __future__ import annotations

import gc
import random
import tracemalloc
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot.access.attempt import Attempt
from reroot.access.attempt_json import attempt_to_json
from reroot.access.failures import Failure
from reroot.access.runner import Job
from reroot.access.sealing import sealed
from reroot.families import DecoyPath, HiddenPath
from reroot.families.many import Paths, ensemble
from reroot.generators.base import Request
from reroot.generators.ensemble import Ensemble
from reroot.runs import kept, made, numbered, parted, summary, tables
from reroot.runs.compare import load_comparison
from reroot.runs.elsewhere import Made as Done
from reroot.runs.estimate import FIRST, SECOND, shares_of
from reroot.runs.executors import base
from reroot.runs.kept import Kept
from reroot.runs.made import Made, Picked, Recent
from reroot.runs.numbered import Numbered
from reroot.runs.results import load_run
from reroot.runs.workload import build_workload
from reroot.types import Cost, Physical, Prefix

MANY = 10_000
ONE = Attempt("", "p", "l", "c", 0, None, "", True, 0.0, False, None, Cost(), None, None)


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Bytes that Python has since taken and not given back."""
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: (gc.collect(), tracemalloc.get_traced_memory()[0])[1]
    finally:
        tracemalloc.stop()


def test_numbers_of_texts_are_those_of_a_dict() -> None:
    rng, known, numbers = random.Random(0), dict[str, int](), Numbered()
    for _ in range(5_000):
        key = f"k{rng.randrange(2_000)}" + rng.choice(["", "\udc80", "é"])
        assert numbers.get(key) == known.get(key)
        assert (key in numbers) == (key in known)
        known[key] = numbers[key] = rng.getrandbits(64)
    assert len(numbers) == len(known)
    assert all(numbers.get(key) == number for key, number in known.items())


def test_texts_whose_digests_begin_alike_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered, "_digest", lambda text: (7, len(text)))
    numbers = Numbered()
    for i in range(30):
        numbers["x" * i] = i
    assert [numbers.get("x" * i) for i in range(31)] == [*range(30), None]


def test_an_attempt_on_disk_takes_at_most_forty_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "HELD", 10)
    with measured() as taken:
        found = Kept(tmp_path / "journal.jsonl")
        for i in range(MANY):
            key = f"hidden_path/H2/s0/{i} | best_of_n(n=16) | T=1"
            found.add(ONE, key)
            found.written(key, 540 * i)
        assert len(found) == MANY
        assert taken() / MANY < 42, taken() / MANY  # and ten whole attempts


def test_attempts_on_disk_are_those_of_a_dict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, some of them again and again, failed or not, written one by one or together, twice at once."""
    monkeypatch.setattr(kept, "HELD", 7)
    file, rng = tmp_path / "journal.jsonl", random.Random(1)
    known, found, waiting = dict[str, Attempt](), Kept(file), list[Attempt]()
    with file.open("ab") as journal:
        for i in range(400):
            failed = Failure("ValueError", "no") if rng.random() < 0.3 else None
            attempt = replace(ONE, key=f"k{rng.randrange(60)}", seed=i, error=failed)
            known[attempt.key] = attempt
            found.add(attempt)
            waiting.append(attempt)
            if rng.random() < 0.5:
                for one in waiting:
                    at = journal.tell()
                    journal.write(sealed(attempt_to_json(one)))
                    journal.flush()
                    found.written(one.key, at)
                waiting.clear()
            assert found["k0"] == known["k0"] if "k0" in known else "k0" not in found
    for one in [found, loaded(file)] if not waiting else [found]:
        assert dict(one) == known
        assert len(one) == len(list(one)) == len(known)
        assert {key for key in known if one.has_failed(key)} == {
            key for key, attempt in known.items() if attempt.error is not None
        }
    assert not found.has_failed("nobody")
    with pytest.raises(KeyError):
        found["nobody"]


def loaded(file: Path) -> Kept:
    found = Kept(file)
    found.load()
    return found


def test_an_estimate_makes_and_holds_few_jobs() -> None:
    made_now = list[int]()

    def job(index: int) -> Job:
        made_now.append(index)
        return Job(f"k{index}", *[None] * 5)  # type: ignore[arg-type]

    jobs = Made(range(MANY), job)
    left = Picked(jobs, range(0, MANY, 2))
    with measured() as taken:
        shares = shares_of(left, lambda position: (position % 6,))
        assert taken() < 20_000
    assert {place: share.count for place, share in shares.items()} == {
        (n,): sum(1 for i in range(0, MANY, 2) if i % 6 == n) for n in (0, 2, 4)
    }
    assert len(made_now) == 3 * (FIRST + SECOND)
    assert [job.key for job in shares[2,].first] == ["k2", "k8", "k14", "k20"]


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number


def test_what_is_made_when_asked_for_stays_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "TOGETHER", 8)
    monkeypatch.setattr(made, "HELD", 32)
    alive, count = weakref.WeakSet[Thing](), 0

    def make(number: int) -> Thing:
        nonlocal count
        count += 1
        alive.add(found := Thing(number))
        return found

    things = Recent(100, make)
    assert [thing.number for thing in things] == list(range(100))
    assert count == 100
    assert len(alive) <= 32
    assert [things[i].number for i in (99, 98, 80, -1)] == [99, 98, 80, 99]
    assert count == 100
    assert [thing.number for thing in things[3:20:5]] == [3, 8, 13, 18]
    with pytest.raises(IndexError):
        things[100]


@pytest.mark.parametrize("member", [HiddenPath(4, 3, 0.5), DecoyPath(6, 3, 2, 0.25, 0.18)])
def test_paths_made_when_asked_for_are_an_ensemble_of_paths(
    member: HiddenPath | DecoyPath,
) -> None:
    members = [type(member)(member.vocab_size, 3, **member.parameters(), seed=s) for s in range(5)]  # type: ignore[arg-type]
    whole, some, alone = ensemble(members), ensemble(Paths(iter(members))), Ensemble(members)
    assert whole.describe() == some.describe() == alone.describe()
    assert [m.describe() for m in some.members] == [m.describe() for m in members]
    asked = [Request((i % 5,), (0,) * (i % 2), n=4, length=2, key=(i, i)) for i in range(20)]
    for one, other in zip(whole.answer(asked), some.answer(asked), strict=True):
        assert (one.tokens == other.tokens).all()
    with pytest.raises(reroot.InvalidInput, match="of one law expected"):
        Paths([member, HiddenPath(4, 3, 0.6)])


def test_problems_of_paths_are_the_same_each_time_they_are_made() -> None:
    work = build_workload("hidden_path:K=3,H=4,p=0.6", [], [], 2, 5)
    again = build_workload("hidden_path:K=3,H=4,p=0.6", [], [4], 2, 5)
    assert work.digest() == again.digest()
    for one, other in zip(work.episodes(), again.episodes(), strict=True):
        bound = reroot.access.episode.bind(other.problem, work.generator)
        for name in ("prompt", "stop", "horizon", "demonstration"):
            assert getattr(one, name) == getattr(bound, name)
        assert one.problem.id == other.problem.id
    assert len({e.demonstration for e in work.episodes()}) > 1


class AtOnce:
    """An executor whose attempts are made up: what remains is what the driver keeps."""

    workers, here = 2, False

    @contextmanager
    def pool(self, begin: object) -> Iterator[AtOnce]:
        yield self

    def results(self, batches: Iterable[base.Batch]) -> Iterator[base.Done]:
        for key, ((problem, label, _), _) in (one for batch in batches for one in batch):
            passed = zlib.crc32(key.encode()) % 5 > 0
            attempt = replace(ONE, key=str(key), problem=problem, learner=label, passed=passed)
            attempt = replace(attempt, output=Prefix((1, 2)), contract="root/sample+reward")
            yield base.Done(key, Done(attempt, [], Physical()))


def compared(out: Path, problems: int, **more: Any) -> reroot.Comparison:
    return reroot.compare(
        model="hidden_path:K=3,H=2,p=0.6",
        grants="root/sample",
        learners=[f"best_of_n:n={n}" for n in range(1, 11)],
        budget_tokens=1_000 * problems,
        seeds=2,
        problems=problems,
        out=out,
        **more,
    )


@pytest.mark.slow(15)
def test_the_driver_keeps_at_most_a_hundred_bytes_of_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Problems, texts and jobs included, ten learners on each problem; an attempt on disk takes 550."""
    for module, name, value in (
        *((kept, "HELD", 50), (made, "TOGETHER", 10), (made, "HELD", 50)),
        *((tables, "_PIECE", 200), (parted, "MOST", 400)),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(summary, "summary_of", lambda data: {})  # holds nothing, takes long
    compared(tmp_path / "first", 10, executor=AtOnce())  # imports are not counted
    taken = list[int]()
    for problems in (30, 80):
        with measured() as now:
            found = compared(tmp_path / str(problems), problems, executor=AtOnce())
            taken.append(now())
        assert found.data.made == (20 * problems, 20 * problems)
    assert (taken[1] - taken[0]) / 1_000 < 100, taken


def test_an_unfinished_run_in_parts_says_what_one_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compared(tmp_path, 6)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:70]) + lines[70][:40])  # as a kill leaves it
    (tmp_path / "results.parquet").unlink()
    one = load_comparison(tmp_path)
    assert one.data.beside is None
    monkeypatch.setattr(kept, "HELD", 9)
    monkeypatch.setattr(tables, "_PIECE", 5)
    monkeypatch.setattr(parted, "MOST", 10)
    monkeypatch.setattr(parted, "_GROUP", 3)
    told = load_comparison(tmp_path)
    assert one.data.made == told.data.made == (70, 120)
    assert told.results.equals(one.results)
    assert told.summary == one.summary
    assert dict(one.data.cells).keys() == dict(told.data.cells).keys()
    assert all(told.data.cells[key].equals(cell) for key, cell in one.data.cells.items())
    assert told.data.beside is not None
    place = told.data.beside.path
    assert len(list(place.iterdir())) == 7
    assert not (tmp_path / "results").exists()
    del told
    gc.collect()
    assert not place.exists()
    monkeypatch.undo()
    assert compared(tmp_path, 6).results.equals(whole.results)
    assert load_run(tmp_path).made == (120, 120)
