"""Learners that try to learn what they may not: run in a process of their own, or not.

Each attack returns what it has learned as ``learned`` in the metadata of its finding; nothing: ``None``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import os
import resource
import signal
import socket
import struct
import sys
import threading
from typing import Any

from reroot import Finding, learner
from reroot.access.isolation import seccomp
from reroot.access.session import Session
from reroot.errors import RerootError
from reroot.types import Prefix


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
        return [float(x) for x in await session.law(Prefix((1,)))]
    except RerootError:
        return None


async def environment(session: Session) -> Any:
    """The user's environment."""
    return os.environ.get("ISOLATION_SECRET")


async def reading(session: Session) -> Any:
    """A file of the user's, and the memory of whoever started this."""
    texts: list[str] = []
    there = f"/proc/{os.getppid()}"
    for path in (_NAMED["file"], "/proc/1/environ", f"{there}/environ", f"{there}/maps", f"{there}/mem",
                 "/proc/self/maps", "/etc/passwd", "/dev/shm", "/sys/kernel/notes"):  # fmt: skip
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


async def unnamed(session: Session) -> Any:
    """A file without a name, in memory."""
    try:
        os.close(os.memfd_create("x"))
    except OSError as error:
        return error.errno
    return "made"


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


def _call(name: str, *arguments: Any) -> int:
    """A system call by its number."""
    libc, column = ctypes.CDLL(None, use_errno=True), os.uname().machine != "x86_64"
    return libc.syscall(seccomp._REFUSED[name][column], *arguments)


async def memory(session: Session) -> Any:
    """Memory by the call that debuggers use; here its own, which anybody may read."""
    there, here = ctypes.create_string_buffer(b"told"), ctypes.create_string_buffer(4)
    places = [struct.pack("QQ", ctypes.addressof(b), 4) for b in (here, there)]
    got = _call("process_vm_readv", os.getpid(), places[0], 1, places[1], 1, 0)
    return here.raw.decode() if got == 4 else None


async def outliving(session: Session) -> Any:
    """Memory and queues that stay when it ends, and that others find."""
    made: list[str] = []
    for kind, arguments in (("shm", (4096, 0o600)), ("sem", (1, 0o600)), ("msg", (0o600,))):
        number = _call(f"{kind}get", 0, *arguments)
        if number < 0:
            continue
        made.append(kind)
        _call(f"{kind}ctl", number, *((0, 0) if kind == "sem" else (0,)), None)  # away with it
    return made or None


async def sharing(session: Session) -> Any:
    """What all programs of the user have a share of: watches of files, timers, locks of files."""
    found: list[str] = []
    watch = _call("inotify_init1", 0)
    if watch >= 0:
        os.close(watch)
        found.append("watches")
    with contextlib.suppress(OSError), open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found.append("locks")
    with contextlib.suppress(OSError), open(__file__, "rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found.append("ranges")
    if resource.getrlimit(resource.RLIMIT_SIGPENDING)[0] > 64:
        found.append("timers")
    return found or None


async def by_file(session: Session) -> Any:
    """Signals that the kernel sends for who writes to a file."""
    left, right = socket.socketpair()
    with left, right:
        tries = (
            lambda: fcntl.fcntl(left, fcntl.F_SETOWN, os.getpid()),
            lambda: fcntl.fcntl(left, 15, struct.pack("ii", 1, os.getpid())),
            lambda: fcntl.fcntl(left, 10, signal.SIGURG),
            lambda: fcntl.fcntl(left, fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC),
            lambda: fcntl.ioctl(left, 0x5452, struct.pack("i", 1)),
        )
        found: list[int] = []
        for i, attempted in enumerate(tries):
            with contextlib.suppress(OSError):
                attempted()
                found.append(i)
    return found or None


async def named(session: Session) -> Any:
    """A socket with a name that others find, without ever asking for one."""
    with contextlib.suppress(OSError):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        left.send(b"x")
        right.close()
        with left:
            return left.getsockname().decode()
    return None


async def scheduling(session: Session) -> Any:
    """How processes of the user are scheduled; here its own, as it is."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, os.getpid(), os.getpriority(os.PRIO_PROCESS, 0))
        found.append("priority")
    with contextlib.suppress(OSError):
        os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))
        found.append("affinity")
    return found or None


async def staying(session: Session) -> Any:
    """Not to be killed when its parent ends."""
    return "stays" if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0 else None


ATTACKS = {
    f.__name__: f
    for f in (
        *(garbage, frames, modules, patch, environment, reading, writing, network, signals),
        *(descriptors, memory, outliving, sharing, by_file, named, scheduling, staying),
    )
}
"""Each learns something where there are no walls."""


async def saboteur(session: Session) -> Any:
    """Every other process that it can reach: killed by way of a file, or slowed down."""
    found: list[int] = []
    for pid in {*range(2, 40)} - {os.getpid()}:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 19)
            found.append(pid)
        with contextlib.suppress(OSError):
            left, right = socket.socketpair()
            fcntl.fcntl(left, fcntl.F_SETOWN, pid)
            fcntl.fcntl(left, 10, signal.SIGKILL)
            fcntl.fcntl(left, fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC)
            right.send(b"x")
            found.append(pid)
    return found or None


async def victim(session: Session) -> Any:
    """How it was scheduled before, and after others had their time."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    await asyncio.sleep(0.5)
    return [os.getpriority(os.PRIO_PROCESS, 0) - before]


ASKED = {f.__name__: f for f in (filling, growing, unnamed, neighbours, saboteur, victim)}
"""What is asked of those that may write, or run side by side."""
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
