"""Under load: clients that misbehave harm nobody; keys wait for their own queues alone."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from misbehaving import KINDS, Line, Load, clients, request
from reroot import Budget
from reroot.families import HiddenPath
from reroot.tasks.base import Problem
from serving_toys import Server, serving

PATIENCE = 1.0


def family() -> tuple[HiddenPath, list[Problem]]:
    path = HiddenPath(3, 4, 0.6, seed=1)
    return path, [path.problem(id="p0")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def account(server: Server, key: str) -> dict[str, dict[str, int]]:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(server.url + "/v1/account", headers=headers, trust_env=False).json()


def until(true: object, seconds: float = 20.0) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow(12)
def test_clients_that_misbehave_take_nothing_from_the_others(tmp_path: Path) -> None:
    """16 clients that behave and 16 that do not, for 8 seconds: every token that was charged to the good
    ones they have received, the small budget is used up and not overspent, and no connection is left."""
    path, task = family()
    with serving(path, task, tmp_path, patience=PATIENCE) as server:
        limits = {"rich": 10**6, "poor": 300, "bad": 2000}
        keys = {
            name: server.key(name, "root/sample+reward", Budget(tokens=tokens))
            for name, tokens in limits.items()
        }
        before = descriptors()
        port = int(server.url.rsplit(":", 1)[1])
        load = Load(port, "p0", [], time.monotonic() + 8.0, 0.02)
        asyncio.run(clients(load, [keys["rich"], keys["poor"]], [keys["bad"]], 16))
        assert not load.errors
        assert set(load.answers) <= {200, 201, 429}
        assert until(lambda: not server.connections)
        assert until(lambda: server.desk.waiting() == 0)
        assert descriptors() <= before
        accounts = {name: account(server, key) for name, key in keys.items()}
        for name, told in accounts.items():
            assert told["spent"]["tokens"] <= limits[name]
            assert told["reserved"]["tokens"] == 0
            if name != "bad":
                assert told["spent"]["tokens"] == load.received[keys[name]]
        assert accounts["poor"]["spent"]["tokens"] == 300
        assert load.bad["wrong_key: 401"] * load.bad["bad_json: 400"] > 0
        assert all(load.bad[kind.__name__] for kind in KINDS)
        assert not [told for told in load.bad if ": 5" in told]


async def ended(line: Line) -> None:
    """Wait until the server ends a connection (``TimeoutError``)."""
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            while await line.reader.read(1000):
                pass


def test_headers_without_end_are_not_waited_for(tmp_path: Path) -> None:
    path, task = family()
    with serving(path, task, tmp_path) as server:

        async def send() -> None:
            line = await Load(int(server.url.rsplit(":", 1)[1]), "", [], 0.0, 0.0).connect()
            line.writer.write(b"GET /health HTTP/1.1\r\n" + b"x: yyyyyyy\r\n" * 7000)
            await ended(line)
            line.cut()

        asyncio.run(send())


@pytest.mark.slow(2)
def test_connections_whose_clients_wait_are_ended(tmp_path: Path) -> None:
    """Nothing sent, half of the headers, half of the body, headers without end, answers that are not taken:
    the server ends each, though its client does not."""
    path, task = family()
    with serving(path, task, tmp_path, patience=0.5) as server:
        key = server.key("a", "root/sample")
        port = int(server.url.rsplit(":", 1)[1])

        async def silent(load: Load) -> None:
            whole = request(key, "POST", "/v1/completions", {"prompt": []})
            lines = [await load.connect() for _ in range(4)]
            for line, data in zip(
                lines, (b"", whole[:30], whole[:-3], whole[:30] + b"y" * 70_000), strict=True
            ):
                line.writer.write(data)
            for line in lines:
                await ended(line)
            deaf = await load.connect(receive=2048)
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(until, lambda: server.connections == 1)
            for _ in range(400):
                deaf.writer.write(request(key, "GET", "/openapi.json"))
            assert await asyncio.to_thread(until, lambda: not server.connections)
            deaf.cut()

        asyncio.run(silent(Load(port, "p0", [], time.monotonic() + 30.0, 0.0)))
