"""The comparison in a terminal: one table per task, the verdict beneath, what could be spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import (
    at_horizon,
    counting,
    listing,
    plural,
    quantity,
    unfinished,
    verifier_warning,
)
from .tables import limits_of_n, macro_table, pass_rates

_RARE = {"value": "E value estimate", "hidden": "H hidden states"}  # explained where they are used


def terminal_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """The tables, verdicts and budget of a summary, to be printed by rich.

    Rows are learners, grouped by the control they need; columns are horizons, where the task has any;
    a cell is the pass rate in percent with its 95 % interval. Where ``width`` characters are
    too few for a row, the tokens are left out first, then the intervals.
    """
    told = unfinished(summary)
    parts: list[RenderableType] = [Text(told, style="bold yellow")] if told else []
    for task in summary["tasks"]:
        parts += [pass_rates(summary, task).terminal(width), _verdict(summary, task), Text()]
    if found := verifier_warning(summary["accepted_failures"]):
        parts.append(Text(found, style="bold red"))
    return Group(*parts, Text(_budget(summary), style="dim"))


def macro_screen(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Means over data sets, where there are several."""
    if summary.get("macro") is None:
        return Text("There is one data set alone, so there is no macro-average.")
    short = {row["short"]: row["missing"] for row in summary["macro"]["rows"] if row["missing"]}
    lost = (Text(f"{name}: nothing judged on {listing(sets)}.") for name, sets in short.items())
    return Group(macro_table(summary).terminal(width), *lost)


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
        "A learner is listed at the control it needs, and sees the draw where nothing else is named; stronger "
        "contracts give the same.",
    ]
    lines += [*counting(summary["cells"]), *limits_of_n(summary)]
    return "\n".join(lines)
