"""The vLLM of a trainer, colocated or behind a server, as TRL has made it: token ids in, token ids out.

What is asked together is drawn together. A colocated engine takes settings and a seed for each prompt,
a server one set of settings per call: there, prompts of equal settings share a call, and the calls are
made side by side.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ...contract import Sampling
from ...errors import BackendError

_CALLS = 16  # side by side
_MAX_LOGPROBS = 20  # vLLM's own default


@dataclass(frozen=True, slots=True)
class Settings:
    """How vLLM is to continue a prompt.

    Attributes:
        n: continuations.
        length: most tokens of each.
        law: what is drawn from; at temperature 0 the mode is followed.
        stop: tokens that end a continuation; no other token does.
        logprobs: how many of the most likely tokens are listed with each drawn one; ``None``: no
            log-probabilities, not of the drawn one either.
    """

    n: int
    length: int
    law: Sampling
    stop: tuple[int, ...]
    logprobs: int | None

    def named(self) -> dict[str, Any]:
        """By vLLM's names; what a model's own generation settings could change is said, too."""
        return {
            "n": self.n,
            "max_tokens": self.length,
            "temperature": self.law.temperature,
            "top_p": self.law.top_p,
            "top_k": self.law.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "logprobs": self.logprobs,
        }

    def ends(self) -> dict[str, Any]:
        """What ends a continuation, by vLLM's names."""
        return {"stop_token_ids": list(self.stop), "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, how it is to be continued, and the seed of its draws."""

    prompt: tuple[int, ...]
    settings: Settings
    seed: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A continuation.

    Attributes:
        tokens: of the continuation.
        listed: for each of them: token → nats, of the drawn token and of the most likely ones;
            ``None`` where vLLM had no number. ``None`` in all if none were asked.
    """

    tokens: list[int]
    listed: list[dict[int, float | None]] | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine was started with.

    Attributes:
        logprobs_mode: of what law its log-probabilities are.
        max_logprobs: most tokens that it lists; −1: all.
        max_length: most tokens of a prompt and its continuation; ``None``: it does not say.
    """

    logprobs_mode: str
    max_logprobs: int
    max_length: int | None


class Engine(ABC):
    """A trainer's vLLM.

    Attributes:
        name: in messages.
        seeded: whether draws follow ``Asked.seed``.
        limits: what it was started with.
    """

    name: str
    seeded: bool
    limits: Limits

    @abstractmethod
    def draw(self, asked: Sequence[Asked]) -> list[list[Drawn]]:
        """The continuations of each prompt.

        Raises:
            BackendError: vLLM failed; the message names it.
        """

    def rest(self) -> None:  # noqa: B027
        """Give up memory that is not needed until the next draw."""

    def renew(self) -> None:  # noqa: B027
        """Try again what has failed."""

    @contextlib.contextmanager
    def named(self, what: str) -> Iterator[None]:
        """What fails inside names the engine and what it was to do (``BackendError``)."""
        try:
            yield
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(
                f"{self.name} failed to {what}: {type(error).__name__}: {error}. The weights and the "
                "account are those of the last step; training goes on from the last checkpoint"
            ) from error


def engine_of(trainer: Any) -> Engine:
    """The engine that a trainer with ``use_vllm`` has made.

    Raises:
        BackendError: the server does not say what it was started with.
    """
    generation = trainer.vllm_generation
    return Server(generation) if generation.mode == "server" else Colocated(generation)


class Colocated(Engine):
    """``vllm.LLM`` in this process. It sleeps, where it is to, between steps and not between draws."""

    name = "the colocated vLLM"
    seeded = True

    def __init__(self, generation: Any) -> None:
        self._generation = generation
        self._awake = not generation.enable_sleep_mode
        config = generation.llm.llm_engine.model_config
        self.limits = Limits(
            "processed_logprobs",  # TRL starts it so
            getattr(config, "max_logprobs", _MAX_LOGPROBS),
            config.max_model_len,
        )

    def draw(self, asked: Sequence[Asked]) -> list[list[Drawn]]:
        from trl.generation import vllm_generation  # it has imported vLLM

        made: Any = vllm_generation.SamplingParams  # pyright: ignore

        with self.named("generate"):
            self._wake()
            found = self._generation.llm.generate(
                [{"prompt_token_ids": list(one.prompt)} for one in asked],
                sampling_params=[
                    made(**one.settings.named(), **one.settings.ends(), seed=one.seed)
                    for one in asked
                ],
                use_tqdm=False,
            )
            return [[self._drawn(output) for output in request.outputs] for request in found]

    @staticmethod
    def _drawn(output: Any) -> Drawn:
        listed = output.logprobs
        if listed is not None:
            listed = [{t: _number(p.logprob) for t, p in place.items()} for place in listed]
        return Drawn(list(output.token_ids), listed)

    def _wake(self) -> None:
        if self._awake:
            return
        if self._generation._llm_weights_sleeping:  # they were thrown away
            self._generation.sync_weights()
        self._generation.llm.wake_up(tags=["kv_cache"])
        self._awake = True

    def rest(self) -> None:
        if self._generation.enable_sleep_mode and self._awake:
            self._generation.llm.sleep(level=2)
            self._generation._llm_weights_sleeping = True
            self._awake = False


class Server(Engine):
    """A vLLM server, through TRL's client; each process of a training speaks to it by itself."""

    seeded = False

    def __init__(self, generation: Any) -> None:
        self._client = getattr(generation, "vllm_client", None)
        if self._client is None:  # TRL makes one in the main process alone
            from trl.generation.vllm_client import VLLMClient

            url = generation.server_base_url
            self._client = VLLMClient(
                base_url=url or f"http://{generation.server_host}:{generation.server_port}",
                connection_timeout=generation.server_timeout,
            )
        self.name = f"the vLLM server at {self._client.base_url}"
        self._lost: BackendError | None = None
        with self.named("say what it was started with"):
            config = self._client.get_server_info()["model_config"]
        self.limits = Limits(
            config["logprobs_mode"],
            config.get("max_logprobs", _MAX_LOGPROBS),
            config.get("max_model_len"),
        )

    def draw(self, asked: Sequence[Asked]) -> list[list[Drawn]]:
        alike: dict[Settings, list[int]] = {}
        for i, one in enumerate(asked):
            alike.setdefault(one.settings, []).append(i)
        found: list[list[Drawn]] = [[] for _ in asked]
        with ThreadPoolExecutor(max_workers=min(_CALLS, len(alike))) as pool:
            calls = [
                pool.submit(self._call, settings, [asked[i].prompt for i in members])
                for settings, members in alike.items()
            ]
            for members, call in zip(alike.values(), calls, strict=True):
                drawn = call.result()
                n = len(drawn) // len(members)
                for place, i in enumerate(members):
                    found[i] = drawn[place * n : (place + 1) * n]
        return found

    def _call(self, settings: Settings, prompts: Sequence[tuple[int, ...]]) -> list[Drawn]:
        """The continuations of all prompts, prompt by prompt."""
        if self._lost is not None:  # each attempt to reach it takes a minute
            raise self._lost
        try:
            with self.named("generate"):
                assert self._client is not None
                found = self._client.generate(
                    [list(prompt) for prompt in prompts],
                    **settings.named(),
                    generation_kwargs=settings.ends(),
                )
                return self._drawn(found, len(prompts) * settings.n)
        except BackendError as error:
            if isinstance(error.__cause__, OSError):
                self._lost = error
            raise

    def _drawn(self, found: dict[str, Any], count: int) -> list[Drawn]:
        tokens, numbers, ids = (
            found[key] for key in ("completion_ids", "logprobs", "logprob_token_ids")
        )
        if len(tokens) != count:
            raise BackendError(
                f"{self.name} gave {len(tokens)} continuations where {count} were asked"
            )
        if numbers is None:
            return [Drawn(list(row), None) for row in tokens]
        return [
            Drawn(
                list(row), [dict(zip(t, p, strict=True)) for t, p in zip(names, nats, strict=True)]
            )
            for row, names, nats in zip(tokens, ids, numbers, strict=True)
        ]

    def renew(self) -> None:
        self._lost = None


def _number(value: float) -> float | None:
    """``None`` for NaN, as TRL's client has it."""
    return value if value == value else None
