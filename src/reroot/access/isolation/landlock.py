"""Landlock: where there are no namespaces, the kernel may still bound which files a process reads.

A process shuts itself in, for good; it needs no privilege, and what it starts is shut in with it. The
numbers of its calls are the same on every processor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _READ_FILE | 1 << 1 | 1 << 14 | 1 << 15
"""Rights that a rule for a file, not a folder, may name."""
_FILES = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Version of the kernel's interface → rights on files that came with it: all are refused."""
_TCP = 1 << 0 | 1 << 1
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets, signals


def version() -> int:
    """Of the kernel's interface; 0: it has none, or it is switched off."""
    found = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(0, found)


def shut_in(readable: Sequence[str], writable: Sequence[str] = ()) -> int:
    """From now on this process reads what is at ``readable`` and changes what is under ``writable``.

    It connects to no TCP port from version 4 on, and signals nobody outside from version 6 on. It must
    have given up new privileges (see ``namespaces``).

    Returns:
        the version of the kernel's interface.

    Raises:
        OSError: the kernel does not do it.
    """
    have = version()
    if not have:
        raise OSError("the kernel has no Landlock")
    rights = sum(bits for since, bits in _FILES.items() if have >= since)
    told = struct.pack("=QQQ", rights, _TCP if have >= 4 else 0, _SCOPES if have >= 6 else 0)
    told = told[: 8 if have < 4 else 16 if have < 6 else 24]
    rules = _call(_CREATE, told, ctypes.c_size_t(len(told)), ctypes.c_uint32(0))
    try:
        for paths, granted in ((readable, _READ), (writable, rights)):
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    _grant(rules, path, granted & rights)
        _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)
    return have


def _grant(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = rights if Path(path).is_dir() else rights & _OF_FILES
        rule = struct.pack("=Qi", rights, place)
        _call(_ADD, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    found = _libc().syscall(ctypes.c_long(number), *arguments)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
