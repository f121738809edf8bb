"""Many generators behind one door: the first prompt token says which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..tasks.base import Problem
from ..types import Chat, FloatArray, Physical, Reply
from .base import Capabilities, Generator, Request, ShowsHiddenStates
from .stops import Stop

_Part = TypeVar("_Part")


@runtime_checkable
class _HasProblem(Protocol):
    def problem(self, id: str | None = None) -> Problem: ...


class Ensemble:
    """Generators with one vocabulary; prompt (i, x…) asks the i-th one with prompt x.

    Requests that arrive together are handed to each member in one batch. Text follows the first
    member's rules; a prompt text starts with the member's index, as in ``"3 <its prompt>"``.

    Raises:
        InvalidInput: no members, or vocabularies, end tokens or capabilities that differ.
    """

    def __init__(self, generators: Sequence[Generator]) -> None:
        if not len(generators):
            raise InvalidInput("an ensemble needs at least one generator")
        self._members: Sequence[Generator] = tuple(generators)
        head = self._head = self._members[0]
        for i, member in enumerate(self._members):
            for what, mine, first in (
                ("vocabulary size", member.vocab_size, head.vocab_size),
                ("end tokens", member.stops(()).tokens, head.stops(()).tokens),
                ("capabilities", member.capabilities, head.capabilities),
            ):
                if mine != first:
                    raise InvalidInput(
                        f"members of an ensemble share their {what}; member 0 has {first}, "
                        f"member {i} has {mine}"
                    )
        limits = [member.max_length() for member in self._members]
        known = [limit for limit in limits if limit is not None]
        self._limit = max(known) + 1 if len(known) == len(limits) else None
        self._done = Physical()

    @property
    def members(self) -> Sequence[Generator]:
        """The generators, in order."""
        return self._members

    @property
    def vocab_size(self) -> int:
        return self._head.vocab_size

    @property
    def capabilities(self) -> Capabilities:
        return self._head.capabilities

    @property
    def end_token(self) -> int | None:
        return self._head.end_token

    def problems(self) -> list[Problem]:
        """The members' problems with prompts (i, …) and ids made unique by ``#i``.

        Raises:
            InvalidInput: a member has no ``problem()``, or one with a text prompt.
        """
        return [self._problem(i) for i in range(len(self._members))]

    def _problem(self, index: int) -> Problem:
        member = self._members[index]
        if not isinstance(member, _HasProblem):
            raise InvalidInput(f"member {index} of the ensemble, {member!r}, has no problem()")
        problem = member.problem()
        prompt = problem.prompt
        if isinstance(prompt, Chat):
            raise InvalidInput(
                f"problem {problem.id!r}: its prompt is a chat, and families have none"
            )
        prompt = member.encode(prompt) if isinstance(prompt, str) else prompt
        return replace(problem, id=f"{problem.id}#{index}", prompt=(index, *prompt))

    def max_length(self) -> int | None:
        """The longest member's limit and one for the index; each member keeps its own limit."""
        return self._limit

    def encode(self, text: str) -> tuple[int, ...]:
        index, _, rest = text.strip().partition(" ")
        if not index.isdecimal() or int(index) >= len(self._members):
            raise InvalidInput(
                f"a prompt must start with a member's index 0…{len(self._members) - 1}, got {text!r}"
            )
        return (int(index), *self._members[int(index)].encode(rest))

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._head.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._head.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        return self._head.stops(texts)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch per member that is asked.

        Raises:
            InvalidInput: a prompt does not start with a member's index.
        """

        def ask(member: Generator, positions: list[int]) -> Sequence[Reply]:
            own = [requests[p] for p in positions]
            return member.answer([replace(r, prompt=r.prompt[1:]) for r in own])

        return self._each_member([request.prompt for request in requests], ask)

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        return self._each_member([prompt], lambda one, _: [one.log_laws(prompt[1:], prefixes)])[0]

    def layer_laws(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], layers: int
    ) -> FloatArray:
        """See ``ShowsHiddenStates``; members have equally many layers, or ``layers`` at least."""
        return self._shown(prompts, prefixes, lambda one, x, u: one.layer_laws(x, u, layers))

    def features(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> FloatArray:
        """See ``ShowsHiddenStates``; members have features of one length."""
        return self._shown(prompts, outputs, lambda one, x, y: one.features(x, y))

    def _shown(
        self,
        prompts: Sequence[Sequence[int]],
        strings: Sequence[Sequence[int]],
        show: Callable[
            [ShowsHiddenStates, list[Sequence[int]], list[Sequence[int]]], npt.ArrayLike
        ],
    ) -> FloatArray:
        def ask(member: Generator, positions: list[int]) -> FloatArray:
            mine = [prompts[p][1:] for p in positions], [strings[p] for p in positions]
            return np.asarray(show(cast("ShowsHiddenStates", member), *mine), dtype=np.float64)

        return np.stack(self._each_member(prompts, ask))

    def _each_member(
        self,
        prompts: Sequence[Sequence[int]],
        ask: Callable[[Generator, list[int]], Sequence[_Part] | npt.NDArray[Any]],
    ) -> list[_Part]:
        """What ``ask`` gives for each prompt: one call per member, with the positions of its prompts."""
        batches: dict[int, list[int]] = {}
        for position, prompt in enumerate(prompts):
            batches.setdefault(self._index(prompt), []).append(position)
        found: dict[int, _Part] = {}
        for index, positions in batches.items():
            member = self._members[index]
            before = member.physical()
            found.update(zip(positions, ask(member, positions), strict=True))
            self._done += member.physical() - before
        return [found[position] for position in range(len(prompts))]

    def physical(self) -> Physical:
        """Work the members did for this ensemble."""
        return self._done

    def describe(self) -> Mapping[str, object]:
        digest = hashlib.blake2b(digest_size=8)  # of the JSON of all in a list
        for number, member in enumerate(self._members):
            told = json.dumps(dict(member.describe()), sort_keys=True)
            digest.update(f"{', ' if number else '['}{told}".encode())
        digest.update(b"]")
        return {
            "family": "ensemble",
            "members": len(self._members),
            "first": dict(self._head.describe()),
            "digest": digest.hexdigest(),
        }

    def _index(self, prompt: Sequence[int]) -> int:
        if not len(prompt) or not 0 <= prompt[0] < len(self._members):
            raise InvalidInput(
                f"a prompt must start with a member's index 0…{len(self._members) - 1}, "
                f"got {tuple(prompt)}"
            )
        return prompt[0]
