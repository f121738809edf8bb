"""Tiny language models behind the prefix tree, one of each kind that tests ask."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


import tiny_lm
from reroot.generators.transformers import Transformers

KINDS = ("llama", "gpt2", "qwen2", "qwen3", "gemma")
CLOSE = 1e-4  # nats; float32 gives about 1e-5 on these models
NETWORKS = {kind: tiny_lm.model(kind) for kind in KINDS}
TEXT = tiny_lm.tokenizer()


ROOMY = {kind: Transformers((network, TEXT)) for kind, network in NETWORKS.items()}
