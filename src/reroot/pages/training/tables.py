"""Tables of training runs: what each could ask, where it stands, what it spent, how it was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from ...types import CURRENCIES
from ..kit.cells import configuration, note, prose, table
from ..kit.contracts import PAYS, may
from ..kit.formatting import percent, points, quantity, rounded, share
from .data import TAIL, Passes, TrainingRun, differing, last_passes, state
from .figures import Series

_MOST_EVENTS = 20


def name_of(one: Series) -> str:
    """A run as it is called in tables and legends."""
    return f"{one.swatch()}{escape(one.label)}"


def sections(series: Sequence[Series]) -> list[str]:
    """Every table under its heading."""
    return [
        "<h2>The arms</h2>",
        _contracts(series),
        "<h3>Pass rates at the last evaluation</h3>",
        _evaluations(series),
        f"<h3>Training, mean of the last {TAIL} steps</h3>",
        _training(series),
        "<h3>Spent in training</h3>",
        _costs(series),
        *_events(series),
        *_settings(series),
    ]


# ---- what each arm could ask ---------------------------------------------------------------------


def _contracts(series: Sequence[Series]) -> str:
    """One row for all runs of the same strategy under the same contract."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        config = one.run.config
        key = str(config.get("strategy", one.run.arm)), str(config["contract"])
        groups.setdefault(key, []).append(one)
    rows: list[list[str]] = []
    for (strategy, contract), runs in groups.items():
        named = f"{escape(strategy)}<br><small>{escape(contract)}</small>"
        allowed = prose(may(runs[0].run.contract))
        rows.append(["<br>".join(map(name_of, runs)), named, allowed])
    return table(["run", "strategy and contract", "what it may ask"], rows, text=3)


# ---- numbers -------------------------------------------------------------------------------------


def common_tokens(runs: Sequence[TrainingRun]) -> float | None:
    """Tokens at which every evaluated run can be compared; ``None``: all ended with as many."""
    ends = [last.tokens or 0.0 for run in runs if (last := last_passes(run)) is not None]
    return min(ends) if len(set(ends)) > 1 and min(ends) > 0 else None


def _evaluations(series: Sequence[Series]) -> str:
    shared = common_tokens([one.run for one in series])
    head = ["run", "state", "evaluated at, tokens", "problems × samples", "pass@1, root, %"]
    head += ["pass@k, root, %", "pass@1, prefixes, %", "transfer gap, points"]
    head += [f"within {quantity(shared)} tokens: pass@1, root, %"] if shared else []
    rows: list[list[str]] = []
    for one in series:
        row = [name_of(one), escape(state(one.run)), *_passed(last_passes(one.run))]
        if shared:
            within = last_passes(one.run, shared)
            row.append(percent(within.root if within else None))
        rows.append(row)
    return table(head, rows, text=2) + note(_WITHIN if shared else "")


_WITHIN = """The runs were evaluated last at different numbers of tokens; the last column \
is the last evaluation of each within the tokens that every run has spent."""


def _passed(last: Passes | None) -> list[str]:
    if last is None:
        return ["·"] * 6
    asked = [quantity(x) if x else "·" for x in (last.problems, last.n)]
    error = "" if last.error is None else f" <small>± {share(last.error)}</small>"
    k = f" <small>k = {last.k}</small>" if last.k else ""
    return [
        "·" if last.tokens is None else quantity(last.tokens),
        " × ".join(asked),
        f"{percent(last.root)}{error}",
        f"{percent(last.root_k)}{k}",
        percent(last.prefix),
        points(last.gap),
    ]


def _training(series: Sequence[Series]) -> str:
    columns = {"root": "reward, root", "prefix": "reward, prefixes", "kl": "KL, nats per output"}
    columns |= {"start": "start prefix, tokens", "longest": "longest"}
    rows: list[list[str]] = []
    for one in series:
        equal = [percent(one.run.zero_variance(last)) for last in (TAIL, None)]
        rows.append([name_of(one), *(rounded(one.run.tail(name)) for name in columns), *equal])
    more = ["zero-variance groups, %", "zero-variance, all steps, %"]
    return table(["run", *columns.values(), *more], rows)


def _costs(series: Sequence[Series]) -> str:
    names = [*CURRENCIES, *sorted({k for s in series for k in s.run.spent} - {*CURRENCIES})]
    paid = [c for c in names if any(s.run.spent.get(c) for s in series)]
    built = any(one.run.building() is not None for one in series)
    if not paid:
        return "<p>No cost was recorded.</p>"
    rows: list[list[str]] = []
    for one in series:
        costs = (quantity(v) if (v := one.run.spent.get(c)) else "·" for c in paid)
        rows.append([name_of(one), *costs, *([_building(one.run)] if built else [])])
    more = ["tokens that built prefixes"] if built else []
    return table(["run", *(escape(PAYS.get(c, c)) for c in paid), *more], rows)


def _building(run: TrainingRun) -> str:
    part, whole = run.building(), run.spent.get("tokens")
    if part is None or not whole:
        return "·"
    return f"{quantity(part)} <small>{share(part / whole)} %</small>" if part else "0"


# ---- events, settings, notes ---------------------------------------------------------------------


def _events(series: Sequence[Series]) -> list[str]:
    rows = [
        [name_of(one), str(event["step"]), prose(str(event.get("text", "")))]
        for one in series
        for event in one.run.events[-_MOST_EVENTS:]
    ]
    if not rows:
        return []
    longest = max(len(one.run.events) for one in series)
    said = f"<p>Of each run the last {_MOST_EVENTS}.</p>" if longest > _MOST_EVENTS else ""
    return ["<h2>Warnings</h2>", said, table(["run", "step", "what"], rows, text=3)]


def _settings(series: Sequence[Series]) -> list[str]:
    runs = [one.run for one in series]
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    apart = [key for key in differing(runs, keys) if key != "command"]
    commands = [
        f"<p>{name_of(one)}: <code>{escape(str(one.run.folder))}</code></p>"
        f"<pre>{escape(str(one.run.config.get('command') or 'command not recorded'))}</pre>"
        for one in series
    ]
    parts = ["<h2>Reproduce</h2>", *commands, "<h3>Configuration</h3>"]
    if apart:
        rows = [
            [name_of(one), *(prose(_plain(one.run.config.get(key))) for key in apart)]
            for one in series
        ]
        parts += [table(["run", *map(escape, apart)], rows, text=len(apart) + 1)]
        parts += ["<p>Equal in all runs:</p>"]
    equal = {key: runs[0].config.get(key) for key in keys if key not in apart}
    return [*parts, configuration(equal)]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


NOTES = """<h2>How to read the numbers</h2>
<p><b>Root and prefixes.</b> The root is the empty prefix: only the prompt is given. Prefixes are those the
strategy starts training rollouts at. A policy can pass from a long prefix because the prefix holds most of
the answer; only what it passes from the root counts as solved.</p>
<p><b>Transfer gap.</b> pass@1 from the training prefixes minus pass@1 from the root, in points, at the
same evaluation. Near zero: what was learnt from prefixes has reached the root. Large: the policy
relies on the hint.</p>
<p><b>pass@k.</b> Share of problems of which at least one of k samples passes. The small ± is about the largest
standard error that this pass@1 can have over the draw of problems, √(p(1 − p)/problems), where p counts one
more passed and one more failed problem; runs that share their problems and seeds may be told apart by
less.</p>
<p><b>Zero-variance groups.</b> Groups of rollouts in which all rewards were equal: nothing is learnt from
them. Shares are over all steps of a run.</p>
<p><b>KL.</b> Estimate of KL(policy ‖ base) in nats per output, from rollouts from the root; an estimate may
fall below zero.</p>
<p><b>Tokens.</b> All generated tokens that the run was charged for, those drawn to build start prefixes among
them. In the figures a moving mean at a step is over that step and those before
it, and reward curves skip steps without rollouts of their kind.</p>"""
"""How the numbers are meant; the closing section of the page."""
