"""Learners that behave badly, or try to learn what they may not: run in a process of their own, or not.

Each attack returns what it has learned as ``learned`` in the metadata of its finding; nothing: ``None``.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import socket
import sys
import threading
import time
from typing import Any

from reroot import Finding, learner
from reroot.access.session import Session
from reroot.errors import RerootError

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


# ---- attacks ----------------------------------------------------------------------------------


async def garbage(session: Session) -> Any:
    """Any object of the interpreter."""
    kinds = ("Gate", "Tabular", "Episode", "Problem")
    found = [x for x in gc.get_objects() if type(x).__name__ in kinds]
    found = [x for x in found if type(x).__module__.startswith("reroot.")]
    return type(found[0]).__name__ if found else None


async def frames(session: Session) -> Any:
    """The frames of other threads."""
    own = threading.get_ident()
    for thread, top in sys._current_frames().items():
        frame = top
        while frame is not None and thread != own:
            if frame.f_locals.get("generator") is not None:
                return type(frame.f_locals["generator"]).__name__
            frame = frame.f_back
    return None


async def modules(session: Session) -> Any:
    """What a module of the run's process holds."""
    return getattr(sys.modules.get("isolation_secret"), "SECRET", None)


async def patch(session: Session) -> Any:
    """The library's own code: a rule book that permits everything."""
    from reroot.access import gate

    gate.PrefixRules.check = lambda self, contract, queries: self.marks_of(  # type: ignore[method-assign]
        [q.prefix for q in queries]
    )
    try:
        return [float(x) for x in await session.law((1,))]
    except RerootError:
        return None


async def environment(session: Session) -> Any:
    """The user's environment."""
    return os.environ.get("ISOLATION_SECRET")


async def reading(session: Session) -> Any:
    """A file of the user's, and the memory of whoever started this."""
    texts: list[str] = []
    for path in (_NAMED["file"], "/proc/1/environ", f"/proc/{os.getppid()}/environ", "/etc/passwd"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read(10))
        except OSError:
            pass
    return texts or None


async def writing(session: Session) -> Any:
    """A new file."""
    for folder in ("/tmp", os.getcwd(), os.path.dirname(_NAMED["file"])):
        path = os.path.join(folder, f"isolation-{os.getpid()}")
        try:
            with open(path, "w", encoding="utf-8"):
                pass
        except OSError:
            continue
        os.unlink(path)
        return path
    return None


async def filling(session: Session) -> Any:
    """More of a disk than it may: one large file, then many."""
    wrote = 0
    for i in range(64):
        try:
            with open(f"/tmp/{i}", "wb") as file:
                wrote += file.write(bytes(8 << 20))
        except OSError:
            return [wrote >> 20, sorted(os.listdir("/tmp"))[:2]]
    return "no end"


async def growing(session: Session) -> Any:
    """One file, past the largest that there may be."""
    try:
        with open("/tmp/large", "wb") as file:
            file.seek((1 << 40) - 1)
            file.write(b"1")
    except OSError as error:
        return error.errno
    return "no end"


async def neighbours(session: Session) -> Any:
    """What other attempts have left; and leaves something itself."""
    found = "left" in os.listdir("/tmp")
    with open("/tmp/left", "w", encoding="utf-8") as file:
        file.write("told")
    return found


async def network(session: Session) -> Any:
    """A server on this machine."""
    try:
        with socket.create_connection(("127.0.0.1", int(_NAMED["port"])), timeout=5):
            return "connected"
    except OSError:
        return None


async def signals(session: Session) -> Any:
    """Other processes."""
    reached: list[int] = []
    for pid in (os.getppid(), 1, *range(2, 40)):
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        reached += [pid] * (pid not in (0, os.getpid()))
    return reached or None


async def descriptors(session: Session) -> Any:
    """What else is open."""
    found: list[int] = []
    own = asyncio.get_running_loop()._selector.fileno()  # type: ignore[attr-defined]
    for fd in {*range(256)} - {own}:
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found if found != [0, 1, 2, 3] else None


ATTACKS = {
    f.__name__: f
    for f in (
        *(garbage, frames, modules, patch, environment, reading, writing, network, signals),
        descriptors,
    )
}
"""Each learns something where there are no walls."""

ASKED = {f.__name__: f for f in (filling, growing, neighbours)}
"""What is asked of those that may write."""
_NAMED: dict[str, str] = {}


@learner(requires="root/sample")
async def attack(session: Session, *, by: str, file: str = "", port: int = 0) -> Any:
    """One of the attacks.

    Pseudo-code::

        return what was learned
    """
    _NAMED.update(file=file, port=str(port))
    await session.rollouts(1)
    return Finding(None, {"learned": await {**ATTACKS, **ASKED}[by](session)})
