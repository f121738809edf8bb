"""Serving over HTTP, in this process."""

from __future__ import annotations

import gc
import logging
import resource
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, need
from .catalogue import Catalogue
from .connections import PATIENCE, protocol

if TYPE_CHECKING:
    import uvicorn


log = logging.getLogger("reroot.serving")


def serve(
    catalogue: Catalogue,
    *,
    keys: str | Path,
    db: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    judge_timeout: float | None = None,
    patience: float = PATIENCE,
    workers: int = 0,
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
        patience: seconds in which a client must have sent its request, and taken its answer.
        workers: processes that take requests, beside this one, which answers them; 0: it does both.
        on_start: told the address.

    Raises:
        BackendError: a worker has ended by itself.
        InvalidInput: a file is none, a database cannot be reached, or nobody can listen there.
        MissingDependency: an optional package is not installed.
    """
    need("serve", "starlette", "uvicorn", "pydantic")
    import uvicorn

    from .app import AnyDesk, application
    from .desk import Desk
    from .keys import KeyFile
    from .ledger import Ledger
    from .sessions import Sessions
    from .workers import serve_by

    _say_what_is_slow()
    if not patience > 0:
        raise InvalidInput(f"clients need some time: client_timeout must be > 0, got {patience}")
    found = KeyFile(keys)
    listening = listen(host, port)
    _collect_rarely()
    shown = f"[{host}]" if ":" in host else host
    log.setLevel(logging.INFO)

    def desk() -> Desk:
        return Desk(Sessions(catalogue, Ledger(db), judge_timeout))

    def run(asked: AnyDesk) -> None:
        config = configuration(application(asked, found), patience)
        uvicorn.Server(config).run(sockets=[listening])

    with listening:
        url = f"http://{shown}:{listening.getsockname()[1]}"
        if workers == 0:
            inside = desk()
            on_start(url)
            run(inside)
            return
        ledger = Ledger(db)  # neither a connection nor a thread may be there when workers are made
        ledger.close()
        serve_by(workers, catalogue, ledger.secret, desk, run, lambda: on_start(url))


def _say_what_is_slow() -> None:
    slow = [name for name in ("httptools", "uvloop") if find_spec(name) is None]
    if slow:
        log.warning(
            "%s: not installed (group 'serve' has it); requests take more of the processor",
            " and ".join(slow),
        )


def _collect_rarely() -> None:
    """What a server holds it holds long: to look through all of it again and again stops every answer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def configuration(app: Any, patience: float = PATIENCE) -> uvicorn.Config:
    """How an application is served; as many connections as there are descriptors for."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=protocol(patience),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
        limit_concurrency=_descriptors() - _OWN,
    )


def _descriptors() -> int:
    """How many descriptors this process may have, which are now as many as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if 0 <= hard <= _MOST else _MOST
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


_MOST = 1 << 16
_OWN = 64  # descriptors for files


def listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends at once only on sockets that say they are of TCP: else each answer waits 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"can't listen at {host}:{port}: {error}") from None
    return listening
