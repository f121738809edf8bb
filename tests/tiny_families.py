"""Tiny random models of many families of transformers: windows, strides and states small enough to matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny_lm
from tiny_lm import K

_COMMON: dict[str, Any] = {
    "vocab_size": K,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
_SLIDES = {"sliding_window": 6, "use_sliding_window": True}
_BOTH = {**_SLIDES, "layer_types": ["sliding_attention", "full_attention"]}
_MOE = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "vocab_size": K}
_SSM = {
    "state_size": 8,
    "mamba_d_state": 8,
    "num_heads": 8,
    "head_dim": 8,
    "n_groups": 2,
    "chunk_size": 4,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 3,
}
_HYBRID = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 4,
    "mamba_expand": 2,
}
_MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}

FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gemma2": ("gemma2", _BOTH),
    "gemma3": ("gemma3_text", _BOTH),
    "gemma3n": (
        "gemma3n_text",
        {
            **_BOTH,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": K,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "altup_active_idx": 0,
        },
    ),
    "gemma3n shared": (
        "gemma3n_text",
        {
            **_SLIDES,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": K,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "altup_active_idx": 0,
        },
    ),
    "gemma4": (
        "gemma4_text",
        {
            **_BOTH,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": K,
            "global_head_dim": 8,
            "num_kv_shared_layers": 0,
        },
    ),
    "vaultgemma": ("vaultgemma", _BOTH),
    "cohere2": ("cohere2", _BOTH),
    "starcoder2": ("starcoder2", _SLIDES),
    "mistral": ("mistral", _SLIDES),
    "mixtral": ("mixtral", {**_SLIDES, **_MOE}),
    "phi3": ("phi3", _SLIDES),
    "qwen2": ("qwen2", _BOTH),
    "qwen3": ("qwen3", _BOTH),
    "qwen2_moe": ("qwen2_moe", {**_BOTH, **_MOE, "shared_expert_intermediate_size": 24}),
    "gpt_oss": ("gpt_oss", {**_BOTH, **_MOE}),
    "olmo3": ("olmo3", _BOTH),
    "exaone4": ("exaone4", _BOTH),
    "ministral": ("ministral", _BOTH),
    "smollm3": ("smollm3", {**_BOTH, "no_rope_layers": [1, 0]}),
    "cwm": ("cwm", _BOTH),
    "granite_swa": ("granite_swa", _BOTH),
    "afmoe": ("afmoe", {**_BOTH, **_MOE, "num_dense_layers": 1}),
    "llama4": (
        "llama4_text",
        {
            **_MOE,
            "attention_chunk_size": 6,
            "intermediate_size_mlp": 48,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
            "floor_scale": 16,
            "attn_temperature_tuning": True,
        },
    ),
    "mimo_v2_flash": ("mimo_v2_flash", {**_BOTH, **_MOE}),
    "modernbert-decoder": (
        "modernbert-decoder",
        {
            "local_attention": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 6,
        },
    ),
    "moshi": ("moshi", {**_SLIDES, "ffn_dim": 48}),
    "gpt_neo": (
        "gpt_neo",
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
        },
    ),
    "mamba": ("mamba", {"state_size": 8}),
    "mamba2": ("mamba2", {**_SSM}),
    "falcon_mamba": ("falcon_mamba", {"state_size": 8}),
    "rwkv": ("rwkv", {"attention_hidden_size": 32, "context_length": 96}),
    "xlstm": ("xlstm", {"num_heads": 4, "num_blocks": 2, "chunk_size": 4}),
    "recurrent_gemma": (
        "recurrent_gemma",
        {
            "lru_width": 32,
            "attention_window_size": 6,
            "block_types": ["recurrent", "attention"],
            "num_key_value_heads": 1,
        },
    ),
    "jamba": (
        "jamba",
        {
            **_MOE,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "bamba": ("bamba", {**_HYBRID, "attn_layer_indices": [1], "head_dim": ...}),
    "zamba": (
        "zamba",
        {
            "layers_block_type": ["mamba", "hybrid"],
            "n_mamba_heads": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
        },
    ),
    "zamba2": (
        "zamba2",
        {
            "layers_block_type": ["mamba", "hybrid"],
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_ngroups": 2,
            "chunk_size": 4,
            "num_mem_blocks": 1,
            "use_mem_rope": False,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
            "adapter_rank": 4,
        },
    ),
    "qwen3_next": ("qwen3_next", {**_LINEAR, **_MOE, "shared_expert_intermediate_size": 24}),
    "qwen3_5": ("qwen3_5_text", {**_LINEAR}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**_LINEAR, **_MOE, "shared_expert_intermediate_size": 24}),
    "nemotron_h": (
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "attention"],
            "hybrid_override_pattern": None,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 4,
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**_HYBRID, **_MOE, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 24},
    ),
    "falcon_h1": ("falcon_h1", {**_HYBRID, "mamba_d_ssm": 64, "head_dim": 8}),
    "olmo_hybrid": ("olmo_hybrid", _LINEAR),
    "lfm2": (
        "lfm2",
        {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_ff_dim": 48},
    ),
    "lfm2_moe": (
        "lfm2_moe",
        {
            **_MOE,
            "layer_types": ["conv", "full_attention"],
            "conv_L_cache": 3,
            "num_dense_layers": 1,
        },
    ),
    "minimax": (
        "minimax",
        {**_MOE, "layer_types": ["linear_attention", "full_attention"], "block_size": 4},
    ),
    "bloom": ("bloom", {**_GPT, "hidden_size": 32}),
    "falcon alibi": ("falcon", {"alibi": True, "head_dim": ..., "new_decoder_architecture": False}),
    "mpt": (
        "mpt",
        {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 96, "expansion_ratio": 2},
    ),
    "openai-gpt": ("openai-gpt", _GPT),
    "llama dynamic": ("llama", {"rope_parameters": _ROPE}),
    "phi3 longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 40,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 40,
            },
        },
    ),
    "deepseek_v32": (
        "deepseek_v32",
        {
            **_MOE,
            **_MLA,
            "num_key_value_heads": 4,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "index_n_heads": 2,
            "index_head_dim": 16,
            "index_topk": 6,
        },
    ),
    "glm_moe_dsa": (
        "glm_moe_dsa",
        {
            **_MOE,
            **_MLA,
            "num_key_value_heads": 4,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "index_n_heads": 2,
            "index_head_dim": 16,
            "index_topk": 6,
        },
    ),
    "minicpm3": ("minicpm3", {**_MLA, "num_key_value_heads": 4}),
    "deepseek_v4": ("deepseek_v4", {**_MOE, **_SLIDES}),
    "hy_v4": ("hy_v4", {**_MOE, **_SLIDES}),
    "lfm3": ("lfm3", {**_MOE}),
    "bailing_hybrid": ("bailing_hybrid", {**_MOE, **_MLA}),
    "gpt_neox_japanese": ("gpt_neox_japanese", {}),
    "nanochat": ("nanochat", {}),
    "cpmant": ("cpmant", {}),
    "laguna": ("laguna", {**_BOTH, **_MOE}),
    "mellum": ("mellum", {**_BOTH, **_MOE}),
    "cohere2_moe": ("cohere2_moe", {**_BOTH, **_MOE}),
    "exaone_moe": ("exaone_moe", {**_BOTH, **_MOE}),
    "dots1": (
        "dots1",
        {
            **_BOTH,
            **_MOE,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
        },
    ),
    "qwen3_moe": ("qwen3_moe", {**_SLIDES, **_MOE}),
    "phimoe": ("phimoe", {**_SLIDES, **_MOE}),
    "minimax_m2": ("minimax_m2", {**_SLIDES, **_MOE}),
    "zaya": ("zaya", {**_MOE, "num_experts_per_tok": 1}),
}
"""Name → (model type, settings that are not the common ones)."""


def family(name: str, seed: int = 0) -> Any:
    """A model of the family with random weights, large enough that laws depend on every past token."""
    kind, settings = FAMILIES[name]
    torch.manual_seed(seed)
    given = {**_COMMON, **settings}
    config = AutoConfig.for_model(kind, **{k: v for k, v in given.items() if v is not ...})
    config.tie_word_embeddings = False
    return tiny_lm.scrambled(AutoModelForCausalLM.from_config(config), seed)
