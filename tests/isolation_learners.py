"""Learners that behave badly: run in a process of their own, or not."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import threading
import time
from typing import Any

from reroot import Finding, learner
from reroot.access.session import Session

TOLD: list[int] = []
"""What attempts tell each other, where they can."""


def _raw(data: bytes) -> None:
    """Past the session, down the line."""
    sent = 0
    while sent < len(data):
        sent += os.write(3, data[sent : sent + (1 << 16)])


def _junk(body: bytes) -> None:
    _raw(len(body).to_bytes(4, "little") + body)


def _hang() -> None:
    time.sleep(1000)


def _fork() -> None:
    os.fork()


def _memory() -> None:
    bytearray(1 << 34)


def _spin() -> None:
    while True:
        pass


def _threads() -> None:
    kept = [threading.Thread(target=_hang, daemon=True) for _ in range(10_000)]
    for thread in kept:
        thread.start()


def _bomb() -> None:
    """Past Python, as a fork bomb would: the call itself, again and again."""
    libc, clone = ctypes.CDLL(None, use_errno=True), {"x86_64": 56, "aarch64": 220}
    number = clone[os.uname().machine]
    for _ in range(100):
        if libc.syscall(number, 17, 0, 0, 0, 0) >= 0:
            os._exit(9)
    raise OSError(ctypes.get_errno(), "no process was started")


def _depth() -> None:
    body: dict[str, Any] = {"output": None, "error": None, "out_of_budget": False}
    metadata = '{"a": %s}' % ("[" * 900 + "]" * 900)
    turn = {"sent": [], "parked": False, "finished": {**body, "metadata": metadata}}
    _junk(json.dumps(turn).encode())


def _files() -> None:
    kept = [open("/etc/ld.so.cache", "rb") for _ in range(1000)]  # noqa: SIM115
    kept.clear()


FAULTS = (
    ("exit", lambda: os._exit(3), "ProcessError: its process ended by itself with exit status 3"),
    ("abort", os.abort, "ProcessError: its process was ended by SIGABRT"),
    ("hang", _hang, "TimeoutError: it took more than the"),
    ("flood", lambda: _raw((10 << 20).to_bytes(4, "little") + bytes(10 << 20)),
     "ProtocolError: its process broke the protocol: sent a message of 10,485,760 bytes"),
    ("junk", lambda: _junk(b"no JSON"), "ProtocolError: its process broke the protocol: sent a message that is no"),
    ("deep", lambda: _junk(b"[" * 100_000), "ProtocolError: its process broke the protocol: sent a message that is no"),
    ("odd", lambda: _junk(b'{"sent":[[1,{"ask":[{"prefix":["a"]}]}]],"parked":false,"finished":null}'),
     "ProtocolError: its process broke the protocol: a query must have"),
    ("forged", lambda: _junk(b'{"sent":[],"parked":false,"finished":{"output":[1.5],"metadata":"{}","error":null,'
                             b'"out_of_budget":false}}'),
     "ProtocolError: its process broke the protocol: returned an output"),
    ("fork", _fork, "PermissionError: [Errno 1] Operation not permitted"),
    ("bomb", _bomb, "PermissionError: [Errno 1] no process was started"),
    ("depth", _depth, "ProtocolError: its process broke the protocol: metadata must be the text of a JSON object"),
    ("spin", _spin, "TimeoutError: it took more than the"),
    ("threads", _threads, "RuntimeError: can't start new thread"),
    ("memory", _memory, "MemoryError"),
    ("files", _files, "OSError: [Errno 24] Too many open files"),
)  # fmt: skip
"""Name, what it does, and how the error of its attempt begins."""


@learner(requires="root/sample")
async def faulty(session: Session, *, by: str = "") -> Any:
    """One of the faults, between two rollouts.

    Pseudo-code::

        do the fault; return a rollout
    """
    reply = await session.rollouts(1)
    for name, fault, _ in FAULTS:
        if name == by:
            fault()
    await session.rollouts(1)
    return reply.outputs()[0]


@learner(requires="root/sample")
async def waiting(session: Session) -> Any:
    """Waits for a timer and for a thread, then draws.

    Pseudo-code::

        wait; return a rollout
    """
    await asyncio.sleep(0.01)
    await asyncio.to_thread(time.sleep, 0.01)
    votes = await session.votes((await session.rollouts(3)).outputs())
    return Finding((await session.rollouts(1)).outputs()[0], {"votes": votes})


@learner(requires="root/sample")
async def counting(session: Session) -> Any:
    """How many attempts of this module there were before, as far as it can see.

    Pseudo-code::

        count += 1
    """
    before = len(TOLD)
    TOLD.append(1)
    return Finding((await session.rollouts(1)).outputs()[0], {"before": before})
