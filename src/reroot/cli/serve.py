"""``reroot serve`` and ``reroot keys``."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import BackendError, InvalidInput
from ..specs import split
from .app import command, console, table_of
from .console import print_json

if TYPE_CHECKING:
    from ..serving.ledger import Ledger

_T = TypeVar("_T")


@command()
def serve(
    *,
    model: str,
    keys: Path,
    db: str,
    task: str = "",
    horizons: str = "",
    problems: int | None = None,
    seeds: int = 1,
    name: str = "reroot",
    host: str = "127.0.0.1",
    port: int = 8000,
    judge_timeout: float | None = None,
    client_timeout: float = 60.0,
    workers: int = 0,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Serve a generator and problems over HTTP: each key is held to its contract and its budgets.

    Learners elsewhere get the same sessions as in process ('reroot.connect', or --model http://HOST:PORT
    without a task); OpenAI's clients get /v1/completions and /v1/chat/completions, which grant what the
    key's contract grants. Ends at SIGTERM or Ctrl-C, when what is asked is answered.

    Example:

        reroot keys add alice --keys keys.toml --grants root/sample --budget tokens=100000
        reroot serve --model hidden_path:K=4,H=4,p=0.4 --keys keys.toml --db serve.sqlite --port 8000

    Args:
        model: What is behind the door (see 'reroot list generators').
        keys: The file of keys, which 'reroot keys' writes.
        db: The SQLite file of accounts and sessions, made if it is not there, which servers of one machine may share;
            or postgresql://USER@HOST:PORT/DATABASE, for servers of several.
        task: Task or tasks, as of 'reroot compare'; none for an exact family.
        horizons: Task sizes, comma-separated.
        problems: Problems per task, horizon and seed (default: 8; exact families 32).
        seeds: Number of seeds; each has its own problems.
        name: What clients are told the model is called: the spec of an exact family tells its law.
        host: Where to listen.
        port: Where to listen; 0: at a free port.
        judge_timeout: Seconds that one call of a reward or verifier may take (no limit).
        client_timeout: Seconds in which a client must have sent its request, and taken its answer.
        workers: Processes that take requests (HTTP and JSON), beside the one that answers them; 0: one does both.
        chat: Use the model's chat template.
        dtype: float32 (exact) or bfloat16 (another generator).
        device: cpu or cuda.
    """
    from ..checks import check_int
    from ..runs.models import Load
    from ..runs.workload import build_workload
    from ..serving.catalogue import Catalogue, Offer
    from ..serving.server import serve as serve_it

    sizes = _integers(horizons)
    load = Load(chat, dtype, device)
    tasks = split(task, ":") if task else []
    work = _aside(lambda: build_workload(model, tasks, sizes, seeds, problems, load))
    offers = [
        Offer(episode, cell.task, cell.horizon, cell.seed)
        for cell in work.cells
        for episode in cell.episodes
    ]
    catalogue = Catalogue(name, work.generator, offers)
    logging.basicConfig(format="%(message)s")
    settings = {"keys": keys, "db": db, "host": host, "port": port, "judge_timeout": judge_timeout}
    settings |= {"patience": client_timeout, "workers": check_int("workers", workers, 0, 256)}
    serve_it(catalogue, **settings, on_start=lambda url: console.say(f"serving at {url}"))


def _aside(call: Callable[[], _T]) -> _T:
    """What a call returns, made by a thread that is gone afterwards, as are the threads that compute for it.

    The desk's thread has some of its own, and where there are more than cores, OpenMP has all of them sleep
    instead of spin between two steps, which costs a language model a twentieth of its rate.
    """
    from ..tasks.calls import DaemonThreads

    threads = DaemonThreads(1)
    try:
        return threads.submit(call).result()
    finally:
        threads.shutdown()


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InvalidInput(f"--horizons takes integers, got {text!r}") from None


@command("results", "secret_seed", "json")
def keys(
    action: str,
    name: str | None = None,
    *,
    keys: Path,
    db: str | None = None,
    grants: str = "root/sample",
    budget: str = "",
    per_minute: int | None = None,
    queue: int | None = None,
    request_tokens: int | None = None,
    ends: str | None = None,
    results: bool = False,
    secret_seed: bool = False,
    older: str | None = None,
    json: bool = False,
) -> None:
    """Keys of 'reroot serve': add, list, revoke, usage, prune.

    A key is shown once, when it is added; the file has its hash. 'prune' frees what sessions were told that have been
    idle for long, beside servers that go on: accounts stay as they are, and what was told is not drawn again.

    Example:

        reroot keys add alice --keys keys.toml --grants root/sample --budget tokens=100000,calls=5000
        reroot keys usage --keys keys.toml --db serve.sqlite
        reroot keys revoke alice --keys keys.toml
        reroot keys prune --keys keys.toml --db serve.sqlite --older 30d

    Args:
        action: add, list, revoke, usage or prune.
        name: Of the key.
        keys: The file of keys.
        db: The accounts, for usage and prune: what 'reroot serve' was given as --db.
        grants: The strongest contract that the key is granted.
        budget: What it may spend in all, as in tokens=5000,calls=20 (default: no limit).
        per_minute: Requests per minute (default: no limit).
        queue: Requests that may wait at a time (default: 64).
        request_tokens: Tokens that one request may take at most, generated and submitted (default: 1,000,000).
        ends: The first day, as in 2030-01-31 (UTC), on which it is refused.
        results: Tell it rewards and surprisals of what its learners return.
        secret_seed: Mix the seeds that it gives with a secret of the server.
        older: For prune: how long sessions must have been idle, as in 30d or 12h.
        json: Print as JSON.
    """
    from ..serving.keys import KeyFile, revoke_key

    if action not in ("add", "list", "revoke", "usage", "prune"):
        raise InvalidInput(f"keys takes add, list, revoke, usage or prune, got {action!r}")
    if (older is None) == (action == "prune"):
        raise InvalidInput(f"keys {action} takes {'an' if older is None else 'no'} --older")
    if (name is None) == (action in ("add", "revoke")):
        raise InvalidInput(f"keys {action} takes {'a' if name is None else 'no'} name")
    if action == "add":
        more = {"per_minute": per_minute, "queue": queue, "ends": _day(ends)}
        more |= {"request_tokens": request_tokens}
        more |= {"results": results or None, "secret_seed": secret_seed or None}
        print(_added(keys, str(name), grants, budget, more))
    elif action == "revoke":
        revoke_key(keys, str(name))
        console.say(f"{name} is revoked")
    elif action == "list":
        rows = [_row(key) for key in KeyFile(keys).all()]
        _tell(rows, json)
    else:
        if db is None:
            raise InvalidInput(f"keys {action} needs --db, the file of accounts")
        _tell(_usage(keys, db) if older is None else _pruned(keys, db, _seconds(older)), json)


def _added(keys: Path, name: str, grants: str, budget: str, more: dict[str, object]) -> str:
    from ..runs.inputs import budget_of
    from ..serving.keys import add_key

    return add_key(keys, name, grants, budget_of(budget or None), **more)


def _day(text: str | None) -> object:
    import datetime

    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--ends takes a day, as in 2030-01-31, got {text!r}") from None


def _row(key: object) -> dict[str, object]:
    from ..serving.keys import Key

    assert isinstance(key, Key)
    budget = ",".join(f"{c}={n}" for c, n in key.budget.to_dict().items())
    return {"key": key.name, "grants": str(key.grants), "budget": budget, "state": key.state()}


def _usage(keys: Path, db: str) -> list[dict[str, object]]:
    from ..serving.keys import KeyFile

    with _accounts(db) as ledger:
        found = [(key.name, ledger.spent(key.name)) for key in KeyFile(keys).all()]
    return [{"key": name, **spent.to_dict()} for name, spent in found]


def _pruned(keys: Path, db: str, seconds: float) -> list[dict[str, object]]:
    from ..serving.database import Unavailable
    from ..serving.keys import KeyFile
    from ..serving.pruning import prune

    before = time.time() - seconds
    try:
        with _accounts(db) as ledger:
            freed = [(key.name, prune(ledger, key.name, before)) for key in KeyFile(keys).all()]
    except Unavailable as error:
        raise BackendError(f"{error.cause or error}; what was freed until then is") from None
    return [{"key": name, **asdict(one)} for name, one in freed]


def _seconds(text: str) -> float:
    """How long ``30d`` or ``12h`` is (``InvalidInput``)."""
    found = re.fullmatch(r"([0-9]{1,6})([hd])", text)
    if found is None or int(found[1]) < 1:
        # an hour at least, in which sessions may be idle without losing anything (ledger.IDLE)
        raise InvalidInput(f"--older takes days or hours, as in 30d or 12h, got {text!r}")
    return int(found[1]) * (3600.0 if found[2] == "h" else 86400.0)


@contextmanager
def _accounts(db: str) -> Iterator[Ledger]:
    """The accounts that are there (``InvalidInput``)."""
    from ..serving.ledger import Ledger

    if "://" not in db and not Path(db).exists():
        raise InvalidInput(f"there is no file {db}")
    ledger = Ledger(db, make=False)
    try:
        yield ledger
    finally:
        ledger.close()


def _tell(rows: list[dict[str, object]], json: bool) -> None:
    if json:
        print_json(rows)
        return
    kept = (
        [n for n in rows[0] if n in ("tokens", "sessions") or any(row[n] for row in rows)]
        if rows
        else ["key"]
    )
    table = table_of(*kept, fixed=1)
    for row in rows:
        table.add_row(*(str(row[name]) for name in kept))
    console.print(table)
