"""``report.html`` of one training run, or of several laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import RunFolderError
from ..kit import page as kit
from ..kit.formatting import listing, quantity
from ..kit.plots import grid
from .data import (
    TAIL,
    Passes,
    TrainingRun,
    differing,
    last_passes,
    load_training,
    model_of,
    passes,
    state,
)
from .figures import (
    Series,
    gap_panel,
    pass_panels,
    reward_panels,
    series_of,
    step_panels,
    window_of,
)
from .record import is_record, read_record
from .tables import (
    MOST_EVENTS,
    common_tokens,
    contracts_table,
    costs_table,
    evaluations_table,
    events_table,
    seeds_table,
    settings_tables,
    training_numbers,
)

_SHARED = {
    "model": "model",
    "task": "task",
    "horizon": "horizon",
    "steps": "planned steps",
    "groups": "start prefixes per step",
    "size": "rollouts per start prefix",
    "seed": "seed",
    "beta": "β",
    "kl": "KL term",
    "learning_rate": "learning rate",
    "budget": "budget",
}
"""Settings that the header names, and how."""

_UNLIKE = ("task", "horizon", "model")
"""Settings in which runs must be equal for their pass rates to rank strategies."""


def write_training_page(folders: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write one page about one or more training runs, finished or not.

    The same folders give the same bytes.

    Args:
        folders: run folders of training runs, and records of some (``training_record``).
        out: the file to write; by default ``report.html`` in the first folder, or beside a record.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: a folder holds no training run, one is named twice, none is named, or the
            page can't be written.
        MissingDependency: matplotlib is not installed.
    """
    runs = load_runs(folders)
    first = Path(folders[0])
    usual = first.with_suffix(".html") if is_record(first) else first / "report.html"
    return kit.write_page(Path(out) if out is not None else usual, render(runs))


def load_runs(folders: Sequence[str | Path]) -> list[TrainingRun]:
    """Read several training runs, each once; a record stands for all that it holds.

    Raises:
        RunFolderError: as ``load_training``; or no folder is named, or the same one twice.
    """
    if not folders:
        raise RunFolderError("expected the folder of at least one training run, got none")
    paths, seen = list(map(Path, folders)), set[Path]()
    for path in paths:
        if path.resolve() in seen:
            raise RunFolderError(f"{path} is named twice; name each run folder once")
        seen.add(path.resolve())
    return [run for p in paths for run in (read_record(p) if is_record(p) else [load_training(p)])]


def render(runs: Sequence[TrainingRun]) -> str:
    """The page as text."""
    series, window = series_of(runs), window_of(runs)
    models = dict.fromkeys(map(model_of, runs))
    tasks = dict.fromkeys(str(run.config.get("task", "?")) for run in runs)
    title = f"{listing(list(models))} trained on {listing(list(tasks))}"
    panels = [*reward_panels(series, window), gap_panel(series), *step_panels(series, window)]
    shared = common_tokens(runs)
    apart, equal = settings_tables(series)
    return kit.render(
        f"reroot train: {title}",
        "training/page.html",
        title=title,
        runs=runs,
        series=series,
        window=window,
        settings=" ".join(_settings(runs)),
        **_reached(series),
        shared=shared,
        tail=TAIL,
        state=state,
        panels=grid(panels),
        last=grid(pass_panels(series)),
        seeds=seeds_table(series),
        contracts=contracts_table(series),
        evaluations=evaluations_table(series, shared),
        training=training_numbers(series),
        costs=costs_table(series),
        events=events_table(series),
        most_events=MOST_EVENTS,
        apart=apart,
        equal=equal,
    )


def _settings(runs: Sequence[TrainingRun]) -> list[str]:
    """What the runs have in common, and in what they differ."""
    apart = differing(runs, list(_SHARED))
    first = {key: runs[0].config.get(key) for key in _SHARED if key not in apart}
    if first.get("horizon") == 0:  # a task without such a knob
        del first["horizon"]
    same = [f"{_SHARED[key]} {_plain(x)}" for key, x in first.items() if x is not None and x != {}]
    every = "The same in all" if len(runs) > 1 else "Settings"
    notes = [f"{every}: {', '.join(same)}."] if same else []
    if apart:
        notes.append(f"They differ in {listing([_SHARED[key] for key in apart])}.")
    if set(apart) & set(_UNLIKE):
        notes.append("Numbers of different tasks, horizons or models do not rank strategies.")
    return notes


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return listing([f"{quantity(v)} {k}" for k, v in value.items()])
    return quantity(value) if isinstance(value, (int, float)) else str(value)


Evaluated = tuple[Series, Passes]
"""A run and an evaluation of it."""


def _reached(series: Sequence[Series]) -> dict[str, Any]:
    """Who passes most from the root, at the end and at the tokens that all have spent, and whose gap is largest."""
    every = [(one, last_passes(one.run)) for one in series]
    known = [(one, last) for one, last in every if last is not None and last.root is not None]
    ranked = not differing([one.run for one, _ in known], _UNLIKE)
    tokens = common_tokens([one.run for one, _ in known])
    best = _highest(known) if ranked else []
    gaps = [(one, last) for one, last in known if last.gap is not None]
    return {
        "best": best,
        "first": passes(best[0][0].run.evaluations[0]) if best else None,
        "within": tokens,
        "best_within": _highest(_within(known, tokens)) if ranked and tokens else [],
        "widest": max(gaps, key=lambda x: x[1].gap or 0.0, default=None),
        "evaluated": bool(known),
        "without": [one.label for one, last in every if last is None],
    }


def _within(known: Sequence[Evaluated], tokens: float) -> list[Evaluated]:
    rates = [(one, last_passes(one.run, tokens)) for one, _ in known]
    return [(one, last) for one, last in rates if last is not None]


def _highest(known: Sequence[Evaluated]) -> list[Evaluated]:
    """Those with the highest pass@1 from the root; several where they are equal."""
    most = max((last.root or 0.0 for _, last in known), default=0.0)
    return [(one, last) for one, last in known if (last.root or 0.0) == most]
