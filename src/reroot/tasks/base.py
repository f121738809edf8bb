"""Problems: what is asked of a generator, and how its outputs are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import InvalidInput
from ..types import Output

RewardFunction = Callable[[Output], float]
Verifier = Callable[[Output], bool]


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt with its judge.

    Attributes:
        id: unique within a run; part of the random key, so keep it stable.
        prompt: text (encoded by the generator) or prompt tokens.
        max_tokens: the horizon H, the most tokens of an output.
        reward: outcome reward of a complete output; an output *passes* when it is at least ``pass_at``.
        verifier: process verifier: can this prefix still become a right output?
        demonstration: a right output, as text (stop text included) or tokens.
        unique: the demonstration is, up to negligible mass, the one right token string, so that its
            probability is the pass probability of one rollout.
        stop: texts that end an output.
        horizon: the task's horizon knob (terms, words, digits), for tables and figures.
        pass_at: reward from which an output passes.
        answer: what to show as the right answer, if there is one.
    """

    id: str
    prompt: str | tuple[int, ...]
    max_tokens: int
    reward: RewardFunction
    verifier: Verifier | None = None
    demonstration: str | tuple[int, ...] | None = None
    unique: bool = False
    stop: tuple[str, ...] = ()
    horizon: int = 0
    pass_at: float = 1.0
    answer: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidInput("a problem needs a non-empty id")
        if isinstance(self.max_tokens, bool) or self.max_tokens < 1:
            raise InvalidInput(
                f"problem {self.id!r}: max_tokens must be an integer >= 1, got {self.max_tokens!r}"
            )


class Task(Protocol):
    """A family of problems with a horizon knob."""

    @property
    def name(self) -> str:
        """Registry name, with parameters where it has any."""
        ...

    def problems(self, horizon: int, count: int, seed: int) -> Sequence[Problem]:
        """``count`` problems of size ``horizon``; the same arguments give the same problems."""
        ...
