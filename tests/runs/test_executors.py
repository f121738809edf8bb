"""Executors: results by key from processes that may die, and comparisons equal to the byte in any number of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot import InvalidInput
from reroot.errors import WorkerDied
from reroot.runs.attempts import attempts_of
from reroot.runs.executors.base import CrewPool, Done, Event, Work, singly
from reroot.runs.executors.choice import executor_of
from reroot.runs.executors.processes import Processes

# ---- the schedule, on workers that are played ----------------------------------------------------


class Played:
    """Workers that square numbers, and die of those in ``poison``, or by chance as ``dies`` says."""

    def __init__(self, poison: frozenset[int] = frozenset(), dies: Sequence[bool] = ()) -> None:
        self.poison, self.dies, self.hired = poison, list(dies), 0
        self.told: list[Event] = []
        self.given: list[list[int]] = []

    def hire(self) -> int:
        self.hired += 1
        self.told.append(Event(self.hired, "ready"))
        return self.hired

    def give(self, worker: int, payloads: Sequence[Any]) -> None:
        self.given.append(list(payloads))
        if self.poison & set(payloads) or (self.dies and self.dies.pop()):
            self.told.append(Event(worker, "died", "by chance"))
        else:
            self.told.append(Event(worker, "done", [x * x for x in payloads]))

    def events(self, seconds: float) -> list[Event]:
        told, self.told = (
            self.told[-1:],
            self.told[:-1],
        )  # the last first: in no order that was given
        return told


BATCHES = [[(str(i), i) for i in range(at, at + 5)] for at in range(0, 20, 5)]


def test_what_kills_its_worker_is_found_and_takes_nothing_else_with_it() -> None:
    crew = Played(frozenset({7}))
    found = {done.key: done for done in CrewPool(crew, 3).results(BATCHES)}
    assert found.pop("7") == Done("7", None, "3 workers died with it, the last one by chance")
    assert {int(key): done.value for key, done in found.items()} == {
        i: i * i for i in range(20) if i != 7
    }
    assert sum(7 in given for given in crew.given) == 3
    assert crew.given.count([6]) == 1  # beside it in a batch: done again, once, alone


def test_each_key_has_one_result_whoever_dies() -> None:
    for seed in range(32):
        dies = [bool(seed >> i & 1) for i in range(5)]
        found = list(CrewPool(Played(dies=dies), 2).results(BATCHES))
        assert sorted(int(done.key) for done in found) == list(range(20))
        assert all(done.lost or done.value == int(done.key) ** 2 for done in found)
        # the first death of the three may be one of a whole batch
        assert sum(bool(done.lost) for done in found) <= max(0, sum(dies) - 1) // 2


def test_a_batch_is_taken_when_a_worker_is_free_for_it() -> None:
    taken: list[int] = []

    def batches() -> Any:
        for i in range(10):
            taken.append(i)
            yield [(str(i), i)]

    pool = CrewPool(Played(), 2)
    for number, _ in enumerate(pool.results(batches())):
        assert len(taken) <= number + 3
    assert [done.key for done in pool.results(batches())]  # the same workers, again
    assert pool.crew.hired == 2  # type: ignore[attr-defined]


# ---- processes -----------------------------------------------------------------------------------


def squares(poison: int, payloads: Sequence[int]) -> list[int]:
    if poison in payloads:
        os.kill(os.getpid(), signal.SIGKILL)
    if -1 in payloads:
        raise InvalidInput("-1 has no square here")
    return [x * x for x in payloads]


def begin(poison: int = -2) -> Work:
    return partial(squares, poison)


def dies() -> Work:
    os._exit(7)


@pytest.mark.slow(3)
def test_processes_killed_and_errors() -> None:
    with Processes(2).pool(partial(begin, 7)) as pool:
        found = {done.key: done for done in pool.results(BATCHES)}
        assert found.pop("7").lost == "3 workers died with it, the last one of SIGKILL"
        assert all(done.value == int(key) ** 2 for key, done in found.items())
        with pytest.raises(InvalidInput, match="-1 has no square") as raised:
            list(pool.results(singly([("a", -1)])))
        assert "in squares" in raised.value.__notes__[0]


@pytest.mark.slow(1)
def test_workers_that_cannot_begin() -> None:
    with Processes(2).pool(dies) as pool, pytest.raises(WorkerDied, match="with exit code 7"):
        list(pool.results(BATCHES))


def test_refusals() -> None:
    for settings, said in (
        ({"workers": 0}, "workers must be an integer >= 1"),
        ({"replicas": 2}, "replicas=2 is of Ray"),
        ({"gpus_per_replica": 0.5}, "gpus_per_replica=0.5 is of Ray"),
        ({"ray": "local", "workers": 2}, "with ray, replicas"),
        ({"ray": "local", "replicas": 0}, "replicas must be an integer >= 1"),
        ({"ray": "local", "gpus_per_replica": -1.0}, "gpus_per_replica must be"),
        ({"ray": ""}, "ray must be auto, local or an address"),
    ):
        with pytest.raises(InvalidInput, match=said):
            executor_of(**settings)


# ---- comparisons ---------------------------------------------------------------------------------

MODEL = "hidden_path:K=3,H=3,p=0.6"
POISON = """
import os, signal
from reroot import learner

@learner(requires="root/sample")
async def poison(session, *, problem=5):
    found = (await session.rollouts(1)).outputs()[0]
    if session.prompt[0] == problem:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
"""


def compared(out: Path, learners: Sequence[str] = (), **more: Any) -> reroot.Comparison:
    settings: dict[str, Any] = {"budget_tokens": 2000, "seeds": 2, "problems": 10, **more}
    return reroot.compare(model=MODEL, learners=learners, out=out, **settings)


def equal(one: Path, other: Path) -> None:
    """The same attempts, table and transcripts, to the byte; journals in any order."""
    for name in ("results.parquet", "problems.parquet", "config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    lines = [sorted((p / "journal.jsonl").read_bytes().splitlines()) for p in (one, other)]
    assert lines[0] == lines[1]
    said = [{f.name: f.read_bytes() for f in (p / "transcripts").iterdir()} for p in (one, other)]
    assert said[0] == said[1]


@pytest.mark.slow(6)
def test_a_comparison_is_equal_to_the_byte_in_four_processes(tmp_path: Path) -> None:
    compared(tmp_path / "one", transcripts=True)
    four = compared(tmp_path / "four", transcripts=True, workers=4)
    equal(tmp_path / "one", tmp_path / "four")
    made, planned = four.data.made
    assert made == planned == four.made
    assert compared(tmp_path / "four", transcripts=True, workers=4).made == 0


@pytest.mark.slow(5)
def test_a_poison_attempt_has_failed_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(POISON)
    learners = [f"{tmp_path / 'own.py'}:poison", "best_of_n:n=2"]
    found = compared(tmp_path / "run", learners, workers=2, seeds=1)
    failed = [a for a in attempts_of(tmp_path / "run").values() if a.error is not None]
    assert [(a.learner, a.error.kind) for a in failed if a.error] == [("poison", "WorkerDied")]
    assert found.failures is not None
    assert "1 of 20 attempts failed: 1 × WorkerDied: 3 workers died with it" in found.failures


def test_what_workers_cannot_make_is_refused(tmp_path: Path, capsys: Any) -> None:
    @reroot.learner(requires="root/sample")
    async def mine(session: reroot.Session) -> reroot.Prefix:
        return (await session.rollouts(1)).outputs()[0]

    with pytest.raises(InvalidInput, match="given as objects: mine"):
        reroot.compare(model=MODEL, learners=mine, workers=2, out=tmp_path / "run")
    with pytest.raises(InvalidInput, match="leave judge_workers out"):
        compared(tmp_path / "run", workers=2, judge_workers=1)
    assert not (tmp_path / "run").exists()
    assert call("compare", "--model", MODEL, "--replicas", "2", "--out", str(tmp_path / "run")) == 2
    assert "replicas=2 is of Ray" in capsys.readouterr().err
