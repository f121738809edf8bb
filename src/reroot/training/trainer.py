"""A policy-gradient trainer over a session, whose arms differ in where groups may start."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..access.learner import learner
from ..checks import check_float, check_int
from ..contract import Contract, Control, Oracle, Report
from ..errors import BudgetExceeded, InvalidInput, nearest
from ..types import Finding, Prefix, Query, Reply
from . import advantages, policy_gradient
from .policy_gradient import Policy, Rows, Rule, kl_rows, output_rows, reward_rows, step
from .starts import RootStarts, Starts, WalkStarts

if TYPE_CHECKING:
    from ..access.session import Session


@dataclass(frozen=True, slots=True)
class Arm:
    """Where groups start, and which trajectories the reward part of the update is made of.

    Attributes:
        starts: of the groups; ``"walk"`` needs VISITED control.
        uses: ``"rollouts"``: the groups; ``"weighted"``: the outputs they discovered, each with
            its probability π(y), which is their exact share of the root-start gradient;
            ``"replay"``: the same outputs with weight 1.
        law: the law of those trajectories, in words.
    """

    starts: Literal["root", "walk"]
    uses: Literal["rollouts", "weighted", "replay"]
    law: str


ARMS: Mapping[str, Arm] = {
    "root": Arm("root", "rollouts", "π from the empty prefix"),
    "prefix": Arm("walk", "rollouts", "π from random prefixes of its own plurality walk"),
    "explore": Arm("walk", "weighted", "π from the empty prefix: found outputs weighted by π(y)"),
    "replay": Arm("walk", "replay", "none: found outputs with weight 1, off-policy"),
}


def _contract(params: Mapping[str, Any]) -> Contract:
    name = params["arm"]
    if name not in ARMS:
        raise InvalidInput(f"unknown arm {name!r}.{nearest(str(name), ARMS)}")
    if not isinstance(params["rule"], Rule):
        raise InvalidInput(f"rule must be a Rule, got {params['rule']!r}")
    check_float("target", params["target"])
    check_int("draws_per_token", params["draws_per_token"], 1)
    check_int("window", params["window"], 0)
    control = Control.VISITED if ARMS[name].starts == "walk" else Control.ROOT
    return Contract(control, Report.SAMPLE, oracles=[Oracle.REWARD])


@learner(requires=_contract)
async def train(
    session: Session,
    *,
    policy: Policy,
    rule: Rule,
    objective: Callable[[], float],
    target: float,
    arm: str = "root",
    draws_per_token: int = 32,
    window: int = 4,
) -> Finding:
    """Follow the policy gradient of J_β until it reaches ``target`` or the budget ends.

    Pseudo-code (see ``policy_gradient`` for the step)::

        repeat: u¹ … u^G ← starts of the arm              (the only difference between arms)
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
        arm: a name in ``ARMS``.
        draws_per_token, window: m of the walk and how far above the front groups start, for arms
            that walk (``starts.WalkStarts``).

    Returns:
        No output; notes: ``curve`` (tokens, rewarded rollouts, J at both ends and after each step
        that changed J), ``reached`` (the same at the target; ``None``: the budget ended before),
        ``first`` (rewarded rollouts up to the first that brought one, it included; ``None``),
        ``starts`` (fewest and most tokens that the groups and the KL rollouts started from),
        ``equal`` (what all arms share) and ``arm`` (in what they may differ).

    Raises:
        InvalidInput: when bound: an unknown arm, or a parameter out of range.
    """
    log, used = _Log(objective()), ARMS[arm]
    walks = used.starts == "walk"
    starts = WalkStarts(session.horizon, draws_per_token, window) if walks else RootStarts()
    with suppress(BudgetExceeded):
        while log.value < target:
            replies, rewards = await _iteration(session, rule, starts, log)
            rows = _reward_part(session, policy, used, replies[:-1], rewards, log)
            rows.append(kl_rows(replies[-1], policy, rule.beta, session.horizon))
            step(policy, rule, rows)
            if any(r.coefficients.any() for r in rows):
                log.note(session, objective())
    log.end(session)
    equal = _equal(session, rule, target)
    return Finding(
        None, {**log.notes(target), "equal": equal, "arm": {"name": arm, **asdict(used)}}
    )


async def _iteration(
    session: Session, rule: Rule, starts: Starts, log: _Log
) -> tuple[list[Reply], list[list[float]]]:
    """(replies of the G groups and the M root rollouts, rewards of the groups)."""
    places = await starts.draw(session, rule.groups)
    sizes = [*[rule.size] * len(places), rule.kl_batch]
    replies = await _rollouts(session, [*places, session.root], sizes)
    log.started(replies)
    outputs = [output for reply in replies[:-1] for output in reply.outputs()]
    every = await session.rewards(outputs)
    log.rewarded(outputs, every)
    size = rule.size
    rewards = [every[i : i + size] for i in range(0, len(every), size)]
    for start, found in zip(places, rewards, strict=True):
        starts.learn(start, found)
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
    arm: Arm,
    replies: Sequence[Reply],
    rewards: Sequence[Sequence[float]],
    log: _Log,
) -> list[Rows]:
    H = session.horizon
    if arm.uses == "rollouts":
        groups = zip(replies, rewards, strict=True)
        return [reward_rows(reply, r, H, len(replies)) for reply, r in groups]
    found = list(log.found)
    weights = [
        r * (math.exp(policy.log_probability(y)) if arm.uses == "weighted" else 1.0)
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

    def notes(self, target: float) -> dict[str, Any]:
        reached = self.curve[-1] if self.value >= target else None
        curve = {"curve": self.curve, "reached": reached, "first": self.first}
        return {**curve, "starts": self.starts}


def _equal(session: Session, rule: Rule, target: float) -> dict[str, Any]:
    """What does not depend on the arm, from the objects that were used."""
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
