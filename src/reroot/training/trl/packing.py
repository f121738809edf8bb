"""Log-probabilities of many completions in passes that compute each shared beginning once.

The rollouts of a group begin alike: prompt, start, and whatever else they have in common. All rows
of a batch that share a prompt become one stretch of a packed row, the common beginning first and
then the rest of each; a mask lets each token see its own past alone. The result is that of one
row each, up to rounding, and so are the gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

POSITIONS = 640
"""Most positions of a packed row that holds more than one stretch: attention grows with its square."""

MOST_LOGITS = 1 << 28
"""Entries of logits that a batch may take; TRL's own passes, which keep none, serve larger ones."""


@dataclass(slots=True)
class Packed:
    """A packed row while it grows.

    Attributes:
        tokens, positions: of each place.
        parents: the place before it in its own string; −1: none.
        asked: places whose next-token law is needed, one for each entry of ``rows`` and ``columns``.
        rows, columns: where in the batch's completions the scored token stands.
        labels: the scored tokens.
    """

    tokens: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])
    parents: list[int] = field(default_factory=list[int])
    asked: list[int] = field(default_factory=list[int])
    rows: list[int] = field(default_factory=list[int])
    columns: list[int] = field(default_factory=list[int])
    labels: list[int] = field(default_factory=list[int])

    def string(self, tokens: Sequence[int], parent: int) -> int:
        """Add ``tokens`` after the place ``parent``; the last place."""
        for token in tokens:
            self.tokens.append(token)
            self.positions.append(0 if parent < 0 else self.positions[parent] + 1)
            self.parents.append(parent)
            parent = len(self.tokens) - 1
        return parent

    def sees(self) -> torch.Tensor:
        """(L, L) whether the place of a row sees the place of a column."""
        found = torch.eye(len(self.tokens), dtype=torch.bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                found[place] |= found[parent]
        return found


def pack(
    prompts: Sequence[tuple[int, ...]], completions: Sequence[tuple[int, ...]]
) -> Iterator[Packed]:
    """Packed rows that score every token of every completion."""
    members: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(row)
    packed = Packed()
    for prompt, rows in members.items():
        mine = [completions[row] for row in rows]
        size = len(prompt) + sum(map(len, mine))
        if packed.tokens and len(packed.tokens) + size > POSITIONS:
            yield packed
            packed = Packed()
        _add(packed, prompt, rows, mine)
    yield packed


def _add(
    packed: Packed, prompt: tuple[int, ...], rows: Sequence[int], mine: Sequence[tuple[int, ...]]
) -> None:
    """The completions of one prompt, as a stretch of a packed row."""
    shared = _common(mine)
    end = packed.string(prompt, -1)
    last = packed.string(mine[0][:shared], end)
    # the places that the law of each shared token is read at: the prompt's last one, and so on
    chain = [end, *range(last - shared + 1, last + 1)] if shared else [end]
    for row, tokens in zip(rows, mine, strict=True):
        first = len(packed.tokens)
        packed.string(tokens[shared:-1], last)  # nothing is asked after the last token
        own = [*chain, *range(first, len(packed.tokens))]
        packed.asked += own[: len(tokens)]
        packed.rows += [row] * len(tokens)
        packed.columns += range(len(tokens))
        packed.labels += tokens


def _common(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with; fewer than the shortest has."""
    shortest = min(map(len, rows)) - 1
    for i in range(shortest):
        if any(row[i] != rows[0][i] for row in rows):
            return i
    return shortest


def servable(model: Any) -> bool:
    """Whether ``model`` takes a mask for each pair of places, and gives logits at places alone."""
    parameters = inspect.signature(type(model).forward).parameters
    attention = getattr(model.config.get_text_config(), "_attn_implementation", "")
    return "logits_to_keep" in parameters and attention in ("sdpa", "eager")


def log_probabilities(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[tuple[int, ...]],
    width: int,
    temperature: float,
    entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """((n, width) nats of each completion token, (n, width) entropies), 0 behind the ends.

    Args:
        model: the network, in whatever mode and wrapper; gradients flow.
        prompts, completions: tokens of each row.
        width: most tokens of a completion.
        temperature: of the laws.
        entropy: whether entropies are wanted.
    """
    found: list[torch.Tensor] = []
    spread: list[torch.Tensor] = []
    places: list[torch.Tensor] = []
    for packed in pack(prompts, completions):
        logits = _logits(model, packed) / temperature
        laws = torch.log_softmax(logits, dim=-1)
        distinct, back = torch.unique(torch.tensor(packed.asked), return_inverse=True)
        assert len(distinct) == len(laws)
        labels = torch.tensor(packed.labels, device=laws.device)
        back = back.to(laws.device)
        found.append(laws[back, labels])
        if entropy:
            with torch.no_grad():
                spread.append(-(laws.exp() * laws).nansum(dim=-1)[back])
        flat = torch.tensor(packed.rows) * width + torch.tensor(packed.columns)
        places.append(flat.to(laws.device))
    at, shape = torch.cat(places), (len(prompts), width)

    def laid_out(values: list[torch.Tensor]) -> torch.Tensor:
        flat = torch.cat(values)
        return flat.new_zeros(shape[0] * shape[1]).index_copy(0, at, flat).view(shape)

    return laid_out(found), laid_out(spread) if entropy else None


def _logits(model: Any, packed: Packed) -> torch.Tensor:
    """(m, K) float32 logits at the distinct places asked, in their order."""
    weight = next(iter(model.parameters()))
    device, dtype = weight.device, weight.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    sees = packed.sees().to(device)
    mask = torch.full(sees.shape, torch.finfo(dtype).min, dtype=dtype, device=device)
    keep = torch.unique(torch.tensor(packed.asked)).to(device)
    output = model(
        input_ids=torch.tensor([packed.tokens], device=device),
        attention_mask=mask.masked_fill_(sees, 0.0)[None, None],
        position_ids=torch.tensor([packed.positions], device=device),
        logits_to_keep=keep,
        use_cache=False,
    )
    return output.logits[0].float()
