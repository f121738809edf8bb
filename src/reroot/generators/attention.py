"""Attention in which several query heads share one key head, without copying the keys for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from ..errors import BackendError

_NAME = "reroot_grouped"


def _grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query heads of a group as further rows of one head; the mask has their rows already."""
    changed = [n for n in ("softcap", "s_aux", "position_bias") if kwargs.get(n) is not None]
    if changed:
        raise BackendError(f"attention with {', '.join(changed)} is not computed in groups")
    batch, heads, length, width = query.shape
    rows = query.reshape(batch, key.shape[1], -1, width)
    out = torch.nn.functional.scaled_dot_product_attention(
        rows, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.reshape(batch, heads, length, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _grouped)


def group_size(config: Any) -> int:
    """Query heads per key head, where the model's attention can be replaced by ``_grouped``."""
    keys = getattr(config, "num_key_value_heads", None)
    if config._attn_implementation != "sdpa" or not isinstance(keys, int):
        return 1
    return config.num_attention_heads // keys


@contextlib.contextmanager
def grouped_attention(config: Any) -> Iterator[None]:
    """Within, the model of this configuration attends by ``_grouped``."""
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
