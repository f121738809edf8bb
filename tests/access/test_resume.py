"""A run that was killed goes on where it stopped, and ends as if it had not been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    OracleError,
    Prefix,
    RunFolderError,
    audit,
)
from reroot.access.runner import Attempt
from reroot.access.sealing import sealed
from reroot.access.session import Session
from reroot.access.transcript import (
    messages,
)
from reroot.generators.base import Request
from reroot.types import Reply
from toys import (
    END,
    Wrapped,
    as_learner,
    one_rollout,
    play,
    play_one,
    problem,
    search,
    tree,
    zeros,
)
from transcripts import lines_of, transcript_of

ARRAYS = ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws")


# ---- resuming -----------------------------------------------------------------------------------

TASKS = [problem(f"p{i}", reward=zeros) for i in range(6)]


class Machine(Wrapped):
    """Counts what it draws, and is pulled from the wall at a chosen call."""

    def __init__(self) -> None:
        super().__init__()
        self.die_at: int | None = None

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if self.calls == self.die_at:
            raise KeyboardInterrupt
        return super().answer(requests)

    def drawn(self) -> Counter[Request]:
        """What sessions asked; scoring the outputs is the runner's own question."""
        return Counter(r for r in self.requests if r.forced is None)


class Lab:
    """A run of ``search`` that can be interrupted and resumed, and what it really asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine()
        self.verified = Counter[str]()
        self.verify_dies_at: int | None = None

    def run(self, concurrency: int = 4, **changes: Any) -> list[Attempt]:
        tasks = [
            problem(p.id, reward=zeros, verifier=lambda o, id=p.id: self._verify(o, id))
            for p in TASKS
        ]
        return play(
            changes.pop("body", search),
            *("reset/sample+reward+verifier",),
            task=tasks,
            generator=self.machine,
            budget=Budget(tokens=500),
            out=self.folder,
            concurrency=concurrency,
            transcripts=True,
            **changes,
        )

    def _verify(self, output: Any, id: str) -> bool:
        if self.verify_dies_at == self.verified.total():
            raise KeyboardInterrupt
        self.verified[id] += 1
        return 0 not in output.tokens

    def tables(self) -> bytes:
        return (self.folder / "results.parquet").read_bytes()

    def transcripts(self) -> dict[str, list[Any]]:
        """Key → messages in order."""
        read = [lines_of(path) for path in (self.folder / "transcripts").iterdir()]
        return {head["key"]: messages(rest) for head, *rest in read}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, list[Attempt]]:
    """The run that nobody interrupts."""
    lab = Lab(tmp_path_factory.mktemp("whole"))
    return lab, lab.run()


def is_the_same(lab: Lab, attempts: list[Attempt], whole: tuple[Lab, list[Attempt]]) -> None:
    """Equal attempts, tables and transcripts, and no question was put twice."""
    reference, expected = whole
    assert attempts == expected
    assert lab.tables() == reference.tables()
    assert lab.machine.drawn() == reference.machine.drawn()
    assert lab.verified == reference.verified
    assert lab.transcripts() == reference.transcripts()
    assert not list((lab.folder / "inflight").iterdir())


@pytest.mark.parametrize("die_at", [0, 1, 2, 3, 5, 8])
def test_resuming_after_the_generator_was_killed(
    die_at: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    lab = Lab(tmp_path)
    lab.machine.die_at = die_at
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert (tmp_path / "results.parquet").exists()  # what is there can be read
    lab.machine.die_at = None
    is_the_same(lab, lab.run(concurrency=2), whole)
    calls = lab.machine.calls
    assert lab.run() == whole[1]
    assert lab.machine.calls == calls  # a finished run asks nothing


@pytest.mark.parametrize("die_at", [0, 1, 4, 9])
def test_resuming_after_an_oracle_was_killed(
    die_at: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    lab = Lab(tmp_path)
    lab.verify_dies_at = die_at
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    lab.verify_dies_at = None
    is_the_same(lab, lab.run(), whole)


@pytest.mark.parametrize("last", [0, 2, 5])
def test_resuming_after_an_attempt_was_recorded(
    last: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    """Between the journal and the end of its message log: the transcript is not lost."""
    lab, told = Lab(tmp_path), list[Attempt]()

    def stop(attempt: Attempt) -> None:
        told.append(attempt)
        if len(told) == last + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.run(on_attempt=stop)
    told.clear()
    attempts = lab.run(on_attempt=told.append)
    assert len(told) == 5 - last  # what was recorded is not told again
    is_the_same(lab, attempts, whole)


def test_resuming_again_and_again(tmp_path: Path, whole: tuple[Lab, list[Attempt]]) -> None:
    """Every single call of the generator is followed by a kill."""
    lab = Lab(tmp_path)
    for kills in range(200):
        lab.machine.die_at = lab.machine.calls + 1
        try:
            attempts = lab.run(concurrency=3)
        except KeyboardInterrupt:
            continue
        assert kills > 5
        is_the_same(lab, attempts, whole)
        return
    pytest.fail("the run makes no progress")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b'{"i": 9, "mess',
        lambda data: data + '{"x": "é'.encode()[:-1],
        lambda data: data + b"\0" * 100,
        lambda data: b"",
        lambda data: data.split(b"\n")[0] + b"\n",
    ],
)
def test_resuming_with_a_log_that_was_cut_off(
    damage: Callable[[bytes], bytes], tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    """What a log still says is used, the rest is asked again; the results are the same."""
    lab = Lab(tmp_path)
    lab.machine.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    logs = list((tmp_path / "inflight").iterdir())
    assert logs
    for log in logs:
        log.write_bytes(damage(log.read_bytes()))
    lab.machine.die_at = None
    attempts = lab.run()
    assert attempts == whole[1]
    assert lab.tables() == whole[0].tables()
    assert lab.transcripts() == whole[0].transcripts()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data + b"\0\n",
        lambda data: b"rubbish\n",
        lambda data: b'{"key": "another"}\n' + data,
        lambda data: data.replace(b'"verifier"', b'"reward"', 1),
    ],
)
def test_resuming_with_a_damaged_log(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.machine.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    (log,) = (tmp_path / "inflight").iterdir()
    log.write_bytes(damage(log.read_bytes()))
    with pytest.raises(RunFolderError, match=r"messages\.jsonl, line \d+: not a message line"):
        lab.run()


def test_a_record_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.machine.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    for log in (tmp_path / "inflight").iterdir():
        lines = lines_of(log)
        for line in lines:
            if "ask" in line.get("message", ()):
                line["value"][0]["tokens"] = [[99]]
        log.write_bytes(b"".join(map(sealed, lines)))
    lab.machine.die_at = None
    with pytest.raises(RunFolderError, match=r"the recorded message \d+ is damaged: the generator"):
        lab.run()


class Moody(Wrapped):
    """Cannot answer questions of two tokens, and is killed by questions of two draws, until well."""

    well = False

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if not self.well and any(r.n == 2 for r in requests):
            raise KeyboardInterrupt
        if not self.well and any(r.length == 2 for r in requests):
            raise ValueError("down")
        return super().answer(requests)


def test_recorded_failures_are_failures_again(tmp_path: Path) -> None:
    """The learner went on after them: a resumed attempt goes the same way, at the same price."""
    generator, judged = Moody(), list[object]()

    def broken(output: object) -> float:
        judged.append(output)
        raise RuntimeError("judge is out")

    async def stumble(session: Session) -> Prefix:
        with pytest.raises(BackendError, match="the generator failed; the record"):
            await session.continuations((), 1, length=2)
        with pytest.raises(OracleError, match="a function of the task failed"):
            await session.reward(Prefix((END,)))
        with pytest.raises(reroot.BudgetExceeded):
            await session.rollouts(1000)
        with pytest.raises(AccessDenied):
            await session.law(())
        with pytest.raises(reroot.InvalidInput):
            await session.draws((9,), 1)
        output = await one_rollout(session)
        await session.draws((), 2)
        return output

    def run() -> Attempt:
        return play_one(
            *(stumble, "reset/sample+reward"),
            generator=generator,
            task=problem(reward=broken),
            budget=Budget(tokens=100),
            out=tmp_path,
            transcripts=True,
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (len(generator.requests), len(judged)) == (1, 1)
    generator.well = True
    attempt = run()
    assert [r.n for r in generator.requests if r.forced is None] == [1, 2]  # both asked once
    assert len(judged) == 2  # once by the learner, once at the end
    assert "judge is out" in str(attempt.error)
    assert (attempt.cost.rewards, attempt.cost.rollouts, attempt.cost.queries) == (1, 1, 2)
    told = lines_of(transcript_of(tmp_path))
    assert [line["i"] for line in told[1:]] == list(range(7))  # each once


def test_a_learner_that_goes_another_way(tmp_path: Path) -> None:
    """What does not fit any more is forgotten, in the file too, so that it is never taken up."""
    machine, ways = Machine(), ["left", "right", "left"]

    def run(way: str, die_at: int | None) -> Attempt:
        async def fork(session: Session) -> Prefix:
            await session.draws((), 1)
            if way == "right":
                await session.draws((), 5)
            await session.draws((), 2)
            await session.draws((), 3)
            return await one_rollout(session)

        machine.die_at = die_at
        return play_one(fork, "reset/sample", generator=machine, out=tmp_path, transcripts=True)

    with pytest.raises(KeyboardInterrupt):
        run(ways[0], 3)  # 1, 2, 3 draws are recorded
    with pytest.raises(KeyboardInterrupt):
        run(ways[1], machine.calls + 2)  # takes up 1, then asks 5 and 2 anew
    attempt = run(ways[2], None)  # takes up 1, then asks 2 and 3 anew
    assert [r.n for r in machine.requests if r.forced is None] == [1, 2, 3, 5, 2, 2, 3, 1]
    assert attempt.cost.queries == 6
    told = messages(lines_of(transcript_of(tmp_path))[1:])
    assert [line["message"]["ask"][0]["n"] for line in told] == [1, 2, 3, 1]
    assert audit(transcript_of(tmp_path), "reset/sample") is None
    reference = play_one(lambda s: _left(s), "reset/sample", out=tmp_path / "x", task=problem())
    assert attempt == reference


async def _left(session: Session) -> Prefix:
    for n in (1, 2, 3):
        await session.draws((), n)
    return await one_rollout(session)


def test_learners_with_the_same_label_are_one_configuration(tmp_path: Path) -> None:
    bound = as_learner(one_rollout)
    first = reroot.run(bound, TASKS, tree(), grants="root/sample", out=tmp_path)
    again = reroot.run(bound, TASKS, tree(), grants="root/sample", out=tmp_path)
    assert first.attempts == again.attempts
    assert again.physical.computed == 0
