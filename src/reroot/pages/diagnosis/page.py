"""The page of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..kit import page as kit
from ..kit.cells import prose, small, table_of
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
        causes=_causes(summary),
        forecast=found,
        groups=_forecast(found) if found else None,
        remedies=_remedies(summary["remedies"]) if found else None,
        problems=_problems(problems[:_MOST_PROBLEMS]),
        more=len(problems) - _MOST_PROBLEMS,
        telling=_telling(problems),
        budget="4·G·H tokens" if budget is None else f"{budget:,} tokens",
        config={k: v for k, v in summary.items() if k not in _NOT_CONFIGURATION},
    )


_NOT_CONFIGURATION = ("problems", "shares", "forecast", "remedies", "notes")


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    of = f"of {quantity(summary['budget_tokens'])}"
    tiles = [("tokens spent", quantity(summary["tokens"]), of)]
    if found := summary["forecast"]:
        zero = f"{percent(found['zero_variance'])} %", f"of groups of {found['group']}"
        signal = tokens_words(found["first_signal"]["tokens"])
        return [("zero variance", *zero), ("tokens to the first signal", *signal), *tiles]
    return tiles


def _causes(summary: Mapping[str, Any]) -> Table:
    rows = [
        {
            **found,
            "cause": cause,
            "means": prose(MEANINGS[cause]),
            "next": prose(NEXT[cause]),
            "within": f"{shares(found['interval'])} %",
        }
        for cause, found in summary["shares"].items()
    ]
    head = "what limits | what it means | what to do first | problems | 95 % of problems like these"
    return table_of(head, "{cause} | {means} | {next} | {problems} | {within}", rows, text=3)


def _forecast(found: Mapping[str, Any]) -> Table:
    rows: list[list[Any]] = []
    for size, row in found["by_group"].items():
        waits = [small(*tokens_words(row["first_signal"][what])) for what in ("steps", "tokens")]
        zero = small(f"{percent(row['zero_variance'])} %", shares(row["zero_variance_interval"]))
        run = row["zero_variance_prediction"]
        seen = small(f"{shares(run['these'])} %", f"others {shares(run['others'])} %")
        kinds = [f"{percent(row[kind])} %" for kind in ("all_wrong", "all_right")]
        rows.append([size, zero, seen, *kinds, *waits])
    return Table(
        columns(
            "group size | zero variance | in a first pass, 95 % | all wrong | all right | "
            "steps to first signal | tokens to it"
        ),
        rows,
    )


def _remedies(remedies: Iterable[Mapping[str, Any]]) -> Table:
    rows: list[list[Any]] = []
    for one in remedies:
        median, interval = tokens_words(one["tokens"])
        access = "granted" if one["granted"] else "not granted" if one["needs"] else "a trainer"
        examples = "".join(f"<pre>{escape(text)}</pre>" for text in one.get("examples", ()))
        said = Html(f"{prose(one['evidence'])}{examples}")
        rows.append([one["name"], small(one["needs"] or "·", access), said, median, interval])
    return Table(columns("remedy | needs | evidence | tokens to first signal | 95 %", 3), rows)


def _problems(problems: Iterable[Mapping[str, Any]]) -> Table:
    rows: list[list[Any]] = []
    for p in problems:
        reach, interval = reach_words(p)
        walks = f"{p['walks'][0]} of {p['walks'][1]}" if p["walks"][1] else "·"
        why = Html(f"<b>{escape(p['cause'])}</b>{prose(p['why'])}")
        how = small(reach, Html(f"{interval}<br>{escape(p['how'])}"))
        rows.append(
            [
                short_id(p["id"]),
                why,
                f"{p['passed']} of {p['rollouts']}",
                how,
                walks,
                prose(where_lost(p)),
            ]
        )
    head = "problem | limited by | passed | reach, 95 % | walks | where it is lost: rare places of a right output"
    return Table(columns(head, (0, 1, 5)), rows)


def _telling(problems: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first two problems of each cause."""
    seen: dict[str, int] = {}
    found = list[Mapping[str, Any]]()
    for p in problems:
        seen[p["cause"]] = seen.get(p["cause"], 0) + 1
        if seen[p["cause"]] <= 2:
            lost = p.get("lost")
            found.append({**p, "places": marked(lost) if lost and lost["places"] else Html("")})
    return found
