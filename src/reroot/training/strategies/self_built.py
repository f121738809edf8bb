"""Starts that the policy itself builds: no oracle but the outcome reward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_int
from ...contract import Contract, Control, Oracle, Report
from ...learners.leading import leading_token
from ...types import FloatArray, Prefix, Query, Reply
from .base import Start, Strategy, cut

if TYPE_CHECKING:
    from ...access.session import Session


class Root(Strategy):
    """Every group starts at the empty prefix: GRPO (arXiv 2402.03300). Needs ROOT control alone."""

    name = "root"
    from_root = True

    async def start(self, session: Session) -> Start:
        return Start(session.root)


class Walk(Strategy):
    """Starts on a walk of the policy, at a length that is uniform over 0 … H − 1.

    Where a walk ends by a stop token before that length, the length is uniform below its own.
    """

    async def start(self, session: Session) -> Start:
        length = int(session.rng.integers(session.horizon))
        walk = await self.walk(session, length)
        if session.is_complete(walk):
            walk = walk[: int(session.rng.integers(len(walk)))]
        return Start(walk)

    @abstractmethod
    async def walk(self, session: Session, length: int) -> Prefix:
        """A walk from ∅ of ``length`` tokens, or shorter and complete."""


class Plurality(Walk):
    """A prefix of the policy's own plurality walk, of random length (arXiv 2604.04855, local resets).

    At each prefix tokens are drawn until one leads every other by ``margin``, at most ``draws``; ties
    go to a uniform choice. For two tokens of odds r : 1 the walk takes the less likely one with
    probability 1/(1 + r^margin) (gambler's ruin), if ``draws`` does not end it before. VISITED
    control and SAMPLE reports: the interface, and no other knowledge, sets it apart from ``Root``.

    Args:
        draws: most draws per token.
        margin: lead at which the walk goes on; ``None``: always all draws.

    Raises:
        InvalidInput: a number is below 1.
    """

    name = "plurality"
    requires = Contract(Control.VISITED, Report.SAMPLE, oracles=[Oracle.REWARD])

    def __init__(self, draws: int = 31, margin: int | None = 4) -> None:
        self.draws = check_int("draws", draws, 1)
        self.margin = None if margin is None else check_int("margin", margin, 1)

    async def walk(self, session: Session, length: int) -> Prefix:
        walk = session.root
        while len(walk) < length and not session.is_complete(walk):
            walk = walk.append(await leading_token(session, walk, self.draws, self.margin))
        return walk


class Argmax(Walk):
    """A prefix of the policy's own greedy walk, of random length: one query, one token per token.

    It needs ARGMAX(1) beside draws, together TOPK(1), and RESET control, as the walk goes through
    prefixes that nothing has drawn.
    """

    name = "argmax"
    requires = Contract(Control.RESET, Report.TOPK(1), oracles=[Oracle.REWARD])

    async def walk(self, session: Session, length: int) -> Prefix:
        if not length:
            return session.root
        reply = await session.continuations(session.root, 1, length=length, report=Report.ARGMAX(1))
        return reply.outputs()[0]


class SelfReset(Strategy):
    """A uniformly random prefix of a rollout of its own: resets as to a state of a local simulator.

    The rollout is drawn for this, paid for, and starts nothing else; its reward is not asked.
    """

    name = "self_reset"
    requires = Contract(Control.VISITED, Report.SAMPLE, oracles=[Oracle.REWARD])

    async def start(self, session: Session) -> Start:
        own = (await session.rollouts(1)).outputs()[0]
        return Start(cut(session, own, float(session.rng.random())))


class Fork(Strategy):
    """Fork a rollout of its own before one of its most surprising tokens.

    After TreeRL (arXiv 2506.11902), which forks at the tokens of highest −log π(y_t | y_<t): that
    observation is LOGPROB of the rollout's own tokens. Entropies of the law (TreePO-like variants)
    would need FULL. The start is the prefix before the token.

    Args:
        among: the fork is uniform among this many most surprising tokens.

    Raises:
        InvalidInput: ``among`` is below 1.
    """

    name = "fork"
    requires = Contract(Control.VISITED, Report.LOGPROB, oracles=[Oracle.REWARD])

    def __init__(self, among: int = 4) -> None:
        self.among = check_int("among", among, 1)

    async def start(self, session: Session) -> Start:
        reply = await session.rollouts(1, report=Report.LOGPROB)
        own = reply.outputs()[0]
        assert reply.logprobs is not None
        order = np.argsort(reply.logprobs[0, : len(own)], kind="stable")
        return Start(own[: int(session.rng.choice(order[: self.among]))])


class VineValues(Root):
    """Root rollouts whose tokens get Monte-Carlo values of their own prefixes as advantages.

    VinePPO (arXiv 2410.01679): V̂(u) is the mean reward of ``samples`` further rollouts from u; the
    tokens between two prefixes u and v of a rollout get V̂(v) − V̂(u), with V̂(y) = r(y) at the end.
    V̂(v) is unbiased for the value of having gone there and V̂(u) does not depend on the tokens
    after u, so the expected update is ∇E_π[r], as with ``Root``; its variance is lower, and the
    further rollouts are paid for.

    Args:
        samples: K, rollouts per value.
        stride: tokens from one prefix with a value to the next.

    Raises:
        InvalidInput: a number is below 1.
    """

    name = "vine_values"
    requires = Contract(Control.VISITED, Report.SAMPLE, oracles=[Oracle.REWARD])
    per_token = True

    def __init__(self, samples: int = 8, stride: int = 1) -> None:
        self.samples = check_int("samples", samples, 1)
        self.stride = check_int("stride", stride, 1)

    async def credit(
        self, session: Session, reply: Reply, rewards: Sequence[float]
    ) -> list[list[float]]:
        outputs = reply.outputs()
        places = sorted({u for y in outputs for u in self._places(reply.prefix, y)}, key=tuple)
        values = await self._values(session, places)
        return [
            self._differences(reply.prefix, y, values, r)
            for y, r in zip(outputs, rewards, strict=True)
        ]

    def _places(self, start: Prefix, output: Prefix) -> list[Prefix]:
        """Prefixes of an output that get a value; the first is the start."""
        return [output[:t] for t in range(len(start), len(output), self.stride)]

    async def _values(self, session: Session, places: Sequence[Prefix]) -> dict[Prefix, float]:
        replies = await session.ask([Query(u, self.samples) for u in places])
        ends = [y for reply in replies for y in reply.outputs()]
        found: FloatArray = np.array(await session.rewards(ends)).reshape(len(places), -1)
        return dict(zip(places, found.mean(axis=1).tolist(), strict=True))

    def _differences(
        self, start: Prefix, output: Prefix, values: dict[Prefix, float], reward: float
    ) -> list[float]:
        places = self._places(start, output)
        known = [values[u] for u in places] + [reward]
        steps = np.diff(known)
        return [float(steps[t // self.stride]) for t in range(len(output) - len(start))]
