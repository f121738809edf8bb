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
from ..kit.cells import named, prose, rate, with_interval
from ..kit.contracts import SHORT, allowed
from ..kit.formatting import counting, listing, rounded, share, unfinished, verifier_warning
from ..kit.markup import Html
from ..kit.table import Column, Table, columns

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
    made = {"methods": _methods(summary), "permissions": _permissions(summary)}
    made |= {"rewards": _rewards(summary), "speed": _speed(summary)}
    captions = {
        "permissions": "What each method had to be allowed",
        "speed": "Generated tokens per second",
    }
    captions |= {"rewards": "Mean reward by task, at equal tokens → at equal calls"}
    return {n: t if t.caption else t.titled(captions[n]) for n, t in made.items() if t}


def _methods(summary: Mapping[str, Any]) -> Table:
    """A row of each group of tasks, method and budget."""
    heads = columns("tasks | method | control | equal", 4)
    heads += [Column("rank"), Column("reward"), Column("pass rate"), Column("J_beta at least")]
    heads += [Column("share of the budget used"), Column("errors")]
    heads += [Column(f"{name} per attempt", format="q") for name in CURRENCIES]
    rows = list[list[Any]]()
    for group in summary["groups"]:
        for budget in BUDGETS:
            for row in ordered(group, budget):
                n = row[budget]
                rows.append(
                    [
                        *(
                            _tasks(group),
                            row["short"],
                            row["control"],
                            budget,
                            n["rank"],
                            n["reward"],
                        ),
                        rate(n["pass_rate"], n["pass_interval"]),
                        *(n["j_beta"], n["used"], n["errors"]),
                        *(n["cost"][name] for name in CURRENCIES),
                    ]
                )
    return Table(heads, rows, "Methods at equal tokens and at equal calls")


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
    told = unfinished(summary)
    parts = [told] if told else []
    rows = [(row["short"], row[b]) for g in summary["groups"] for row in g["rows"] for b in BUDGETS]
    parts += counting([{**n, "short": short, "budget": i} for i, (short, n) in enumerate(rows)])
    broken: dict[str, int] = {}
    for short, numbers in rows:
        broken[short] = broken.get(short, 0) + numbers["errors"]
    listed = ", ".join(f"{short} ({count})" for short, count in sorted(broken.items()) if count)
    if listed:
        first = next(numbers["error"] for _, numbers in rows if numbers["errors"])
        parts.append(f"Attempts with errors count as not passed: {listed}.")
        parts.append(f"The first one: {first}")
    return parts


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
    rows = [[*_entry(a, "tokens"), *_entry(b, "calls"), _moved(b)] for a, b in pairs]
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
    return f"Best at {_AT[budget]}", _mean(best[0][budget]), Html(shown)


def _entry(row: Mapping[str, Any], budget: str) -> list[Any]:
    n = row[budget]
    return [
        Html(f"{n['rank']}&ensp;{named(row['control'], row['short'])}"),
        _mean(n),
        rate(n["pass_rate"], n["pass_interval"]),
        with_interval(n["j_beta"], None),
        share(n["used"]),
    ]


def _mean(numbers: Mapping[str, Any]) -> str:
    return "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"


def _moved(row: Mapping[str, Any]) -> Html:
    up, down = row["passes"], row["passed_by"]
    parts = [f'<span class="yes" title="{escape(", ".join(up))}">▲{len(up)}</span>'] if up else []
    parts += (
        [f'<span class="off" title="{escape(", ".join(down))}">▼{len(down)}</span>'] if down else []
    )
    return Html(" ".join(parts) or "=")


def _permissions(summary: Mapping[str, Any]) -> Table:
    rows: list[list[Any]] = []
    for method in summary["methods"]:
        words = map(prose, allowed(Contract.parse(method["requires"])))
        rows.append([named(method["control"], method["short"]), *words, method["requires"]])
    head = "method | where it asks: it may | it sees | beside the generator it may"
    return Table([*columns(head, 4), Column("contract", True, "code")], rows, style="dense")


def _rewards(summary: Mapping[str, Any]) -> Table:
    rows = [
        [named(row["control"], row["short"]), *map(_both, row["tokens"], row["calls"])]
        for row in summary["rewards"]
    ]
    return Table(columns(" | ".join(["method", *map(task_name, summary["tasks"])])), rows)


def _both(tokens: float | None, calls: float | None) -> str:
    return " → ".join("·" if x is None else f"{x:.2f}" for x in dict.fromkeys((tokens, calls)))


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
    heads = [*columns("method | at", 2), Column("calls", format="q")]
    heads += [Column(SHORT.get(c, c), format="q") for c in pays]
    heads += [Column("surprisal, nats", format=".1f"), Column("incomplete outputs")]
    return Table([*heads, *[Column("errors")] * broken], shown, style="dense")


def _speed(summary: Mapping[str, Any]) -> Table:
    parts = {"rollouts": "plain rollouts alone"}
    parts |= {budget: f"the suite at {_AT[budget]}" for budget in BUDGETS}
    rows = list[list[Any]]()
    for part, name in parts.items():
        one = summary["speed"][part]
        spent = None if one["seconds"] is None else round(one["seconds"], 1)
        rows.append([name, one["tokens"], spent, rounded(one["per_second"])])
    heads = [
        Column("what", True),
        Column("generated tokens", format=","),
        Column("seconds", format="q"),
    ]
    return Table([*heads, Column("tokens per second")], rows)
