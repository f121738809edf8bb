"""A learner's process: it takes turns on its own thread, and tells what came out of them."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from ...errors import InvalidInput
from .. import wire
from ..failures import failure_of
from ..learner import BoundLearner
from ..learner_loop import Parked
from ..learner_thread import Finished, LearnerTask, Turn, take_turn
from ..transcript import message_to_json
from .frames import Line


def attend(line: Line, find: Callable[[str], BoundLearner]) -> None:
    """Run the learner that the other end of ``line`` names, to its end; or tell what it is.

    Frames from there: ``{"describe"}``, or ``{"learner", "facts"}``, then ``{"answers": [[number, answer], …]}`` for each
    turn but the first and those after a pause; ``{"said": value}`` or ``{"failed": text}`` after a call.
    Frames to there: ``{"sent", "parked", "finished"}`` for each turn; ``{"call": [verb, arguments]}``.
    """
    hello = line.receive()
    if hello is None:
        return
    if "describe" in hello:
        _describe(line, find, hello["describe"])
        return
    facts = wire.facts_from_json(hello["facts"], _Calls(line))
    try:
        learner = find(hello["learner"])
    except BaseException as error:  # code of the learner's file runs here
        line.send(turn_to_json(Turn(finished=Finished(error=failure_of(error)))))
        return
    task = LearnerTask(learner.start, facts)
    try:
        _take_turns(line, task)
    finally:
        task.close()


def _describe(line: Line, find: Callable[[str], BoundLearner], spec: str) -> None:
    try:
        learner = find(spec)
        told: dict[str, Any] = {
            "name": learner.name,
            "requires": str(learner.requires),
            "params": {name: str(value) for name, value in learner.params.items()},
            "origin": learner.origin,
            "code": learner.identity().get("code", ""),
        }
    except BaseException as error:
        told = {"error": failure_of(error).message}
    line.send(told)


def _take_turns(line: Line, task: LearnerTask) -> None:
    answers: list[tuple[int, Any]] = []
    while True:
        turn = take_turn(task, answers)
        try:
            line.send(turn_to_json(turn))
        except (TypeError, ValueError, RecursionError) as error:  # numbers that no text can hold
            turn = Turn(finished=task.failed(error))
            line.send(turn_to_json(turn))
        if turn.finished is not None:
            return
        answers = []
        if turn.parked is not None:
            _wait(turn.parked)
        else:
            told = line.receive()
            if told is None:
                return
            answers = [(number, wire.answer_from_json(a)) for number, a in told["answers"]]


def _wait(parked: Parked) -> None:
    """Wait for what the learner waits for; that somebody else goes is told by a signal that ends all."""
    poll = select.poll()
    poll.register(parked.fd, select.POLLIN)
    until = parked.wake - time.monotonic()
    poll.poll(None if until == math.inf else math.ceil(1000 * max(0.0, until)))


def turn_to_json(turn: Turn) -> dict[str, Any]:
    """What came out of a turn, as JSON values."""
    ended = turn.finished
    return {
        "sent": [[number, message_to_json(message)] for number, message in turn.sent],
        "parked": turn.parked is not None,
        "finished": None
        if ended is None
        else {
            "output": None if ended.output is None else list(ended.output.tokens),
            "metadata": ended.metadata,
            "error": None if ended.error is None else ended.error.to_json(),
            "out_of_budget": ended.out_of_budget,
        },
    }


class _Calls:
    """Asks the other end for what is no data; see ``wire.answer_call``."""

    def __init__(self, line: Line) -> None:
        self._line, self._thread = line, threading.get_ident()

    def __call__(self, verb: str, arguments: list[Any]) -> Any:
        if threading.get_ident() != self._thread:
            raise InvalidInput("a session serves the learner it was made for, in its own thread")
        self._line.send({"call": [verb, arguments]})
        said = self._line.receive()
        if said is None:
            raise SystemExit
        if "failed" in said:
            raise InvalidInput(said["failed"])
        return said["said"]
