"""HTML tables of a report. Everything that comes from a model or a task is escaped here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from ...runs.results import RunData
from ...types import CURRENCIES
from ..kit.formatting import listing, quantity, share, shares, signed

_LONGEST = 1500
SHORT = {
    "verifications": "verifier calls",
    "demonstrations": "demo tokens",
    "rewards": "reward calls",
    "values": "value calls",
    "hidden_states": "hidden states",
}
"""Currencies, short enough for the head of a column."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1, kind: str = "") -> str:
    """An HTML table; the first ``text`` columns are left-aligned text. Cells are HTML already.

    ``kind`` is a class of the style sheet.
    """
    return _table(head, [f"<tr>{_line(row, 'td', text)}</tr>" for row in rows], text, kind)


def _table(head: Sequence[str], lines: Sequence[str], text: int, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide"><table{named}><thead><tr>{_line(head, "th", text)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(cells: Sequence[str], tag: str, text: int) -> str:
    return "".join(
        f'<{tag} class="text">{c}</{tag}>' if i < text else f"<{tag}>{c}</{tag}>"
        for i, c in enumerate(cells)
    )


def with_interval(value: Any, interval: Sequence[float] | None, *, sign: bool = True) -> str:
    """A mean with its interval, where there are any."""
    if value is None:
        return "·"
    if value == "-inf":
        return "−∞"

    def show(x: float) -> str:
        return signed(x) if sign else f"{x:.2f}".replace("-", "−")

    around = f" <small>{show(interval[0])} to {show(interval[1])}</small>" if interval else ""
    return f"{show(value)}{around}"


def dot(control: str) -> str:
    """The colour of a control level."""
    return f'<span class="dot" style="background: var(--{escape(control)})"></span>'


def all_cells(summary: Mapping[str, Any], task: str) -> str:
    """Every learner at every horizon of a task, once, with the contracts that permit it."""
    cells = [c for c in summary["cells"] if c["task"] == task]
    pays = [c for c in CURRENCIES if any(cell["cost"][c] for cell in cells)]
    ends = [("budget_stops", "ended by budget"), ("errors", "errors")]
    ends = [(name, title) for name, title in ends if any(c[name] for c in cells)]
    binary = all(c["reward"] == c["pass_rate"] for c in cells if not c["errors"])
    head = ["horizon", "passed", "%", *([] if binary else ["mean reward"]), "J<sub>β</sub> ≥",
            *(SHORT.get(c, c) for c in pays), "tokens per pass", "incomplete", *(title for _, title in ends)]  # fmt: skip
    lines: list[str] = []
    for learner in summary["learners"]:
        mine = [c for c in cells if c["short"] == learner["short"]]
        contracts = list(dict.fromkeys(f"{c['control']}/{c['report']}" for c in mine))
        if not mine:
            continue
        name = f"{dot(learner['control'])}{escape(learner['short'])}"
        permitted = f"<small>permitted by {escape(listing(contracts))}</small>"
        lines.append(
            f'<tr class="group"><td class="text" colspan="{len(head)}">{name} {permitted}</td></tr>'
        )
        for cell in {c["horizon"]: c for c in mine}.values():
            lines.append(f"<tr>{_line(_numbers(cell, pays, binary, ends), 'td', 1)}</tr>")
    note = "Rewards are 0 or 1 here, so the mean reward is the pass rate. " if binary else ""
    return (
        f'<p class="note">{note}β = {summary["beta"]:g}; costs are means per attempt; small figures '
        f"are 95 % intervals.</p>{_table(head, lines, 1)}"
    )


def _numbers(
    cell: Mapping[str, Any], pays: Sequence[str], binary: bool, ends: Sequence[tuple[str, str]]
) -> list[str]:
    per_pass = (
        cell["cost"]["tokens"] * cell["attempts"] / cell["passed"] if cell["passed"] else None
    )
    reward = with_interval(cell["reward"], cell["reward_interval"], sign=False)
    return [
        str(cell["horizon"]),
        f"{cell['passed']} of {cell['attempts']}",
        f"{share(cell['pass_rate'])} <small>{shares(cell['pass_interval'])}</small>",
        *([] if binary else [reward]),
        with_interval(cell["j_beta"], cell["j_beta_interval"]),
        *(quantity(cell["cost"][c]) if cell["cost"][c] else "·" for c in pays),
        "·" if per_pass is None else quantity(per_pass),
        *(str(cell[name] or "·") for name in ("unfinished", *(name for name, _ in ends))),
    ]


def verdict_rows(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts of the other horizons and oracle sets."""
    several = len({tuple(v["oracles"]) for v in verdicts}) > 1
    rows: list[list[str]] = []
    for v in verdicts:
        gain = "·" if v["gain"] is None else " to ".join(map(_points, v["gain"]))
        row = [str(v["horizon"]), f"<b>{_limit(v['kind'])}</b>"]
        row += [_best(v["root"], v["root_rate"]), _best(v["prefix"], v["prefix_rate"]), gain]
        row.append(_limit(v["without_verifier"] or "·"))
        rows.append([*row, *([escape(", ".join(v["oracles"]) or "none")] if several else [])])
    head = ["horizon", "limit", "best root-start", "best with prefix control", "gain, points",
            "without the verifier", *(["oracles granted"] if several else [])]  # fmt: skip
    return table(head, rows, text=len(head))


def _limit(kind: str) -> str:
    """A verdict short enough for a table."""
    return escape(kind.removeprefix("the ").removesuffix(" is the limit"))


def _best(name: str | None, value: float | None) -> str:
    return (
        "·" if name is None or value is None else f"{share(value)} % <small>{escape(name)}</small>"
    )


def _points(value: float) -> str:
    return signed(100 * value, 0)


def differences(summary: Mapping[str, Any], task: str) -> str:
    """Learners that need prefix control against the best root learner."""
    rows = [
        [
            escape(d["learner"]),
            escape(d["root"]),
            str(d["horizon"]),
            f"{d['wins']} : {d['losses']}",
            f"{_points(d['pass_difference'])} <small>{_points(d['pass_interval'][0])} to "
            f"{_points(d['pass_interval'][1])}</small>",
            with_interval(d["reward_difference"], d["reward_interval"]),
        ]
        for d in sorted(summary["differences"], key=lambda d: -d["horizon"])
        if d["task"] == task
    ]
    head = ["learner", "best root-start learner", "horizon", "only one passed",
            "difference, points, 95 %", "difference in mean reward"]  # fmt: skip
    return table(head, rows, text=2) if rows else ""


def exact_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measured passes of root-start sampling against the exact law."""
    return table(
        [
            "task",
            "learner",
            "horizon",
            "rollouts",
            "attempts",
            "passed",
            "expected",
            "95 % band",
            "",
        ],
        [
            [
                escape(r["task"]),
                escape(r["short"]),
                str(r["horizon"]),
                quantity(r["rollouts"]),
                str(r["attempts"]),
                str(r["passed"]),
                quantity(float(f"{r['expected']:.3g}")),
                f"{r['band'][0]}–{r['band'][1]}",
                '<span class="yes">inside</span>'
                if r["inside"]
                else '<span class="off">outside</span>',
            ]
            for r in rows
        ],
        text=2,
    )


def reach_table(summary: Mapping[str, Any]) -> str:
    """What teacher forcing says of every task and horizon."""
    from ..kit.formatting import from_log

    rows = [
        [
            escape(r["task"]),
            str(r["horizon"]),
            quantity(round(r["tokens"], 1)),
            "·" if r["log_rollouts"] is None else from_log(-r["log_rollouts"]),
            "·" if r["log_rollouts"] is None else from_log(r["log_rollouts"]),
            "·" if r["token_draws"] is None else quantity(float(f"{r['token_draws']:.3g}")),
            "·" if r["exact_with_budget"] is None else f"{share(r['exact_with_budget'])} %",
        ]
        for r in summary["reach"]
        if r["demonstrations"]
    ]
    head = ["task", "horizon", "tokens of the answer", "p of one rollout", "rollouts per right answer",
            "draws token by token", "best-of-N, whole budget"]  # fmt: skip
    return table(head, rows) if rows else ""


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
    parts = [f"<h3>{escape(task)}, horizon {horizon}, {escape(unit[1])}</h3>"]
    if known and known[0]["prompt"]:
        parts.append(f"<p class=note>Prompt</p><pre>{escape(_shorten(known[0]['prompt']))}</pre>")
    if known and known[0]["answer"]:
        parts.append(
            f"<p class=note>Right answer</p><pre>{escape(_shorten(known[0]['answer']))}</pre>"
        )
    rows: list[list[str]] = []
    for learner in run.learners:
        for row in run.attempts(learner, task, horizon).filter(at).to_dicts():
            mark = (
                '<span class="yes">passed</span>' if row["passed"] else '<span class="no">no</span>'
            )
            name = f"{dot(str(learner.control))}{escape(learner.short)}"
            said = _output(row)
            spent, likely = quantity(row["cost_tokens"]), row["surprisal"]
            rows.append([name, said, mark, "·" if likely is None else f"{likely:.1f}", spent])
    head = ["learner", "output", "", "−log P, nats", "tokens spent"]
    return "".join(parts) + table(head, rows, text=2)


def _output(row: Mapping[str, Any]) -> str:
    if row["error"]:
        return f'<div class="out off">error: {escape(_shorten(row["error"]))}</div>'
    if row["tokens_out"] is None:
        return '<span class="no">no output</span>'
    text = row["text"] or " ".join(map(str, row["tokens_out"]))
    ending = "" if row["complete"] else ' <span class="no">(incomplete)</span>'
    return f'<div class="out">{escape(_shorten(text)) or "(empty)"}{ending}</div>'


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


def configuration(config: Mapping[str, Any]) -> str:
    """``config.json`` as a table, the command left out."""
    rows: list[list[str]] = []
    for key, value in config.items():
        if key in ("command", "learners"):
            continue
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append([escape(key), f'<div class="out">{escape(shown)}</div>'])
    for learner in config.get("learners", []):
        name = escape(str(learner.get("label", learner.get("name"))))
        rows.append([f"learner {name}", f"needs {escape(str(learner.get('requires')))}"])
    return table(["", ""], rows, text=2)
