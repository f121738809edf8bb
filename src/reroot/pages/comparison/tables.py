"""HTML tables of a comparison. Everything that comes from a model or a task is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from ...runs.results import RunData
from ...types import CURRENCIES
from ..kit.cells import Html, mark, named, note, table, table_of, with_interval
from ..kit.contracts import SHORT
from ..kit.formatting import (
    at_horizon,
    judged,
    listing,
    percent,
    points,
    quantity,
    rounded,
    share,
    shares,
)

_LONGEST = 1500


def all_cells(summary: Mapping[str, Any], task: str) -> str:
    """Every learner at every horizon of a task, once, with the contracts that permit it."""
    cells = [c for c in summary["cells"] if c["task"] == task]
    pays = [c for c in (*CURRENCIES, "usd") if any(cell["cost"].get(c) for cell in cells)]
    ends = {"unfinished": "incomplete", "budget_stops": "ended by budget"}
    ends |= {"errors": "errors", "abstained": "not judged"}
    ends = {k: v for k, v in ends.items() if k == "unfinished" or any(c[k] for c in cells)}
    binary = all(c["reward"] == c["pass_rate"] for c in cells if not c["errors"])
    reward = [] if binary else ["mean reward"]
    known = any(c["horizon"] for c in cells)
    head = [*["horizon"] * known, "passed", "%", *reward, "J<sub>β</sub> ≥"]
    head += [*(SHORT.get(c, c) for c in pays), "tokens per pass", *ends.values()]
    rows: list[list[str]] = []
    for learner in summary["learners"]:
        mine = [c for c in cells if c["short"] == learner["short"]]
        if mine:
            contracts = list(dict.fromkeys(f"{c['control']}/{c['report']}" for c in mine))
            permitted = f"<small>permitted by {escape(listing(contracts))}</small>"
            rows.append([f"{named(learner['control'], learner['short'])} {permitted}"])
            by_horizon = {c["horizon"]: c for c in mine}
            rows += [
                [*[str(h)] * known, *_numbers(cell, pays, binary, list(ends))]
                for h, cell in by_horizon.items()
            ]
    said = "Rewards are 0 or 1 here, so the mean reward is the pass rate. " if binary else ""
    said += (
        f"β = {summary['beta']:g}; costs are means per attempt; small figures are 95 % intervals."
    )
    return note(said) + table(head, rows)


def _numbers(
    cell: Mapping[str, Any], pays: Sequence[str], binary: bool, ends: Sequence[str]
) -> list[str]:
    passed, cost = cell["passed"], cell["cost"]
    reward = with_interval(cell["reward"], cell["reward_interval"], sign=False)
    several = cell["clusters"] < judged(cell)
    lines = f" <small>on {cell['clusters']} lines</small>" if several else ""
    return [
        f"{passed} of {judged(cell)}{lines}",
        f"{percent(cell['pass_rate'])} <small>{shares(cell['pass_interval'])}</small>",
        *([] if binary else [reward]),
        with_interval(cell["j_beta"], cell["j_beta_interval"]),
        *(quantity(cost[c]) if cost[c] else "·" for c in pays),
        quantity(cost["tokens"] * cell["attempts"] / passed) if passed else "·",
        *(str(cell[name] or "·") for name in ends),
    ]


def verdict_rows(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts of the other horizons and oracle sets."""
    several = len({tuple(v["oracles"]) for v in verdicts}) > 1
    rows = [
        {
            "horizon": v["horizon"],
            "limit": Html(f"<b>{_limit(v['kind'])}</b>"),
            "root": _best(v["root"], v["root_rate"]),
            "prefix": _best(v["prefix"], v["prefix_rate"]),
            "gain": None if v["gain"] is None else " to ".join(map(points, v["gain"])),
            "without": Html(_limit(v["without_verifier"] or "·")),
            "oracles": ", ".join(v["oracles"]) or "none",
        }
        for v in verdicts
    ]
    head = "horizon | limit | best root-start | best with prefix control | gain, points | without the verifier"
    cells = "{horizon} | {limit} | {root} | {prefix} | {gain} | {without}"
    if several:
        head, cells = head + " | oracles granted", cells + " | {oracles}"
    return _table(head, cells, rows, 7)


def _table(head: str, cells: str, rows: Sequence[Mapping[str, Any]], text: int = 1) -> str:
    """``table_of`` without the column of horizons where the tasks have none."""
    if not any(row["horizon"] for row in rows):
        head, cells = head.replace("horizon | ", ""), cells.replace("{horizon} | ", "")
    return table_of(head, cells, rows, text)


def _limit(kind: str) -> str:
    """A verdict short enough for a table."""
    return escape(kind.removeprefix("the ").removesuffix(" is the limit"))


def _best(name: str | None, value: float | None) -> Html | None:
    if name is None or value is None:
        return None
    return Html(f"{share(value)} % <small>{escape(name)}</small>")


def differences(summary: Mapping[str, Any], task: str) -> str:
    """Learners that need prefix control against the best root learner."""
    rows: list[dict[str, Any]] = []
    for d in sorted(summary["differences"], key=lambda d: -d["horizon"]):
        if d["task"] == task:
            low, high = map(points, d["pass_interval"])
            passes = Html(f"{points(d['pass_difference'])} <small>{low} to {high}</small>")
            reward = with_interval(d["reward_difference"], d["reward_interval"])
            rows.append(d | {"passes": passes, "mean": reward})
    head = "learner | best root-start learner | horizon | only one passed | difference, points, 95 % | "
    cells = "{learner} | {root} | {horizon} | {wins} : {losses} | {passes} | {mean}"
    return _table(head + "difference in mean reward", cells, rows, 2) if rows else ""


def exact_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measured passes of root-start sampling against the exact law."""
    head = "task | learner | horizon | rollouts | attempts | passed | expected | 95 % band | "
    cells = "{task} | {short} | {horizon} | {rollouts:q} | {attempts} | {passed} | {mean} | "
    shown = [
        {**r, "mean": rounded(r["expected"]), "in": mark(r["inside"], ("inside", "outside"))}
        for r in rows
    ]
    return _table(head, cells + "{band[0]}–{band[1]} | {in}", shown, 2)


def reach_table(summary: Mapping[str, Any]) -> str:
    """What teacher forcing says of every task and horizon."""
    rows: list[dict[str, Any]] = []
    for r in summary["reach"]:
        if r["demonstrations"]:
            each, best = r["log_rollouts"], r["exact_with_budget"]
            rows.append(
                {
                    **r,
                    "p": None if each is None else -each,
                    "length": round(r["tokens"], 1),
                    "draws": rounded(r["token_draws"]),
                    "best": None if best is None else f"{share(best)} %",
                }
            )
    head = "task | horizon | tokens of the answer | p of one rollout | rollouts per right answer | "
    head += "draws token by token | best-of-N, whole budget"
    cells = "{task} | {horizon} | {length:q} | {p:log} | {log_rollouts:log} | {draws} | {best}"
    return _table(head, cells, rows) if rows else ""


def token_strip(tokens: Sequence[str], logprobs: Sequence[float]) -> str:
    """The tokens of one right output, each tinted by the probability it costs."""
    spans: list[str] = []
    for token, value in zip(tokens[:200], logprobs[:200], strict=False):
        weight = min(1.0, -value / 5) if math.isfinite(value) else 1.0
        shown = escape(token.replace("\n", "⏎").replace("\t", "⇥")) or "∅"
        chance = f"{share(math.exp(value))} %" if math.isfinite(value) else "0 %"
        tint = f"background: color-mix(in srgb, var(--heat) {round(70 * weight)}%, var(--panel))"
        spans.append(f'<span style="{tint}">{shown}<small>{chance}</small></span>')
    more = "<span>…</span>" if len(tokens) > 200 else ""
    return f'<div class="tokens">{"".join(spans)}{more}</div>'


def examples(run: RunData, task: str, horizon: int) -> str:
    """One problem: its prompt, its answer, and the output of every learner."""
    unit = _telling(run, task, horizon)
    if unit is None:
        return ""
    at = (pl.col("seed") == unit[0]) & (pl.col("problem") == unit[1])
    known = run.problem_rows(task, horizon).filter(at).to_dicts()
    parts = [f"<h3>{at_horizon(escape(task), horizon)}, {escape(unit[1])}</h3>"]
    for key, title in {"prompt": "Prompt", "answer": "Right answer"}.items():
        if known and known[0][key]:
            parts.append(f"{note(title)}<pre>{escape(_shorten(known[0][key]))}</pre>")
    rows = [
        {
            **row,
            "name": named(learner.control, learner.short),
            "output": _output(row),
            "mark": mark(row["passed"] or None, ("passed", "", "no")),
            "likely": None if row["surprisal"] is None else f"{row['surprisal']:.1f}",
        }
        for learner in run.learners
        for row in run.attempts(learner, task, horizon).filter(at).to_dicts()
    ]
    head, cells = "learner | output |  | −log P, nats | tokens spent", "{name} | {output} | {mark}"
    return "".join(parts) + table_of(head, cells + " | {likely} | {cost_tokens:q}", rows, text=2)


def _output(row: Mapping[str, Any]) -> Html:
    if row["error"]:
        return Html(f'<div class="out off">error: {escape(_shorten(row["error"]))}</div>')
    if row["tokens_out"] is None:
        return Html('<span class="no">no output</span>')
    text = row["text"] or " ".join(map(str, row["tokens_out"]))
    ending = "" if row["complete"] else ' <span class="no">(incomplete)</span>'
    return Html(f'<div class="out">{escape(_shorten(text)) or "(empty)"}{ending}</div>')


def _telling(run: RunData, task: str, horizon: int) -> tuple[int, str] | None:
    """The first problem on which the learners disagree most."""
    tables = [run.attempts(x, task, horizon) for x in run.learners]
    joined = pl.concat([t.select("seed", "problem", "passed") for t in tables if len(t)])
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


def physical(summary: Mapping[str, Any]) -> str:
    """What the backend really computed."""
    counters = summary.get("physical")
    if not isinstance(counters, Mapping) or not counters:
        return ""
    if not all(isinstance(v, Mapping) for v in counters.values()):
        counters = {"all learners": counters}
    names = list(dict.fromkeys(n for v in counters.values() for n in v))
    rows = [[escape(str(k)), *(_value(v.get(n)) for n in names)] for k, v in counters.items()]
    return table(["", *map(escape, names)], rows)


def _value(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return quantity(value)
    return escape(str("·" if value is None else value))
