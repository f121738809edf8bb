"""Records made of attempts and completions, as journals and tables of run folders have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..access.attempt import Attempt
from ..access.failures import Failure
from ..contract import Contract
from ..types import CURRENCIES, Cost, Prefix
from .inflight import transcript_name
from .parted import tables_of
from .records import Mark, Record
from .tables import PROBLEMS, attempt_schema, problem_schema, read_table
from .texts import Texts

# ---- attempts ------------------------------------------------------------------------------------


class AttemptMaker:
    """Makes records of the attempts of a folder.

    Args:
        folder: the run folder.
        config: its ``config.json``.
        texts: the texts of its tokens, which may grow.

    Raises:
        RunFolderError: its table of problems is damaged.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], texts: Texts) -> None:
        self._folder, self._texts = folder, texts
        self._cells, self._grants = _cells(folder), _grants(config)
        one_task = len(config.get("tasks", ())) == 1
        self._alone = {"task": config["tasks"][0]} if one_task else {}

    def records(self, attempts: Iterable[Attempt]) -> list[Record]:
        """Their records, by problem, learner and id."""
        transcripts = _files(self._folder / "transcripts")
        found = [
            _record(
                self._folder,
                attempt,
                self._texts,
                self._cells.get(attempt.problem, self._alone),
                self._grants,
                transcripts,
            )
            for attempt in attempts
        ]
        places = {problem: i for i, problem in enumerate([*self._cells, *self._texts.problems])}
        return sorted(found, key=lambda r: (places.get(r.problem, len(places)), r.learner, r.id))


def _record(
    path: Path,
    attempt: Attempt,
    texts: Texts,
    cell: Mapping[str, Any],
    grants: Callable[[str, str, str], tuple[str, ...]],
    transcripts: set[str],
) -> Record:
    asked = texts.problems.get(attempt.problem, {})
    tokens = None if attempt.output is None else attempt.output.tokens
    file = transcript_name(attempt.key)
    task = str(cell.get("task", ""))
    return Record(
        id=attempt.key,
        run=path,
        kind="attempt",
        task=task,
        problem=attempt.problem,
        horizon=int(cell.get("horizon", asked.get("horizon", 0))),
        seed=attempt.seed,
        learner=attempt.learner,
        contract=attempt.contract,
        grants=grants(attempt.learner, task, attempt.contract),
        prompt=str(asked.get("prompt", cell.get("prompt", ""))),
        prompt_tokens=asked.get("prompt_tokens"),
        answer=str(asked.get("answer", cell.get("answer", ""))),
        output=attempt.text if tokens is not None else None,
        tokens=tokens,
        pieces=None if tokens is None else texts.pieces(attempt.key, tokens),
        complete=attempt.complete,
        reward=attempt.reward,
        passed=attempt.passed,
        cost=attempt.cost.to_dict(),
        error=None if attempt.error is None else str(attempt.error),
        stopped=attempt.stopped,
        surprisal=attempt.surprisal,
        mark=None if attempt.passed else _mark(attempt, texts, asked),
        transcript=path / "transcripts" / file if file in transcripts else None,
        metadata=attempt.metadata,
    )


def _mark(attempt: Attempt, texts: Texts, asked: Mapping[str, Any]) -> Mark | None:
    rejected = texts.attempts.get(attempt.key, {}).get("rejected")
    if rejected is not None:
        return Mark(int(rejected), "verifier")
    if attempt.output is None or attempt.error is not None:
        return None
    return _off(attempt.output.tokens, asked.get("demonstration"))


def _off(tokens: Sequence[int], demonstration: Sequence[int] | None) -> Mark | None:
    """The first token that is not the demonstration's; none where there is no such token."""
    if not demonstration:
        return None
    pairs = enumerate(zip(tokens, demonstration, strict=False))
    at = next((i for i, (token, right) in pairs if token != right), None)
    return None if at is None else Mark(at, "demonstration")


def _cells(path: Path) -> dict[str, dict[str, Any]]:
    """Problem → its row of a comparison's table of problems."""
    if not (path / PROBLEMS).exists():
        return {}
    table = read_table(path / PROBLEMS, problem_schema())
    columns = ["problem", "task", "horizon", "seed", "prompt", "answer"]
    return {row["problem"]: row for row in table.select(columns).iter_rows(named=True)}


def _grants(config: Mapping[str, Any]) -> Callable[[str, str, str], tuple[str, ...]]:
    """(learner, task, contract served) → the granted contracts of a comparison that permit it."""
    granted = {
        task: [Contract.parse(c) for c in cs] for task, cs in config.get("granted", {}).items()
    }
    requires = (
        {e["label"]: Contract.parse(e["requires"]) for e in config["learners"]} if granted else {}
    )
    known: dict[tuple[str, str, str], tuple[str, ...]] = {}

    def of(learner: str, task: str, served: str) -> tuple[str, ...]:
        key = (learner, task, served)
        if key not in known:
            law = Contract.parse(served).resolved.sampling
            known[key] = tuple(
                str(c)
                for c in granted.get(task, ())
                if learner in requires and requires[learner] <= c and c.resolved.sampling == law
            )
        return known[key]

    return of


def _files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def attempts_of_table(path: Path) -> dict[str, Attempt]:
    """The attempts of a recorded folder without its journal, once each."""
    found: dict[str, Attempt] = {}
    tables = tables_of(path, attempt_schema())
    for row in (row for table in tables for row in table.iter_rows(named=True)):
        law = Contract.parse(row["contract"]).resolved.sampling
        key = f"{row['problem']} | {row['learner']} | {law}"
        tokens = row["tokens_out"]
        found.setdefault(
            key,
            Attempt(
                key,
                row["problem"],
                row["learner"],
                row["contract"],
                row["seed"],
                None if tokens is None else Prefix(tuple(tokens)),
                row["text"] or "",
                bool(row["complete"]),
                row["reward"],
                bool(row["passed"]),
                row["surprisal"],
                Cost(**{currency: row[f"cost_{currency}"] for currency in CURRENCIES}),
                None if row["error"] is None else _failure(row),
                row["stopped"],
                json.loads(row["metadata"]) if row["metadata"] else {},
            ),
        )
    return found


def _failure(row: Mapping[str, Any]) -> Failure:
    kind = row["error_kind"] or "Error"
    return Failure(kind, row["error"].removeprefix(f"{kind}: "))


# ---- completions ---------------------------------------------------------------------------------


def completions_of(
    path: Path, config: Mapping[str, Any], texts: Texts, line: Mapping[str, Any]
) -> list[Record]:
    """The completions that were kept of a step of training, by a line of the folder's ``COMPLETIONS``."""
    contract, arm, task = str(config["contract"]), str(config["arm"]), str(config.get("task") or "")
    step, found = line["step"], list[Record]()
    for said in line["completions"]:
        asked = texts.problems.get(said["problem"], {})
        tokens = (*said["start"], *said["tokens"])
        name = f"step/{step}/{said['group']}/{said['rollout']}"
        pieces = tuple(said["pieces"]) if "pieces" in said else texts.pieces(name, tokens)
        found.append(
            Record(
                id=name,
                run=path,
                kind="completion",
                task=task,
                problem=said["problem"],
                horizon=int(config.get("horizon") or 0),
                seed=int(config.get("seed", 0)),
                learner=arm,
                contract=contract,
                prompt=asked.get("prompt", ""),
                prompt_tokens=asked.get("prompt_tokens"),
                answer=asked.get("answer", ""),
                output=said["start_text"] + said["text"],
                tokens=tokens,
                pieces=pieces,
                given=len(said["start"]),
                complete=said["complete"],
                reward=said["reward"],
                passed=said["passed"],
                mark=None if said["passed"] else _off(tokens, asked.get("demonstration")),
                step=step,
                group=said["group"],
                rollout=said["rollout"],
            )
        )
    return found


def whole_step(line: dict[str, Any]) -> dict[str, Any]:
    """A line of ``COMPLETIONS``, if it is one (``ValueError``, ``KeyError`` or ``TypeError`` otherwise)."""
    if type(line["step"]) is not int:
        raise ValueError(f"step is {line['step']!r:.80}")
    for said in line["completions"]:
        if not (isinstance(said["text"], str) and isinstance(said["start"], list)):
            raise ValueError(f"it holds no completion: {said!r:.80}")
    return line
