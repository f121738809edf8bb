"""Sessions that are held elsewhere: what a learner sends goes there, and what comes back is final.

Contract, account, memory and judges are behind the wall; at this side are the learner and the record
of what it has asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from ..contract import Contract
from ..generators.base import Generator
from .attempt import Attempt, Job
from .learner_thread import Finished
from .session import Answer, Facts, Message


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that has come over the wall.

    Attributes:
        ticket: of the message that it answers, which are counted from 0 in the order they were sent.
        answer: for the learner.
        line: of the transcript.
    """

    ticket: int
    answer: Answer
    line: dict[str, Any]


class Line(Protocol):
    """One session behind a wall. Futures fail by a ``RerootError``."""

    def turn(self, messages: Sequence[Message]) -> Future[list[Told]]:
        """Send what a learner has sent in one turn; the answers that let it go on.

        These are the answers that need no generator, if there are any; else all that are open.
        """
        ...

    def close(self, finished: Finished) -> Future[Attempt]:
        """End the session; what became of the attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened: what its learner may know, and the first line of its transcript."""

    line: Line
    facts: Facts
    head: dict[str, Any]


class Wall(Generator, ABC):
    """A generator that is reached through sessions which are held elsewhere.

    It is one by inheritance alone: what a user's generator happens to call its methods does not make it one.
    """

    @property
    @abstractmethod
    def grants(self) -> Contract:
        """The strongest contract under which sessions are opened."""

    @property
    @abstractmethod
    def results(self) -> bool:
        """Whether it is told what became of attempts: rewards of what is returned, and surprisals."""

    @abstractmethod
    def open_session(self, job: Job) -> Future[Opened]:
        """Open a session for an attempt. The future fails by a ``RerootError``."""


def refusal(generator: Generator, contract: Contract) -> str | None:
    """Why sessions of ``generator`` cannot be held under ``contract``; ``None`` if they can."""
    if isinstance(generator, Wall) and not contract.resolved <= generator.grants:
        return f"its key is granted {generator.grants}"
    return generator.capabilities.refusal(contract)
