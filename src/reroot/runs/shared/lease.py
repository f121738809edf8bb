"""Leases: one process at a time works on a folder of shared storage.

lease/00000001.json holds who works on it, and is written again and again while that goes on. Clocks of several
machines are not compared: who finds a lease looks, by its own clock, whether it is renewed.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

from ...access.sealing import sealed, unsealed
from ...errors import RunFolderError
from .storage import LEASES, Storage

_LEASE = re.compile(r"(\d{8,})\.json")
BEATS = 6
"""Times that a lease is renewed before it would expire."""


class TakenOver(RunFolderError):
    """Another process works on the folder, as the lease of this one was not renewed in time."""


class Lease:
    """The right to change what is stored at an address; to be renewed ``BEATS`` times in its seconds.

    Args:
        storage: where.
        seconds: without a renewal after which another process may take it over.
        told: gets a line when a lease is waited for, or taken over.
        dead: the token of a lease whose process has ended for sure; that is taken over at once.

    Attributes:
        token: tells it from any other.
    """

    def __init__(
        self, storage: Storage, seconds: float, told: Callable[[str], None], dead: str = ""
    ) -> None:
        self._storage, self.seconds, self._told, self._dead = storage, seconds, told, dead
        self.token, self._beats, self._number = secrets.token_hex(8), 0, 0

    def take(self) -> None:
        """Take it, if need be after the time in which another one expires.

        Raises:
            RunFolderError: another process renews it.
        """
        while True:
            held = self._held()
            if (not held or self._expires(held[-1])) and self._create(max(held, default=0) + 1):
                self._storage.remove([_path(number) for number in held])
                return

    def renew(self) -> None:
        """Renew it.

        Raises:
            TakenOver: another process has taken it over.
        """
        found = self._storage.read(_path(self._number))
        if found is None or _told(found).get("token") != self.token:
            raise TakenOver(
                f"{self._storage.shown} is worked on by another process now: this one did not reach it for more than "
                f"{self.seconds:g} s"
            )
        self._beats += 1
        self._storage.write(_path(self._number), self._said())

    def release(self) -> None:
        """Give it back, if it is still this one's."""
        found = self._storage.read(_path(self._number))
        if found is not None and _told(found).get("token") == self.token:
            self._storage.remove([_path(self._number)])

    def _create(self, number: int) -> bool:
        self._number = number
        return self._storage.create(_path(number), self._said())

    def _held(self) -> list[int]:
        found = (_LEASE.fullmatch(name) for name in self._storage.names(LEASES))
        return sorted(int(match[1]) for match in found if match)

    def _expires(self, number: int) -> bool:
        """Wait until a lease has expired; false: it was given back (``RunFolderError``: it is renewed)."""
        found = self._storage.read(_path(number))
        told = _told(found or b"")
        seconds, who = float(told.get("seconds", self.seconds)), told.get("who", "somebody")
        if self._dead and told.get("token") == self._dead:
            self._told(f"{self._storage.shown} was held by {who}, which has ended: taken over")
            return True
        until = time.monotonic() + seconds
        self._told(
            f"{self._storage.shown} is held by {who}: waiting up to {seconds:g} s to see whether that still runs"
        )
        while time.monotonic() < until:
            time.sleep(seconds / (4 * BEATS))
            now = self._storage.read(_path(number))
            if now is None:
                return False
            if now != found:
                raise RunFolderError(f"{self._storage.shown} is in use by {who}")
        self._told(f"{who} has not renewed it for {seconds:g} s: taken over")
        return True

    def _said(self) -> bytes:
        return sealed(
            {
                "who": f"{_user()}@{socket.gethostname()}, process {os.getpid()}",
                "token": self.token,
                "beats": self._beats,
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": self.seconds,
            }
        )


def _path(number: int) -> str:
    return f"{LEASES}/{number:08d}.json"


def _told(data: bytes) -> dict[str, Any]:
    """What a lease says; nothing if it is being written."""
    try:
        return unsealed(data.removesuffix(b"\n"))
    except ValueError:
        return {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return str(os.getuid())
