"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..access.session import Ask
from ..contract import Contract
from ..errors import InvalidInput, nearest
from ..generators.base import check_prefix
from ..randomness import learner_key
from ..types import Budget
from . import description, schemas
from .border import (
    App,
    Rates,
    answer,
    idempotency_key,
    key_of,
    read,
    refusal,
    refused_by_router,
    told_answer,
)
from .catalogue import Catalogue
from .desk import State
from .keys import Key, KeyFile
from .live import seed_of
from .openai import (
    Asked,
    chat_request,
    chunks_of,
    completion_of,
    completion_request,
    models_list,
)
from .schemas import MOST_TURNS, SESSION
from .sessions import NotFound
from .sizes import Size
from .tasks import Account, Close, Complete, Open, TakeTurn, Task
from .wire import message_from_json

log = logging.getLogger("reroot.serving")
_SOON = 0.1  # seconds until a line of the log is written
_LONG = 1 << 14  # tokens, or characters, with which the event loop is not to be kept
_MESSAGE = 64  # characters in whose time a message of a chat is put into the template
BEAT = 10.0
"""Seconds after which who waits for a streamed answer is sent a comment, so that nobody on the way gives up."""
_Handler = Callable[[Request, Key], Awaitable[Response]]
_T = TypeVar("_T")


class AnyDesk(Protocol):
    """A desk, as it is asked: in this process (``Desk``) or in another (``workers.Far``)."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def alive(self) -> bool: ...
    async def do(self, task: Task) -> dict[str, Any]: ...
    async def told(self, task: Task) -> bytes: ...
    async def state(self) -> State: ...
    def attend(self) -> None: ...
    def drain(self) -> None: ...


def application(desk: AnyDesk, keys: KeyFile, beat: float = BEAT) -> Starlette:
    """The service of a desk, for the holders of keys; when it ends, the desk is drained.

    Args:
        desk: what answers.
        keys: who may ask.
        beat: seconds between the comments of a stream that has nothing to tell yet.
    """
    service = _Service(desk, keys, beat)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        desk.attend()
        yield
        service.write_log()
        await asyncio.to_thread(desk.drain)

    app = Starlette(
        routes=service.routes(),
        lifespan=lifespan,
        exception_handlers={HTTPException: refused_by_router},
    )
    app.router.redirect_slashes = False
    return app


class _Service:
    def __init__(self, desk: AnyDesk, keys: KeyFile, beat: float) -> None:
        self._desk, self._keys, self._rates = desk, keys, Rates()
        self._beat = beat
        self._catalogue = desk.catalogue
        self._about = desk.catalogue.about(desk.secret)
        self._answers: Counter[tuple[str, int]] = Counter()
        self._description = answer(description.openapi())
        self._lines: list[str] = []
        self._seconds = 0.0

    def routes(self) -> list[Route]:
        """All paths."""
        keyed: list[tuple[str, str, _Handler]] = [  # looked through in this order
            ("POST", "/v1/sessions/{session}/turns/{number}", self._turn),
            ("POST", "/v1/completions", self._completion),
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/sessions", self._open),
            ("POST", "/v1/sessions/{session}/close", self._close),
            ("GET", "/v1/sessions/{session}", self._account),
            ("GET", "/v1/account", self._account),
            ("GET", "/v1/problems", self._problems),
            ("POST", "/v1/decode", self._decode),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{model:path}", self._model),
        ]
        return [
            *(Route(path, self._let_in(path, do), methods=[method]) for method, path, do in keyed),
            Route("/openapi.json", self._openapi),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
        ]

    def _let_in(self, path: str, handler: _Handler) -> ASGIApp:
        """For holders of keys alone. What is logged has no word of what was asked or answered."""

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            began, name = time.perf_counter(), None
            try:
                key = key_of(request, self._keys, self._rates)
                name = key.name
                response = await handler(request, key)
            except Exception as error:
                response = _refused(error)
            seconds = time.perf_counter() - began
            self._answers[path, response.status_code] += 1
            self._seconds += seconds
            who = "null" if name is None else f'"{name}"'  # nothing here is to be escaped
            what = f'"key": {who}, "method": "{request.method}", "path": "{path}"'
            self._note(f'{{{what}, "status": {response.status_code}, "ms": {1000 * seconds:.1f}}}')
            await response(scope, receive, send)

        return App(handle)

    def _note(self, line: str) -> None:
        """Have a line logged, together with those that come soon."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(_SOON, self.write_log)

    def write_log(self) -> None:
        """Log what is to be logged."""
        lines, self._lines = self._lines, []
        if lines:
            log.info("%s", "\n".join(lines))

    # ---- sessions --------------------------------------------------------------------------------

    async def _open(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.OpenSession)
        budget = _budget(body.budget)
        contract = key.grants if body.contract is None else Contract.parse(body.contract).resolved
        terms = {
            "problem": body.problem,
            "contract": str(contract),
            "budget": budget.to_dict(),
            "seed": body.seed,
            "learner": body.learner,
            "key": body.problem if body.key is None else body.key,
        }
        session = _name(request, key, "session")
        # stretching a seed that is new takes milliseconds, which are not the desk's
        await asyncio.to_thread(learner_key, seed_of(body.seed, key, self._desk.secret), "")
        return told_answer(await self._desk.told(Open(key, session=session, terms=terms)), 201)

    async def _turn(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.Turn)
        messages = [message_from_json(message) for message in body.messages]
        session, number = _session(request), _number(request.path_params["number"])
        task = TakeTurn(key, session=session, number=number, messages=messages)
        return told_answer(await self._desk.told(task))

    async def _close(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.CloseSession)
        task = Close(key, session=_session(request), ended=body.model_dump())
        return told_answer(await self._desk.told(task))

    async def _account(self, request: Request, key: Key) -> Response:
        named = "session" in request.path_params
        task = Account(key, session=_session(request) if named else None)
        return told_answer(await self._desk.told(task))

    # ---- what is served --------------------------------------------------------------------------

    async def _problems(self, request: Request, key: Key) -> Response:
        told = {**self._about, "grants": str(key.grants), "results": key.results}
        return answer({"about": told, "problems": self._catalogue.problems})

    async def _decode(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.Decode)
        generator = self._catalogue.generator
        length = sum(map(len, body.sequences))
        Size(tokens=length).check(key)
        for tokens in body.sequences:
            check_prefix(tokens, generator.vocab_size)
        texts = await _aside(
            length, lambda: [generator.decode(tokens) for tokens in body.sequences]
        )
        return answer({"texts": texts})

    async def _models(self, request: Request, key: Key) -> Response:
        return answer(models_list(self._catalogue))

    async def _model(self, request: Request, key: Key) -> Response:
        self._check_model(request.path_params["model"])
        return answer(models_list(self._catalogue)["data"][0])

    # ---- OpenAI's clients ------------------------------------------------------------------------

    async def _completion(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.Completion)
        self._check_model(body.model)
        length = _characters(body.prompt)
        asked = await _aside(length, lambda: completion_request(body, self._catalogue, key))
        return await self._complete(request, key, asked)

    async def _chat(self, request: Request, key: Key) -> Response:
        body = await read(request, schemas.ChatCompletion)
        self._check_model(body.model)
        length = sum(_MESSAGE + _characters(message.content) for message in body.messages)
        asked = await _aside(length, lambda: chat_request(body, self._catalogue, key))
        return await self._complete(request, key, asked)

    def _check_model(self, model: str) -> None:
        served = self._catalogue.model
        if model not in ("", served):
            raise NotFound(f"there is no model {model!r:.200} here, there is {served!r}")

    async def _complete(self, request: Request, key: Key, asked: Asked) -> Response:
        session = _name(request, key, "completion")
        # drawn anew where no seed is given; the same request under one idempotency key is one
        seed = int(hashlib.sha256(session.encode()).hexdigest()[:15], 16)
        problem = asked.episode.problem.id
        terms = {
            "problem": problem,
            "contract": str(key.grants),
            "budget": {},
            "seed": seed if asked.seed is None else asked.seed,
            "learner": asked.kind,
            "key": problem,
        }
        own = asked.episode if asked.own else None
        message = Ask((asked.query,))
        task = Complete(
            key, session=session, number=0, messages=[message], terms=terms, episode=own
        )
        body = self._completed(asked, task)
        if not asked.stream:
            return answer(await body)
        work = asyncio.ensure_future(body)
        await asyncio.wait({work}, timeout=self._beat)
        # what is refused at once is refused as it is without a stream
        told = chunks_of(asked, work.result()) if work.done() else self._late(asked, work)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(told, headers=headers, media_type="text/event-stream")

    async def _completed(self, asked: Asked, task: Complete) -> dict[str, Any]:
        """The body of an answer, when all of it is written down."""
        told = await self._desk.do(task)
        kind = "chatcmpl" if asked.kind == "chat.completion" else "cmpl"
        length = asked.query.n * asked.episode.horizon
        name = f"{kind}-{task.session[:24]}"
        return await _aside(length, lambda: completion_of(asked, told, self._catalogue, name))

    async def _late(
        self, asked: Asked, work: asyncio.Future[dict[str, Any]]
    ) -> AsyncGenerator[str]:
        """The events of an answer that is not there yet: comments until it is, or an error as an event."""
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        while not work.done():
            yield ": waiting\n\n"
            await asyncio.wait({work}, timeout=self._beat)
        error = work.exception()
        if error is not None:
            yield f"data: {bytes(_refused(error).body).decode()}\n\n"
            return
        for chunk in chunks_of(asked, work.result()):
            yield chunk

    # ---- for whoever runs it ---------------------------------------------------------------------

    async def _openapi(self, request: Request) -> Response:
        return self._description

    async def _health(self, request: Request) -> Response:
        return answer({"service": "reroot"})

    async def _ready(self, request: Request) -> Response:
        alive = self._desk.alive
        return answer({"ready": alive}, 200 if alive else 503)

    async def _metrics(self, request: Request) -> Response:
        lines = ["# TYPE reroot_requests_total counter"]
        for (path, status), count in sorted(self._answers.items()):
            lines.append(f'reroot_requests_total{{path="{path}",status="{status}"}} {count}')
        desk = await self._desk.state()
        numbers = {
            "reroot_request_seconds_total": ("counter", self._seconds),
            "reroot_rounds_total": ("counter", desk.rounds),
            "reroot_answered_total": ("counter", desk.answered),
            "reroot_waiting": ("gauge", desk.waiting),
            **{f"reroot_generator_{k}": ("gauge", v) for k, v in desk.physical.items()},
        }
        for name, (kind, value) in numbers.items():
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        return PlainTextResponse("\n".join(lines) + "\n")


def _refused(error: BaseException) -> Response:
    """The answer to what was refused, or failed, which is logged."""
    response = refusal(error)
    if response.status_code == 500:
        log.error("a request failed: %s", type(error).__name__, exc_info=error)
    return response


async def _aside(length: int, make: Callable[[], _T]) -> _T:
    """What ``make`` gives; by another thread if it has ``length`` tokens or characters to go through."""
    return make() if length < _LONG else await asyncio.to_thread(make)


def _characters(content: Any) -> int:
    """Characters or tokens of a text, tokens, or a list of either, or of parts of a message."""
    if isinstance(content, (str, schemas.TextPart)):
        return len(content if isinstance(content, str) else content.text)
    return sum(1 if isinstance(part, int) else _characters(part) for part in content)


def _name(request: Request, key: Key, kind: str) -> str:
    """What a session is called: by the request's idempotency key, where it has one."""
    given = idempotency_key(request)
    if given is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{key.name}\x1f{kind}\x1f{given}".encode()).hexdigest()[:32]


def _session(request: Request) -> str:
    """Which session a path names; what no session is called there is not (``NotFound``)."""
    session = request.path_params["session"]
    if not re.fullmatch(SESSION, session):
        raise NotFound(f"there is no session {session!r:.80} of this key")
    return session


def _number(text: str) -> int:
    """Which turn a path names (``NotFound``)."""
    number = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else MOST_TURNS + 1
    if number > MOST_TURNS:
        raise NotFound(f"there is no turn {text!r:.80}")
    return number


def _budget(limits: dict[str, Any]) -> Budget:
    for currency in limits:
        if currency not in Budget.__dataclass_fields__:
            known = list(Budget.__dataclass_fields__)
            raise InvalidInput(f"a budget limits no {currency!r:.80}.{nearest(currency, known)}")
    return Budget(**limits)
