"""The report of a comparison, on synthetic run folders whose numbers are known."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from html_checks import Checker
from reroot.diagnosis import (
    BASE_LIMIT,
    NO_DIFFERENCE,
    ROOT_LIMIT,
    UNDETERMINED,
    clopper_pearson,
)
from reroot.errors import MissingDependency, RunFolderError
from reroot.pages import summarize, terminal_table, write_report
from reroot.pages.kit.formatting import from_log, quantity, share, signed
from reroot.runs.results import short_names
from reroot.types import CURRENCIES

ALL = "+reward+verifier+demonstration@T=1"
GRANTS = ("root/sample", "visited/sample", "reset/argmax(1)", "chosen/full")


@dataclass(frozen=True)
class Fake:
    """A learner of the synthetic comparison: where it is permitted and how well it does."""

    name: str
    params: dict[str, str]
    requires: str
    contracts: tuple[int, ...]
    rate: Callable[[float, int, int], float]
    """(log p of one rollout, horizon, length in tokens) → pass probability."""
    tokens: Callable[[int], int] = lambda length: 16 * length

    @property
    def label(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.name}({shown})" if shown else self.name

    @property
    def oracles(self) -> list[str]:
        return [o for o in ("reward", "verifier", "demonstration") if o in self.requires]


def one_of(n: int) -> Callable[[float, int, int], float]:
    return lambda log_p, horizon, length: -math.expm1(n * math.log1p(-math.exp(log_p)))


LEARNERS = (
    Fake("best_of_n", {"n": "16", "oracle": "reward"}, "root/sample+reward", (0, 1, 3), one_of(16)),
    Fake("best_of_n", {"n": "16", "oracle": "verifier"}, "root/sample+verifier", (0, 1, 3), one_of(16)),
    Fake("first_success", {"batch": "4"}, "root/sample+reward", (0, 1, 3), one_of(256), lambda n: 200 * n),
    Fake("self_consistency", {"n": "16"}, "root/sample", (0, 1, 3), lambda p, h, n: math.exp(p / 2)),
    Fake("plurality_walk", {}, "visited/sample", (1, 3), lambda p, h, n: 0.8**h, lambda n: 250 * n),
    Fake("tokenwise_rejection", {"max_tries": "10000"}, "visited/sample+verifier", (1, 3), lambda p, h, n: 0.97, lambda n: 4 * n),
    Fake("greedy_walk", {}, "reset/argmax(1)", (2, 3), lambda p, h, n: 0.75**h, lambda n: n),
    Fake("demo_prefix", {"reveal": "0.5", "n": "16"}, "chosen/sample+reward+demonstration", (3,), lambda p, h, n: -math.expm1(16 * math.log1p(-math.exp(p / 2)))),
)  # fmt: skip


@dataclass(frozen=True)
class Fixture:
    """What a synthetic comparison contains."""

    tasks: tuple[str, ...] = ("running_sum", "count_on")
    horizons: tuple[int, ...] = (2, 4, 6, 8)
    learners: tuple[Fake, ...] = LEARNERS
    grants: tuple[str, ...] = GRANTS
    seeds: int = 3
    problems: int = 8
    unique: bool = True
    text: bool = True
    fixed: bool | None = None
    """Every attempt passes or fails, whatever its rate."""
    failing: str | None = None
    """Name of a learner whose attempts end with an error."""
    hostile: str = ""
    """Text to be found in every output, prompt and answer."""


def write_fixture(folder: Path, what: Fixture = Fixture(), seed: int = 0) -> Path:
    """Write config.json, results.parquet and problems.parquet as ``compare`` does."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    contracts = [g + ALL for g in what.grants]
    config = {
        "kind": "compare",
        "version": "0.1.0",
        "model": "smollm2" if what.text else "hidden_path:K=4,p=0.4",
        "tasks": list(what.tasks),
        "horizons": list(what.horizons),
        "grants": contracts,
        "learners": [
            {"name": x.name, "params": x.params, "label": x.label, "requires": x.requires}
            for x in what.learners
        ],
        "budget": {"tokens": 25_000},
        "budget_tokens_per_cell": 200_000,
        "seeds": what.seeds,
        "problems": what.problems,
        "beta": 0.02,
        "command": "reroot compare --model smollm2 --task running_sum,count_on --horizons 2,4,6,8",
    }
    (folder / "config.json").write_text(json.dumps(config))
    rows: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    for t, task in enumerate(what.tasks):
        for horizon in what.horizons:
            for s in range(what.seeds):
                for i in range(what.problems):
                    problem = _problem(rng, what, t, task, horizon, s, i)
                    problems.append(problem)
                    for fake in what.learners:
                        row = _attempt(rng, what, fake, problem)
                        for k in fake.contracts:
                            if k < len(contracts):
                                head = contracts[k].partition("+")[0]
                                rows.append(
                                    {
                                        "contract": contracts[k],
                                        "control": head.partition("/")[0],
                                        "report": head.partition("/")[2],
                                        **row,
                                    }
                                )
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "results.parquet")
    pl.DataFrame(problems, infer_schema_length=None).write_parquet(folder / "problems.parquet")
    return folder


def _problem(
    rng: np.random.Generator, what: Fixture, t: int, task: str, horizon: int, s: int, i: int
) -> dict[str, Any]:
    words = " ".join(str(x) for x in np.cumsum(rng.integers(1, 10, horizon)))
    tokens = [f" {w}" for w in words.split()] + ["\n"]
    if not what.text:
        tokens = [str(x) for x in rng.integers(0, 4, horizon)]
    scale = 1.7 if t == 0 else 0.35
    logprobs = -scale * rng.gamma(2.0, 0.5, len(tokens)) if what.text else np.log(np.full(len(tokens), 0.4))  # fmt: skip
    return {
        "task": task,
        "horizon": horizon,
        "seed": s,
        "problem": f"{task}/H{horizon}/s{s}/{i}",
        "unique": what.unique,
        "log_reach": float(logprobs.sum()) if what.unique else None,
        "demo_tokens": tokens,
        "demo_logprobs": logprobs.tolist(),
        "prompt": f"Input: 3 4 5\nOutput: 3 7 12\nInput: 2 9 1{what.hostile}\nOutput:" if what.text else "",
        "answer": (words if what.text else " ".join(tokens)) + what.hostile,
    }  # fmt: skip


def _attempt(
    rng: np.random.Generator, what: Fixture, fake: Fake, problem: dict[str, Any]
) -> dict[str, Any]:
    log_p, horizon = sum(problem["demo_logprobs"]), problem["horizon"]
    length = len(problem["demo_tokens"])
    rate = fake.rate(log_p, horizon, length)
    passed = bool(rng.random() < rate) if what.fixed is None else what.fixed
    cost = dict.fromkeys(CURRENCIES, 0)
    n = int(fake.params.get("n", 0))
    if fake.name == "first_success":
        p = math.exp(log_p)
        n = min(256, int(rng.geometric(max(p, 1e-12)))) if what.fixed is None else 256
        passed = what.fixed if what.fixed is not None else n < 256
    if fake.name in ("best_of_n", "first_success", "self_consistency"):
        cost |= {"rollouts": n, "tokens": n * length, "prefill": 60}
        cost |= {"verifications": n} if "verifier" in fake.oracles else {}
        cost |= {"rewards": n} if "reward" in fake.oracles else {}
    else:
        tokens = int(fake.tokens(length) * rng.uniform(0.6, 1.4)) + 1
        cost |= {"queries": tokens, "tokens": tokens, "prefill": length * (60 + length // 2)}
        cost["verifications"] = tokens if "verifier" in fake.oracles else 0
        cost["demonstrations"] = length if fake.name == "demo_prefix" else 0
    broken = what.failing == fake.name
    answer = problem["answer"] if passed else f"{problem['answer'][:-1]}?{what.hostile}"
    return {
        "learner": fake.label,
        "seed": problem["seed"],
        "problem": problem["problem"],
        "reward": None if broken else float(passed),
        "passed": passed and not broken,
        "complete": not broken,
        "text": "" if broken else answer,
        "tokens_out": None if broken else rng.integers(0, 4, length).tolist(),
        "surprisal": None if broken else -log_p if passed else float(rng.gamma(6.0, 1.0)),
        "error": f"ValueError: boom{what.hostile}" if broken else None,
        "stopped": "budget" if fake.name == "first_success" and not passed else None,
        **{f"cost_{c}": v for c, v in cost.items()},
        "task": problem["task"],
        "horizon": horizon,
        "needs_control": not fake.requires.startswith("root"),
        "oracles_used": "+".join(fake.oracles),
    }


SMALL = Fixture(tasks=("running_sum",), horizons=(2, 6), learners=LEARNERS[:2] + LEARNERS[4:7])


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The full synthetic comparison and its summary."""
    folder = write_fixture(tmp_path_factory.mktemp("run"))
    return folder, summarize(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a small comparison whose texts try to break out of it."""
    what = replace(SMALL, hostile="</pre><script>alert(1)</script>&\"'$x^2$[red]")
    folder = write_fixture(tmp_path_factory.mktemp("page"), what)
    return write_report(folder).read_text(encoding="utf-8")


def cell(summary: dict[str, Any], task: str, horizon: int, short: str) -> dict[str, Any]:
    return next(
        c for c in summary["cells"]
        if (c["task"], c["horizon"], c["short"]) == (task, horizon, short)
    )  # fmt: skip


def main_verdict(summary: dict[str, Any], task: str) -> dict[str, Any]:
    (found,) = (v for v in summary["verdicts"] if v["task"] == task and v["main"])
    return found


# -- summary -----------------------------------------------------------------------------------


def test_cells_are_what_the_table_says(full: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = full
    rows = pl.read_parquet(folder / "results.parquet")
    assert len(summary["cells"]) == len(
        rows.group_by("contract", "learner", "task", "horizon").agg()
    )
    for c in summary["cells"]:
        mine = rows.filter(
            (pl.col("contract") == c["contract"]) & (pl.col("learner") == c["learner"])
            & (pl.col("task") == c["task"]) & (pl.col("horizon") == c["horizon"])
        )  # fmt: skip
        assert c["attempts"] == len(mine) == 24
        assert c["passed"] == mine["passed"].sum()
        assert c["pass_interval"] == list(clopper_pearson(c["passed"], 24))
        assert c["reward"] == pytest.approx(mine["reward"].mean())
        bound = (mine["reward"] - 0.02 * mine["surprisal"]).mean()
        assert c["j_beta"] == pytest.approx(bound)
        low, high = c["j_beta_interval"]
        assert low <= c["j_beta"] <= high
        for currency in CURRENCIES:
            assert c["cost"][currency] == pytest.approx(mine[f"cost_{currency}"].mean())


def test_exact_rows_follow_the_exact_law(full: tuple[Path, dict[str, Any]]) -> None:
    """Expected counts by the closed form; the fixture draws from it, so at least 95 % lie inside.

    Per row the band misses with at most 5 %; of about 42 rows more than 7 miss with probability
    below 0.5 % (they are positively dependent in first_success, hence the wide margin).
    """
    folder, summary = full
    problems = pl.read_parquet(folder / "problems.parquet")
    for row in summary["exact"]:
        here = (problems["task"] == row["task"]) & (problems["horizon"] == row["horizon"])
        p = np.exp(problems.filter(here)["log_reach"].to_numpy())
        assert row["expected"] == pytest.approx((1 - (1 - p) ** row["rollouts"]).sum(), rel=1e-9)
        assert row["inside"] == (row["band"][0] <= row["passed"] <= row["band"][1])
    assert {r["short"] for r in summary["exact"]} == {
        "best_of_n(reward)", "best_of_n(verifier)", "first_success"
    }  # fmt: skip
    assert sum(not r["inside"] for r in summary["exact"]) <= 7


def test_a_wrong_law_is_outside(tmp_path: Path) -> None:
    """A best-of-16 that always passes is far from its exact law."""
    folder = write_fixture(tmp_path, replace(SMALL, fixed=True, horizons=(6,)))
    rows = summarize(folder)["exact"]
    assert rows
    assert not any(r["inside"] for r in rows)


def test_verdicts_of_the_synthetic_tasks(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    verdict = main_verdict(summary, "running_sum")
    assert verdict["horizon"] == 8
    assert verdict["kind"] == ROOT_LIMIT
    assert verdict["prefix"] == "tokenwise_rejection"
    assert verdict["without_verifier"] == BASE_LIMIT
    assert verdict["oracles"] == ["reward", "verifier", "demonstration"]
    assert any("best_of_n(verifier)" in note for note in verdict["notes"])
    assert any("demo_prefix" in note and "demonstration" in note for note in verdict["notes"])
    assert main_verdict(summary, "count_on")["kind"] == NO_DIFFERENCE
    assert [v["horizon"] for v in summary["verdicts"] if v["task"] == "count_on"] == [8, 6, 4, 2]


def test_best_of_n_with_the_whole_budget(full: tuple[Path, dict[str, Any]]) -> None:
    """25,000 tokens at 9 tokens a rollout (8 terms and the end) are 2,777.8 rollouts."""
    folder, summary = full
    problems = pl.read_parquet(folder / "problems.parquet")
    here = (problems["task"] == "running_sum") & (problems["horizon"] == 8)
    p = np.exp(problems.filter(here)["log_reach"].to_numpy())
    reach = next(r for r in summary["reach"] if (r["task"], r["horizon"]) == ("running_sum", 8))
    assert reach["tokens_per_rollout"] == 9
    assert reach["exact_with_budget"] == pytest.approx((1 - (1 - p) ** (25_000 / 9)).mean())
    assert main_verdict(summary, "running_sum")["exact_root"] == reach["exact_with_budget"]
    assert reach["log_rollouts"] == pytest.approx(-np.median(np.log(p)))
    draws = [sum(math.exp(-x) for x in line) for line in problems.filter(here)["demo_logprobs"]]
    assert reach["token_draws"] == pytest.approx(np.median(draws))


def test_differences_are_paired(full: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = full
    rows = pl.read_parquet(folder / "results.parquet").filter(
        pl.col("contract").str.starts_with("chosen")
    )
    wide = rows.pivot("learner", index=["task", "horizon", "seed", "problem"], values="passed")
    labels = {x["short"]: x["label"] for x in summary["learners"]}
    for d in summary["differences"]:
        here = wide.filter((pl.col("task") == d["task"]) & (pl.col("horizon") == d["horizon"]))
        mine, root = here[labels[d["learner"]]], here[labels[d["root"]]]
        assert d["wins"] == (mine & ~root).sum()
        assert d["losses"] == (~mine & root).sum()
        assert d["pass_interval"][0] <= d["pass_difference"] <= d["pass_interval"][1]


def test_summary_is_deterministic_and_keeps_what_only_the_run_knew(tmp_path: Path) -> None:
    folder = write_fixture(tmp_path, SMALL)
    spent = {"physical": {"forwards": 3}, "seconds": 1.5, "attempts_run": 7}
    (folder / "summary.json").write_text(json.dumps({**spent, "cells": "stale"}))
    first = summarize(folder)
    assert {k: first[k] for k in spent} == spent
    assert first["cells"] != "stale"
    text = (folder / "summary.json").read_text()
    assert json.loads(text) == first
    summarize(folder)
    assert (folder / "summary.json").read_text() == text


@pytest.mark.slow
def test_impossible_outputs_have_no_lower_bound(tmp_path: Path) -> None:
    """An output of probability 0 makes the lower bound −∞; a missing output is left out."""
    folder = write_fixture(tmp_path, SMALL)
    rows = pl.read_parquet(folder / "results.parquet")
    walk, bon = rows["learner"] == "plurality_walk", rows["learner"].str.starts_with("best_of_n")
    rows = rows.with_columns(
        surprisal=pl.when(walk).then(math.inf).when(bon).then(None).otherwise(pl.col("surprisal"))
    )
    rows.write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    assert cell(summary, "running_sum", 6, "plurality_walk")["j_beta"] == "-inf"
    assert cell(summary, "running_sum", 6, "best_of_n(reward)")["j_beta"] is None
    assert cell(summary, "running_sum", 6, "best_of_n(reward)")["j_beta_attempts"] == 0
    assert "−∞" in write_report(folder).read_text(encoding="utf-8")


# -- terminal ----------------------------------------------------------------------------------


def printed(summary: dict[str, Any], width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(terminal_table(summary, width))
    return out.getvalue()


def test_terminal_table(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    text = printed(summary, 100)
    assert "running_sum, horizon 8: root-start access is the limit" in text
    passed = cell(summary, "running_sum", 8, "tokenwise_rejection")["passed"]
    assert re.search(rf"tokenwise_rejection  V .* {100 * passed / 24:.0f} ", text)
    assert "Budget per attempt: 25,000 tokens. 8 problems x 3 seeds" in text
    assert "Other horizons: 6:" in text
    assert "95 % interval, by horizon" in text


def test_narrow_terminals_lose_columns_but_no_names(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    for width in (80, 55):
        text = printed(summary, width)
        assert max(map(len, text.splitlines())) <= width
        for learner in summary["learners"]:
            assert f" {learner['short']} " in text
    assert "95 % interval, by horizon" not in text
    assert "tokens at 8" not in text


def test_terminal_table_takes_names_literally(tmp_path: Path) -> None:
    what = replace(SMALL, tasks=("[red]sum[/red]",), failing="plurality_walk")
    text = printed(summarize(write_fixture(tmp_path, what)), 120)
    assert "[red]sum[/red], horizon 6" in text
    assert "errors count as not passed: plurality_walk (24)" in text


# -- page --------------------------------------------------------------------------------------


def test_page_is_self_contained_and_well_formed(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert not checker.tags & {
        "script",
        "link",
        "iframe",
        "img",
        "image",
        "object",
        "foreignobject",
    }
    ids = set(checker.ids)
    assert checker.links
    assert all(link.startswith("#") and link[1:] in ids for link in checker.links)
    used = re.findall(r"url\(#([^)]*)\)", page)
    assert used
    assert set(used) <= ids
    hosts = set(re.findall(r"https?://([^/\"\s]+)", page))
    assert hosts <= {"www.w3.org"}  # the SVG name space
    assert "@import" not in page


def test_page_escapes_what_models_write(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "$x^2$" in page  # neither TeX nor markup


def test_page_has_no_fixed_colours_left(page: str) -> None:
    """Everything drawn follows the light or dark style sheet."""
    body = page[page.index("</style>") :]
    assert not re.search(r"#[0-9a-fA-F]{6}\b", body)
    assert "var(--root)" in body
    assert "prefers-color-scheme: dark" in page


def test_page_says_what_was_found(page: str) -> None:
    for text in (
        "root-start access is the limit",
        "Success against horizon",
        "Success against budget",
        "Where the probability is lost",
        "The ledger",
        "Measured against the exact law",
        "Every cell",
        "Example attempts",
        "reroot compare --model smollm2",
        "lower bound",
        "tokenwise_rejection uses the process verifier",
    ):
        assert text in page, text
    # horizon: overview and 3 levels; budget: 5 currencies that several pay; ledger: all 6
    assert page.count('role="img"') == 4 + 5 + 2 + 6


def test_page_is_deterministic(tmp_path: Path) -> None:
    what = replace(SMALL, horizons=(4,), learners=LEARNERS[4:6] + LEARNERS[:1])
    folder = write_fixture(tmp_path, what)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


SHAPES = {
    "one horizon": replace(SMALL, horizons=(4,)),
    "one contract": replace(SMALL, grants=GRANTS[:1], learners=LEARNERS[:3]),
    "no root contract": replace(SMALL, grants=GRANTS[1:2], learners=(replace(LEARNERS[4], contracts=(0,)),)),
    "exact family": replace(SMALL, text=False),
    "all failed": replace(SMALL, fixed=False),
    "all passed": replace(SMALL, fixed=True),
    "no unique problem": replace(SMALL, unique=False),
    "errors": replace(SMALL, failing="tokenwise_rejection", hostile="<script>"),
    "one attempt": replace(SMALL, seeds=1, problems=1, horizons=(2,), unique=False),
    "one learner": replace(SMALL, learners=LEARNERS[:1], horizons=(2,)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_degenerate_comparisons(tmp_path: Path, shape: str) -> None:
    folder = write_fixture(tmp_path, SHAPES[shape])
    text = write_report(folder).read_text(encoding="utf-8")
    summary = json.loads((folder / "summary.json").read_text())
    assert "NaN" not in (folder / "summary.json").read_text()
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace(
        "dominan", ""
    )
    assert printed(summary, 100)
    kind = main_verdict(summary, "running_sum")["kind"]
    expected = {
        "one contract": UNDETERMINED,
        "no root contract": UNDETERMINED,
        "all failed": BASE_LIMIT,
        "one attempt": UNDETERMINED,
        "one learner": UNDETERMINED,
    }
    assert kind == expected.get(shape, kind)
    says = {
        "one contract": "No prefix-control learner was run",
        "no root contract": "No root-start learner was run",
        "exact family": "hidden_path:K=4,p=0.4 on running_sum",
        "all failed": "No attempt passed, so there is no curve to show.",
        "no unique problem": "No measured learner has an exact law here",
        "errors": "error: ValueError: boom&lt;script&gt;",
    }
    assert says.get(shape, "Verdict") in text
    assert "<script" not in text


def test_an_interrupted_run_compares_what_all_learners_share(tmp_path: Path) -> None:
    """With part of one learner missing, verdicts use the attempts that every learner has."""
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    hard = (rows["learner"].str.starts_with("tokenwise")) & (rows["seed"] == 0)
    rows = rows.with_columns(passed=pl.col("passed") & ~hard)
    early = (rows["learner"] == "greedy_walk") & (rows["seed"] < 2)
    rows.filter(~early).write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    verdict = main_verdict(summary, "running_sum")
    assert verdict["attempts"] == 8
    label = next(x["label"] for x in summary["learners"] if x["short"] == verdict["prefix"])
    assert verdict["prefix"] == "tokenwise_rejection"
    shared = rows.filter((pl.col("learner") == label) & (pl.col("seed") == 2))
    assert verdict["prefix_rate"] == shared["passed"].mean()
    assert cell(summary, "running_sum", 6, "greedy_walk")["attempts"] == 8
    assert cell(summary, "running_sum", 6, "plurality_walk")["attempts"] == 24


def test_contracts_with_other_oracles_are_judged_apart(tmp_path: Path) -> None:
    """Root with reward alone and prefix control with the verifier are no fair pair."""
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    root = pl.col("contract").str.starts_with("root")
    fewer = pl.when(root).then(pl.lit("root/sample+reward@T=1")).otherwise(pl.col("contract"))
    rows = rows.filter(~(root & pl.col("learner").str.contains("verifier")))
    rows = rows.filter(root | pl.col("learner").str.contains("walk|rejection"))
    rows.with_columns(contract=fewer).write_parquet(folder / "results.parquet")
    verdicts = summarize(folder)["verdicts"]
    assert {v["kind"] for v in verdicts} == {UNDETERMINED}
    assert sorted(len(v["oracles"]) for v in verdicts) == [1, 3]


def test_two_sampling_laws_are_two_learners(tmp_path: Path) -> None:
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    cold = rows.filter(rows["contract"].str.starts_with("root")).with_columns(
        contract=pl.col("contract").str.replace("T=1", "T=0.5"), passed=pl.lit(True)
    )
    pl.concat([rows, cold]).write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    assert cell(summary, "running_sum", 6, "best_of_n(reward, T=0.5)")["passed"] == 24
    assert cell(summary, "running_sum", 6, "best_of_n(reward, T=1)")["passed"] < 24
    assert {r["short"] for r in summary["exact"]} == {
        "best_of_n(reward, T=1)", "best_of_n(verifier, T=1)"
    }  # fmt: skip


# -- wrong folders and missing parts ---------------------------------------------------------------


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a folder"):
        summarize(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"not a run folder.*config\.json"):
        write_report(tmp_path)
    folder = write_fixture(tmp_path / "run", replace(SMALL, horizons=(2,)))
    config = json.loads((folder / "config.json").read_text())
    results, problems = folder / "results.parquet", folder / "problems.parquet"
    table = pl.read_parquet(results)

    (folder / "config.json").write_text(json.dumps({**config, "kind": "run"}))
    with pytest.raises(RunFolderError, match=r"holds no comparison.*'run'"):
        summarize(folder)
    (folder / "config.json").write_text(json.dumps({**config, "learners": []}))
    with pytest.raises(RunFolderError, match="does not name the learner 'best_of_n"):
        summarize(folder)
    (folder / "config.json").write_text(json.dumps(config))

    before = summarize(folder)
    table.drop("cost_values", "cost_hidden_states").write_parquet(
        results
    )  # as written by version 0.2
    assert summarize(folder) == before

    table.drop("passed", "cost_tokens").write_parquet(results)
    with pytest.raises(RunFolderError, match="lacks the columns passed, cost_tokens"):
        summarize(folder)
    table.with_columns(contract=pl.lit("sideways/sample")).write_parquet(results)
    with pytest.raises(RunFolderError, match="unknown control level 'sideways'"):
        summarize(folder)
    table.head(0).write_parquet(results)
    with pytest.raises(RunFolderError, match="holds no finished attempt"):
        summarize(folder)
    results.write_bytes(b"not parquet")
    with pytest.raises(RunFolderError, match=r"can't read .*results\.parquet"):
        summarize(folder)
    table.write_parquet(results)
    problems.unlink()
    with pytest.raises(RunFolderError, match=r"no problems\.parquet"):
        summarize(folder)


def test_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(2,)))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install reroot\[report\]"):
        write_report(folder)
    assert summarize(folder)["cells"]  # numbers and the terminal table need no matplotlib


@pytest.mark.slow
def test_reports_use_no_global_plotting_state(tmp_path: Path) -> None:
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(2,), learners=LEARNERS[:1]))
    code = (
        "import sys, reroot.pages\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"reroot.pages.write_report({str(folder)!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)


@pytest.mark.slow
def test_full_page(full: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = full
    text = write_report(folder).read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)


# -- words ----------------------------------------------------------------------------------------


def test_short_names() -> None:
    def entry(name: str, **params: str) -> dict[str, Any]:
        return {"name": name, "params": params}

    assert short_names([(entry("a", n="1"), "T=1"), (entry("b", n="1"), "T=1")]) == ["a", "b"]
    assert short_names([(entry("a", n="1", o="x"), "T=1"), (entry("a", n="2", o="x"), "T=1")]) == ["a(n=1)", "a(n=2)"]  # fmt: skip
    assert short_names([(entry("a", o="x"), "T=1"), (entry("a", o="y"), "T=1")]) == ["a(x)", "a(y)"]
    both = [(entry("a", n="1", o="x"), "T=1"), (entry("a", n="2", o="y"), "T=1")]
    assert short_names(both) == ["a(x)", "a(y)"]  # one parameter is enough
    three = [*both, (entry("a", n="1", o="y"), "T=1")]
    assert short_names(three) == ["a(n=1, o=x)", "a(n=2, o=y)", "a(n=1, o=y)"]
    assert short_names([(entry("a"), "T=1"), (entry("a"), "T=0")]) == ["a(T=1)", "a(T=0)"]


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (quantity(0), "0"),
        (quantity(1234.4), "1,234"),
        (quantity(9.125), "9.12"),
        (quantity(25_000_000), "2.5·10⁷"),
        (quantity(-3.5), "−3.5"),
        (from_log(math.log(0.042)), "0.042"),
        (from_log(-100.0), "3.7·10⁻⁴⁴"),
        (from_log(math.log(9.99e-8)), "10⁻⁷"),
        (from_log(54.0), "2.8·10²³"),
        (share(0.96), "96"),
        (share(0.004), "0.4"),
        (share(0), "0"),
        (share(1e-9), "10⁻⁷"),
        (signed(-0.001), "0.00"),
        (signed(-0.25), "−0.25"),
        (signed(0.25), "+0.25"),
    ],
)
def test_numbers_in_words(got: str, expected: str) -> None:
    assert got == expected
