"""What a probe asks, and what it pays for it: a hard budget of tokens, faults told apart from lies."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import BackendError, InvalidInput
from ..generators.remote.dialects import Call, Dialect, spelt
from ..generators.remote.queue import DepthFirst
from ..generators.remote.replies import NoReply, Ranked, Read, Row, read, shortened
from ..generators.remote.wire import Fault, Wire

_T = TypeVar("_T")
TRIES = 5
"""Most tries of one call; each is paid for in full unless it was refused."""
PAUSE = 0.1
"""Seconds before the second try; doubled each time."""
LAW_FIELDS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "repeat_penalty"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "xtc_probability"),
        *("dry_multiplier", "mirostat", "dynatemp_range", "samplers"),
    }
)
"""Fields that decide the law of draws; what a request without them gets are the server's defaults."""


class OutOfBudget(Exception):
    """What is to be asked does not fit into what is left of the budget; nothing was sent."""


class Fails(Exception):
    """A claim does not hold; says what was seen.

    Attributes:
        settings: estimated sampling settings, as ``Claim.settings`` has them.
    """

    def __init__(self, seen: str, settings: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(seen)
        self.settings = tuple(settings)


class NotAsked(Exception):
    """A claim that this server or dialect cannot be asked; says why."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call and how its body differs from what a ``Remote`` would send.

    Attributes:
        call: what is asked.
        silent: leave out all of ``LAW_FIELDS``.
        extra: dotted field → value, put in last.
    """

    call: Call
    silent: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Asker:
    """All calls of one probe.

    Args:
        wire: to the server, with one try per call.
        table: its dialect.
        model: the model's name there.
        budget: most tokens, prompts and continuations together, by the larger of both sides' counts.

    Attributes:
        spent: tokens so far.
        answered: calls that were answered.
        faults: why calls had to be asked again.
        around: tokens that a server may put around a text; a guess until it was seen.
        shown: the sampling settings that a llama.cpp server showed with its last answer.
    """

    def __init__(self, wire: Wire, table: Dialect, model: str, budget: int) -> None:
        self.wire, self.table, self.model, self.budget = wire, table, model, budget
        self.spent, self.answered = 0, 0
        self.faults: list[str] = []
        self.shown: Mapping[str, Any] = {}
        self._queue = DepthFirst(wire.pace)
        self._reserved = 0
        self._dead = ""
        self.around = 16 if table.path == "/v1/completions" else 512

    @property
    def left(self) -> int:
        """Tokens that are left of the budget."""
        return self.budget - self.spent - self._reserved

    def fits(self, asked: Sequence[Ask | Call]) -> bool:
        """Whether all of it can be paid for."""
        return sum(map(self._worst, asked)) <= self.left

    def ask(self, asked: Sequence[Ask | Call]) -> list[Read]:
        """The answers to calls, sent together.

        Raises:
            OutOfBudget: they may cost more than is left; nothing was sent.
            Fault: the server gave no answer as often as it was asked.
            InvalidInput: it refuses one (400).
            BackendError: it answers what cannot be true, or refuses.
        """
        if not self.fits(asked):
            worst = sum(map(self._worst, asked))
            raise OutOfBudget(f"up to {worst:,} tokens, and {max(0, self.left):,} are left")
        given = [Ask(ask) if isinstance(ask, Call) else ask for ask in asked]
        return self.wire.wait(self._together(given))

    def rows(self, asked: Sequence[Ask | Call]) -> list[Row]:
        """The continuations of all answers, in order."""
        return [row for answer in self.ask(asked) for row in answer.rows]

    def law(self, prompt: tuple[int, ...], top: int, ask: Ask | None = None) -> Ranked:
        """The list of ``top`` tokens that is stated at a prompt.

        Some servers state nothing of a token that ends inside a character: then another seed draws another.
        """
        ask = ask or Ask(Call(prompt))
        plain = ask.call.force is None and "seed" in self.table.fields
        for seed in range(1, 9 if plain else 2):
            call = Call(prompt, top=top, seed=seed if plain else 1, force=ask.call.force)
            call = _like(call, ask.call)
            (row,) = self.rows([Ask(call, ask.silent, ask.extra)])
            if row.lists:
                ids, logs = row.lists[0]
                return (ids, logs) if top < 0 else (ids[:top], logs[:top])
        raise BackendError("no list came back")

    def post(
        self, path: str, body: Mapping[str, Any], worst: int, cost: Callable[[Any], int]
    ) -> Any:
        """The JSON that a path answers to a body of the caller's own, paid for by ``cost`` of it."""
        if worst > self.left:
            raise OutOfBudget(f"up to {worst:,} tokens, and {max(0, self.left):,} are left")

        def reading(answer: Any) -> Any:
            try:
                cost(answer)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                kind = type(error).__name__
                said = shortened(answer)
                raise NoReply(f"an answer counts no tokens ({kind}: {error}): {said}") from None
            return answer

        return self.wire.wait(self._tried(path, body, worst, (), reading, cost))

    def _worst(self, ask: Ask | Call) -> int:
        """Tokens that a call may cost: a text has at most one per byte, and what the server puts around it."""
        call = ask.call if isinstance(ask, Ask) else ask
        said = 0 if call.said is None else len(str(call.said).encode()) + self.around
        return max(len(call.prompt), said) + call.n * call.length

    async def _together(self, asked: Sequence[Ask]) -> list[Read]:
        tasks = [asyncio.ensure_future(self._one(ask)) for ask in asked]
        try:
            return await asyncio.gather(*tasks)
        finally:  # a sibling's error ends all
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, ask: Ask) -> Read:
        call = ask.call
        body = spelt(self.table, call, self.model)
        if ask.silent:
            for part in (body, body.get("sampling_params") or {}):
                for name in LAW_FIELDS & set(part):
                    del part[name]
        for path, value in ask.extra.items():
            *outer, name = path.split(".")
            part = body
            for key in outer:
                part = part.setdefault(key, {})
            part[name] = value

        def reading(answer: Any) -> Read:
            if self.table.name == "llamacpp" and isinstance(answer, dict):
                shown: Any = answer.get("generation_settings")
                self.shown = shown if isinstance(shown, dict) else {}
                answer = {**answer, "generation_settings": {}}  # judged with the draws, not here
            return read(self.table, call, answer)

        def cost(found: Read) -> int:
            ours = len(call.prompt) + sum(len(row.ids) for row in found.rows)
            if call.said is not None:
                self.around = max(16, min(self.around, 2 * _count(found.prompt)))
            return max(ours, _count(found.prompt) + _count(found.generated))

        return await self._tried(
            self.table.path, body, self._worst(ask), call.prompt, reading, cost
        )

    def _read(self, reading: Callable[[Any], _T], answer: Any) -> _T:
        """``reading(answer)``, counted as an answer if it has the shape of one."""
        try:
            return reading(answer)
        except NoReply:
            self.answered -= 1
            raise
        finally:
            self.answered += 1

    async def _tried(
        self,
        path: str,
        body: Mapping[str, Any],
        worst: int,
        key: tuple[int, ...],
        reading: Callable[[Any], Any],
        cost: Callable[[Any], int],
    ) -> Any:
        async def work() -> Any:
            return await self.wire.post(path, body, worst)

        for tried in range(1, TRIES + 1):
            if self._dead:
                raise Fault(self._dead)
            if worst > self.left:
                raise OutOfBudget(
                    f"up to {worst:,} tokens for asking again, {self.left:,} are left"
                )
            self._reserved += worst
            charged = worst
            try:
                answer = await self._queue.run(key, work)
                found = self._read(reading, answer)
                charged = cost(found)
                return found
            except (Fault, NoReply) as error:
                self.faults.append(str(error))
                if "has been down" in str(error):
                    self._dead = str(error)
                if tried == TRIES or self._dead:
                    raise
            except InvalidInput:  # nothing was computed
                charged = 0
                raise
            finally:
                self._reserved -= worst
                self.spent += charged
            await asyncio.sleep(PAUSE * 2**tried)
        raise AssertionError("unreachable")


def _like(call: Call, other: Call) -> Call:
    return Call(
        call.prompt, sampling=other.sampling, top=call.top, seed=call.seed, force=call.force
    )


def _count(said: Any) -> int:
    """A server's count, or 0 where it is none."""
    good = isinstance(said, (int, float)) and math.isfinite(said) and said >= 0
    return int(said) if good else 0


@contextmanager
def lies_fail() -> Iterator[None]:
    """Within it, an answer that cannot be true is a claim that does not hold."""
    try:
        yield
    except Fault:
        raise
    except BackendError as error:
        raise Fails(str(error)) from None
