"""Rollouts that ended by themselves, told to TRL, which knows end tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...access.episode import Episode


def show_ends(
    completions: dict[str, list[Any]], episodes: Sequence[Episode], trainer: Any
) -> dict[str, list[Any]]:
    """``completions`` with a padding token behind each rollout that a stop token or stop text ended.

    TRL takes a completion for truncated unless its last token is an end token or padding, and may leave
    it out (``mask_truncated_completions``). ``env_mask`` is 0 on what is added: nothing is learnt there.

    Args:
        completions: as TRL wants them, groups one after the other.
        episodes: of the groups, which are equally large.
        trainer: the GRPOTrainer.
    """
    padding = trainer.processing_class.pad_token_id
    known = {*trainer.eos_token_ids, padding}
    size = len(completions["completion_ids"]) // len(episodes)
    for i, tokens in enumerate(completions["completion_ids"]):
        if tokens[-1] not in known and episodes[i // size].stop.ends(tokens):
            tokens.append(padding)
            completions["env_mask"][i].append(0)
            if completions["logprobs"] is not None:
                completions["logprobs"][i].append(0.0)
    return completions
