"""The comparison in a terminal: one table per task, the verdict beneath, what could be spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..kit.cells import fitting
from ..kit.cells import terminal_table as new_table
from ..kit.formatting import (
    at_horizon,
    counting,
    percent,
    plural,
    quantity,
    shares,
    unfinished,
    verifier_warning,
)

_LETTERS = {"reward": "R", "verifier": "V", "demonstration": "D", "value": "E", "hidden": "H"}
_RARE = {"value": "E value estimate", "hidden": "H hidden states"}  # explained where they are used
_STYLES = {
    "root": "red",
    "episode": "yellow",
    "visited": "magenta",
    "reset": "cyan",
    "chosen": "green",
}


def terminal_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """The tables, verdicts and budget of a summary, to be printed by rich.

    Rows are learners, grouped by the control they need; columns are horizons, where the task has any;
    a cell is the pass rate in percent with its 95 % interval. Where ``width`` characters are
    too few for a row, the tokens are left out first, then the intervals.
    """
    told = unfinished(summary)
    parts: list[RenderableType] = [Text(told, style="bold yellow")] if told else []
    layouts = [(True, True), (True, False), (False, True), (False, False)]
    for task in summary["tasks"]:
        tables = (_table(summary, task, intervals=i, tokens=t) for i, t in layouts)
        parts += [fitting(tables, width), _verdict(summary, task), Text()]
    if found := verifier_warning(summary["accepted_failures"]):
        parts.append(Text(found, style="bold red"))
    return Group(*parts, Text(_budget(summary), style="dim"))


def _table(summary: Mapping[str, Any], task: str, *, intervals: bool, tokens: bool) -> Table:
    horizons = summary["horizons"][task]
    title = f"{task}: attempts passed, %{' and 95 % interval' if intervals else ''}"
    if any(horizons):
        title, numbers, spent = f"{title}, by horizon", horizons, f"tokens at {horizons[-1]}"
    else:
        numbers, spent = ["passed"], "tokens"
    numbers = [*map(str, numbers), *([spent] if tokens else [])]
    table = new_table(["control, learner", "uses"], numbers, title=Text(title))
    table.columns[0].no_wrap = True
    cells = {(c["short"], c["horizon"]): c for c in summary["cells"] if c["task"] == task}
    before = None
    for learner in summary["learners"]:
        row = [cells.get((learner["short"], horizon)) for horizon in horizons]
        if not any(row):
            continue
        if learner["control"] != before:
            before = learner["control"]
            table.add_row(Text(before, style=_STYLES.get(before, "")))
        table.add_row(
            Text(f" {learner['short']}"),
            Text("".join(_LETTERS[o] for o in learner["uses"])),
            *(_cell(cell, intervals) for cell in row),
            *([_tokens(row[-1])] if tokens else []),
        )
    return table


def _tokens(cell: Mapping[str, Any] | None) -> Text:
    return Text("" if cell is None else quantity(cell["cost"]["tokens"]))


def _cell(cell: Mapping[str, Any] | None, interval: bool) -> Text:
    if cell is None:
        return Text("·", style="dim")
    text = Text(percent(cell["pass_rate"]), style="bold" if cell["passed"] else "")
    if interval:
        text.append(f" {shares(cell['pass_interval'])}", style="not bold dim")
    return text


def _verdict(summary: Mapping[str, Any], task: str) -> Text:
    verdicts = [v for v in summary["verdicts"] if v["task"] == task]
    main = next(v for v in verdicts if v["main"])
    text = Text.assemble(
        (f"{at_horizon(task, main['horizon'])}: ", "bold"),
        (main["kind"], "bold reverse"),
        *(f"\n- {sentence}" for sentence in (*main["sentences"], *main["notes"])),
    )
    others = [v for v in verdicts if not v["main"] and v["oracles"] == main["oracles"]]
    if others:
        text.append("\n- Other horizons: ")
        text.append("; ".join(f"{v['horizon']}: {v['kind']}" for v in others) + ".")
    return text


def _budget(summary: Mapping[str, Any]) -> str:
    limits = ", ".join(f"{quantity(v)} {k}" for k, v in summary["budget"].items()) or "none"
    used = {oracle for learner in summary["learners"] for oracle in learner["uses"]}
    rare = [words for oracle, words in _RARE.items() if oracle in used]
    lines = [
        f"Budget per attempt: {limits}. {plural(summary['problems'] or 0, 'problem')} x "
        f"{plural(summary['seeds'] or 0, 'seed')} per cell; the tokens are a mean per attempt.",
        f"Uses: {', '.join(['R outcome reward, V process verifier, D demonstration', *rare])}. "
        "A learner is listed at the control it needs; stronger contracts give the same.",
    ]
    lines += counting(summary["cells"])
    broken = {c["short"]: c["errors"] for c in summary["cells"] if c["errors"]}
    if broken:
        named = ", ".join(f"{k} ({v})" for k, v in sorted(broken.items()))
        lines.append(f"Attempts with errors count as not passed: {named}.")
        first = next(c for c in summary["cells"] if c["errors"])
        lines.append(f"The first one: {first['error']}")
    return "\n".join(lines)
