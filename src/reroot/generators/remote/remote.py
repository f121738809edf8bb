"""A model that a server runs, as a generator."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...checks import check_int
from ...contract import Report, Sampling
from ...errors import BackendError, InvalidInput
from ...types import Chat, FloatArray, Physical, Reply
from ..base import Capabilities, Request, check_prefix
from ..stops import Stop
from . import found
from .caller import Caller
from .check import Check
from .dialects import WHOLE, Call
from .endpoint import Endpoint, checked
from .granted import Claim, Granted, Profile, nothing_but_rollouts, unmet
from .laws import difference
from .limits import Pace
from .plan import Server, calls, reply
from .prices import Purse
from .replies import Ranked, Read
from .text import ServedText, Speech, from_folder
from .wire import Patience, Wire

_log = logging.getLogger("reroot.remote")
_SAME = 0.05
"""Nats by which the law at a known prompt may have moved: other kernels do less, other weights do more."""
_ODD = (65, 40, 99, 71, 87, 52)
"""Tokens to ask at where no tokenizer is known: most vocabularies have letters there."""


class Remote:
    """A generator over a server: vLLM, llama.cpp, SGLang, or any that speaks OpenAI's dialects.

    What it grants is what a ``profile`` carries *and* a check at the start sees again; without a profile, what
    the check alone has verified (``granted.claims`` says what and why). Draws are the server's own: with seeds
    that it honours they are a function of (key, number of the continuation), not of ``Uniforms``.

    Args:
        name: ``http://HOST:PORT[/MODEL]``, ``DIALECT:http://…`` or ``openai:MODEL``.
        tokenizer: a folder with ``tokenizer.json``. llama.cpp servers tell their own vocabulary; others need it,
            unless they name a folder that is here.
        profile: what ``reroot probe`` has found: its ``profile.json``, the folder of it, or its content.
        ends: token ids at which the server ends outputs, besides the tokenizer's end token.
        chat: put a prompt's text through the chat template, as one user message.
        key_variable: the environment variable that holds the key of the API.
        window: most calls in flight; by default as many as the server has places.
        choices: most continuations per call.
        requests_per_minute, tokens_per_minute: limits to keep to, besides those that the server states.
        price_in, price_out: US dollars per million prompt and generated tokens. Where one is given, sessions may
            have budgets in US dollars too (``Budget(usd=…)``: what the interface charges, not what is billed).
        most_usd: US dollars that all calls together may cost, those of the check too; a call that may pass it
            is not made (``BackendError``). Tries that returned nothing are not counted.
        read_timeout, connect_timeout: seconds.
        patience: seconds that a server may be down before it is given up.
        tries: most tries of one call that failed before anything of it was returned.

    Raises:
        InvalidInput: no such name, credentials in the address, or no tokenizer where one is needed.
        BackendError: the server cannot be reached, or is none.
        MissingDependency: httpx2 or tokenizers is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        tokenizer: str | Path | None = None,
        profile: str | Path | Mapping[str, Any] | None = None,
        ends: Sequence[int] = (),
        chat: bool = False,
        key_variable: str | None = None,
        window: int | None = None,
        choices: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        most_usd: float | None = None,
        read_timeout: float = 600.0,
        connect_timeout: float = 10.0,
        patience: float = 60.0,
        tries: int = 6,
    ) -> None:
        endpoint = Endpoint.parse(name)
        self._profile = None if profile is None else Profile.read(profile)
        key = os.environ.get(key_variable or endpoint.key_variable)
        most = check_int("window", 1 if window is None else window, 1)
        self._purse = Purse(price_in, price_out, most_usd)
        self._pace = Pace(most, requests_per_minute, tokens_per_minute)
        how = Patience(connect_timeout, read_timeout, check_int("tries", tries, 1), patience)
        self._wire = Wire(checked(endpoint.url), key, "/health", self._pace, how)
        try:
            self._connect(endpoint, window, choices)
            self._speak(tokenizer, ends, chat)
            self._grant()
        except BaseException:
            self.close()
            raise

    # ---- the start -----------------------------------------------------------------------------

    def _connect(self, endpoint: Endpoint, window: int | None, choices: int | None) -> None:
        """Which dialect it speaks, which model it runs, and how much it takes at once."""
        about = self._wire.wait(found.about(self._wire, endpoint))
        self._about, self._table = about, about.table
        if self._profile is not None:
            self._profile.check_server(about.model, about.table.name)
            choices = choices or self._profile.choices
        if choices is not None:
            self._table = replace(self._table, choices=check_int("choices", choices, 1))
        self._wire.health = self._table.health
        self._pace.most = window or about.slots or self._table.window
        self._pace.window = float(self._pace.most)
        self._caller = Caller(self._wire, self._table, about.model, self._purse)
        self._said: dict[tuple[int, ...], str | Chat] = {}

    def _speak(self, folder: str | Path | None, ends: Sequence[int], chat: bool) -> None:
        """Its vocabulary and its text side."""
        folder = folder or self._about.folder
        table = self._about.table
        vocab = self._wire.wait(self._vocabulary()) if table.ids else None
        if folder is not None:
            text, vocab = from_folder(folder, vocab, chat and table.ids)
            speech: Speech = text
        elif table.name == "llamacpp":
            pieces, end = self._wire.wait(found.pieces(self._wire)), self._about.end
            speech = ServedText.of(self._ask_now, pieces, end, chat)
            vocab = len(pieces)
        else:
            raise InvalidInput(
                f"the tokenizer of {self._about.model!r} is not known: name a folder with its "
                f"tokenizer.json, tokenizer=FOLDER"
            )
        assert vocab is not None
        own = speech.stops(()).tokens | set(ends)
        self._speech, self._ends = speech, frozenset(own)
        self._caller.plain = speech.encode_continuation("a")[-1]
        self._server = Server(self._table, vocab, vocab, self._table.choices, self._ends)

    async def _vocabulary(self) -> int | None:
        """K, where the server says it or shows the whole law."""
        if self._about.vocab:
            return self._about.vocab
        try:
            (answer,) = await self._caller.answers([Call(_ODD, top=WHOLE, seed=1)])
            return len(answer.rows[0].lists[0][0])
        except (BackendError, InvalidInput):
            return None

    def _grant(self) -> None:
        vocab = self._server.vocab
        if not self._table.ids:
            said = f"the dialect {self._table.name!r} speaks in texts, not in token ids"
            seen = nothing_but_rollouts(vocab, (Claim("token ids", False, said),))
            self.seeds = False
        else:
            letters = [self._speech.encode_continuation(c) for c in "the other"]
            odd = tuple(t for letter in letters for t in letter)
            check = Check(self._table, self._ask_calls, odd, vocab)
            seen = check.run()
            self.seeds = check.seeds
        if self._profile is not None and self._profile.known and self._table.ids:
            self._know_again(*self._profile.known)
        met = seen if self._profile is None else self._profile.meet(seen)
        self.granted: Granted = replace(met, prices=self._purse.prices)
        longest = max(self.granted.longest, 1)
        self._server = replace(self._server, longest=longest)
        missing = unmet(self.granted.claims)
        by = "a check at the start alone" if self._profile is None else "its profile and a check"
        strongest = f"{self.granted.control}/{self.granted.report}"
        told = "%s grants at most %s, by %s%s"
        _log.warning(told, self._wire.url, strongest, by, f" ({missing})" if missing else "")

    def _know_again(self, prompt: tuple[int, ...], law: Ranked) -> None:
        """Refuse a profile of another model that has the same name (``BackendError``)."""
        (answer,) = self._ask_calls([Call(prompt, top=len(law[0]), seed=1)])
        (row,) = answer.rows
        if row.lists and (gap := difference(row.lists[0], law)) > _SAME:
            raise BackendError(
                f"the law at a prompt that the profile knows is {gap:.2g} nats from what it was: the server runs "
                f"another model, or the same otherwise; probe it again"
            )

    def _ask_calls(self, asked: Sequence[Call]) -> list[Read]:
        return self._wire.wait(self._caller.answers(asked))

    def _ask_now(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._wire.wait(self._wire.post(path, body, 0))

    # ---- the protocol --------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return self._server.vocab

    @property
    def capabilities(self) -> Capabilities:
        return self.granted

    @property
    def end_token(self) -> int | None:
        return self._speech.end

    def encode(self, text: str) -> tuple[int, ...]:
        return self._spoken(self._speech.encode(text), text)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → prompt tokens (``InvalidInput``: the server would close a turn to be continued)."""
        if self._table.ids:
            return self._speech.encode_chat(chat)
        if self._table.path == "/v1/completions" or chat.continued:
            raise InvalidInput(
                f"the dialect {self._table.name!r} takes no chats, or would close the last turn: {chat}"
            )
        return self._spoken(self._speech.encode(str(chat)), chat)

    def _spoken(self, tokens: tuple[int, ...], said: str | Chat) -> tuple[int, ...]:
        """Remember what a prompt's tokens were made of, for servers that must be told that."""
        if not self._table.ids and self._said.setdefault(tokens, said) != said:
            raise InvalidInput(f"two prompts have the same tokens: {said!s}")
        return tokens

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._speech.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._speech.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        rule = self._speech.stops(texts)
        return replace(rule, tokens=rule.tokens | self._ends)

    def max_length(self) -> int | None:
        return self._about.positions

    def physical(self) -> Physical:
        """Calls as forwards, tokens that the server computed, and those that its cache had."""
        return self._caller.physical

    @property
    def usd(self) -> float:
        """US dollars that all calls have cost so far, by the prices that were given."""
        return self._purse.spent

    def describe(self) -> Mapping[str, object]:
        """Identity, without an address: the same model may be served elsewhere tomorrow."""
        draws = (
            "by the server, the same again for the same seed"
            if self.seeds
            else "by the server, no seeds"
        )
        return {
            "family": "remote",
            "dialect": self._table.name,
            "model": self._about.model,
            "vocab_size": self.vocab_size,
            "text": self._speech.digest(),
            "ends": sorted(self._ends),
            "draws": draws,
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """All replies, once all are there.

        Raises:
            InvalidInput: a request is out of range, or stronger than what is granted.
            BackendError: the server failed, or answered what cannot be true.
        """
        for request in requests:
            self._check(request)
        futures = self.submit(requests)
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        """Begin to answer; see ``ConcurrentGenerator``. A cancelled future closes its connection."""
        futures: list[Future[Reply]] = [Future() for _ in requests]
        self._wire.loop.call(self._begin, list(requests), futures)
        return futures

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """(len(prefixes), K) nats: the base law at each prefix, as the server states it."""
        if not len(prefixes):
            return np.empty((0, self.vocab_size))
        asked = [Request(tuple(prompt), tuple(u), report=Report.FULL) for u in prefixes]
        laws = [cast("FloatArray", found.laws)[0, 0] for found in self.answer(asked)]
        return np.stack(laws)

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._wire.close()

    # ---- on the loop ---------------------------------------------------------------------------

    def _begin(self, requests: Sequence[Request], futures: Sequence[Future[Reply]]) -> None:
        loop = asyncio.get_running_loop()
        for request, future in zip(requests, futures, strict=True):
            task = loop.create_task(self._serve(request))
            future.add_done_callback(partial(_cancel, loop, task))
            task.add_done_callback(lambda task, future=future: _hand_over(task, future))

    async def _serve(self, request: Request) -> Reply:
        self._check(request)
        asked = calls(self._server, request, self._said.get(request.prompt))
        answers = await self._caller.answers(asked)
        if not self._table.ids:
            for row in (row for answer in answers for row in answer.rows):
                row.ids = self._encoded(row.text, row.ended, request.length)
        return reply(self._server, request, asked, answers)

    def _encoded(self, text: str, ended: bool, length: int) -> list[int]:
        """The tokens of a continuation that came as text, in the usual spelling."""
        ids = list(self._speech.encode_continuation(text))[:length]
        if ended and len(ids) < length and self._speech.end is not None:
            ids.append(self._speech.end)
        return ids

    def _check(self, request: Request) -> None:
        """Refuse what is out of range, and more than is granted (``InvalidInput``)."""
        tokens = (*request.prompt, *request.prefix, *(request.forced or ()))
        check_prefix(tokens, self.vocab_size)
        limit, start = self.max_length(), len(request.prompt) + len(request.prefix)
        if limit is not None and start + request.length > limit:
            raise InvalidInput(
                f"{request.length} tokens after {start} prompt and prefix tokens pass the server's "
                f"{limit} positions"
            )
        if request.prefix and not self._table.ids:
            raise InvalidInput("this server serves control up to root: it takes no token prefixes")
        if not request.report <= self.granted.report:
            raise InvalidInput(
                f"this server reports up to {self.granted.report}, not {request.report}"
            )
        if request.forced is not None and not self.granted.forced:
            raise InvalidInput("this server scores no given tokens")
        if not self.granted.sampling and request.sampling != Sampling():
            raise InvalidInput(
                f"this server draws at temperature 1 only, not at {request.sampling}"
            )


def _cancel(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Reply], future: Future[Reply]
) -> None:
    """Nobody waits any more: the task ends, wherever the future was cancelled."""
    if future.cancelled() and not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def _hand_over(task: asyncio.Task[Reply], future: Future[Reply]) -> None:
    """A task's end → the future's, unless it was cancelled meanwhile."""
    if task.cancelled():
        future.cancel()
    if future.cancelled() or not future.set_running_or_notify_cancel():
        return
    if (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
