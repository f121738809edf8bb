"""Frames: JSON values over a stream socket, each after its length."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_HEAD = struct.Struct("<I")

MOST = 8 << 20
"""Bytes of the largest frame that is taken from a learner's process."""


class Broken(Exception):
    """What came is no frame; the text says why."""


def packed(value: object) -> bytes:
    """A JSON value as a frame."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    return _HEAD.pack(len(body)) + body


def unpacked(buffer: bytearray, most: int = MOST) -> Any | None:
    """Take the first frame out of what has come; ``None``: it is not all there.

    Raises:
        Broken: it is larger than ``most`` bytes, or no JSON.
    """
    if len(buffer) < _HEAD.size:
        return None
    (length,) = _HEAD.unpack_from(buffer)
    if length > most:
        raise Broken(f"sent a message of {length:,} bytes; at most {most:,} are taken")
    end = _HEAD.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[_HEAD.size : end])
    del buffer[:end]
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Broken(f"sent a message that is no JSON: {type(error).__name__}") from None


class Line:
    """The learner's end: sends and waits. Its other end is trusted."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._buffer = bytearray()

    def send(self, value: object) -> None:
        """Send a JSON value (``OSError`` if nobody is there)."""
        self.socket.sendall(packed(value))

    def receive(self) -> Any | None:
        """The next value; ``None``: nobody is there any more."""
        while True:
            value = unpacked(self._buffer, most=1 << 31)
            if value is not None:
                return value
            more = self.socket.recv(1 << 16)
            if not more:
                return None
            self._buffer += more
