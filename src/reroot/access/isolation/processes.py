"""Learners on processes of their own: the same turns as ``learner_thread`` gives, over sockets.

What a process sends is taken with suspicion (``wire``, ``frames``): the worst that it can do is to
lose its own attempt.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, cast

from ...errors import InvalidInput
from ...types import Prefix
from .. import wire
from ..failures import Failure, readable
from ..learner import BoundLearner
from ..learner_loop import Parked
from ..learner_thread import Finished, Turn
from ..metadata import metadata_from_text
from ..session import Answer, Facts, Message
from .frames import Broken, packed, unpacked
from .starting import Launcher

_MOST_TEXT = 4000  # characters of what a process says of an error
_STUCK = Turn(seconds=math.inf)


class Task:
    """One learner in a process, which is started at its first turn."""

    __slots__ = (
        "buffer",
        "facts",
        "line",
        "next",
        "number",
        "outgoing",
        "parked",
        "spec",
        "turned",
    )

    def __init__(self, spec: str, facts: Facts) -> None:
        self.spec, self.facts = spec, facts
        self.line: socket.socket | None = None
        self.number = -1
        self.next = 0  # number of its next message
        self.buffer, self.outgoing = bytearray(), bytearray()
        self.parked = False
        self.turned: Turn | None = None

    def say(self, value: object) -> None:
        self.outgoing += packed(value)


class LearnerProcesses:
    """Where the learners of a run take turns, each in a process of its own.

    Args:
        launcher: starts the processes; it is left open.
        attempt_timeout: seconds of its own that an attempt may take; its process gets no more of the
            processor's, and a few.
    """

    def __init__(self, launcher: Launcher, attempt_timeout: float | None = None) -> None:
        self._launcher = launcher
        self._seconds = None if attempt_timeout is None else math.ceil(attempt_timeout) + 5
        self._tasks: set[Task] = set()

    def begin(self, learner: BoundLearner, facts: Facts, keep: bool) -> Task:
        """A learner on its session. Its exception stays in its process, whether it is to be kept or not."""
        return Task(learner.spec, facts)

    def step_all(
        self, work: Sequence[tuple[Any, Sequence[tuple[int, Answer]], float]]
    ) -> list[Turn]:
        """Let every task take a turn, side by side; see ``LearnerThread.step_all``."""
        started = time.monotonic()
        tasks = [cast("Task", task) for task, _, _ in work]
        for task, (_, answers, _) in zip(tasks, work, strict=True):
            self._tell(task, answers)
        deadlines = {task: started + limit for task, (_, _, limit) in zip(tasks, work, strict=True)}
        self._exchange(tasks, deadlines)
        return [task.turned or _STUCK for task in tasks]

    def _tell(self, task: Task, answers: Sequence[tuple[int, Answer]]) -> None:
        task.turned = None
        if task.line is None:
            task.number, task.line = self._launcher.start(self._seconds)
            self._tasks.add(task)
            task.say({"learner": task.spec, "facts": wire.facts_to_json(task.facts)})
        elif not task.parked:  # who waits for something else goes on by itself
            task.say({"answers": [[n, wire.answer_to_json(a)] for n, a in answers]})
        task.parked = False

    def _exchange(self, tasks: Sequence[Task], deadlines: dict[Task, float]) -> None:
        """Send and receive until each has turned or is over its time."""
        started, poll = time.monotonic(), select.poll()
        waiting: dict[int, Task] = {}
        for task in tasks:
            assert task.line is not None
            waiting[task.line.fileno()] = task
            poll.register(task.line, select.POLLIN | select.POLLOUT)
        while waiting:
            soon = min(deadlines[task] for task in waiting.values()) - time.monotonic()
            ready = poll.poll(min(max(0.0, 1000 * soon), 3.6e6))
            for fd, event in ready:
                task = waiting[fd]
                with contextlib.suppress(BlockingIOError):
                    task.turned = self._serve(task, event)
                if task.turned is not None:
                    task.turned = _timed(task.turned, time.monotonic() - started)
                    del waiting[fd]
                    poll.unregister(fd)
                elif not task.outgoing:
                    poll.modify(fd, select.POLLIN)
                else:
                    poll.modify(fd, select.POLLIN | select.POLLOUT)
            now = time.monotonic()
            for fd, task in [*waiting.items()]:
                if deadlines[task] <= now:
                    del waiting[fd]
                    poll.unregister(fd)
                    self._drop(task, kill=True)

    def _serve(self, task: Task, event: int) -> Turn | None:
        """Send or receive a piece; the turn, when all of it is there."""
        assert task.line is not None
        try:
            if event & select.POLLOUT and task.outgoing:
                del task.outgoing[: task.line.send(task.outgoing)]
            if event & ~select.POLLOUT:
                more = task.line.recv(1 << 18)
                if not more:
                    return self._died(task)
                task.buffer += more
                return self._read(task)
        except ConnectionError:
            return self._died(task)
        return None

    def _read(self, task: Task) -> Turn | None:
        turn = None
        try:
            while (frame := unpacked(task.buffer)) is not None:
                if not isinstance(frame, dict) or "call" not in frame:
                    turn = _turn(task, cast("object", frame))
                    if turn.parked is None:
                        return turn
                    continue  # it may have gone on meanwhile
                self._answer_call(task, cast("dict[str, Any]", frame)["call"])
        except (Broken, InvalidInput) as error:
            return _lost("ProtocolError", f"its process broke the protocol: {readable(str(error))}")
        return turn

    def _answer_call(self, task: Task, call: object) -> None:
        if not isinstance(call, list) or len(cast("list[object]", call)) != 2:
            raise Broken("sent a call that is none")
        verb, arguments = cast("list[object]", call)
        try:
            task.say({"said": wire.answer_call(task.facts, verb, arguments)})
        except InvalidInput as error:
            task.say({"failed": str(error)})

    def _died(self, task: Task) -> Turn:
        return _lost("ProcessError", f"its process {_how(self._launcher.status(task.number))}")

    def _drop(self, task: Task, kill: bool) -> None:
        if task.line is not None:
            task.line.close()
            self._launcher.end(task.number, kill)
            task.line = None
            self._tasks.discard(task)

    def close(self, tasks: Sequence[Any]) -> None:
        """Let go of learners: one that has finished has a moment to clean up, others are killed."""
        for task in tasks:
            turned = cast("Task", task).turned
            self._drop(task, kill=turned is None or turned.finished is None)

    def end(self, tasks: Sequence[Any]) -> None:
        """End every process that is left."""
        for task in [*self._tasks]:
            self._drop(task, kill=True)


def _timed(turn: Turn, seconds: float) -> Turn:
    return Turn(turn.sent, turn.parked, turn.finished, seconds)


def _lost(kind: str, why: str) -> Turn:
    return Turn(finished=Finished(error=Failure(kind, why[:_MOST_TEXT])))


def _how(status: int | None) -> str:
    """How a process has ended, in words."""
    if status is None:
        return "is gone, and nobody can say how"
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        more = {
            "SIGXCPU": ": it took more of the processor's time than it may",
            "SIGKILL": ": the system may have run out of memory",
        }
        return f"was ended by {name}{more.get(name, '')}"
    return f"ended by itself with exit status {os.WEXITSTATUS(status)}, without having finished"


# ---- what came out of a turn -------------------------------------------------------------------


def _turn(task: Task, frame: object) -> Turn:
    """A turn as a process has told it (``InvalidInput`` if it tells anything else)."""
    record = _record(frame, {"sent", "parked", "finished"})
    if record["finished"] is not None:
        return Turn(finished=_finished(record["finished"]))
    sent: list[tuple[int, Message]] = []
    if not isinstance(record["sent"], list):
        raise InvalidInput("sent messages that are no list")
    for item in cast("list[Any]", record["sent"]):
        if not isinstance(item, list) or len(cast("list[Any]", item)) != 2 or item[0] != task.next:
            raise InvalidInput(f"sent a message without the number {task.next}")
        sent.append((task.next, wire.message_from_json(cast("object", item[1]))))
        task.next += 1
    task.parked = record["parked"] is True and not sent
    assert task.line is not None
    parked = Parked(task.line.fileno(), math.inf) if task.parked else None
    return Turn(sent, parked)


def _finished(data: object) -> Finished:
    record = _record(data, {"output", "metadata", "error", "out_of_budget"})
    metadata, output, error = record["metadata"], record["output"], record["error"]
    return Finished(
        None if output is None else _output(output),
        metadata_from_text(metadata),
        None if error is None else _failure(error),
        record["out_of_budget"] is True,
    )


def _output(data: object) -> Prefix:
    tokens = cast("list[object]", data)
    if not isinstance(data, list) or not all(type(token) is int for token in tokens):
        raise InvalidInput("returned an output that is no list of tokens")
    return Prefix.of(tuple(cast("list[int]", tokens)))


def _failure(data: object) -> Failure:
    """A learner's failure. Whose fault it was the door knows by itself (``Gate.cause``)."""
    record = _record(data, {"kind", "message", "who", "file", "line"})
    kind, message, file, line = (record[name] for name in ("kind", "message", "file", "line"))
    texts = isinstance(kind, str) and isinstance(message, str) and isinstance(file, str | None)
    if not texts or (line is not None and type(line) is not int):
        raise InvalidInput("told a failure that is none")
    place = (None, None) if file is None else (readable(file)[:_MOST_TEXT], line)
    return Failure(readable(kind)[:200], readable(message)[: 2 * _MOST_TEXT], "learner", *place)


def _record(data: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict) or cast("dict[str, Any]", data).keys() != names:
        raise InvalidInput(f"sent {data!r:.80}, not a record of {sorted(names)}")
    return cast("dict[str, Any]", data)
