"""Forecasts of ``reroot diagnose`` against what training runs then saw.

    python benchmarks/forecasts.py [--kind exact] [--seeds 24]
    python benchmarks/forecasts.py --table         # of what is recorded, for docs/why_zero.md

Runs on exact families are diagnosed first, on their problems and their untrained policy, and then trained; of recorded runs
(``docs/results/curves-*.parquet``, ``settle-neural.parquet``) what they measured before their first step takes the place of a diagnosis's
rollouts, and the same laws forecast the rest. Rows go to ``docs/results/forecasts.jsonl`` as they come, and what is there is not run again.
What is compared: the share of zero-variance groups in the first step and in the first pass over the problems, the step
of the first signal (of ``settle-neural``: of the first pass), and tokens to it for each remedy.
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
from reroot.pages.training.data import TrainingRun
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
    draws, silent = drawn(found), seen["silent"]
    row = {"zero_variance": found["forecast"]["zero_variance"]}
    row |= windows(draws, GROUP, silent, [PER_STEP] * len(silent), problems)
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


def windows(
    draws: Posterior,
    size: int,
    silent: list[int],
    groups: list[int],
    problems: int,
    kinds: Sequence[str] = ("these", "others"),
) -> Row:
    """Predicted and measured share in the first step, and in a first pass over the problems."""
    rng, row = np.random.default_rng(0), dict[str, Any]()
    passes = next((i for i in range(len(groups)) if sum(groups[: i + 1]) >= problems), None)
    for name, steps in ({"step": 1} | ({} if passes is None else {"pass": passes + 1})).items():
        count = sum(groups[:steps])
        told = {"these": draws.share, "others": draws.share_of_others}
        row[name] = {k: list(told[k](size, count, rng)) for k in kinds}
        row[name] |= {"groups": count, "measured": sum(silent[:steps]) / count}
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


# ---- recorded runs: what they measured before their first step stands for the rollouts of a diagnosis --------

SMOLLM2 = ("curves-increment-tuning", "curves-copy-tuning", "curves-increment", "curves-copy")
"""Records of what ``benchmarks/curves.py`` has trained."""


def smollm2_runs() -> Iterator[tuple[str, Callable[[], Row]]]:
    for record in SMOLLM2:
        for run in read_record(RECORDS / f"{record}.parquet"):
            if run.arm == "root":
                yield f"smollm2/{run.folder.name}", lambda r=run: smollm2_row(r)


def smollm2_row(run: TrainingRun) -> Row:
    """A root run on 64 problems, forecast from its evaluation before training: 2 rollouts of 16 others."""
    known = run.evaluations[0]
    looked, size = known["problems"], run.config["size"]
    some = round(looked * known["root"][2])
    both = round(2 * looked * known["root"][1]) - some
    passed = [2] * both + [1] * (some - both) + [0] * (looked - some)
    draws = posterior(passed, 2, keyed_rng(stream_key(0, "forecasts", run.folder.name)))
    silent = [int(s["zero_variance"]) for s in run.steps]
    groups = [int(s["groups"]) for s in run.steps]
    row = windows(draws, size, silent, groups, run.config["problems"], ("others",))
    signals = (i + 1 for i, (z, g) in enumerate(zip(silent, groups, strict=True)) if z < g)
    first = next(signals, None)
    key = stream_key(run.config["seed"], "forecasts", run.folder.name)[0] >> 1
    law = first_signal(np.concatenate([draws.silent(size)] * 4, axis=1), run.config["groups"])
    return row | {"first": first, "pit": pit(law, first, key, most=len(silent)), "remedies": {}}


def neural_runs() -> Iterator[tuple[str, Callable[[], Row]]]:
    record = pl.read_parquet(RECORDS / "settle-neural.parquet")
    for i, run in enumerate(record.iter_rows(named=True)):
        if run["arm"] == "root" and run["rollouts"]:
            yield f"neural/{run['task']}/{run['H']}/{i}", lambda i=i, r=run: neural_row(r, i)


def neural_row(run: Row, number: int) -> Row:
    """The wait of a recorded root run, from the reach that was teacher-forced before it began."""
    step = run["groups"] * run["size"]
    silent = np.full((1, run["groups"]), (1.0 - run["base"]) ** run["size"])  # until the first pass
    first = None if run["wait"] is None else math.ceil(run["wait"] / step)
    law = first_signal(silent, run["groups"])
    found = pit(law, first, number, most=run["rollouts"] // step)
    return {"first": first, "pit": found, "remedies": {}}


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
        told = [x for r in mine for x in r["remedies"].values() if x[0] and x[1]]
        pits = [r["pit"] for r in mine]
        if not mine:
            continue
        cells = [
            f"{kind or 'all'}: {len(mine)}",
            _inside(mine, "step"),
            _inside(mine, "pass"),
            f"p = {stats.kstest(pits, 'uniform').pvalue:.2f}" if len(pits) > 1 else "·",
            _tokens(told),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name in REMEDIES:
        told = [r["remedies"][name] for r in rows if name in r["remedies"]]
        told = [x for x in told if x[0] and x[1]]
        lines.append(f"| {name} | | | | {_tokens(told)} |")
    return "\n".join(lines)


def _inside(runs: Sequence[Row], window: str) -> str:
    have = [r[window] for r in runs if window in r]
    said = list[str]()
    for kind in ("these", "others"):
        mine = [w for w in have if kind in w]
        hit = sum(w[kind][0] - 1e-9 <= w["measured"] <= w[kind][1] + 1e-9 for w in mine)
        said += [f"{kind}: {hit} of {len(mine)}"] * bool(mine)
    return "; ".join(said) or "·"


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
