"""Keys: who may ask what, and how much. A file of TOML, in which keys stand as hashes.

[keys.NAME]
sha256 = "…"             # of the key
grants = "root/sample"   # the strongest contract it is granted
budget = {tokens = 5000} # in every currency of Budget; left out: unlimited
per_minute = 600         # requests per minute and server process
queue = 64               # requests that may wait at a time, per server process
request_tokens = 1000000 # tokens that one request may take at most, generated and submitted
ends = 2030-01-01        # the first day (UTC) on which it is refused
results = true           # whether it is told rewards and surprisals of what its learners return
secret_seed = false      # whether the seeds of its sessions are mixed with a secret of the server
revoked = true
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..checks import check_int
from ..contract import Contract
from ..errors import InvalidInput, nearest
from ..types import Budget

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")

REQUEST_TOKENS = 10**6
"""Tokens that one request of a key may take, where its table does not say."""

_FIELDS = (
    *("sha256", "grants", "budget", "per_minute", "queue", "request_tokens", "ends"),
    *("results", "secret_seed", "revoked"),
)


@dataclass(frozen=True, slots=True)
class Key:
    """What the holder of one key may do.

    Attributes:
        name: of its account.
        sha256: 64 hexadecimal digits, of the key.
        grants: the strongest contract of its sessions.
        budget: what all of it may spend, for ever.
        per_minute: requests per minute (``None``: no limit).
        queue: requests that may wait.
        request_tokens: that one request may take in the worst case, generated and submitted; a round of
            the server takes no more of the key than one such request, so that others wait no longer.
        ends: the first day on which it is refused.
        results: whether closing a session tells reward and surprisal of what was returned: they say
            more about the output than most contracts do.
        secret_seed: whether draws are keyed by the given seed and a secret of the server, so that the holder cannot
            compute them.
        revoked: whether it is refused.
    """

    name: str
    sha256: str
    grants: Contract
    budget: Budget = Budget()
    per_minute: int | None = None
    queue: int = 64
    request_tokens: int = REQUEST_TOKENS
    ends: datetime.date | None = None
    results: bool = False
    secret_seed: bool = False
    revoked: bool = False

    def valid(self, today: datetime.date) -> bool:
        """Whether it is accepted on this day."""
        return not self.revoked and (self.ends is None or today < self.ends)

    def state(self) -> str:
        """How it stands now, in words; "": accepted without an end."""
        if self.revoked:
            return "revoked"
        if self.ends is None:
            return ""
        return f"until {self.ends}" if self.valid(_today()) else f"ended {self.ends}"


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def hash_of(key: str) -> str:
    """How a key stands in the file."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyFile:
    """The keys of a file; it is read again when it has changed, so that revoking works at once.

    Raises:
        InvalidInput: it cannot be read, or is no file of keys.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._file = Path(path), os.fspath(path)
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self.all()

    def all(self) -> tuple[Key, ...]:
        """All keys, also those that are no longer accepted."""
        try:
            state = os.stat(self._file)  # for every request
            seen = (state.st_mtime_ns, state.st_size)
            if seen != self._seen:
                self._keys = read_keys(self.path.read_text(encoding="utf-8"), str(self.path))
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"can't read the keys in {self.path}: {error}") from None
        return self._keys

    def find(self, given: str, today: datetime.date | None = None) -> Key | None:
        """The key that is given, if it is one and accepted; every hash is compared, in constant time."""
        mark, found = hash_of(given), None
        for key in self.all():
            if hmac.compare_digest(mark, key.sha256):
                found = key
        return found if found is not None and found.valid(today or _today()) else None

    def named(self, name: str) -> Key:
        """A key by its name (``InvalidInput``)."""
        for key in self.all():
            if key.name == name:
                return key
        raise InvalidInput(f"no key {name!r}.{nearest(name, [k.name for k in self.all()])}")


def read_keys(text: str, what: str) -> tuple[Key, ...]:
    """The keys that a text describes (``InvalidInput``)."""
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{what} is no TOML: {error}") from None
    wrong = tables.keys() - {"keys"}
    if wrong or not isinstance(tables.get("keys", {}), dict):
        raise InvalidInput(f"{what} has tables [keys.NAME] alone, got {sorted(wrong) or 'keys'}")
    found = tuple(_key(name, table, what) for name, table in tables.get("keys", {}).items())
    hashes = [key.sha256 for key in found]
    if len(set(hashes)) != len(hashes):
        raise InvalidInput(f"{what}: two names have the same key")
    return found


def _key(name: str, table: Any, what: str) -> Key:
    at = f"{what}: [keys.{name}]"
    if not _NAME.fullmatch(name) or not isinstance(table, dict):
        raise InvalidInput(f"{at}: a name is up to 64 letters, digits, '-' and '_' and has a table")
    told = cast("dict[str, Any]", table)
    for field in told:
        if field not in _FIELDS:
            raise InvalidInput(f"{at}: unknown {field!r}.{nearest(field, _FIELDS)}")
    sha256, budget, ends = told.get("sha256"), told.get("budget", {}), told.get("ends")
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise InvalidInput(f"{at}: sha256 must be 64 hexadecimal digits, got {sha256!r:.80}")
    if not isinstance(budget, dict):
        raise InvalidInput(f"{at}: budget must be a table, got {budget!r}")
    for currency in cast("dict[str, Any]", budget):
        if currency not in Budget.__dataclass_fields__:
            known = list(Budget.__dataclass_fields__)
            raise InvalidInput(f"{at}: a budget limits no {currency!r}.{nearest(currency, known)}")
    if ends is not None and type(ends) is not datetime.date:
        raise InvalidInput(f"{at}: ends must be a day, as in 2030-01-01, got {ends!r}")
    for field in ("results", "secret_seed", "revoked"):
        if not isinstance(told.get(field, False), bool):
            raise InvalidInput(f"{at}: {field} must be true or false, got {told[field]!r}")
    rate = told.get("per_minute")
    return Key(
        name,
        sha256,
        Contract.parse(told.get("grants", "")).resolved,
        Budget(**budget),
        None if rate is None else check_int(f"{at}: per_minute", rate, 1),
        check_int(f"{at}: queue", told.get("queue", 64), 1),
        check_int(f"{at}: request_tokens", told.get("request_tokens", REQUEST_TOKENS), 1),
        ends,
        told.get("results", False),
        told.get("secret_seed", False),
        told.get("revoked", False),
    )


def add_key(path: Path, name: str, grants: str, budget: Budget, **more: Any) -> str:
    """Add a key to a file, which is made if it is not there; the key itself, which is nowhere else.

    Args:
        path: the file.
        name: of the account.
        grants: a contract.
        budget: what it may spend.
        more: other fields of the table; ``None`` leaves one out.

    Raises:
        InvalidInput: there is that name already, or a value is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"a key's name is of letters, digits, _ and -, up to 64, got {name!r}")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if any(key.name == name for key in read_keys(text, str(path))):
        raise InvalidInput(f"{path} has a key {name!r} already")
    secret = f"rr-{secrets.token_urlsafe(32)}"
    table: dict[str, Any] = {"sha256": hash_of(secret), "grants": str(Contract.parse(grants))}
    table |= {"budget": budget.to_dict()} if budget.to_dict() else {}
    table |= {field: value for field, value in more.items() if value is not None}
    lines = [f"[keys.{name}]", *(f"{field} = {_toml(value)}" for field, value in table.items())]
    added = (text + "\n" if text else "") + "\n".join(lines) + "\n"
    read_keys(added, str(path))
    _write(path, added)
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Have a key refused from now on (``InvalidInput``: there is no such key)."""
    if KeyFile(path).named(name).revoked:
        return
    text = path.read_text(encoding="utf-8")
    head = re.compile(rf"^\[keys\.{re.escape(name)}\][^\n]*\n(?:revoked *=[^\n]*\n)?", re.MULTILINE)
    changed = head.sub(f"[keys.{name}]\nrevoked = true\n", text, count=1)
    revoked = {key.name: key.revoked for key in read_keys(changed, str(path))}
    if not revoked[name]:
        raise InvalidInput(f"write 'revoked = true' into [keys.{name}] of {path} by hand")
    _write(path, changed)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        inner = ", ".join(f"{k} = {_toml(v)}" for k, v in cast("dict[str, Any]", value).items())
        return f"{{{inner}}}"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for its owner's eyes."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.touch(mode=0o600)
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
