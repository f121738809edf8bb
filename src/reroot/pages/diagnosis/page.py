"""The page of a diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..kit import page as kit
from ..kit.cells import prose, small
from ..kit.formatting import percent, quantity, shares, short_id
from ..kit.markup import Html
from ..kit.table import Table, columns
from .places import marked
from .words import MEANINGS, NEXT, headline, reach_words, tokens_words, where_lost

PAGE = "diagnosis.html"
_MOST_PROBLEMS = 200


def write_diagnosis(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``diagnosis.html``; its path.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    return kit.write_page(Path(folder) / PAGE, render(summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    problems, found, budget = summary["problems"], summary["forecast"], summary["remedy_tokens"]
    return kit.render(
        "reroot diagnose",
        "diagnosis/page.html",
        summary=summary,
        headline=headline(summary),
        tiles=_tiles(summary),
        causes=causes_table(summary["shares"]),
        forecast=found,
        groups=_forecast(found) if found else None,
        remedies=remedies_table(summary["remedies"]) if found else None,
        problems=_problems(problems[:_MOST_PROBLEMS]),
        more=len(problems) - _MOST_PROBLEMS,
        telling=_telling(problems),
        budget="4·G·H tokens" if budget is None else f"{budget:,} tokens",
        config={k: v for k, v in summary.items() if k not in _NOT_CONFIGURATION},
    )


def diagnosis_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table, for files; those without rows are left out."""
    found = summary["forecast"]
    made = {
        "causes": causes_table(summary["shares"]).titled("What limits the problems"),
        "groups": _forecast(found or {"by_group": {}}).titled("What a trainer will see"),
        "remedies": remedies_table(summary["remedies"] if found else ()).titled("Remedies"),
        "problems": _problems(summary["problems"]).titled("Each problem"),
    }
    return {name: table for name, table in made.items() if table}


_NOT_CONFIGURATION = ("problems", "shares", "forecast", "remedies", "notes")


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    of = f"of {quantity(summary['budget_tokens'])}"
    tiles = [("tokens spent", quantity(summary["tokens"]), of)]
    if found := summary["forecast"]:
        zero = f"{percent(found['zero_variance'])} %", f"of groups of {found['group']}"
        signal = tokens_words(found["first_signal"]["tokens"])
        return [("zero variance", *zero), ("tokens to the first signal", *signal), *tiles]
    return tiles


def causes_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """How many problems each cause limits, and what to do; a narrow terminal goes without what that means."""
    head = "what limits | what it means | what to do first | problems | 95 % of problems like these"
    rows = [
        [
            *(cause, prose(MEANINGS[cause]), prose(NEXT[cause]), one["problems"]),
            f"{shares(one['interval'])} %",
        ]
        for cause, one in found.items()
    ]
    return Table(columns(head, 3), rows).sparing("what it means")


def _forecast(found: Mapping[str, Any]) -> Table:
    rows: list[list[Any]] = []
    for size, row in found["by_group"].items():
        waits = [small(*tokens_words(row["first_signal"][what])) for what in ("steps", "tokens")]
        zero = small(f"{percent(row['zero_variance'])} %", shares(row["zero_variance_interval"]))
        run = row["zero_variance_prediction"]
        seen = small(f"{shares(run['these'])} %", f"others {shares(run['others'])} %")
        kinds = [f"{percent(row[kind])} %" for kind in ("all_wrong", "all_right")]
        rows.append([size, zero, seen, *kinds, *waits])
    head = "group size | zero variance | in a first pass, 95 % | all wrong | all right | "
    return Table(columns(head + "steps to first signal | tokens to it"), rows)


def remedies_table(remedies: Iterable[Mapping[str, Any]]) -> Table:
    """What each remedy needs and costs; a narrow terminal goes without the evidence."""
    rows: list[list[Any]] = []
    for one in remedies:
        median, interval = tokens_words(one["tokens"])
        examples = "".join(f"<pre>{escape(text)}</pre>" for text in one.get("examples", ()))
        said = Html(f"{prose(one['evidence'])}{examples}")
        rows.append([one["name"], _needs(one), said, median, interval])
    head = "remedy | needs | evidence | tokens to first signal | 95 %"
    return Table(columns(head, 3), rows).sparing("evidence")


def _needs(one: Mapping[str, Any]) -> Html:
    """The interface and whether it is granted; small is what a narrow terminal can go without."""
    interface, plus, oracles = one["needs"].partition("+")
    if not interface:
        return small("·", "a trainer")
    more, less = (" granted", "") if one["granted"] else ("", " not granted")
    return Html(f"{escape(interface)}<small>{escape(plus + oracles)}{more}</small>{less}")


def _problems(problems: Iterable[Mapping[str, Any]]) -> Table:
    rows: list[list[Any]] = []
    for p in problems:
        reach, interval = reach_words(p)
        walks = f"{p['walks'][0]} of {p['walks'][1]}" if p["walks"][1] else "·"
        why = Html(f"<b>{escape(p['cause'])}</b>{prose(p['why'])}")
        how = small(reach, Html(f"{interval}<br>{escape(p['how'])}"))
        passed = f"{p['passed']} of {p['rollouts']}"
        lost = where_lost(p)
        rows.append([short_id(p["id"]), why, passed, how, walks, prose(lost) if lost else ""])
    head = "problem | limited by | passed | reach, 95 % | walks | where it is lost: rare places of a right output"
    return Table(columns(head, (0, 1, 5)), rows)


def _telling(problems: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first two problems of each cause."""
    found, seen = list[Mapping[str, Any]](), Counter[str]()
    for p in problems:
        seen[p["cause"]] += 1
        if seen[p["cause"]] <= 2:
            lost = p.get("lost")
            found.append({**p, "places": marked(lost) if lost and lost["places"] else ""})
    return found
