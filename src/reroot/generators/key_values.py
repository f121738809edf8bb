"""Key and value memory of a prefix tree on a device, in the form that transformers' models update."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from .prefix_tree import Pass, PrefixTree


class KeyValues:
    """The key and value slabs, one pair per layer, (capacity, heads, width) each."""

    def __init__(self, tree: PrefixTree) -> None:
        self._tree = tree
        self._slabs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot over all layers seen so far."""
        return sum(s[0].numel() * s.element_size() for pair in self._slabs.values() for s in pair)

    @property
    def bytes(self) -> int:
        """Memory of all slabs."""
        return sum(slab.nbytes for pair in self._slabs.values() for slab in pair)

    def exchange(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, step: DevicePass
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new tokens' keys and values, (B, heads, T, width); return those read, (…, S, …)."""
        slabs = self._slabs.get(layer)
        if slabs is None or len(slabs[0]) < self._tree.capacity:
            old = slabs or (keys.new_empty(0), values.new_empty(0))
            pairs = zip(old, (keys, values), strict=True)
            grown = [self._enlarge(slab, like) for slab, like in pairs]
            slabs = self._slabs[layer] = (grown[0], grown[1])
        read: list[torch.Tensor] = []
        for slab, new in zip(slabs, (keys, values), strict=True):
            batch, heads, _, width = new.shape
            flat = new.transpose(1, 2).reshape(-1, heads, width)
            slab.index_copy_(0, step.write, flat if step.full else flat[step.valid])
            rows = slab.index_select(0, step.read)
            read.append(rows.view(batch, -1, heads, width).transpose(1, 2))
        return read[0], read[1]

    def _enlarge(self, slab: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        grown = like.new_empty((self._tree.capacity, like.shape[1], like.shape[3]))
        if len(slab):
            grown[: len(slab)] = slab
        return grown


class DevicePass(DynamicCache):
    """A ``Pass`` on a device, in the form of the cache object that transformers' models update."""

    def __init__(self, step: Pass, store: KeyValues, device: torch.device | str) -> None:
        super().__init__()
        self.read, self.valid, self.write = (
            torch.from_numpy(a).to(device) for a in (step.read, step.valid, step.write)
        )
        self.full = len(step.valid) == step.tokens.size
        self._past = step.sees.shape[2] - step.tokens.shape[1]
        self._store = store

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each attention layer with its new keys and values."""
        return self._store.exchange(layer_idx, key_states, value_states, self)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this pass."""
        return max(0, self._past)
