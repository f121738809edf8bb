"""Tables of a comparison, for the page and the terminal. All that comes from a model or a task is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from ...contract import Contract
from ...runs.results import RunData
from ...types import CURRENCIES
from ..kit.cells import mark, named, rate, small, table_of, with_interval
from ..kit.contracts import SHORT
from ..kit.formatting import (
    at_horizon,
    judged,
    listing,
    points,
    rounded,
    share,
    short_id,
)
from ..kit.markup import Html
from ..kit.table import Column, Table, columns, grouped

_LONGEST = 1500


def all_cells(summary: Mapping[str, Any], task: str) -> Table:
    """Every learner at every horizon of a task, once, with the contracts that permit it."""
    cells = [c for c in summary["cells"] if c["task"] == task]
    pays = [c for c in (*CURRENCIES, "usd") if any(cell["cost"].get(c) for cell in cells)]
    ends = {"unfinished": "incomplete", "budget_stops": "ended by budget"}
    ends |= {"errors": "errors", "abstained": "not judged"}
    ends = {k: v for k, v in ends.items() if k == "unfinished" or any(c[k] for c in cells)}
    known, same = any(c["horizon"] for c in cells), binary(summary, task)
    heads = [*[Column("horizon", True)] * known, Column("passed", not known), Column("%")]
    heads += [*[Column("mean reward")] * (not same), Column(Html("J<sub>β</sub> ≥"))]
    heads += [Column(SHORT.get(c, c), format="q") for c in (*pays, "tokens per pass")]
    rows = list[tuple[str, list[Any]]]()
    for learner in summary["learners"]:
        mine = [c for c in cells if c["short"] == learner["short"]]
        contracts = listing(list(dict.fromkeys(f"{c['control']}/{c['report']}" for c in mine)))
        name = small(named(learner["control"], learner["short"]), f"permitted by {contracts}")
        for cell in {c["horizon"]: c for c in mine}.values():
            numbers = _numbers(cell, pays, same, list(ends))
            rows.append((name, [*[str(cell["horizon"])] * known, *numbers]))
    heads += map(Column, ends.values())
    return Table(heads, list(grouped(rows)), f"Every cell of {task}", "dense")


def binary(summary: Mapping[str, Any], task: str) -> bool:
    """Whether every reward of a task is 0 or 1, so that its mean is the pass rate."""
    cells = [c for c in summary["cells"] if c["task"] == task and not c["errors"]]
    return all(c["reward"] == c["pass_rate"] for c in cells)


def _numbers(
    cell: Mapping[str, Any], pays: Sequence[str], same: bool, ends: Sequence[str]
) -> list[Any]:
    passed, cost = cell["passed"], cell["cost"]
    several = f"on {cell['clusters']} lines" if cell["clusters"] < judged(cell) else ""
    reward = with_interval(cell["reward"], cell["reward_interval"], sign=False)
    return [
        small(f"{passed} of {judged(cell)}", several, passed),
        rate(cell["pass_rate"], cell["pass_interval"]),
        *[reward] * (not same),
        with_interval(cell["j_beta"], cell["j_beta_interval"]),
        *(cost[c] or None for c in pays),
        cost["tokens"] * cell["attempts"] / passed if passed else None,
        *(cell[name] or None for name in ends),
    ]


def limits_of_n(summary: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on learners that made fewer rollouts than their ``n`` says, for want of budget."""
    for learner in summary["learners"]:
        asked = re.search(r"\bn=(\d+)", learner["label"])
        used = [c["cost"]["rollouts"] for c in summary["cells"] if c["short"] == learner["short"]]
        if asked and used and 0 < max(used) < int(asked[1]):
            made = " to ".join(dict.fromkeys(rounded(x) for x in (min(used), max(used))))
            yield f"{learner['short']}: n = {int(asked[1]):,} is a limit, and {made} rollouts per attempt were made."


def pass_rates(summary: Mapping[str, Any], task: str) -> Table:
    """Learners by the control they need, their pass rates by horizon: the table of terminals and notebooks."""
    horizons = summary["horizons"][task]
    several, tokens = any(horizons), f"tokens at {horizons[-1]}" if any(horizons) else "tokens"
    heads = columns("control, learner | sees | uses", 3)
    heads += [Column(str(h) if several else "passed") for h in horizons]
    cells = {(c["short"], c["horizon"]): c for c in summary["cells"] if c["task"] == task}
    rows = list[tuple[str, list[Any]]]()
    for learner in summary["learners"]:
        control, row = learner["control"], [cells.get((learner["short"], h)) for h in horizons]
        if any(row):
            uses = "".join(LETTERS[o] for o in learner["uses"])
            spent = None if row[-1] is None else row[-1]["cost"]["tokens"]
            report = str(Contract.parse(learner["requires"]).report).replace("sample", "")
            line = [f" {learner['short']}", report, uses, *map(_rate, row), spent]
            rows.append((Html(f'<span class="{control}">{control}</span>'), line))
    by = ", by horizon" if several else ""
    caption = f"{task}: attempts passed, % and 95 % interval{by}"
    table = Table([*heads, Column(tokens, format="q")], list(grouped(rows)), caption)
    return table.sparing(tokens, "uses", "sees")


LETTERS = {"reward": "R", "verifier": "V", "demonstration": "D", "value": "E", "hidden": "H"}


def _rate(cell: Mapping[str, Any] | None) -> Html | None:
    if cell is None:
        return None
    found = rate(cell["pass_rate"], cell["pass_interval"])
    if found is None or not cell["passed"]:
        return found
    return Html(f"<b>{found}</b>", found.value, found.interval)


def verdict_rows(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Verdicts of the other horizons and oracle sets."""
    rows = [
        {
            "horizon": v["horizon"],
            "limit": Html(f"<b>{escape(_limit(v['kind']))}</b>"),
            "root": _best(v["root"], v["root_rate"]),
            "prefix": _best(v["prefix"], v["prefix_rate"]),
            "gain": None if v["gain"] is None else " to ".join(map(points, v["gain"])),
            "without": _limit(v["without_verifier"] or "·"),
            "oracles": ", ".join(v["oracles"]) or "none",
        }
        for v in verdicts
    ]
    head = "horizon | limit | best root-start | best with prefix control | gain, points | without the verifier"
    cells = "{horizon} | {limit} | {root} | {prefix} | {gain} | {without}"
    if len({row["oracles"] for row in rows}) > 1:
        head, cells = f"{head} | oracles granted", f"{cells} | {{oracles}}"
    return _table(head, cells, rows, 7)


def _table(head: str, cells: str, rows: Sequence[Mapping[str, Any]], text: int = 1) -> Table:
    """``table_of`` without the column of horizons where the tasks have none."""
    if not any(row["horizon"] for row in rows):
        head, cells = head.replace("horizon | ", ""), cells.replace("{horizon} | ", "")
    return table_of(head, cells, rows, text)


def _limit(kind: str) -> str:
    """A verdict short enough for a table."""
    return kind.removeprefix("the ").removesuffix(" is the limit")


def _best(name: str | None, value: float | None) -> Html | None:
    return None if name is None or value is None else small(f"{share(value)} %", name, value)


def differences(summary: Mapping[str, Any], task: str) -> Table:
    """Learners that need prefix control against the best root learner."""
    rows = [
        {
            **d,
            "passes": with_interval(d["pass_difference"], d["pass_interval"], scale=100, digits=0),
            "mean": with_interval(d["reward_difference"], d["reward_interval"]),
        }
        for d in sorted(summary["differences"], key=lambda d: -d["horizon"])
        if d["task"] == task
    ]
    head = "learner | best root-start learner | horizon | only one passed | difference, points, 95 % | "
    cells = "{learner} | {root} | {horizon} | {wins} : {losses} | {passes} | {mean}"
    return _table(head + "difference in mean reward", cells, rows, 2)


def exact_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Measured passes of root-start sampling against the exact law."""
    head = "task | learner | horizon | rollouts | attempts | passed | expected | 95 % band | found"
    cells = "{task} | {short} | {horizon} | {rollouts:q} | {attempts} | {passed} | {expected:r} | "
    shown = [{**r, "in": mark(r["inside"], ("inside", "outside"))} for r in rows]
    return _table(head, cells + "{band[0]}–{band[1]} | {in}", shown, 2)


def reach_table(summary: Mapping[str, Any]) -> Table:
    """What teacher forcing says of every task and horizon."""
    rows = list[dict[str, Any]]()
    for r in summary["reach"]:
        if r["demonstrations"]:
            each, best = r["log_rollouts"], r["exact_with_budget"]
            more = {"p": None if each is None else -each, "length": round(r["tokens"], 1)}
            rows.append({**r, **more, "best": None if best is None else f"{share(best)} %"})
    head = "task | horizon | tokens of the answer | p of one rollout | rollouts per right answer | "
    head += "draws token by token | best-of-N, whole budget"
    cells = (
        "{task} | {horizon} | {length:q} | {p:log} | {log_rollouts:log} | {token_draws:r} | {best}"
    )
    return _table(head, cells, rows)


def macro_table(summary: Mapping[str, Any]) -> Table:
    """Per learner the unweighted mean of its pass rates over data sets, and each of those; empty without."""
    found = summary.get("macro") or {"sets": [], "rows": []}
    rows = [
        [
            named(row["control"], row["short"]),
            rate(row["pass_rate"], row["pass_interval"]),
            with_interval(row["reward"], row["reward_interval"], sign=False),
            *(row["sets"][name]["pass_rate"] for name in found["sets"]),
        ]
        for row in {row["short"]: row for row in found["rows"]}.values()
    ]
    heads = columns("learner | passed, %, 95 % | mean reward, 95 %")
    heads += [Column(name, format="p", spare=1) for name in found["sets"]]
    return Table(heads, rows, f"Mean over {len(found['sets'])} data sets, each counts the same")


def token_strip(tokens: Sequence[str], logprobs: Sequence[float]) -> Html:
    """The tokens of one right output, each tinted by the probability it costs."""
    spans: list[str] = []
    for token, value in zip(tokens[:200], logprobs[:200], strict=False):
        weight = min(1.0, -value / 5) if math.isfinite(value) else 1.0
        shown = escape(token.replace("\n", "⏎").replace("\t", "⇥")) or "∅"
        chance = f"{share(math.exp(value))} %" if math.isfinite(value) else "0 %"
        tint = f"background: color-mix(in srgb, var(--heat) {round(70 * weight)}%, var(--panel))"
        spans.append(f'<span style="{tint}">{shown}<small>{chance}</small></span>')
    more = "<span>…</span>" if len(tokens) > 200 else ""
    return Html(f'<div class="tokens">{"".join(spans)}{more}</div>')


def example(run: RunData, task: str, horizon: int) -> dict[str, Any] | None:
    """One problem, its prompt and answer, and the output of every learner."""
    unit = _telling(run, task, horizon)
    if unit is None:
        return None
    at = (pl.col("seed") == unit[0]) & (pl.col("problem") == unit[1])
    known = run.problem_rows(task, horizon).filter(at).to_dicts()
    titles = {"prompt": "Prompt", "answer": "Right answer"}
    given = {titles[k]: _shorten(known[0][k]) for k in titles if known and known[0][k]}
    rows = [
        {
            **row,
            "name": named(learner.control, learner.short),
            "output": _output(row),
            "mark": mark(row["passed"] or None, ("passed", "", "no")),
        }
        for learner in run.learners
        for row in run.attempts(learner, task, horizon).filter(at).to_dicts()
    ]
    head = "learner | output | passed | −log P, nats | tokens spent"
    cells = "{name} | {output} | {mark} | {surprisal:.1f} | {cost_tokens:q}"
    title = f"{at_horizon(task, horizon)}, {short_id(unit[1])}"
    return {"title": title, "given": given, "table": table_of(head, cells, rows, text=2)}


def _output(row: Mapping[str, Any]) -> Html:
    if row["error"]:
        return Html(f'<div class="out off">error: {escape(_shorten(short_id(row["error"])))}</div>')
    if row["tokens_out"] is None:
        return Html('<span class="no">no output</span>')
    text = row["text"] or " ".join(map(str, row["tokens_out"]))
    ending = "" if row["complete"] else ' <span class="no">(incomplete)</span>'
    return Html(f'<div class="out">{escape(_shorten(text)) or "(empty)"}{ending}</div>')


def _telling(run: RunData, task: str, horizon: int) -> tuple[int, str] | None:
    """The first problem on which the learners disagree most."""
    names = ("seed", "problem", "passed")
    joined = pl.concat([run.attempts(x, task, horizon).select(names) for x in run.learners])
    if not len(joined):
        return None
    spread = joined.group_by("seed", "problem").agg(pl.col("passed").cast(pl.Float64).mean())
    ranked = spread.with_columns(off=(pl.col("passed") - 0.5).abs()).sort("off", "seed", "problem")
    return ranked["seed"][0], ranked["problem"][0]


def _shorten(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def physical(summary: Mapping[str, Any]) -> Table:
    """What the backend really computed."""
    counters: dict[str, int] = summary.get("physical") or {}
    heads = [Column("of", True), *(Column(name, format="q") for name in counters)]
    return Table(heads, [["all learners", *counters.values()]] if counters else [])
