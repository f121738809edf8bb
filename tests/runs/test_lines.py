"""Lines of a file are what counts: attempts on one line, its repeats, abstentions, data sets, and horizons."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reroot
from comparison_runs import printed
from reroot.diagnosis import clopper_pearson
from reroot.pages.comparison.page import render
from reroot.runs.compare import Comparison
from reroot.tasks.lines import content_of, line_of
from reroot.types import Output
from toys import problem, tree

WORDS = "ab cc cd\nba dd dc abba\naab bba\nccdd\nAB.\n"
README = Path(__file__).parents[2] / "README.md"
LINES = [("ab", "cc"), ("ba", "cd"), ("bb", "dd"), ("aa", "dc"), ("aab", "cc"), ("bba", "cd")]


def on_file(folder: Path, lines: Iterable[tuple[str, str]], **more: Any) -> Comparison:
    """Greedy and best-of-4 of a trigram on every line of a file, three seeds."""
    rows = [{"prompt": p, "answer": a, "max_tokens": 6} for p, a in lines]
    (folder / "text.txt").write_text(WORDS)
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "model": f"ngram:{folder / 'text.txt'}",
        "task": f"{folder / 'lines.jsonl'}",
        "horizons": [1],
        "learners": ["greedy_walk", "best_of_n:n=4"],
        "seeds": 3,
        "problems": len(rows),
        "budget_tokens": 2_000,
    }
    return reroot.compare(**{**settings, **more}, out=folder / "run")


def on_problems(folder: Path, problems: list[Any], **more: Any) -> Comparison:
    settings: dict[str, Any] = {
        "generator": tree(),
        "learners": ["first_success", "plurality_walk"],
        "seeds": 2,
        "budget_tokens": 2_000,
    }
    return reroot.compare(problems=problems, **{**settings, **more}, out=folder / "run")


def cell_of(summary: dict[str, Any], learner: str) -> dict[str, Any]:
    return next(c for c in summary["cells"] if c["short"].startswith(learner))


def test_greedy_on_six_lines_under_three_seeds(tmp_path: Path) -> None:
    """0 of 18 attempts are 0 of 6 lines: 0–46 %, not 0–19 %; in the verdict's words too."""
    summary = on_file(tmp_path, LINES).summary
    cell = cell_of(summary, "greedy_walk")
    assert (cell["attempts"], cell["clusters"], cell["passed"]) == (18, 6, 0)
    assert cell["pass_interval"] == list(clopper_pearson(0, 6))
    best = cell_of(summary, "best_of_n")
    assert best["pass_interval"][1] > clopper_pearson(best["passed"], 18).high
    assert summary["verdicts"][0]["clusters"] == 6
    assert "Attempts on one line" in printed(summary, 100)


@pytest.mark.slow(1)
def test_repeated_lines_change_no_interval(tmp_path: Path) -> None:
    """A line three times, in capitals and with another answer too, is the line once."""
    for name in ("once", "often"):
        (tmp_path / name).mkdir()
    once = on_file(tmp_path / "once", LINES).summary
    often = on_file(
        tmp_path / "often", [*LINES, ("ab", "cc"), (" AB.", "cc"), ("ab", "dd")]
    ).summary
    cells = [cell_of(summary, "greedy_walk") for summary in (once, often)]
    assert [c["attempts"] for c in cells] == [18, 27]
    assert [c["clusters"] for c in cells] == [6, 6]
    for name in ("pass_rate", "pass_interval"):
        assert cells[0][name] == cells[1][name]


def test_problems_that_a_seed_draws_stand_for_themselves(tmp_path: Path) -> None:
    run = reroot.compare(
        model=f"ngram:{README}",
        task="copy",
        horizons=[1],
        learners=["greedy_walk"],
        seeds=3,
        problems=8,
        out=tmp_path / "run",
    )
    table = run.data.problems
    assert table["cluster"].to_list() == table["problem"].to_list()
    assert all(c["clusters"] == c["attempts"] for c in run.summary["cells"])
    assert "Attempts on one line" not in printed(run.summary, 100)


def test_content_of_problems() -> None:
    """Same prompt, answer and demonstration; without, the id tells; what a problem says stands."""
    same = [problem(name, prompt=(1,), answer="x") for name in ("p", "q")]
    assert content_of(same[0]) == content_of(same[1])
    assert content_of(same[0]) != content_of(problem("p", prompt=(1,), answer="y"))
    assert content_of(problem("p")) != content_of(problem("q"))
    assert content_of(problem("p", cluster="mine")) == "mine"
    assert line_of("What is 2 + 3?") == line_of("what is  2 + 3") != line_of("What is 2 - 3?")


def test_problems_as_objects_are_the_same_under_every_seed(tmp_path: Path) -> None:
    run = on_problems(tmp_path, [problem(f"p{i}") for i in range(5)])
    assert {c["clusters"] for c in run.summary["cells"]} == {5}
    assert {c["attempts"] for c in run.summary["cells"]} == {10}


# ---- the judge abstains ----------------------------------------------------------------------------


def silent_on(*ids: int) -> Callable[[int], Any]:
    def made(i: int) -> Any:
        def reward(output: Output) -> float | None:
            return None if i in ids else float(output.tokens[0] == 0)

        return problem(f"p{i}", reward=reward)

    return made


def test_abstentions_are_in_no_rate_and_counted(tmp_path: Path) -> None:
    run = on_problems(tmp_path, [*map(silent_on(0), range(12))], learners=["plurality_walk"])
    rows = run.data.attempts(run.data.learners[0], "problems", 0)
    cell = run.summary["cells"][0]
    assert (cell["attempts"], cell["abstained"], cell["clusters"]) == (24, 2, 11)
    told = rows.filter(~pl.col("problem").str.ends_with("p0"))
    assert cell["passed"] == told["passed"].sum()
    assert cell["pass_rate"] == pytest.approx(told["passed"].mean())
    assert cell["reward"] == pytest.approx(told["reward"].mean())
    assert cell["reward_attempts"] == cell["j_beta_attempts"] == 22
    said = printed(run.summary, 100)
    assert "The judge abstained, and the attempt counts nowhere: plurality_walk (2)." in said


@pytest.mark.slow(1)
def test_a_judge_that_always_abstains(tmp_path: Path) -> None:
    """No rate, no mean, no verdict; tables and the page say so with a dot."""
    pytest.importorskip("matplotlib")
    run = on_problems(tmp_path, [*map(silent_on(*range(4)), range(4))])
    for cell in run.summary["cells"]:
        assert cell["abstained"] == cell["attempts"] == 8
        assert cell["pass_rate"] is cell["reward"] is cell["j_beta"] is None
        assert cell["pass_interval"] == [0.0, 1.0]
    assert run.summary["verdicts"][0]["kind"] == "undetermined"
    assert run.summary["differences"] == []
    assert "·" in printed(run.summary, 100)
    assert "not judged" in reroot.report(run.folder).read_text()


def test_verdicts_are_on_what_was_judged_of_everyone(tmp_path: Path) -> None:
    """Of 24 attempts 2 are not judged, fewer than a tenth: the others decide."""
    run = on_problems(tmp_path, [*map(silent_on(3), range(12))])
    verdict = run.summary["verdicts"][0]
    assert (verdict["attempts"], verdict["clusters"]) == (22, 11)


# ---- data sets, and no horizons ----------------------------------------------------------------------


def test_macro_averages_count_each_data_set_once(tmp_path: Path) -> None:
    """Nine problems of one group and three of another: the mean of two rates."""
    makers = silent_on()
    made = [replace(makers(i), group="many" if i < 9 else "few") for i in range(12)]
    run = on_problems(tmp_path, made)
    found = run.summary["macro"]
    assert found["sets"] == ["problems: few", "problems: many"]
    for row in found["rows"]:
        rates = [one["pass_rate"] for one in row["sets"].values()]
        assert row["pass_rate"] == pytest.approx(sum(rates) / 2)
        assert row["reward"] == pytest.approx(row["pass_rate"])
        low, high = row["pass_interval"]
        assert low < row["pass_rate"] <= high <= 1
        assert row["missing"] == []
    assert {row["contract"] for row in found["rows"]} == {
        c["contract"] for c in run.summary["cells"]
    }


@pytest.mark.slow(1)
def test_the_page_shows_what_was_read_and_the_macro_average(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    makers = silent_on()
    made = [replace(makers(i), group="<many>" if i < 9 else "few") for i in range(12)]
    run = on_problems(tmp_path, made)
    page = render(run.data, run.summary)
    assert "Mean over 2 data sets" in page
    assert "problems: &lt;many&gt;" in page
    rate = run.summary["macro"]["rows"][0]["pass_rate"]
    assert f"<td>{100 * rate:.0f} <small>" in page
    run.data.config["notes"] = ["d.jsonl: 12 rows, layout <plain>"]
    assert "<li>d.jsonl: 12 rows, layout &lt;plain&gt;</li>" in render(run.data, run.summary)


def test_one_data_set_has_no_macro_average(tmp_path: Path) -> None:
    assert "macro" not in on_problems(tmp_path, [problem("p")]).summary


@pytest.mark.slow(1)
def test_without_horizons_there_is_no_column_of_them(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = on_problems(tmp_path, [problem(f"p{i}") for i in range(3)])
    said, page = printed(run.summary, 100), reroot.report(run.folder).read_text()
    assert run.summary["horizons"] == {"problems": [0]}
    assert "horizon" not in said
    assert "problems: undetermined" in said
    shown = re.split(r"<h2[^>]*>(?:How to read|Reproduce)", page)[0]
    assert "horizon" not in shown.partition("</header>")[2]
    assert "<p><b>Lines.</b>" in page


def test_a_folder_without_clusters_is_refused(tmp_path: Path) -> None:
    run = on_problems(tmp_path, [problem("p")])
    file = run.folder / "problems.parquet"
    pl.read_parquet(file).drop("cluster").write_parquet(file)
    with pytest.raises(reroot.RunFolderError, match="lacks the columns cluster"):
        reroot.report(run.folder)
