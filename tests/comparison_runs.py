"""Synthetic comparisons whose numbers are known: run folders as ``compare`` writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from reroot.pages import terminal_table
from reroot.runs.compare import load_comparison
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
        "cluster": f"{task}/H{horizon}/s{s}/{i}",
        "group": "",
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
        "accepted": None,
        "text": "" if broken else answer,
        "tokens_out": None if broken else rng.integers(0, 4, length).tolist(),
        "surprisal": None if broken else -log_p if passed else float(rng.gamma(6.0, 1.0)),
        "error": f"ValueError: boom{what.hostile}" if broken else None,
        "error_kind": "ValueError" if broken else None,
        "metadata": None,
        "stopped": "budget" if fake.name == "first_success" and not passed else None,
        **{f"cost_{c}": v for c, v in cost.items()},
        "task": problem["task"],
        "horizon": horizon,
        "needs_control": not fake.requires.startswith("root"),
        "oracles_used": "+".join(fake.oracles),
    }


SMALL = Fixture(tasks=("running_sum",), horizons=(2, 6), learners=LEARNERS[:2] + LEARNERS[4:7])


def cell(summary: dict[str, Any], task: str, horizon: int, short: str) -> dict[str, Any]:
    return next(
        c for c in summary["cells"]
        if (c["task"], c["horizon"], c["short"]) == (task, horizon, short)
    )  # fmt: skip


def main_verdict(summary: dict[str, Any], task: str) -> dict[str, Any]:
    (found,) = (v for v in summary["verdicts"] if v["task"] == task and v["main"])
    return found


def printed(summary: dict[str, Any], width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(terminal_table(summary, width))
    return out.getvalue()


def summarize(folder: Path) -> dict[str, Any]:
    """The summary of a folder that is there."""
    return load_comparison(folder).summary
