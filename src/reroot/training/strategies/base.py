"""What a strategy is: a rule for where a group of rollouts starts.

One group is one start prefix u and n rollouts y¹ … yⁿ ~ π(· | u) of the present policy, so that the
mean of the group's rewards is a baseline and the suffixes are on-policy given u. Whatever the
starts are, they are held fixed: with starts of law μ the reward part of an update has expectation
E_{u~μ} ∇E_{y~π(·|u)}[r(y)], the gradient of the mean reward from these starts. Tokens of u are not
trained on.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...contract import Contract, Control, Oracle, Report
from ...errors import InvalidInput
from ...types import Prefix, Reply

if TYPE_CHECKING:
    from ...access.session import Session

ROOT = Contract(Control.ROOT, Report.SAMPLE, oracles=[Oracle.REWARD])
"""Complete rollouts and their rewards: what every group needs."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a group starts.

    Attributes:
        prefix: u; no complete output.
        share: what part of a demonstration u is, where it is one.
    """

    prefix: Prefix
    share: float = 0.0


class Strategy(ABC):
    """Where groups start. ``start`` reads the state and never changes it; ``learn`` changes it.

    All groups of a step start before the first of them is learnt from, and they are learnt from in
    order, so that nothing depends on how groups are batched.

    Attributes:
        name: as ``reroot train --strategy`` takes it.
        requires: the weakest contract under which it can be run.
        from_root: whether all its groups start at the empty prefix.
        on_policy: whether the rollouts of a group follow the present policy given its start.
        per_token: whether it gives each token an advantage of its own (``credit``).
        one_session: whether ``start`` keeps what it has built in its session for later steps, so that
            all groups must start in one (``tabular_training``).
    """

    name: ClassVar[str]
    requires: ClassVar[Contract] = ROOT
    from_root: ClassVar[bool] = False
    on_policy: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    one_session: ClassVar[bool] = False

    @abstractmethod
    async def start(self, session: Session) -> Start:
        """The start of a group."""

    def learn(self, prompt: Sequence[int], start: Start, rewards: Sequence[float]) -> None:  # noqa: B027
        """Take note of the rewards of a group: those that are trained on, of rollouts that got one."""

    async def credit(
        self, session: Session, reply: Reply, rewards: Sequence[float]
    ) -> list[list[float]] | None:
        """Per rollout and generated token an advantage; ``None``: one for the whole rollout.

        Asked where sessions give the rewards; ``per_token`` strategies are refused elsewhere.
        """
        return None

    def state(self) -> dict[str, Any]:
        """What ``learn`` has changed, as JSON values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        if state:
            raise InvalidInput(f"{self} keeps no state, got {sorted(state)}")

    def settings(self) -> dict[str, Any]:
        """Name → value of what it was made with; JSON values."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.settings().items())
        return f"{self.name}({shown})" if shown else self.name


def prompt_key(prompt: Sequence[int]) -> str:
    """The name of a prompt in a strategy's state: 16 hexadecimal digits."""
    return hashlib.blake2b(np.asarray(prompt, dtype="<i8").tobytes(), digest_size=8).hexdigest()


def fraction(name: str, value: float, *, zero: bool = True) -> float:
    """A number in [0, 1], or in (0, 1] (``InvalidInput`` otherwise)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0 or (value == 0.0 and not zero):
        raise InvalidInput(f"{name} must lie in {'[' if zero else '('}0, 1], got {value!r}")
    return float(value)


def cut(session: Session, walk: Prefix, share: float) -> Prefix:
    """The first ⌊share·|walk|⌋ tokens, and fewer than all of a complete output."""
    most = len(walk) - session.is_complete(walk)
    return walk[: min(most, int(share * len(walk) + 1e-9))]
