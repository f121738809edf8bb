"""Many instances of one family behind one door, answered in one batch where that is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..generators.base import Generator, Request, check_prefix
from ..generators.ensemble import Ensemble
from ..generators.tabular import IntegerGenerator
from ..types import FloatArray, IntArray, Physical, Reply
from .dyck import Dyck
from .hidden_path import OFF, PathFamily


def ensemble(members: Sequence[Generator]) -> Ensemble:
    """An ``Ensemble``; paths that differ in nothing but the path are answered together, and so are
    Dyck strings of one law.

    Raises:
        InvalidInput: the members do not fit together (see ``Ensemble``).
    """
    paths = [member for member in members if isinstance(member, PathFamily)]
    alike = {(type(m), m.vocab_size, m.horizon, *m.parameters().items()) for m in paths}
    if len(paths) == len(members) and len(alike) == 1:
        return PathEnsemble(paths)
    brackets = [member for member in members if isinstance(member, Dyck)]
    if brackets and len(brackets) == len(members):
        return DyckEnsemble(brackets)
    return Ensemble(members)


class PathEnsemble(Ensemble):
    """An ensemble of one path family: all members advance in one decoding loop."""

    def __init__(self, members: Sequence[PathFamily]) -> None:
        super().__init__(members)
        self._together = _Together(members)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        for request in requests:
            self._index(request.prompt)
        return self._together.answer(requests)

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        self._index(prompt)
        return self._together.log_laws(prompt, prefixes)

    def physical(self) -> Physical:
        return self._together.physical()


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

    def __init__(self, members: Sequence[PathFamily]) -> None:
        first = members[0]
        super().__init__(first.vocab_size, first.horizon)
        self._members = members
        self._paths = np.array([member.path for member in members], dtype=np.int64)

    def max_length(self) -> int:
        return self.horizon + 1  # the index takes a place

    def describe(self) -> Mapping[str, object]:
        return {"family": "paths", "members": len(self._members)}

    def _check(self, request: Request) -> None:
        super()._check(request)
        check_prefix(request.prompt[1:], self.vocab_size)

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        depth = self._members[prompt[0]].start(prompt[1:], prefix)
        return OFF if depth == OFF else prompt[0] * self.horizon + depth

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        on = (states != OFF) & (tokens == self._paths.ravel()[states])
        return np.where(on, states + 1, OFF)

    def _laws(self, states: IntArray) -> FloatArray:
        on = np.flatnonzero(states != OFF)
        tokens = self._paths.ravel()[states[on]]
        return self._members[0].path_laws(len(states), on, tokens)
