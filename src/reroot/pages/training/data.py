"""Training runs read back from their folders and checked; where each stands, and what to call it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...contract import Contract
from ...errors import InvalidInput, RunFolderError
from ...runs.folder import CONFIG, JOURNAL, read_config, read_journal
from ...types import FloatArray

KIND = "train"
TAIL = 10
"""Numbers of "the last steps" are means over this many."""

_NUMBERS = ("root", "prefix", "kl", "zero_variance", "groups", "start", "longest", "building")
"""What a step may say besides its number and tokens; each may be null."""

_ALWAYS = ("task", "horizon", "seed", "beta", "model")
"""Settings that a label names whenever they differ."""

_IF_ALIKE = ("kl", "learning_rate", "groups", "size", "steps", "budget", "contract")
"""Settings that a label names where two labels would be the same without."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """A training run on disk, finished or not.

    Attributes:
        folder: the run folder.
        config: ``config.json``.
        contract: what its session was granted.
        steps: the lines of its steps, ascending.
        evaluations: the lines of its evaluations, ascending by step.
        events: the lines of its events, ascending by step.
        end: the closing line; ``None``: not finished.
    """

    folder: Path
    config: dict[str, Any]
    contract: Contract
    steps: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...]
    end: dict[str, Any] | None

    @property
    def arm(self) -> str:
        """Short name of its strategy."""
        return str(self.config["arm"])

    @property
    def tokens(self) -> int:
        """Tokens generated so far."""
        lines = (*self.steps, *self.evaluations, *([self.end] if self.end else []))
        return int(max(line.get("tokens") or 0 for line in lines))

    @property
    def done(self) -> int:
        """The last step that was done or evaluated."""
        return max(line["step"] for line in (*self.steps, *self.evaluations))

    @property
    def spent(self) -> Mapping[str, float]:
        """Currency → what was spent so far."""
        return (self.steps[-1].get("spent") or {}) if self.steps else {}

    def column(self, name: str) -> FloatArray:
        """A number of every step; nan where there is none."""
        return _floats(line.get(name) for line in self.steps)

    def tail(self, name: str) -> float | None:
        """Mean over the last ``TAIL`` steps that have the number."""
        known = self.column(name)
        known = known[np.isfinite(known)][-TAIL:]
        return float(known.mean()) if len(known) else None

    def zero_variance(self, last: int | None = None) -> float | None:
        """Share of the groups of all steps, or of the last ones, in which all rewards were equal."""
        equal, groups = self.column("zero_variance"), self.column("groups")
        known = np.isfinite(equal) & (groups > 0)
        counted = slice(-last if last else None, None)
        equal, groups = equal[known][counted], groups[known][counted]
        return float(equal.sum() / groups.sum()) if len(groups) else None

    def building(self) -> float | None:
        """Tokens that went into building start prefixes, part of all; ``None``: not recorded."""
        known = self.column("building")
        return float(np.nansum(known)) if np.isfinite(known).any() else None


def load_training(folder: str | Path) -> TrainingRun:
    """Read and check the folder of a training run; it may still be running.

    Raises:
        RunFolderError: a file is missing, unreadable or damaged, it is the folder of something
            else than a training run, or nothing has been measured yet.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunFolderError(f"{path} is not a folder")
    lines = read_journal(path / JOURNAL, lambda line: line["name"], checked_line)
    return training_run(path, read_config(path), list(lines.values()))


def training_run(path: Path, config: Any, lines: Sequence[dict[str, Any]]) -> TrainingRun:
    """A run from its configuration and its checked lines.

    Raises:
        RunFolderError: see ``load_training``.
    """
    kind = config.get("kind") if isinstance(config, dict) else config
    if kind != KIND:
        raise RunFolderError(
            f"{path} holds no training run: {CONFIG} says kind {kind!r}, expected {KIND!r}"
        )
    contract = _checked_config(config, path / CONFIG)
    kinds = {
        kind: tuple(sorted((x for x in lines if _kind(x) == kind), key=lambda x: x["step"]))
        for kind in ("step", "eval", "event", "end")
    }
    if not kinds["step"] and not kinds["eval"]:
        raise RunFolderError(f"{path} holds no step and no evaluation yet: nothing to report")
    end = kinds["end"][-1] if kinds["end"] else None
    return TrainingRun(path, config, contract, kinds["step"], kinds["eval"], kinds["event"], end)


def _checked_config(config: Mapping[str, Any], file: Path) -> Contract:
    arm, horizon, budget = (config.get(key) for key in ("arm", "horizon", "budget"))
    if not isinstance(arm, str) or not arm:
        raise RunFolderError(f"{file}: arm must be a name such as 'root', got {arm!r}")
    if not isinstance(horizon, int):
        raise RunFolderError(f"{file}: horizon must be an integer, got {horizon!r}")
    if budget is not None and not isinstance(budget, dict):
        raise RunFolderError(f"{file}: budget must map currencies to amounts, got {budget!r}")
    try:
        return Contract.parse(config.get("contract"))  # pyright: ignore[reportArgumentType]
    except InvalidInput as error:
        raise RunFolderError(f"{file}: {error}") from None


# ---- the journal ---------------------------------------------------------------------------------


def _kind(line: Mapping[str, Any]) -> str:
    return line["name"].partition("/")[0]


def checked_line(line: Any) -> dict[str, Any]:
    """The line, numbers that are not finite as ``None``; else ``ValueError`` or ``TypeError``."""
    if not isinstance(line, dict) or not isinstance(line.get("name"), str):
        raise ValueError(f"expected an object with a name, got {line!r}")
    kind = _kind(line)
    if kind not in ("step", "eval", "event", "end"):  # for others than reports
        return line
    step = line.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError(f"step must be an integer >= 0, got {step!r}")
    if kind in ("step", "eval", "end"):
        line["tokens"] = _number("tokens", line.get("tokens"))
    if kind == "step":
        if "silent" in line:  # what recorded runs call it
            line["zero_variance"] = line.pop("silent")
        line.update({name: _number(name, line.get(name)) for name in _NUMBERS})
        line["spent"] = _numbers("spent", line.get("spent"))
    if kind == "eval":
        _check_passes(line)
        horizons = line.get("horizons") or {}
        if not isinstance(horizons, dict):
            raise ValueError(f"horizons must map horizons to rates, got {horizons!r}")
        for part in horizons.values():
            _check_passes(part)
        line["horizons"] = {int(horizon): part for horizon, part in horizons.items()}
    return line


def _check_passes(part: Any) -> None:
    """Makes ``root`` and ``prefix`` of an evaluation, or of a horizon of it, k → pass@k."""
    if not isinstance(part, dict):
        raise ValueError(f"expected an object with root and prefix, got {part!r}")
    for name in ("root", "prefix"):
        rates = _numbers(name, part.get(name))
        known = sorted((int(k), rate) for k, rate in rates.items() if rate is not None)
        part[name] = dict(known)


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number or null, got {value!r}")
    return value if math.isfinite(value) else None


def _numbers(name: str, values: Any) -> dict[str, float | None]:
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{name} must map names to numbers, got {values!r}")
    return {key: _number(f"{name} {key}", value) for key, value in (values or {}).items()}


def _floats(values: Any) -> FloatArray:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


# ---- where a run stands --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passes:
    """What an evaluation found. Rates are shares of 1; ``None``: not measured.

    Attributes:
        step, tokens: when.
        problems, n: problems, and samples of each.
        k: the largest k of pass@k from the root.
        root, root_k: pass@1 and pass@k from the empty prefix.
        prefix, prefix_k: the same from the training prefixes.
    """

    step: int
    tokens: float | None
    problems: int | None
    n: int | None
    k: int | None
    root: float | None
    root_k: float | None
    prefix: float | None
    prefix_k: float | None

    @property
    def gap(self) -> float | None:
        """The transfer gap: pass@1 from the training prefixes minus pass@1 from the root."""
        if self.root is None or self.prefix is None:
            return None
        return self.prefix - self.root

    @property
    def error(self) -> float | None:
        """About the largest standard error of pass@1 from the root over the draw of problems.

        A problem's pass rate lies in 0 … 1, so its variance is at most p(1 − p). One problem that
        passes and one that fails are added to estimate p here: a few failures do not show 0.
        """
        if self.root is None or not self.problems:
            return None
        p = (self.root * self.problems + 1) / (self.problems + 2)
        return math.sqrt(max(p * (1 - p), 0.0) / self.problems)


def passes(line: Mapping[str, Any]) -> Passes:
    """The numbers of an evaluation's line."""
    root, prefix = line["root"], line["prefix"]
    k = max(root, default=None)
    found = (root.get(1), root.get(k), prefix.get(1), prefix.get(k))
    return Passes(line["step"], line["tokens"], line.get("problems"), line.get("n"), k, *found)


def last_passes(run: TrainingRun, within: float = math.inf) -> Passes | None:
    """The last evaluation, or the last within so many tokens; ``None``: there is none."""
    lines = [x for x in run.evaluations if within == math.inf or (x["tokens"] or 0) <= within]
    return passes(lines[-1]) if lines else None


def horizon_passes(run: TrainingRun) -> dict[int, dict[str, dict[int, float]]]:
    """Horizon → ``root`` and ``prefix`` → k → pass@k, at the last evaluation; where there are any."""
    if not run.evaluations:
        return {}
    last = run.evaluations[-1]
    parts = last["horizons"] or {run.config["horizon"]: last}
    rates = {h: {x: parts[h][x] for x in ("root", "prefix")} for h in sorted(parts)}
    return {h: part for h, part in rates.items() if part["root"] or part["prefix"]}


def state(run: TrainingRun) -> str:
    """How far a run is, or why it ended."""
    if run.end is None:
        planned = run.config.get("steps")
        return f"unfinished: step {run.done}{f' of {planned}' if planned else ''}"
    step, reason = run.end["step"], str(run.end.get("reason"))
    if reason == "steps":
        return f"all {step} steps done"
    said = {"budget": "budget spent", "target": "target reached"}
    return f"{said.get(reason, reason)} at step {step}"


# ---- several runs --------------------------------------------------------------------------------


def differing(runs: Sequence[TrainingRun], keys: Sequence[str]) -> list[str]:
    """Which of these settings are not the same in all runs."""
    return [key for key in keys if len({_plain(run.config.get(key)) for run in runs}) > 1]


def labels(runs: Sequence[TrainingRun]) -> list[str]:
    """A name for each run: its arm and what sets it apart, as in ``adaback, seed 1``."""
    told = differing(runs, _ALWAYS)
    found = [", ".join([_arm(run, runs), *(_said(run, key) for key in told)]) for run in runs]
    for key in (*_IF_ALIKE, "folder", "path"):
        many = Counter(found)
        for text in [text for text, count in many.items() if count > 1]:
            here = [i for i, other in enumerate(found) if other == text]
            if len({_said(runs[i], key) for i in here}) > 1:
                for i in here:
                    found[i] += f", {_said(runs[i], key)}"
    return found


def _arm(run: TrainingRun, runs: Sequence[TrainingRun]) -> str:
    """The arm, or the whole strategy where runs of this arm differ in it."""
    same = [other for other in runs if other.arm == run.arm]
    return str(run.config["strategy"]) if differing(same, ("strategy",)) else run.arm


def model_of(run: TrainingRun) -> str:
    """The model's name; of a folder its last part."""
    return Path(str(run.config.get("model", "?"))).name


def _said(run: TrainingRun, key: str) -> str:
    if key in ("folder", "path"):
        return run.folder.name if key == "folder" else str(run.folder)
    value = run.config.get(key)
    if key in ("task", "contract"):
        return str(value)
    if key == "model":
        return model_of(run)
    names = {"beta": "β", "kl": "KL", "learning_rate": "learning rate", "size": "group size"}
    return f"{names.get(key, key)} {value if isinstance(value, str) else _plain(value)}"


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
