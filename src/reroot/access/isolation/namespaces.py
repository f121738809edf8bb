"""Namespaces of a launcher of learners: no network, no foreign process, and a file system of what is needed.

A user namespace makes the others possible without privileges; nothing in it has any over what is outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

_NEWUSER, _NEWNS, _NEWPID, _NEWNET, _NEWIPC, _NEWUTS = (
    *(0x10000000, 0x00020000, 0x20000000),
    *(0x40000000, 0x08000000, 0x04000000),
)
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = (1, 2, 4, 32, 4096, 16384, 1 << 18)
_MOVE, _DETACH = 8192, 2
_ASIDE = "/.tmp"  # where a /tmp is made
_PIVOT = {"x86_64": 155, "aarch64": 41}
_LAST_CAPABILITY = 63

_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")
_CONFIGURED = ("/etc/ld.so.cache", "/etc/localtime")


def enter() -> None:
    """Leave for new namespaces; children of this process are in the new one of processes.

    Raises:
        OSError: the platform does not allow it.
    """
    uid, gid = os.getuid(), os.getgid()
    if os.uname().machine not in _PIVOT:
        raise OSError(f"no call for {os.uname().machine} processors is known")
    _call("unshare", _NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS)
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def needed(package: Path) -> list[str]:
    """Folders and files that Python, its libraries and reroot need.

    Args:
        package: the folder of reroot's code.
    """
    folders = [
        *_LIBRARIES,
        *_CONFIGURED,
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        str(Path(sys.base_prefix) / "lib"),
        str(Path(sys.prefix) / "pyvenv.cfg"),
        str(package),
    ]
    return list(dict.fromkeys(f for f in folders if os.path.exists(f)))


def furnish(paths: Sequence[str]) -> None:
    """Make a file system of nothing but ``paths``, all of it read-only, and move there.

    There is no ``/proc``: it would show other processes.

    Raises:
        OSError: the platform does not allow it.
    """
    here, root = Path.cwd(), "/tmp"
    paths = _topmost(paths)
    _mount("none", "/", None, _REC | _PRIVATE)
    opened = [
        (path, os.open(path, os.O_PATH)) for path in paths
    ]  # /tmp, where some may be, is covered
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV)
    for path, fd in opened:
        _make(Path(root + path), Path(f"/proc/self/fd/{fd}").is_dir())
        _mount(f"/proc/self/fd/{fd}", root + path, None, _BIND | _REC)
        os.close(fd)
    for place in map(Path, (f"{root}{here}", f"{root}/tmp", f"{root}{_ASIDE}", f"{root}/old")):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
    for path in paths:
        flags = _kept(root + path)
        _mount("none", root + path, None, _REMOUNT | _BIND | _RDONLY | flags)
    _move(root)
    _mount("none", "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    with contextlib.suppress(OSError):
        os.chdir(here)


def own_tmp(megabytes: int, paths: Sequence[str]) -> None:
    """A ``/tmp`` in memory for this process alone, which is gone with it; empty but for ``paths`` there.

    Args:
        megabytes: of files that fit.
        paths: what is to be read, as for ``furnish``; what of it is elsewhere stays there.

    Raises:
        OSError: the platform does not allow it.
    """
    _call("unshare", _NEWNS)
    room = f"size={megabytes}m,nr_inodes=65536,mode=0700"
    _mount("tmpfs", _ASIDE, "tmpfs", _NOSUID | _NODEV, room)
    for path in _topmost(paths):
        if path.startswith("/tmp/"):  # bound as it is, read-only
            _make(Path(_ASIDE + path.removeprefix("/tmp")), os.path.isdir(path))
            _mount(path, _ASIDE + path.removeprefix("/tmp"), None, _BIND | _REC)
    _mount(_ASIDE, "/tmp", None, _MOVE)


def _topmost(paths: Sequence[str]) -> list[str]:
    """The paths that are in no other one's folder."""
    places = {os.path.abspath(path) for path in paths}
    return sorted(p for p in places if places.isdisjoint(map(str, Path(p).parents)))


def _make(place: Path, folder: bool) -> None:
    """Something to mount on."""
    if folder:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # part of a folder that is there already
        place.touch()


def _kept(path: str) -> int:
    """Flags of a mount that one without privileges must keep."""
    flags = os.statvfs(path).f_flag
    known = {os.ST_NOSUID: 2, os.ST_NODEV: 4, os.ST_NOEXEC: 8}
    kept = sum(mount for stat, mount in known.items() if flags & stat)
    times = {os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048, os.ST_RELATIME: 1 << 21}
    return kept | sum(mount for stat, mount in times.items() if flags & stat)


def _move(root: str) -> None:
    os.chdir(root)
    if _libc().syscall(_PIVOT[os.uname().machine], b".", b"old"):
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    _call("umount2", b"/old", _DETACH)
    os.rmdir("/old")


def bound_capabilities() -> None:
    """No program that this process or its children start gets a privilege, where they can tell so."""
    drop_bounding = 24
    for capability in range(_LAST_CAPABILITY + 1):
        with contextlib.suppress(OSError):  # beyond the last one that the kernel knows
            _call("prctl", drop_bounding, capability, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every privilege (``OSError``)."""
    version, this = 0x20080522, 0
    head = (ctypes.c_uint32 * 2)(version, this)
    _call("capset", ctypes.byref(head), ctypes.byref((ctypes.c_uint32 * 6)()))


def no_new_privileges() -> None:
    """No program that is started gets more than this process has (``OSError``)."""
    _call("prctl", 38, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Be killed when the process that has started this one ends."""
    _call("prctl", 1, 9, 0, 0, 0)


def _mount(source: str, target: str, kind: str | None, flags: int, more: str = "") -> None:
    named = None if kind is None else kind.encode()
    paths = os.fsencode(source), os.fsencode(target)
    _call("mount", *paths, named, ctypes.c_ulong(flags), more.encode() or None)


@lru_cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
