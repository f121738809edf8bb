"""Calls and their answers: ordered, paid for, read, checked, counted, and completed where a server leaves out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import BackendError
from ...types import Physical
from .dialects import WHOLE, Call, Dialect, spelt
from .plan import listed_in
from .prices import Purse
from .queue import DepthFirst
from .replies import Read, Row, read
from .wire import Wire

_log = logging.getLogger("reroot.remote")
_MASS = 1e-2
"""What a law may miss probability 1 by before it is said."""


class Caller:
    """All calls of one generator; its coroutines run on the wire's loop.

    Args:
        wire: to the server.
        table: its dialect.
        model: the model's name there.
        purse: pays.

    Attributes:
        physical: calls as forwards, tokens that the server computed, and those that its cache had.
        plain: a token that is text by itself, once it is known.
    """

    def __init__(self, wire: Wire, table: Dialect, model: str, purse: Purse) -> None:
        self._wire, self._table, self._model, self._purse = wire, table, model, purse
        self._queue = DepthFirst(wire.pace)
        self.physical = Physical()
        self.plain: int | None = None
        self._said_mass = False

    async def answers(self, asked: Sequence[Call]) -> list[Read]:
        """The answers to calls, which are all sent at once.

        Raises:
            InvalidInput, BackendError: of the first call that fails; the others are ended.
        """
        if len(asked) == 1:
            return [await self._answered(asked[0])]
        tasks = [asyncio.ensure_future(self._answered(call)) for call in asked]
        try:
            return await asyncio.gather(*tasks)
        finally:  # what the others would bring has no use where one has failed
            for task in tasks:
                task.cancel()

    async def _answered(self, call: Call) -> Read:
        body = spelt(self._table, call, self._model)
        tokens = len(call.prompt) + call.n * call.length

        async def work() -> Any:
            return await self._wire.post(self._table.path, body, tokens)

        worst = self._purse.reserve(call)
        try:
            got = read(self._table, call, await self._queue.run(call.prompt, work))
        except BaseException:
            self._purse.settle(worst, None)
            raise
        self._purse.settle(worst, got)
        self.physical += Physical(
            forwards=1, computed=got.prompt - got.cached + got.generated, cached=got.cached
        )
        if call.top == WHOLE and not self._said_mass:
            self._note_mass(got)
        if self._table.leaves_out and call.top is not None and call.force != self.plain:
            for row in got.rows:
                await self._complete(call, row)
        return got

    async def _complete(self, call: Call, row: Row) -> None:
        """Ask for the log-probabilities that a server has left out: by forcing the token, and where that is
        left out too, by forcing a plain one, beside which the whole law is stated."""
        for t in range(len(row.logprobs), len(row.ids)):
            token = row.ids[t]
            step = Call((*call.prompt, *row.ids[:t]), top=WHOLE, force=self.plain)
            if call.top != WHOLE and call.force is None:
                step = replace(step, top=call.top, force=token)
            (first,) = (await self._answered(step)).rows
            whole = step.top == WHOLE
            if not first.lists or not (whole or first.ids == [token]):
                raise BackendError(
                    f"{self._wire.url} states no log-probability of token {token}, forced or not"
                )
            row.logprobs.append(listed_in(first.lists[0], token) if whole else first.logprobs[0])
            row.lists += first.lists

    def _note_mass(self, got: Read) -> None:
        for row in got.rows:
            for _, logs in row.lists[:1]:
                if abs(mass := float(np.exp(logs).sum()) - 1) > _MASS:
                    self._said_mass = True
                    _log.warning("%s: a law sums to %.4f; said once", self._wire.url, mass + 1)
