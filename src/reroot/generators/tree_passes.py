"""Laws through the prefix tree: passes in which each token sees its own ancestors in every layer."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..types import IntArray
from .attention import grouped_attention
from .causal_model import arithmetic
from .engine import Laws
from .key_values import DevicePass, KeyValues
from .prefix_tree import Limits, Pass, PrefixTree, plan_pass

PASS_ENTRIES = 6 << 20
"""Most logits of one pass: below 32 MiB the allocator reuses memory."""

_Sees = npt.NDArray[np.bool_]
_NEAR: Mapping[str, tuple[str, Callable[[IntArray, IntArray, int], _Sees]]] = {
    "sliding_attention": ("sliding_window", lambda query, key, n: query - key < n),
    "chunked_attention": ("attention_chunk_size", lambda query, key, n: query // n == key // n),
}  # kind of layer → (its length in the configuration, which positions a position attends to)


class TreePasses:
    """Forward passes over slots of the tree's nodes; see ``Engine``.

    Args:
        model: a causal language model of the ``transformers`` library.
        config: its text configuration.
        kinds: the kinds of its layers, as transformers names them: what each attends to.
        group: query heads per key head, attended to as one; 1: by the model's own attention.
    """

    name = "prefix tree"
    going_on = False

    def __init__(self, model: Any, config: Any, kinds: Iterable[str], group: int = 1) -> None:
        self._model, self._config, self.group = model, config, group
        self._kinds = sorted(kinds)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        vocab = config.vocab_size
        self.limits = Limits(positions=min(512, max(64, PASS_ENTRIES // vocab)))
        self.passes = self.positions = self.again = 0

    def reset(self, tree: PrefixTree, budget: int) -> None:
        self._tree = tree  # whose slots are within the budget
        self._store = KeyValues(tree)

    @property
    def bytes(self) -> int:
        return self._store.bytes

    @property
    def slot_bytes(self) -> int:
        return self._store.slot_bytes

    def nodes(self) -> IntArray:
        return np.empty(0, dtype=np.int64)  # those with slots are kept by the tree itself

    def rows(self, length: int) -> int | None:
        return None

    def in_short_rows(self, work: Callable[[], None]) -> None:
        """Do ``work`` with passes of many rows of one token."""
        usual, self.limits = self.limits, Limits(row=1, positions=self.limits.positions)
        try:
            work()
        finally:
            self.limits = usual

    @torch.inference_mode()
    def some(self, asked: IntArray) -> tuple[IntArray, Laws]:
        step = plan_pass(self._tree, asked, self.limits)
        device = self._model.device
        keep = {"logits_to_keep": step.keep} if self._keeps else {}
        grouped = grouped_attention(self._config) if self.group > 1 else contextlib.nullcontext()
        with grouped:
            logits = self._model(
                input_ids=torch.from_numpy(step.tokens).to(device),
                attention_mask=self._masks(step),
                position_ids=torch.from_numpy(step.positions).to(device),
                past_key_values=DevicePass(step, self._store, device),
                use_cache=True,
                **keep,
            ).logits
        logits = logits[:, -step.keep :].flatten(0, 1)
        if len(step.at) != len(logits):
            logits = logits[torch.from_numpy(step.at).to(device)]
        self.passes += 1
        self.positions += len(step.write)
        self.again += step.recomputed
        return step.asked, torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    def _masks(self, step: Pass) -> torch.Tensor | dict[str, torch.Tensor]:
        """What each token sees; by kind of layer where they differ."""
        masks = {kind: self._mask(self._near(kind, step)) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _near(self, kind: str, step: Pass) -> _Sees:
        if kind not in _NEAR:
            return step.sees
        name, near = _NEAR[kind]
        query, key = step.positions[:, :, None], step.read_at[:, None, :]
        return step.sees & near(query, key, getattr(self._config, name))

    def _mask(self, sees: _Sees) -> torch.Tensor:
        device, dtype = self._model.device, arithmetic(self._model)
        there = torch.from_numpy(sees).to(device)
        mask = torch.full(sees.shape, torch.finfo(dtype).min, dtype=dtype, device=device)
        return mask.masked_fill_(there, 0.0)[:, None].repeat(1, 1, self.group, 1)
