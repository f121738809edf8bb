"""One generator call for what many sessions wait for; if it fails, each is asked by itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..generators.base import Generator, Request, ShowsHiddenStates
from ..types import Reply
from .failures import backend_error
from .gate import Admitted, Gate
from .hidden_states import Inspected
from .session import Answer


@dataclass(slots=True, eq=False)
class Pending:
    """What a gate has admitted and the generator has to answer."""

    gate: Gate
    admitted: Admitted | Inspected
    answer: Answer | None = None


def answer_all(generator: Generator, pending: Sequence[Pending]) -> None:
    """Answer everything: one call for all queries, one for all features, and one for all laws of as
    many layers."""
    groups: dict[object, list[Pending]] = {}
    for one in pending:
        admitted = one.admitted
        kind = "queries" if isinstance(admitted, Admitted) else admitted.message.layers
        groups.setdefault(kind, []).append(one)
    for group in groups.values():
        _answer(generator, group)


def _answer(generator: Generator, group: Sequence[Pending]) -> None:
    parts: Sequence[object] | None = None
    try:
        parts = _call(generator, group)
    except Exception as error:
        if len(group) == 1:
            _fail(group[0], error)
            return
    for i, one in enumerate(group):
        try:
            own = _call(generator, [one])[0] if parts is None else parts[i]
            one.answer = _complete(one, own)
        except Exception as error:
            _fail(one, error)


def _call(generator: Generator, group: Sequence[Pending]) -> Sequence[object]:
    """What one call answers, part by part."""
    queries = [one.admitted for one in group if isinstance(one.admitted, Admitted)]
    if queries:
        found = iter(replies(generator, [r for admitted in queries for r in admitted.requests]))
        return [list(itertools.islice(found, len(admitted.requests))) for admitted in queries]
    asked = [(one.gate.episode.prompt, cast("Inspected", one.admitted).message) for one in group]
    prompts = [prompt for prompt, message in asked for _ in message.prefixes]
    prefixes = [prefix.tokens for _, message in asked for prefix in message.prefixes]
    layers, inner = asked[0][1].layers, cast("ShowsHiddenStates", generator)
    if layers is None:
        shown = inner.features(prompts, prefixes)
    else:
        shown = inner.layer_laws(prompts, prefixes, layers)
    if len(shown) != len(prefixes):
        raise BackendError(f"hidden states at {len(prefixes)} places got {len(shown)} answers")
    ends = list(itertools.accumulate(len(message.prefixes) for _, message in asked))
    return np.split(shown, ends[:-1])


def _complete(one: Pending, own: object) -> Answer:
    if isinstance(one.admitted, Admitted):
        return one.gate.complete(one.admitted, cast("list[Reply]", own))
    return one.gate.complete_hidden_states(one.admitted, cast("npt.NDArray[np.floating[Any]]", own))


def replies(generator: Generator, requests: Sequence[Request]) -> list[Reply]:
    """The generator's replies, one per request (``BackendError`` otherwise)."""
    found = generator.answer(requests)
    if len(found) != len(requests):
        raise BackendError(f"{len(requests)} requests got {len(found)} replies")
    return found


def _fail(one: Pending, error: Exception) -> None:
    one.answer = one.gate.cancel(one.admitted, backend_error(error))
