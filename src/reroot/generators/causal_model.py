"""What is asked of a causal language model of the ``transformers`` library before it is served."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ..errors import InvalidInput

FULL = "full_attention"
"""The kind of layers that attend to all past tokens."""

_KINDS = {
    DynamicLayer: FULL,
    DynamicSlidingWindowLayer: "sliding_attention",
}


def refusal(model: Any, config: Any) -> str | None:
    """Why this is not a causal language model, if it is none."""
    if config.vocab_size < 1:
        return "its vocabulary is empty"
    if config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        return "it is no decoder-only model"
    if any(getattr(module, "is_causal", True) is False for module in model.modules()):
        return (
            "it is an encoder: its tokens attend to those after them (is_decoder=True is not set)"
        )
    return None


def tree_refusal(model: Any, config: Any) -> str | None:
    """Why keys and values of past tokens are not this model's whole state, if they are not."""
    if getattr(model, "_is_stateful", False):
        return "it carries a recurrent state"
    layers = {type(layer) for layer in DynamicCache(config=config).layers} - set(_KINDS)
    kinds = attention_kinds(config) - {*_KINDS.values(), "chunked_attention"}
    if layers or kinds or "local" in (getattr(config, "attention_layers", None) or ()):
        named = sorted({layer.__name__ for layer in layers} | kinds) or ["local attention"]
        return f"it has layers of another kind ({', '.join(named)})"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation!r} takes no mask; load it with 'sdpa'"
    return None


def attention_kinds(config: Any) -> set[str]:
    """The kinds of the model's layers, as transformers names them."""
    if kinds := getattr(config, "layer_types", None):
        return set(kinds)
    if getattr(config, "attention_chunk_size", None) is not None:
        return {"chunked_attention"}
    layers = DynamicCache(config=config).layers
    return {_KINDS.get(type(layer), type(layer).__name__) for layer in layers} or {FULL}


def positions(config: Any) -> int | None:
    """Most tokens that the model's configuration has positions for, if it says so.

    Rotations that change for all positions when a string grows (longrope) count as far as they do not.
    """
    names = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions")
    named = (n for name in names if isinstance(n := getattr(config, name, None), int))
    found = list(itertools.islice(named, 1))
    rope = getattr(config, "rope_parameters", None) or {}
    for one in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if one.get("rope_type") == "longrope":
            found.append(one["original_max_position_embeddings"])
    return min(found, default=None)


def arithmetic(model: Any) -> torch.dtype:
    """What the model's matrix products are computed in: its own dtype, or that of autocast."""
    device = model.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def end_ids(model: Any, vocab: int) -> list[int]:
    """The end tokens of the model's generation settings."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [e for e in ([ends] if isinstance(ends, int) else ends or ()) if e < vocab]


def device_named(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"cannot compute on device {name!r}: {reason}") from None
    return device


def fingerprint(model: Any) -> str:
    """A hash of the configuration and of 64 evenly spaced entries of every weight."""
    unrelated = ("_name_or_path", "transformers_version", "dtype")
    config = {k: v for k, v in model.config.to_dict().items() if k not in unrelated}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
        digest.update(f"{name}{tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
