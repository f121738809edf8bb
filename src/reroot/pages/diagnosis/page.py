"""The page of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..kit.formatting import percent, plural, quantity, shares
from ..kit.html import document, write_page
from ..kit.table import Html, configuration, facts, note, prose, table, table_of
from .places import marked
from .words import MEANINGS, NEXT, headline, reach_words, tokens_words, where_lost

PAGE = "diagnosis.html"
_MOST_PROBLEMS = 200

_METHOD = """<h2>How it was found</h2>
<p>τ = 1 − 2^(−1/G) is the pass rate at which half of the groups of G hold a pass. Rollouts of each problem go on, eight
at a time, until exact sequential tests tell its rate from τ and from 1 − τ; each claim is false with probability at
most 2.5 %. Of problems below τ something else is asked: do the same outputs pass with a second judge, with more
room, under the model's own law; does a demonstration, teacher-forced, or a walk with the verifier reach a right output
within {budget}? Shares of problems run from the least that the decided ones allow to the most that all undecided ones
would add (95 %). The reach of silent problems comes from clouds of prefixes that the verifier accepts, or exactly where
the right output is unique; its lower bounds hold whatever the clouds missed. A token of
a right output with P &lt; ¼ (of texts over 64 tokens: a sentence or a line) is a bottleneck where rollouts from before it pass
less than half as often as rollouts from after it, and paraphrase where they pass more often than that: a score test over
64 rollouts each, wrong in at most 2 % of places at the border. The wait for the first signal is a law over
the order of problems and over what is not known of their pass rates.</p>"""


def write_diagnosis(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``diagnosis.html``; its path.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    return write_page(Path(folder) / PAGE, render(summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    parts = [_header(summary), _causes(summary)]
    if summary["forecast"]:
        parts += [_forecast(summary["forecast"]), _remedies(summary["remedies"])]
    problems = summary["problems"]
    parts += [_problems(problems), *(_evidence(p) for p in _telling(problems))]
    budget = summary["remedy_tokens"]
    said = "4·G·H tokens" if budget is None else f"{budget:,} tokens"
    config = {k: v for k, v in summary.items() if k not in _NOT_CONFIGURATION}
    parts += [_METHOD.format(budget=said), "<h2>Configuration</h2>", configuration(config)]
    return document("reroot diagnose", parts)


_NOT_CONFIGURATION = ("problems", "shares", "forecast", "remedies", "notes")


def _header(summary: Mapping[str, Any]) -> str:
    names = ", ".join(summary["tasks"])
    tiles = [
        ("tokens spent", quantity(summary["tokens"]), f"of {quantity(summary['budget_tokens'])}")
    ]
    found = summary["forecast"]
    if found:
        median, interval = tokens_words(found["first_signal"]["tokens"])
        silent = f"of groups of {found['group']}"
        tiles.insert(0, ("zero variance", f"{percent(found['zero_variance'])} %", silent))
        tiles.insert(1, ("tokens to the first signal", median, escape(interval)))
    notes = "".join(note(escape(text)) for text in summary["notes"])
    about = (
        f"{escape(str(summary['model']))} on {escape(names)}, granted {escape(summary['grants'])}"
    )
    return (
        f"<h1>Why is the reward what it is?</h1><p>{about}</p>"
        f"<p><b>{escape(headline(summary))}</b></p>{facts(tiles)}{notes}"
    )


def _causes(summary: Mapping[str, Any]) -> str:
    rows = [
        {**found, "cause": cause, "means": prose(MEANINGS[cause]), "next": prose(NEXT[cause])}
        for cause, found in summary["shares"].items()
    ]
    for row in rows:
        row["within"] = Html(f"{shares(row['interval'])} %")
    head = "what limits | what it means | what to do first | problems | 95 % of problems like these"
    shown = table_of(head, "{cause} | {means} | {next} | {problems} | {within}", rows, text=3)
    return f"<h2>What limits the problems</h2>{shown}"


def _forecast(found: Mapping[str, Any]) -> str:
    rows: list[list[str]] = []
    for size, row in found["by_group"].items():
        steps, within = tokens_words(row["first_signal"]["steps"])
        tokens, range_ = tokens_words(row["first_signal"]["tokens"])
        rows.append(
            [
                size,
                f"{percent(row['zero_variance'])} % <small>{shares(row['zero_variance_interval'])}</small>",
                f"{percent(row['all_wrong'])} %",
                f"{percent(row['all_right'])} %",
                f"{steps} <small>{escape(within)}</small>",
                f"{tokens} <small>{escape(range_)}</small>",
            ]
        )
    head = [
        "group size",
        "zero variance",
        "all wrong",
        "all right",
        "steps to first signal",
        "tokens to it",
    ]
    of = plural(found["per_step"], "group")
    length = quantity(found["tokens_per_rollout"])
    said = note(f"Median and 95 % of the wait, with {of} per step and {length} tokens per rollout.")
    return f"<h2>What a trainer will see from the root</h2>{table(head, rows)}{said}"


def _remedies(remedies: Iterable[Mapping[str, Any]]) -> str:
    rows: list[list[str]] = []
    for one in remedies:
        median, interval = tokens_words(one["tokens"])
        access = "granted" if one["granted"] else "not granted" if one["needs"] else "a trainer"
        needs = f"{escape(one['needs'] or '·')} <small>{access}</small>"
        examples = "".join(f"<pre>{escape(text)}</pre>" for text in one.get("examples", ()))
        said = Html(f"{prose(one['evidence'])}{examples}")
        rows.append([escape(one["name"]), needs, said, median, escape(interval)])
    head = ["remedy", "needs", "evidence", "tokens to first signal", "95 %"]
    return f"<h2>What would change it</h2>{table(head, rows, text=3)}"


def _problems(problems: list[Mapping[str, Any]]) -> str:
    rows: list[list[str]] = []
    for p in problems[:_MOST_PROBLEMS]:
        reach, interval = reach_words(p)
        walks = f"{p['walks'][0]} of {p['walks'][1]}" if p["walks"][1] else "·"
        rows.append(
            [
                escape(p["id"]),
                Html(f"<b>{escape(p['cause'])}</b>{prose(p['why'])}"),
                f"{p['passed']} of {p['rollouts']}",
                f"{reach} <small>{interval}<br>{escape(p['how'])}</small>",
                walks,
                prose(where_lost(p)),
            ]
        )
    head = [
        "problem",
        "limited by",
        "passed",
        "reach, 95 %",
        "walks",
        "where it is lost: rare places of a right output",
    ]
    more = len(problems) - _MOST_PROBLEMS
    rest = note(f"{more:,} more in diagnosis.json") if more > 0 else ""
    return f"<h2>Each problem</h2>{table(head, rows, text=(0, 1, 5))}{rest}"


def _telling(problems: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first two problems of each cause."""
    seen: dict[str, int] = {}
    found = list[Mapping[str, Any]]()
    for p in problems:
        seen[p["cause"]] = seen.get(p["cause"], 0) + 1
        if seen[p["cause"]] <= 2:
            found.append(p)
    return found


def _evidence(problem: Mapping[str, Any]) -> str:
    """Attempts of one problem to read."""
    shown = "".join(
        f"<p>reward {'·' if x['reward'] is None else quantity(x['reward'])}"
        f"{', passed' if x['passed'] else ''}</p><pre>{escape(x['text'] or '(nothing)')}</pre>"
        for x in problem["examples"]
    )
    lost = problem.get("lost")
    place = marked(lost) if lost and lost["places"] else ""
    answer = f"<p>wanted: {escape(problem['answer'])}</p>" if problem["answer"] else ""
    name = f"{escape(problem['id'])} <small>{escape(problem['cause'])}</small>"
    return f"<details><summary>{name}</summary>{answer}{place}{shown}</details>"
