"""The order in which prompts are trained on: known in advance, so that a resumed run keeps to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from ...randomness import keyed_rng, stream_key


class PromptOrder(Sampler[int]):
    """Indices for all steps of a run as one epoch: pass after pass over the data, each shuffled anew.

    TRL's sampler draws each epoch's order from a generator that a resumed run starts afresh, and
    leaves out prompts that do not fill a batch. This one does neither.

    Args:
        size: prompts of the data set.
        batch: prompts of a generation batch.
        repeats: how often each prompt stands in it, one after the other: n.
        reuse: how often each generation batch is gone through.
        batches: generation batches of the run.
        seed: of the shuffling; ``None``: in order.
    """

    def __init__(
        self, size: int, batch: int, repeats: int, reuse: int, batches: int, seed: int | None
    ) -> None:
        self._size, self._batch, self._repeats, self._reuse = size, batch, repeats, reuse
        self._batches, self._seed = batches, seed

    def __len__(self) -> int:
        return self._batch * self._repeats * self._reuse * self._batches

    def __iter__(self) -> Iterator[int]:
        prompts = self._prompts()
        for _ in range(self._batches):
            chosen = [next(prompts) for _ in range(self._batch)]
            for _ in range(self._reuse):
                for index in chosen:
                    yield from [index] * self._repeats

    def _prompts(self) -> Iterator[int]:
        for epoch in range(2**62):
            order: Any = range(self._size)
            if self._seed is not None:
                rng = keyed_rng(stream_key(self._seed, "prompts", f"epoch {epoch}"))
                order = rng.permutation(self._size).tolist()
            yield from order


def order_for(trainer: Any, dataset: Any) -> PromptOrder:
    """The order of a GRPOTrainer with ``max_steps``."""
    args = trainer.args
    reuse = trainer.num_iterations * args.steps_per_generation
    return PromptOrder(
        len(dataset),
        args.generation_batch_size // trainer.num_generations,
        trainer.num_generations,
        reuse,
        math.ceil(args.max_steps * args.gradient_accumulation_steps / reuse),
        args.seed if trainer.shuffle_dataset else None,
    )
