"""``reroot sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .app import command, console, in_free_folder, say_page
from .console import print_json
from .progress import bar
from .suite import FAILED

if TYPE_CHECKING:
    from ..training.trl.sweep import Swept


@command(writes="out")
def sweep(
    config: Path,
    *,
    out: Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    replicas: int | None = None,
    gpus_per_replica: float | None = None,
) -> None:
    """Training runs of every arm, at every horizon, under every seed.

    The YAML file has arms (name: settings), seeds ([0, 1, 2], or how many) and horizons; all else is a setting of
    'reroot train' for every run, of which each arm may give its own. A run ends as soon as it reaches its target.
    Interrupt or kill it at any time: the same command continues every run from its last checkpoint. Exits with 3 if
    runs failed; the same command makes those again.

    Example:

        reroot sweep sweep.yaml --out runs/sweep

    Args:
        config: YAML file, as in {model: smollm2, task: copy, target: 0.9, seeds: 3, horizons: [4, 8],
            arms: {root: {strategy: root}, adaback: {strategy: adaback}}}.
        out: Sweep folder; the same command on it continues (default: runs/ and the name of the file, or that and a
            number where another run is).
        workers: Runs at a time, each in a process (default: one, in this one).
        ray: Train on Ray: auto (the cluster that it finds), local (on this machine), or a cluster's address.
        replicas: Runs at a time on Ray (default: one per core of this machine).
        gpus_per_replica: GPUs of each.
    """
    from ..runs.executors.choice import executor_of
    from ..training.trl.sweep import read_sweep, run_sweep

    executor = executor_of(workers, ray, replicas, gpus_per_replica)
    runs = read_sweep(config)

    def run(folder: Path) -> Swept:
        with bar("runs", "preparing") as (on_start, on_run):
            return run_sweep(runs, folder, executor=executor, on_start=on_start, on_run=on_run)

    swept = in_free_folder(out, config.stem, run)
    tell_sweep(swept)
    if swept.summary["failed"]:
        raise typer.Exit(FAILED)


def tell_sweep(swept: Swept, *, json: bool = False) -> None:
    """Print the table of a sweep, or its summary as JSON, and what failed, and write its page."""
    from ..pages.sweep.page import sweep_table, write_sweep_page

    if json:
        print_json(swept.summary)
    else:
        console.print(sweep_table(swept.summary).terminal(console.width))
    for name, why in swept.summary["failed"].items():
        console.say(f"failed: {name}: {why}", "red")
    say_page(swept.folder, lambda: write_sweep_page(swept.folder, swept.summary))
