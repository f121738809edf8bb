"""Names of servers: ``http://HOST:PORT[/MODEL]``, ``DIALECT:http://…``, ``openai:MODEL``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ...errors import InvalidInput, nearest
from .dialects import DIALECTS

_OPENAI = "https://api.openai.com/v1"
KEYS = {"openai": "OPENAI_API_KEY", "": "REROOT_API_KEY"}
"""Where the key of an API is: it is read from the environment alone."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, as a user names it.

    Attributes:
        url: scheme, host, port, and what comes before the dialect's paths.
        model: the model's name; ``None``: the only one, or the first.
        dialect: ``None``: to be found by asking.
        key_variable: the environment variable that holds the key of its API.
    """

    url: str
    model: str | None
    dialect: str | None
    key_variable: str = KEYS[""]

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
        """Read a name (``InvalidInput`` where it is none, or has credentials in it)."""
        head, colon, rest = text.partition(":")
        if head == "openai" and colon:
            if not rest or rest.startswith("//"):
                raise InvalidInput(
                    "openai:MODEL needs the name of a model, as in 'openai:gpt-4o-mini'"
                )
            url = environment.get("OPENAI_BASE_URL") or _OPENAI
            return cls(checked(url).rstrip("/").removesuffix("/v1"), rest, "chat", KEYS["openai"])
        if head in ("http", "https"):
            return cls(*_split(text), None)
        if colon and head in DIALECTS and rest.startswith(("http://", "https://")):
            return cls(*_split(rest), head)
        raise InvalidInput(
            f"{text!r} names no server: http://HOST:PORT[/MODEL], DIALECT:http://… or openai:MODEL."
            f"{nearest(head, DIALECTS)}"
        )


def is_endpoint(name: str) -> bool:
    """Whether ``name`` is meant as the name of a server."""
    head, colon, rest = name.partition(":")
    if head in ("http", "https"):
        return rest.startswith("//")
    return bool(colon) and (head == "openai" or (head in DIALECTS and "//" in rest))


def checked(url: str) -> str:
    """``url`` if it has no credentials, query or fragment (``InvalidInput`` otherwise, without it)."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            f"the address of {parts.hostname} has credentials in it, which would be written down: keys "
            f"come from the environment ({KEYS['']}, {KEYS['openai']})"
        )
    if parts.query or parts.fragment:
        raise InvalidInput(f"the address of {parts.hostname} has a query or a fragment in it")
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f"{url!r} is no address: expected http://HOST:PORT")
    return url


def _split(text: str) -> tuple[str, str | None]:
    """(address without paths, model)."""
    parts = urlsplit(checked(text))
    path = parts.path.strip("/")
    if path == "v1" or path.startswith("v1/"):
        path = path[3:]
    return f"{parts.scheme}://{parts.netloc}", path or None
