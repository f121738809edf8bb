"""``reroot train``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..training.trl.settings import TrainSettings
from .addresses import with_addresses
from .app import app, console, in_free_folder, say_page

_ENDED = {"steps": "all steps taken", "budget": "the budget is spent", "target": "target reached"}
_CONFIG = "YAML file of these settings (with _ for -), and 'trl:' for GRPOConfig."
_OUT = (
    "Run folder; the same command on the same folder continues it (default: runs/ and the names of model, task and "
    "strategy, or that and a number where another run is)."
)


def train(
    *,
    config: Annotated[Path | None, typer.Option(help=_CONFIG)] = None,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    **settings: Any,
) -> None:
    """Post-train a model from the root or from prefixes, through a metered session, on TRL.

    Evaluates from the root throughout, writes a run folder (curves, checkpoints, the model,
    report.html) and shows it all on one screen. Interrupt or kill it at any time: the same command
    continues from the last checkpoint, with the same result.

    Example:

        reroot train --model smollm2 --task running_sum --horizon 8 --strategy adaback \\
            --beta 0.01 --out runs/t1
    """
    from ..training.trl.config import read_config

    chosen = read_config(config, settings)
    from ..training.trl.callbacks import Callbacks
    from ..training.trl.train import train_run
    from .training_screen import TrainingScreen

    def run(folder: Path) -> tuple[Path, dict[str, Any]]:
        with TrainingScreen(chosen.identity(), chosen.steps) as screen:
            shown = Callbacks(screen.step, screen.evaluation, screen.event)
            return folder, train_run(chosen, folder, shown)

    folder, summary = in_free_folder(out, chosen.folder.name, run)
    steps, spent = summary["steps"], summary["spent"]["tokens"]
    console.say(
        f"{_ENDED[summary['reason']]}: {steps} steps, {spent:,} generated tokens; "
        f"model: {folder / 'model'}"
    )
    from ..runs.records import COMPLETIONS

    kept = folder / COMPLETIONS
    if kept.exists():
        size = kept.stat().st_size / 1e6
        console.say(f"completions: {kept} ({size:.1f} MB); to read them: reroot show {folder}")
    from ..pages.training.page import write_training_page

    say_page(folder, lambda: write_training_page([folder]))


def _options() -> Iterator[inspect.Parameter]:
    """An option for each setting; ``None``: not given."""
    for f in dataclasses.fields(TrainSettings):
        if not f.metadata:
            continue
        kind, text = f.metadata["kind"], f.metadata["help"]
        if kind is not bool and f.default not in (None, dataclasses.MISSING):
            text = f"{text.removesuffix('.')} (default {f.default})."
        # on or not given: no --no-…
        names = [f"--{f.name.replace('_', '-')}"] if kind is bool else []
        option = Annotated[kind | None, typer.Option(*names, help=text)]
        yield inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option
        )


_own = inspect.signature(train, eval_str=True).parameters
train.__signature__ = inspect.Signature([*_options(), _own["config"], _own["out"]])  # type: ignore[attr-defined]
app.command(short_help=str(train.__doc__).partition("\n")[0])(with_addresses(train, writes="out"))
