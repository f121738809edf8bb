"""``reroot show``: attempts in the terminal and as JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from comparison_runs import SMALL, write_fixture
from reroot import InvalidInput, RunFolderError
from reroot.runs.record_folders import read_records
from reroot.runs.records import Filter
from toys import one_rollout, play, problem

KEYS = {
    *("id", "task", "problem", "horizon", "seed", "learner", "contract", "prompt", "output"),
    *("complete", "reward", "passed", "answer", "cost", "error", "transcript", "wrong_at"),
    *("run", "kind", "grants", "tokens", "pieces", "outcome", "metadata", "given", "step"),
    *("group", "rollout", "stopped", "surprisal", "prompt_tokens"),
}
"""The keys of docs/howto/attempts.md."""
HOSTILE = "\x1b[2J\u202e</script>"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "c"
    reroot.compare(
        model="hidden_path:K=3,H=3,p=0.5",
        learners=["best_of_n:n=2", "best_of_n:n=4", "greedy_walk", "tokenwise_rejection"],
        problems=3,
        seeds=1,
        budget_tokens=60,
        out=folder,
        transcripts=True,
    )
    return folder


def test_the_keys_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "attempts.md").read_text(
        encoding="utf-8"
    )
    table = page.partition("## Keys of `--json`")[2].partition("## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == KEYS


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert call("show", *arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_has_every_attempt_with_stable_keys(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lines(capsys, str(compared))
    assert len(found) == 12 == len({line["id"] for line in found})
    for line in found:
        assert set(line) == KEYS
        assert line["task"] == "hidden_path"
        assert line["horizon"] == 3
        assert line["prompt"]
        assert line["answer"]
        assert "".join(line["pieces"]) == line["output"]
        assert Path(line["transcript"]).is_file()
        assert line["passed"] == (line["output"] == line["answer"])
        wrong = [
            a != b for a, b in zip(line["output"].split(), line["answer"].split(), strict=True)
        ]
        assert line["wrong_at"] == (
            None
            if line["passed"]
            else {"token": (i := wrong.index(True)), "by": "verifier", "text": line["pieces"][i]}
        )


def test_filters(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = lines(capsys, str(compared))
    both = lines(capsys, str(compared), "--learner", "best_of_n")
    assert {line["learner"] for line in both} == {"best_of_n(n=2)", "best_of_n(n=4)"}
    assert len(lines(capsys, str(compared), "--learner", "best_of_n(n=4)")) == 3
    passed = lines(capsys, str(compared), "--passed")
    failed = lines(capsys, str(compared), "--failed")
    assert len(passed) + len(failed) == 12
    assert all(line["passed"] for line in passed)
    assert lines(capsys, str(compared), "--error") == []
    reset = lines(capsys, str(compared), "--contract", "reset/sample")
    assert {line["learner"] for line in reset} == {line["learner"] for line in every} - {
        "greedy_walk"
    }
    answer = every[0]["answer"]
    with_text = lines(capsys, str(compared), "--search", answer.upper())
    assert with_text == [x for x in every if answer in x["output"] or answer == x["answer"]]
    assert lines(capsys, str(compared), "--limit", "2") == every[:2]


def test_in_python_the_same_attempts(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = reroot.attempts(compared, learner="best_of_n", outcome="failed")
    assert [r.to_json() for r in found] == lines(
        capsys, str(compared), "--learner", "best_of_n", "--failed"
    )
    assert reroot.attempts(compared, search=".*(") == []  # a text, no pattern
    with pytest.raises(InvalidInput, match="one of passed, failed, error, abstained, got 'wrong'"):
        reroot.attempts(compared, outcome="wrong")
    with pytest.raises(RunFolderError, match="not a folder"):
        reroot.attempts(compared / "none")


def test_unknown_names_are_told_with_those_that_are_known(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, known in (
        ("--learner", "best_of_n(n=2), best_of_n(n=4), greedy_walk, tokenwise_rejection"),
        ("--task", "Known: hidden_path."),
        ("--contract", "root/sample+reward"),
    ):
        assert call("show", str(compared), option, "nonesuch") == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "'nonesuch'" in said
        assert known in said
    assert call("show", str(compared), "--search", "nowhere to be found") == 0
    assert "nothing found" in capsys.readouterr().out
    assert call("show", str(compared), "--failed", "--passed") == 2
    assert call("show", str(compared), "--limit", "0") == 2


def test_the_terminal_shows_each_part(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(compared), "--failed", "--learner", "best_of_n", "--limit", "1") == 0
    said = capsys.readouterr().out
    for part in (
        "failed, reward 0",
        "prompt",
        "wanted",
        "\u27ea",
        "where   token",
        "cost",
        "rollouts",
    ):
        assert part in said


def test_hostile_text_reaches_the_terminal_as_its_escape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = problem("p\x1b[31m", answer=HOSTILE, reward=lambda output: 0.0)
    play(one_rollout, task=task, out=tmp_path)
    assert call("show", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "\x1b[2J" not in said
    assert "\x1b[31m" not in said
    assert "\u202e" not in said
    assert "\\x1b[2J\\u202e</script>" in said


def test_old_folders_open_without_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recorded comparison without journal or texts: ids, said so; prompts from its problems."""
    folder = write_fixture(tmp_path / "old", SMALL)
    assert call("show", str(folder), "--limit", "1") == 0
    said = capsys.readouterr().out
    assert "before token texts were kept" in said
    assert "token ids" in said
    found = lines(capsys, str(folder))
    assert len(found) == 2 * 3 * 8 * len(SMALL.learners)
    assert all(line["pieces"] is None and line["tokens"] and line["prompt"] for line in found)


def test_runs_and_diagnoses_hold_attempts_too(tmp_path: Path) -> None:
    play(one_rollout, task=problem(answer="wanted"), out=tmp_path / "r")
    (record,) = read_records(tmp_path / "r").records
    assert (record.answer, record.prompt_tokens) == ("wanted", 0)
    reroot.diagnose("hidden_path:K=3,H=2,p=0.6", problems=2, budget_tokens=400, out=tmp_path / "d")
    found = read_records(tmp_path / "d").records
    assert len(found) > 8
    assert all(
        r.prompt and r.answer and r.pieces is not None for r in found if r.tokens is not None
    )


def test_folders_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a folder"):
        read_records(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"kind": "suite"}')
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "journal.jsonl").write_text("")
    with pytest.raises(RunFolderError, match=r"kind 'suite'.*it has the folders calls"):
        read_records(tmp_path)
    with pytest.raises(InvalidInput, match="Known: none"):
        Filter(task="x").select([])
