"""The report of training runs, on synthetic run folders whose numbers are known."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from commands import call
from html_checks import Checker
from reroot.contract import Contract
from reroot.errors import MissingDependency, RunFolderError
from reroot.pages.training.data import labels, last_passes, load_training, passes, state
from reroot.pages.training.figures import (
    curve,
    evaluated,
    gap_panel,
    moving_mean,
    series_of,
    zero_variance_shares,
    window_of,
)
from reroot.pages.training.page import load_runs, write_training_page
from reroot.pages.training.tables import common_tokens, may_ask
from reroot.pages.training.terminal import training_table

CONTRACTS = {
    "root": "root/sample+reward@T=1",
    "plurality": "visited/sample+reward@T=1",
    "adaback": "chosen/logprob+reward+demonstration@T=1",
}
HOSTILE = "</pre><script>alert(1)</script>&\"'$x^2$[red]"


def write_run(
    folder: Path,
    arm: str = "adaback",
    *,
    steps: int = 60,
    every: int = 20,
    horizons: tuple[int, ...] = (8,),
    end: str | None = "steps",
    change: Callable[[dict[str, Any]], None] = lambda line: None,
    **config: Any,
) -> Path:
    """Write config.json and journal.jsonl of a training run; ``change`` may spoil every line."""
    seed = config.get("seed", 0)
    rng = np.random.default_rng([seed, len(arm)])
    rooted, built = arm == "root", 0 if arm == "root" else 900
    hint = {"root": None, "plurality": 0.2}.get(arm, 0.08)
    settings = {
        "kind": "train", "version": "0.1.0", "command": f"reroot train --strategy {arm} --seed {seed}",
        "model": "smollm2", "task": "running_sum", "horizon": 8, "strategy": f"{arm}()", "arm": arm,
        "contract": CONTRACTS.get(arm, CONTRACTS["adaback"]), "beta": 0.02, "kl": "k1_reward",
        "seed": seed, "steps": 60, "groups": 4, "size": 8, "learning_rate": 1e-4,
        "budget": {"tokens": 500_000},
    }  # fmt: skip
    lines: list[dict[str, Any]] = []
    for step in range(steps + 1):
        tokens = step * (3000 + built)
        skill = step / 60 * (0.25 if rooted else 0.9)
        if step:
            lines.append(_step(rng, step, tokens, skill, built * step, rooted))
        if every and step % every == 0:
            lines.append(_evaluation(step, tokens, skill, hint, horizons))
    lines.append({"name": "event/1", "step": 5, "text": f"no signal for 5 steps {HOSTILE}"})
    if end:
        last = {"name": "end", "step": steps, "reason": end, "tokens": steps * (3000 + built)}
        lines.append(last)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings | config))
    for line in lines:
        change(line)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "journal.jsonl").write_text(text)
    return folder


def _step(
    rng: np.random.Generator, step: int, tokens: int, skill: float, built: int, rooted: bool
) -> dict[str, Any]:
    spent = {"rollouts": 32 * step, "tokens": tokens, "rewards": 32 * step, "queries": built // 10}
    return {
        "name": f"step/{step}", "step": step, "tokens": tokens,
        "spent": spent, "building": built // step,
        "root": skill + 0.02 * rng.random() if rooted or step % 3 == 0 else None,
        "prefix": None if rooted else min(1.0, skill + 0.1), "kl": 0.01 * step - 0.005,
        "silent": int(rng.integers(0, 5)), "groups": 4, "start": 0.0 if rooted else 6.0 - step / 20,
        "longest": 0 if rooted else 7, "loss": None if step == 1 else 0.1, "grad_norm": 1.0,
        "seconds": 2.0,
    }  # fmt: skip


def _evaluation(
    step: int, tokens: int, skill: float, hint: float | None, horizons: tuple[int, ...]
) -> dict[str, Any]:
    def rates(p: float) -> dict[str, float]:
        return {str(k): 1 - (1 - min(p, 1.0)) ** k for k in (1, 2, 4, 8)}

    def part(scale: float) -> dict[str, Any]:
        prefix = None if hint is None else rates(scale * (skill + hint))
        return {"root": rates(scale * skill), "prefix": prefix}

    parts = {str(h): {"problems": 64, **part(8 / h)} for h in horizons} if len(horizons) > 1 else {}
    return {"name": f"eval/{step}", "step": step, "tokens": tokens, "n": 8, "problems": 64,
            **part(1.0), "horizons": parts, "seconds": 3.0}  # fmt: skip


def journal(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind, read without the code under test."""
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["name"].split("/")[0] == kind]


class Tables(HTMLParser):
    """Every table of a page as rows of cell texts, the head first."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self.tables[-1][-1].append("".join(self._cell or []))
            self._cell = None


def table_of(page: str, column: str) -> dict[str, dict[str, str]]:
    """Run → column → cell, of the first table that has a run in each row and this column."""
    reader = Tables()
    reader.feed(page)
    head, *rows = next(t for t in reader.tables if t[0][0] == "run" and column in t[0])
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished root run, a finished adaback run, and one of plurality that goes on."""
    path = tmp_path_factory.mktemp("runs")
    return [
        write_run(path / "t1", "root"),
        write_run(path / "t2", "adaback"),
        write_run(path / "t3", "plurality", steps=33, end=None),
    ]


@pytest.fixture(scope="module")
def page(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "all.html"
    assert write_training_page(folders, out) == out
    return out.read_text(encoding="utf-8")


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
    with (folder / "journal.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in more) + '{"name": "step/5", "ste')
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
        ("not JSON", "line 2: not a line of a training journal"),
        ('"step/1"', "expected an object with a name"),
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
    first = (folder / "journal.jsonl").read_text().splitlines()[0]
    (folder / "journal.jsonl").write_text(f"{first}\n{line}\n")
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
        zero_variance_shares(run), [line["silent"] / 4 for line in journal(folders[1], "step")]
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


# -- the page ----------------------------------------------------------------------------------


def test_the_page_shows_the_numbers_of_the_journal(folders: list[Path], page: str) -> None:
    shown = table_of(page, "transfer gap, points")
    assert list(shown) == ["root", "adaback", "plurality"]
    for folder, row in zip(folders, shown.values(), strict=True):
        last = journal(folder, "eval")[-1]
        assert row["evaluated at, tokens"] == f"{last['tokens']:,}"
        assert row["problems × samples"] == "64 × 8"
        p = last["root"]["1"]
        more = (64 * p + 1) / 66
        error = 100 * math.sqrt(more * (1 - more) / 64)
        assert row["pass@1, root, %"] == f"{100 * p:.0f} ± {error:.0f}"
        assert row["pass@k, root, %"] == f"{100 * last['root']['8']:.0f} k = 8"
        if last["prefix"] is None:
            assert row["pass@1, prefixes, %"] == row["transfer gap, points"] == "·"
        else:
            assert row["pass@1, prefixes, %"] == f"{100 * last['prefix']['1']:.0f}"
            gap = 100 * (last["prefix"]["1"] - p)
            assert row["transfer gap, points"] == f"{gap:+.0f}"
    assert shown["plurality"]["state"] == "unfinished: step 33 of 60"


def test_the_page_shows_the_last_steps(folders: list[Path], page: str) -> None:
    shown = table_of(page, "KL, nats per output")
    for folder, row in zip(folders, shown.values(), strict=True):
        steps = journal(folder, "step")
        for counted, column in (
            (steps, "zero-variance, all steps, %"),
            (steps[-10:], "zero-variance groups, %"),
        ):
            silent = sum(x["silent"] for x in counted) / sum(x["groups"] for x in counted)
            assert row[column] == f"{100 * silent:.0f}"
        assert row["KL, nats per output"] == f"{np.mean([x['kl'] for x in steps[-10:]]):.3g}"
        assert row["longest"] == f"{steps[-1]['longest']}"
    assert shown["root"]["reward, prefixes"] == "·"


def test_runs_are_compared_at_tokens_that_all_have_spent(folders: list[Path], page: str) -> None:
    """plurality was last evaluated at step 20, 78,000 tokens: that is where all can be compared."""
    runs = load_runs(folders)
    assert common_tokens(runs) == 20 * 3900
    shown = table_of(page, "within 78,000 tokens: pass@1, root, %")
    rates = [row["within 78,000 tokens: pass@1, root, %"] for row in shown.values()]
    # root: step 20 of 3000 tokens each (60,000); adaback and plurality: step 20
    assert rates == [f"{100 * 20 / 60 * 0.25:.0f}", f"{100 * 20 / 60 * 0.9:.0f}", f"{100 * 20 / 60 * 0.9:.0f}"]  # fmt: skip
    assert common_tokens(runs[:1]) is None
    assert common_tokens([runs[1], runs[1]]) is None
    assert last_passes(runs[0], within=-1) is None


def test_the_headline_names_the_best_run_and_its_gap(folders: list[Path], page: str) -> None:
    assert "Highest pass@1 from the root: adaback<" in page
    assert re.search(r"<dt>Root pass@1, pass@8</dt><dd><b>90 %, 100 %</b>", page)
    assert "64 problems × 8 samples<br>at step 60<br>at step 0: 0 %, 0 %" in page
    assert re.search(r"<dt>Transfer gap</dt><dd><b>\+8 points</b><span>98 % from its", page)
    largest = (
        r"<dt>Largest transfer gap</dt><dd><b>\+20 points</b>.*?plurality<br>50 % from prefixes"
    )
    assert re.search(largest, page)
    within = (
        "Highest within the 78,000 tokens that every run has spent: adaback and plurality, 30 %"
    )
    assert within in page
    assert re.search(r"<dt>Generated tokens per run</dt><dd><b>128,700 to 234,000</b>", page)


def test_costs_and_what_building_prefixes_took(folders: list[Path], page: str) -> None:
    shown = table_of(page, "generated tokens")
    assert shown["adaback"]["generated tokens"] == "234,000"
    assert shown["adaback"]["tokens that built prefixes"] == "54,000 23 %"
    assert shown["root"]["tokens that built prefixes"] == "0"
    assert shown["root"]["root-start rollouts"] == "1,920"
    assert shown["root"]["prefix queries"] == "·"
    assert "verifier calls" not in shown["root"]


def test_contracts_in_words(page: str) -> None:
    shown = table_of(page, "what it may ask")
    assert shown["root"]["what it may ask"] == (
        "Where: only complete rollouts from the empty prefix. Sees of a token: the drawn token. "
        "Oracles: outcome rewards of complete outputs."
    )
    assert (
        "any prefix. Sees of a token: the drawn token and its log-probability"
        in (shown["adaback"]["what it may ask"])
    )
    assert "demonstrations" in shown["adaback"]["what it may ask"]
    assert "the 5 most likely" in may_ask(Contract.parse("reset/topk(5)"))
    for report in ("none", "sample", "logprob", "full", "argmax(2)"):
        assert may_ask(Contract.parse(f"reset/{report}")).endswith("Oracles: none.")


def test_the_page_is_self_contained_and_takes_texts_literally(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert "script" not in checker.tags
    assert all(link.startswith("#") for link in checker.links)
    assert HOSTILE in unescape(page)
    body = page[page.index("</style>") :]
    assert not re.search(r"#[0-9a-fA-F]{6}\b", body)
    assert "nan" not in body.replace("dominan", "")
    # reward, gap, KL, zero-variance, start length, and pass@k at one horizon
    assert page.count('role="img"') == 6
    assert "reroot train --strategy plurality --seed 0" in page


def test_every_setting_is_taken_literally(tmp_path: Path) -> None:
    names = ("model", "task", "strategy", "command", "kl", "version", "more")
    made = [
        write_run(tmp_path / f"{i}", **{name: f"{name}{i}{HOSTILE}" for name in names})
        for i in range(2)
    ]
    for folders in (made, made[:1]):
        text = write_training_page(folders).read_text(encoding="utf-8")
        assert "<script" not in text
        for name in names:
            assert f"{name}0{HOSTILE}" in unescape(text)


def test_the_page_is_deterministic(folders: list[Path], tmp_path: Path) -> None:
    first = write_training_page(folders[:1], tmp_path / "a.html").read_bytes()
    assert write_training_page(folders[:1], tmp_path / "b.html").read_bytes() == first


def test_several_horizons_have_a_panel_each(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "t", horizons=(4, 8, 16))
    text = write_training_page([folder]).read_text(encoding="utf-8")
    for horizon in (4, 8, 16):
        assert f"pass@k at horizon {horizon};" in text
    assert "pass@1 against horizon" in text
    assert text.count('role="img"') == 5 + 4
    assert (folder / "report.html").exists()


def _no_numbers(line: dict[str, Any]) -> None:
    for name in (
        "root",
        "prefix",
        "kl",
        "silent",
        "start",
        "longest",
        "loss",
        "spent",
        "building",
        "horizons",
    ):
        if name in line:
            line[name] = None


SHAPES: dict[str, tuple[dict[str, Any], str, int]] = {
    "no evaluation": ({"every": 0, "end": None}, "No run has an evaluation yet", 4),
    "one step": ({"steps": 1, "every": 0, "end": None}, "unfinished: step 1 of 60", 4),
    "before the first step": ({"steps": 0, "end": None}, "<b>0 %, 0 %</b>", 3),
    "all null": ({"change": _no_numbers}, "No run has an evaluation yet", 0),
    "no settings": ({"steps": 3, "budget": None, "model": None, "command": None}, "command not recorded", 6),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_unfinished_and_empty_runs(tmp_path: Path, shape: str) -> None:
    what, said, figures = SHAPES[shape]
    folder = write_run(tmp_path / "t", **what)
    text = write_training_page([folder]).read_text(encoding="utf-8")
    body = text[text.index("</style>") :]
    assert said in body
    assert body.count('role="img"') == figures
    assert "nan" not in body.replace("dominan", "")
    assert printed([folder], 100)


def test_runs_of_different_tasks_are_not_ranked(tmp_path: Path) -> None:
    made = [write_run(tmp_path / task, task=task) for task in ("running_sum", "parity")]
    text = write_training_page(made).read_text(encoding="utf-8")
    assert "Highest" not in text
    assert "do not rank each other" in text
    assert "do not rank strategies" in text


def test_a_page_needs_matplotlib(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install reroot\[report\]"):
        write_training_page(folders, tmp_path / "x.html")


def test_errors_of_a_rate() -> None:
    line = {"step": 1, "tokens": 2, "root": {1: 0.2, 4: 0.5}, "prefix": {}, "problems": 100}
    found = passes(line)
    assert found.error == pytest.approx(math.sqrt(21 / 102 * 81 / 102 / 100))
    assert found.gap is None
    assert (found.k, found.root_k, found.n) == (4, 0.5, None)
    assert (passes({**line, "root": {1: 0.0}}).error or 0) > 0.009
    assert passes({**line, "problems": None}).error is None


# -- the terminal --------------------------------------------------------------------------------


def printed(folders: list[Path], width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(training_table(load_runs(folders), width))
    return out.getvalue()


def test_terminal_table(folders: list[Path], tmp_path: Path) -> None:
    text = printed(folders, 160)
    row = re.search(r"^ adaback .*$", text, re.MULTILINE)
    assert row is not None
    last = journal(folders[1], "eval")[-1]
    cells = re.split(r"  +", row.group().strip())
    assert cells[1:7] == [
        "60/60",
        "234,000",
        f"{100 * last['root']['1']:.0f}",
        f"{100 * last['root']['8']:.0f} (k=8)",
        f"{100 * last['prefix']['1']:.0f}",
        f"{100 * (last['prefix']['1'] - last['root']['1']):+.0f}",
    ]
    assert re.search(r"^ plurality +33/60 ", text, re.MULTILINE)
    assert "[red]" in text  # the event, literally
    stopped = write_run(tmp_path / "t", steps=21, end="budget")
    assert " 21/60, budget " in printed([stopped], 100)


def test_narrow_terminals_keep_the_gap(folders: list[Path]) -> None:
    for width in (100, 80, 60):
        text = printed(folders, width)
        assert max(map(len, text.splitlines())) <= width
        assert "adaback" in text
        assert "gap" in text.splitlines()[1]
    assert "reward root" not in printed(folders, 60)


# -- the command ---------------------------------------------------------------------------------


def test_report_overlays_training_runs(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.html"
    assert call("report", *map(str, folders[:2]), "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert f"report: {out}" in shown
    assert "adaback" in shown
    assert "2 training runs" in out.read_text(encoding="utf-8")
    alone = write_run(tmp_path / "alone")
    assert call("report", str(alone)) == 0
    assert (alone / "report.html").exists()


@pytest.mark.parametrize(
    ("kinds", "more", "said"),
    [
        (("train", "compare"), (), "holds no training run"),
        (("compare", "compare"), (), "only training runs are reported together"),
        (("reproduce", "compare"), (), "of kind 'reproduce'"),
        (("compare",), ("--out", "x.html"), "--out is for training runs"),
        (("compare",), ("--record", "x.parquet"), "--record is for training runs"),
    ],
)
def test_other_folders_are_reported_alone(
    kinds: tuple[str, ...],
    more: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = [str(write_run(tmp_path / f"{i}", kind=kind)) for i, kind in enumerate(kinds)]
    assert call("report", *made, *more) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert said in shown
