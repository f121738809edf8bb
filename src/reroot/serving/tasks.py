"""What a server does for a request: prepared, answered together with others, written down, told."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..access.attempt import Attempt
from ..access.attempt_json import attempt_to_json
from ..access.episode import Episode
from ..access.learner_thread import Finished
from ..access.metadata import metadata_from_text
from ..access.running import Waiting, head_of
from ..access.session import Ask, AskHiddenStates, Consult, Message
from ..access.transcript import message_to_json
from ..types import CURRENCIES, Cost, Prefix, as_tokens
from ..types.account import left, limited
from .database import Unavailable
from .jsontext import json_of
from .keys import Key
from .ledger import Entry, Place, Superseded
from .live import Conflict, Live, answers_of
from .sessions import Sessions
from .sizes import Size, TooLarge, size_of
from .wire import facts_to_json, failure_from_json


@dataclass(slots=True, eq=False)
class Task(ABC):
    """A request of a key. Some have nothing to do at some of its steps.

    Attributes:
        key: whose it is.
        future: what it is told.
        waiting: what the generator has to answer for it.
        closing: the session that is to be judged.
        entry: what is to be written down.
        comes, leads_to: what it is, and what is likely to come of whoever is told it: to ``"open"`` a
            session, or a ``"turn"``; or neither.
    """

    comes: ClassVar[str] = "turn"
    leads_to: ClassVar[str] = "turn"

    key: Key
    future: Future[dict[str, Any]] = field(default_factory=Future[dict[str, Any]])
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    closing: Live | None = None
    entry: Entry | None = None
    result: dict[str, Any] | None = None

    @property
    def of(self) -> str | None:
        """The session that it is about, if it is about one."""
        return getattr(self, "session", None)

    @property
    def goes_on(self) -> bool:
        """Whether it was prepared, and its result is not known yet."""
        return self.result is None and not self.future.done()

    @abstractmethod
    def prepare(self, sessions: Sessions) -> None:
        """Check it, and reserve what it may cost; sets ``result`` where nothing more is needed."""

    def settle(self) -> None:  # noqa: B027
        """The generator has answered."""

    def judged(self, attempt: Attempt) -> None:  # noqa: B027
        """The output of ``closing`` was judged."""

    def written(self, sessions: Sessions, first: bool) -> None:  # noqa: B027
        """It was written down; not by this one, if it is not the ``first``."""

    @property
    def judges(self) -> bool:
        """Whether functions of the task may be called to prepare it, which takes as long as they take."""
        return False

    @property
    def draws(self) -> bool:
        """Whether the generator is asked by the learner, which may take long."""
        return False

    @property
    def passes(self) -> bool:
        """Whether the generator is asked."""
        return self.draws

    def size(self, sessions: Sessions) -> Size:
        """How large it may become."""
        return Size()

    def same(self) -> object:
        """Tasks that are equal in this and ask the same are done once (``None``: it stands for itself)."""
        return None

    def asks_what(self, other: Any) -> bool:
        """Whether it asks what ``other`` asks, which is equal in ``same``."""
        return False


def _any(messages: list[Message], kinds: type | tuple[type, ...]) -> bool:
    """Whether some of the messages are of a kind: asked several times of every turn."""
    for message in messages:  # noqa: SIM110
        if isinstance(message, kinds):
            return True
    return False


@dataclass(slots=True, eq=False, kw_only=True)
class Open(Task):
    """Open a session; once more under the same name it is the same."""

    comes: ClassVar[str] = "open"

    session: str
    terms: dict[str, Any]

    def prepare(self, sessions: Sessions) -> None:
        known = sessions.open(self.session, self.key, self.terms, "name of a session")
        live = sessions.live(self.session, self.key)
        self.result = {
            "session": self.session,
            "facts": facts_to_json(live.running.gate.facts()),
            "head": head_of(live.job, live.meter.prices),
            "turns": known.turns,
        }


@dataclass(slots=True, eq=False, kw_only=True)
class TakeTurn(Task):
    """What a learner has sent in one turn.

    Attributes:
        messages: what was sent.
        said: the same as JSON values; they are made where they are missing.
    """

    session: str
    number: int
    messages: list[Message]
    said: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    live: Live | None = None
    place: Place | None = None

    @property
    def judges(self) -> bool:
        return _any(self.messages, Consult)

    @property
    def draws(self) -> bool:
        # a turn without messages is to have what an earlier one asked for
        return not self.messages or _any(self.messages, (Ask, AskHiddenStates))

    def size(self, sessions: Sessions) -> Size:
        """With what earlier turns have left open. For a session that is not in memory it is what it would be
        of the largest problem, until it is."""
        live, (prompt, horizon) = sessions.held(self.session), sessions.catalogue.largest
        episode = self.problem(sessions) if live is None else live.job.episode
        open_ = [] if live is None else [item.message for item in live.waiting]
        if episode is not None:
            prompt, horizon = len(episode.prompt), episode.horizon
        vocab_size = sessions.catalogue.generator.vocab_size
        return size_of([*open_, *self.messages], prompt, horizon, vocab_size)

    def problem(self, sessions: Sessions) -> Episode | None:
        """What it is on, if it says so itself."""
        return None

    def same(self) -> object:
        return (self.key.name, self.session, self.number)

    def asks_what(self, other: TakeTurn) -> bool:
        return self.messages == other.messages

    def prepare(self, sessions: Sessions) -> None:
        live = sessions.due(self.session, self.key, self.number)
        if live is None:
            live = sessions.live(self.session, self.key)
            if self.number < live.turns:
                self._again(sessions)
                return
            if self.number > live.turns:
                raise Conflict(
                    f"turn {self.number} comes after turn {live.turns}, which is missing"
                )
            if sessions.written(self.session, self.key).closed is not None:
                raise Conflict("the session is closed")
        self.begin(sessions, live)

    def begin(self, sessions: Sessions, live: Live) -> None:
        """The turn begins: reserve what it may cost (``TooLarge``)."""
        self.size(sessions).check(self.key)
        self.live = live.take()
        self.said = self.said or [message_to_json(message) for message in self.messages]
        asked = ""
        if limited(self.key.budget):
            asked = hashlib.sha256(json_of(self.said)).hexdigest()[:32]
        self.place = live.place(asked)
        try:
            live.meter.begin(self.place, self.key.budget)
            if live.open(self.messages, self.said):
                self.waiting = live.waiting
        except Superseded:
            self._again(sessions)

    def settle(self) -> None:
        live, place = self.live, self.place
        if live is None or place is None:
            return
        if self.waiting:
            live.conclude()
        meter, told = live.meter, live.told(self.said)
        self.entry = Entry(place, told, meter.charged, meter.held, backed=meter.backed)

    def written(self, sessions: Sessions, first: bool) -> None:
        assert self.entry is not None
        if first:
            self.result = self.shown(self.entry.told)
        else:
            self._again(sessions)

    def shown(self, told: dict[str, Any]) -> dict[str, Any]:
        """What the client gets of what is written down."""
        return answers_of(told)

    def _again(self, sessions: Sessions) -> None:
        """Tell what is written down once more."""
        if self.live is not None:
            sessions.forget(self.session)
            self.live, self.waiting = None, []
        told = sessions.ledger.turn(self.session, self.number)
        if told is None:
            sessions.written(self.session, self.key)  # which says so if it was pruned
            raise Unavailable("what was set aside for this turn was freed meanwhile; try again")
        asked = [message_to_json(message) for message in self.messages]
        if told["messages"] != json.loads(json.dumps(asked)):
            raise Conflict(f"turn {self.number} of this session was another")
        self.result = self.shown(told)


@dataclass(slots=True, eq=False, kw_only=True)
class Close(Task):
    """The end of a session, with what its learner has returned."""

    leads_to: ClassVar[str] = "open"

    session: str
    ended: dict[str, Any]
    live: Live | None = None
    attempt: Attempt | None = None

    @property
    def passes(self) -> bool:
        return self.ended["output"] is not None  # its surprisal is asked for

    def same(self) -> object:
        return (self.key.name, self.session, "close")

    def asks_what(self, other: Close) -> bool:
        return self.ended == other.ended

    def prepare(self, sessions: Sessions) -> None:
        known = sessions.written(self.session, self.key)
        if known.closed is not None:
            self._again(sessions)
            return
        finished = _finished(self.ended)
        self.live = self.closing = sessions.live(self.session, self.key).take()
        self.live.running.finished = finished

    def judged(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def settle(self) -> None:
        if self.live is None or self.attempt is None:
            return
        place = self.live.place()
        self.live.meter.again({})
        told = {**self.live.told([]), "open": 0}
        closed = {"ended": self.ended, "attempt": attempt_to_json(self.attempt)}
        self.entry = Entry(place, told, Cost(), closed=json.loads(json.dumps(closed)))

    def written(self, sessions: Sessions, first: bool) -> None:
        sessions.forget(self.session)
        self._again(sessions)

    def _again(self, sessions: Sessions) -> None:
        closed = sessions.written(self.session, self.key).closed
        if closed is None or closed["ended"] != json.loads(json.dumps(self.ended)):
            raise Conflict("the session was ended in another way")
        self.result = {"attempt": shown_attempt(closed["attempt"], self.key)}


def _finished(ended: dict[str, Any]) -> Finished:
    """How a learner has ended, as its client says (``InvalidInput``)."""
    output = ended["output"]
    return Finished(
        None if output is None else Prefix.of(as_tokens(output)),
        metadata_from_text(ended["metadata"]),
        failure_from_json(ended["error"]),
        ended["out_of_budget"],
    )


def shown_attempt(attempt: dict[str, Any], key: Key) -> dict[str, Any]:
    """An attempt as its client may know it: no text of generator or task, and results only if granted."""
    error = attempt["error"]
    if error is not None and error["who"] != "learner":
        told = "the generator" if error["who"] == "generator" else "a function of the task"
        error = {**error, "message": f"{told} failed", "file": None, "line": None}
    attempt = {**attempt, "error": error}
    if key.results:
        return attempt
    hidden = {"reward": None, "surprisal": None, "accepted": None, "passed": False}
    return {**attempt, **hidden}


@dataclass(slots=True, eq=False, kw_only=True)
class Account(Task):
    """What a key, and a session of it, have spent and have left."""

    comes: ClassVar[str] = ""
    leads_to: ClassVar[str] = ""

    session: str | None = None

    def prepare(self, sessions: Sessions) -> None:
        prices = sessions.catalogue.generator.capabilities.prices
        spent, held = sessions.ledger.balance(self.key.name)
        limits = self.key.budget
        rest = {c: left(limits, c, prices, spent, held) for c in limits.to_dict()}
        self.result = {
            "key": self.key.name,
            "grants": str(self.key.grants),
            "spent": spent.to_dict(),
            "reserved": held.to_dict(),
            "left": {c: x if isinstance(x, int) else float(x or 0) for c, x in rest.items()},
            "request_tokens": self.key.request_tokens,
        }
        if self.session is not None:
            known, live = (
                sessions.written(self.session, self.key),
                sessions.live(self.session, self.key),
            )
            self.result |= {
                "session": self.session,
                "turns": known.turns,
                "closed": known.closed is not None,
                "session_spent": dict(zip(CURRENCIES, live.meter.spent, strict=True)),
            }


@dataclass(slots=True, eq=False, kw_only=True)
class Complete(TakeTurn):
    """One query in a session of its own, which ends with it.

    Attributes:
        terms: of the session; its problem is one that is served, or ``episode``.
        episode: a problem that is the client's own.
    """

    terms: dict[str, Any]
    episode: Episode | None = None

    def asks_what(self, other: TakeTurn) -> bool:
        same = isinstance(other, Complete) and self.terms == other.terms
        return same and self.messages == other.messages

    def shown(self, told: dict[str, Any]) -> dict[str, Any]:
        return told

    def problem(self, sessions: Sessions) -> Episode | None:
        offer = sessions.catalogue.offers.get(self.terms["problem"])
        return self.episode or (None if offer is None else offer.episode)

    def prepare(self, sessions: Sessions) -> None:
        what = "idempotency key of a request"
        try:  # nothing is written down of what is refused
            self.size(sessions).check(self.key)
        except TooLarge:
            # what is written down was smaller than the limit then
            if sessions.ledger.session(self.session) is None:
                raise
        known = sessions.open(self.session, self.key, self.terms, what, self.episode)
        if known.turns:
            self._again(sessions)
        else:
            self.begin(sessions, sessions.begin(self.session, self.key, known, self.episode))
