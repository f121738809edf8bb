"""Groups of rollouts as TRL's trainers take them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ...access.episode import Episode
from ..group import Group

Behaviour = Callable[
    [tuple[int, ...], tuple[int, ...], Sequence[int]], Sequence[float | None] | None
]
"""(prompt, start, tokens) → nats of the tokens as they were drawn, if they are known."""


class _End:
    """Stands among a trainer's end tokens for whatever token a stop of a problem has ended an output at."""

    def __eq__(self, other: object) -> bool:
        return other is self or isinstance(other, EndToken)

    __hash__ = object.__hash__


END = _End()


class EndToken(int):
    """The last token of an output that was stopped, where the trainer would not know it by its number.

    Trainers tell by the last token whether an output has ended or was cut off.
    """

    def __eq__(self, other: object) -> bool:
        return other is END or int.__eq__(self, other)  # pyright: ignore[reportArgumentType]

    __hash__ = int.__hash__


def completions(
    groups: Sequence[Group],
    episodes: Sequence[Episode],
    ends: Collection[object],
    behaviour: Behaviour | None = None,
) -> dict[str, Any]:
    """Groups as a ``rollout_func`` returns them, rollout by rollout.

    Start tokens have the log-probability 0, which no mask of the trainer lets through.

    Args:
        groups: of one process.
        episodes: what each is of.
        ends: the tokens by which the trainer knows that an output has ended.
        behaviour: what tells the trainer log-probabilities that the contract reports to nobody.
    """
    prompts: list[list[int]] = []
    tokens: list[list[int]] = []
    masks: list[list[int]] = []
    logprobs: list[list[float | None]] = []
    for group, episode in zip(groups, episodes, strict=True):
        start = list(group.start.prefix)
        for i, own in enumerate(group.tokens):
            whole = start + own
            if stopped(episode, whole) and whole[-1] not in ends:
                whole[-1] = EndToken(whole[-1])
            prompts.append(list(group.prompt))
            tokens.append(whole)
            masks.append([0] * len(start) + [1] * len(own))
            nats = None if group.logprobs is None else group.logprobs[i]
            if behaviour is not None:
                nats = behaviour(group.prompt, tuple(start), own)
            if nats is not None:
                logprobs.append([0.0] * len(start) + [*nats])
    found = {"prompt_ids": prompts, "completion_ids": tokens, "logprobs": logprobs or None}
    if any(group.start.prefix for group in groups):  # else all is trained on, as without a mask
        found["env_mask"] = masks
    return found


def stopped(episode: Episode, tokens: Sequence[int]) -> bool:
    """Whether an output was ended by a stop, and not by the horizon."""
    return len(tokens) < episode.horizon or episode.stop.ends(tokens)
