"""Texts beside token ids: whole, once each, resumable; where an output goes wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reroot import Prefix, RunFolderError
from reroot.access.episode import bind
from reroot.access.session import Session
from reroot.generators.tabular import Tabular
from reroot.runs.attempts import attempts_of
from reroot.runs.record_folders import read_records
from reroot.runs.texts import TEXTS, first_rejected, read_texts
from reroot.tasks.base import Problem
from reroot.types import Output
from toys import END, H, K, one_rollout, play, problem, search, tree

LETTERS = ("a", "\u00e9", "", "\x1b[31m")
"""Texts of the tokens 0 … 3; that of 3 is none to show a terminal."""


class Lettered(Tabular):
    """``tree()`` that speaks: token 2 alone is half of a character, two of them are one."""

    def decode(self, tokens: Sequence[int]) -> str:
        text, half = "", False
        for token in tokens:
            if token == 2:
                text, half = (text[:-1] + "\u2713", False) if half else (f"{text}\ufffd", True)
            else:
                text, half = text + LETTERS[token], False
        return text


def lettered() -> Tabular:
    return Lettered.random(K, H, seed=1, end=(END,))


def returning(*tokens: int) -> Any:
    async def body(session: Session) -> Prefix:
        return Prefix(tokens)

    return body


def test_a_folder_holds_the_text_of_what_it_names(tmp_path: Path) -> None:
    play(
        search, "reset/sample+reward+verifier", out=tmp_path, transcripts=True, generator=lettered()
    )
    found = read_texts(tmp_path)
    assert found.problems["p"]["prompt_tokens"] == 0
    assert found.problems["p"]["demonstration"] == [1, 2, END]
    assert {token: found.tokens[token] for token in (0, 1)} == {0: "a", 1: "\u00e9"}
    (attempt,) = attempts_of(tmp_path).values()
    pieces = found.pieces(attempt.key, attempt.output.tokens if attempt.output else ())
    assert pieces is not None
    assert "".join(pieces) == lettered().decode(attempt.output or ())


def test_half_characters_are_said_when_they_are_whole(tmp_path: Path) -> None:
    play(returning(1, 2, 2, 0, END), "chosen/sample", out=tmp_path, generator=lettered())
    (record,) = read_records(tmp_path).records
    assert record.pieces == ("\u00e9", "", "\u2713", "a", "\x1b[31m")
    assert record.output == "\u00e9\u2713a\x1b[31m"


def test_a_folder_that_is_continued_says_nothing_twice(tmp_path: Path) -> None:
    tasks = [problem(f"p{i}") for i in range(4)]
    play(one_rollout, task=tasks, out=tmp_path)
    before = (tmp_path / TEXTS).read_bytes()
    play(one_rollout, task=tasks, out=tmp_path)
    assert (tmp_path / TEXTS).read_bytes() == before
    journal = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(journal[:2]))  # as a kill leaves them
    (tmp_path / TEXTS).write_bytes(before + b'{"problem": "p')
    play(one_rollout, task=tasks, out=tmp_path)
    assert (tmp_path / TEXTS).read_bytes() == before
    lines = [json.loads(line) for line in before.splitlines()]
    assert [line["problem"] for line in lines if "problem" in line] == ["p0", "p1", "p2", "p3"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    play(one_rollout, out=tmp_path)
    text = (tmp_path / TEXTS).read_text().replace('"answer": ""', '"answer": "x"')
    (tmp_path / TEXTS).write_text(text)
    with pytest.raises(RunFolderError, match="line 1: not a text line"):
        read_records(tmp_path)


def test_the_first_rejected_token_is_where_the_verifier_turns() -> None:
    """By halving, of every string: the first prefix that a prefix-closed verifier rejects."""
    episode = bind(problem(), tree())
    for string in (
        (1, 1, 0, 1, 1),
        (0, 1, 1, 1, 1),
        (1, 1, 1, 1, 0),
        (1, 1, 1, 1, 1),
        (1, 2, END),
        (),
    ):
        right = next((i for i, token in enumerate(string) if token == 0), None)
        assert first_rejected(episode, string) == right


async def _later(output: Output) -> bool:
    return False


def _fails(output: Output) -> bool:
    raise ValueError("no")


@pytest.mark.parametrize("verifier", [None, _later, _fails, lambda output: False])
def test_nothing_is_claimed_where_no_verifier_tells(verifier: Any) -> None:
    plain: Problem = dataclasses.replace(problem(), verifier=verifier)
    assert first_rejected(bind(plain, tree()), (0, 1, 1, 1, 1)) is None


def test_the_demonstration_tells_where_there_is_no_verifier(tmp_path: Path) -> None:
    wanted = problem(verifier=None, demonstration=(1, 2, END), reward=lambda output: 0.0)
    play(returning(1, 1, 1, 1, 1), "chosen/sample", task=wanted, out=tmp_path)
    (record,) = read_records(tmp_path).records
    assert record.mark is not None
    assert (record.mark.token, record.mark.by) == (1, "demonstration")
    assert record.to_json()["wrong_at"] == {"token": 1, "by": "demonstration", "text": " 1"}


def test_a_verifier_is_not_charged_for_the_mark(tmp_path: Path) -> None:
    calls: list[int] = []

    def verifier(output: Output) -> bool:
        calls.append(len(output.tokens))
        return 0 not in output.tokens

    wrong = problem(verifier=verifier, reward=lambda output: 0.0)
    (attempt,) = play(returning(1, 0, 1, 1, 1), "chosen/sample", task=wrong, out=tmp_path)
    assert attempt.cost.verifications == 0
    assert len(calls) <= 6
    (record,) = read_records(tmp_path).records
    assert record.mark is not None
    assert (record.mark.token, record.mark.by) == (1, "verifier")
