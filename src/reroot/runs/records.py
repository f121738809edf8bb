"""What run folders hold, one record per attempt or completion: read, filtered, and as JSON.

Folders of comparisons, runs and diagnoses hold attempts; those of training hold completions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, nearest, visible

COMPLETIONS = "completions.jsonl"
KINDS = ("compare", "run", "diagnose", "train")
"""Kinds of folders that hold what a model wrote."""
OUTCOMES = ("passed", "failed", "error", "abstained")


_REPEATED = re.compile(r"(?<![^\s'\"(])(\S+?)/H(\d+)/s(\d+)/\1/(h\2/s\3/)?")


def short_id(text: str) -> str:
    """Ids of problems in a text without what they say twice: ``copy/H8/s0/copy/h8/s0/2`` is ``copy/h8/s0/2``.

    For people to read: files keep the whole id, with its seed and horizon.
    """
    return _REPEATED.sub(lambda m: f"{m[1]}/{m[4] or f'H{m[2]}/s{m[3]}/'}", text)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an output that did not pass goes wrong.

    Attributes:
        token: index of the token, from 0.
        by: ``"verifier"``: it accepts up to here and rejects with this token. ``"demonstration"``: here the
            output leaves the demonstration, which need not be the only right way.
    """

    token: int
    by: str


@dataclass(frozen=True, slots=True)
class Record:
    """An attempt of a learner, or a completion that training has sampled.

    Attributes:
        id: unique in its folder.
        run: the folder.
        kind: ``"attempt"`` or ``"completion"``.
        task, problem, horizon, seed: what was asked.
        learner: label of the learner; of training its arm.
        contract: the contract that was granted to the session.
        grants: granted contracts of a comparison under which this attempt stands.
        prompt: as text; empty: it is not known as text.
        prompt_tokens: its length in tokens; ``None``: unknown.
        answer: the answer wanted, if there is one.
        output: what was returned, as text up to a stop text; ``None``: nothing was.
        tokens: its token ids; ``None``: nothing was returned, or they are not known.
        pieces: the text of each token; ``None``: unknown (folders from before texts were kept).
        given: how many of the tokens are a start that was given to the rollout.
        complete, reward, passed: what became of it; ``reward`` is ``None`` where there is none.
        cost: logical cost by currency; ``None``: not its own (completions).
        error: why it failed, if it did.
        stopped: ``"budget"`` if its budget ended it.
        surprisal: −log P(output), nats; ``None``: unknown.
        mark: where it goes wrong, if a verifier or a demonstration tells.
        transcript: its file; ``None``: none was kept.
        step, group, rollout: of a completion.
        metadata: what the learner found out besides.
    """

    id: str
    run: Path
    kind: str
    task: str
    problem: str
    horizon: int
    seed: int
    learner: str
    contract: str
    grants: tuple[str, ...] = ()
    prompt: str = ""
    prompt_tokens: int | None = None
    answer: str = ""
    output: str | None = None
    tokens: tuple[int, ...] | None = None
    pieces: tuple[str, ...] | None = None
    given: int = 0
    complete: bool = False
    reward: float | None = None
    passed: bool = False
    cost: dict[str, int] | None = None
    error: str | None = None
    stopped: str | None = None
    surprisal: float | None = None
    mark: Mark | None = None
    transcript: Path | None = None
    step: int | None = None
    group: int | None = None
    rollout: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def outcome(self) -> str:
        """``"passed"``, ``"failed"``, ``"error"``, or ``"abstained"`` where the judge gave no reward."""
        if self.error is not None:
            return "error"
        if self.reward is None:
            return "abstained"
        return "passed" if self.passed else "failed"

    def to_json(self) -> dict[str, Any]:
        """JSON values, with stable keys (docs/howto/attempts.md)."""
        mark = self.mark
        at = (
            None
            if mark is None
            else {"token": mark.token, "by": mark.by, "text": self.said(mark.token)}
        )
        return {
            "id": self.id,
            "run": str(self.run),
            "kind": self.kind,
            **{name: getattr(self, name) for name in _PLAIN},
            "grants": list(self.grants),
            "tokens": None if self.tokens is None else list(self.tokens),
            "pieces": None if self.pieces is None else list(self.pieces),
            "outcome": self.outcome,
            "wrong_at": at,
            "transcript": None if self.transcript is None else str(self.transcript),
            "metadata": self.metadata,
        }

    def said(self, token: int) -> str | None:
        """The text of a token of the output, by its index; ``None``: unknown."""
        return None if self.pieces is None else self.pieces[token]


_PLAIN = (
    *("task", "problem", "horizon", "seed", "learner", "contract", "prompt", "prompt_tokens"),
    *("output", "complete", "reward", "passed", "answer", "cost", "error", "stopped", "surprisal"),
    *("given", "step", "group", "rollout"),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted of the records; what is empty filters nothing.

    Attributes:
        task, learner, contract: names, or the part of one before a bracket, a ``@`` or a ``:``.
        outcome: one of ``passed``, ``failed``, ``error``, ``abstained``.
        search: text that prompt, output, answer, error or id holds, whatever its case.
    """

    task: str = ""
    learner: str = ""
    contract: str = ""
    outcome: str = ""
    search: str = ""

    def select(self, records: Sequence[Record]) -> list[Record]:
        """The records that are wanted, in their order.

        Raises:
            InvalidInput: no record has that task, learner or contract; it names those there are.
        """
        tasks = _names("task", self.task, {r.task for r in records})
        learners = _names("learner", self.learner, {r.learner for r in records})
        contracts = {c for r in records for c in (r.contract, *r.grants)}
        wanted = _names("contract", self.contract, contracts)
        text = self.search.casefold()
        return [
            r
            for r in records
            if (tasks is None or r.task in tasks)
            and (learners is None or r.learner in learners)
            and (wanted is None or not wanted.isdisjoint((r.contract, *r.grants)))
            and (not self.outcome or r.outcome == self.outcome)
            and (not text or any(text in part.casefold() for part in _searched(r)))
        ]


def _searched(record: Record) -> Iterable[str]:
    parts = (
        record.prompt,
        record.output,
        record.answer,
        record.error,
        record.id,
        short_id(record.id),
    )
    return (part for part in parts if part)


def _names(what: str, wanted: str, known: set[str]) -> set[str] | None:
    """The known names that a filter means; ``None``: it filters nothing (``InvalidInput``: it means none)."""
    if not wanted:
        return None
    found = {name for name in known if name == wanted} or {
        name for name in known if name.startswith(wanted) and name[len(wanted)] in "(@:+,"
    }
    if found:
        return found
    shown = [visible(name) for name in sorted(known) if name]
    hint = nearest(wanted, shown) if len(shown) > 12 else f" Known: {', '.join(shown) or 'none'}."
    raise InvalidInput(f"no attempt here has the {what} {wanted!r}.{hint}")
