"""Forecasts of ``reroot diagnose`` against what training runs then saw.

    python benchmarks/forecasts.py [--kind exact] [--seeds 24]
    python benchmarks/forecasts.py --table         # of what is recorded, for docs/why_zero.md

Each run is diagnosed first, on its problems and its untrained model; then it is trained, or was trained before
(``docs/results/curves-*.parquet``, ``settle-neural.parquet``). Rows go to ``docs/results/forecasts.jsonl`` as they come, and
what is there is not run again. What is compared: the share of zero-variance groups in the first step and in the first
pass over the problems, the step of the first signal, and tokens to it for each remedy.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

import reroot
from reroot.diagnosis.first_signal import FirstSignal, Posterior, first_signal, posterior
from reroot.families import HiddenPath
from reroot.families.dyck import Dyck
from reroot.generators.ensemble import Ensemble
from reroot.generators.softmax_policy import SoftmaxPolicy
from reroot.pages.training.record import read_record
from reroot.randomness import keyed_rng, stream_key
from reroot.tasks.base import Problem
from reroot.training import collect_groups, policy_gradient, strategies
from reroot.training.group import Group
from reroot.types import Prefix

RECORDS = Path(__file__).parents[1] / "docs" / "results"
OUT = RECORDS / "forecasts.jsonl"
Row = dict[str, Any]

GROUP, PER_STEP = 8, 8
_MOST_STEPS = 600

REMEDIES: dict[str, tuple[str, int]] = {
    "groups of 32": ("root", 32),
    "demonstration prefixes (R3)": ("r3", GROUP),
    "AdaBack": ("adaback", GROUP),
    "verifier-guided prefixes": ("verified", GROUP),
    "own plurality prefixes": ("plurality", GROUP),
    "own argmax prefixes": ("argmax", GROUP),
}
"""Name among the remedies → strategy and group size of the run that takes it."""


# ---- exact families ------------------------------------------------------------------------------


def _mixed(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([1e-4, 3e-3, 0.02, 0.1, 0.4, 0.8, 0.97], size=n)


POPULATIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "mixed": _mixed,
    "small": lambda rng, n: 10 ** rng.uniform(-4.0, -1.2, n),
    "silent": lambda rng, n: np.full(n, 2e-3),
    "half solved": lambda rng, n: np.where(rng.random(n) < 0.5, 0.96, 0.03),
}
"""Pass rates of problems."""


def exact_policy(kind: str, seed: int, problems: int = 16) -> Ensemble:
    """Paths, or Dyck strings, as softmax policies with parameters of their own."""
    rng = keyed_rng(stream_key(seed, "forecasts", kind))
    if kind == "dyck":
        members = [Dyck(12, noise=0.75, seed=i) for i in range(problems)]
    else:
        rates = POPULATIONS[kind](rng, problems)
        members = [HiddenPath(4, 10, float(q**0.1), seed=i) for i, q in enumerate(rates)]
    return Ensemble([SoftmaxPolicy(m) for m in members])


def exact_problems(kind: str, seed: int, problems: int = 16) -> list[Problem]:
    members = [m.base for m in exact_policy(kind, seed, problems).members]  # type: ignore[attr-defined]
    return Ensemble(members).problems()


def update(policy: Ensemble, groups: Sequence[Group], rate: float) -> None:
    """One policy-gradient step of each member on its groups."""
    rule = policy_gradient.Rule(beta=0.0, groups=len(groups), rate=rate)
    for group in groups:
        if group.zero_variance:
            continue
        member = policy.members[group.prompt[0]]
        assert isinstance(member, SoftmaxPolicy)
        start, horizon = tuple(group.start.prefix), member.horizon
        outputs = [Prefix(start + tuple(tokens)) for tokens in group.tokens]
        weights = np.asarray(group.rewards) - np.mean(group.rewards)
        rows = policy_gradient.output_rows(outputs, (weights / len(outputs)).tolist(), horizon)
        rows.coefficients[:, : len(start)] = 0.0
        policy_gradient.step(member, rule, [rows])


def train(kind: str, seed: int, strategy: str, size: int, *, steps: int, at: int) -> Row:
    """Groups of a run, under the seed ``at``, until it has had a signal and ``steps`` steps; its steps are updates."""
    policy, problems = exact_policy(kind, seed), exact_problems(kind, seed)
    how, rng = strategies.get_strategy(strategy), np.random.default_rng(at)
    silent, tokens, first, spent, order = list[int](), list[int](), None, 0, list[int]()
    while (first is None or len(silent) < steps) and len(silent) < _MOST_STEPS:
        order = order or rng.permutation(len(problems)).tolist()
        here, order = order[:PER_STEP], order[PER_STEP:]
        groups = collect_groups(
            policy, [problems[i] for i in here], len(silent), strategy=how, size=size, seed=at
        )
        spent += sum(g.spent.tokens for g in groups)
        silent.append(sum(g.zero_variance for g in groups))
        if first is None and silent[-1] < len(groups):
            first = {"step": len(silent), "tokens": spent}
        tokens.append(spent)
        update(policy, groups, rate=32.0)
    return {"silent": silent, "first": first, "tokens": tokens}


def exact_runs(seeds: int) -> Iterator[tuple[str, Callable[[], Row]]]:
    for seed in range(seeds):
        for kind in (*POPULATIONS, "dyck"):
            for grants in ("root/sample", None):
                if kind == "dyck" and grants is not None:
                    continue
                name = f"exact/{kind}/{grants or 'all'}/{seed}"
                yield name, lambda k=kind, s=seed, g=grants: exact_row(k, s, g)


def exact_row(kind: str, seed: int, grants: str | None) -> Row:
    found = reroot.diagnose(
        exact_policy(kind, seed),
        exact_problems(kind, seed),
        group=GROUP,
        per_step=PER_STEP,
        grants=grants,
        budget_tokens=400_000,
        seed=seed,
    ).summary
    problems = len(found["problems"])
    steps = problems // PER_STEP
    then_seed = 2 * seed + (grants is None) + 1000  # of training: no two runs share theirs
    seen = train(kind, seed, "root", GROUP, steps=steps, at=then_seed)
    row = shares(found, seen["silent"], [PER_STEP] * len(seen["silent"]), problems)
    row |= first_step(found, seen["first"] and seen["first"]["step"], then_seed)
    row["remedies"] = {}
    if grants is None:
        for name, (strategy, size) in REMEDIES.items():
            told = next((r for r in found["remedies"] if r["name"] == name), None)
            if told and told["tokens"]:
                then = train(kind, seed, strategy, size, steps=0, at=then_seed)["first"]
                row["remedies"][name] = [told["tokens"], then and then["tokens"]]
    return row


# ---- what is compared ----------------------------------------------------------------------------


def drawn(found: Row) -> Posterior:
    """The posterior of a diagnosis, from its JSON."""
    seen = [p["first_rollouts"] for p in found["problems"]]
    exact = {
        i: reroot.diagnosis.Reach(math.log(p["reach"]), 0.0)
        for i, p in enumerate(found["problems"])
        if p["how"].startswith("teacher forcing") and p["reach"]
    }
    rng = keyed_rng(stream_key(0, "forecasts", "posterior"))
    return posterior([c for c, _ in seen], [n for _, n in seen], rng, reach=exact)


def shares(found: Row, silent: list[int], groups: list[int], problems: int) -> Row:
    """Predicted and measured share in the first step, and in a first pass over the problems."""
    draws, rng = drawn(found), np.random.default_rng(0)
    size = found["group"]
    passes = next((i for i in range(len(groups)) if sum(groups[: i + 1]) >= problems), None)
    row: Row = {"zero_variance": found["forecast"]["zero_variance"]}
    windows = {"step": 1} if passes is None else {"step": 1, "pass": passes + 1}
    for name, steps in windows.items():
        count = sum(groups[:steps])
        row[name] = {
            "groups": count,
            "these": list(draws.share(size, count, rng)),
            "others": list(draws.share_of_others(size, count, rng)),
            "measured": sum(silent[:steps]) / count,
        }
    return row


def first_step(found: Row, step: int | None, seed: int) -> Row:
    """Where in its predicted law the step of the first signal lies (randomized, as it is discrete)."""
    law = first_signal(drawn(found).silent(found["group"]), found["forecast"]["per_step"])
    return {
        "first": step,
        "predicted": found["forecast"]["first_signal"],
        "pit": pit(law, step, seed),
    }


def pit(law: FirstSignal, step: int | None, seed: int, most: int = _MOST_STEPS) -> float:
    """Uniform if the law is right; of a run that ended before, somewhere beyond its end."""
    u = float(keyed_rng(stream_key(seed, "forecasts", "pit")).random())
    low, high = (most, None) if step is None else (step - 1, step)
    before = 1.0 - float(law.survival(low))
    after = 1.0 if high is None else 1.0 - float(law.survival(high))
    return before + u * (after - before)


# ---- recorded runs of SmolLM2 ---------------------------------------------------------------------

SMOLLM2 = {
    "increment": ("increment", 3, (0, 1, 2), "curves-increment"),
    "increment-tuning": ("increment", 2, (0,), "curves-increment-tuning"),
    "copy-tuning": ("copy", 6, (0,), "curves-copy-tuning"),
    "copy": ("copy", 16, (0, 1, 2), "curves-copy"),
}
"""Name → task, horizon, seeds and record of what ``benchmarks/curves.py`` has trained."""

_ARMS = {
    "r3": "demonstration prefixes (R3)",
    "adaback": "AdaBack",
    "verified": "verifier-guided prefixes",
    "plurality": "own plurality prefixes",
}


def smollm2_runs() -> Iterator[tuple[str, Callable[[], Row]]]:
    for name, (task, horizon, seeds, record) in SMOLLM2.items():
        for seed in seeds:
            yield (
                f"smollm2/{name}/{seed}",
                lambda t=task, h=horizon, s=seed, r=record: smollm2_row(t, h, s, r),
            )


def smollm2_row(task: str, horizon: int, seed: int, record: str) -> Row:
    """One diagnosis, and all recorded runs on its problems."""
    from reroot.tasks.registry import get_task

    problems = list(get_task(task).problems(horizon, 64, seed))
    looked = problems[:: 4 if horizon > 8 else 2]
    out = Path("runs") / "forecasts" / f"{task}-{horizon}-{seed}"
    found = reroot.diagnose(
        "smollm2",
        looked,
        group=8,
        per_step=4,
        budget_tokens=60_000,
        seed=seed,
        out=out,
        on_progress=lambda line: print(f"  {line}", flush=True),
    ).summary
    row: Row = {"runs": {}, "remedies": {}}
    for run in read_record(RECORDS / f"{record}.parquet"):
        if run.config["seed"] != seed:
            continue
        silent = [int(s["zero_variance"]) for s in run.steps]
        groups = [int(s["groups"]) for s in run.steps]
        signal = next(
            (i for i, (z, g) in enumerate(zip(silent, groups, strict=True)) if z < g), None
        )
        if run.arm == "root":
            one = shares(found, silent, groups, len(problems))
            step = None if signal is None else signal + 1
            law = first_signal(drawn(found).silent(8), 4)
            one |= {"first": step, "predicted": found["forecast"]["first_signal"]}
            key = stream_key(seed, "forecasts", run.folder.name)[0] >> 1
            one["pit"] = pit(law, step, key, most=len(silent))
            row["runs"][run.folder.name] = one
        else:
            told = next(r for r in found["remedies"] if r["name"] == _ARMS[run.arm])
            spent = None if signal is None else int(run.steps[signal]["tokens"])
            row["remedies"][run.folder.name] = [told["tokens"], spent]
    return row


# ---- recorded runs of small transformers ----------------------------------------------------------

_NEURAL = {
    "r3": "demonstration prefixes (R3)",
    "adaback": "AdaBack",
    "verified": "verifier-guided prefixes",
    "argmax": "own argmax prefixes",
}


def neural_runs() -> Iterator[tuple[str, Callable[[], Row]]]:
    for horizon in (4, 6, 8, 10, 12, 16, 20, 22, 32):
        yield f"neural/running_parity/{horizon}", lambda h=horizon: neural_row(h)


def neural_row(horizon: int) -> Row:
    """One diagnosis of the base policy, and all recorded runs with root starts and with remedies."""
    from reroot.experiments.settle_neural.arms import GROUPS, SIZE, problems_of
    from reroot.experiments.settle_neural.base_policy import base_policy

    problems = problems_of("running_parity", horizon, 16, 0)
    found = reroot.diagnose(
        str(base_policy("running_parity", p=0.6)),
        problems,
        group=SIZE,
        per_step=GROUPS,
        budget_tokens=80_000,
    ).summary
    draws = drawn(found)
    wrong = (1.0 - draws.p) ** SIZE  # the recorded wait is that of the first pass
    law = first_signal(wrong, GROUPS)
    row: Row = {"runs": {}, "remedies": {}}
    record = pl.read_parquet(RECORDS / "settle-neural.parquet")
    runs = record.filter((pl.col("task") == "running_parity") & (pl.col("H") == horizon))
    for run in runs.iter_rows(named=True):
        name = f"{run['arm']}-{run['path']}-{run['beta']}-{run['seed']}"
        if run["arm"] == "root":
            ended = run["rollouts"] // (GROUPS * SIZE)
            step = None if run["wait"] is None else math.ceil(run["wait"] / (GROUPS * SIZE))
            row["runs"][name] = {"first": step, "pit": pit(law, step, run["seed"], most=ended)}
        elif run["arm"] in _NEURAL and run["beta"] is None:
            told = next(r for r in found["remedies"] if r["name"] == _NEURAL[run["arm"]])
            curve = json.loads(run["curve"])
            row["remedies"][name] = [told["tokens"], curve[1][0]]
    return row


# ---- the record ----------------------------------------------------------------------------------

KINDS: dict[str, Callable[[int], Iterator[tuple[str, Callable[[], Row]]]]] = {
    "exact": exact_runs,
    "neural": lambda seeds: neural_runs(),
    "smollm2": lambda seeds: smollm2_runs(),
}


def read() -> list[Row]:
    return [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []


def table() -> str:
    """What is recorded, in Markdown."""
    rows = read()
    lines = [
        "| runs | share in the first step | in the first pass | first signal, PIT | tokens of remedies |"
    ]
    lines.append("|---|---|---|---|---|")
    for kind in (*KINDS, ""):
        mine = [r for r in rows if r["name"].startswith(kind)]
        runs = [one for r in mine for one in r.get("runs", {"": r}).values()]
        told = [x for r in mine for x in r["remedies"].values() if x[0] and x[1]]
        pits = [r["pit"] for r in runs]
        if not runs:
            continue
        cells = [
            f"{kind or 'all'}: {len(runs)}",
            _inside(runs, "step"),
            _inside(runs, "pass"),
            f"p = {stats.kstest(pits, 'uniform').pvalue:.2f}" if len(pits) > 1 else "·",
            _tokens(told),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name in REMEDIES:
        short = {v: k for k, v in (_ARMS | _NEURAL).items()}.get(name, name)
        told = [
            x
            for r in rows
            for n, x in r["remedies"].items()
            if x[0] and x[1] and (n == name or f"-{short}-" in f"-{n}-")
        ]
        lines.append(f"| {name} | | | | {_tokens(told)} |")
    return "\n".join(lines)


def _inside(runs: Sequence[Row], window: str) -> str:
    have = [r[window] for r in runs if window in r]
    kinds = {
        k: sum(w[k][0] - 1e-9 <= w["measured"] <= w[k][1] + 1e-9 for w in have)
        for k in ("these", "others")
    }
    return f"{kinds['these']} and {kinds['others']} of {len(have)}" if have else "·"


def _tokens(told: Sequence[tuple[Row, int]]) -> str:
    if not told:
        return "·"
    inside = sum(t["low"] <= x and (t["high"] is None or x <= t["high"]) for t, x in told)
    near = sum(t["median"] is not None and t["median"] / 2 <= x <= 2 * t["median"] for t, x in told)
    either = sum(
        (t["low"] <= x and (t["high"] is None or x <= t["high"]))
        or (t["median"] is not None and t["median"] / 2 <= x <= 2 * t["median"])
        for t, x in told
    )
    return f"{inside} of {len(told)} inside 95 %, {near} within a factor 2, {either} either"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    if chosen.table:
        print(table())
        return
    for kind in chosen.kind or KINDS:
        for name, run in KINDS[kind](chosen.seeds):
            if name in {row["name"] for row in read()}:
                continue
            print(name, flush=True)
            row = {"name": name, **run()}
            with OUT.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
