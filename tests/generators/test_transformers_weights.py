"""Grouped attention and packed weights change how laws are computed, and no law."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import tiny_lm
from reroot import BackendError
from reroot.generators import engines
from reroot.generators.attention import _grouped
from reroot.generators.packed_linear import PackedLinear, pack_linears
from reroot.generators.transformers import Transformers
from served_lm import CLOSE, NETWORKS, ROOMY, TEXT
from tiny_lm import plain_law

# ---- grouped attention ---------------------------------------------------------------------


def test_heads_that_share_keys_are_computed_together() -> None:
    assert ROOMY["llama"]._engine.group == 2
    assert ROOMY["gpt2"]._engine.group == 1
    with patch.object(engines, "group_size", lambda config: 1):
        plain = Transformers((NETWORKS["llama"], TEXT))
    prefixes = [(5,), (5, 6), (7, 5), ()]
    mine, other = (g.log_laws((4, 5, 6), prefixes) for g in (ROOMY["llama"], plain))
    np.testing.assert_allclose(mine, other, atol=CLOSE, rtol=0)
    assert NETWORKS["llama"].config._attn_implementation == "sdpa"


def test_attention_that_cannot_be_grouped_stays_as_it_is() -> None:
    """A wrong size of groups is noticed by the check of the engine."""
    with patch.object(engines, "group_size", lambda config: 2):
        generator = Transformers((NETWORKS["gpt2"], TEXT))
    assert generator._engine.group == 1
    law = generator.log_laws((4, 5), [(6,)])[0]
    np.testing.assert_allclose(law, plain_law(NETWORKS["gpt2"], (4, 5, 6)), atol=CLOSE)
    attention = torch.nn.Module()
    query = key = torch.zeros(1, 2, 3, 4)
    with pytest.raises(BackendError, match="softcap"):
        _grouped(attention, query, key, key, None, softcap=30.0)


# ---- packed weights ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # qwen2 has biases
def test_packed_layers_give_the_same_laws(kind: str) -> None:
    network = tiny_lm.model(kind)
    before = sum(type(layer) is torch.nn.Linear for layer in network.modules())
    pack_linears(network)
    packed = sum(type(layer) is PackedLinear for layer in network.modules())
    assert packed == before == 15  # 7 in each of two layers, and the output layer
    for tokens in [(4, 5, 6), (3,), (7, 4, 4, 9, 2)]:
        law = plain_law(NETWORKS[kind], tokens)
        np.testing.assert_allclose(plain_law(network, tokens), law, atol=1e-5)


def test_only_models_loaded_here_are_packed(tmp_path: Path) -> None:
    network = tiny_lm.model("llama")
    Transformers((network, TEXT))
    assert not any(type(layer) is PackedLinear for layer in network.modules())
    network.save_pretrained(tmp_path)
    TEXT.save_pretrained(tmp_path)
    loaded = Transformers(tmp_path)
    assert any(type(layer) is PackedLinear for layer in loaded._model.modules())
    assert loaded.describe()["weights"] == Transformers((network, TEXT)).describe()["weights"]
    law = loaded.log_laws((4, 5), [(6,)])
    np.testing.assert_allclose(law[0], plain_law(network, (4, 5, 6)), atol=CLOSE)


def test_layers_that_cannot_be_packed_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such product")

    monkeypatch.setattr(PackedLinear, "forward", refuse)
    network = tiny_lm.model("llama")
    pack_linears(network)
    np.testing.assert_array_equal(
        plain_law(network, (4, 5, 6)), plain_law(NETWORKS["llama"], (4, 5, 6))
    )
