"""The page of a suite: both rankings side by side, what each method cost, and what it had to be allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract
from ...runs.suite import SuiteRun
from ...runs.suite_summary import BUDGETS, lacking
from ...types import CURRENCIES
from ..kit import page as kit
from ..kit.cells import named, prose, rate, records, with_interval
from ..kit.contracts import SHORT, allowed
from ..kit.formatting import counting, listing, share, unfinished, verifier_warning
from ..kit.markup import Html
from ..kit.table import Column, Table, columns, markup

_MOST_NAMED = 3
_AT = {"tokens": "equal tokens", "calls": "equal calls"}


def write_suite_page(run: SuiteRun) -> Path:
    """Write ``report.html`` into the folder of a suite; the path of the page (``RunFolderError``)."""
    return kit.write_page(run.folder / "report.html", render(run.summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    groups = summary["groups"]
    return kit.render(
        f"reroot compare: {summary['suite']} methods on {summary['model']}",
        "suite/page.html",
        summary=summary,
        disagreements=disagreements(summary),
        errors=errors(summary),
        rankings=[_ranking(summary, group) for group in groups if group["rows"]],
        permissions=_permissions(summary),
        rewards=_rewards(summary),
        costs=[(_tasks(group), _costs(group)) for group in groups],
        speed=_speed(summary),
        task_name=task_name,
    )


def suite_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table of a suite, for files: every method at either budget with its numbers, and the others of
    its page."""
    rewards = "Mean reward by task, at equal tokens → at equal calls"
    made = {
        "methods": _methods(summary),
        "permissions": _permissions(summary).titled("What each method had to be allowed"),
        "rewards": _rewards(summary).titled(rewards),
        "speed": _speed(summary).titled("Generated tokens per second"),
    }
    return {name: table for name, table in made.items() if table}


def _methods(summary: Mapping[str, Any]) -> Table:
    """A row of each group of tasks, method and budget."""
    rows = [
        {
            **row[budget],
            **{f"{name}_per_attempt": cost for name, cost in row[budget]["cost"].items()},
            "tasks": _tasks(group),
            "method": row["short"],
            "control": row["control"],
            "equal": budget,
        }
        for group in summary["groups"]
        for budget in BUDGETS
        for row in ordered(group, budget)
    ]
    names = "tasks method control equal rank reward pass_rate:pass_interval j_beta used errors"
    costs = (f"{name}_per_attempt" for name in CURRENCIES)
    caption = "Methods at equal tokens and at equal calls"
    return records(" ".join([names, *costs]), rows, caption)


def names(items: Sequence[str], most: int = _MOST_NAMED) -> str:
    """``a, b, c and 4 more``."""
    if len(items) <= most + 1:
        return listing(items)
    return listing([*items[:most], f"{len(items) - most} more"])


def task_name(task: str) -> str:
    """A task without its parameters."""
    return task.removeprefix("reasoning_gym:").partition(":")[0]


def ordered(group: Mapping[str, Any], budget: str) -> list[Mapping[str, Any]]:
    """Rows by rank; by the J_β bound where that is the same."""

    def key(row: Mapping[str, Any]) -> tuple[int, float]:
        bound = row[budget]["j_beta"]
        return row[budget]["rank"], float("inf") if bound is None else -bound

    return sorted(group["rows"], key=key)


def errors(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on attempts that are not made yet, or had errors: whose they were, and the first."""
    rows = [(row["short"], row[b]) for g in summary["groups"] for row in g["rows"] for b in BUDGETS]
    cells = [{**n, "short": short, "budget": i} for i, (short, n) in enumerate(rows)]
    told = unfinished(summary)
    return [*([told] if told else []), *counting(cells)]


def disagreements(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each part in which the verifier accepts what the reward refuses."""
    found = {b: verifier_warning(summary["accepted_failures"][b]) for b in BUDGETS}
    return [f"At equal {budget}: {text}" for budget, text in found.items() if text]


def _tasks(group: Mapping[str, Any]) -> str:
    return listing([task_name(task) for task in group["tasks"]])


def _ranking(summary: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    clear = f"{sum(flip['clear'] for flip in group['flips'])} of them clear"
    flips = f"{len(group['flips'])} of {group['pairs']}"
    pairs = zip(*(ordered(group, budget) for budget in BUDGETS), strict=True)
    half = "reward | passed, % | J<sub>β</sub> ≥ | used"
    heads = columns(f"equal tokens | {half} | equal calls | {half} | flips", (0, 5, 10))
    heads = [replace(column, name=Html(column.name)) for column in heads]
    rows = [[*_entry(a, "tokens"), *_entry(b, "calls"), moved(b)] for a, b in pairs]
    without = [f"no {k}: {listing(v)}" for k, v in lacking(summary, group).items()]
    return {
        "tasks": _tasks(group),
        "attempts": group["attempts"],
        "tiles": [
            *(_winner(group, b) for b in BUDGETS),
            ("Pairs that change places", flips, clear),
        ],
        "table": Table(heads, rows, style="dense halves"),
        "without": "; ".join(without),
    }


def _winner(group: Mapping[str, Any], budget: str) -> tuple[str, str, Html]:
    best = [row for row in ordered(group, budget) if row[budget]["rank"] == 1]
    shown = names([named(row["control"], row["short"]) for row in best])
    return f"Best at {_AT[budget]}", markup(best[0][budget]["reward"], ".2f"), Html(shown)


def _entry(row: Mapping[str, Any], budget: str) -> list[Any]:
    n = row[budget]
    return [
        Html(f"{n['rank']}&ensp;{named(row['control'], row['short'])}"),
        markup(n["reward"], ".2f"),
        rate(n["pass_rate"], n["pass_interval"]),
        with_interval(n["j_beta"], None),
        share(n["used"]),
    ]


def moved(row: Mapping[str, Any]) -> Html:
    """How many methods it passes, and is passed by, at equal calls."""
    marks = (("yes", "▲", row["passes"]), ("off", "▼", row["passed_by"]))
    parts = [
        f'<span class="{kind}" title="{escape(", ".join(names))}">{mark}{len(names)}</span>'
        for kind, mark, names in marks
        if names
    ]
    return Html(" ".join(parts) or "=")


def _permissions(summary: Mapping[str, Any]) -> Table:
    rows = [
        [
            named(method["control"], method["short"]),
            *map(prose, allowed(Contract.parse(method["requires"]))),
            method["requires"],
        ]
        for method in summary["methods"]
    ]
    head = "method | where it asks: it may | it sees | beside the generator it may | contract:code"
    return Table(columns(head, 5), rows, style="dense")


def _rewards(summary: Mapping[str, Any]) -> Table:
    rows = [
        [named(row["control"], row["short"]), *map(_both, row["tokens"], row["calls"])]
        for row in summary["rewards"]
    ]
    return Table(columns(" | ".join(["method", *map(task_name, summary["tasks"])])), rows)


def _both(tokens: float | None, calls: float | None) -> str:
    return " → ".join(markup(x, ".2f") for x in dict.fromkeys((tokens, calls)))


def _costs(group: Mapping[str, Any]) -> Table:
    rows = [(row, row[b]["cost"], b) for row in group["rows"] for b in BUDGETS]
    pays = [c for c in CURRENCIES if any(cost[c] for _, cost, _ in rows)]
    broken = any(row[b]["errors"] for row, _, b in rows)
    shown = [
        [
            named(row["control"], row["short"]) if b == BUDGETS[0] else "",
            _AT[b],
            cost["rollouts"] + cost["queries"],
            *(cost[c] or None for c in pays),
            row[b]["surprisal"],
            *(row[b][name] or None for name in ("unfinished", *["errors"] * broken)),
        ]
        for row, cost, b in rows
    ]
    heads = columns("method | at | calls:q", 2)
    heads += [Column(SHORT.get(c, c), format="q") for c in pays]
    heads += columns("surprisal, nats:.1f | incomplete outputs", 0)
    return Table([*heads, *[Column("errors")] * broken], shown, style="dense")


def _speed(summary: Mapping[str, Any]) -> Table:
    parts = {"rollouts": "plain rollouts alone"}
    parts |= {budget: f"the suite at {_AT[budget]}" for budget in BUDGETS}
    rows = list[list[Any]]()
    for part, name in parts.items():
        one = summary["speed"][part]
        spent = None if one["seconds"] is None else round(one["seconds"], 1)
        rows.append([name, one["tokens"], spent, one["per_second"]])
    return Table(columns("what | generated tokens:, | seconds:q | tokens per second:r"), rows)
