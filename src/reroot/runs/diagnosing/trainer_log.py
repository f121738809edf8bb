"""What the log of a training run tells: groups that went silent, lengths that drift, rewards that change.

Four kinds are read: a folder of ``reroot train``, TRL's ``trainer_state.json`` (or a folder with one), its tables of
completions (``log_completions``, Parquet, a file or a folder of them), and JSONL of prompt, completion and reward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ...errors import InvalidInput
from ..folder import JOURNAL

_COLUMNS = ("step", "prompt", "completion", "advantage")
_PART = 5
"""The first and the last fifth of the steps are compared."""
_DRIFT = 1.5
"""Factor by which lengths or entropies must change between them to be told."""


@dataclass(frozen=True, slots=True)
class Row:
    """A completion and its reward, at a step (0 where it is not told)."""

    step: int
    prompt: str
    completion: str
    reward: float


@dataclass(frozen=True, slots=True)
class TrainerLog:
    """A log.

    Attributes:
        kind: what was read.
        steps: per step ``step`` and what there is of ``silent`` (share of zero-variance groups), ``reward``,
            ``length`` (tokens or characters), ``entropy``, ``clipped`` (share cut off).
        rows: completions, in their order.
    """

    kind: str
    steps: list[dict[str, float]]
    rows: list[Row] = field(default_factory=list[Row])

    def to_json(self) -> dict[str, Any]:
        """What it tells, as JSON values."""
        curve = [s["silent"] for s in self.steps if "silent" in s]
        return {
            "kind": self.kind,
            "steps": len(self.steps),
            "completions": len(self.rows),
            "zero_variance": fmean(curve) if curve else None,
            "findings": self.findings(),
        }

    def findings(self) -> list[str]:
        """In words: what changed, and what cannot be right."""
        return [*self._silence(), *self._drifts(), *self._same_texts(), *self._cut()]

    def _silence(self) -> Iterator[str]:
        curve = [(int(s["step"]), s["silent"]) for s in self.steps if "silent" in s]
        if not curve:
            return
        mean = fmean(x for _, x in curve)
        yield f"{mean:.0%} of groups had zero variance over {len(curve)} steps"
        last = next((step for step, x in reversed(curve) if x < 1.0), None)
        if last is None:
            yield "no step had any group with variance"
        elif last < curve[-1][0]:
            yield f"since step {last} no group has had variance"
        first = next(step for step, x in curve if x < 1.0) if last is not None else None
        if first is not None and first > curve[0][0]:
            yield f"the first group with variance came at step {first}"

    def _drifts(self) -> Iterator[str]:
        names = {"length": "completions got", "entropy": "entropy"}
        for key, words in names.items():
            values = [s[key] for s in self.steps if key in s]
            part = max(1, len(values) // _PART)
            if len(values) < 2 * part or len(values) < 4:
                continue
            early, late = fmean(values[:part]), fmean(values[-part:])
            if min(early, late) > 0 and max(early, late) / min(early, late) >= _DRIFT:
                how = "longer" if late > early else "shorter"
                told = how if key == "length" else ("rose" if late > early else "fell")
                yield f"{words} {told}: {early:.3g} to {late:.3g}"

    def _same_texts(self) -> Iterator[str]:
        seen: dict[tuple[str, str], set[float]] = {}
        for row in self.rows:
            seen.setdefault((row.prompt, row.completion), set()).add(row.reward)
        unstable = [key for key, rewards in seen.items() if len(rewards) > 1]
        if unstable:
            text = unstable[0][1][-60:]
            yield f"{len(unstable)} texts got more than one reward, as {text!r}: the judge is not a function"

    def _cut(self) -> Iterator[str]:
        values = [s["clipped"] for s in self.steps if "clipped" in s]
        if values and fmean(values) >= 0.1:
            yield f"{fmean(values):.0%} of completions were cut off by the length limit"

    def by_prompt(self) -> dict[str, list[Row]]:
        """Prompt → its completions."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.prompt, []).append(row)
        return found


def read_trainer_log(path: str | Path) -> TrainerLog:
    """Read a log of one of the four kinds.

    Raises:
        InvalidInput: it is none of them, with what is there.
    """
    place = Path(path)
    if place.is_dir():
        if (place / JOURNAL).is_file():
            return TrainerLog("reroot train", list(_own_steps(place / JOURNAL)))
        states = sorted(place.rglob("trainer_state.json"), key=lambda p: p.stat().st_mtime)
        tables = sorted(place.rglob("completions*.parquet"))
        if states:
            log = _state(states[-1])
            return TrainerLog(log.kind, log.steps, _tables(tables).rows if tables else [])
        if tables:
            return _tables(tables)
        raise InvalidInput(
            f"{path} has neither {JOURNAL}, nor trainer_state.json, nor completions*.parquet"
        )
    if not place.is_file():
        raise InvalidInput(f"there is no trainer log {str(path)!r}")
    if place.suffix == ".parquet":
        return _tables([place])
    if place.suffix == ".jsonl":
        return _with_groups("completions (JSONL)", list(_lines(place)))
    if place.suffix == ".json":
        return _state(place)
    raise InvalidInput(f"a trainer log is a folder, .json, .parquet or .jsonl, got {place.name!r}")


def _own_steps(file: Path) -> Iterator[dict[str, float]]:
    from ...access.sealing import read_sealed

    for _, line in read_sealed(file, "journal"):
        if str(line.get("name", "")).startswith("step/") and line.get("groups"):
            told = {"step": line["step"], "silent": line["zero_variance"] / line["groups"]}
            rewards = [x for x in (line.get("root"), line.get("prefix")) if x is not None]
            yield {**told, **({"reward": fmean(rewards)} if rewards else {})}


_TRL = {
    "frac_reward_zero_std": "silent",
    "reward": "reward",
    "completions/mean_length": "length",
    "entropy": "entropy",
    "completions/clipped_ratio": "clipped",
}


def _state(file: Path) -> TrainerLog:
    history = _json(file.read_text("utf-8"), file).get("log_history")
    if not isinstance(history, list):
        raise InvalidInput(f"{file} has no log_history")
    steps: list[dict[str, float]] = []
    for line in history:
        told = {
            ours: float(line[theirs]) for theirs, ours in _TRL.items() if _number(line.get(theirs))
        }
        if told and "step" in line:
            steps.append({"step": float(line["step"]), **told})
    if not steps:
        raise InvalidInput(f"{file} has no rewards of groups: is it of a trainer with a reward?")
    return TrainerLog("trainer_state.json", steps)


def _tables(files: Sequence[Path]) -> TrainerLog:
    import polars as pl

    rows, used = list[Row](), list[str]()
    for file in files:
        try:
            table = pl.read_parquet(file)
        except Exception as error:
            raise InvalidInput(f"{file} is no Parquet table: {error}") from None
        missing = {"prompt", "completion"} - set(table.columns)
        names = [c for c in table.columns if c not in _COLUMNS and table[c].dtype.is_numeric()]
        if missing or not names:
            raise InvalidInput(
                f"{file} has no prompts, completions and rewards; it has {table.columns}"
            )
        used += [name for name in names if name not in used]
        for line in table.iter_rows(named=True):
            values = [float(line[name]) for name in names if _number(line[name])]
            if values:
                step = int(line.get("step") or 0)
                rows.append(
                    Row(step, _text(line["prompt"]), _text(line["completion"]), sum(values))
                )
    return _with_groups(f"completions (Parquet; reward: {' + '.join(used)})", rows)


def _lines(file: Path) -> Iterator[Row]:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        row = _json(line, f"{file}:{number}")
        if not {"prompt", "completion"} <= set(row) or not _number(row.get("reward")):
            raise InvalidInput(
                f"{file}:{number} needs prompt, completion and a reward, got {line[:80]!r}"
            )
        yield Row(
            int(row.get("step") or 0),
            _text(row["prompt"]),
            _text(row["completion"]),
            float(row["reward"]),
        )


def _with_groups(kind: str, rows: list[Row]) -> TrainerLog:
    """Steps from rows: a group is what one step has of one prompt."""
    groups: dict[int, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.step, {}).setdefault(row.prompt, []).append(row)
    steps: list[dict[str, float]] = []
    for step, prompts in sorted(groups.items()):
        here = [row for group in prompts.values() for row in group]
        several = [group for group in prompts.values() if len(group) > 1]
        silent = [len({row.reward for row in group}) == 1 for group in several]
        told = {"step": float(step), "reward": fmean(row.reward for row in here)}
        told["length"] = fmean(len(row.completion) for row in here)
        steps.append({**told, **({"silent": fmean(silent)} if silent else {})})
    return TrainerLog(kind, steps, rows)


def _json(text: str, where: object) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{where} is no JSON object, got {text[:80]!r}")
    return found  # pyright: ignore[reportUnknownVariableType]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    """A prompt or completion as text: of messages, their contents."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(str(m.get("content", m)) if isinstance(m, dict) else str(m) for m in value)  # pyright: ignore
    return str(value)
