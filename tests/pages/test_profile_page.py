"""The page of an access profile: every claim, every setting, and nothing of a server that is not escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from html_checks import Checker, Reader
from reroot.errors import InvalidInput
from reroot.pages.profile import write_profile_page

EVIL = "<script>alert('&')</script>\u202e"


def claim(name: str, holds: bool | None, evidence: str = "seen", **more: Any) -> dict[str, Any]:
    return {"claim": name, "holds": holds, "evidence": evidence, "tokens": 12} | more


def setting(name: str, value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "low": low, "high": high, "note": "in any order"}


SETTINGS = [
    setting("temperature", 0.803, 0.755, 0.86),
    setting("top_k", 41, 41, None),
    setting("min_p", 0.05, 0.0, 0.053),
    setting("repetition_penalty", 1.1, 1.06, 1.14),
]


def profile(**more: Any) -> dict[str, Any]:
    claims = [
        claim("token ids", True),
        claim("draws", True, "z = 0.3", error_rate=1e-3),
        claim("given tokens", None, "undetermined: the budget does not reach"),
        claim("draws, no field", False, f"z = −13.9 {EVIL}", carries=False, settings=SETTINGS),
    ]
    told = {"endpoint": f"http://127.0.0.1:1/{EVIL}", "model": f"m{EVIL}", "dialect": "llamacpp"}
    counts = {"tokens": 12345, "calls": 67, "longest_list": 100, "vocab_size": 49152}
    return {"contract": "chosen/topk(100)@T=1", "claims": claims} | told | counts | more


def page(tmp_path: Path, **more: Any) -> str:
    path = write_profile_page(profile(**more), tmp_path)
    assert path == tmp_path / "profile.html"
    return path.read_text("utf-8")


def tables(text: str) -> list[list[list[str]]]:
    reader = Reader()
    reader.feed(text)
    assert reader.outside == []
    return reader.tables


def test_it_stands_alone_and_is_escaped(tmp_path: Path) -> None:
    text, checker = page(tmp_path), Checker()
    checker.feed(text)
    assert checker.open == []
    assert "script" not in checker.tags
    assert [x for x in checker.links if not x.startswith("#")] == []
    assert "\u202e" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_contract_is_said_in_words(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "chosen/topk(100)@T=1 may be granted" in text
    assert "start anywhere" in text
    assert "the 100 most likely tokens" in text
    for shown in ("2 of 3", "1 more unknown", "12,345", "in 67 calls", "of 49,152 tokens"):
        assert shown in text
    assert "nothing may be granted" in page(tmp_path, contract="root/none")


def test_every_claim_has_its_evidence(tmp_path: Path) -> None:
    claims = tables(page(tmp_path))[0]
    assert ["A contract rests on"] in claims
    assert ["Good to know"] in claims
    rows = {row[0]: row[1:] for row in claims if len(row) == 4}
    assert rows["token ids"] == ["holds", "seen", "12"]
    assert rows["draws"][1] == "z = 0.3an honest server fails with probability 0.001"
    assert rows["given tokens"][0] == "unknown"
    assert rows["draws, no field"][0] == "fails"


def test_settings_stand_with_intervals_and_bounds_are_no_values(tmp_path: Path) -> None:
    found = tables(page(tmp_path))[1]
    rows = {row[0]: row[1:4] for row in found if len(row) == 5}
    assert found[1] == ["no sampling field sent"]
    assert rows["temperature"] == ["0.803", "0.755 to 0.86", "1"]
    assert rows["top-k"] == ["off, or ≥ 41", "41 to ∞", "off"]
    assert rows["min-p"] == ["off, or ≤ 0.053", "0 to 0.053", "0"]
    assert rows["repetition penalty"] == ["1.1", "1.06 to 1.14", "1"]


def test_without_settings_it_says_whether_they_were_looked_for(tmp_path: Path) -> None:
    honest = [claim("draws", True), claim("draws, no field", True)]
    assert "Draws show none." in page(tmp_path, claims=honest)
    assert "were not compared" in page(tmp_path, claims=[claim("draws", None)])


def test_what_is_missing_says_what_it_would_add(tmp_path: Path) -> None:
    missing = {row[0]: row[2] for row in tables(page(tmp_path))[2][1:]}
    assert set(missing) == {"given tokens", "draws, no field"}
    assert "one call" in missing["given tokens"]
    own = page(tmp_path, claims=[claim("odd", False, adds="something odd")])
    assert "something odd" in own
    assert "What is missing" not in page(tmp_path, claims=[claim("draws", True)])


def test_draws_that_do_not_follow_are_not_overlooked(tmp_path: Path) -> None:
    assert 'role="alert"' in page(tmp_path, claims=[claim("draws", False)])
    assert 'role="alert"' not in page(tmp_path)


def test_another_text_is_no_contract(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="contract"):
        page(tmp_path, contract="everything")
