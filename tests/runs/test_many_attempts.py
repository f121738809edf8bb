"""What keeps a run of very many attempts small: attempts on disk, tables in pieces, intervals without draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import reroot
from reroot.access.sealing import read_sealed, sealed
from reroot.diagnosis import intervals
from reroot.diagnosis.intervals import bootstrap_interval, bootstrap_means
from reroot.errors import RunFolderError
from reroot.pages.comparison import figures
from reroot.pages.comparison.page import render
from reroot.runs import kept, parted, tables
from reroot.runs.attempts import attempts_of
from reroot.runs.compare import load_comparison
from reroot.runs.folder import JOURNAL, cut_unfinished_line


def compared(out: Path) -> reroot.Comparison:
    return reroot.compare(
        model="hidden_path:K=3,H=3,p=0.6",
        learners=["best_of_n:n=2", "beam_search:width=2"],
        budget_tokens=500,
        seeds=2,
        problems=6,
        out=out,
        concurrency=4,
    )


def test_what_is_on_disk_alone_is_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = compared(tmp_path / "held")
    monkeypatch.setattr(kept, "HELD", 3)
    monkeypatch.setattr(tables, "_PIECE", 5)
    told = compared(tmp_path / "told")
    assert not isinstance(told.attempts, tuple)
    assert list(told.attempts) == list(held.attempts)
    assert told.attempts[2:5] == list(held.attempts[2:5])
    there, other = ((tmp_path / n / "results.parquet").read_bytes() for n in ("held", "told"))
    assert there == other
    assert told.results.equals(held.results)
    assert compared(tmp_path / "told").made == 0
    read = attempts_of(tmp_path / "told")
    assert len(read._here) == 3  # type: ignore[attr-defined]
    assert dict(read) == dict(attempts_of(tmp_path / "held"))


def test_a_failed_attempt_that_is_on_disk_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "HELD", 0)
    whole = compared(tmp_path)
    lines = [line for _, line in read_sealed(tmp_path / JOURNAL, "journal")]
    lines[2]["error"] = {"kind": "ValueError", "message": "no"}
    del lines[-1]
    (tmp_path / JOURNAL).write_bytes(b"".join(map(sealed, lines)) + b'{"key"')
    again = compared(tmp_path)
    assert again.made == 2
    assert again.results.equals(whole.results)
    assert again.failures is None


def test_results_in_parts_say_what_one_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_time(found: reroot.Comparison) -> dict[str, object]:
        return {k: v for k, v in found.summary.items() if k != "seconds"}

    whole = compared(tmp_path / "whole")
    page = render(whole.data, whole.summary)
    one = json.loads(json.dumps(without_time(whole)))
    monkeypatch.setattr(tables, "_PIECE", 5)
    monkeypatch.setattr(parted, "MOST", 10)
    monkeypatch.setattr(parted, "_GROUP", 3)
    stored = compared(tmp_path / "stored")
    assert not (tmp_path / "stored" / "results.parquet").exists()
    parts = sorted(p.name for p in (tmp_path / "stored" / "results").iterdir())
    assert parts == [f"part-{n:05d}.parquet" for n in range(len(parts))]
    assert len(parts) > 2
    read = load_comparison(tmp_path / "stored")
    for found in (stored, read):
        assert found.results.equals(whole.results)
        assert json.loads(json.dumps(without_time(found))) == one
        assert found.data.made == whole.data.made
        assert render(found.data, whole.summary) == page
    assert set(read.data.cells) == set(whole.data.cells)
    assert all(read.data.cells[k].equals(v) for k, v in whole.data.cells.items())
    (tmp_path / "stored" / "results" / parts[1]).unlink()
    with pytest.raises(RunFolderError, match="parts are missing"):
        load_comparison(tmp_path / "stored")
    monkeypatch.undo()
    assert compared(tmp_path / "stored").results.equals(whole.results)
    assert not (tmp_path / "stored" / "results").exists()


@pytest.mark.parametrize("size", [0, 5, 2**16 - 1, 2**16, 2**17 + 3])
def test_the_end_of_a_file_is_cut_wherever_its_last_line_begins(tmp_path: Path, size: int) -> None:
    file = tmp_path / "journal"
    for whole in (b"", b"a\n", b"a" * 70_000 + b"\n"):
        file.write_bytes(whole + b"b" * size)
        cut_unfinished_line(file)
        assert file.read_bytes() == whole


def test_intervals_of_many_are_those_of_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantiles of 8,000 resamples have a standard error of about 0.03 of the mean's: 0.1 is more than three."""
    rng = np.random.default_rng(0)
    for values, each in (
        (np.exp(1.2 * rng.normal(size=400)), 1),  # skewed: the normal law alone is 0.2 off
        ((rng.random(900) < 0.3).astype(float), 3),
    ):
        clusters = [i // each if i > 30 else 0 for i in range(len(values))]
        means = bootstrap_means(values, clusters, rng=np.random.default_rng(1), draws=8_000)[:, 0]
        monkeypatch.setattr(intervals, "MANY", 100)
        found = bootstrap_interval(values, clusters, rng=np.random.default_rng(1))
        monkeypatch.undo()
        low, high = np.quantile(means, [0.025, 0.975])
        assert abs(found.low - low) < 0.1 * means.std()
        assert abs(found.high - high) < 0.1 * means.std()
    monkeypatch.setattr(intervals, "MANY", 100)
    assert bootstrap_interval(np.ones(200), range(200), rng=rng) == (1.0, 1.0)


@pytest.mark.parametrize("count", [101, 128, 777])
def test_the_law_of_many_trials_is_that_of_few(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ps = np.random.default_rng(count).random(count) ** 3
    whole, band = intervals.poisson_binomial(ps), intervals.count_band(ps)
    monkeypatch.setattr(intervals, "MANY", 100)
    assert np.abs(intervals.poisson_binomial(ps) - whole).max() < 1e-14
    assert intervals.count_band(ps) == band


def test_a_panel_draws_some_of_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [np.log(np.full(4, p)) for p in (0.1, 0.2, 0.3, 0.4, 0.5)]
    whole = figures.loss_panel(lines, "x", cumulative=False)
    assert "drawn:" not in whole
    monkeypatch.setattr(figures, "_MOST_LINES", 3)
    some = figures.loss_panel(lines, "x", cumulative=False)
    assert "drawn: 3 of 5; the mean is of all" in some
    assert len(some) < len(whole)
