"""``report.html`` of one training run, or of several laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...errors import RunFolderError
from ..kit.cells import facts, named
from ..kit.formatting import listing, percent, plural, points, quantity, rounded
from ..kit.html import document, grid, legend, line_swatch, write_page
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
from .seeds import seeds_section
from .tables import NOTES, common_tokens, name_of, sections

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
    return write_page(Path(out) if out is not None else usual, render(runs))


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
    series = series_of(runs)
    models = dict.fromkeys(map(model_of, runs))
    tasks = dict.fromkeys(str(run.config.get("task", "?")) for run in runs)
    title = f"{listing(list(models))} trained on {listing(list(tasks))}"
    head = [_header(series, title), _headline(series)]
    parts = [*head, *_figures(series), *seeds_section(series), *sections(series), NOTES]
    return document(f"reroot train: {title}", parts)


def _header(series: Sequence[Series], title: str) -> str:
    runs = [one.run for one in series]
    versions = listing(sorted({str(run.config.get("version", "")) for run in runs} - {""}))
    count = "One training run." if len(runs) == 1 else f"{len(runs)} training runs, overlaid."
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
    return f"""<header><p class="kicker">reroot train {escape(versions)}</p>
<h1>{escape(title)}</h1>
<p>{count} A strategy decides at which prefixes training rollouts start; what counts in the end is what the
policy does from the root, the empty prefix.</p>
<p class="note">{escape(" ".join(notes))}</p></header>"""


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return listing([f"{quantity(v)} {k}" for k, v in value.items()])
    return quantity(value) if isinstance(value, (int, float)) else str(value)


# ---- headline ------------------------------------------------------------------------------------

Fact = tuple[str, str, str]
"""A name, a value and what it is of; the last two are HTML."""


def _headline(series: Sequence[Series]) -> str:
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
    items += [f"Not evaluated yet: {listing(without)}."] if without else []
    note = "".join(f"<li>{escape(item)}</li>" for item in items)
    note = f"<ul>{note}</ul>" if note else ""
    return (
        f'<h2>What was reached</h2><article class="verdict"><p class="kind">{escape(kind)}</p>'
        f"{facts(found)}{note}</article>"
    )


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
    found = [(f"Root pass@1{many}", _rates(last), "<br>".join(x for x in what if x))]
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
        what = f"{named(one.color, one.label)}<br>{rates}"
        found.append(("Largest transfer gap", f"{points(gap)} points", what))
    spent = sorted(one.run.tokens for one in series)
    ends = " to ".join(dict.fromkeys((quantity(spent[0]), quantity(spent[-1]))))
    return [*found, ("Generated tokens per run", ends, "")]


# ---- figures -------------------------------------------------------------------------------------

_KEY = (
    line_swatch("ink", "solid: from the root", 1.8, ""),
    line_swatch("ink", "dashed: from the training prefixes", 1.8, "5 2"),
)


def _figures(series: Sequence[Series]) -> list[str]:
    window = window_of([one.run for one in series])
    mean = f"moving means over {window} steps" if window > 1 else "the values of single steps"
    panels = [*reward_panels(series, window), gap_panel(series), *step_panels(series, window)]
    last = pass_panels(series)
    return [
        "<h2>Training against generated tokens</h2>",
        f"<p>Curves are {mean}; all generated tokens count, those drawn to build prefixes too. In the "
        "first figure curves are rewards of training rollouts and markers are pass@1 from the root at "
        "evaluations (connected where a run never trains from the root); elsewhere markers "
        "only tell the runs apart.</p>",
        legend([*map(name_of, series), *_KEY]),
        grid([panel for panel in panels if panel]),
        "<h2>The last evaluation</h2>",
        "<p>pass@k: share of problems of which at least one of k samples is right (an unbiased "
        "estimate). A dashed line far above the solid one is a policy that needs the hint.</p>"
        if last
        else "<p>No run has an evaluation yet.</p>",
        grid(last),
    ]
