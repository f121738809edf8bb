"""The page as text: attempts of one or more run folders, their data inside, nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import RunFolderError, visible
from ...runs.record_folders import Records, read_records
from ...runs.records import Record
from ..kit.markup import Html
from ..kit.page import fragment, write_page
from .tree import tree_of

_FILES = Path(__file__).parent / "templates"
_SCRIPTS = ("tree.js", "list.js")
FIRST = 50
"""Attempts that are in the page as a table, to be read without a script."""
MOST_BYTES = 24_000_000
"""Bytes of trees that one written file holds; which are left out is said."""
_OUTCOMES = ("passed", "failed", "error", "abstained")
_LONG = 20_000
"""Characters of a prompt or an output that the page holds, its last."""


class Pages:
    """Attempts of run folders, and the page of them.

    Args:
        folders: run folders of comparisons, runs, diagnoses or training.

    Attributes:
        records: every attempt, in order.
        notes: what is to be said of the folders.

    Raises:
        RunFolderError: a folder holds no attempts, is named twice, or is damaged.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise RunFolderError(f"a folder is named twice: {', '.join(map(str, folders))}")
        self._runs = [read_records(folder) for folder in folders]
        self.records = [record for run in self._runs for record in run.records]
        self._of = [run for run in self._runs for _ in run.records]
        self.notes = [note for run in self._runs for note in run.notes]
        if not self.records:
            said = f" ({'; '.join(self.notes)})" if self.notes else ""
            raise RunFolderError(f"no attempt in {', '.join(map(str, folders))}{said}")
        if not any(record.transcript for record in self.records):
            self.notes.append("no transcripts were kept, so there are no trees (--transcripts)")

    def tree(self, place: int) -> dict[str, Any] | None:
        """The tree of an attempt, by its place; ``None``: there is none (see ``tree_of``)."""
        return tree_of(self.records[place], self._of[place])

    def html(self, trees: dict[int, dict[str, Any]] | None = None) -> str:
        """The page; without ``trees`` it asks whoever serves it for them."""
        data = _data(self._runs, self.records) | {"trees": trees, "notes": self.notes}
        script = Html("\n".join((_FILES / name).read_text("utf-8") for name in _SCRIPTS))
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        return fragment(
            "attempts/templates/page.html",
            title=f"Attempts: {', '.join(visible(str(run.folder)) for run in self._runs)}",
            style=Html((_FILES / "style.css").read_text("utf-8")),
            script=script,
            digest=digest,
            served=trees is None,
            data=Html(_inert(data)),
            first=[_row(record) for record in self.records[:FIRST]],
            count=len(self.records),
            notes=[visible(note) for note in self.notes],
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
    if left:
        pages.notes.append(
            f"{left:,} of {left + len(trees):,} trees are left out: they would take the page beyond "
            f"{MOST_BYTES / 1e6:g} MB (reroot view without --static shows all)"
        )
    return write_page(file, pages.html(trees)), pages.notes


def _inert(data: object) -> str:
    """JSON in ASCII that no HTML parser takes for a tag."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row(record: Record) -> dict[str, str]:
    """What the table without a script shows of an attempt."""
    return {
        "outcome": record.outcome,
        "learner": visible(record.learner),
        "problem": visible(record.problem),
        "output": _end(visible(record.output or record.error or ""), 400),
        "answer": visible(record.answer),
        "reward": "" if record.reward is None else f"{record.reward:g}",
        "tokens": "" if record.cost is None else f"{record.cost['tokens']:,}",
    }


def _end(text: str, most: int = _LONG) -> str:
    return text if len(text) <= most else f"… {text[-most:]}"


class _Names:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._place: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        place = self._place.setdefault(text, len(self.texts))
        if place == len(self.texts):
            self.texts.append(visible(text))
        return place


def _data(runs: Sequence[Records], records: Sequence[Record]) -> dict[str, Any]:
    """Attempts in columns; names, problems and texts that repeat are there once."""
    learners, contracts, tasks = _Names(), _Names(), _Names()
    problems: dict[tuple[Path, str], int] = {}
    asked: list[dict[str, Any]] = []
    for record in records:
        key = (record.run, record.problem)
        if key not in problems:
            problems[key] = len(asked)
            asked.append(_asked(record, tasks))
    run_of = {run.folder: i for i, run in enumerate(runs)}
    return {
        "runs": [visible(str(run.folder)) for run in runs],
        "tasks": tasks.texts,
        "problems": asked,
        "run": [run_of[r.run] for r in records],
        "id": [visible(r.id) for r in records],
        "problem": [problems[r.run, r.problem] for r in records],
        "learner": [learners(r.learner) for r in records],
        "learners": learners.texts,
        "contract": [contracts(r.contract) for r in records],
        "grants": [[contracts(c) for c in r.grants] for r in records],
        "contracts": contracts.texts,
        "outcome": [_OUTCOMES.index(r.outcome) for r in records],
        "reward": [r.reward for r in records],
        "cost": [r.cost and {k: v for k, v in r.cost.items() if v} for r in records],
        "pieces": [list(_pieces(r)) for r in records],
        "known": [r.pieces is not None for r in records],
        "given": [r.given for r in records],
        "mark": [r.mark and [r.mark.token, r.mark.by] for r in records],
        "error": [None if r.error is None else visible(r.error) for r in records],
        "stopped": [r.stopped for r in records],
        "step": [r.step for r in records],
        "surprisal": [r.surprisal for r in records],
        "seed": [r.seed for r in records],
        "has_tree": [r.transcript is not None for r in records],
    }


def _asked(record: Record, tasks: _Names) -> dict[str, Any]:
    return {
        "id": visible(record.problem),
        "task": tasks(record.task),
        "horizon": record.horizon,
        "prompt": _end(visible(record.prompt)),
        "prompt_tokens": record.prompt_tokens,
        "answer": _end(visible(record.answer)),
    }


def _pieces(record: Record) -> Iterator[str]:
    """The output token by token, or in one piece where the texts of its tokens are not known."""
    if record.pieces is not None:
        yield from (visible(piece) for piece in record.pieces)
    elif record.output is not None:
        yield _end(visible(record.output))
