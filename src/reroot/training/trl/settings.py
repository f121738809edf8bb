"""The settings of a training run: what each means, and what it is on the command line.

Nothing is imported for them, so that the command line can show them at once; ``config`` checks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from ...contract import Contract
    from ...tasks.base import Problem, Task
    from ..advantages import Estimator
    from ..strategies import Strategy

Generation = Literal["session", "trl"]
"""Who generates: metered sessions, or TRL's ``generate``, without one."""

HELD_OUT = 16
"""Problems of a task that are held out, unless said otherwise."""


def _setting(default: Any, text: str, kind: type = str, least: int | None = None) -> Any:
    """A field with what it means, what it is on the command line, the least that a count may be."""
    about = {"help": text, "kind": kind if least is None else int, "least": least}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What a training run is made of. Every field says what it means in its metadata."""

    model: str | Path | tuple[Any, Any] = _setting(MISSING, "smollm2, a model folder, or a hub id.")
    """In Python also a loaded (model, tokenizer), whose weights are then trained in place."""
    task: str | Task | None = _setting(
        None, "A task (see 'reroot list tasks'): a name, FILE.py:NAME, a data file, or hf:NAME."
    )
    horizon: int | None = _setting(None, "Task size; a data set has none.", least=1)
    map: str | None = _setting(
        None,
        "Which columns of a data set are what, as in "
        "prompt=question,answer=answer,demonstration=solution.",
    )
    answer: str | None = _setting(
        None,
        "How answers of a data set are compared: exact, number, math, choice, regex:PATTERN or "
        "FILE.py:FUNCTION (default: the layout decides).",
    )
    skip_bad: bool = _setting(False, "Leave out problems of a data set that cannot be used.", bool)
    strategy: str | Strategy = _setting(
        "root",
        "Where groups start, as in adaback:tau=0.5 or FILE.py:NAME (see 'reroot list strategies').",
    )
    grants: str | Contract | None = _setting(
        None,
        "Contract of every session, as in chosen/logprob (default: what the strategy requires). One "
        "that names no oracle grants those of the task.",
    )
    generation: Generation = _setting(
        "session", "session; or trl: TRL's own, from the root without a session, to compare with."
    )
    beta: float = _setting(0.0, "β, reward per nat of KL.", float)
    kl: Estimator = _setting(
        "k1_reward", "k1_reward (the gradient of the KL) or k3_loss (as in GRPO)."
    )
    steps: int = _setting(200, "Optimizer steps.", least=1)
    groups: int = _setting(8, "Start prefixes per step.", least=1)
    size: int = _setting(8, "Rollouts of each group.", least=2)
    roots: int | None = _setting(
        None,
        "Groups of each step that start at the root whatever the strategy (default: an eighth, at "
        "least one where the KL needs it).",
        least=0,
    )
    learning_rate: float = _setting(1e-5, "Of AdamW, constant.", float)
    problems: int | Sequence[Problem] = _setting(64, "Training prompts.", least=1)
    """How many of the task's; in Python also the problems themselves, instead of a task."""
    eval_problems: int | Sequence[Problem] | None = _setting(
        None, f"Held-out prompts (default {HELD_OUT}); 0: no evaluation.", least=0
    )
    """With problems of one's own: problems too, or no evaluation."""
    eval_size: int = _setting(8, "Samples of each held-out prompt.", least=1)
    eval_every: int = _setting(25, "Steps between evaluations.", least=1)
    save_every: int = _setting(25, "Steps between checkpoints.", least=1)
    budget_tokens: int | None = _setting(None, "Generated tokens that training may spend.", least=1)
    target: float | None = _setting(
        None, "Root pass@1 of an evaluation at which training ends.", float
    )
    seed: int = _setting(0, "Of problems, draws and order.", least=0)
    chat: bool = _setting(False, "Use the model's chat template.", bool)
    trust_remote_code: bool = _setting(False, "Run Python code that the model brings along.", bool)
    lora: int = _setting(0, "Rank of LoRA adapters; 0: all weights.", least=0)
    last_layers: int | None = _setting(
        None, "Train the last so many layers alone (default: all weights).", least=1
    )
    keep_completions: str = _setting(
        "8",
        "Completions of each step that are kept to be read ('reroot show'): all, none, or how many, drawn "
        "at random. It changes no result.",
    )
    trl: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further settings of ``GRPOConfig``, by name; they win."""
