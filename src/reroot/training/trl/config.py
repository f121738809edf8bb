"""The settings of ``reroot train``: from a YAML file, from the command line, checked together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ...checks import check_between, check_float, check_int
from ...errors import InvalidInput, nearest
from ...types import Budget
from ..advantages import KL, Estimator
from ..strategies import Strategy, parse

Generation = Literal["session", "trl"]
"""Who generates: metered sessions, or TRL's ``generate``, without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a training run is made of; runs with equal settings have equal results.

    Attributes:
        model: ``smollm2``, a model folder, or a hub id.
        task: task name, as for ``reroot compare``.
        horizon: task size.
        strategy: where groups start, as in ``adaback:tau=0.5``.
        grants: contract of every session; ``None``: what the strategy requires.
        generation: ``session``; or ``trl``: TRL's own ``generate``, from the root, to compare with.
        beta, kl: the KL term (``KL``).
        steps: optimizer steps.
        groups, size: start prefixes per step, and rollouts of each.
        roots: groups of each step that start at the empty prefix; ``None``: an eighth of them, at
            least one where the KL needs it.
        learning_rate: of AdamW; constant, no weight decay.
        problems: training prompts.
        eval_problems, eval_size: held-out prompts, and samples of each; 0 prompts: no evaluation.
        eval_every, save_every: in steps.
        budget_tokens: generated tokens that training may spend; ``None``: no limit.
        target: root pass@1 of an evaluation at which training ends; ``None``: never.
        seed: of problems, draws and order.
        chat: put prompts through the model's chat template.
        trust_remote_code: let code that the model's folder brings along run.
        lora: rank of LoRA adapters (PEFT); 0: none.
        last_layers: train the last so many layers alone, which spares the backward passes of the
            others; ``None``: all weights.
        trl: further settings of ``GRPOConfig``, by name; they win.

    Raises:
        InvalidInput: a value is out of range.
    """

    model: str
    task: str
    horizon: int
    strategy: str = "root"
    grants: str | None = None
    generation: Generation = "session"
    beta: float = 0.0
    kl: Estimator = "k1_reward"
    steps: int = 200
    groups: int = 8
    size: int = 8
    roots: int | None = None
    learning_rate: float = 1e-5
    problems: int = 64
    eval_problems: int = 16
    eval_size: int = 8
    eval_every: int = 25
    save_every: int = 25
    budget_tokens: int | None = None
    target: float | None = None
    seed: int = 0
    chat: bool = False
    trust_remote_code: bool = False
    lora: int = 0
    last_layers: int | None = None
    trl: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        for name in ("model", "task", "strategy"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InvalidInput(f"{name} must be a text, got {getattr(self, name)!r}")
        least = {"horizon": 1, "steps": 1, "groups": 1, "size": 2, "problems": 1, "lora": 0}
        least |= {"eval_problems": 0, "eval_size": 1, "eval_every": 1, "save_every": 1, "seed": 0}
        for name, lowest in least.items():
            check_int(name, getattr(self, name), lowest)
        check_between("learning_rate", self.learning_rate, 0.0, math.inf)
        for name in ("budget_tokens", "last_layers"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1)
        if self.target is not None and not 0 < check_float("target", self.target) <= 1:
            raise InvalidInput(f"target must lie in (0, 1], got {self.target!r}")
        if self.roots is not None:
            check_int("roots", self.roots, 0, self.groups)
        if not isinstance(self.trl, Mapping):
            raise InvalidInput(f"trl must map names to values, got {self.trl!r}")
        KL(self.beta, self.kl)
        self._check_generation()

    def _check_generation(self) -> None:
        strategy = self.make_strategy()
        if self.generation not in get_args(Generation):
            raise InvalidInput(
                f"unknown generation {self.generation!r}.{nearest(str(self.generation), get_args(Generation))}"
            )
        if self.generation == "session":
            return
        if strategy.name != "root":
            raise InvalidInput(
                f"generation 'trl' starts at the root: strategy must be 'root', got {strategy}"
            )
        if KL(self.beta, self.kl).needs_root:
            raise InvalidInput(
                f"generation 'trl' knows no KL in the reward: with β = {self.beta} kl must be 'k3_loss'"
            )

    def make_strategy(self) -> Strategy:
        """The strategy, new."""
        return parse(self.strategy)

    @property
    def arm(self) -> str:
        """Short name of what sets the run apart: the strategy's, and who generates."""
        name = self.make_strategy().name
        return name if self.generation == "session" else f"{name}_{self.generation}"

    @property
    def root_groups(self) -> int:
        """Groups of each step that start at the empty prefix whatever the strategy."""
        if self.roots is not None:
            return self.roots
        if self.make_strategy().from_root:
            return 0
        return max(self.groups // 8, int(KL(self.beta, self.kl).needs_root))

    @property
    def budget(self) -> Budget:
        """The most that training may spend."""
        return Budget(tokens=self.budget_tokens)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def read_config(file: Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """Settings of a YAML file, and over them those given on the command line.

    Args:
        file: maps names to values.
        given: name → value; ``None``: not given.

    Raises:
        InvalidInput: the file is none, an unknown name, a missing or bad value.
    """
    values = {} if file is None else _read(file)
    values |= {name: value for name, value in given.items() if value is not None}
    known = {f.name: f for f in dataclasses.fields(TrainConfig)}
    for name in values:
        if name not in known:
            raise InvalidInput(f"unknown setting {name!r}.{nearest(str(name), known)}")
    missing = [
        n
        for n, f in known.items()
        if n not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidInput(f"training needs {' and '.join(missing)} (see reroot train --help)")
    hints = get_type_hints(TrainConfig)
    for name, value in values.items():
        if hints[name] is float and isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
    return TrainConfig(**values)


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"can't read {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{file} is no YAML: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} must map names to values, got {found!r}")
    return found
