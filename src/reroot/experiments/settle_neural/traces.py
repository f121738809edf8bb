"""Noisy traces of the parity tasks as tokens, and the tokenizer that makes a token of each character."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import InvalidInput, MissingDependency, nearest
from ...tasks.parity import PARITY_TASKS

try:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast
except ImportError as error:
    raise MissingDependency(
        f"language models need torch and transformers ({error}): pip install 'reroot[lm]'"
    ) from None

VOCABULARY = ("<pad>", "<eos>", "0", "1", "=")
PAD, END, ZERO, ONE, EQUALS = range(len(VOCABULARY))


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per character of ``01=``, nothing added; any other character becomes ``<pad>``."""
    words = {word: i for i, word in enumerate(VOCABULARY)}
    rules = Tokenizer(models.WordLevel(words, unk_token=VOCABULARY[PAD]))
    rules.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    rules.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token=VOCABULARY[PAD], eos_token=VOCABULARY[END]
    )


def has_free_bits(task: str) -> bool:
    """Whether a free bit precedes every step of ``task``.

    Raises:
        InvalidInput: not a parity task.
    """
    if task not in PARITY_TASKS:
        raise InvalidInput(f"unknown parity task {task!r}.{nearest(str(task), PARITY_TASKS)}")
    return PARITY_TASKS[task].free


class Traces(NamedTuple):
    """What to train on.

    Attributes:
        tokens: (n, W + 1 + T) prompt and output.
        ones: (n, T) probability that an output token is ``1``, given the tokens before it; else
            it is ``0``.
    """

    tokens: Tensor
    ones: Tensor


def noisy_traces(task: str, count: int, width: int, p: float, generator: torch.Generator) -> Traces:
    """Fair prompt bits and free bits; each step right with probability p, given those before it."""
    x, y = (torch.randint(2, (count, width), generator=generator) for _ in range(2))
    y *= has_free_bits(task)
    wrong = (torch.rand(count, width, generator=generator) >= p).long()
    return _traces(task, x, y, (x ^ y ^ wrong).cumsum(1) % 2, p)


def lopsided_traces(
    task: str, count: int, width: int, p: float, least: float, generator: torch.Generator
) -> Traces:
    """As noisy traces, but all bits are independent, 1 with a probability that each trace draws
    from (least, 1/2); the targets are the law of noisy traces."""
    chance = least + (0.5 - least) * torch.rand(count, 1, generator=generator)
    drawn = torch.rand(3, count, width, generator=generator) < chance
    x, y, z = drawn.long()
    return _traces(task, x, y * has_free_bits(task), z, p)


def _traces(task: str, x: Tensor, y: Tensor, z: Tensor, p: float) -> Traces:
    """Tokens and targets from bits of prompts, free bits and steps, all (n, W)."""
    before = torch.nn.functional.pad(z[:, :-1], (1, 0))
    output, ones = z, (1 - p) + (2 * p - 1) * (before ^ y ^ x)
    if has_free_bits(task):
        output = torch.stack([y, z], 2).flatten(1)
        ones = torch.stack([torch.full_like(ones, 0.5), ones], 2).flatten(1)
    equals = torch.full((len(x), 1), EQUALS)
    return Traces(torch.cat([x + ZERO, equals, output + ZERO], 1), ones)
