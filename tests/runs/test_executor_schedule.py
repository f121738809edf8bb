"""The schedule of executors at its edges, on workers that are played: deaths at the start and while idle, and
how many are hired; which executor what a user says is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from reroot.errors import RerootError, WorkerDied
from reroot.runs.executors.base import TRIES, CrewPool, Event, singly
from reroot.runs.executors.choice import executor_of
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.executors.processes import Processes
from reroot.runs.executors.raised import as_raised


class Told:
    """Workers of which a test says what becomes of them: the first that are hired as ``starts`` says."""

    def __init__(self, starts: Sequence[bool] = ()) -> None:
        self.starts, self.hired = list(starts), 0
        self.said: list[Event] = []
        self.given: list[tuple[int, list[Any]]] = []
        self.dead: set[int] = set()
        self.waits: list[float] = []

    def hire(self) -> int:
        self.hired += 1
        good = self.starts.pop(0) if self.starts else True
        self.said.append(
            Event(self.hired, "ready") if good else Event(self.hired, "died", "at once")
        )
        return self.hired

    def give(self, worker: int, payloads: Sequence[Any]) -> None:
        self.given.append((worker, list(payloads)))
        if worker not in self.dead:  # else it is heard of as an event
            self.said.append(Event(worker, "done", [10 * x for x in payloads]))

    def die(self, worker: int) -> None:
        self.dead.add(worker)
        self.said.insert(0, Event(worker, "died", "idle"))

    def events(self, seconds: float) -> list[Event]:
        self.waits.append(seconds)
        assert self.said, "nobody will ever say anything"
        told, self.said = self.said, []
        return told


def work(count: int) -> list[list[tuple[str, int]]]:
    return [[(str(i), i)] for i in range(count)]


def test_a_start_that_succeeds_forgets_those_that_failed() -> None:
    """Only so many in a row end it, and not one fewer."""
    lucky = Told([False] * (TRIES - 1) + [True])
    pool = CrewPool(lucky, 1)
    assert [done.value for done in pool.results(work(2))] == [0, 10]
    lucky.starts = [False] * (TRIES - 1) + [True]
    lucky.die(TRIES)
    assert [done.value for done in pool.results(work(1))] == [0]
    assert lucky.hired == 2 * TRIES
    unlucky = Told([False] * 99)
    with pytest.raises(WorkerDied, match=f"{TRIES} workers in a row died as they began: at once"):
        list(CrewPool(unlucky, 1).results(work(1)))
    assert unlucky.hired == TRIES


def test_a_worker_that_dies_idle_is_given_nothing_more() -> None:
    """Nor is what it was given, before that was heard, lost."""
    crew = Told()
    pool = CrewPool(crew, 2)
    assert len(list(pool.results(work(4)))) == 4
    assert crew.hired == 2
    for idle in (1, 2):  # one of them is given the work of which the other's death is heard beside
        crew.die(idle)
        assert [done.value for done in pool.results(work(1))] == [0]
        crew.given = []
        assert sorted(done.value for done in pool.results(work(5))) == [0, 10, 20, 30, 40]
        assert crew.dead.isdisjoint(worker for worker, _ in crew.given)


def test_no_more_are_hired_than_there_is_work_for() -> None:
    for batches, size, hired in ((1, 4, 1), (3, 4, 3), (9, 4, 4), (0, 4, 0)):
        crew = Told()
        found = list(CrewPool(crew, size).results(work(batches)))
        assert sorted(done.value for done in found) == [10 * i for i in range(batches)]
        assert crew.hired == hired
        assert all(seconds > 0 for seconds in crew.waits)


def test_what_a_dead_worker_had_is_done_first_each_by_itself_and_in_order() -> None:
    class Dies(Told):
        def give(self, worker: int, payloads: Sequence[Any]) -> None:
            if len(payloads) == 1:
                super().give(worker, payloads)
                return
            self.given.append((worker, list(payloads)))
            self.said.append(Event(worker, "died", "of it"))

    crew = Dies()
    batches = [[("a", 1), ("b", 2), ("c", 3)], [("d", 4)]]
    found = list(CrewPool(crew, 1).results(batches))
    assert [done.key for done in found] == ["a", "b", "c", "d"]
    assert not any(done.lost for done in found)
    assert [payloads for _, payloads in crew.given] == [[1, 2, 3], [1], [2], [3], [4]]


def test_one_process_is_this_one() -> None:
    begun: list[int] = []

    def begin() -> Any:
        begun.append(os.getpid())
        return lambda payloads: [x + 1 for x in payloads]

    one = Processes(1)
    assert one.here
    assert not Processes(2).here
    with one.pool(begin) as pool:
        found = list(pool.results(singly([("a", 1), ("b", 2)])))
    assert [(done.key, done.value, done.lost) for done in found] == [("a", 2, ""), ("b", 3, "")]
    assert begun == [os.getpid()]


def test_what_is_said_is_which_executor() -> None:
    cores = os.cpu_count() or 1
    assert executor_of() == Processes(1)
    assert executor_of(3) == executor_of(3, usual=None) == executor_of(usual=3) == Processes(3)
    assert executor_of(usual=None) == Processes(cores)
    found = [executor_of(ray="local"), executor_of(ray="auto", replicas=3, gpus_per_replica=0.5)]
    assert found == [OnRay("local", cores, 0.0), OnRay("auto", 3, 0.5)]
    assert [one.workers for one in found] == [cores, 3]
    assert not any(one.here for one in found)


class Unpicklable(Exception):
    """Cannot travel."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def test_errors_travel_with_their_place_and_as_what_they_are_where_they_can() -> None:
    def fails(error: BaseException) -> BaseException:
        try:
            raise error
        except BaseException as raised:
            return as_raised(raised)

    plain = fails(KeyError("x"))
    assert isinstance(plain, KeyError)
    assert "in a worker:" in plain.__notes__[0]
    assert "in fails" in plain.__notes__[0]
    other = fails(Unpicklable("a", "b"))
    assert type(other) is RerootError
    assert str(other) == "Unpicklable: a b"
