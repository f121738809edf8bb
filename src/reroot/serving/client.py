"""The client: the same sessions for the same learners, held by a server."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..access.attempt import Attempt, Job
from ..access.attempt_json import attempt_from_json
from ..access.episode import Episode
from ..access.learner_thread import Finished
from ..access.session import Message
from ..access.transcript import DAMAGED, message_to_json
from ..access.wall import Opened, Told, Wall
from ..contract import Contract, Control, Oracle, Report
from ..errors import BackendError, InvalidInput, OracleError, nearest, need
from ..generators.base import Capabilities, Request
from ..generators.stops import Stop
from ..tasks.base import Problem
from ..types import FloatArray, Output, Physical, Reply, as_tokens
from ..types.account import Prices
from .wire import (
    answer_from_json,
    equality_from_json,
    error_from_json,
    facts_from_json,
    line_from_json,
    stop_from_json,
)

if TYPE_CHECKING:
    import httpx2

PATIENCE = 120.0
"""Seconds for which a request is tried again while the server is away, or has no place."""


def connect(url: str, key: str, *, patience: float = PATIENCE, connections: int = 64) -> Served:
    """What a server serves to the holder of a key: a generator for ``reroot.run``, and its problems.

    Args:
        url: the server, as in ``http://127.0.0.1:8000``.
        key: the key; it is kept in memory alone.
        patience: seconds for which a request is tried again while the server cannot be reached or says
            that it has no place; whatever it has done already it tells again, and charges once.
        connections: requests at a time.

    Raises:
        InvalidInput: the key is not accepted, or no such server is there.
        BackendError: it cannot be reached.
        MissingDependency: httpx2 is not installed.
    """
    return Served(Post(url, key, patience), connections)


class Post:
    """Requests to one server, by one key, tried again while there is hope."""

    def __init__(self, url: str, key: str, patience: float) -> None:
        need("serve", "httpx2")
        import httpx2

        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"a server is named http://HOST:PORT, got {url!r}")
        self.url = url.rstrip("/")
        self._patience = patience
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(600.0, connect=10.0),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
            trust_env=not url.startswith(("http://127.", "http://localhost")),
        )

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, once: str | None = None
    ) -> dict[str, Any]:
        """The answer to a request.

        Args:
            method, path, body: of the request.
            once: its idempotency key.

        Raises:
            RerootError: what the server says, or that it cannot be reached.
        """
        import httpx2

        headers = {} if once is None else {"Idempotency-Key": once}
        # not httpx's own: it takes no infinities and no lone surrogates, which learners may return
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode("ascii")
        if content is not None:
            headers["Content-Type"] = "application/json"
        until, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                response = self._client.request(
                    *(method, self.url + path), content=content, headers=headers
                )
                wait = self._wait(response)
                if wait is None:
                    return self._content(response)
                problem = f"it says: {response.status_code}"
            except httpx2.TransportError as error:
                wait, problem = pause, f"{type(error).__name__}: {error}"
            if time.monotonic() + wait > until:
                raise BackendError(f"the server {self.url} cannot be reached: {problem}")
            time.sleep(wait)
            pause = min(2 * pause, 2.0)

    @staticmethod
    def _wait(response: httpx2.Response) -> float | None:
        """Seconds after which to ask again; ``None``: this is its answer."""
        after = response.headers.get("retry-after", "")
        if response.status_code in (429, 503) and after.isdecimal():
            return float(after)
        return 0.5 if response.status_code in (502, 503, 504) else None

    def _content(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            content = response.json()
            if response.status_code < 400:
                return content
            said = content["error"]
            told, message = said.get("reroot"), f"{self.url} says: {said['message']}"
        except (ValueError, *DAMAGED):
            raise BackendError(
                f"{self.url} is no 'reroot serve': it answers {response.status_code} to "
                f"{response.request.url.path}"
            ) from None
        if told is not None:
            raise error_from_json(told)
        kind = InvalidInput if response.status_code in (400, 401, 404, 410) else BackendError
        raise kind(message)

    def close(self) -> None:
        self._client.close()


def _behind(output: Output) -> float:
    raise OracleError("the judges of a served problem are at its server")


class _Line:
    """A session at the server."""

    def __init__(self, post: Post, pool: ThreadPoolExecutor, session: str) -> None:
        self._post, self._pool, self._path = post, pool, f"/v1/sessions/{session}"
        self._turns = 0
        self._sent: list[Message] = []

    def turn(self, messages: Sequence[Message]) -> Future[list[Told]]:
        number, self._turns = self._turns, self._turns + 1
        self._sent += messages
        body = {"messages": [message_to_json(message) for message in messages]}
        return self._pool.submit(self._turn, f"{self._path}/turns/{number}", body)

    def _turn(self, path: str, body: dict[str, Any]) -> list[Told]:
        content = self._post.ask("POST", path, body)
        try:
            return [self._told(one) for one in content["answers"]]
        except DAMAGED as error:
            raise BackendError(f"the server sent no answers: {error}") from None

    def _told(self, one: dict[str, Any]) -> Told:
        line = line_from_json(one["line"])
        ticket = line["i"]
        return Told(ticket, answer_from_json(self._sent[ticket], one), line)

    def close(self, finished: Finished) -> Future[Attempt]:

        error = finished.error
        body = {
            "output": None if finished.output is None else list(finished.output.tokens),
            "metadata": finished.metadata,
            "error": None if error is None else error.to_json(),
            "out_of_budget": finished.out_of_budget,
        }
        return self._pool.submit(self._close, body)

    def _close(self, body: dict[str, Any]) -> Attempt:
        content = self._post.ask("POST", f"{self._path}/close", body)
        try:
            return attempt_from_json(content["attempt"])
        except DAMAGED as error:
            raise BackendError(f"the server sent no attempt: {error}") from None


class Served(Wall):
    """A generator behind a server's wall, with the problems that are served; made by ``connect``.

    What can be had of it is had through sessions: it answers no requests, and gives no laws.
    """

    def __init__(self, post: Post, connections: int = 64) -> None:
        self._post, self._pool = post, ThreadPoolExecutor(connections, "reroot-served")
        content = post.ask("GET", "/v1/problems")
        try:
            self._about, self._told = content["about"], content["problems"]
            self._capabilities = _capabilities(self._about["capabilities"])
            self._grants = Contract.parse(self._about["grants"]).resolved
            self._results = bool(self._about["results"])
            self._problems = {told["id"]: _problem(told) for told in self._told}
        except DAMAGED as error:
            raise BackendError(f"{post.url} is no 'reroot serve': {error}") from None
        self._stops = {told["id"]: told for told in self._told}
        self._texts: dict[tuple[int, ...], str] = {}
        self._lock = threading.Lock()

    # ---- problems and sessions -------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """The problems that are served, for ``reroot.run``; their judges are at the server."""
        return list(self._problems.values())

    def places(self) -> list[tuple[str, int, int, Problem]]:
        """(task, horizon, seed, problem) of each problem, as comparisons order them."""
        return [
            (told["task"], told["horizon"], told["seed"], self._problems[told["id"]])
            for told in self._told
        ]

    def bind(self, problem: Problem) -> Episode:
        """A problem that is served, as tokens (``InvalidInput``: it is not)."""
        told = self._stops.get(problem.id)
        if told is None:
            raise InvalidInput(
                f"{self._post.url} serves no problem {problem.id!r}.{nearest(problem.id, self._stops)}"
            )
        stop, prompt = stop_from_json(told["stop"]), as_tokens(told["prompt_tokens"])
        return Episode(problem, self, prompt, stop, told["max_tokens"], None)

    def open_session(self, job: Job) -> Future[Opened]:
        """Open a session for an attempt. The future fails by a ``RerootError``."""
        body = {
            "problem": job.episode.problem.id,
            "contract": str(job.contract.resolved),
            "budget": job.budget.to_dict(),
            "seed": job.seed,
            "learner": job.learner.label,
            "key": job.key,
        }
        return self._pool.submit(self._open, body)

    def _open(self, body: dict[str, Any]) -> Opened:
        content = self._post.ask("POST", "/v1/sessions", body, once=secrets.token_hex(16))
        try:
            line = _Line(self._post, self._pool, content["session"])
            return Opened(line, facts_from_json(content["facts"]), content["head"])
        except DAMAGED as error:
            raise BackendError(f"the server opened no session: {error}") from None

    def account(self) -> dict[str, Any]:
        """What the key was charged, has reserved and has left."""
        return self._post.ask("GET", "/v1/account")

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._post.close()

    @property
    def url(self) -> str:
        """The address."""
        return self._post.url

    @property
    def grants(self) -> Contract:
        return self._grants

    @property
    def results(self) -> bool:
        return self._results

    # ---- as a generator --------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return self._about["vocab_size"]

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def end_token(self) -> int | None:
        return self._about["end_token"]

    def max_length(self) -> int | None:
        return self._about["max_length"]

    def decode(self, tokens: Sequence[int]) -> str:
        known = self._texts.get(tuple(tokens))
        if known is not None:
            return known
        body = {"sequences": [list(tokens)]}
        text = str(self._post.ask("POST", "/v1/decode", body)["texts"][0])
        with self._lock:
            if len(tokens) == 1 or len(self._texts) < 10_000:
                self._texts[tuple(tokens)] = text
        return text

    def encode(self, text: str) -> tuple[int, ...]:
        raise InvalidInput("a server takes its own problems, as 'problems()' has them")

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        raise InvalidInput("a server takes tokens, not texts")

    def stops(self, texts: Sequence[str]) -> Stop:
        raise InvalidInput("the stop texts of served problems are their own")

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if not requests:
            return []
        raise InvalidInput("a server answers sessions, not requests: use reroot.run or compare")

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        raise InvalidInput("a server gives no laws but what a session's contract grants")

    def physical(self) -> Physical:
        """Nothing is computed here."""
        return Physical()

    def describe(self) -> Mapping[str, object]:
        return {"kind": "served", "model": self._about["model"], "mark": self._about["mark"]}


def _capabilities(told: dict[str, Any]) -> Capabilities:
    prices = told["prices"]
    return Capabilities(
        Control.parse(told["control"]),
        Report.parse(told["report"]),
        told["sampling"],
        told["forced"],
        told["hidden"],
        None if prices is None else Prices(**prices),
    )


def _problem(told: dict[str, Any]) -> Problem:
    """A problem without its judges; of those it says which there are."""
    oracles = {Oracle.parse(name) for name in told["oracles"]}
    prompt = told["prompt"]
    return Problem(
        told["id"],
        tuple(told["prompt_tokens"]) if prompt is None else prompt,
        told["max_tokens"],
        _behind,
        verifier=_behind if Oracle.VERIFIER in oracles else None,  # type: ignore[arg-type]
        demonstration=() if Oracle.DEMONSTRATION in oracles else None,
        horizon=told["size"],
        pass_at=told["pass_at"],
        value=_behind if Oracle.VALUE in oracles else None,
        equality=equality_from_json(told["equality"]),  # type: ignore[arg-type]
        group=told["group"],
        cluster=told["cluster"],
    )
