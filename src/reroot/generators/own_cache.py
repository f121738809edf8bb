"""Laws by plain passes of the model, continued by the cache that the model itself makes.

For models whose state is more than keys and values of all past tokens: nothing is known of that state but
that it has a row for each string of a batch. So strings of one length are computed as a batch, whose state
is kept; children are computed from copies of their parents' rows. What is not at hand any more is
computed from the beginning. Strings whose state nobody needs are padded behind and share a pass, as no token
of a causal model sees what follows it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import BackendError
from ..types import IntArray
from .cache_rows import memory, selected
from .engine import Laws
from .prefix_tree import ROOT, PrefixTree

_NAMES = ("past_key_values", "cache_params", "state")  # of caches, in what models take and give
_POSITIONS = 2048  # rows x tokens of one pass, but for a single longer row
_ENTRIES = 1 << 25  # most logits of one pass
_GROUPS = (
    8  # lengths that strings are sorted by to keep their states, if nobody says that they go on
)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A cache after strings of one length.

    Attributes:
        cache: argument of the model → what it takes there.
        rows: node → row.
        bytes: memory of the cache.
        stepped: whether it came out of another one: then it makes place for what comes out of it.
    """

    cache: dict[str, Any]
    rows: dict[int, int]
    bytes: int
    stepped: bool


class OwnCache:
    """Plain passes; see ``Engine``.

    Args:
        model: a causal language model of the ``transformers`` library.
        config: its text configuration.
        kept: whether states are kept; else every law is computed from its whole string.
    """

    def __init__(self, model: Any, config: Any, *, kept: bool) -> None:
        self._model, self._kept, self._vocab = model, kept, config.vocab_size
        self.name = "own cache" if kept else "recomputed"
        takes = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in takes
        self._names = [name for name in _NAMES if name in takes]
        told = ("attention_mask", "position_ids") if "position_ids" in takes else ()
        self._told = [name for name in told if name in takes]
        self.going_on = False
        self.passes = self.positions = self.again = 0
        self._sizes: dict[int, int] = {}  # tokens → bytes of a row's state

    def reset(self, tree: PrefixTree, budget: int) -> None:
        self._tree, self._budget = tree, budget
        self._batches: list[_Batch] = []  # the latest last

    @property
    def bytes(self) -> int:
        return sum(batch.bytes for batch in self._batches)

    @property
    def slot_bytes(self) -> int:
        return 0

    def nodes(self) -> IntArray:
        return np.array([node for batch in self._batches for node in batch.rows], dtype=np.int64)

    def rows(self, length: int) -> int | None:
        if not self._kept or not self._sizes:
            return None
        return max(1, self._budget // 2 // max(1, self._row_bytes(length)))

    def _row_bytes(self, length: int) -> int:
        """Memory of a row after ``length`` tokens, by the shortest and longest ones seen."""
        short, long = min(self._sizes), max(self._sizes)
        slope = max(0, self._sizes[long] - self._sizes[short]) / max(1, long - short)
        return self._sizes[long] + int(slope * max(0, length - long))

    @torch.inference_mode()
    def some(self, asked: IntArray) -> tuple[IntArray, Laws]:
        ends = self._ends(asked)
        parents = self._tree.parent[ends].tolist()
        best, here = None, 0
        for batch in self._batches:
            if (count := sum(parent in batch.rows for parent in parents)) >= max(1, here):
                best, here = batch, count
        if best is not None:
            mine = np.array([parent in best.rows for parent in parents])
            return self._step(best, ends[mine])
        depths = self._tree.depth[ends]
        lengths, counts = np.unique(depths, return_counts=True)
        if self._kept and (self.going_on or len(lengths) <= _GROUPS):
            return self._begin(ends[depths == lengths[counts.argmax()]], asked, keeping=True)
        return self._begin(ends[np.argsort(-depths, kind="stable")], asked, keeping=False)

    def _ends(self, asked: IntArray) -> IntArray:
        """Those of ``asked`` that others of them do not go through."""
        depths = self._tree.depth[asked]
        if (depths == depths[0]).all():
            return asked
        return asked[~np.isin(asked, self._tree.paths(asked)[1:])]

    def _step(self, batch: _Batch, nodes: IntArray) -> tuple[IntArray, Laws]:
        """The laws of children of a batch's nodes, as many as there is room for."""
        self._batches.remove(batch)
        self._batches.append(batch)
        length = int(self._tree.depth[nodes[0]])
        most = min(self.rows(length) or _POSITIONS, _POSITIONS, max(1, _ENTRIES // self._vocab))
        rows = np.array([batch.rows[parent] for parent in self._tree.parent[nodes].tolist()])
        order = np.argsort(rows, kind="stable")[:most]
        nodes, rows = nodes[order], rows[order]
        cache, size = batch.cache, len(batch.rows)
        if batch.stepped and len(rows) == size and (rows == np.arange(size)).all():
            self._batches.remove(batch)  # it is changed in place
        else:
            cache = selected(cache, torch.from_numpy(rows).to(self._model.device), size)
        self.positions += len(nodes)
        self.again += int(self._tree.computed[nodes].sum())
        logits, cache = self._pass(self._tree.token[nodes][:, None], cache, 1, length - 1)
        self._keep(cache, nodes, stepped=True)
        self._tree.computed[nodes] = True
        return nodes, self._laws(logits[:, -1])

    def _begin(self, ends: IntArray, asked: IntArray, *, keeping: bool) -> tuple[IntArray, Laws]:
        """The laws of the first of ``ends``, and those on the way to them, from their whole strings."""
        tree, longest = self._tree, int(self._tree.depth[ends[0]])
        most = max(1, _POSITIONS // longest)
        if keeping:
            most = min(most, self.rows(longest) or most)
        ends = ends[:most]
        paths = tree.paths(ends)
        wanted = np.isin(paths, asked)
        depths = tree.depth[paths]
        room = max(1, _ENTRIES // self._vocab)
        if self._keeps:  # of long ways the last part
            wanted &= depths > longest - room
        wanted[0] = True
        first = np.where(wanted, depths, longest).min(axis=0)
        kept = longest - np.minimum.accumulate(first) + 1 if self._keeps else [longest] * len(ends)
        fits = np.arange(1, len(ends) + 1) * np.asarray(kept) <= room
        count = max(1, int(fits.cumprod().sum()))
        ends, paths, wanted, depths = (
            ends[:count],
            paths[:, :count],
            wanted[:, :count],
            depths[:, :count],
        )
        keep = int(kept[count - 1])
        tokens = np.zeros((count, longest), dtype=np.int64)
        level, row = np.nonzero(paths != ROOT)
        tokens[row, depths[level, row] - 1] = tree.token[paths[level, row]]
        new = np.unique(paths[~tree.computed[paths] & (paths != ROOT)])
        self.positions += len(row)
        self.again += len(row) - len(new)
        tree.computed[new] = True
        logits, cache = self._pass(tokens, {} if keeping else None, keep)
        if keeping:
            self._keep(cache, ends, stepped=False)
        found, at = np.unique(paths[wanted], return_index=True)
        level, row = (index[at] for index in np.nonzero(wanted))
        place = depths[level, row] - 1 - (longest - logits.shape[1])
        device = logits.device
        chosen = logits[torch.from_numpy(row).to(device), torch.from_numpy(place).to(device)]
        return found, self._laws(chosen)

    def _pass(
        self, tokens: IntArray, cache: dict[str, Any] | None, keep: int, past: int = 0
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """(B, at least ``keep``, K) logits and the cache after ``past`` and these tokens; ``None`` asks
        for none."""
        kept: dict[str, Any] = {"logits_to_keep": keep} if self._keeps else {}
        if cache is not None:  # as the library's own ``generate`` does
            count, new = tokens.shape
            device = self._model.device
            told = {
                "attention_mask": torch.ones((count, past + new), dtype=torch.long, device=device),
                "position_ids": torch.arange(past, past + new, device=device).expand(count, new),
            }
            kept |= {name: told[name] for name in self._told}
        found = self._model(
            input_ids=torch.from_numpy(tokens).to(self._model.device),
            use_cache=cache is not None,
            **(cache or {}),
            **kept,
        )
        self.passes += 1
        if cache is None:
            return found.logits, {}
        given = {name: found[name] for name in self._names if found.get(name) is not None}
        if not given:
            raise BackendError("the model shows no cache")
        return found.logits, given

    def _keep(self, cache: dict[str, Any], nodes: IntArray, *, stepped: bool) -> None:
        """Keep a batch, and let the oldest go where there is not room for all."""
        size = memory(cache)
        rows = {node: row for row, node in enumerate(nodes.tolist())}
        self._sizes[int(self._tree.depth[nodes[0]])] = -(-size // len(rows))
        self._batches.append(_Batch(cache, rows, size, stepped))
        while self._batches and self.bytes > self._budget:
            self._batches.pop(0)

    def _laws(self, logits: torch.Tensor) -> Laws:
        return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
