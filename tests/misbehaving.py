"""Clients of a server that behave, and clients that do not, on bare sockets of one event loop."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

ASK = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}
TURN = {"messages": [{"ask": [ASK]}]}
REFUSED = "insufficient_quota"


def request(key: str, method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """A request of HTTP/1.1; ``body`` is written as JSON unless it is bytes."""
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    told = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in told.items() if value]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass
class Load:
    """What clients do, and what has become of it.

    Attributes:
        port: of the server on loopback.
        problem, prompt: one that is served.
        until: end of the load, on the clock of ``time.monotonic``.
        pause: seconds between the requests of a good client.
        received: by key, tokens that its good clients were told they were charged.
        answers: of requests to good clients, by status.
        seconds: that each of those took.
        errors: connections of good clients that broke.
        bad: how often each kind of misbehaviour was done, and by status, what it was told.
    """

    port: int
    problem: str
    prompt: list[int]
    until: float
    pause: float
    received: Counter[str] = field(default_factory=Counter[str])
    answers: Counter[int] = field(default_factory=Counter[int])
    seconds: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])
    bad: Counter[str] = field(default_factory=Counter[str])

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    async def connect(self, receive: int | None = None) -> Line:
        """A connection; ``receive``: bytes that its socket takes before anybody reads."""
        line = socket.socket()
        if receive is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self.port))
        return Line(*await asyncio.open_connection(sock=line))


@dataclass
class Line:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> tuple[int, dict[str, Any]]:
        """Send a request; status and body of its answer."""
        self.writer.write(data)
        await self.writer.drain()
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        named = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        body = await self.reader.readexactly(int(named["content-length"]))
        return int(head[0].split()[1]), json.loads(body) if body[:1] == b"{" else {}

    @property
    def over(self) -> bool:
        """Whether the server has ended it."""
        return self.reader.at_eof() or self.writer.transport.is_closing()

    def cut(self) -> None:
        """End it without a word."""
        self.writer.transport.abort()


# ---- those that behave ---------------------------------------------------------------------------


async def good(load: Load, key: str, number: int) -> None:
    """Sessions of 50 turns, each closed, or completions; every token that is charged is counted."""
    line = await load.connect()
    try:
        while not load.over:
            work = _session if number % 2 else _completions
            await work(load, key, line)
    except (OSError, asyncio.IncompleteReadError, KeyError) as error:
        load.errors.append(f"{type(error).__name__}: {error}")
    finally:
        line.cut()


async def _timed(load: Load, line: Line, data: bytes) -> tuple[int, dict[str, Any]]:
    began = time.monotonic()
    status, body = await line.ask(data)
    load.seconds.append(time.monotonic() - began)
    load.answers[status] += 1
    await asyncio.sleep(load.pause)
    return status, body


async def _session(load: Load, key: str, line: Line) -> None:
    _, opened = await _timed(
        load, line, request(key, "POST", "/v1/sessions", {"problem": load.problem})
    )
    path, spent = f"/v1/sessions/{opened['session']}", 0
    for number in range(50):
        if load.over:
            break
        status, told = await _timed(
            load, line, request(key, "POST", f"{path}/turns/{number}", TURN)
        )
        if status == 200:
            now = told["answers"][0]["spent"]["tokens"]
            load.received[key], spent = load.received[key] + now - spent, now
    await _timed(load, line, request(key, "POST", f"{path}/close", {}))


async def _completions(load: Load, key: str, line: Line) -> None:
    for _ in range(50):
        if load.over:
            return
        body = {"prompt": load.prompt}
        status, told = await _timed(load, line, request(key, "POST", "/v1/completions", body))
        if status == 200:
            load.received[key] += told["usage"]["completion_tokens"]
        elif told["error"]["code"] != REFUSED:
            load.errors.append(f"{status}: {told}")


# ---- those that do not ---------------------------------------------------------------------------


async def slow_reader(load: Load, key: str) -> None:
    """Asks for much, and takes it byte by byte."""
    line = await load.connect(receive=2048)
    for _ in range(200):
        line.writer.write(request(key, "GET", "/openapi.json"))
    with suppress(asyncio.IncompleteReadError, OSError):
        while not load.over:
            await line.reader.readexactly(1)
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.2)
            line.writer.transport.resume_reading()  # type: ignore[attr-defined]
    line.cut()


async def half_open(load: Load, key: str) -> None:
    """Begins a request, and says no more."""
    whole = request(key, "POST", "/v1/completions", {"prompt": load.prompt})
    await _silent(load, random.choice([b"", whole[:20], whole[:-5]]))


async def _silent(load: Load, data: bytes) -> None:
    line = await load.connect()
    line.writer.write(data)
    with suppress(asyncio.IncompleteReadError, OSError, TimeoutError):
        await asyncio.wait_for(line.reader.readexactly(1), max(0.1, load.until - time.monotonic()))
    line.cut()


async def drips(load: Load, key: str) -> None:
    """Sends a request byte by byte."""
    line = await load.connect()
    with suppress(OSError):
        for byte in request(key, "POST", "/v1/completions", {"prompt": load.prompt}):
            if load.over or line.over:
                break
            line.writer.write(bytes([byte]))
            await asyncio.sleep(0.2)
    line.cut()


async def endless_headers(load: Load, key: str) -> None:
    """Headers without end."""
    line = await load.connect()
    line.writer.write(b"POST /v1/completions HTTP/1.1\r\n")
    with suppress(OSError):
        while not (load.over or line.over):
            line.writer.write(b"x: " + b"y" * 4096 + b"\r\n")
            await line.writer.drain()
            await asyncio.sleep(0)
    line.cut()


async def big_body(load: Load, key: str) -> None:
    """10 MB, said before or not."""
    line = await load.connect()
    if random.random() < 0.5:
        data = request(key, "POST", "/v1/sessions", b" " * (10 << 20))
    else:
        data = request(
            key, "POST", "/v1/sessions", b"", Content_Length="", Transfer_Encoding="chunked"
        )
        data += b"A00000\r\n" + b" " * (10 << 20) + b"\r\n0\r\n\r\n"
    await _told(load, "big_body", line, data)


async def bad_json(load: Load, key: str) -> None:
    """What is no JSON, or not what was asked for."""
    body = random.choice(
        [b"{", b"\xff\xfe", b"[]", b'{"messages": 3}', b"[" * 100_000, b'{"n": 1e999}']
    )
    data = request(key, "POST", random.choice(["/v1/completions", "/v1/sessions"]), body)
    await _told(load, "bad_json", await load.connect(), data)


async def wrong_key(load: Load, key: str) -> None:
    """Somebody else's key, or none."""
    data = request(f"rr-{random.random()}", "POST", "/v1/completions", {"prompt": load.prompt})
    await _told(load, "wrong_key", await load.connect(), data)


async def cancelled(load: Load, key: str) -> None:
    """Asks, and goes away before it is answered."""
    line = await load.connect()
    line.writer.write(request(key, "POST", "/v1/completions", {"prompt": load.prompt, "n": 4}))
    with suppress(OSError):
        await line.writer.drain()
    await asyncio.sleep(random.random() * 0.01)
    line.cut()


async def rubbish(load: Load, key: str) -> None:
    """A request with rubbish right behind it."""
    line = await load.connect()
    good_one = request(key, "POST", "/v1/completions", {"prompt": load.prompt})
    await _told(load, "rubbish", line, good_one * 3 + random.randbytes(3000))


async def _told(load: Load, what: str, line: Line, data: bytes) -> None:
    with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, KeyError):
        status, _ = await line.ask(data)
        load.bad[f"{what}: {status}"] += 1
    line.cut()


KINDS: tuple[Callable[[Load, str], Awaitable[None]], ...] = (
    *(slow_reader, half_open, drips, endless_headers, big_body),
    *(bad_json, wrong_key, cancelled, rubbish),
)


async def bad(load: Load, key: str, number: int) -> None:
    """One kind of misbehaviour after the other, until the load is over."""
    while not load.over:
        kind = KINDS[number % len(KINDS)]
        load.bad[kind.__name__] += 1
        with suppress(OSError):
            await kind(load, key)
        number += 1
        await asyncio.sleep(load.pause)


async def clients(load: Load, goods: list[str], bads: list[str], each: int) -> None:
    """So many of each sort, on those keys in turn, until the load is over."""
    await asyncio.gather(
        *(good(load, goods[i % len(goods)], i // len(goods)) for i in range(each)),
        *(bad(load, bads[i % len(bads)], i) for i in range(each)),
    )
