"""SmolLM2-135M sharpened towards its own likeliest answers: SFT on best-of-N and the regression, three seeds.

    python benchmarks/sharpening.py [--task increment] [--seeds 0 1 2] [--record docs/results/sharpening.jsonl]

One line is written for each run as soon as it has ended, and runs whose line is there are not made again. A line has
what the draws of the session cost, and, before and after, the mean log-probability under the base of one draw for each held-out
prompt and its accuracy. With ``--model tiny`` everything is a random model of two layers, to try the script.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from reroot.generators import Transformers
from reroot.generators.models import load
from reroot.tasks.base import Problem
from reroot.tasks.registry import get_task
from reroot.training.trl import sharpening
from reroot.training.trl.setup import freeze_below

TASKS = {"increment": 2, "running_sum": 2}
"""Task → horizon."""

EPOCHS = {"sft": 2.0, "dpo": 1.0}
"""Method → passes over what was drawn: best draws are one for each prompt, pairs up to half of the draws."""


def done(record: Path) -> set[tuple[str, str, int]]:
    """(task, method, seed) of the runs that are recorded."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    return {(r["task"], r["method"], r["seed"]) for r in map(json.loads, lines)}


def measured(
    model: Any, tokenizer: Any, base: Any, problems: list[Problem], draws: int, seed: int
) -> dict[str, float]:
    """Mean log-probability under the base of draws of the model, and how many of them are right."""
    drawn, _ = sharpening.collect(
        Transformers((model, tokenizer)), problems, draws=draws, seed=seed
    )
    judge = Transformers((base, tokenizer))
    logs, right = list[float](), 0.0
    for problem, one in zip(problems, drawn, strict=True):
        for output in one.outputs:
            prefixes = [output[:t] for t in range(len(output))]
            laws = judge.log_laws(one.prompt, prefixes)
            logs.append(float(sum(laws[t, a] for t, a in enumerate(output))))
            right += _right(judge, problem, output)
    n = len(logs)
    return {"log_likelihood": sum(logs) / n, "accuracy": right / n, "samples": n}


def _right(generator: Transformers, problem: Problem, tokens: tuple[int, ...]) -> bool:
    from reroot.types import Output

    text = generator.decode(tokens)
    ends = [i for i in (text.find(stop) for stop in problem.stop) if i >= 0]
    shown = text[: min(ends)] if ends else text
    complete = bool(ends) or len(tokens) >= problem.max_tokens
    complete = complete or generator.stops(problem.stop).ends(tokens)
    return complete and problem.reward(Output(tokens, shown, complete)) == 1.0


def one_run(task: str, method: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Draw, train, measure."""
    started = time.perf_counter()
    model, tokenizer = _loaded(chosen.model)
    base, _ = _loaded(chosen.model)
    train, test = _problems(task, seed, chosen)
    drawn, cost = sharpening.collect(
        Transformers((base, tokenizer)), train, draws=chosen.draws, seed=seed
    )
    before = measured(base, tokenizer, base, test, chosen.samples, seed)
    if chosen.last_layers:
        freeze_below(model, chosen.last_layers)
    shared = {"seed": seed, "num_train_epochs": EPOCHS[method], "learning_rate": chosen.rate}
    with tempfile.TemporaryDirectory() as out:
        if method == "sft":
            trainer = sharpening.sft(model, tokenizer, drawn, out, **shared)
        else:
            trainer = sharpening.dpo(model, tokenizer, drawn, out, chosen.beta, **shared)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    model.eval()
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "settings": {k: str(v) for k, v in vars(chosen).items() if k not in ("record", "task")}
        | {"epochs": EPOCHS[method]},
        "cost": cost.to_dict(),
        "before": before,
        "after": measured(model, tokenizer, base, test, chosen.samples, seed + 1000),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _loaded(name: str) -> tuple[Any, Any]:
    if name != "tiny":
        model, tokenizer = load(name)
    else:
        import tiny_lm  # of the tests, which must be on the path

        model, tokenizer = tiny_lm.model(), tiny_lm.tokenizer(pad_token="</s>")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _problems(
    task: str, seed: int, chosen: argparse.Namespace
) -> tuple[list[Problem], list[Problem]]:
    """Prompts to train on and held-out ones."""
    if chosen.model == "tiny":
        from trl_toys import problems

        return problems()[:2], problems(reward=lambda output: float("c" in output.text))[2:]
    every = get_task(task).problems(TASKS[task], chosen.prompts + chosen.held_out, seed)
    return list(every[: chosen.prompts]), list(every[chosen.prompts :])


def table(record: Path) -> str:
    """What is recorded, a row for each task and method, in Markdown."""
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    lines = [
        "| task | method | log-likelihood under the base, before → after | accuracy, before → after | tokens drawn |",
        "|---|---|---|---|---|",
    ]
    for task in TASKS:
        for method in EPOCHS:
            mine = sorted(
                (r for r in rows if (r["task"], r["method"]) == (task, method)),
                key=lambda r: r["seed"],
            )
            likelihood, right = (
                ", ".join(f"{r['before'][k]:{f}} → {r['after'][k]:{f}}" for r in mine)
                for k, f in (("log_likelihood", ".2f"), ("accuracy", ".1%"))
            )
            drawn = ", ".join(f"{r['cost']['tokens']:,}" for r in mine)
            lines.append(f"| {task} | {method} | {likelihood} | {right} | {drawn} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--method", action="append", choices=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--last-layers", type=int, default=10)
    record = Path(__file__).parents[1] / "docs" / "results" / "sharpening.jsonl"
    parser.add_argument("--record", type=Path, default=record)
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(chosen.record))
        return
    for method in chosen.method or EPOCHS:
        for seed in chosen.seeds:
            for task in chosen.task or TASKS:
                if (task, method, seed) in done(chosen.record):
                    continue
                print(f"{task}, {method}, seed {seed}", flush=True)
                row = one_run(task, method, seed, chosen)
                with chosen.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps({k: row[k] for k in ("before", "after", "seconds")}), flush=True)


if __name__ == "__main__":
    main()
