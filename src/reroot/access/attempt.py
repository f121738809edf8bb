"""What is to be run and what became of it, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ..contract import Contract
from ..types import Budget, Cost, Prefix
from .episode import Episode
from .failures import Failure
from .learner import BoundLearner


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to be made: a learner on a problem, under a contract, within a budget.

    ``key`` is unique in the run and stable across runs of the same configuration.
    """

    key: str
    learner: BoundLearner
    episode: Episode
    contract: Contract
    budget: Budget
    seed: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a job.

    Attributes:
        key: the job's key.
        problem: problem id.
        learner: learner label.
        contract: granted contract, as text.
        seed: run seed.
        output: what the learner returned (``None``: no answer).
        text: its text, cut before the stop text.
        complete: whether the output ended by itself or by the horizon.
        reward: its outcome reward (0 without an output; ``None`` when judging it failed, or the judge
            abstained).
        passed: whether it is complete and its reward reaches the problem's ``pass_at``.
        surprisal: −log P(output) in nats under the generator's own law; ``None`` if unknown.
        cost: logical cost in every currency.
        error: why it failed, if it did.
        stopped: ``"budget"`` if the learner was ended by its budget; ``"account"`` if it was refused something
            because others had used up the account of its key at a server.
        metadata: what the learner found out besides (see ``types.Finding``).
        accepted: what the problem's verifier says of a complete output that does not pass. Where that is
            true the two disagree, and learners that trust the verifier end there.
    """

    key: str
    problem: str
    learner: str
    contract: str
    seed: int
    output: Prefix | None
    text: str
    complete: bool
    reward: float | None
    passed: bool
    surprisal: float | None
    cost: Cost
    error: Failure | None
    stopped: str | None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    accepted: bool | None = None

    @classmethod
    def lost(cls, job: Job, cost: Cost, error: Failure) -> Attempt:
        """Of a job whose session does not say what became of it; ``cost`` as far as it is known."""
        return cls(
            key=job.key,
            problem=job.episode.problem.id,
            learner=job.learner.label,
            contract=str(job.contract.resolved),
            seed=job.seed,
            output=None,
            text="",
            complete=False,
            reward=None,
            passed=False,
            surprisal=None,
            cost=cost,
            error=error,
            stopped=None,
        )

    @property
    def abstained(self) -> bool:
        """The judge gave no reward, and nothing failed: the attempt is in no rate and no mean."""
        return self.reward is None and self.error is None


class Log(Protocol):
    """Where messages of attempts are written while they run, by the keys of their jobs (see
    ``runs.inflight``).

    A line with ``"early": True`` is an answer that its learner does not have yet, as others that it
    asked for at the same moment are open. The same line comes again, without that, when the learner
    gets it; early ones matter to an attempt that is interrupted in between.
    """

    def recorded(self, key: str) -> list[dict[str, Any]]:
        """Lines left by an interrupted run of the same attempt; early ones, if they did not come
        again."""
        ...

    def append(self, key: str, line: dict[str, Any]) -> None:
        """Add a line of an attempt."""
        ...

    def finish(self, key: str) -> None:
        """An attempt has ended."""
        ...
