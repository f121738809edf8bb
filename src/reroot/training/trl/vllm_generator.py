"""The vLLM of a trainer as a generator: draws and their log-probabilities, and no model of our own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import TrainerCallback

from ...contract import Report, Sampling
from ...errors import BackendError, InvalidInput
from ...generators.base import Capabilities, Request, check_prefix
from ...generators.causal_model import end_ids, fingerprint, positions
from ...generators.over_text import OverText
from ...generators.tokenizer import Text
from ...randomness import keyed_rng
from ...types import PAD, FloatArray, IntArray, Physical, Prefix, Reply, read_only
from .vllm_engine import Asked, Drawn, Engine, Limits, Settings, engine_of

_GREEDY = Sampling(temperature=0.0)


def served(limits: Limits, law: Sampling, vocab: int) -> Report:
    """The strongest report that is exact under ``law``.

    vLLM's ``processed_logprobs`` are of the law that draws follow, its ``raw_logprobs`` of the model's;
    lists are those of the model's law, as the greedy walk that ARGMAX(k) follows is.
    """
    exact = limits.logprobs_mode == "processed_logprobs"
    if not (exact or (limits.logprobs_mode == "raw_logprobs" and law.is_base)):
        return Report.SAMPLE
    k = vocab if limits.max_logprobs < 0 else min(limits.max_logprobs, vocab)
    return Report.TOPK(k) if law.is_base and k else Report.LOGPROB


class VLLMGenerator(OverText):
    """A ``Generator`` over ``trainer.vllm_generation``.

    It reports what vLLM gives exactly (``served``), shows no hidden states and scores no forced tokens.
    Ties of a list are in vLLM's order. vLLM stops at stop tokens; what it has drawn behind a stop text is
    thrown away: no reply has it, so no session is charged for it, and ``physical`` counts it.

    Draws: a colocated engine is given a seed of each request, hashed from its key; the same request draws
    the same, as far as vLLM's arithmetic is the same. A server takes one seed for all prompts of a call,
    which would tie the draws of different groups together, so it is given none: its draws are its own.

    Args:
        trainer: a GRPOTrainer with ``use_vllm``.
        law: that the trainer samples from.
        chat: put a prompt's text through the chat template, as one user message.

    Raises:
        InvalidInput: see ``Text``.
        BackendError: see ``engine_of``.
    """

    def __init__(self, trainer: Any, law: Sampling, *, chat: bool = False) -> None:
        self._trainer, self._chat = trainer, chat
        self._engine: Engine = engine_of(trainer)
        self._model = trainer.accelerator.unwrap_model(trainer.model)
        config = self._model.config.get_text_config()
        self._vocab: int = config.vocab_size
        self._positions = positions(config)
        ends = end_ids(self._model, self._vocab)
        self._text = Text(trainer.processing_class, chat, ends, self._vocab)
        self._report = served(self._engine.limits, law, self._vocab)
        self._calls = self._tokens = 0
        self._noted: dict[tuple[tuple[int, ...], ...], list[list[float | None]]] = {}
        trainer.add_callback(_Reloaded(trainer))
        generation = trainer.vllm_generation
        sync = generation.sync_weights

        @functools.wraps(sync)
        def named() -> None:
            with self._engine.named("take the new weights"):
                sync()

        generation.sync_weights = named

    # ---- for the trainer -----------------------------------------------------------------------

    def weights_changed(self) -> None:
        """Load the trainer's weights if vLLM has those of another step; all processes wait for it.

        Raises:
            BackendError: vLLM failed to take them.
        """
        trainer, self._noted = self._trainer, {}
        self._engine.renew()
        if trainer.state.global_step != trainer._last_loaded_step:
            trainer.vllm_generation.sync_weights()
            trainer._last_loaded_step = trainer.state.global_step
        trainer.accelerator.wait_for_everyone()

    def rest(self) -> None:
        """Let vLLM sleep until the next draw, if it is to."""
        self._engine.rest()

    def behaviour(
        self, prompt: tuple[int, ...], prefix: tuple[int, ...], tokens: Sequence[int]
    ) -> list[float | None] | None:
        """Nats of a continuation as it was drawn since the weights changed, for the trainer's importance
        ratios; no session sees them.

        Each continuation is taken once. ``None``: vLLM's log-probabilities are of another law.
        """
        if not self._report.has_logprob:
            return None
        return self._noted[prompt, prefix, tuple(tokens)].pop()

    # ---- the generator protocol ----------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return self._vocab

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(report=self._report, forced=False)

    def max_length(self) -> int | None:
        """The fewer of the model's positions and vLLM's ``max_model_len``."""
        known = [n for n in (self._positions, self._engine.limits.max_length) if n is not None]
        return min(known, default=None)

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """Refused: vLLM reports no whole laws (``InvalidInput``)."""
        check_prefix(prompt, self._vocab)
        raise InvalidInput(
            "vLLM reports no whole laws: train without use_vllm where they are needed"
        )

    def physical(self) -> Physical:
        """Calls, and tokens drawn; what prompts cost vLLM does not say."""
        return Physical(forwards=self._calls, computed=self._tokens)

    def describe(self) -> Mapping[str, object]:
        """Names and hashes; equal ones have the same law, and the same draws as ``draws`` says."""
        engine = self._engine
        return {
            "family": "vllm",
            "mode": self._trainer.vllm_generation.mode,
            "weights": fingerprint(self._model),
            "tokenizer": self._text.digest(),
            "chat": self._chat,
            "draws": "a seed for each request" if engine.seeded else "the server's own",
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply each, drawn together; prompts that begin alike are neighbours, for the prefix cache.

        Raises:
            InvalidInput: tokens outside the vocabulary, more than ``max_length``, forced tokens, or a
                report that vLLM does not give under the request's law.
            BackendError: vLLM failed, ended an output by itself, or had no log-probability.
        """
        for request in requests:
            self._check(request)
        if not requests:
            return []
        order = sorted(range(len(requests)), key=lambda i: requests[i].prompt + requests[i].prefix)
        drawn = self._engine.draw([self._asked(requests[i]) for i in order])
        self._calls += 1
        found = dict(zip(order, drawn, strict=True))
        return [self._reply(request, found[i]) for i, request in enumerate(requests)]

    def _check(self, request: Request) -> None:
        check_prefix(request.prompt, self._vocab)
        check_prefix(request.prefix, self._vocab)
        if request.forced is not None:
            raise InvalidInput("vLLM reports on the tokens that it draws, not on forced ones")
        report = served(self._engine.limits, request.sampling, self._vocab)
        if not _within(request.report, self._vocab) <= report:
            raise InvalidInput(
                f"vLLM reports up to {report} at {request.sampling}, not {request.report}"
            )
        length, limit = len(request.prompt) + len(request.prefix), self.max_length()
        if not length:
            raise InvalidInput("a language model needs at least one prompt token, got none")
        if limit is not None and length + request.length > limit:
            raise InvalidInput(
                f"{request.length} tokens after {length} prompt and prefix tokens pass the {limit} "
                "positions of model and vLLM"
            )

    def _asked(self, request: Request) -> Asked:
        greedy = not request.report.draws
        settings = Settings(
            request.n,
            request.length,
            _GREEDY if greedy else request.sampling,
            tuple(sorted(request.stop.tokens)),
            min(request.report.top, self._vocab) if self._report.has_logprob else None,
        )
        # vLLM draws continuation i of a request by its seed + i
        word = int(keyed_rng(request.key).integers(1 << 62))
        return Asked(request.prompt + request.prefix, settings, word + request.first)

    def _reply(self, request: Request, drawn: Sequence[Drawn]) -> Reply:
        """The continuations up to where their outputs end."""
        if len(drawn) != request.n:
            raise BackendError(
                f"{self._engine.name} gave {len(drawn)} continuations where {request.n} were asked"
            )
        rows = [_ended(request, one) for one in drawn]
        self._tokens += sum(len(one.tokens) for one in drawn)
        longest = 1 if request.length == 1 else max(len(row.tokens) for row in rows)
        tokens = np.full((request.n, longest), PAD, dtype=np.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row.tokens)] = row.tokens
        lengths = np.array([len(row.tokens) for row in rows], dtype=np.int64)
        if self._report.has_logprob:
            self._note(request, rows)
        logprobs, lists = None, (None, None)
        if request.report.has_logprob:
            logprobs = self._logprobs(rows, longest)
        if k := min(request.report.top, self._vocab):
            lists = _lists(rows, longest, k, own=not request.report.draws)
        return Reply(
            Prefix(request.prefix),
            read_only(tokens),
            read_only(lengths),
            logprobs,
            *lists,
            base_logprobs=logprobs if request.sampling.is_base else None,
        )

    def _note(self, request: Request, rows: Sequence[Drawn]) -> None:
        """Keep the log-probabilities of what was drawn."""
        for row in rows if request.report.draws else ():
            if row.listed is None:
                raise BackendError(f"{self._engine.name} left out the log-probabilities")
            nats = [places[token] for places, token in zip(row.listed, row.tokens, strict=True)]
            key = (request.prompt, request.prefix, tuple(row.tokens))
            self._noted.setdefault(key, []).append(nats)

    def _logprobs(self, rows: Sequence[Drawn], longest: int) -> FloatArray:
        """(n, L) nats of the drawn tokens."""
        found = np.zeros((len(rows), longest))
        for i, row in enumerate(rows):
            for t, (places, token) in enumerate(zip(row.listed or (), row.tokens, strict=True)):
                if (nats := places[token]) is None:
                    raise BackendError(
                        f"{self._engine.name} had no log-probability (NaN) of token {token}"
                    )
                found[i, t] = nats
        return read_only(found)


class _Reloaded(TrainerCallback):
    """After training the best checkpoint may have been loaded, at a step whose weights vLLM has had."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer._last_loaded_step = -1


def _within(report: Report, vocab: int) -> Report:
    """``report`` with a list no longer than the vocabulary."""
    return Report(report.kind, min(report.k, vocab)) if report.k else report


def _ended(request: Request, drawn: Drawn) -> Drawn:
    """A continuation up to the token that ends its output.

    Raises:
        BackendError: vLLM has ended it where no output ends.
    """
    stop, tokens = request.stop, drawn.tokens
    for i, token in enumerate(tokens):
        closes = token in stop.closing and stop.ends((*request.prefix, *tokens[: i + 1]))
        if token in stop.tokens or closes:
            listed = None if drawn.listed is None else drawn.listed[: i + 1]
            return Drawn(tokens[: i + 1], listed)
    if len(tokens) != request.length:
        raise BackendError(
            f"vLLM gave {len(tokens)} of {request.length} tokens, and no stop ends {tokens[-5:]}"
        )
    return drawn


def _lists(
    rows: Sequence[Drawn], longest: int, k: int, *, own: bool
) -> tuple[IntArray, FloatArray]:
    """((n, L, k) tokens, (n, L, k) nats), most likely first; with ``own`` the followed token first."""
    tokens = np.full((len(rows), longest, k), PAD, dtype=np.int64)
    nats = np.zeros((len(rows), longest, k))
    for i, row in enumerate(rows):
        for t, (places, token) in enumerate(zip(row.listed or (), row.tokens, strict=True)):
            known = [
                (-p, own and name != token, name) for name, p in places.items() if p is not None
            ]
            if len(known) < k:
                raise BackendError(f"vLLM listed {len(known)} of {k} tokens")
            for j, (below, _, name) in enumerate(sorted(known)[:k]):
                tokens[i, t, j], nats[i, t, j] = name, -below
    return read_only(tokens), read_only(nats)
