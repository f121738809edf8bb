"""Starts that come from an oracle besides the outcome reward: a verifier, or demonstrations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ...checks import check_int
from ...contract import Contract, Control, Oracle, Report
from ...errors import InvalidInput
from ...learners.verified import verified_prefix
from ...types import Prefix
from .base import Start, Strategy, cut, fraction, prompt_key
from .self_built import Walk

if TYPE_CHECKING:
    from ...access.session import Session

_DEMONSTRATED = Contract(
    Control.CHOSEN, Report.SAMPLE, oracles=[Oracle.REWARD, Oracle.DEMONSTRATION]
)


class Verified(Walk):
    """A prefix of random length that the process verifier accepts token by token.

    Tokens are drawn until one is accepted (tokenwise rejection, arXiv 2502.12123); where none is
    after ``tries`` draws the last token is erased, at most ``quota`` times. Training is on the
    on-policy suffix alone.

    Args:
        tries: most draws at one prefix.
        quota: how often a token is erased.

    Raises:
        InvalidInput: a number is out of range.
    """

    name = "verified"
    requires = Contract(Control.VISITED, Report.SAMPLE, oracles=[Oracle.REWARD, Oracle.VERIFIER])

    def __init__(self, tries: int = 64, quota: int = 8) -> None:
        self.tries = check_int("tries", tries, 1)
        self.quota = check_int("quota", quota)

    async def walk(self, session: Session, length: int) -> Prefix:
        return await verified_prefix(session, length, self.tries, self.quota)


class Demonstrated(Strategy):
    """Starts at a cut of a demonstration.

    Args:
        demonstrations: prompt → demonstration, as text, where the training data brings none.

    Raises:
        InvalidInput: they are no mapping.
    """

    requires = _DEMONSTRATED

    def __init__(self, demonstrations: Mapping[str, str] | None = None) -> None:
        if not isinstance(demonstrations, (Mapping, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"demonstrations must map prompts to texts, got {demonstrations!r}")
        self._demonstrations = dict(demonstrations or {})

    @property
    def demonstrations(self) -> Mapping[str, str]:
        """Prompt → demonstration."""
        return self._demonstrations

    async def start(self, session: Session) -> Start:
        share = self.share(session)
        if not share:
            return Start(session.root)
        return Start(cut(session, await session.demonstration(), share), share)

    @abstractmethod
    def share(self, session: Session) -> float:
        """The share of the demonstration's tokens to start after."""


class AdaBack(Demonstrated):
    """Demonstration prefixes whose length adapts to each prompt (arXiv 2506.18110).

    Each prompt has an interval [lo, hi] of shares, drawn from uniformly; with probability ``rootward``
    the share is 0 instead. A mean reward of at least ``tau`` after share ρ sets hi = ρ and lo = 0, a
    lower one sets lo = ρ. New prompts begin with averages over all, [0, 1] at first. Where the paper
    says nothing: shares of 0 that were not drawn from the interval never raise lo.

    Args:
        demonstrations: prompt → demonstration, as text, where the training data brings none.
        tau: the mean reward that counts as success.
        rootward: how often a group starts at the empty prefix whatever the interval.
        smoothing: weight of the newest interval in the averages.

    Raises:
        InvalidInput: a number is out of range.
    """

    name = "adaback"

    def __init__(
        self,
        demonstrations: Mapping[str, str] | None = None,
        *,
        tau: float = 0.5,
        rootward: float = 0.1,
        smoothing: float = 0.05,
    ) -> None:
        super().__init__(demonstrations)
        self.tau = fraction("tau", tau, zero=False)
        self.rootward = fraction("rootward", rootward)
        self.smoothing = fraction("smoothing", smoothing)
        self._intervals: dict[str, tuple[float, float]] = {}
        self._mean = (0.0, 1.0)

    def share(self, session: Session) -> float:
        low, high = self._intervals.get(prompt_key(session.prompt), self._mean)
        if session.rng.random() < self.rootward:
            return 0.0
        return float(low + (high - low) * session.rng.random())

    def learn(self, prompt: Sequence[int], start: Start, rewards: Sequence[float]) -> None:
        key, share = prompt_key(prompt), start.share
        low, high = self._intervals.get(key, self._mean)
        if sum(rewards) >= self.tau * len(rewards):
            low, high = 0.0, share
        elif share:
            low, high = min(share, high), high
        self._intervals[key] = (low, high)
        new, old = self.smoothing, 1.0 - self.smoothing
        self._mean = (old * self._mean[0] + new * low, old * self._mean[1] + new * high)

    def state(self) -> dict[str, Any]:
        intervals = {key: list(interval) for key, interval in self._intervals.items()}
        return {"intervals": intervals, "mean": list(self._mean)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._intervals = {key: (low, high) for key, (low, high) in state["intervals"].items()}
        self._mean = (state["mean"][0], state["mean"][1])


class R3(Demonstrated):
    """Reverse curriculum: demonstrations cut at M + 1 evenly spaced places (arXiv 2402.05808).

    Args:
        demonstrations: prompt → demonstration, as text, where the training data brings none.
        stages: M; the places are shares 0, 1/M, …, (M − 1)/M.
        schedule: ``"mixed"``: each group at a uniformly random place; ``"staged"``: all at one place,
            from the last one down to 0, and at 0 from then on.
        visits: groups per stage, where staged.

    Raises:
        InvalidInput: a number is below 1, or an unknown schedule.
    """

    name = "r3"

    def __init__(
        self,
        demonstrations: Mapping[str, str] | None = None,
        *,
        stages: int = 8,
        schedule: Literal["mixed", "staged"] = "mixed",
        visits: int = 256,
    ) -> None:
        super().__init__(demonstrations)
        if schedule not in ("mixed", "staged"):
            raise InvalidInput(f"schedule must be 'mixed' or 'staged', got {schedule!r}")
        self.stages = check_int("stages", stages, 1)
        self.schedule = schedule
        self.visits = check_int("visits", visits, 1)
        self._seen = 0

    def share(self, session: Session) -> float:
        if self.schedule == "mixed":
            return int(session.rng.integers(self.stages)) / self.stages
        return max(0, self.stages - 1 - self._seen // self.visits) / self.stages

    def learn(self, prompt: Sequence[int], start: Start, rewards: Sequence[float]) -> None:
        self._seen += 1

    def state(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._seen = int(state["seen"])


class POPE(Demonstrated):
    """Guided groups start after the shortest demonstration prefix that was seen to suffice.

    After POPE (arXiv 2601.18779): a mixture of unguided groups and groups guided by a minimally
    sufficient prefix, trained on the completion alone. Each prompt begins at the shortest of M
    shares; a guided group without any reward moves it to the next longer one. As the policy gets
    better a rewarded guided group tries the next shorter share again. Here guidance is the prefix
    itself, not an instruction about it. (How the authors search for the prefix is not known to us.)

    Args:
        demonstrations: prompt → demonstration, as text, where the training data brings none.
        stages: M; shares 1/M, …, (M − 1)/M.
        guided: how often a group is guided.

    Raises:
        InvalidInput: a number is out of range.
    """

    name = "pope"

    def __init__(
        self,
        demonstrations: Mapping[str, str] | None = None,
        *,
        stages: int = 8,
        guided: float = 0.5,
    ) -> None:
        super().__init__(demonstrations)
        self.stages = check_int("stages", stages, 2)
        self.guided = fraction("guided", guided)
        self._cuts: dict[str, int] = {}

    def share(self, session: Session) -> float:
        if session.rng.random() >= self.guided:
            return 0.0
        return self._cuts.get(prompt_key(session.prompt), 1) / self.stages

    def learn(self, prompt: Sequence[int], start: Start, rewards: Sequence[float]) -> None:
        if not start.share:
            return
        key = prompt_key(prompt)
        step = -1 if any(r > 0 for r in rewards) else 1
        self._cuts[key] = min(max(self._cuts.get(key, 1) + step, 1), self.stages - 1)

    def state(self) -> dict[str, Any]:
        return {"cuts": dict(self._cuts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._cuts = {key: int(cut) for key, cut in state["cuts"].items()}
