"""The settings of a training run: said once here, for ``reroot.train``, the command line and YAML files.

Nothing here loads torch: what is wrong with a setting is said before anything heavy is imported.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from ..._version import __version__
from ...checks import check_between, check_float, check_int
from ...contract import Contract, Sampling
from ...errors import InvalidInput, nearest
from ...specs import fingerprint, parse
from ...tasks.base import Problem
from ...tasks.data.task import DataTask
from ...tasks.registry import get_task, is_data, with_settings
from ...types import Budget
from ..advantages import KL
from ..granting import check_on_policy, granted, oracles_of
from ..strategies import Strategy, get_strategy
from .completions import kept_count
from .problems import prompt_of
from .settings import HELD_OUT, Generation, TrainSettings
from .yaml_files import read_yaml

CHECKPOINTS, MODEL = "checkpoints", "model"
"""Subfolders of a run: TRL's checkpoints, and the final weights."""
_NO_RESULT = ("keep_completions",)
"""Settings that change no result: a run may be continued with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(TrainSettings):
    """What a training run is made of; runs with equal settings have equal results.

    Every field says what it means in its metadata, which ``reroot train --help`` shows.

    Raises:
        InvalidInput: a value is not what is expected, or two do not go together.
    """

    _strategy: Strategy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_kinds()
        self._settle_task()
        check_between("learning_rate", self.learning_rate, 0.0, math.inf)
        if self.target is not None and not 0 < check_float("target", self.target) <= 1:
            raise InvalidInput(f"target must lie in (0, 1], got {self.target!r}")
        if self.roots is not None:
            check_int("roots", self.roots, 0, self.groups)
        KL(self.beta, self.kl)
        object.__setattr__(self, "keep_completions", str(self.keep_completions))
        kept_count(self.keep_completions)
        object.__setattr__(self, "_strategy", get_strategy(self.strategy))
        self._check_problems()
        self._check_generation()

    def _check_kinds(self) -> None:
        for f in dataclasses.fields(self)[:-2]:
            value, least = getattr(self, f.name), f.metadata["least"]
            own = f.name in ("problems", "eval_problems") and not isinstance(value, (int, float))
            if value is None and f.default is None:
                continue
            if own:
                object.__setattr__(self, f.name, _own_problems(value))
            elif least is not None:
                check_int(f.name, value, least)
            elif f.metadata["kind"] is bool and not isinstance(value, bool):
                raise InvalidInput(f"{f.name} must be true or false, got {value!r}")
            elif f.metadata["kind"] is float and type(value) is int:
                object.__setattr__(self, f.name, float(value))
        pair = isinstance(self.model, tuple) and len(self.model) == 2
        if not (pair or (isinstance(self.model, (str, Path)) and str(self.model))):
            raise InvalidInput(
                f"model must be a name, a folder or a (model, tokenizer), got {self.model!r:.200}"
            )
        if not (self.task is None or isinstance(self.task, str) or hasattr(self.task, "problems")):
            raise InvalidInput(f"task must be a name or a Task, got {self.task!r}")
        if not isinstance(self.trl, Mapping) or not all(isinstance(k, str) for k in self.trl):
            raise InvalidInput(f"trl must map names to values, got {self.trl!r}")

    def _settle_task(self) -> None:
        """Settings of a data set become a part of the task's name, which all else goes by."""
        given = {"map": self.map, "answer": self.answer, "skip_bad": self.skip_bad or None}
        given = {name: value for name, value in given.items() if value is not None}
        if not given:
            return
        if not isinstance(self.task, str) or not is_data(parse(self.task, "task").name):
            raise InvalidInput(f"{', '.join(given)}: for data sets, and the task is {self.task!r}")
        set_field = object.__setattr__
        set_field(self, "task", str(with_settings(self.task, given)))
        for name, value in (("map", None), ("answer", None), ("skip_bad", False)):
            set_field(self, name, value)

    @property
    def _sized(self) -> bool:
        """Whether the task has a horizon knob."""
        if isinstance(self.task, str):
            return not is_data(parse(self.task, "task").name)
        return getattr(self.task, "has_horizon", True)

    def _check_problems(self) -> None:
        if isinstance(self.problems, tuple):
            if self.task is not None or self.horizon is not None:
                raise InvalidInput("give a task and its horizon, or problems of your own: not both")
            if isinstance(self.eval_problems, int) and self.eval_problems:
                raise InvalidInput(
                    f"eval_problems={self.eval_problems} are of a task; with problems of your own "
                    "give problems here too"
                )
        else:
            _need({n: getattr(self, n) for n in ("task", *["horizon"] * self._sized)})
            if self.horizon is not None and not self._sized:
                raise InvalidInput(f"horizon={self.horizon}: the task {self.task} has no such knob")
        if self.target is not None and not self.eval_count:
            raise InvalidInput(f"target={self.target} is of an evaluation, and there is none")

    def _check_generation(self) -> None:
        if self.generation not in get_args(Generation):
            raise InvalidInput(
                f"unknown generation {self.generation!r}.{nearest(str(self.generation), get_args(Generation))}"
            )
        if self.generation == "session":
            return
        if self._strategy.name != "root":
            raise InvalidInput(
                f"generation 'trl' starts at the root: strategy must be 'root', got {self._strategy}"
            )
        if self.chat:
            raise InvalidInput("generation 'trl' is on plain prompts: chat must be off")
        if self.trl.get("use_vllm"):
            raise InvalidInput(
                "generation 'trl' is TRL's generate: use_vllm needs generation 'session'"
            )
        if KL(self.beta, self.kl).needs_root:
            raise InvalidInput(
                f"generation 'trl' knows no KL in the reward: with β = {self.beta} kl must be 'k3_loss'"
            )

    def make_strategy(self) -> Strategy:
        """The strategy, as it was given: what it learns stays in this one."""
        return deepcopy(self._strategy)

    @property
    def arm(self) -> str:
        """Short name of what sets the run apart: the strategy's, and who generates."""
        name = self._strategy.name
        return name if self.generation == "session" else f"{name}_{self.generation}"

    @property
    def root_groups(self) -> int:
        """Groups of each step that start at the empty prefix whatever the strategy."""
        if self.roots is not None:
            return self.roots
        if self._strategy.from_root:
            return 0
        return max(self.groups // 8, int(KL(self.beta, self.kl).needs_root))

    @property
    def budget(self) -> Budget:
        """The most that training may spend."""
        return Budget(tokens=self.budget_tokens)

    @property
    def eval_count(self) -> int:
        """How many problems are held out; 0: there is no evaluation."""
        if self.eval_problems is None:
            return 0 if isinstance(self.problems, tuple) else HELD_OUT
        return (
            self.eval_problems if isinstance(self.eval_problems, int) else len(self.eval_problems)
        )

    # ---- what they stand for ---------------------------------------------------------------------

    def training_problems(self, count: int | None = None) -> list[Problem]:
        """What is trained on, or the first ``count`` of it; of a task each problem once."""
        if not isinstance(self.problems, int):
            return list(self.problems)
        return _distinct(self._made(count or self.problems, self.seed))

    def held_out_problems(self) -> list[Problem]:
        """Problems of another seed, without the prompts that are trained on; if there are others."""
        if self.eval_problems is not None and not isinstance(self.eval_problems, int):
            return list(self.eval_problems)
        trained = self.training_problems()
        known, count = {prompt_of(p) for p in trained}, self.eval_count
        others = _distinct(self._made(count, self.seed + 1))
        found = [p for p in others if prompt_of(p) not in known]
        if len(found) < count:  # a small task has some that this seed did not hit on
            more = _distinct([*others, *self._made(count + len(trained), self.seed + 1)])
            found = [p for p in more if prompt_of(p) not in known][:count]
        return found or others

    def remarks(self) -> list[str]:
        """What the task has too little of, in words."""
        found: list[str] = []
        trained = self.training_problems()
        if isinstance(self.problems, int) and len(trained) < self.problems:
            made = len(self._made(self.problems, self.seed))
            twice = made - len(trained)
            why = f"{twice} of {made} repeat others" if twice else "the task has no others"
            found.append(f"trains on {len(trained)} problems, not {self.problems}: {why}")
        if not isinstance(self.eval_problems, (int, NoneType)) or not self.eval_count:
            return found
        held, known = self.held_out_problems(), {prompt_of(p) for p in trained}
        if prompt_of(held[0]) in known:
            found.append(
                "evaluates on problems that are trained on: the task has no others (--problems trains on fewer)"
            )
        elif len(held) < self.eval_count:
            found.append(
                f"evaluates on {len(held)} problems, not {self.eval_count}: the task has no others"
            )
        return found

    def _made(self, count: int, seed: int) -> Sequence[Problem]:
        task = get_task(self.task) if isinstance(self.task, str) else self.task
        assert task is not None
        found = task.problems(self.horizon or 0, count, seed)
        if isinstance(task, DataTask):
            found = task.usable(found)[0]
        if count and not found:
            raise InvalidInput(f"the task {self.task} has no problems at horizon {self.horizon}")
        return found

    @property
    def contract(self) -> Contract:
        """The contract of every session.

        Raises:
            InvalidInput: not a contract, or a sampling law that training cannot follow.
            AccessDenied: the strategy requires more.
        """
        have = oracles_of(self.training_problems(1))
        found = granted(self.grants, self._strategy, have)
        assert found.sampling is not None
        check_on_policy(found, Sampling(found.sampling.temperature))
        return found

    @property
    def folder(self) -> Path:
        """Where a run goes if nobody says where."""
        parts = [Path(str(_as_json(self.model))).name, self.to_dict()["task"] or "own", self.arm]
        return Path("runs") / re.sub(r"[^\w.+-]+", "-", f"train-{'-'.join(parts)}")

    def to_dict(self) -> dict[str, Any]:
        """Its settings as JSON values."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[:-1]}
        return {name: _as_json(value) for name, value in found.items()}

    def identity(self) -> dict[str, Any]:
        """What a run folder is of, as written to its ``config.json``."""
        from ...runs.run import problems_digest

        problems = self.training_problems()
        own = [] if isinstance(self.eval_problems, (int, NoneType)) else self.eval_problems
        return {
            "kind": "train",
            "version": __version__,
            **{k: v for k, v in self.to_dict().items() if k not in _NO_RESULT},
            "horizon": self._shown_horizon(problems),
            "eval_problems": self.eval_count,
            "digest": problems_digest([*problems, *own]),
            "strategy": str(self._strategy),
            "code": fingerprint(type(self._strategy)),
            "arm": self.arm,
            "contract": str(self.contract),
            "budget": self.budget.to_dict(),
            "command": self.command(),
        }

    def _shown_horizon(self, problems: Sequence[Problem]) -> int:
        """Of figures and tables; 0: the task has no such knob."""
        if self.task is not None:
            return self.horizon or 0
        return max(p.horizon or p.max_tokens for p in problems)

    def command(self) -> str:
        """The shell command of these settings; where objects were given, a hint at Python."""
        words = ["reroot", "train"]
        for f in dataclasses.fields(self)[:-2]:
            value = getattr(self, f.name)
            if value == f.default or f.name in _NO_RESULT:
                continue
            if not isinstance(value, (str, int, float, Path, Contract)):
                return "reroot.train(…) in Python"
            words += [f"--{f.name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return shlex.join(words)


def _need(values: Mapping[str, Any]) -> None:
    if missing := [name for name, value in values.items() if value is None]:
        raise InvalidInput(f"training needs {' and '.join(missing)} (see reroot train --help)")


def _own_problems(value: Any) -> tuple[Problem, ...]:
    from ...runs.inputs import problems_of

    if not (found := problems_of(value)):
        raise InvalidInput("there are no problems to train on")
    return tuple(found)


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    """The problems without repetitions: small tasks have few."""
    found: dict[tuple[Any, ...], Problem] = {}
    for problem in problems:
        found.setdefault((prompt_of(problem), problem.demonstration, problem.answer), problem)
    return list(found.values())


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple) and isinstance(value[0], Problem):
        return len(value)
    if isinstance(value, tuple):  # a loaded model and its tokenizer
        from ...generators import causal_model

        name = Path(value[0].config._name_or_path).name
        return f"{name} {causal_model.fingerprint(value[0])}".strip()
    if isinstance(value, (Path, Contract, Strategy)):
        return str(value)
    return value.name if hasattr(value, "problems") else value  # a task


# ---- from names and files ------------------------------------------------------------------------


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Settings by name.

    Raises:
        InvalidInput: an unknown name, a missing or bad value.
    """
    known = [f.name for f in dataclasses.fields(TrainConfig) if f.init]
    for name in values:
        if name not in known:
            raise InvalidInput(f"unknown setting {name!r}.{nearest(str(name), known)}")
    own = isinstance(values.get("problems", 0), (list, tuple))
    _need({n: values.get(n) for n in ("model", *(() if own else ("task",)))})
    return TrainConfig(**values)


def read_config(file: Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """Settings of a YAML file, and over them those given on the command line.

    Args:
        file: maps names to values.
        given: name → value; ``None``: not given.

    Raises:
        InvalidInput: the file is none, an unknown name, a missing or bad value.
    """
    values = {} if file is None else read_yaml(file)
    return make_config(values | {name: v for name, v in given.items() if v is not None})
