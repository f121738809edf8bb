"""Records as the page has them: in columns, names and problems that repeat are there once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import visible
from ...runs.records import OUTCOMES, Record, short_id

_LONG = 20_000
"""Characters of a prompt or an output that the page holds, its last."""


class Columns:
    """Makes columns of records; what one call has named keeps its number in the next.

    Args:
        runs: folder → its number.

    Attributes:
        problems: what was asked, each problem once.
    """

    def __init__(self, runs: Mapping[Path, int]) -> None:
        self._runs = runs
        self._learners, self._contracts, self._tasks = _Names(), _Names(), _Names()
        self._places: dict[tuple[Path, str], int] = {}
        self.problems: list[dict[str, Any]] = []

    def names(self) -> dict[str, list[str]]:
        """Every name by number."""
        return {
            "learners": self._learners.texts,
            "contracts": self._contracts.texts,
            "tasks": self._tasks.texts,
        }

    def of(self, records: Sequence[Record]) -> dict[str, list[Any]]:
        """Column → a value of each record."""
        return {
            "run": [self._runs[r.run] for r in records],
            "id": [visible(r.id) for r in records],
            "problem": [self._problem(r) for r in records],
            "learner": [self._learners(r.learner) for r in records],
            "contract": [self._contracts(r.contract) for r in records],
            "grants": [[self._contracts(c) for c in r.grants] for r in records],
            "outcome": [OUTCOMES.index(r.outcome) for r in records],
            "reward": [r.reward for r in records],
            "cost": [r.cost and {k: v for k, v in r.cost.items() if v} for r in records],
            "pieces": [list(_pieces(r)) for r in records],
            "known": [r.pieces is not None for r in records],
            "given": [r.given for r in records],
            "mark": [r.mark and [r.mark.token, r.mark.by] for r in records],
            "error": [None if r.error is None else visible(short_id(r.error)) for r in records],
            "stopped": [r.stopped for r in records],
            "step": [r.step for r in records],
            "surprisal": [r.surprisal for r in records],
            "seed": [r.seed for r in records],
            "has_tree": [r.transcript is not None for r in records],
        }

    def _problem(self, record: Record) -> int:
        key = (record.run, record.problem)
        if key not in self._places:
            self._places[key] = len(self.problems)
            self.problems.append(
                {
                    "id": visible(short_id(record.problem)),
                    "task": self._tasks(record.task),
                    "horizon": record.horizon,
                    "prompt": end(visible(record.prompt)),
                    "prompt_tokens": record.prompt_tokens,
                    "answer": end(visible(record.answer)),
                }
            )
        return self._places[key]


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


def end(text: str, most: int = _LONG) -> str:
    """A text, or its end where it is long."""
    return text if len(text) <= most else f"… {text[-most:]}"


def _pieces(record: Record) -> Iterator[str]:
    """The output token by token, or in one piece where the texts of its tokens are not known."""
    if record.pieces is not None:
        yield from (visible(piece) for piece in record.pieces)
    elif record.output is not None:
        yield end(visible(record.output))
