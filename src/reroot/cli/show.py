"""``reroot show`` and ``reroot view``: what the model wrote, in the terminal and on a page."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from ..errors import InvalidInput, visible
from .app import command, console

if TYPE_CHECKING:
    from ..runs.records import Record

_LONG = 1200
"""Characters of a prompt or an output that are printed, its end."""


@command("failed", "passed", "error", "json", reads="run")
def show(
    run: Path,
    *,
    task: str = "",
    learner: str = "",
    contract: str = "",
    failed: bool = False,
    passed: bool = False,
    error: bool = False,
    search: str = "",
    limit: int | None = None,
    json: bool = False,
) -> None:
    """Print what the model wrote: each attempt with its prompt, output, where it went wrong, and cost.

    Of folders of comparisons, suites, runs and diagnoses the attempts, finished or not; of training the
    completions that were kept. Where an output goes wrong is marked if a verifier or a demonstration tells it.

    Example:

        reroot show runs/x --learner best_of_n --failed --limit 3
        reroot show runs/x --search "12 19" --json

    Args:
        run: A run folder.
        task: Of this task alone.
        learner: Of this learner alone, as in best_of_n (whatever its parameters) or 'best_of_n(n=16)'.
        contract: Under this contract alone, as in root/sample or as config.json has it.
        failed: Only attempts that did not pass.
        passed: Only attempts that passed.
        error: Only attempts that ended with an error.
        search: Only attempts with this text in prompt, output, answer, error or id.
        limit: At most so many (default: 20; with --json all).
        json: One JSON object per line, and nothing else to stdout.
    """
    from ..runs.record_folders import read_records, with_parts
    from ..runs.records import Filter

    chosen = [n for n, on in (("failed", failed), ("passed", passed), ("error", error)) if on]
    if len(chosen) > 1:
        raise InvalidInput(f"--{chosen[0]} and --{chosen[1]} do not go together")
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit must be at least 1, got {limit}")
    found = [read_records(part) for part in with_parts(run)]
    for note in (note for part in found for note in part.notes):
        console.say(note)
    records = [record for part in found for record in part.records]
    wanted = Filter(task, learner, contract, "".join(chosen), search).select(records)
    shown = wanted[: (None if json else 20) if limit is None else limit]
    if json:
        for record in shown:
            sys.stdout.write(json_module.dumps(record.to_json()) + "\n")
    for record in () if json else shown:
        console.print(_told(record), "", soft_wrap=True)
    console.say(_count(len(shown), len(wanted), len(records)))


def _count(shown: int, wanted: int, there: int) -> str:
    """``2 of 8 attempts``, or ``1 of 2 found among 8 attempts``."""
    if not wanted:
        return f"nothing found among {there:,} attempts"
    found = f"{wanted:,} found among " if shown < wanted < there else ""
    more = " (--limit shows more)" if shown < wanted else ""
    return f"{shown:,} of {found}{there:,} attempts{more}"


def _told(record: Record) -> Text:
    """An attempt as lines; what the model wrote is made visible, character by character."""
    from ..pages.kit.formatting import plural
    from ..runs.records import short_id

    style = {"passed": "green", "failed": "red", "error": "bold red"}.get(record.outcome, "yellow")
    reward = "" if record.reward is None else f", reward {record.reward:g}"
    text = Text()
    text.append(visible(short_id(record.id)), "bold").append("  ")
    text.append(record.outcome, style).append(reward).append("\n")
    text.append(f"  {visible(record.learner)}  under {record.contract}\n", "dim")
    _part(text, "prompt", [_end(visible(record.prompt)) or _no_prompt(record)])
    if record.answer:
        _part(text, "wanted", [visible(record.answer)])
    _part(text, "output", _output(record))
    if record.mark is not None:
        _part(text, "where", [_where(record)])
    if record.given:
        _part(text, "start", [f"{plural(record.given, 'token')} given, the others sampled"])
    if record.cost is not None:
        spent = [f"{amount:,} {name}" for name, amount in record.cost.items() if amount]
        _part(text, "cost", [", ".join(spent).replace("_", " ") or "nothing"])
    if record.stopped:
        _part(text, "stopped", [f"by its {record.stopped}"])
    if record.error:
        _part(text, "error", [Text(visible(short_id(record.error)), "red")])
    if record.transcript is not None:
        _part(text, "asked", [str(record.transcript)])
    text.rstrip()
    return text


def _part(text: Text, name: str, said: Sequence[str | Text]) -> None:
    """A name and what is said under it, further lines indented."""
    text.append(f"  {name:<8}", "dim")
    for part in said:
        whole = part if isinstance(part, Text) else Text(part)
        lines = whole.split("\n", allow_blank=True)
        for i, line in enumerate(lines):
            text.append("\n" + " " * 10 if i else "").append_text(line)
    text.append("\n")


def _end(text: str) -> str:
    return text if len(text) <= _LONG else f"… {text[-_LONG:]}"


def _no_prompt(record: Record) -> Text:
    count = "" if record.prompt_tokens is None else f", {record.prompt_tokens} tokens"
    return Text(f"(not known as text{count})", "dim")


def _output(record: Record) -> list[str | Text]:
    """The output, what was given dim, the token where it goes wrong between ⟪ and ⟫."""
    if record.output is None:
        return [Text("(none was returned)", "dim")]
    if record.pieces is None:
        ids = f" (token ids {' '.join(map(str, record.tokens or ()))})"
        return [_end(visible(record.output)), Text(ids, "dim")]
    at, parts = None if record.mark is None else record.mark.token, list[str | Text]()
    end = len("".join(record.pieces).rstrip("\n"))  # new lines at the end are no lines, but marks
    for i, piece in enumerate(record.pieces):
        said, end = visible(piece[:end]) + "↵" * len(piece[end:]), max(0, end - len(piece))
        if i == at:
            parts.append(Text(f"⟪{said}⟫", "bold red"))
        else:
            parts.append(Text(said, "dim" if i < record.given else ""))
    return parts


def _where(record: Record) -> str:
    assert record.mark is not None
    place = f"token {record.mark.token + 1} of {len(record.tokens or ())}"
    if record.mark.by == "verifier":
        return f"{place}: the verifier accepts what is before it, and rejects it"
    return f"{place}: here it leaves the demonstration"


@command("no_open", reads="runs")
def view(
    runs: list[Path],
    *,
    port: int = 0,
    static: Path | None = None,
    no_open: bool = False,
) -> None:
    """Look at attempts in the browser: search, filter and sort, read, walk the tree of prefixes.

    Serves a page on this machine alone (127.0.0.1) until Ctrl-C, or writes one self-contained file.
    What a run that still goes on adds comes to the served page by itself.
    Trees are there where transcripts were kept (reroot compare --transcripts). Two attempts on one
    problem stand side by side.

    Example:

        reroot view runs/x
        reroot view runs/x runs/y --static attempts.html

    Args:
        runs: Run folders: of comparisons, suites, runs, diagnoses and training.
        port: Port of the page (default: a free one).
        static: Write one file instead of serving.
        no_open: Do not open a browser.
    """
    from ..pages.attempts.page import Pages, write_static

    if static is not None:
        if port or no_open:
            raise InvalidInput(
                "--port and --no-open are for a page that is served, not for --static"
            )
        file, notes = write_static(runs, static)
        for note in notes:
            console.say(note)
        console.say(f"page: {file} ({file.stat().st_size / 1e6:.1f} MB)")
        return
    from ..pages.attempts.server import serving

    pages = Pages(runs)
    for note in pages.notes():
        console.say(note)
    with serving(pages, port) as address:
        console.say(f"serving {address} (Ctrl-C ends it)")
        if not no_open:
            import webbrowser

            webbrowser.open(address)
        _wait()
    console.say("ended")


def _wait() -> None:
    """Until Ctrl-C."""
    import threading

    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return
