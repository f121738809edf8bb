"""One generator call for what many sessions wait for; if it fails, each is asked by itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import numpy as np

from ..errors import BackendError
from ..generators.base import ConcurrentGenerator, Generator, Request, ShowsHiddenStates
from ..types import Reply
from .gate import Admitted
from .running import Waiting
from .session import AskHiddenStates


def answer_all(generator: Generator, waiting: Sequence[Waiting]) -> None:
    """Settle everything: one call for all queries, one for all features, and one for all laws of as
    many layers."""
    groups: dict[object, list[Waiting]] = {}
    for item in waiting:
        if item.admitted is not None and not item.settled:
            groups.setdefault(item.admitted.kind, []).append(item)
    for group in groups.values():
        _answer(generator, group)


def conclude(waiting: Sequence[Waiting]) -> None:
    """Conclude, the generator's first, and deliver."""
    for item in waiting:
        if item.admitted is not None:
            item.conclude()
    for item in waiting:
        item.judged()
        item.conclude()
        item.deliver()


def _answer(generator: Generator, group: Sequence[Waiting]) -> None:
    admitted = [cast("Admitted", item.admitted) for item in group]
    parts: Sequence[object] | None = None
    try:
        parts = _call(generator, admitted)
    except Exception as error:
        if len(group) == 1:
            group[0].lose(error)
            return
    for i, (item, one) in enumerate(zip(group, admitted, strict=True)):
        try:
            item.show(_call(generator, [one])[0] if parts is None else parts[i])
        except Exception as error:
            item.lose(error)


def _call(generator: Generator, admitted: Sequence[Admitted]) -> Sequence[object]:
    """What one call answers, part by part."""
    if admitted[0].kind == "queries":
        found = iter(replies(generator, [r for one in admitted for r in one.requests]))
        return [list(itertools.islice(found, len(one.requests))) for one in admitted]
    asked = [(one.prompt, cast("AskHiddenStates", one.message)) for one in admitted]
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


def replies(generator: Generator, requests: Sequence[Request]) -> list[Reply]:
    """The generator's replies, one per request (``BackendError`` otherwise)."""
    found = generator.answer(requests)
    if len(found) != len(requests):
        raise BackendError(f"{len(requests)} requests got {len(found)} replies")
    return found


def submit(
    generator: ConcurrentGenerator, parts: Sequence[Sequence[Request]]
) -> list[list[Future[Reply]] | Exception]:
    """Begin to answer everything: one call, or one for each part if that fails; what it gave for each."""
    try:
        found = iter(_futures(generator, [request for part in parts for request in part]))
        return [list(itertools.islice(found, len(part))) for part in parts]
    except Exception as error:
        if len(parts) == 1:
            return [error]
    return [submit(generator, [part])[0] for part in parts]


def _futures(
    generator: ConcurrentGenerator, requests: Sequence[Request]
) -> Sequence[Future[Reply]]:
    if not requests:
        return ()
    found = generator.submit(requests)
    if len(found) == len(requests) and all(isinstance(future, Future) for future in found):  # pyright: ignore[reportUnnecessaryIsInstance]
        return found
    for future in found:
        if isinstance(future, Future):  # pyright: ignore[reportUnnecessaryIsInstance]
            future.cancel()
    raise BackendError(f"{len(requests)} requests got {len(found)} futures, or what is none")
