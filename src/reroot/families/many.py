"""Many instances of one family behind one door, answered in one batch where that is possible."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from ..errors import InvalidInput
from ..generators.base import Generator, Request, check_prefix
from ..generators.ensemble import Ensemble
from ..generators.tabular import IntegerGenerator
from ..types import FloatArray, IntArray, Physical, Reply
from .dyck import Dyck
from .hidden_path import OFF, PathFamily


class Paths(Sequence[PathFamily]):
    """Paths that differ in nothing but the path: of each it alone is held, and the rest made when asked for.

    Raises:
        InvalidInput: there are none, or they differ in something else.
    """

    def __init__(self, members: Iterable[PathFamily]) -> None:
        tokens, law = array("q"), None
        for member in members:
            if law is None:
                self._first, law = member, _law(member)
            if _law(member) != law:
                raise InvalidInput(f"paths of one law expected, got {self._first} and {member}")
            tokens.extend(member.path)
        if law is None:
            raise InvalidInput("an ensemble needs at least one generator")
        self.tokens: IntArray = np.frombuffer(tokens, dtype=np.int64).reshape(
            -1, self._first.horizon
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> PathFamily: ...
    @overload
    def __getitem__(self, index: slice) -> list[PathFamily]: ...
    def __getitem__(self, index: int | slice) -> PathFamily | list[PathFamily]:
        if isinstance(index, slice):
            return [self._first.along(path) for path in self.tokens[index].tolist()]
        return self._first.along(self.tokens[index].tolist())


def _law(member: PathFamily) -> tuple[object, ...]:
    return type(member), member.vocab_size, member.horizon, *member.parameters().items()


def ensemble(members: Sequence[Generator]) -> Ensemble:
    """An ``Ensemble``; paths that differ in nothing but the path are answered together, and so are
    Dyck strings of one law.

    Raises:
        InvalidInput: the members do not fit together (see ``Ensemble``).
    """
    if isinstance(members, Paths):
        return PathEnsemble(members)
    paths = [member for member in members if isinstance(member, PathFamily)]
    if len(paths) == len(members) and len({_law(path) for path in paths}) == 1:
        return PathEnsemble(paths)
    brackets = [member for member in members if isinstance(member, Dyck)]
    if brackets and len(brackets) == len(members):
        return DyckEnsemble(brackets)
    return Ensemble(members)


class PathEnsemble(Ensemble):
    """An ensemble of one path family: all members advance in one decoding loop."""

    def __init__(self, members: Sequence[PathFamily]) -> None:
        super().__init__(members[:1])
        self._members = members if isinstance(members, Paths) else tuple(members)
        self._together = _Together(members if isinstance(members, Paths) else Paths(members))
        self._described: Mapping[str, object] | None = None

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        for request in requests:
            self._index(request.prompt)
        return self._together.answer(requests)

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        self._index(prompt)
        return self._together.log_laws(prompt, prefixes)

    def physical(self) -> Physical:
        return self._together.physical()

    def describe(self) -> Mapping[str, object]:
        if self._described is None:  # members never change
            self._described = super().describe()
        return self._described


class DyckEnsemble(Ensemble):
    """An ensemble of Dyck strings: the first member of each law answers for all of that law, which
    differ in nothing but the string that they demonstrate."""

    def __init__(self, members: Sequence[Dyck]) -> None:
        super().__init__(members)
        firsts: dict[str, int] = {}
        self._speaker = [firsts.setdefault(repr(m), i) for i, m in enumerate(members)]

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        speakers = [self._speaker[self._index(r.prompt)] for r in requests]
        asked = zip(requests, speakers, strict=True)
        return super().answer([replace(r, prompt=(who, *r.prompt[1:])) for r, who in asked])


class _Together(IntegerGenerator):
    """All paths at once: a state is (member, depth), the first prompt token is the member."""

    def __init__(self, members: Paths) -> None:
        self._first = members[0]
        super().__init__(self._first.vocab_size, self._first.horizon)
        self._paths = members.tokens

    def max_length(self) -> int:
        return self.horizon + 1  # the index takes a place

    def describe(self) -> Mapping[str, object]:
        return {"family": "paths", "members": len(self._paths)}

    def _check(self, request: Request) -> None:
        super()._check(request)
        check_prefix(request.prompt[1:], self.vocab_size)

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        depth = self._first.depth((*prompt[1:], *prefix), self._paths[prompt[0]])
        return OFF if depth == OFF else prompt[0] * self.horizon + depth

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        on = (states != OFF) & (tokens == self._paths.ravel()[states])
        return np.where(on, states + 1, OFF)

    def _laws(self, states: IntArray) -> FloatArray:
        on = np.flatnonzero(states != OFF)
        tokens = self._paths.ravel()[states[on]]
        return self._first.path_laws(len(states), on, tokens)
