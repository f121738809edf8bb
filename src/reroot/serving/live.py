"""A served session in memory: what in a run would be an attempt under way, without its learner.

It is a function of what the ledger holds of it: whoever has the ledger can take it up.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..access.attempt import Job
from ..access.batches import conclude
from ..access.episode import Episode
from ..access.learner import BoundLearner
from ..access.running import Running, Waiting, open_message, start
from ..access.session import Message, Session
from ..contract import Contract, Control, Report
from ..errors import InvalidInput, RerootError
from ..types import CURRENCIES, Budget
from .keys import Key
from .ledger import Ledger, Place
from .meter import KeyMeter
from .wire import error_to_json, line_to_json, message_from_json


async def _elsewhere(session: Session) -> NoReturn:
    raise InvalidInput("the learner of a served session runs at its client")


_NOTHING = Contract(Control.ROOT, Report.NONE)


class Conflict(RerootError):
    """What is asked is not what was asked before under the same name, or not what is due."""


class Lines:
    """The log of one session: what the ledger has of it, and what is added in the turn under way."""

    def __init__(self, known: Sequence[dict[str, Any]]) -> None:
        self._known = list(known)
        self.new: list[dict[str, Any]] = []

    def recorded(self, key: str) -> list[dict[str, Any]]:
        """A head, and the lines that are known."""
        return [{}, *self._known]

    def append(self, key: str, line: dict[str, Any]) -> None:
        self.new.append(line)

    def finish(self, key: str) -> None:
        """There is no file to be closed."""


@functools.lru_cache(maxsize=1024)
def contract_of(text: str) -> Contract:
    """A contract by its text (``InvalidInput``); sessions copy it."""
    return Contract.parse(text)


def seed_of(seed: int, key: Key, secret: bytes) -> int:
    """The seed behind a session's draws, for which its client has given ``seed``."""
    if not key.secret_seed:
        return seed
    digest = hmac.new(secret, f"{key.name}\x1f{seed}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(slots=True, eq=False)
class Live:
    """A session.

    Attributes:
        id, name: of the session, and of its key.
        job: problem, contract, budget and seed, under the key that its client gives the attempt.
        running: its gate and its messages.
        turns: how many are answered.
        waiting: messages that the generator, or a judge that works elsewhere, has to answer.
        taken: whether a turn is under way.
    """

    id: str
    name: str
    job: Job
    running: Running
    meter: KeyMeter
    lines: Lines
    turns: int = 0
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    taken: bool = False

    @classmethod
    def begin(
        cls,
        id: str,
        key: Key,
        terms: dict[str, Any],
        episode: Episode,
        ledger: Ledger,
        judge_timeout: float | None,
        turns: Sequence[dict[str, Any]] = (),
    ) -> Live:
        """A session by its terms, and its turns so far."""
        learner = BoundLearner(terms["learner"], {}, _NOTHING, _elsewhere)
        contract, budget = contract_of(terms["contract"]), Budget(**terms["budget"])
        job = Job(terms["key"], learner, episode, contract, budget, terms["seed"])
        lines = Lines([line for told in turns for line in told["lines"]])
        prices = episode.generator.capabilities.prices
        meter = KeyMeter(budget, prices, key.budget, ledger)
        running = start(job, None, lines, False, judge_timeout, meter)
        live = cls(id, key.name, job, running, meter, lines)
        for told in turns:
            meter.again(told["refused"])
            if live.open([message_from_json(m) for m in told["messages"]], told["messages"]):
                live.conclude()
            live.told([])
        return live

    def take(self) -> Live:
        """A turn begins (``Conflict``: one is under way)."""
        if self.taken:
            raise Conflict("another turn of this session is under way")
        self.taken = True
        return self

    def place(self, asked: str = "") -> Place:
        """The turn that comes next, in which ``asked`` is asked (a digest)."""
        return Place(self.name, self.id, self.turns, asked)

    def open(self, messages: Sequence[Message], said: Sequence[dict[str, Any]]) -> bool:
        """Take what a learner has sent in one turn, as it ``said``; whether all that waits is to be answered now.

        It is not where some of it was answered at once: with that the learner goes on first.
        """
        running = self.running
        items = [
            open_message(running, running.sent, message, as_json)
            for message, as_json in zip(messages, said, strict=True)
        ]
        at_once = [item for item in items if item.answer is not None]
        self.waiting += [item for item in items if item.answer is None]
        for item in at_once:
            item.deliver()
        return not at_once

    def conclude(self) -> None:
        """Charge and deliver what was waited for."""
        waiting, self.waiting = self.waiting, []
        conclude(waiting)

    def told(self, said: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What is written down of the turn in which a learner ``said`` that; the next one begins."""
        answers = [answer for _, answer in self.running.answers]
        told = {
            "messages": said,
            "lines": self.lines.new,
            "errors": [error_to_json(answer.error) for answer in answers],
            "spent": [list(answer.spent) for answer in answers],
            "refused": self.meter.refused,
            "open": len(self.waiting),
        }
        self.running.answers, self.lines.new = [], []
        self.turns += 1
        self.taken = False
        return told


def answers_of(told: dict[str, Any]) -> dict[str, Any]:
    """What a client gets of a turn that is written down."""
    parts = zip(told["lines"], told["errors"], told["spent"], strict=True)
    answers = [
        {
            "line": line_to_json(line, error),
            "error": error,
            "spent": dict(zip(CURRENCIES, spent, strict=True)),
        }
        for line, error, spent in parts
    ]
    return {"answers": answers, "open": told["open"]}
