"""Ids that say the task, horizon and seed twice are short wherever people look; files keep them whole."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import reroot
from commands import call
from reroot import Problem
from reroot.generators.ngram import CharNgram
from reroot.pages.attempts.page import write_static
from reroot.pages.notebook import html_of
from reroot.runs.records import short_id
from reroot.tasks import get_task

WHOLE = "words/H6/s0/words/h6/s0/0"
SHORT = "words/h6/s0/0"


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("running_sum/H8/s0/running_sum/h8/s0/2", "running_sum/h8/s0/2"),
        ("a/b/H8/s1/a/b/h8/s1/2", "a/b/h8/s1/2"),
        ("maze/H8/s1/maze/3", "maze/H8/s1/3"),
        ("copy/H8/s0/copy/h8/s1/2", "copy/H8/s0/h8/s1/2"),
        ("copy/H8/s0/copying/h8/s0/2", "copy/H8/s0/copying/h8/s0/2"),
        ("hidden_path/H3/s0/000", "hidden_path/H3/s0/000"),
        ("d.jsonl/H0/s0/d/1", "d.jsonl/H0/s0/d/1"),
        (
            f"problem '{WHOLE}': the reward; {WHOLE} | x",
            f"problem '{SHORT}': the reward; {SHORT} | x",
        ),
    ],
)
def test_what_is_said_twice_is_said_once(whole: str, short: str) -> None:
    assert short_id(whole) == short
    assert short_id(short) == short


def test_problems_of_a_task_stay_apart() -> None:
    task = get_task("copy")
    cells = [(h, s) for h in (2, 12) for s in (0, 1, 12)]
    ids = [f"copy/H{h}/s{s}/{p.id}" for h, s in cells for p in task.problems(h, 3, s)]
    assert len({*map(short_id, ids)}) == len(ids) == 18


class Words:
    """The reward raises on the first problem, and is below what passes although the verifier accepts."""

    name = "words"

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        def broken(output: object) -> float:
            raise ValueError("no judge")

        return [
            Problem(
                id=f"words/h{horizon}/s{seed}/{i}",
                prompt="a ",
                max_tokens=horizon,
                reward=lambda output: 0.5,
                verifier=(lambda text, complete: True) if i else None,
            )
            if i
            else Problem(
                id=f"words/h{horizon}/s{seed}/{i}", prompt="a ", max_tokens=horizon, reward=broken
            )
            for i in range(count)
        ]


@pytest.mark.slow(2)
def test_every_place_where_people_look_has_the_short_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reroot.compare(
        generator=CharNgram("a cat sat. a cat ran. " * 9, order=2),
        task=Words(),
        horizons=[6],
        learners=["best_of_n:n=2"],
        grants=["root/sample", "reset/sample"],
        budget_tokens=60,
        seeds=1,
        problems=2,
        out=tmp_path / "c",
    )
    assert found.results["problem"][0] == WHOLE  # files keep it whole
    assert found.failures is not None
    assert SHORT in found.failures
    assert call("report", str(found.folder), "--macro") == 0
    assert call("show", str(found.folder)) == 0
    said = capsys.readouterr().out
    pages = [
        said,
        found.failures,
        html_of(found),
        (found.folder / "report.html").read_text(encoding="utf-8"),
    ]
    assert SHORT in " ".join(said.split())
    for text in pages:
        assert WHOLE not in "".join(text.split())
    page, _ = write_static([found.folder], tmp_path / "view.html")
    text = page.read_text(encoding="utf-8")
    data = json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])
    assert [p["id"] for p in data["problems"]] == [SHORT, "words/h6/s0/1"]
    assert call("show", str(found.folder), "--search", SHORT, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["problem"] == WHOLE
    assert pl.read_parquet(found.folder / "results.parquet")["problem"][0] == WHOLE
