"""Tiny random language models and tokenizers, built in memory: what the language-model tests run on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma import GemmaConfig, GemmaForCausalLM
from transformers.models.gpt2 import GPT2Config, GPT2LMHeadModel
from transformers.models.llama import LlamaConfig, LlamaForCausalLM
from transformers.models.qwen2 import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM

K = 12
"""Vocabulary: begin, end, unknown, newline, then the letters a, b, c, …"""

_LLAMA_LIKE = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tokenizer(vocab: int = K, **settings: Any) -> PreTrainedTokenizerFast:
    """One token per character."""
    words = ["<s>", "</s>", "<unk>", "\n", *(chr(ord("a") + i) for i in range(vocab - 4))]
    rules = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    rules.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=rules, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **settings
    )


def model(
    kind: str = "llama", vocab: int = K, positions: int = 48, dropout: float = 0.0, **settings: Any
) -> Any:
    """Two layers whose laws depend strongly on every past token, always the same weights."""
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "gpt2":
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        config = GPT2Config(
            vocab_size=vocab,
            n_positions=positions,
            n_embd=32,
            n_layer=2,
            n_head=4,
            **drops,
            **special,
        )
        return scrambled(GPT2LMHeadModel(config))
    config_class, model_class = _LLAMA_LIKE[kind]
    config = config_class(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        **special,
        **settings,
    )
    return scrambled(model_class(config))


def scrambled(network: Any, seed: int = 0) -> Any:
    """``network`` with large random weights from a generator of its own."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.from_numpy(rng.normal(0.0, 0.3, tuple(weight.shape))))
    return network.eval()


@torch.inference_mode()
def plain_law(network: Any, tokens: tuple[int, ...]) -> np.ndarray:
    """(K,) nats: the law after ``tokens`` by a plain forward pass, no cache."""
    logits = network(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()
