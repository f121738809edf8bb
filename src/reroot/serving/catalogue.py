"""What a server serves: a generator, and problems by their ids."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..access.episode import Episode, oracles_of
from ..contract import Oracle
from ..errors import InvalidInput, nearest
from ..generators.base import Capabilities, Generator
from ..tasks.files import distinct_ids
from .wire import equality_to_json, stop_to_json


@dataclass(frozen=True, slots=True)
class Offer:
    """A problem that is served, and where it stands in a comparison."""

    episode: Episode
    task: str = "problems"
    horizon: int = 0
    seed: int = 0


class Catalogue:
    """A generator and its problems.

    Args:
        model: what the model is called.
        generator: what is behind the door.
        offers: the problems; ids must differ.

    Attributes:
        largest: most tokens of a prompt, and of an output, over all problems.

    Raises:
        InvalidInput: ids repeat, or what a learner must know of a problem cannot be told over a wire.
    """

    def __init__(self, model: str, generator: Generator, offers: Sequence[Offer]) -> None:
        distinct_ids([offer.episode.problem for offer in offers], "problems")
        self.model, self.generator = model, generator
        self.offers = {offer.episode.problem.id: offer for offer in offers}
        self.problems = [_about_problem(offer) for offer in offers]
        episodes = [offer.episode for offer in offers]
        self.largest = (
            max((len(episode.prompt) for episode in episodes), default=0),
            max((episode.horizon for episode in episodes), default=0),
        )
        told = [dict(generator.describe()), _about_capabilities(generator.capabilities)]
        self._marks: dict[
            str, str
        ] = {}  # of the problems that are served, once they were asked for
        self._law = json.dumps(told, sort_keys=True, default=str)

    def episode(self, problem: str) -> Episode:
        """A problem by its id (``InvalidInput``)."""
        if problem not in self.offers:
            raise InvalidInput(f"no problem {problem!r:.200}.{nearest(problem, self.offers)[:400]}")
        return self.offers[problem].episode

    def mark(self, episode: Episode) -> str:
        """Another one where the generator differs, or what is known of the problem (not: what its functions
        say). It tells both to who can guess them: for the ledger alone."""
        problem = episode.problem
        offer = self.offers.get(problem.id)
        served = offer is not None and offer.episode is episode
        if served and problem.id in self._marks:
            return self._marks[problem.id]
        have = oracles_of(problem)
        told = [
            *(self._law, problem.id, list(episode.prompt), episode.horizon, problem.pass_at),
            *(str(o) for o in Oracle if o in have),
            *map(repr, (problem.stop, problem.demonstration, problem.answer)),
        ]
        mark = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
        if served:
            self._marks[problem.id] = mark
        return mark

    def about(self, secret: bytes) -> dict[str, Any]:
        """What any key may know of the generator: of its description, which may tell the law, only a mark
        that changes when it does, and that nobody can compute without the ``secret``."""
        generator = self.generator
        return {
            "model": self.model,
            "vocab_size": generator.vocab_size,
            "end_token": generator.end_token,
            "max_length": generator.max_length(),
            "mark": hmac.new(secret, self._law.encode(), "sha256").hexdigest()[:32],
            "capabilities": _about_capabilities(generator.capabilities),
        }


def _about_capabilities(can: Capabilities) -> dict[str, Any]:
    return {
        "control": str(can.control),
        "report": str(can.report),
        "sampling": can.sampling,
        "forced": can.forced,
        "hidden": can.hidden,
        "prices": None if can.prices is None else can.prices.to_dict(),
    }


def _about_problem(offer: Offer) -> dict[str, Any]:
    """What any key may know of a problem: nothing of its answer."""
    episode, problem = offer.episode, offer.episode.problem
    return {
        "id": problem.id,
        "task": offer.task,
        "horizon": offer.horizon,
        "seed": offer.seed,
        "prompt": problem.prompt if isinstance(problem.prompt, str) else None,
        "prompt_tokens": list(episode.prompt),
        "max_tokens": episode.horizon,
        "size": problem.horizon,
        "pass_at": problem.pass_at,
        "unique": problem.unique,
        "group": problem.group,
        "cluster": problem.cluster,
        "stop": stop_to_json(episode.stop),
        "equality": equality_to_json(problem.equality),
        "oracles": [str(o) for o in Oracle if o in oracles_of(problem)],
    }
