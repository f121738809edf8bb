"""The four cases of docs/why_zero.md on SmolLM2: diagnosed, trained a few steps, mended, diagnosed and trained again.

    python benchmarks/why_zero.py [--only numbers] [--out runs/why-zero]

A line is added to docs/results/why-zero.jsonl for each as soon as it has been diagnosed and trained; lines that are
there are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import reroot
from reroot.pages.training.data import load_training
from reroot.runs.models import Load
from reroot.training.trl.config import TrainConfig
from reroot.training.trl.train import train_run

RECORD = Path(__file__).resolve().parents[1] / "docs" / "results" / "why-zero.jsonl"
JUDGE = '''def exactly(answer, output):
    """What a first version of a reward looks like."""
    return output.strip() == answer
'''
SHOTS = "".join(f"Q: the number {n}\nA: \\boxed{{{n}}}\n" for n in (42, 7, 96))


class Setting(NamedTuple):
    """One diagnosis, and the training run that it foretells."""

    task: str
    chat: bool = False
    horizon: int | None = None
    strategy: str = "root"
    per_step: int = 8


_NUMBERS = "numbers.jsonl:answer=number,max_tokens="
SETTINGS = {
    "missed": Setting("numbers.jsonl:answer=judge.py:exactly,max_tokens=10"),
    "truncated": Setting(f"{_NUMBERS}3"),
    "numbers": Setting(f"{_NUMBERS}10"),
    "words": Setting("words.jsonl:max_tokens=40", True),
    "words-r3": Setting("words.jsonl:max_tokens=40", True, strategy="r3"),
    "copy": Setting("copy", horizon=16, per_step=4),
}
"""Cases, and what their remedies made of them: ``words`` with demonstrations; ``missed`` with another judge
and ``truncated`` with more room are both ``numbers``. What AdaBack does for ``copy`` is in benchmarks/curves.py."""


def words(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Word problems in one or two steps, in the form of GSM8K."""
    rng = random.Random(seed)
    for i in range(count):
        a, b, c = rng.randint(2, 30), rng.randint(2, 20), rng.randint(2, 9)
        who, what = (
            rng.choice(["Anna", "Ben", "Clara", "Finn"]),
            rng.choice(["apples", "books", "coins"]),
        )
        question, steps, answer = [
            (
                f"{who} has {a} {what} and gets {b} more. How many {what} does {who} have now?",
                f"{who} has {a} + {b} = {a + b} {what}.",
                a + b,
            ),
            (
                f"{who} has {a + b} {what} and gives away {b}. How many {what} are left?",
                f"{a + b} - {b} = {a} {what} are left.",
                a,
            ),
            (
                f"There are {c} boxes with {b} {what} each. How many {what} are there?",
                f"{c} * {b} = {c * b} {what}.",
                c * b,
            ),
            (
                f"{who} has {c} bags with {b} {what} each and {a} loose {what}. How many {what} does {who} have?",
                f"The bags hold {c} * {b} = {c * b} {what}. With the loose ones {c * b} + {a} = {c * b + a}.",
                c * b + a,
            ),
        ][i % 4]
        yield {"question": question, "answer": f"{steps}\n#### {answer}"}


def numbers(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Numbers to repeat, asked so that answers come in boxes; the data have none."""
    rng = random.Random(seed)
    for n in rng.sample(range(10, 100), count):
        shown = {"prompt": f"{SHOTS}Q: the number {n}\nA:", "answer": str(n), "stop": ["\n"]}
        yield shown | {"solution": f" {n}"}


def files(folder: Path) -> None:
    """The data of the cases and a naive judge, as a user would have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("words", words(64, 0)), ("numbers", numbers(64, 0))):
        lines = (json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")


def diagnosed(setting: Setting, out: Path, problems: int, budget: int) -> dict[str, Any]:
    """What `reroot diagnose` says."""
    found = reroot.diagnose(
        "smollm2",
        setting.task,
        horizon=setting.horizon,
        problems=problems,
        per_step=setting.per_step,
        budget_tokens=budget,
        load=Load(chat=setting.chat),
        out=out,
        on_progress=lambda line: print(f"  {line}", flush=True),
    ).summary
    causes = [p["cause"] for p in found["problems"]]
    return {
        "causes": {c: causes.count(c) for c in sorted(set(causes))},
        "forecast": {k: v for k, v in found["forecast"].items() if k != "by_group"},
        "remedies": found["remedies"],
        "tokens": found["tokens"],
    }


def trained(setting: Setting, out: Path, problems: int, steps: int) -> dict[str, Any]:
    """What happened then in a few steps on the same problems."""
    settings = TrainConfig(
        model="smollm2",
        task=setting.task,
        horizon=setting.horizon,
        chat=setting.chat,
        strategy=setting.strategy,
        problems=problems,
        groups=setting.per_step,
        steps=steps,
        eval_problems=0,
        learning_rate=1e-4,
        last_layers=10,
    )
    train_run(settings, out)
    made = load_training(out).steps
    return {
        "steps": len(made),
        "groups": sum(step["groups"] for step in made),
        "zero_variance": sum(step["zero_variance"] for step in made),
        "root": [step["root"] for step in made],
        "prefix": [step["prefix"] for step in made],
    }


def recorded() -> set[str]:
    """Settings whose lines are there."""
    lines = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.is_file() else []
    return {row["name"] for row in map(json.loads, lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=SETTINGS)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--budget-tokens", type=int, default=8_000)
    parser.add_argument("--out", type=Path, default=Path("runs/why-zero"))
    chosen = parser.parse_args()
    files(chosen.out)
    os.chdir(chosen.out)
    for name in chosen.only or SETTINGS:
        if name in recorded():
            continue
        setting, folder = SETTINGS[name], Path(name)
        print(f"{name}: {setting}", flush=True)
        row = {"name": name, "setting": setting._asdict()}
        row |= diagnosed(setting, folder / "why", chosen.problems, chosen.budget_tokens)
        if name != "copy":
            row["trained"] = trained(setting, folder / "train", chosen.problems, chosen.steps)
        with RECORD.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({k: row.get(k) for k in ("causes", "trained")}), flush=True)


if __name__ == "__main__":
    main()
