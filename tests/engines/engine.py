"""The engine behind the endpoints: slots, a prefix cache, seeds, draws and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .behaviour import Behaviour
from .language import K, Language, Logs, decode, encode, normalized
from .sampling import Sampler

Laws = tuple[Logs, Logs, Logs]
"""(raw law, law that is drawn from, its cumulative sums)."""


class Abandoned(Exception):
    """The client has hung up."""


Gone = Callable[[], Awaitable[bool]]
"""Whether the client has hung up."""


@dataclass(frozen=True)
class Asked:
    """A request, whatever its dialect. ``top`` is the length of lists: 0 none, −1 the whole law."""

    prompts: Sequence[tuple[int, ...]]
    sampler: Sampler
    n: int = 1
    length: int = 16
    seed: int | None = None
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    ignore_eos: bool = False
    top: int = 0
    scores: int | None = None
    score_from: int = 0


@dataclass
class Token:
    """One token with what is stated of it: ``drawn`` is from the law that it came from."""

    id: int
    logprob: float
    tops: list[tuple[int, float]]
    drawn: float = 0.0
    drawn_tops: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Choice:
    tokens: list[Token]
    finish: str  # "length", "eos", "stop" (a token) or "word"
    stopped_by: int | str | None = None

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def text(self) -> str:
        shown = self.ids[:-1] if self.finish in ("eos", "stop") else self.ids
        text = decode(shown)
        if self.finish == "word" and isinstance(self.stopped_by, str):
            text = text[: text.index(self.stopped_by)]
        return text


@dataclass
class Answered:
    """What became of one prompt."""

    prompt: tuple[int, ...]
    cached: int
    choices: list[Choice]
    scores: list[Token | None]


@dataclass
class Counts:
    """What was done since the start."""

    requests: int = 0
    prompt_tokens: int = 0
    computed: int = 0  # prompt tokens that no cache had
    generated: int = 0
    cancelled: int = 0
    most_at_once: int = 0
    errors: int = 0


class Cache:
    """Which prompt tokens need not be computed again."""

    def __init__(self, kind: str, slots: int, block: int) -> None:
        self.kind, self.block = kind, block
        self._slots: list[tuple[int, ...]] = [()] * slots
        self._free = list(range(slots))  # least recently used first
        self._blocks: set[tuple[int, ...]] = set()

    def begin(self, prompt: tuple[int, ...]) -> tuple[int, int]:
        """(slot, tokens of the prompt that it has): the free slot that shares most."""
        slot = max(self._free, key=lambda s: _shared(self._slots[s], prompt)) if self._free else -1
        if self._free:
            if not _shared(self._slots[slot], prompt):
                slot = self._free[0]
            self._free.remove(slot)
        most = len(prompt) - 1  # the last one is always computed, as its law is wanted
        if self.kind == "slots" and slot >= 0:
            return slot, min(most, _shared(self._slots[slot], prompt))
        if self.kind == "blocks":
            known = [
                n for n in range(self.block, most + 1, self.block) if prompt[:n] in self._blocks
            ]
            return slot, max(known, default=0)
        return slot, 0

    def end(self, slot: int, tokens: tuple[int, ...]) -> None:
        if slot >= 0:
            self._slots[slot] = tokens
            self._free.append(slot)
        if self.kind == "blocks":
            self._blocks.update(tokens[:n] for n in range(self.block, len(tokens) + 1, self.block))


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


class Engine:
    """One language, one behaviour, and what it was asked."""

    def __init__(self, behaviour: Behaviour, seed: int = 0) -> None:
        self.behaviour = behaviour
        self.language = Language(**behaviour.language)
        self.counts = Counts()
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._cache = Cache(behaviour.cache, behaviour.slots, behaviour.block)
        self._room = asyncio.Semaphore(behaviour.slots)
        self._rng = np.random.default_rng(seed)
        self.running = 0

    async def answer(self, asked: Asked, gone: Gone) -> list[Answered]:
        return [await self._prompt(asked, prompt, gone) for prompt in asked.prompts]

    async def _prompt(self, asked: Asked, prompt: tuple[int, ...], gone: Gone) -> Answered:
        if self.behaviour.retokenizes:
            prompt = encode(decode(prompt, special=True))
        async with self._room:
            self.running += 1
            self.counts.most_at_once = max(self.counts.most_at_once, self.running)
            slot, cached = self._cache.begin(prompt)
            cached = 0 if asked.scores is not None else cached
            try:
                return await self._run(asked, prompt, cached, gone)
            finally:
                self._cache.end(slot, prompt)
                self.running -= 1

    async def _run(
        self, asked: Asked, prompt: tuple[int, ...], cached: int, gone: Gone
    ) -> Answered:
        does = self.behaviour
        await self._work(does.delay + does.per_prompt * (len(prompt) - cached), gone)
        self.counts.prompt_tokens += len(prompt)
        self.counts.computed += len(prompt) - cached
        n = asked.n if does.silent_n is None else min(asked.n, does.silent_n)
        first = self._laws(asked, prompt, [], does.cache_drift if cached else 0.0)
        choices = [self._choice(asked, prompt, first, self._generator(asked, i)) for i in range(n)]
        if does.copies:
            choices = choices[:1] * n
        await self._work(does.per_token * max((len(c.tokens) for c in choices), default=0), gone)
        self.counts.generated += sum(len(c.tokens) for c in choices)
        return Answered(prompt, cached, choices, self._scores(asked, prompt))

    async def _work(self, seconds: float, gone: Gone) -> None:
        """Take time; stop when nobody waits any more."""
        while seconds > 0:
            step = min(seconds, 0.02)
            await asyncio.sleep(step)
            seconds -= step
            if await gone():
                self.counts.cancelled += 1
                raise Abandoned

    def _generator(self, asked: Asked, i: int) -> np.random.Generator:
        kind = self.behaviour.seeds
        honours = kind == "honoured" or (kind == "serial" and self.running == 1)
        if asked.seed is None or not honours:
            return self._rng
        return np.random.default_rng([asked.seed + i, 1])

    def _laws(
        self, asked: Asked, prompt: tuple[int, ...], ids: list[int], drift: float = 0.0
    ) -> Laws:
        raw = self.language.law((*prompt, *ids))
        raw = normalized(raw * (1 + drift)) if drift else raw
        law = asked.sampler.law(raw, prompt, ids)
        if asked.ignore_eos:
            law = Sampler(bias=dict.fromkeys(self.behaviour.ends, -np.inf)).law(law, (), ())
        return raw, law, np.exp(law).cumsum()

    def _choice(
        self, asked: Asked, prompt: tuple[int, ...], first: Laws, rng: np.random.Generator
    ) -> Choice:
        tokens: list[Token] = []
        ids: list[int] = []
        length = asked.length + (1 if self.behaviour.longer else 0)
        while len(ids) < length:
            raw, law, sums = self._laws(asked, prompt, ids) if ids else first
            token = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
            ids.append(token)
            tokens.append(self._stated(raw, law, token, asked.top))
            if token in self.behaviour.ends and not asked.ignore_eos:
                return Choice(tokens, "eos")
            if token in asked.stop_ids:
                return Choice(tokens, "stop", token)
            text = decode(ids) if asked.stop_texts else ""
            for word in asked.stop_texts:
                if word in text:
                    return Choice(tokens, "word", word)
        return Choice(tokens, "length")

    def _stated(self, raw: Logs, law: Logs, token: int, top: int) -> Token:
        does = self.behaviour
        said = law if does.processed else raw
        lost = float(np.log(does.mass))
        if does.noise:
            said = normalized(said + does.noise * self._rng.standard_normal(K))
        top = top if does.clips is None or not top else min(does.clips, top % (K + 1))
        logprob = float("nan") if does.nan else _rounded(said[token] + lost)
        tops = _list(said, top, does.shift + lost)
        return Token(token, logprob, tops, _rounded(law[token]), _list(law, top, 0.0))

    def _scores(self, asked: Asked, prompt: tuple[int, ...]) -> list[Token | None]:
        if asked.scores is None:
            return []
        out: list[Token | None] = [None]
        for at in range(1, len(prompt)):
            raw = self.language.law(prompt[:at])
            law = asked.sampler.law(raw, prompt[:at], ()) if self.behaviour.processed else raw
            out.append(self._stated(raw, law, prompt[at], asked.scores))
        return out


def _list(law: Logs, top: int, shift: float) -> list[tuple[int, float]]:
    if not top:
        return []
    k = K if top < 0 else min(top, K)
    order = np.argsort(-law, kind="stable")[:k].tolist()
    return [(t, _rounded(law[t] + shift)) for t in order]


def _rounded(value: float) -> float:
    """In float32, as real engines compute; what is impossible is −9999, as vLLM writes it."""
    return float(np.float32(max(value, -9999.0)))
