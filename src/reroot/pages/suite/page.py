"""The page of a suite: both rankings side by side, what each method cost, and what it had to be allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract
from ...runs.suite import SuiteRun
from ...runs.suite_summary import BUDGETS, lacking
from ...types import CURRENCIES
from ..kit.cells import facts, named, note, prose, table, table_of, warning, with_interval
from ..kit.contracts import SHORT, allowed
from ..kit.formatting import (
    counting,
    listing,
    percent,
    plural,
    quantity,
    rounded,
    share,
    shares,
    unfinished,
    verifier_warning,
)
from ..kit.html import document, write_page

_MOST_NAMED = 3
_AT = {"tokens": "equal tokens", "calls": "equal calls"}

_NOTES = """<h2>How to read the numbers</h2>
<p><b>Budgets.</b> A token is one that the generator draws, discarded ones too. A call is one question to the
generator: a rollout, a continuation, a draw, a list or law of next tokens, or a scored token. So a method that
asks token by token pays as many calls as tokens, and a rollout is one call however long it is: equal tokens
and equal calls are different races. The worst case is set aside before anything is asked, so that no
method ever overspends. Many end before the budget does: they have found what they look for, or they make
one pass, as large as the worst case allows. <i>Used</i> is the mean share of the budget that was spent.</p>
<p><b>Rankings.</b> By mean reward; equal means share a rank. An attempt without an output, or whose output
could not be judged, counts as not passed and as reward 0, or as the lowest reward of any output on its task
where that is below 0; a method none of whose attempts could be judged comes last. A pair is flipped where
one method leads at equal tokens and the other at equal calls; a flip is clear where in both the one that
leads passes more often by an exact paired bound (97.5 %, each pair by itself). With few problems most flips
are not.</p>
<p><b>J<sub>β</sub> ≥</b> is the mean of r − β·(−log P(output)): what is left of the reward when the output is
charged β per nat of its surprisal under the generator's own law (nothing where there is no output). It leaves
out the entropy of the method's law and so is a lower bound of J<sub>β</sub> = E[r] − β·KL. Surprisal is the
mean of −log P(output), in nats.</p>
<p><b>Intervals</b> at 95 %: pass rates Clopper-Pearson, means by bootstrap over problems.
<b>Costs</b> are means per attempt and logical: what the interface charges, whatever the backend reuses.</p>"""


def write_suite_page(run: SuiteRun) -> Path:
    """Write ``report.html`` into the folder of a suite; the path of the page (``RunFolderError``)."""
    return write_page(run.folder / "report.html", render(run.summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    title = f"{summary['suite']} methods on {summary['model']}"
    parts = [
        _header(summary, title),
        *map(warning, disagreements(summary)),
        *(note(escape(line)) for line in errors(summary)),
    ]
    parts += [_ranking(summary, group) for group in summary["groups"]]
    parts += [_permissions(summary), _rewards(summary)]
    parts += ["<h2>What each method cost</h2>"]
    parts += [_costs(summary, group) for group in summary["groups"]]
    parts += [_speed(summary), _NOTES]
    return document(f"reroot compare: {title}", parts)


def _header(summary: Mapping[str, Any], title: str) -> str:
    budgets, horizons = summary["budgets"], summary["horizons"]
    listed = f" at\nhorizon{'s' * (len(horizons) > 1)} {listing([str(h) for h in horizons])}"
    return f"""<header><p class="kicker">reroot compare --suite {escape(summary["suite"])}
{escape(summary["version"])}</p><h1>{escape(title)}</h1>
<p>{plural(len(summary["methods"]), "method")} on the same problems, once with
{quantity(budgets["tokens"])} generated tokens for each problem and once with {quantity(budgets["calls"])} calls,
rollouts and queries together. {plural(len(summary["tasks"]), "task")}{listed if any(horizons) else ""},
{plural(summary["problems"], "problem")} × {plural(summary["seeds"], "seed")} each.
Each method is served exactly the contract that it needs.</p></header>"""


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


def _ranking(summary: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    if not group["rows"]:
        return ""
    clear = f"{sum(flip['clear'] for flip in group['flips'])} of them clear"
    flips = f"{len(group['flips'])} of {group['pairs']}"
    found = [*(_winner(group, b) for b in BUDGETS), ("Pairs that change places", flips, clear)]
    pairs = zip(*(ordered(group, budget) for budget in BUDGETS), strict=True)
    rows = [[*_entry(a, "tokens"), *_entry(b, "calls"), _moved(b)] for a, b in pairs]
    half = ["", "reward", "passed, %", "J<sub>β</sub> ≥", "used"]
    head = ["equal tokens", *half[1:], "equal calls", *half[1:], "flips"]
    tasks = listing([task_name(task) for task in group["tasks"]])
    return (
        f'<article class="verdict"><h3>{escape(tasks)}, {plural(group["attempts"], "attempt")} '
        f"of each method</h3>{facts(found)}</article>"
        + table(head, rows, (0, 5, 10), "dense halves")
        + note(_FLIPS.format(beta=f"{summary['beta']:g}"))
        + _without(summary, group)
    )


_FLIPS = """▲ passes methods that lead it at equal tokens; ▼ is passed by methods that it \
leads there. β = {beta}; used: mean share of the budget, %."""


def _winner(group: Mapping[str, Any], budget: str) -> tuple[str, str, str]:
    best = [row for row in ordered(group, budget) if row[budget]["rank"] == 1]
    shown = names([named(row["control"], row["short"]) for row in best])
    return f"Best at {_AT[budget]}", _mean(best[0][budget]), shown


def _entry(row: Mapping[str, Any], budget: str) -> list[str]:
    n = row[budget]
    return [
        f"{n['rank']}&ensp;{named(row['control'], row['short'])}",
        _mean(n),
        f"{percent(n['pass_rate'])} <small>{shares(n['pass_interval'])}</small>",
        with_interval(n["j_beta"], None),
        share(n["used"]),
    ]


def _mean(numbers: Mapping[str, Any]) -> str:
    return "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"


def _moved(row: Mapping[str, Any]) -> str:
    up, down = row["passes"], row["passed_by"]
    parts = [f'<span class="yes" title="{_all(up)}">▲{len(up)}</span>'] if up else []
    parts += [f'<span class="off" title="{_all(down)}">▼{len(down)}</span>'] if down else []
    return " ".join(parts) or "="


def _all(shorts: Sequence[str]) -> str:
    return escape(", ".join(shorts), quote=True)


def _without(summary: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """Who did not run here, and why."""
    said = [
        f"no {escape(oracle)}: {escape(listing(shorts))}"
        for oracle, shorts in lacking(summary, group).items()
    ]
    return note(f"Did not run here, as there is {'; '.join(said)}." if said else "")


def _permissions(summary: Mapping[str, Any]) -> str:
    rows: list[list[str]] = []
    for method in summary["methods"]:
        text = method["requires"]
        words = map(prose, allowed(Contract.parse(text)))
        name = named(method["control"], method["short"])
        rows.append([name, *words, f"<code>{escape(text)}</code>"])
    head = ["method", "where it asks: it may", "it sees", "beside the generator it may", "contract"]
    unable = "; ".join(f"{escape(k)}: {escape(v)}" for k, v in summary["unable"].items())
    return (
        "<h2>What each method had to be allowed to do</h2>"
        "<p>The weakest contract under which it runs, and under which it did run here.</p>"
        f"{table(head, rows, text=5, kind='dense')}{note(f'Not run at all: {unable}.' if unable else '')}"
    )


def _rewards(summary: Mapping[str, Any]) -> str:
    tasks = summary["tasks"]
    head = ["method", *(escape(task_name(task)) for task in tasks)]
    rows = [
        [named(row["control"], row["short"]), *map(_both, row["tokens"], row["calls"])]
        for row in summary["rewards"]
    ]
    given = "".join(
        f"<li>{escape(task_name(task))}: <code>{escape(task)}</code>, with "
        f"{escape(listing(summary['oracles'][task]))}</li>"
        for task in tasks
    )
    return (
        "<h2>Mean reward, task by task</h2><p>At equal tokens → at equal calls.</p>"
        f'<ul class="levels">{given}</ul>{table(head, rows)}'
    )


def _both(tokens: float | None, calls: float | None) -> str:
    return " → ".join("·" if x is None else f"{x:.2f}" for x in dict.fromkeys((tokens, calls)))


def _costs(summary: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    rows = [(row, row[b]["cost"], b) for row in group["rows"] for b in BUDGETS]
    pays = [c for c in CURRENCIES if any(cost[c] for _, cost, _ in rows)]
    broken = any(row[b]["errors"] for row, _, b in rows)
    shown = [
        [
            named(row["control"], row["short"]) if b == BUDGETS[0] else "",
            _AT[b],
            quantity(cost["rollouts"] + cost["queries"]),
            *(quantity(cost[c]) if cost[c] else "·" for c in pays),
            "·" if row[b]["surprisal"] is None else f"{row[b]['surprisal']:.1f}",
            str(row[b]["unfinished"] or "·"),
            *([str(row[b]["errors"] or "·")] if broken else []),
        ]
        for row, cost, b in rows
    ]
    head = ["method", "at", "calls", *(SHORT.get(c, c) for c in pays)]
    head += ["surprisal, nats", "incomplete outputs", *["errors"] * broken]
    tasks = listing([task_name(task) for task in group["tasks"]])
    return f"<h3>{escape(tasks)}</h3>{table(head, shown, text=2, kind='dense')}"


def _speed(summary: Mapping[str, Any]) -> str:
    parts = {"rollouts": "plain rollouts alone"}
    parts |= {budget: f"the suite at {_AT[budget]}" for budget in BUDGETS}
    rows: list[Mapping[str, Any]] = []
    for part, name in parts.items():
        one = summary["speed"][part]
        spent = None if one["seconds"] is None else round(one["seconds"], 1)
        rows.append({**one, "name": name, "seconds": spent, "rate": rounded(one["per_second"])})
    head, cells = " | generated tokens | seconds | tokens per second", "{name} | {tokens:,} | "
    shown = table_of(head, cells + "{seconds:q} | {rate}", rows)
    return (
        "<h2>Speed</h2><p>All problems, methods and particles ask together: what they wait for at the same "
        "moment is one batch. Seconds include everything: prompts, scores of forced tokens, hidden states, "
        "oracles and the methods' own work. Whoever draws rollouts of a problem draws the same ones, so "
        "that methods are compared on common random numbers, and the engine computes each once.</p>"
        f"{shown}"
        "<p>Each part is an ordinary run folder: <code>reroot report FOLDER/tokens</code> makes its own page.</p>"
    )
