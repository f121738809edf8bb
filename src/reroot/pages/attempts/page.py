"""The page as text: attempts of one or more run folders, their data inside, nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...errors import RunFolderError, visible
from ...runs.record_folders import Follower, Progress, with_parts
from ...runs.records import Record, short_id
from ..kit.markup import Html
from ..kit.page import fragment, write_page
from ..kit.table import Table, columns
from .columns import Columns, end
from .tree import tree_of

_FILES = Path(__file__).parent / "templates"
_SCRIPTS = ("tree.js", "list.js", "live.js")
FIRST = 50
"""Attempts that are in the page as a table, to be read without a script."""
MOST_BYTES = 24_000_000
"""Bytes of trees that one written file holds; which are left out is said."""
_HEAD = columns("Outcome | Learner | Problem | Output | Wanted | Reward:g | Tokens:,", 5)
_CAPTION = "Attempts: arrow keys go from one to the next, Enter opens one"


class Pages:
    """Attempts of run folders, as they come, and the page of them. Threads may share it.

    Args:
        folders: run folders of comparisons, suites, runs, diagnoses or training, finished or not.

    Attributes:
        records: every attempt that is known: those that were there first, in order, then as they came.

    Raises:
        RunFolderError: a folder holds no attempts and no process works on it, is named twice, or is damaged.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise RunFolderError(f"a folder is named twice: {', '.join(map(str, folders))}")
        folders = [part for folder in folders for part in with_parts(folder)]
        self._lock = threading.RLock()
        self._runs = [Follower(folder) for folder in folders]
        self._generation = 0
        self._begin()
        self.look()
        if not self.records and not any(run.progress().running for run in self._runs):
            notes = [note for run in self._runs for note in run.notes()]
            said = f" ({'; '.join(notes)})" if notes else ""
            raise RunFolderError(f"no attempt in {', '.join(map(str, folders))}{said}")

    def _begin(self) -> None:
        self.records: list[Record] = []
        self._at: list[tuple[int, int]] = []
        self._known: dict[tuple[int, int], int] = {}
        self._log: list[int] = []
        self._columns = Columns({run.folder: i for i, run in enumerate(self._runs)})

    def look(self) -> None:
        """Read what has come since the last look.

        Raises:
            RunFolderError: a folder is damaged.
        """
        with self._lock:
            changes = [run.look() for run in self._runs]
            if any(change is None for change in changes):  # numbers that were given hold no longer
                self._generation += 1
                self._begin()
                changes = [range(len(run.records)) for run in self._runs]
            for i, places in enumerate(changes):
                for place in places or ():
                    self._take(i, place)

    def _take(self, run: int, place: int) -> None:
        at, record = (run, place), self._runs[run].records[place]
        number = self._known.setdefault(at, len(self.records))
        if number == len(self.records):
            self.records.append(record)
            self._at.append(at)
        else:
            self.records[number] = record
        self._log.append(number)

    def notes(self) -> list[str]:
        """What is to be said of the folders, as of the last look."""
        found = [note for run in self._runs for note in run.notes()]
        if self.records and not any(record.transcript for record in self.records):
            found.append("no transcripts were kept, so there are no trees (--transcripts)")
        return found

    def tree(self, place: int) -> dict[str, Any] | None:
        """The tree of an attempt, by its place; ``None``: there is none (see ``tree_of``)."""
        with self._lock:
            return tree_of(self.records[place], self._runs[self._at[place][0]].texts)

    def progress(self) -> list[dict[str, Any]]:
        """How far each run is: a sentence, and the numbers of a bar."""
        with self._lock:
            found = [(run.folder, run.progress()) for run in self._runs]
        return [
            {
                "text": visible(_progress(p) if len(found) == 1 else f"{folder}: {_progress(p)}"),
                "running": p.running,
                "done": p.done,
                "total": p.total,
            }
            for folder, p in found
        ]

    def since(self, generation: int, seen: int, problems: int) -> dict[str, Any]:
        """What is new to a page that has what came before.

        Args:
            generation: the page's; of another one it knows numbers that mean nothing here.
            seen: changes that it has had.
            problems: how many problems it knows.
        """
        with self._lock:
            self.look()
            said: dict[str, Any] = {"generation": self._generation, "seen": len(self._log)}
            said["progress"] = self.progress()
            said["notes"] = [visible(note) for note in self.notes()]
            if generation == self._generation and seen < len(self._log):
                places = list(dict.fromkeys(self._log[seen:]))
                said["places"] = places
                said["columns"] = self._columns.of([self.records[place] for place in places])
                said |= {**self._columns.names(), "problems": self._columns.problems[problems:]}
            return said

    def html(self, trees: dict[int, dict[str, Any]] | None = None, said: Sequence[str] = ()) -> str:
        """The page; without ``trees`` it asks whoever serves it for them, and for what is new.

        Args:
            trees: by place.
            said: notes besides those of the folders.
        """
        with self._lock:
            columns = self._columns.of(self.records)
            progress = self.progress()
            data = {
                "runs": [visible(str(run.folder)) for run in self._runs],
                "problems": self._columns.problems,
                **self._columns.names(),
                **columns,
                "trees": trees,
                "generation": self._generation,
                "seen": len(self._log),
            }
        script = Html("\n".join((_FILES / name).read_text("utf-8") for name in _SCRIPTS))
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        return fragment(
            "attempts/templates/page.html",
            title=f"Attempts: {', '.join(data['runs'])}",
            style=Html((_FILES / "style.css").read_text("utf-8")),
            script=script,
            digest=digest,
            served=trees is None,
            data=Html(_inert(data)),
            table=Table(_HEAD, [_row(r) for r in self.records[:FIRST]], _CAPTION),
            first=min(FIRST, len(self.records)),
            count=len(self.records),
            progress=[p for p in progress if p["running"] or p["done"] < (p["total"] or 0)],
            notes=[visible(note) for note in (*self.notes(), *said)],
        )


def write_static(folders: Sequence[Path], file: Path) -> tuple[Path, list[str]]:
    """Write one self-contained page of the attempts of run folders, trees included.

    Returns:
        Its path, and what is to be said, such as which trees did not fit.

    Raises:
        RunFolderError: see ``Pages``, or it cannot be written.
    """
    pages = Pages(folders)
    trees, size, left = dict[int, dict[str, Any]](), 0, 0
    for place, record in enumerate(pages.records):
        if record.transcript is None:
            continue
        tree = pages.tree(place)
        size += len(json.dumps(tree))
        if size > MOST_BYTES:
            left += 1
        elif tree is not None:
            trees[place] = tree
    said = list[str]()
    if left:
        said.append(
            f"{left:,} of {left + len(trees):,} trees are left out: they would take the page beyond "
            f"{MOST_BYTES / 1e6:g} MB (reroot view without --static shows all)"
        )
    return write_page(file, pages.html(trees, said)), [*pages.notes(), *said]


def _progress(found: Progress) -> str:
    """``57 of 120 attempts, 12 passed, 3,400 tokens; running``."""
    of = "" if found.total is None else f" of {found.total:,}"
    one = found.done == 1 and found.total is None
    parts = [f"{found.done:,}{of} {found.unit}{'' if one else 's'}"]
    parts += [] if found.passed is None else [f"{found.passed:,} passed"]
    parts.append(f"{found.tokens:,} tokens")
    unfinished = found.total is not None and found.done < found.total
    state = "running" if found.running else "ended before all was done" if unfinished else "ended"
    return f"{', '.join(parts)}; {state}"


def _inert(data: object) -> str:
    """JSON in ASCII that no HTML parser takes for a tag."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row(record: Record) -> list[Any]:
    """What the table without a script shows of an attempt."""
    said = end(visible(record.output or short_id(record.error or "")), 400)
    return [
        Html(f'<span class="{record.outcome}">{record.outcome}</span>'),
        visible(record.learner),
        visible(short_id(record.problem)),
        Html(f'<span class="code">{escape(said)}</span>'),
        Html(f'<span class="code">{escape(visible(record.answer))}</span>'),
        record.reward,
        None if record.cost is None else record.cost["tokens"],
    ]
