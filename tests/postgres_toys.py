"""A server of PostgreSQL of one's own, at a socket in a folder of its own, for as long as a test asks it."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'reroot' AND pid <> pg_backend_pid()"
)
"""Ends all other connections of ledgers, in all databases."""


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, if they are anywhere."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _other_user() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _ends_with_its_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


class Postgres:
    """One that is running.

    Attributes:
        folder: of its data and its socket.
    """

    def __init__(self, folder: Path, bin: Path) -> None:
        self.folder, self._bin, self._user = folder, bin, _other_user()
        if self._user is not None:
            shutil.chown(folder, self._user)
        init = [bin / "initdb", "-D", folder / "data", "-U", "tester", "-A", "trust", "--no-sync"]
        self._run([*init, "-E", "UTF8", "--locale=C"])
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def _run(self, command: list[str | Path]) -> None:
        done = subprocess.run(command, user=self._user, capture_output=True, cwd="/", text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "30",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self.folder / "data", *options],
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=_ends_with_its_parent,
        )
        ready = [self._bin / "pg_isready", "-q", "-h", str(self.folder)]
        until = time.monotonic() + 60
        while subprocess.run(ready).returncode != 0:
            assert self._server.poll() is None, "PostgreSQL has ended"
            assert time.monotonic() < until, "PostgreSQL does not begin"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once, as after a crash, unless ``how`` says otherwise."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(60)
            self._server = None

    def database(self, name: str) -> str:
        """The URL of a new database."""
        where = ["-h", str(self.folder), "-U", "tester"]
        self._run([self._bin / "createdb", *where, name])
        return f"postgresql://tester@/{name}?host={self.folder}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """One of its own; the test is skipped where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    bin = binaries()
    if bin is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the path or in /usr/lib/postgresql")
    # a socket's path has at most 107 bytes, which pytest's own folders may exceed
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server: Postgres | None = None
        try:
            server = Postgres(Path(folder), bin)
            yield server
        finally:
            if server is not None:
                server.stop()
