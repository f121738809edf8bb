"""What stands around a learner's process on this machine: put up, tried, and told.

Each wall is told as ``"stands"`` or by why it does not. What is told to stand was tried first.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import landlock, namespaces, seccomp
from .settings import Isolation

STANDS = "stands"

MEANING: Mapping[str, str] = {
    "process": "another process, started anew: it inherits no memory, no environment, no open file",
    "limits": "limits of memory, open files and, with attempt_timeout, of processor time",
    "privileges": "no new privileges, no capabilities",
    "files": "it sees Python, its libraries, reroot, its own file and nothing else, read-only",
    "processes": "it sees and signals no other process, and starts none",
    "network": "no network",
    "calls": "a filter of system calls (seccomp)",
}
"""Wall → what it keeps."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a learner's process stands on.

    Attributes:
        settings: what it may use.
        paths: files and folders that it may read.
        baseline: bytes of address space that it takes already.
        housed: whether it has a file system of its own.
    """

    settings: Isolation
    paths: tuple[str, ...]
    baseline: int
    housed: bool


def readable(settings: Isolation, package: Path, learners: Sequence[str]) -> tuple[str, ...]:
    """What a learner's process may read.

    Args:
        settings: what it may use.
        package: the folder of reroot's code.
        learners: the files of learners.
    """
    paths = [*namespaces.needed(package), *learners]
    return (*paths, *([os.path.abspath(settings.reads)] if settings.reads else []))


def outer(paths: Sequence[str]) -> dict[str, str]:
    """Leave for a world of the launcher's own, if the platform has one; what of it stands.

    Returns in a child of the process that has called it where there are namespaces: the first process
    of the new world.

    Args:
        paths: what is to be read there.
    """
    try:
        namespaces.enter()
    except OSError as error:
        why = f"no namespaces: {error}"
        return dict.fromkeys(("files", "processes", "network"), why)
    child = os.fork()
    if child:
        os._exit(_outlived(child))
    namespaces.die_with_parent()
    walls = {"processes": STANDS, "network": STANDS}
    try:
        namespaces.furnish(paths)
        return {**walls, "files": STANDS}
    except OSError as error:
        return {**walls, "files": f"no file system of its own: {error}"}


def _outlived(child: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    return 0 if status == 0 else 1


def inner(ground: Ground, seconds: int | None) -> dict[str, str]:
    """Put this process, which is about to run a learner, behind what is left; what of it stands.

    Args:
        ground: what it stands on.
        seconds: of processor time that it may take; ``None``: no limit.
    """
    settings = ground.settings
    put: dict[str, Callable[[], None]] = {
        "limits": lambda: _limit(settings, seconds, ground.baseline)
    }
    if ground.housed and settings.write:  # while it may still mount
        put["files"] = lambda: namespaces.own_tmp(settings.memory_mb, ground.paths)
    put["privileges"] = _unprivileged
    if not ground.housed:
        put["files"] = lambda: _shut_in(ground)
    put["calls"] = lambda: _filter(settings)
    return {name: _tried(wall) for name, wall in put.items()}


def _shut_in(ground: Ground) -> None:
    landlock.shut_in(ground.paths, ["/tmp"] if ground.settings.write else [])
    if "/" in ground.paths:
        return
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise OSError("the kernel took Landlock's rules and does not keep to them")


def _tried(wall: Callable[[], None]) -> str:
    try:
        wall()
    except (OSError, ValueError) as error:
        return str(error)
    return STANDS


def _unprivileged() -> None:
    namespaces.die_with_parent()
    namespaces.no_new_privileges()
    namespaces.drop_capabilities()


def _filter(settings: Isolation) -> None:
    why = seccomp.refusal()
    if why is not None:
        raise OSError(why)
    seccomp.install(settings.write)
    try:
        socket.socket().close()
    except PermissionError:
        return
    raise OSError("the kernel took the filter and does not keep to it")


def _limit(settings: Isolation, seconds: int | None, baseline: int) -> None:
    most = baseline + (settings.memory_mb << 20)
    limits = {
        resource.RLIMIT_AS: most,
        resource.RLIMIT_NOFILE: settings.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if sys.platform == "linux":  # timers, which count for all programs of the user
        limits |= {resource.RLIMIT_SIGPENDING: 64, resource.RLIMIT_MSGQUEUE: 0}
    limits[resource.RLIMIT_FSIZE] = (settings.memory_mb << 20) if settings.write else 0
    if seconds is not None:
        limits[resource.RLIMIT_CPU] = seconds
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def address_space() -> int:
    """Bytes of address space that this process takes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def told(walls: Mapping[str, str]) -> str:
    """One line on what stands and what does not."""
    up = [name for name in MEANING if walls.get(name) == STANDS]
    down = [f"no wall for {name} ({walls[name]})" for name in MEANING if walls.get(name) != STANDS]
    return "; ".join([f"learners run in processes of their own, behind: {', '.join(up)}", *down])
