"""Serving over HTTP, in this process."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidInput, need
from .catalogue import Catalogue


def serve(
    catalogue: Catalogue,
    *,
    keys: str | Path,
    db: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    judge_timeout: float | None = None,
    on_start: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until the process is told to end (SIGTERM, SIGINT); then what is asked already is answered.

    Args:
        catalogue: the generator and the problems.
        keys: a file of keys, see ``serving.keys``.
        db: the SQLite file of accounts, which servers of one machine may share, or
            ``postgresql://USER@HOST:PORT/DATABASE``, for those of several.
        host, port: where to listen; port 0: one that is free.
        judge_timeout: seconds that each call of a judge may take.
        on_start: told the address.

    Raises:
        InvalidInput: a file is none, a database cannot be reached, or nobody can listen there.
        MissingDependency: an optional package is not installed.
    """
    need("serve", "starlette", "uvicorn", "pydantic")
    import uvicorn

    from .app import application
    from .desk import Desk
    from .keys import KeyFile
    from .ledger import Ledger
    from .sessions import Sessions

    found = KeyFile(keys)
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    desk = Desk(Sessions(catalogue, Ledger(db), judge_timeout))
    config = uvicorn.Config(
        application(desk, found), log_config=None, access_log=False, timeout_graceful_shutdown=30
    )
    logging.getLogger("reroot.serving").setLevel(logging.INFO)
    with listening:
        on_start(f"http://{shown}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends at once only on sockets that say they are of TCP: else each answer waits 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"can't listen at {host}:{port}: {error}") from None
    return listening
