"""Tables of training runs: what each could ask, where it stands, what it spent, how it was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from scipy import stats

from ...types import CURRENCIES
from ..kit.cells import prose, rate, small
from ..kit.contracts import PAYS, may
from ..kit.formatting import percent, points, quantity, rounded, share
from ..kit.markup import Html
from ..kit.table import Column, Table, columns
from .data import TAIL, Passes, TrainingRun, differing, last_passes, state
from .figures import Series, variant

MOST_EVENTS = 20


def contracts_table(series: Sequence[Series]) -> Table:
    """One row for all runs of the same strategy under the same contract."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        config = one.run.config
        key = str(config.get("strategy", one.run.arm)), str(config["contract"])
        groups.setdefault(key, []).append(one)
    rows: list[list[Any]] = []
    for (strategy, contract), runs in groups.items():
        named = Html(f"{escape(strategy)}<br><small>{escape(contract)}</small>")
        names = Html("<br>".join(one.name for one in runs))
        rows.append([names, named, prose(may(runs[0].run.contract))])
    return Table(columns("run | strategy and contract | what it may ask", 3), rows)


def common_tokens(runs: Sequence[TrainingRun]) -> float | None:
    """Tokens at which every evaluated run can be compared; ``None``: all ended with as many."""
    ends = [last.tokens or 0.0 for run in runs if (last := last_passes(run)) is not None]
    return min(ends) if len(set(ends)) > 1 and min(ends) > 0 else None


def evaluations_table(series: Sequence[Series], shared: float | None) -> Table:
    """The last evaluation of each, and the last within the tokens that every run has spent."""
    head = "run | state | evaluated at, tokens | problems × samples | pass@1, root, % | pass@k, root, %"
    head += " | pass@1, prefixes, % | transfer gap, points"
    head += f" | within {quantity(shared)} tokens: pass@1, root, %" if shared else ""
    rows: list[list[Any]] = []
    for one in series:
        row = [one.name, state(one.run), *_passed(last_passes(one.run))]
        if shared:
            within = last_passes(one.run, shared)
            row.append(percent(within.root if within else None))
        rows.append(row)
    return Table(columns(head, 2), rows)


def _passed(last: Passes | None) -> list[Any]:
    if last is None:
        return [None] * 6
    asked = [quantity(x) if x else "·" for x in (last.problems, last.n)]
    return [
        None if last.tokens is None else quantity(last.tokens),
        " × ".join(asked),
        small(
            percent(last.root), "" if last.error is None else f"± {share(last.error)}", last.root
        ),
        small(percent(last.root_k), f"k = {last.k}" if last.k else "", last.root_k),
        percent(last.prefix),
        points(last.gap),
    ]


def training_numbers(series: Sequence[Series]) -> Table:
    """Means of the last steps."""
    names = {"root": "reward, root", "prefix": "reward, prefixes", "kl": "KL, nats per output"}
    names |= {"start": "start prefix, tokens", "longest": "longest"}
    rows: list[list[Any]] = []
    for one in series:
        equal = [percent(one.run.zero_variance(last)) for last in (TAIL, None)]
        rows.append([one.name, *(rounded(one.run.tail(name)) for name in names), *equal])
    more = "zero-variance groups, % | zero-variance, all steps, %"
    return Table(columns(" | ".join(["run", *names.values(), more])), rows)


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
    rows = [[one.name, *(prose(_plain(one.run.config.get(k))) for k in apart)] for one in series]
    heads = [Column(name, True) for name in ("run", *apart)]
    return Table(heads, rows if apart else []), {
        k: runs[0].config.get(k) for k in keys if k not in apart
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- arms over seeds -----------------------------------------------------------------------------


def seeds_table(series: Sequence[Series]) -> Table:
    """One row for each arm of which there are several seeds: training runs that differ in the seed alone."""
    arms: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        arms.setdefault(variant(one.run), []).append(one)
    several = [arm for arm in arms.values() if len(arm) > 1]
    shared = common_tokens([one.run for arm in several for one in arm])
    head = "arm | seeds | tokens spent | least share of the budget | pass@1, root, % | pass@1, prefixes, %"
    head += f" | within {quantity(shared)} tokens: pass@1, root, %" if shared else ""
    return Table(columns(head), [_arm(arm, shared) for arm in several])


def _arm(arm: Sequence[Series], shared: float | None) -> list[Any]:
    last = [passes for one in arm if (passes := last_passes(one.run)) is not None]
    spent = [one.run.tokens for one in arm]
    known = [one for one in arm if (one.run.config.get("budget") or {}).get("tokens")]
    used = [one.run.tokens / one.run.config["budget"]["tokens"] for one in known]
    row = [
        Html(f"{arm[0].swatch()}{escape(str(arm[0].run.config['strategy']))}"),
        str(len(arm)),
        quantity(float(np.mean(spent))),
        percent(min(used)) if used else "·",
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
    return small(percent(mean), f"{percent(low)}–{percent(high)}", mean)
