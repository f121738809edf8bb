"""What is asked of a causal language model of the ``transformers`` library before it is served."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..errors import InvalidInput


def refusal(model: Any, config: Any) -> str | None:
    """Why keys and values of all past tokens are not this model's whole state, if they are not."""
    if config.vocab_size < 1:
        return "its vocabulary is empty"
    if config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        return "it is no decoder-only model"
    if any(getattr(module, "is_causal", True) is False for module in model.modules()):
        return (
            "it is an encoder: its tokens attend to those after them (is_decoder=True is not set)"
        )
    if getattr(model, "_is_stateful", False):
        return "it carries a recurrent state"
    layers = {type(layer) for layer in DynamicCache(config=config).layers} - {DynamicLayer}
    local = "local" in (getattr(config, "attention_layers", None) or ())
    if layers or local:
        kinds = ", ".join(sorted(layer.__name__ for layer in layers)) or "local attention"
        return f"not all of its layers attend to all past tokens ({kinds})"
    rope = json.dumps(getattr(config, "rope_parameters", None), default=str)
    for kind in ("dynamic", "longrope"):
        if f'"{kind}"' in rope:
            return f"its rotary positions ({kind}) depend on the length of the batch"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation!r} takes no mask; load it with 'sdpa'"
    return None


def positions(config: Any) -> int | None:
    """Most tokens that the model's configuration has positions for, if it says so."""
    names = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions")
    return next((n for name in names if isinstance(n := getattr(config, name, None), int)), None)


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
