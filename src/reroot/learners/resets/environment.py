"""A session as an environment: observations are drawn blocks, actions are tokens put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...access.learner import Params
from ...access.session import Session
from ...blocks import BlockShape, LockClass
from ...contract import Contract, Control, Oracle, Report
from ...errors import InvalidInput
from ...types import FloatArray, IntArray, Prefix, Query
from ..common import COUNT, Rule, check

SIZES: Mapping[str, Rule] = dict.fromkeys(("actions", "goods", "decoders"), COUNT)


class Here(NamedTuple):
    """A place in an episode: its prefix, which ends in an observation, and the code of that."""

    prefix: Prefix
    code: int


Act = Callable[[int, IntArray], IntArray]
"""(layer, (n,) codes) → (n,) actions."""


def needs(control: Control, **rules: Rule) -> Callable[[Params], Contract]:
    """The requirement of a learner with ``SIZES`` among its parameters: draws and rewards."""

    def requirement(params: Params) -> Contract:
        check(params, **{**SIZES, **rules})
        return Contract(control, Report.SAMPLE, oracles=[Oracle.REWARD])

    return requirement


class Environment:
    """Episodes of a block MDP over a session, and what they cost.

    Args:
        session: draws and rewards.
        actions, states, noise, base: sizes of the MDP, see ``BlockShape``; H follows from the
            session's horizon T = (H + 1)·L + H.

    Attributes:
        shape: its sizes.
        episodes: passes that were begun.
        draws: observations that were drawn.
        last: the last complete episode, as an output; ``None``: there is none yet.

    Raises:
        InvalidInput: no number of layers fits the session's horizon, or its vocabulary is another.
    """

    def __init__(
        self, session: Session, actions: int, states: int, noise: int, base: int = 2
    ) -> None:
        length = BlockShape(1, actions, states, noise, base).length
        layers, rest = divmod(session.horizon - length, length + 1)
        if layers < 1 or rest or max(actions, base) != session.vocab_size:
            raise InvalidInput(
                f"no block MDP with A = {actions}, S = {states}, n = {noise} and B = {base} has "
                f"episodes of {session.horizon} tokens from 0…{session.vocab_size - 1}"
            )
        self.session = session
        self.shape = BlockShape(layers, actions, states, noise, base)
        self.episodes = self.draws = 0
        self.last: Prefix | None = None
        self._powers = base ** np.arange(length)[::-1]

    @property
    def layers(self) -> int:
        """H."""
        return self.shape.layers

    @property
    def rng(self) -> np.random.Generator:
        return self.session.rng

    async def begin(self, n: int) -> list[Here]:
        """First observations of n new episodes."""
        if not n:
            return []
        self.episodes += n
        return (await self._draw([Query(Prefix(), n, self.shape.length)]))[0]

    async def step(
        self, places: Sequence[Here], actions: Sequence[int], n: int = 1
    ) -> list[list[Here]]:
        """n next observations after each place and action; more than one, or one after a place that
        was left already, is a reset."""
        queries = [
            Query(place.prefix.append(int(a)), n, self.shape.length)
            for place, a in zip(places, actions, strict=True)
        ]
        return await self._draw(queries)

    async def walk(self, places: Sequence[Here], layer: int, to: int, act: Act) -> list[list[Here]]:
        """From places of a layer on to layer ``to``: the places at each, the first ones included."""
        trail = [list(places)]
        for h in range(layer, to):
            codes = np.array([place.code for place in trail[-1]], dtype=np.int64)
            trail.append(firsts(await self.step(trail[-1], act(h, codes).tolist())))
        return trail

    async def rewards(self, places: Sequence[Here]) -> list[float]:
        """Outcome rewards of places of the last layer."""
        return await self.session.rewards([place.prefix for place in places]) if places else []

    def random_actions(self, n: int) -> IntArray:
        """(n,) uniform actions."""
        return self.rng.integers(self.shape.actions, size=n)

    async def _draw(self, queries: Sequence[Query]) -> list[list[Here]]:
        replies = await self.session.ask(queries)
        found: list[list[Here]] = []
        for reply in replies:
            codes = (reply.tokens @ self._powers).tolist()
            found.append([Here(u, x) for u, x in zip(reply.outputs(), codes, strict=True)])
            self.draws += reply.n
        if found and self.session.is_complete(found[-1][-1].prefix):
            self.last = found[-1][-1].prefix
        return found

    def account(self, **more: Any) -> dict[str, Any]:
        """What was used so far, for the record, and ``more``."""
        return {"episodes": self.episodes, "draws": self.draws, **more}


def firsts(found: Sequence[Sequence[Here]]) -> list[Here]:
    """The first of each."""
    return [some[0] for some in found]


def lock_of(
    session: Session,
    goods: int,
    actions: int,
    noise: int,
    base: int,
    decoders: int,
    class_seed: int,
) -> tuple[Environment, LockClass]:
    """A session as a combination lock, and the public class of its decoders."""
    env = Environment(session, actions, goods + 1, noise, base)
    return env, LockClass(env.shape, decoders, class_seed)


def greedy(scores: FloatArray, rng: np.random.Generator) -> IntArray:
    """(n,) the best action of each row of (n, A) scores, ties at random."""
    best = scores == scores.max(axis=1, keepdims=True)
    return np.argmax(best * (1.0 + rng.random(scores.shape)), axis=1)
