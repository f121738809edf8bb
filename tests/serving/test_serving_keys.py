"""Files of keys: what is none is refused by name; what is added or revoked is all that changes."""

from __future__ import annotations

import datetime
import re
import stat
from pathlib import Path

import pytest

from reroot import Budget, Contract, InvalidInput
from reroot.serving.keys import KeyFile, add_key, hash_of, read_keys, revoke_key

GOOD = f"sha256 = '{'0' * 64}'\ngrants = 'root/sample'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[keys.a", "no TOML"),
        ("[key.a]\n" + GOOD, "tables .keys.NAME. alone, got .'key'."),
        (f"[keys.a]\n{GOOD}[more]\n", "got .'more'."),
        ("keys = 3", "tables .keys.NAME. alone"),
        ("[keys]\na = 3", "a name is up to 64 letters"),
        (f"[keys.'a b']\n{GOOD}", "a name is up to 64 letters"),
        (f"[keys.{'a' * 65}]\n{GOOD}", "a name is up to 64 letters"),
        (f"[keys.a]\n{GOOD}budgets = 3", "unknown 'budgets'.* 'budget'"),
        ("[keys.a]\nsha256 = 3\ngrants = 'root/sample'", "64 hexadecimal digits, got 3"),
        (f"[keys.a]\n{GOOD}budget = 3", "budget must be a table, got 3"),
        (f"[keys.a]\n{GOOD}budget = {{token = 3}}", "limits no 'token'"),
        (f"[keys.a]\n{GOOD}budget = {{tokens = -3}}", "tokens must be an integer >= 0"),
        (f"[keys.a]\n{GOOD}ends = '2030-01-01'", "ends must be a day"),
        (f"[keys.a]\n{GOOD}ends = 2030-01-01T00:00:00", "ends must be a day"),
        *((f"[keys.a]\n{GOOD}{flag} = 1", f"{flag} must be true or false, got 1")
          for flag in ("results", "secret_seed", "revoked")),
        *((f"[keys.a]\n{GOOD}{name} = {value}", name)
          for name in ("per_minute", "queue", "request_tokens") for value in ("0", "1.5", "true", "''")),
        (f"[keys.a]\n{GOOD}[keys.b]\n{GOOD}", "two names have the same key"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_no_file_of_keys_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_keys(text, "keys.toml")


def test_a_key_has_what_its_table_says_and_else_the_defaults() -> None:
    (plain,) = read_keys(f"[keys.{'a' * 64}]\n{GOOD}", "keys.toml")
    told = "per_minute = 1\nqueue = 1\nrequest_tokens = 1\nends = 2030-01-01\nresults = true\n"
    told += "secret_seed = true\nrevoked = true\nbudget = {tokens = 5, usd = 0.5}\n"
    (full,) = read_keys(f"[keys.a]\n{GOOD}{told}", "keys.toml")
    assert (plain.per_minute, plain.queue, plain.request_tokens) == (None, 64, 1_000_000)
    assert (plain.ends, plain.budget) == (None, Budget())
    assert (plain.results, plain.secret_seed, plain.revoked) == (False, False, False)
    assert (full.per_minute, full.queue, full.request_tokens) == (1, 1, 1)
    assert (full.ends, full.budget) == (datetime.date(2030, 1, 1), Budget(tokens=5, usd=0.5))
    assert (full.results, full.secret_seed, full.revoked) == (True, True, True)
    assert full.grants == Contract.parse("root/sample").resolved
    assert not read_keys("", "keys.toml")


def test_adding_and_revoking_changes_one_key_alone(tmp_path: Path) -> None:
    """Others stay as they are written, comments too; the file is for its owner; nothing else is left."""
    path = tmp_path / "keys.toml"
    first = add_key(path, "a", "root/sample", Budget(tokens=5, usd=0.5), results=True, queue=None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("# mine\n" + path.read_text())
    second = add_key(path, "a-b", "chosen/full", Budget(), per_minute=3)
    assert re.fullmatch(r"rr-[\w-]{43}", second)
    assert [key.sha256 for key in KeyFile(path).all()] == [hash_of(first), hash_of(second)]
    with pytest.raises(InvalidInput, match="has a key 'a' already"):
        add_key(path, "a", "root/sample", Budget())
    before = path.read_text()
    for wrong in ("a b", "", "x]\n[keys.y"):
        with pytest.raises(InvalidInput):
            add_key(path, wrong, "root/sample", Budget())
    with pytest.raises(InvalidInput, match=r"no key 'ab'"):
        revoke_key(path, "ab")
    assert path.read_text() == before
    revoke_key(path, "a")
    revoke_key(path, "a")
    assert [key.revoked for key in KeyFile(path).all()] == [True, False]
    assert path.read_text() == before.replace("[keys.a]\n", "[keys.a]\nrevoked = true\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.toml"]


def test_what_cannot_be_revoked_by_machine_is_said(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(f"[ keys . a ]\n{GOOD}")
    with pytest.raises(InvalidInput, match=r"write 'revoked = true' into .keys.a."):
        revoke_key(path, "a")
    path.write_text(f"[keys.a] # hers\nrevoked = false\n{GOOD}")
    revoke_key(path, "a")
    assert KeyFile(path).named("a").revoked


def test_a_file_that_has_gone_or_is_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    with pytest.raises(InvalidInput, match="can't read the keys"):
        KeyFile(path)
    add_key(path, "a", "root/sample", Budget())
    keys = KeyFile(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="can't read the keys"):
        keys.all()
