"""One writer for each program: (run, place) → where it is."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, MissingDependency
from ..kit.table import Table
from .logged import Logged


def _imported(module: str, program: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"--to {program} needs {program}: pip install {extra} ({error})"
        ) from None


def _columns(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Names, and rows of values."""
    records = table.records()
    names = list(dict.fromkeys(name for record in records for name in record))
    return names, [[record.get(name) for name in names] for record in records]


def to_tensorboard(run: Logged, place: str) -> str:
    """An event file in a folder of the run's name, and its tables as Markdown texts.

    A folder that has event files is refused: TensorBoard would draw both runs as one.
    """
    writer = _imported(
        "tensorboard.summary.writer.event_file_writer", "tensorboard", "reroot[train]"
    )
    event = _imported("tensorboard.compat.proto.event_pb2", "tensorboard", "reroot[train]")
    summary = _imported("tensorboard.compat.proto.summary_pb2", "tensorboard", "reroot[train]")
    text = _imported("tensorboard.plugins.text.summary_v2", "tensorboard", "reroot[train]")
    folder = Path(place) / run.name
    if any(folder.glob("events.out.tfevents.*")):
        raise InvalidInput(f"{folder} has a run already; name another folder, or remove it")
    files = writer.EventFileWriter(str(folder))
    try:
        for step, numbers in run.scalars:
            values = [
                summary.Summary.Value(tag=name, simple_value=number)
                for name, number in numbers.items()
            ]
            files.add_event(event.Event(step=step, summary=summary.Summary(value=values)))
        for name, table in run.tables.items():
            told = text.text_pb(f"tables/{name}", table.markdown())
            files.add_event(event.Event(step=0, summary=told))
    finally:
        files.close()
    return str(folder)


def to_wandb(run: Logged, place: str) -> str:
    """A run of a project; offline unless ``WANDB_MODE`` says otherwise, then ``wandb sync FOLDER`` uploads it."""
    wandb = _imported("wandb", "wandb", "reroot[track]")
    mode = os.environ.get("WANDB_MODE", "offline")
    settings = wandb.Settings(console="off", silent=True)
    with wandb.init(
        project=place, name=run.name, config=dict(run.config), mode=mode, settings=settings
    ) as made:
        for step, numbers in run.scalars:
            made.log(numbers, step=step)
        for name, table in run.tables.items():
            columns, rows = _columns(table)
            made.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})
        return str(Path(made.dir).parent)


def to_trackio(run: Logged, place: str) -> str:
    """A run of a local project, in trackio's own folder (``TRACKIO_DIR``); ``trackio show`` opens it."""
    trackio = _imported("trackio", "trackio", "trackio")
    trackio.init(project=place, name=run.name, config=dict(run.config), embed=False)
    try:
        for step, numbers in run.scalars:
            trackio.log(numbers, step=step)
        for name, table in run.tables.items():
            columns, rows = _columns(table)
            trackio.log({f"tables/{name}": trackio.Table(columns=columns, data=rows)})
    finally:
        trackio.finish()
    return f"project {place}, run {run.name}; trackio show --project {place}"


WRITERS: dict[str, Callable[[Logged, str], str]] = {
    "tensorboard": to_tensorboard,
    "wandb": to_wandb,
    "trackio": to_trackio,
}
