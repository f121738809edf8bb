"""Policy gradients of 0/1 rewards on a linear softmax policy: PG-OR and PG-PR, each in one session.

Source: Mousavi-Hosseini & Erdogdu (arXiv 2603.06957). Every update is w += η·Σ_i A_i·∇ log p_w(y_i | x, y_<i), without
baseline and importance weight, so only what is rewarded moves w. A string is a context x and an answer y; the
context is drawn by the generator as the first tokens of a rollout.

Proposals come from q: with probability ``explore`` a uniform choice of the learner's own, which asks the
generator nothing, else a draw of the generator at the weights ``base``. Those are loaded for that question alone,
so that a session pays for the draws of both laws: a policy serves one session at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..access.learner import learner
from ..checks import check_between, check_float, check_int
from ..contract import Contract, Control, Oracle, Report
from ..errors import BudgetExceeded, InvalidInput
from ..types import Finding, FloatArray, Prefix, Query

if TYPE_CHECKING:
    from ..access.session import Session


@runtime_checkable
class LinearPolicy(Protocol):
    """The parameters that are trained; ``generators.LinearSoftmax`` is one."""

    @property
    def context_length(self) -> int:
        """Tokens of a string that are its context."""
        ...

    def ascend(
        self,
        string: Sequence[int],
        credit: Sequence[float] | None = None,
        rate: float | None = None,
    ) -> float:
        """w += η·Σ A_i·∇ log p_w(y_i | …); ``None`` as rate: η = 1/(4 + 2·‖g‖²)."""
        ...

    def at(self, weights: FloatArray | None) -> AbstractContextManager[None]:
        """Other weights for a while."""
        ...


Credited = tuple[Prefix, int]
"""A string, and how many tokens of its answer are rewarded: the first ones."""


@dataclass(slots=True)
class _Account:
    """Rounds, what they were rewarded for, and the curve of the objective."""

    policy: LinearPolicy
    objective: Callable[[], float] | None
    target: float
    rate: float | None
    rounds: int = 0
    updates: int = 0
    value: float = 0.0
    total: float = 0.0
    curve: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    reached: tuple[int, int, float] | None = None
    credited: list[list[int]] = field(default_factory=list[list[int]])

    def begin(self) -> None:
        self.value = 0.0 if self.objective is None else self.objective()
        self.curve.append((0, 0, self.value))
        if self.objective is not None and self.value >= self.target:
            self.reached = self.curve[0]

    @property
    def done(self) -> bool:
        return self.reached is not None

    def close(self, found: Sequence[Credited | None], judged: int, keep: bool) -> None:
        """The updates of some rounds that were drawn together, in their order."""
        changed = False
        for one in found:
            self.total += self.value
            self.rounds += 1
            if one is None or not one[1]:
                continue
            string, count = one
            answer = len(string) - self.policy.context_length
            credit = [1.0] * count + [0.0] * (answer - count)
            self.policy.ascend(string, credit, self.rate)
            self.updates, changed = self.updates + 1, True
            if keep:
                self.credited.append([*string, count])
        if changed and self.objective is not None:
            self.value = self.objective()
            point = (judged, self.rounds, self.value)
            self.curve.append(point)
            if self.value >= self.target:
                self.reached = point

    def finding(self) -> Finding:
        mean = self.total / max(1, self.rounds)
        metadata = {"rounds": self.rounds, "updates": self.updates, "random_iterate": mean}
        metadata |= {"curve": self.curve, "reached": self.reached}
        return Finding(None, metadata | ({"credited": self.credited} if self.credited else {}))


def _check(params: Mapping[str, Any], most: str) -> None:
    if not isinstance(params["policy"], LinearPolicy):
        raise InvalidInput(f"policy must be a LinearSoftmax or alike, got {params['policy']!r}")
    for name, least in (("rounds", 1), (most, 0 if most == "proposals" else 1), ("batch", 1)):
        check_int(name, params[name], least)
    explore = check_float("explore", params["explore"], 0.0)
    if explore > 1.0:
        raise InvalidInput(f"explore must lie in [0, 1], got {explore!r}")
    if params["rate"] is not None:
        check_between("rate", params["rate"], -1e-300, np.inf)
    check_float("target", params["target"])


def _or_contract(params: Mapping[str, Any]) -> Contract:
    _check(params, "proposals")
    own, proposals = bool(params["own"]), params["proposals"]
    if not own and not proposals:
        raise InvalidInput("a round needs its own rollout (own=True) or at least one proposal")
    again = own + proposals > 1 and params["policy"].context_length > 0
    return Contract(
        Control.VISITED if again else Control.ROOT, Report.SAMPLE, oracles=[Oracle.REWARD]
    )


@learner(requires=_or_contract)
async def pg_or(
    session: Session,
    *,
    policy: LinearPolicy,
    rounds: int,
    own: bool = True,
    proposals: int = 0,
    base: FloatArray | None = None,
    explore: float = 0.5,
    batch: int = 1,
    rate: float | None = None,
    objective: Callable[[], float] | None = None,
    target: float = 1.0,
    keep: bool = False,
) -> Finding:
    """Policy gradient with an outcome reward: only a whole right answer moves the policy.

    Pseudo-code (arXiv 2603.06957, Alg. 1)::

        repeat: x, y ~ p_w (own rollout);  r ← reward(x, y)
                until r = 1, at most m times:  y ~ q(· | x);  r ← reward(x, y)
                if r = 1:  w ← w + η·∇ log p_w(y | x),  η = 1/(4 + 2·‖∇ log p_w(y | x)‖²)

    Without proposals it is on-policy, root/sample+reward, and with η = 1 its expected update is the
    gradient of E[r]. With one proposal and no own rollout it is off-policy, at the root too. Best-of-m
    returns to the context that was drawn, which is visited control (of one context: root). The queries
    that rates are stated in are reward calls.

    Args:
        policy: p_w; the session's generator must be it.
        rounds: most rounds.
        own: whether a round begins with a rollout of p_w.
        proposals: m, most draws of q in a round.
        base: weights of q's generator; ``None``: the present ones.
        explore: share of uniform answers in q.
        batch: rounds that are drawn together, at the weights before them; 1 is the algorithm as stated, and
            where q is fixed and there is no own rollout any number is.
        rate: η; ``None``: the adaptive step.
        objective: read after updates, for the curve and to stop; the update does not see it.
        target: value of the objective to stop at.
        keep: note every update in ``credited``: the string, then how many of its tokens are rewarded.

    Returns:
        No output; metadata: ``rounds``, ``updates``, ``random_iterate`` (mean objective over the rounds, that
        of a policy taken at random among them), ``curve`` (reward calls, rounds, objective), ``reached``
        (its point at the target; ``None``: not reached).

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    return await _trained(
        _Account(policy, objective, target, rate),
        rounds,
        batch,
        keep,
        lambda n: _outcome_rounds(session, policy, n, own, proposals, base, explore),
        lambda: session.spent.rewards,
    )


async def _trained(
    log: _Account,
    rounds: int,
    batch: int,
    keep: bool,
    draw: Callable[[int], Awaitable[list[Credited | None]]],
    paid: Callable[[], int],
) -> Finding:
    """Rounds until there are enough, the target is reached, or the budget ends.

    Args:
        draw: number of rounds → what each is rewarded for.
        paid: oracle calls so far, the first column of the curve.
    """
    log.begin()
    with suppress(BudgetExceeded):
        while log.rounds < rounds and not log.done:
            found = await draw(min(batch, rounds - log.rounds))
            log.close(found, paid(), keep)
    return log.finding()


async def _outcome_rounds(
    session: Session,
    policy: LinearPolicy,
    n: int,
    own: bool,
    proposals: int,
    base: FloatArray | None,
    explore: float,
) -> list[Credited | None]:
    """What each of n rounds is rewarded for."""
    context = max(0, policy.context_length - len(session.prompt))
    with policy.at(None if own else base):
        strings = (await session.rollouts(n)).outputs()
    if not own:
        strings = [_answer(session, y, context, explore) for y in strings]
    found: list[Credited | None] = [None] * n
    left = list(range(n))
    for tried in range((1 if own else 0) + proposals):
        if tried:
            strings = await _proposed(session, policy, strings, left, context, base, explore)
        rewards = await session.rewards([strings[i] for i in left])
        for i, reward in zip(left, rewards, strict=True):
            if reward not in (0.0, 1.0):
                raise InvalidInput(f"pg_or takes rewards 0 and 1, got {reward!r}")
            if reward:
                whole = session.prompt + strings[i].tokens
                found[i] = Prefix(whole), len(whole) - policy.context_length
        left = [i for i in left if found[i] is None]
        if not left:
            break
    return found


def _answer(session: Session, string: Prefix, context: int, explore: float) -> Prefix:
    """The string, or with probability ``explore`` its context with a uniform answer."""
    if not _coin(session, explore):
        return string
    return string[:context].extend(_uniform(session, session.horizon - context))


def _coin(session: Session, share: float) -> bool:
    return share > 0 and bool(session.rng.choice(2, p=[1 - share, share]))


def _uniform(session: Session, n: int) -> list[int]:
    return [int(session.rng.integers(session.vocab_size)) for _ in range(n)]


async def _proposed(
    session: Session,
    policy: LinearPolicy,
    strings: Sequence[Prefix],
    left: Sequence[int],
    context: int,
    base: FloatArray | None,
    explore: float,
) -> list[Prefix]:
    """New answers to the contexts of the rounds that are left, drawn from q."""
    made = list(strings)
    asked = [i for i in left if not _coin(session, explore)]
    for i in set(left).difference(asked):
        made[i] = strings[i][:context].extend(_uniform(session, session.horizon - context))
    with policy.at(base):
        replies = await session.ask([Query(strings[i][:context], 1) for i in asked])
    for i, reply in zip(asked, replies, strict=True):
        made[i] = reply.outputs()[0]
    return made


def _pr_contract(params: Mapping[str, Any]) -> Contract:
    _check(params, "tries")
    control = Control.RESET if params["explore"] > 0 else Control.VISITED
    return Contract(control, Report.SAMPLE, oracles=[Oracle.VERIFIER])


@learner(requires=_pr_contract)
async def pg_pr(
    session: Session,
    *,
    policy: LinearPolicy,
    rounds: int,
    tries: int,
    base: FloatArray | None = None,
    explore: float = 0.5,
    batch: int = 1,
    rate: float | None = None,
    objective: Callable[[], float] | None = None,
    target: float = 1.0,
    keep: bool = False,
) -> Finding:
    """Policy gradient with a process reward: a right prefix moves the policy as far as it goes.

    Pseudo-code (arXiv 2603.06957, Alg. 2)::

        repeat: x, y ~ p_w;  if PREF(x, y) = 1: A_i ← 1 for all i
                else: from u = x on, at most m times:  a ~ q(· | u);  if PREF(u·a) = 1: u ← u·a, A_i ← 1
                w ← w + η·Σ_i A_i·∇ log p_w(y_i | x, y_<i),  η = 1/(4 + 2·‖Σ_i …‖²)

    PREF is the process verifier. A round takes 1 + (1 − p_w(y*))·Σ_i Π_{j≤i} s_j/q_i verifications in
    expectation, s_j = 1 − (1 − q_j)^m, where q_i is the chance that a draw of q is the right token. Drawn
    tokens are returned to, visited control; a uniform token of the learner's own is reset.

    Args:
        policy, rounds, base, explore, batch, rate, objective, target, keep: as for ``pg_or``; ``explore``
            is the share of uniform tokens.
        tries: m, most tokens tried at a position; the theorem takes up to log N/q.

    Returns:
        As for ``pg_or``; the curve's first column counts verifications.

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    return await _trained(
        _Account(policy, objective, target, rate),
        rounds,
        batch,
        keep,
        lambda n: _process_rounds(session, policy, n, tries, base, explore),
        lambda: session.spent.verifications,
    )


async def _process_rounds(
    session: Session,
    policy: LinearPolicy,
    n: int,
    tries: int,
    base: FloatArray | None,
    explore: float,
) -> list[Credited | None]:
    context = max(0, policy.context_length - len(session.prompt))
    strings = (await session.rollouts(n)).outputs()
    passed = await session.verify_all(strings)
    walks = {i: strings[i][:context] for i in range(n) if not passed[i]}
    failed = dict.fromkeys(walks, 0)
    going = list(walks)
    while going:
        children = await _tokens(session, policy, [walks[i] for i in going], base, explore)
        right = await session.verify_all(children)
        for i, child, good in zip(going, children, right, strict=True):
            if good:
                walks[i], failed[i] = child, 0
            else:
                failed[i] += 1
        going = [i for i in going if failed[i] < tries and len(walks[i]) < session.horizon]
    found: list[Credited | None] = []
    for i in range(n):
        whole = Prefix(session.prompt + walks.get(i, strings[i]).tokens)
        found.append((whole, len(whole) - policy.context_length))
    return found


async def _tokens(
    session: Session,
    policy: LinearPolicy,
    prefixes: Sequence[Prefix],
    base: FloatArray | None,
    explore: float,
) -> list[Prefix]:
    """Each prefix with one more token, drawn from q. The generator is asked at every one of them: reset
    control leads to children of what was asked."""
    with policy.at(base):
        replies = await session.ask([Query(u, 1, 1) for u in prefixes])
    return [
        u.extend(_uniform(session, 1)) if _coin(session, explore) else reply.outputs()[0]
        for u, reply in zip(prefixes, replies, strict=True)
    ]
