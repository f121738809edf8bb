"""``report.html`` of one training run, or of several laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import RunFolderError
from ..kit import page as kit
from ..kit.formatting import listing, percent, plural, points, quantity, rounded
from ..kit.markup import Html
from ..kit.plots import grid, legend, line_swatch
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
    seen: set[Path] = set()
    for folder in map(Path, folders):
        if (where := folder.resolve()) in seen:
            raise RunFolderError(f"{folder} is named twice; name each run folder once")
        seen.add(where)
    paths = map(Path, folders)
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
    kind, tiles, items = _headline(series)
    return kit.render(
        f"reroot train: {title}",
        "training/page.html",
        title=title,
        series=series,
        window=window,
        settings=" ".join(_settings(runs)),
        versions=listing(sorted({str(run.config.get("version", "")) for run in runs} - {""})),
        kind=kind,
        tiles=tiles,
        items=items,
        shared=shared,
        tail=TAIL,
        legend=legend([*(one.name for one in series), *_KEY]),
        panels=grid(panels),
        last=grid(pass_panels(series)),
        seeds=seeds_table(series),
        contracts=contracts_table(series),
        evaluations=evaluations_table(series, shared),
        training=training_numbers(series),
        costs=costs_table(series),
        events=events_table(series),
        most_events=MOST_EVENTS,
        longest=max(len(run.events) for run in runs),
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


# ---- headline ------------------------------------------------------------------------------------

Fact = tuple[str, str, str]
"""A name, a value and what it is of."""


def _headline(series: Sequence[Series]) -> tuple[str, list[Fact], list[str]]:
    """The run that passes most from the root, and what it takes to judge it."""
    every = [(one, last_passes(one.run)) for one in series]
    known = [(one, last) for one, last in every if last is not None and last.root is not None]
    found: list[Fact] = []
    ranked = not differing([one.run for one, _ in known], _UNLIKE)
    if not known:
        kind = "No evaluation yet"
    elif ranked:
        best = _highest(known)
        kind = f"Highest pass@1 from the root: {listing([one.label for one, _ in best])}"
        found = _pass_facts(*best[0])
    else:
        kind = "Runs that do not rank each other"
    if len(series) == 1:
        kind = f"Strategy {series[0].label}: {state(series[0].run)}"
        found += _training_facts(series[0])
    else:
        found += _other_facts(series, known)
    items = _same_tokens(known) if ranked and len(known) > 1 else []
    without = [one.label for one, last in every if last is None]
    return kind, found, items + ([f"Not evaluated yet: {listing(without)}."] if without else [])


def _same_tokens(known: Sequence[tuple[Series, Passes]]) -> list[str]:
    """Who is ahead at the tokens that every run has spent, where they have spent different ones."""
    shared = common_tokens([one.run for one, _ in known])
    if shared is None:
        return []
    rates = [(one, last) for one, _ in known if (last := last_passes(one.run, shared)) is not None]
    best = _highest(rates)
    return [
        f"Highest within the {quantity(shared)} tokens that every run has spent: "
        f"{listing([one.label for one, _ in best])}, {percent(best[0][1].root)} % pass@1 from the root."
    ]


def _highest(known: Sequence[tuple[Series, Passes]]) -> list[tuple[Series, Passes]]:
    """Those with the highest pass@1 from the root; several where they are equal."""
    most = max(last.root or 0.0 for _, last in known)
    return [(one, last) for one, last in known if (last.root or 0.0) == most]


def _pass_facts(one: Series, last: Passes) -> list[Fact]:
    first = passes(one.run.evaluations[0])
    many = f", pass@{last.k}" if last.k and last.k > 1 else ""
    counts = ((last.problems, "problem"), (last.n, "sample"))
    asked = " × ".join(plural(count, noun) for count, noun in counts if count is not None)
    what = [asked, f"at step {last.step}"]
    if first.step < last.step:
        what.append(f"at step {first.step}: {_rates(first)}")
    found = [(f"Root pass@1{many}", _rates(last), Html("<br>".join(x for x in what if x)))]
    if last.gap is None:
        return [*found, ("Transfer gap", "·", "not evaluated from training prefixes")]
    gap = f"{percent(last.prefix)} % from its training prefixes"
    return [*found, ("Transfer gap", f"{points(last.gap)} points", gap)]


def _rates(found: Passes) -> str:
    many = f", {percent(found.root_k)} %" if found.k and found.k > 1 else ""
    return f"{percent(found.root)} %{many}"


def _training_facts(one: Series) -> list[Fact]:
    run = one.run
    equal = percent(run.zero_variance())
    budget = (run.config.get("budget") or {}).get("tokens")
    of = f"of {quantity(budget)}" if isinstance(budget, (int, float)) else ""
    return [
        ("Generated tokens", quantity(run.tokens), of),
        ("Zero-variance groups", equal if equal == "·" else f"{equal} %", "of all steps"),
        ("KL from the base", rounded(run.tail("kl")), f"nats per output, last {TAIL} steps"),
    ]


def _other_facts(series: Sequence[Series], known: Sequence[tuple[Series, Passes]]) -> list[Fact]:
    """The largest gap of all runs, and what was spent."""
    found: list[Fact] = []
    gaps = [(one, last, last.gap) for one, last in known if last.gap is not None]
    if gaps:
        one, last, gap = max(gaps, key=lambda x: x[2])
        rates = f"{percent(last.prefix)} % from prefixes, {percent(last.root)} % from the root"
        what = Html(f"{one.name}<br>{rates}")
        found.append(("Largest transfer gap", f"{points(gap)} points", what))
    spent = sorted(one.run.tokens for one in series)
    ends = " to ".join(dict.fromkeys((quantity(spent[0]), quantity(spent[-1]))))
    return [*found, ("Generated tokens per run", ends, "")]


_KEY = (
    Html(f"{line_swatch('ink')}solid: from the root"),
    Html(f"{line_swatch('ink', 1)}dashed: from the training prefixes"),
)
