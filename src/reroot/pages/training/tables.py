"""Tables of training runs: what each could ask, where it stands, what it spent, how it was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from ...contract import Contract, Oracle
from ...types import CURRENCIES
from ..comparison import tables
from ..comparison.figures import PAYS
from ..comparison.page import LEVELS
from ..kit.formatting import listing, quantity, share, signed
from .data import TAIL, Passes, TrainingRun, differing, last_passes, state
from .figures import Series

_REPORTS = {
    "argmax": "the {k} most likely tokens with their log-probabilities, no draw",
    "sample": "the drawn token",
    "logprob": "the drawn token and its log-probability",
    "topk": "the drawn token, and the {k} most likely with their log-probabilities",
    "full": "the drawn token and the whole next-token law",
    "none": "nothing",
}
_ORACLES = {
    Oracle.REWARD: "outcome rewards of complete outputs",
    Oracle.VERIFIER: "a process verifier (can this prefix still become right?)",
    Oracle.DEMONSTRATION: "demonstrations (tokens of a right output)",
    Oracle.VALUE: "value estimates of prefixes",
    Oracle.HIDDEN: "hidden states of the generator",
}
_MOST_EVENTS = 20


def name_of(one: Series) -> str:
    """A run as it is called in tables and legends."""
    return f"{one.swatch()}{escape(one.label)}"


def sections(series: Sequence[Series]) -> str:
    """Every table under its heading."""
    return "\n".join(
        [
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
    )


# ---- what each arm could ask ---------------------------------------------------------------------


def may_ask(contract: Contract) -> str:
    """A contract in words."""
    seen = _REPORTS[str(contract.report).partition("(")[0]].format(k=contract.report.top)
    oracles = listing([words for oracle, words in _ORACLES.items() if oracle in contract.oracles])
    return (
        f"Where: {LEVELS[str(contract.control)]}. Sees of a token: {seen}. "
        f"Oracles: {oracles or 'none'}."
    )


def _contracts(series: Sequence[Series]) -> str:
    """One row for all runs of the same strategy under the same contract."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        config = one.run.config
        key = str(config.get("strategy", one.run.arm)), str(config["contract"])
        groups.setdefault(key, []).append(one)
    rows = [
        [
            "<br>".join(map(name_of, runs)),
            f"{escape(strategy)}<br><small>{escape(contract)}</small>",
            _prose(may_ask(runs[0].run.contract)),
        ]
        for (strategy, contract), runs in groups.items()
    ]
    return tables.table(["run", "strategy and contract", "what it may ask"], rows, text=3)


def _prose(text: str) -> str:
    return f'<div class="prose">{escape(text)}</div>'


# ---- numbers -------------------------------------------------------------------------------------


def percent(value: float | None) -> str:
    """A share in percent, without the sign; ``·``: unknown."""
    return "·" if value is None else share(value)


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign; ``·``: unknown."""
    return "·" if value is None else signed(100 * value, 0)


def rounded(value: float | None, digits: int = 3) -> str:
    """A number to so many digits; ``·``: unknown."""
    return "·" if value is None else quantity(float(f"{value:.{digits}g}"))


def common_tokens(runs: Sequence[TrainingRun]) -> float | None:
    """Tokens at which every evaluated run can be compared; ``None``: all ended with as many."""
    ends = [last.tokens or 0.0 for run in runs if (last := last_passes(run)) is not None]
    return min(ends) if len(set(ends)) > 1 and min(ends) > 0 else None


def _evaluations(series: Sequence[Series]) -> str:
    shared = common_tokens([one.run for one in series])
    head = ["run", "state", "evaluated at, tokens", "problems × samples", "pass@1, root, %",
            "pass@k, root, %", "pass@1, prefixes, %", "transfer gap, points",
            *([f"within {quantity(shared)} tokens: pass@1, root, %"] if shared else [])]  # fmt: skip
    rows = []
    for one in series:
        row = [name_of(one), escape(state(one.run)), *_passed(last_passes(one.run))]
        if shared:
            within = last_passes(one.run, shared)
            row.append(percent(within.root if within else None))
        rows.append(row)
    note = (
        '<p class="note">The runs were evaluated last at different numbers of tokens; the last column '
        "is the last evaluation of each within the tokens that every run has spent.</p>"
    )
    return f"{tables.table(head, rows, text=2)}{note if shared else ''}"


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
    head = ["run", "reward, root", "reward, prefixes", "KL, nats per output", "start prefix, tokens",
            "longest", "zero-variance groups, %", "zero-variance, all steps, %"]  # fmt: skip
    rows = [
        [
            name_of(one),
            *(rounded(one.run.tail(name)) for name in ("root", "prefix", "kl", "start", "longest")),
            percent(one.run.zero_variance(TAIL)),
            percent(one.run.zero_variance()),
        ]
        for one in series
    ]
    return tables.table(head, rows)


def _costs(series: Sequence[Series]) -> str:
    names = [*CURRENCIES, *sorted({k for s in series for k in s.run.spent} - {*CURRENCIES})]
    paid = [c for c in names if any(s.run.spent.get(c) for s in series)]
    built = any(one.run.building() is not None for one in series)
    if not paid:
        return "<p>No cost was recorded.</p>"
    rows = [
        [
            name_of(one),
            *(quantity(v) if (v := one.run.spent.get(c)) else "·" for c in paid),
            *([_building(one.run)] if built else []),
        ]
        for one in series
    ]
    shown = [escape(PAYS.get(c, c)) for c in paid]
    more = ["tokens that built prefixes"] if built else []
    return tables.table(["run", *shown, *more], rows)


def _building(run: TrainingRun) -> str:
    part, whole = run.building(), run.spent.get("tokens")
    if part is None or not whole:
        return "·"
    return f"{quantity(part)} <small>{share(part / whole)} %</small>" if part else "0"


# ---- events, settings, notes ---------------------------------------------------------------------


def _events(series: Sequence[Series]) -> list[str]:
    rows = [
        [name_of(one), str(event["step"]), _prose(str(event.get("text", "")))]
        for one in series
        for event in one.run.events[-_MOST_EVENTS:]
    ]
    if not rows:
        return []
    longest = max(len(one.run.events) for one in series)
    note = f"<p>Of each run the last {_MOST_EVENTS}.</p>" if longest > _MOST_EVENTS else ""
    return ["<h2>Warnings</h2>", note, tables.table(["run", "step", "what"], rows, text=3)]


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
            [name_of(one), *(_prose(_plain(one.run.config.get(key))) for key in apart)]
            for one in series
        ]
        parts += [tables.table(["run", *map(escape, apart)], rows, text=len(apart) + 1)]
        parts += ["<p>Equal in all runs:</p>"]
    equal = {key: runs[0].config.get(key) for key in keys if key not in apart}
    return [*parts, tables.configuration(equal)]


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
