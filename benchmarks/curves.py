"""SmolLM2-135M trained from the root and from prefixes, at equal tokens, three seeds of each arm.

    python benchmarks/curves.py [--task copy] [--seeds 0 1 2] [--out runs/curves]
    python benchmarks/curves.py --table        # of what is recorded, for docs/post_training.md

One ``reroot train`` for each arm and seed. What has ended is kept in ``docs/results/curves-TASK.parquet``
(of the tuning: ``curves-TASK-tuning.parquet``) at once and never run again; an interrupted run goes on from its folder. Ten minutes of one core for
each, about.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from reroot.pages.training.data import last_passes, load_training
from reroot.pages.training.record import read_record, write_record

RECORDS = Path(__file__).parents[1] / "docs" / "results"

SHARED = "--model smollm2 --groups 4 --size 8 --last-layers 10 --budget-tokens 9000 --steps 1000 --eval-size 2"
"""What is equal in all arms of all tasks; the step limit is beyond the budget."""

TASKS = {
    "copy": "--task copy --horizon 16 --learning-rate 0.0001 --eval-every 8",
    "increment": "--task increment --horizon 3 --learning-rate 0.0001 --eval-every 15",
}
"""Task → its settings, equal in all arms; the learning rate is the best of the root arm's at TUNED."""

TUNED = {
    "copy": "--task copy --horizon 6 --eval-every 8",
    "increment": "--task increment --horizon 2 --eval-every 15",
}
"""Task → a horizon at which the root has signal."""

RATES = ("0.00003", "0.0001", "0.0003")
"""Learning rates that the root arm is tried with there."""

ARMS = {
    "root": "--strategy root",
    "r3": "--strategy r3",
    "adaback": "--strategy adaback",
    "verified": "--strategy verified",
    "plurality": "--strategy plurality:draws=16,margin=3",
}
"""Arm → where its groups start."""


def runs(tasks: list[str], seeds: list[int]) -> dict[str, tuple[str, str]]:
    """Name → record and settings of each run: the tuning of a task first, then seed by seed."""
    found: dict[str, tuple[str, str]] = {}
    for task in tasks:
        for rate in RATES:
            tried = f"{TUNED[task]} --strategy root --learning-rate {rate} --seed 0"
            found[f"{task}-tuning-{rate}"] = f"{task}-tuning", tried
    for seed in seeds:
        for task in tasks:
            for arm, strategy in ARMS.items():
                settings = f"{TASKS[task]} {strategy} --seed {seed}"
                found[f"{task}-{arm}-{seed}"] = task, settings
    return found


def keep(folder: Path, record: Path) -> None:
    """Add a finished run to the record; its weights are not kept."""
    known = read_record(record) if record.is_file() else []
    write_record([*known, load_training(folder)], record)
    for name in ("checkpoints", "model"):
        shutil.rmtree(folder / name, ignore_errors=True)


def table(task: str) -> str:
    """The recorded runs of a task, a row for each arm, in Markdown."""
    runs = read_record(RECORDS / f"curves-{task}.parquet")
    lines = [
        "| arm | generated tokens | of these on starts | steps | zero-variance groups | "
        "root pass@1 at the end | from prefixes |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        mine = [run for run in runs if run.arm == arm]
        steps = [step for run in mine for step in run.steps]
        silent = f"{sum(s['zero_variance'] for s in steps)} of {sum(s['groups'] for s in steps)}"
        built = sum(run.building() or 0 for run in mine) / sum(run.tokens for run in mine)
        last = [last_passes(run) for run in mine]
        cells = [
            f"`{arm}`",
            ", ".join(f"{run.tokens:,}" for run in mine),
            f"{built:.0%}",
            ", ".join(str(len(run.steps)) for run in mine),
            silent,
            ", ".join(f"{p.root:.0%}" for p in last if p and p.root is not None),
            ", ".join(f"{p.prefix:.0%}" for p in last if p and p.prefix is not None) or "·",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/curves"))
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    chosen = parser.parse_args()
    if chosen.table:
        print("\n\n".join(table(task) for task in chosen.task or TASKS))
        return
    for name, (kept, settings) in runs(chosen.task or [*TASKS], chosen.seeds).items():
        record = RECORDS / f"curves-{kept}.parquet"
        if record.is_file() and name in {run.folder.name for run in read_record(record)}:
            continue
        print(f"{name}: reroot train {SHARED} {settings}", flush=True)
        folder = chosen.out / name
        command = [sys.executable, "-m", "reroot", "train", *SHARED.split(), *settings.split()]
        command += ["--save-every", "20", "--out", str(folder)]
        shown = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        subprocess.run(command, check=True, env=shown, stdout=subprocess.DEVNULL)
        keep(folder, record)


if __name__ == "__main__":
    main()
