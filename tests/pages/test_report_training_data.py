"""What the page of training runs is made from: runs as they are read, compared and drawn."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reroot.access.sealing import sealed
from reroot.errors import RunFolderError
from reroot.pages.training.data import labels, load_training, state
from reroot.pages.training.figures import (
    curve,
    evaluated,
    gap_panel,
    moving_mean,
    series_of,
    window_of,
    zero_variance_shares,
)
from reroot.pages.training.page import load_runs
from training_runs import CONTRACTS, journal, write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished root run, a finished adaback run, and one of plurality that goes on."""
    path = tmp_path_factory.mktemp("runs")
    return [
        write_run(path / "t1", "root"),
        write_run(path / "t2", "adaback"),
        write_run(path / "t3", "plurality", steps=33, end=None),
    ]


# -- reading -----------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(folders: list[Path]) -> None:
    run = load_training(folders[1])
    assert [line["step"] for line in run.steps] == list(range(1, 61))
    assert [line["step"] for line in run.evaluations] == [0, 20, 40, 60]
    assert run.arm == "adaback"
    assert run.tokens == 60 * 3900
    assert run.end is not None
    assert str(run.contract) == CONTRACTS["adaback"]
    roots = [x["root"] for x in journal(folders[1], "step") if x["root"] is not None]
    assert run.tail("root") == pytest.approx(np.mean(roots[-10:]))
    assert run.tail("nothing") is None
    np.testing.assert_array_equal(np.isnan(run.column("root")), np.arange(1, 61) % 3 > 0)


def test_later_lines_replace_earlier_ones_and_half_a_line_is_left(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "t", steps=3, every=0, end=None)
    more = [
        {"name": "step/2", "step": 2, "tokens": 10**6, "root": 0.75},
        {"name": "step/4", "step": 4, "tokens": 2 * 10**6, "root": math.nan},
        {"name": "checkpoint/4", "file": "x"},
    ]
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"".join(map(sealed, more)) + b'{"name": "step/5", "ste')
    before = (folder / "journal.jsonl").read_bytes()
    run = load_training(folder)
    assert [line["step"] for line in run.steps] == [1, 2, 3, 4]
    assert run.steps[1]["root"] == 0.75
    assert run.steps[3]["root"] is None
    assert run.tokens == 2 * 10**6
    assert (folder / "journal.jsonl").read_bytes() == before  # it may still be written to


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not JSON", "line 2: not a journal line: it has no checksum"),
        ('{"step": 3}', "expected an object with a name"),
        ('{"name": "step/3", "tokens": 1}', "step must be an integer >= 0, got None"),
        ('{"name": "step/3", "step": 3, "tokens": "many"}', "tokens must be a number or null, got 'many'"),
        ('{"name": "step/3", "step": 3, "root": [1]}', "root must be a number or null"),
        ('{"name": "step/3", "step": 3, "spent": 5}', "spent must map names to numbers"),
        ('{"name": "end", "step": 3, "tokens": "all"}', "tokens must be a number or null"),
        ('{"name": "eval/3", "step": 3, "root": 0.5}', "root must map names to numbers"),
        ('{"name": "eval/3", "step": 3, "root": {"one": 0.5}}', "invalid literal"),
        ('{"name": "eval/3", "step": 3, "horizons": {"8": 1}}', "expected an object with root and prefix"),
        ('{"name": "eval/3", "step": 3, "horizons": [8]}', "horizons must map horizons to rates"),
    ],
)  # fmt: skip
def test_damaged_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    folder = write_run(tmp_path / "t")
    first = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
    second = sealed(json.loads(line)) if line.startswith("{") else line.encode() + b"\n"
    (folder / "journal.jsonl").write_bytes(first + second)
    with pytest.raises(RunFolderError, match="line 2") as caught:
        load_training(folder)
    assert said in str(caught.value)
    assert str(folder / "journal.jsonl") in str(caught.value)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a folder"):
        load_training(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"not a run folder.*config\.json"):
        load_training(tmp_path)
    with pytest.raises(RunFolderError, match=r"holds no training run.*'compare', expected 'train'"):
        load_training(write_run(tmp_path / "a", kind="compare"))
    with pytest.raises(RunFolderError, match="unknown control level 'sideways'"):
        load_training(write_run(tmp_path / "b", contract="sideways/sample"))
    with pytest.raises(RunFolderError, match="arm must be a name such as 'root', got 3"):
        load_training(_with(write_run(tmp_path / "c"), arm=3))
    with pytest.raises(RunFolderError, match="horizon must be an integer, got None"):
        load_training(write_run(tmp_path / "h", horizon=None))
    with pytest.raises(RunFolderError, match="budget must map currencies to amounts, got 5"):
        load_training(write_run(tmp_path / "d", budget=5))
    empty = write_run(tmp_path / "e", steps=0, every=0)
    with pytest.raises(RunFolderError, match="no step and no evaluation yet"):
        load_training(empty)
    (empty / "journal.jsonl").unlink()
    with pytest.raises(RunFolderError, match="no step and no evaluation yet"):
        load_training(empty)
    with pytest.raises(RunFolderError, match="at least one training run"):
        load_runs([])
    twice = write_run(tmp_path / "f")
    with pytest.raises(RunFolderError, match="named twice"):
        load_runs([twice, tmp_path / "e" / ".." / "f"])


def _with(folder: Path, **config: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def test_how_far_a_run_is(folders: list[Path], tmp_path: Path) -> None:
    assert state(load_training(folders[0])) == "all 60 steps done"
    assert state(load_training(folders[2])) == "unfinished: step 33 of 60"
    stopped = write_run(tmp_path / "t", steps=21, end="budget")
    assert state(load_training(stopped)) == "budget spent at step 21"


# -- several runs ------------------------------------------------------------------------------


def test_labels_say_what_differs(tmp_path: Path) -> None:
    def named(*configs: dict[str, Any]) -> list[str]:
        count = len(list(tmp_path.iterdir()))
        made = [
            write_run(tmp_path / f"{count + i}" / "x", **c, steps=1) for i, c in enumerate(configs)
        ]
        return labels([load_training(folder) for folder in made])

    root, back = {"arm": "root"}, {"arm": "adaback"}
    assert named(root) == ["root"]
    assert named(root, back) == ["root", "adaback"]
    assert named(root, back | {"seed": 1}) == ["root, seed 0", "adaback, seed 1"]
    assert named(back, back | {"horizon": 12, "beta": 0.1}) == [
        "adaback, horizon 8, β 0.02", "adaback, horizon 12, β 0.1"
    ]  # fmt: skip
    assert named(back | {"model": "/models/tiny"}, back) == ["adaback, tiny", "adaback, smollm2"]
    assert named(back, root | {"task": "parity"}) == ["adaback, running_sum", "root, parity"]
    strategies = back | {"strategy": "adaback(tau=0.5)"}, back | {"strategy": "adaback(tau=0.3)"}
    assert named(*strategies, root) == ["adaback(tau=0.5)", "adaback(tau=0.3)", "root"]
    assert named(root, back, back | {"learning_rate": 0.001}) == [
        "root", "adaback, learning rate 0.0001", "adaback, learning rate 0.001"
    ]  # fmt: skip
    twice = named(root, root)  # nothing differs but the place
    assert len(set(twice)) == 2
    assert all(label.startswith("root, ") for label in twice)


def test_labels_name_the_folder_where_nothing_else_differs(tmp_path: Path) -> None:
    runs = [load_training(write_run(tmp_path / name, "root")) for name in ("first", "again")]
    assert labels(runs) == ["root, first", "root, again"]


def test_seeds_share_a_colour_and_root_has_its_own(tmp_path: Path) -> None:
    arms = ["adaback", "root", "plurality", "adaback", "root", "verified", "tree", "r3"]
    seeds = [0, 0, 0, 1, 1, 0, 0, 0]
    runs = [
        load_training(write_run(tmp_path / f"{i}", arm, steps=1, seed=seed))
        for i, (arm, seed) in enumerate(zip(arms, seeds, strict=True))
    ]
    series = series_of(runs)
    colors = [one.color for one in series]
    assert [c for c, arm in zip(colors, arms, strict=True) if arm == "root"] == ["root", "root"]
    assert colors[0] == colors[3] == "chosen"
    assert colors[2] == "visited"
    assert len(set(colors)) == 6
    assert len({(one.color, one.style) for one in series}) == 8
    assert len({one.style for one in series}) == 8
    unrooted = [one.color for one in series_of([runs[0], runs[6]])]
    assert unrooted == ["chosen", "reset"]  # the colour of root control is no other's


# -- curves ------------------------------------------------------------------------------------


def test_moving_means() -> None:
    values = np.array([1.0, 5.0, 3.0, -1.0, 2.0])
    expected = [np.mean(values[max(0, i - 2) : i + 1]) for i in range(5)]
    np.testing.assert_allclose(moving_mean(values, 3), expected)
    np.testing.assert_allclose(moving_mean(values, 1), values)
    assert len(moving_mean(np.empty(0), 3)) == 0


def test_curves_are_means_of_the_steps_that_have_the_number(folders: list[Path]) -> None:
    run = load_training(folders[1])
    x, y = curve(run, run.column("root"), 4)
    known = [line for line in journal(folders[1], "step") if line["root"] is not None]
    assert x.tolist() == [line["tokens"] for line in known]
    assert y[-1] == pytest.approx(np.mean([line["root"] for line in known[-4:]]))
    np.testing.assert_allclose(
        zero_variance_shares(run),
        [line["zero_variance"] / 4 for line in journal(folders[1], "step")],
    )
    x, gap = evaluated(run, "gap")
    lines = journal(folders[1], "eval")
    assert x.tolist() == [line["tokens"] for line in lines]
    np.testing.assert_allclose(gap, [line["prefix"]["1"] - line["root"]["1"] for line in lines])
    ticks = re.findall(r">(\d+)(?:\.0)?</text>", gap_panel(series_of([run])))
    assert max(map(int, ticks[-5:])) == 8  # the y axis comes last: points, not shares
    rooted = load_training(folders[0])
    assert not len(evaluated(rooted, "gap")[0])
    assert not len(curve(rooted, rooted.column("prefix"), 4)[0])


def test_long_runs_are_thinned_but_keep_their_ends(tmp_path: Path) -> None:
    run = load_training(write_run(tmp_path / "t", "root", steps=2000, every=0))
    x, _ = curve(run, run.column("kl"), 1)
    assert len(x) == 300
    assert (x[0], x[-1]) == (3000, 2000 * 3000)
    assert window_of([run]) == 50
