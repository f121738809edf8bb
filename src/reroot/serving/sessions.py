"""The sessions of a server: what the desk's requests have in common. They serve its thread alone."""

from __future__ import annotations

import json
from typing import Any

from ..access.episode import Episode, check_oracles
from ..errors import AccessDenied, InvalidInput, RerootError
from ..types import Budget
from ..types.account import check_priced
from .catalogue import Catalogue
from .keys import Key
from .ledger import Ledger, Written
from .live import Conflict, Live, contract_of, seed_of

_GONE = "was pruned: it is no longer kept, and is not drawn again"
_KEPT = 4096  # sessions in memory; others are taken up again from the ledger


class NotFound(RerootError):
    """There is no such session, or model, for this key."""


class Pruned(RerootError):
    """What a session was told is no longer kept. It is not drawn again."""


class Sessions:
    """What is served, the ledger, and the sessions that are in memory.

    Args:
        catalogue: what is served.
        ledger: where it is written down.
        judge_timeout: seconds that each call of a reward, verifier or value function may take.
    """

    def __init__(
        self, catalogue: Catalogue, ledger: Ledger, judge_timeout: float | None = None
    ) -> None:
        self.catalogue, self.ledger, self.judge_timeout = catalogue, ledger, judge_timeout
        self._lives: dict[str, Live] = {}

    def permit(self, key: Key, terms: dict[str, Any], episode: Episode | None = None) -> None:
        """Refuse a session that the key, the generator or the problem does not permit.

        Raises:
            InvalidInput, AccessDenied: why.
        """
        contract = contract_of(terms["contract"])
        if not contract <= key.grants:
            raise AccessDenied(
                f"a session under {contract}", f"the key grants {key.grants}", str(contract)
            )
        generator = self.catalogue.generator
        refused = generator.capabilities.refusal(contract)
        if refused is not None:
            raise InvalidInput(f"the generator cannot honour {contract}: {refused}")
        episode = episode or self.catalogue.episode(terms["problem"])
        check_oracles(episode.problem, contract)
        check_priced(Budget(**terms["budget"]), generator.capabilities.prices)

    def open(
        self,
        session: str,
        key: Key,
        terms: dict[str, Any],
        what: str,
        episode: Episode | None = None,
    ) -> Written:
        """Write a session down, or find it, if it is permitted.

        Args:
            session, key: of the session.
            terms: of what it is, as its client says.
            what: what its name is called.
            episode: a problem that is the client's own.

        Raises:
            InvalidInput, AccessDenied: it is not permitted.
            Conflict: there is another one of that name, or it was begun on something else.
            Pruned: there was one.
        """
        self.permit(key, terms, episode)
        episode = episode or self.catalogue.episode(terms["problem"])
        served = {"served": self.catalogue.mark(episode)}
        told = {**terms, "seed": seed_of(terms["seed"], key, self.ledger.secret)} | served
        known = self.ledger.open(session, key.name, told)
        if known.terms is told:  # it was not there
            return known
        if known.name == key.name and known.pruned:
            raise Pruned(f"what this {what} stood for {_GONE}")
        if known.name != key.name or known.terms | served != json.loads(json.dumps(told)):
            raise Conflict(f"this {what} stands for another")
        self._check_served(known, episode)
        return known

    def _check_served(self, known: Written, episode: Episode) -> None:
        if known.terms["served"] != self.catalogue.mark(episode):
            raise Conflict(
                f"this session was begun at a server with another generator, or another problem "
                f"{known.terms['problem']!r:.200}: go on there"
            )

    def written(self, session: str, key: Key) -> Written:
        """A session of this key as it is written down (``NotFound``, ``Pruned``)."""
        known = self.ledger.session(session)
        if known is None or known.name != key.name:
            raise NotFound(f"there is no session {session!r:.80} of this key")
        if known.pruned:
            raise Pruned(f"what session {session} was told {_GONE}")
        return known

    def due(self, session: str, key: Key, turn: int) -> Live | None:
        """A session of this key that is in memory and whose next turn this is. The ledger is not asked:
        if another server was first, it says so when the turn is written down."""
        live = self._lives.get(session)
        good = live is not None and live.name == key.name and live.turns == turn
        return live if good else None

    def held(self, session: str) -> Live | None:
        """A session, if it is in memory."""
        return self._lives.get(session)

    def live(self, session: str, key: Key) -> Live:
        """A session of this key, as far as it is written down (``NotFound``)."""
        known, live = self.written(session, key), self._lives.get(session)
        if live is not None and live.turns == known.turns:
            return live
        return self.keep(self.begin(session, key, known))

    def begin(self, session: str, key: Key, known: Written, episode: Episode | None = None) -> Live:
        """A session from what is written down of it.

        Args:
            session, key: of the session.
            known: what is written down.
            episode: a problem that is the client's own.

        Raises:
            Conflict: it was begun at a server that serves something else.
        """
        episode = episode or self.catalogue.episode(known.terms["problem"])
        self._check_served(known, episode)
        turns = self.ledger.turns(session) if known.turns else []
        begin = (session, key, known.terms, episode, self.ledger, self.judge_timeout, turns)
        return Live.begin(*begin)

    def keep(self, live: Live) -> Live:
        """Keep a session in memory; the one that has been there longest may have to go."""
        self._lives[live.id] = live
        if len(self._lives) > _KEPT:
            self.forget(next(iter(self._lives)))
        return live

    def forget(self, session: str) -> None:
        """Let go of a session in memory."""
        self._lives.pop(session, None)
