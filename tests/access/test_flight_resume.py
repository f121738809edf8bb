"""What a generator that answers each request when it can has answered is never asked for again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from concurrent_toys import Driven, Held
from reroot import Budget, Prefix, Query
from reroot.access.sealing import read_sealed
from reroot.access.session import Session
from reroot.generators.base import Request
from reroot.randomness import Streams
from reroot.runs.inflight import InFlight
from reroot.types import Reply
from toys import Wrapped, play, play_one, problems, search
from transcripts import left_in, lines_of

GRANTS = "reset/sample+reward+verifier"
SETTINGS: dict[str, Any] = {"budget": Budget(tokens=500), "transcripts": True, "concurrency": 8}
Identity = tuple[int, int]
"""Stream of the draws, which is of problem and prefix, and their number."""

CHILD = """
import json, os, signal, sys
from concurrent_toys import Driven, shuffled
from test_flight_resume import GRANTS, SETTINGS
from toys import play, problems, search

folder, seed, die_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = os.open(f"{folder}/asked", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

class Mortal(Driven):
    left = die_at
    def submit(self, requests):
        for r in requests:
            what = None if r.forced else [r.key[0], r.n]
            os.write(file, f"{json.dumps(what)}\\n".encode())
        return super().submit(requests)
    def release(self, ticket, error=None):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        super().release(ticket, error)

with Mortal(shuffled(seed, 0.001)) as generator:
    play(search, GRANTS, task=problems(12), generator=generator, out=f"{folder}/run", **SETTINGS)
"""


def asked(folder: Path, since: int = 0) -> Counter[Identity]:
    """What sessions have asked, in all processes, from so many bytes on; not the scores of outputs."""
    lines = map(json.loads, (folder / "asked").read_bytes()[since:].splitlines())
    return Counter((stream, n) for stream, n in filter(None, lines))


def on_disk(run: Path) -> Counter[Identity]:
    """What is recorded as answered, of unfinished attempts and of finished ones."""
    files = [run / "inflight" / "messages.jsonl", *(run / "transcripts").glob("[!.]*")]
    keys, lines = dict[Any, str](), dict[tuple[str, int], list[dict[str, Any]]]()
    for file in files:
        for _, line in read_sealed(file, "message") if file.exists() else ():
            of = line.get("of", file.name)
            if "key" in line:
                keys[of] = line["key"]
            elif "i" in line and "ask" in line["message"]:
                lines[keys[of], line["i"]] = line["message"]["ask"]
    found = Counter[Identity]()
    for (key, _), queries in lines.items():
        streams = Streams(0, key, "draws")
        found.update((streams.key(query["prefix"])[0], query["n"]) for query in queries)
    return found


@pytest.mark.slow(10)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_three_times(seed: int, tmp_path: Path) -> None:
    """SIGKILL at any moment: what is recorded is not asked again, and the rest is no more than was open."""
    generator = Wrapped()
    settings = {**SETTINGS, "generator": generator, "out": tmp_path / "plain"}
    play(search, GRANTS, task=problems(12), **settings)
    needed = Counter((r.key[0], r.n) for r in generator.requests if r.forced is None)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    def run(number: int, die_at: int) -> int:
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(10 * seed + number), str(die_at)]
        return subprocess.run(command, timeout=60, env=here, check=False).returncode

    left, at = needed, 0
    for number, die_at in enumerate((9 + seed, 23, 31)):
        assert run(number, die_at) == -signal.SIGKILL
        found = asked(tmp_path, since=at)
        at = (tmp_path / "asked").stat().st_size
        before, left = left, needed - on_disk(tmp_path / "run")
        assert found <= before
        assert left < before
        # two questions at a time of each attempt in flight
        assert (found - (before - left)).total() <= 2 * 8
    assert run(3, 10**9) == 0
    assert asked(tmp_path, since=at) == left
    assert left_in(tmp_path / "run") == left_in(tmp_path / "plain")


# ---- what is answered before the rest of its moment ------------------------------------------------


async def two(session: Session) -> Prefix:
    """Two questions at the same moment, the second of which has two parts, and a verdict beside."""
    first, second, _ = await asyncio.gather(
        session.draws((), 2),
        session.ask([Query(n=3), Query(n=4)]),
        session.verify(session.root),
    )
    pool = [*first.outputs(), *second[0].outputs(), *second[1].outputs()]
    return pool[2 + int(session.rng.integers(7))]


class Cut(Held):
    """Answers what draws these numbers, in this order; what draws the last of them ends the run."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self._order = order

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures = super().submit(requests)
        for n in self._order:
            ticket = next(ticket for ticket in self.open if ticket[0].n == n)
            self.release(ticket, KeyboardInterrupt() if n == self._order[-1] else None)
        return futures


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ((2, 3), [3, 4]),
        ((3, 4, 2), [2]),
        ((4, 3, 2), [2]),
        ((2, 3, 4), [3, 4]),  # half of a message is none
        ((3, 2), [2, 3, 4]),
    ],
)
def test_an_answer_is_kept_before_those_of_the_same_moment(
    order: tuple[int, ...], left: list[int], tmp_path: Path
) -> None:
    """It is on disk as it comes; the learner gets it again with the rest, in the same order."""
    cut, settings = Cut(order), {**SETTINGS, "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        play(two, GRANTS, generator=cut, **settings)
    assert all(future.cancelled() for _, future in cut.open)
    with Driven(lambda tickets: tickets[0]) as again:
        attempts = play(two, GRANTS, generator=again, **settings)
    assert sorted(r.n for r in again.submitted if r.forced is None) == left
    assert attempts == play(two, GRANTS, **{**settings, "out": tmp_path / "plain"})
    assert left_in(tmp_path / "run") == left_in(tmp_path / "plain")


def test_on_disk_before_the_learner_goes_on(tmp_path: Path) -> None:
    """The file of messages grows with every answer that a learner has seen."""
    file = tmp_path / "inflight" / "messages.jsonl"
    seen: list[list[int]] = []

    async def body(session: Session) -> Prefix:
        for n in (1, 2, 3):
            await session.draws((), n)
            lines = [line["message"] for line in lines_of(file) if "i" in line]
            seen.append([message["ask"][0]["n"] for message in lines])
        return (await session.rollouts(1)).outputs()[0]

    with Driven(lambda tickets: tickets[0]) as generator:
        play_one(body, "reset/sample", generator=generator, out=tmp_path)
    assert seen == [[1], [1, 2], [1, 2, 3]]


def test_a_transcript_that_was_written_in_the_last_moment_is_kept(tmp_path: Path) -> None:
    """Killed between the journal and the mark that an attempt is over: what its file says is whole,
    though the last messages were never among those of unfinished attempts."""
    folder = {**SETTINGS, "out": tmp_path}

    async def body(session: Session) -> None:  # no output: nothing is scored
        await session.verify((await session.rollouts(1)).outputs()[0])

    with Driven(lambda tickets: tickets[0]) as generator, pytest.MonkeyPatch.context() as patch:
        patch.setattr(InFlight, "flush_ends", lambda self: None)
        patch.setattr(InFlight, "close", lambda self: self.flush())
        first = play(body, GRANTS, generator=generator, **folder)
    told = left_in(tmp_path)
    assert (tmp_path / "inflight" / "messages.jsonl").exists()
    assert play(body, GRANTS, **folder) == first
    assert left_in(tmp_path) == told
    assert not list((tmp_path / "inflight").iterdir())
