"""A vLLM that runs anywhere: the part of the package that TRL uses, over a small model's own weights.

Colocated it is ``LLM``; as a server it speaks HTTP on a real socket, to TRL's own client. Weights travel over
the socket, too, where NCCL would carry them. Draws are those of vLLM in law, and in that seed + i keys
continuation i of a prompt; without a seed they depend on the engine's seed, the weights, the prompt and on
how often it was asked since the weights changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
import torch

VERSION = "0.27.0"


@dataclass
class SamplingParams:
    """What TRL and reroot set of it; anything else is a TypeError, as in vLLM."""

    n: int = 1
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    seed: int | None = None
    structured_outputs: Any = None

    def __post_init__(self) -> None:
        assert self.min_p == 0.0
        assert self.repetition_penalty == 1.0
        assert self.structured_outputs is None
        assert self.n == 1 or self.temperature > 0


@dataclass
class Logprob:
    logprob: float
    rank: int


@dataclass
class Output:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[Output]


@dataclass
class Engine:
    """The model, how it draws, and what it was asked.

    Attributes:
        model: its own copy of the weights.
        counts: whether draws depend on how often weights came instead of what they are.
        deaf: whether new weights are thrown away.
        seeds: whether the seeds of requests are followed.
        calls: (prompts, settings of each) of every call.
        loaded: how often weights were taken.
    """

    model: Any
    seed: int = 0
    logprobs_mode: str = "processed_logprobs"
    max_logprobs: int = 20
    max_model_len: int = 48
    deaf: bool = False
    counts: bool = False
    seeds: bool = True
    calls: list[tuple[list[list[int]], list[SamplingParams]]] = field(default_factory=list[Any])
    loaded: int = 0
    _asked: Counter[tuple[int, ...]] = field(default_factory=Counter[Any])
    _logits: dict[tuple[int, ...], Any] = field(default_factory=dict[Any, Any])

    def load(self, weights: Sequence[tuple[str, Any]]) -> None:
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in weights:
                if not self.deaf:
                    own[name].copy_(value)
        self._asked.clear()
        self._logits.clear()

    def generate(
        self, prompts: list[list[int]], settings: list[SamplingParams]
    ) -> list[RequestOutput]:
        self.calls.append((prompts, settings))
        weights = hashlib.sha256(str(self.loaded).encode())
        if not self.counts:
            weights = hashlib.sha256()
            for value in self.model.state_dict().values():
                weights.update(value.numpy().tobytes())
        pairs = zip(prompts, settings, strict=True)
        return [RequestOutput(p, self._continued(p, s, weights.digest())) for p, s in pairs]

    @torch.inference_mode()
    def _continued(self, prompt: list[int], given: SamplingParams, weights: bytes) -> list[Output]:
        assert all(type(token) is int for token in prompt)
        if len(prompt) + given.max_tokens > self.max_model_len:
            raise ValueError(f"more than {self.max_model_len} tokens")
        if given.logprobs is not None and given.logprobs > self.max_logprobs >= 0:
            raise ValueError(f"more than {self.max_logprobs} logprobs")
        ids = torch.tensor([prompt] * given.n)
        noise = [self._noise(prompt, i, given.seed, weights) for i in range(given.n)]
        listed: list[list[dict[int, Logprob]]] = [[] for _ in noise]
        for _ in range(given.max_tokens):
            logits = torch.stack([self._after(tuple(row)) for row in ids.tolist()])
            law = _processed(logits, given)
            races = torch.stack(
                [torch.empty(law.shape[1]).exponential_(generator=g) for g in noise]
            )
            drawn = (law.exp() / races).argmax(1) if given.temperature else logits.argmax(1)
            shown = law if self.logprobs_mode.startswith("processed") else logits.log_softmax(-1)
            for row in range(given.n):
                listed[row].append(_listed(shown[row], int(drawn[row]), given.logprobs))
            ids = torch.cat([ids, drawn[:, None]], dim=1)
        ends = {*(given.stop_token_ids or ()), *([] if given.ignore_eos else [1])}
        outputs = []
        for row in range(given.n):
            tokens = ids[row, len(prompt) :].tolist()
            stop = next((i + 1 for i, t in enumerate(tokens) if t in ends), len(tokens))
            shown = None if given.logprobs is None else listed[row][:stop]
            outputs.append(Output(tokens[:stop], shown))
        return outputs

    def _after(self, tokens: tuple[int, ...]) -> Any:
        """(K,) logits, the same to the bit whatever is asked beside them."""
        if tokens not in self._logits:
            found = self.model(torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
            self._logits[tokens] = found
        return self._logits[tokens]

    def _noise(self, prompt: list[int], i: int, seed: int | None, weights: bytes) -> Any:
        if seed is None or not self.seeds:
            asked = self._asked[tuple(prompt)]
            self._asked[tuple(prompt)] += 1
            text = f"{self.seed} {prompt} {asked}".encode() + weights
            seed = int.from_bytes(hashlib.sha256(text).digest()[:7])
        else:
            seed += i
        return torch.Generator().manual_seed(seed)


def _processed(logits: Any, given: SamplingParams) -> Any:
    """The law that draws follow; at temperature 0 the model's, as vLLM reports it."""
    scores = logits / (given.temperature or 1.0)
    if given.top_k:
        least = scores.topk(min(given.top_k, scores.shape[1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    if given.top_p < 1.0:
        ordered, places = scores.softmax(-1).sort(descending=True)
        dropped = ordered.cumsum(-1) - ordered >= given.top_p
        scores = scores.masked_fill(dropped.gather(1, places.argsort(1)), -math.inf)
    return scores.log_softmax(-1)


def _listed(law: Any, drawn: int, count: int | None) -> dict[int, Logprob]:
    best = law.topk(min(count or 0, len(law))).indices.tolist()
    ranks = {token: i + 1 for i, token in enumerate(best)}
    ranks.setdefault(drawn, int((law > law[drawn]).sum()) + 1)
    return {token: Logprob(float(law[token]), rank) for token, rank in ranks.items()}


class Colocated:
    """``vllm.LLM``."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(
                name, None
            )  # TRL sets them for a real one, and trainers to come would follow
        assert settings["logprobs_mode"] == "processed_logprobs"
        self.engine, self.settings = engine, settings
        self.awake = {"weights", "kv_cache"}
        limits = {"max_model_len": engine.max_model_len, "max_logprobs": engine.max_logprobs}
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(**limits), model_executor=worker
        )

    def _load(self, weights: list[tuple[str, Any]]) -> None:
        assert "weights" in self.awake
        self.engine.load(weights)

    def generate(self, prompts: Any, sampling_params: Any, use_tqdm: bool) -> list[RequestOutput]:
        assert self.awake == {"weights", "kv_cache"}
        if not isinstance(sampling_params, list):
            sampling_params = [sampling_params] * len(prompts)
        return self.engine.generate([p["prompt_token_ids"] for p in prompts], sampling_params)

    def reset_prefix_cache(self) -> None:
        self.engine.loaded += 1

    def sleep(self, level: int) -> None:
        assert level == 2
        self.awake = set()
        with torch.no_grad():
            for weight in self.engine.model.parameters():
                weight.zero_()
        self.engine._logits.clear()

    def wake_up(self, tags: list[str]) -> None:
        self.awake |= set(tags)


class Handler(BaseHTTPRequestHandler):
    """What TRL's client asks of ``vllm serve``."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        engine = self.server.engine
        known: dict[str, Any] = {
            "/health": {},
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/get_world_size": {"world_size": 1},
            "/server_info": {
                "vllm_config": {
                    "weight_transfer_config": {"backend": "nccl"},
                    "model_config": {
                        "logprobs_mode": engine.logprobs_mode,
                        "max_logprobs": engine.max_logprobs,
                        "max_model_len": engine.max_model_len,
                    },
                }
            },
        }
        self._reply(known[self.path.partition("?")[0]])

    def do_POST(self) -> None:
        if self.server.dead:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/tensors":
            self.server.weights.put(torch.load(io.BytesIO(body)))
            self._reply({})
            return
        asked = json.loads(body or b"{}")
        if self.path == "/v1/completions":
            with self.server.lock:
                self._reply({"choices": self._choices(asked)})
            return
        if self.path == "/update_weights":
            sent = self.server.weights.get(timeout=10)
            assert [name for name, _ in sent] == asked["update_info"]["names"]
            self.server.engine.load(sent)
        elif self.path == "/reset_prefix_cache":
            self.server.engine.loaded += 1
        self._reply({"success": True})

    def _choices(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        names = SamplingParams.__dataclass_fields__
        settings = SamplingParams(**{k: v for k, v in asked.items() if k in names})
        unknown = set(asked) - set(names) - {"model", "prompt"}
        assert unknown == {"return_token_ids", "return_tokens_as_token_ids"}
        found = self.server.engine.generate(asked["prompt"], [settings] * len(asked["prompt"]))
        return [_choice(one, output) for one in found for output in one.outputs]

    def _reply(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def _choice(one: RequestOutput, output: Output) -> dict[str, Any]:
    shown = None
    if output.logprobs is not None:
        tops = [
            {f"token_id:{t}": max(p.logprob, -9999.0) for t, p in place.items()}
            for place in output.logprobs
        ]
        drawn = [f"token_id:{t}" for t in output.token_ids]
        nats = [top[t] for top, t in zip(tops, drawn, strict=True)]
        shown = {"tokens": drawn, "token_logprobs": nats, "top_logprobs": tops}
    ids = {"prompt_token_ids": one.prompt_token_ids, "token_ids": output.token_ids}
    return {**ids, "logprobs": shown}


class Server(ThreadingHTTPServer):
    """An engine behind a socket of this machine."""

    daemon_threads = True

    def __init__(self, engine: Engine) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.engine, self.lock = engine, threading.Lock()
        self.weights: queue.Queue[list[tuple[str, Any]]] = queue.Queue()
        self.dead = False

    def die(self) -> None:
        """Answer nobody any more."""
        self.dead = True
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(engine: Engine) -> Iterator[Server]:
    """The engine behind a socket while the block runs."""
    server = Server(engine)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def install(patch: pytest.MonkeyPatch, engine: Callable[[], Engine]) -> None:
    """Be the package ``vllm`` until ``patch`` is undone; colocated engines are made by ``engine``."""
    from trl.generation import vllm_client, vllm_generation

    def llm(**settings: Any) -> Colocated:
        return Colocated(engine(), **settings)

    package = ModuleType("vllm")
    package.__spec__ = ModuleSpec("vllm", None)
    known = {"LLM": llm, "SamplingParams": SamplingParams, "RequestOutput": RequestOutput}
    vars(package).update(known, __version__=VERSION)
    patch.setitem(sys.modules, "vllm", package)
    for name, value in known.items():
        patch.setattr(vllm_generation, name, value, raising=False)
    # a rank of NCCL needs CUDA; here the tensors are posted
    patch.setattr(vllm_client.VLLMClient, "init_communicator", _join)
    patch.setattr(vllm_client, "NCCLWeightTransferEngine", _Transfer, raising=False)
    patch.setattr(vllm_client, "NCCLTrainerSendWeightsArgs", SimpleNamespace, raising=False)


def _join(client: Any, device: Any) -> None:
    assert client.get_server_info()["weight_transfer_config"] is not None
    assert torch.device(device).type == "cpu"
    client.communicator = client.base_url


class _Transfer:
    @staticmethod
    def trainer_send_weights(iterator: Iterator[tuple[str, Any]], trainer_args: Any) -> None:
        body = io.BytesIO()
        torch.save([(name, value.clone()) for name, value in iterator], body)
        asked = Request(f"{trainer_args.group}/tensors", data=body.getvalue(), method="POST")
        with urlopen(asked, timeout=10) as found:
            assert found.status == 200
