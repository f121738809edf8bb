"""Tables of training runs: what each could ask, where it stands, what it spent, how it was run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from scipy import stats

from ...types import CURRENCIES
from ..kit.cells import plain_setting, prose, rate, small, table_of
from ..kit.contracts import PAYS, may
from ..kit.formatting import percent, quantity, share
from ..kit.markup import Html
from ..kit.table import Column, Table, columns
from .data import TAIL, Passes, TrainingRun, differing, last_passes, state
from .figures import Series, series_of, variant

MOST_EVENTS = 20


def training_tables(runs: Sequence[TrainingRun]) -> dict[str, Table]:
    """Name → table, for files; those without rows are left out."""
    series = series_of(runs)
    made = {
        "evaluations": evaluations_table(series, common_tokens(runs)).titled("Last evaluations"),
        "training": training_numbers(series).titled(f"Training, mean of the last {TAIL} steps"),
        "costs": costs_table(series).titled("Spent in training"),
        "seeds": seeds_table(series).titled("Arms over seeds, at the last evaluation"),
        "settings": settings_tables(series)[0].titled("Settings that differ"),
        "events": events_table(series).titled("Warnings"),
    }
    return {name: table for name, table in made.items() if table}


def contracts_table(series: Sequence[Series]) -> Table:
    """One row for all runs of the same strategy under the same contract."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        config = one.run.config
        key = str(config.get("strategy", one.run.arm)), str(config["contract"])
        groups.setdefault(key, []).append(one)
    rows = [
        [
            Html("<br>".join(one.name for one in runs)),
            Html(f"{escape(strategy)}<br><small>{escape(contract)}</small>"),
            prose(may(runs[0].run.contract)),
        ]
        for (strategy, contract), runs in groups.items()
    ]
    return Table(columns("run | strategy and contract | what it may ask", 3), rows)


def common_tokens(runs: Sequence[TrainingRun]) -> float | None:
    """Tokens at which every evaluated run can be compared; ``None``: all ended with as many."""
    ends = [last.tokens or 0.0 for run in runs if (last := last_passes(run)) is not None]
    return min(ends) if len(set(ends)) > 1 and min(ends) > 0 else None


def numbers_of(one: Series, shared: float | None = None) -> dict[str, Any]:
    """What tables say of a run: it, its last evaluation, and means of its last steps.

    Args:
        one: the run.
        shared: tokens; with them also the last evaluation ``within`` so many.
    """
    run = one.run
    last, within = (last_passes(run, most) or _NONE for most in (math.inf, shared or 0.0))
    asked = [quantity(x) if x else "·" for x in (last.problems, last.n)]
    error = "" if last.error is None else f"± {share(last.error)}"
    return {
        "run": one.name,
        "state": state(run),
        "tokens": run.tokens,
        "last": last,
        "asked": None if last is _NONE else " × ".join(asked),
        "root": small(percent(last.root), error, last.root),
        "root_k": small(percent(last.root_k), f"k = {last.k}" if last.k else "", last.root_k),
        "within": within.root,
        "tail": {name: run.tail(name) for name in _TAILS},
        "equal": run.zero_variance(),
        "equal_last": run.zero_variance(TAIL),
    }


_NONE = Passes(0, *[None] * 8)
_TAILS = ("root", "prefix", "kl", "start", "longest")


def evaluations_table(series: Sequence[Series], shared: float | None) -> Table:
    """The last evaluation of each, and the last within the tokens that every run has spent."""
    head = "run | state | evaluated at, tokens | problems × samples | pass@1, root, % | pass@k, root, %"
    head += " | pass@1, prefixes, % | transfer gap, points"
    cells = "{run} | {state} | {last.tokens:q} | {asked} | {root} | {root_k} | {last.prefix:p} | {last.gap:points}"
    if shared:
        head += f" | within {quantity(shared)} tokens: pass@1, root, %"
        cells += " | {within:p}"
    return table_of(head, cells, [numbers_of(one, shared) for one in series], 2)


def training_numbers(series: Sequence[Series]) -> Table:
    """Means of the last steps."""
    head = "run | reward, root | reward, prefixes | KL, nats per output | start prefix, tokens | longest"
    head += " | zero-variance groups, % | zero-variance, all steps, %"
    cells = " | ".join(["{run}", *(f"{{tail[{name}]:r}}" for name in _TAILS)])
    cells += " | {equal_last:p} | {equal:p}"
    return table_of(head, cells, map(numbers_of, series))


def costs_table(series: Sequence[Series]) -> Table:
    """What each spent, in every currency in which anything was paid."""
    names = [*CURRENCIES, *sorted({k for s in series for k in s.run.spent} - {*CURRENCIES})]
    paid = [c for c in names if any(s.run.spent.get(c) for s in series)]
    built = any(one.run.building() is not None for one in series)
    heads = [Column("run", True), *(Column(PAYS.get(c, c), format="q") for c in paid)]
    heads += [Column("tokens that built prefixes")] * built
    rows: list[list[Any]] = []
    for one in series:
        costs = [one.run.spent.get(c) or None for c in paid]
        rows.append([one.name, *costs, *([_building(one.run)] if built else [])])
    return Table(heads, rows if paid else [])


def _building(run: TrainingRun) -> Html | None:
    part, whole = run.building(), run.spent.get("tokens")
    if part is None or not whole:
        return None
    return small(quantity(part), f"{share(part / whole)} %", part) if part else Html("0", 0)


def events_table(series: Sequence[Series]) -> Table:
    """The last warnings of each run."""
    rows = [
        [one.name, str(event["step"]), prose(str(event.get("text", "")))]
        for one in series
        for event in one.run.events[-MOST_EVENTS:]
    ]
    return Table(columns("run | step | what", 3), rows)


def settings_tables(series: Sequence[Series]) -> tuple[Table, dict[str, Any]]:
    """The settings in which runs differ, and those that are equal in all."""
    runs = [one.run for one in series]
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    apart = [key for key in differing(runs, keys) if key != "command"]
    rows = [
        [one.name, *(prose(plain_setting(one.run.config.get(k))) for k in apart)] for one in series
    ]
    heads = [Column(name, True) for name in ("run", *apart)]
    return Table(heads, rows if apart else []), {
        k: runs[0].config.get(k) for k in keys if k not in apart
    }


# ---- arms over seeds -----------------------------------------------------------------------------


def seeds_table(series: Sequence[Series]) -> Table:
    """One row for each arm of which there are several seeds: training runs that differ in the seed alone."""
    arms: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        arms.setdefault(variant(one.run), []).append(one)
    several = [arm for arm in arms.values() if len(arm) > 1]
    shared = common_tokens([one.run for arm in several for one in arm])
    head = "arm | seeds | tokens spent:q | least share of the budget:p | pass@1, root, % | pass@1, prefixes, %"
    head += f" | within {quantity(shared)} tokens: pass@1, root, %" if shared else ""
    return Table(columns(head), [_arm(arm, shared) for arm in several])


def _arm(arm: Sequence[Series], shared: float | None) -> list[Any]:
    last = [passes for one in arm if (passes := last_passes(one.run)) is not None]
    budgets = [(one.run, (one.run.config.get("budget") or {}).get("tokens")) for one in arm]
    row = [
        Html(f"{arm[0].swatch()}{escape(str(arm[0].run.config['strategy']))}"),
        len(arm),
        float(np.mean([one.run.tokens for one in arm])),
        min((run.tokens / budget for run, budget in budgets if budget), default=None),
        mean_and_interval([p.root for p in last]),
        mean_and_interval([p.prefix for p in last]),
    ]
    if shared:
        within = [last_passes(one.run, shared) for one in arm]
        row.append(mean_and_interval([p.root for p in within if p is not None]))
    return row


def mean_and_interval(rates: Sequence[float | None]) -> Html | None:
    """Mean of rates in %, with its 95 % interval by Student's t where there are at least two."""
    values = np.array([rate for rate in rates if rate is not None])
    if len(values) < 2:
        return rate(float(values[0]) if len(values) else None)
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return small(share(mean), f"{share(low)}–{share(high)}", mean, (low, high))
