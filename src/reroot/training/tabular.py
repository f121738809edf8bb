"""A policy-gradient trainer in one session, for policies whose parameters are a table."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..access.learner import learner
from ..checks import check_float
from ..contract import Contract
from ..errors import BudgetExceeded, InvalidInput, nearest
from ..types import Finding, Prefix, Query, Reply
from . import advantages, policy_gradient
from .policy_gradient import Policy, Rows, Rule, kl_rows, output_rows, reward_rows, step
from .strategies.base import Strategy

if TYPE_CHECKING:
    from ..access.session import Session


Update = Literal["rollouts", "weighted", "replay"]
"""Which trajectories the reward part of a step is made of: ``rollouts``: the groups'; ``weighted``: the
outputs that they discovered, each with its probability π(y), which is their exact share of the
root-start gradient; ``replay``: the same outputs with weight 1, off-policy."""


def _contract(params: Mapping[str, Any]) -> Contract:
    strategy, update = params["strategy"], params["update"]
    if not isinstance(strategy, Strategy):
        raise InvalidInput(f"strategy must be a Strategy, got {strategy!r}")
    if strategy.per_token:
        raise InvalidInput(f"{strategy} gives credit per token, which this trainer does not use")
    if update not in get_args(Update):
        raise InvalidInput(f"unknown update {update!r}.{nearest(str(update), get_args(Update))}")
    if not isinstance(params["rule"], Rule):
        raise InvalidInput(f"rule must be a Rule, got {params['rule']!r}")
    check_float("target", params["target"])
    return strategy.requires


@learner(requires=_contract)
async def tabular_training(
    session: Session,
    *,
    policy: Policy,
    rule: Rule,
    objective: Callable[[], float],
    target: float,
    strategy: Strategy,
    update: Update = "rollouts",
) -> Finding:
    """Follow the policy gradient of J_β until it reaches ``target`` or the budget ends.

    Pseudo-code (see ``policy_gradient`` for the step)::

        repeat: u¹ … u^G ← starts of the strategy
                n rollouts from each u^g, M from ∅, all of the present policy
                rewards of the Gn outputs;  θ ← θ + step

    What the session samples must be the ``policy``; it is reached there alone, except for steps
    and for log-probabilities of outputs that are already held. Every draw is paid for, those of
    walks and of the KL too. Without a budget it goes on until the target is reached.

    Args:
        policy: the parameters.
        rule: hyper-parameters of the step.
        objective: exact J_β of the present policy, read to stop and to draw curves; the update
            does not see it.
        target: J_β to stop at.
        strategy: where groups start; each attempt learns in a copy of its own.
        update: what the reward part of a step is made of (``Update``).

    Returns:
        No output; metadata: ``curve`` (tokens, rewarded rollouts, J at both ends and after each step
        that changed J), ``reached`` (the same at the target; ``None``: the budget ended before),
        ``first`` (rewarded rollouts up to the first that brought one, it included; ``None``),
        ``starts`` (fewest and most tokens that the groups and the KL rollouts started from),
        ``equal`` (what does not depend on ``strategy`` and ``update``).

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    log, starts = _Log(objective()), copy.deepcopy(strategy)
    with suppress(BudgetExceeded):
        while log.value < target:
            replies, rewards = await _iteration(session, rule, starts, log)
            rows = _reward_part(session, policy, update, replies[:-1], rewards, log)
            rows.append(kl_rows(replies[-1], policy, rule.beta, session.horizon))
            step(policy, rule, rows)
            if any(r.coefficients.any() for r in rows):
                log.note(session, objective())
    log.end(session)
    return Finding(None, log.metadata(target) | {"equal": _equal(session, rule, target)})


async def _iteration(
    session: Session, rule: Rule, strategy: Strategy, log: _Log
) -> tuple[list[Reply], list[list[float]]]:
    """(replies of the G groups and the M root rollouts, rewards of the groups)."""
    starts = [await strategy.start(session) for _ in range(rule.groups)]
    places = [*(start.prefix for start in starts), session.root]
    replies = await _rollouts(session, places, [*[rule.size] * rule.groups, rule.kl_batch])
    log.started(replies)
    outputs = [output for reply in replies[:-1] for output in reply.outputs()]
    every = await session.rewards(outputs)
    log.rewarded(outputs, every)
    size = rule.size
    rewards = [every[i : i + size] for i in range(0, len(every), size)]
    for start, found in zip(starts, rewards, strict=True):
        strategy.learn(session.prompt, start, found)
    return replies, rewards


async def _rollouts(
    session: Session, places: Sequence[Prefix], sizes: Sequence[int]
) -> list[Reply]:
    """Rollouts from each place; those from one place are one query, as fewer are faster."""
    wanted: dict[Prefix, int] = {}
    for place, size in zip(places, sizes, strict=True):
        wanted[place] = wanted.get(place, 0) + size
    replies = await session.ask([Query(place, n) for place, n in wanted.items()])
    whole, taken = dict(zip(wanted, replies, strict=True)), dict.fromkeys(wanted, 0)
    parts: list[Reply] = []
    for place, size in zip(places, sizes, strict=True):
        mine = slice(taken[place], taken[place] + size)
        taken[place] += size
        parts.append(Reply(place, whole[place].tokens[mine], whole[place].lengths[mine]))
    return parts


def _reward_part(
    session: Session,
    policy: Policy,
    update: Update,
    replies: Sequence[Reply],
    rewards: Sequence[Sequence[float]],
    log: _Log,
) -> list[Rows]:
    H = session.horizon
    if update == "rollouts":
        groups = zip(replies, rewards, strict=True)
        return [reward_rows(reply, r, H, len(replies)) for reply, r in groups]
    found = list(log.found)
    weights = [
        r * (math.exp(policy.log_probability(y)) if update == "weighted" else 1.0)
        for y, r in log.found.items()
    ]
    return [output_rows(found, weights, H)]


@dataclass(slots=True)
class _Log:
    """What is measured along the way."""

    value: float
    curve: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    rollouts: int = 0
    first: int | None = None
    found: dict[Prefix, float] = field(default_factory=dict[Prefix, float])
    starts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def __post_init__(self) -> None:
        self.curve.append((0, 0, self.value))

    def started(self, replies: Sequence[Reply]) -> None:
        """Note where the rollouts of an iteration started, from what came back."""
        for part, those in (("reward", replies[:-1]), ("kl", replies[-1:])):
            lengths = [len(reply.prefix) for reply in those]
            self.starts[part] = [
                min(self.starts.get(part, lengths)[0], *lengths),
                max(self.starts.get(part, lengths)[-1], *lengths),
            ]

    def rewarded(self, outputs: Sequence[Prefix], rewards: Sequence[float]) -> None:
        """Count the rollouts; remember outputs with a reward, and when the first one came."""
        if any(rewards):
            for i, (output, reward) in enumerate(zip(outputs, rewards, strict=True)):
                if reward:
                    self.found[output] = reward
                    self.first = self.first or self.rollouts + i + 1
        self.rollouts += len(outputs)

    def note(self, session: Session, value: float) -> None:
        self.value = value
        self.curve.append((session.spent.tokens, self.rollouts, value))

    def end(self, session: Session) -> None:
        """A last point where the budget ended."""
        if self.curve[-1][0] < session.spent.tokens:
            self.note(session, self.value)

    def metadata(self, target: float) -> dict[str, Any]:
        reached = self.curve[-1] if self.value >= target else None
        curve = {"curve": self.curve, "reached": reached, "first": self.first}
        return {**curve, "starts": self.starts}


def _equal(session: Session, rule: Rule, target: float) -> dict[str, Any]:
    """What does not depend on strategy and update, from the objects that were used."""
    values = {
        "rule": asdict(rule),
        "target": target,
        "horizon": session.horizon,
        "prompt": list(session.prompt),
        "budget": session.budget.to_dict(),
        "update": f"{step.__module__}.{step.__qualname__}",
        "kl": "k1 in the reward, to go, on rollouts of the present policy from the empty prefix",
    }
    known = json.dumps([values, *map(inspect.getsource, (policy_gradient, advantages))])
    return {**values, "config": hashlib.blake2b(known.encode(), digest_size=8).hexdigest()}
