"""What is not served: laws that would differ from the model's own, at any length that it names."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tokenizers import processors
from transformers.models.bert import BertConfig, BertLMHeadModel
from transformers.models.doge import DogeConfig, DogeForCausalLM
from transformers.models.llama4 import Llama4ForCausalLM, Llama4TextConfig
from transformers.models.roberta import RobertaConfig, RobertaForCausalLM

import tiny_lm
from reroot import BackendError, InvalidInput, RerootError
from reroot.generators import probe
from reroot.generators.probe import Probe, named_lengths
from reroot.generators.transformers import Transformers
from tiny_lm import K, plain_law

TEXT = tiny_lm.tokenizer()
SMALL = {
    "vocab_size": K,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def doge(window: int) -> DogeForCausalLM:
    config = DogeConfig(**SMALL, **SPECIAL, num_key_value_heads=2, keep_window_size=window)
    return DogeForCausalLM(config)


def llama4(floor_scale: int, positions: int = 160) -> Llama4ForCausalLM:
    settings = {**SMALL, "max_position_embeddings": positions}
    config = Llama4TextConfig(
        **settings,
        **SPECIAL,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=2,
        no_rope_layers=[0, 0],
        layer_types=["full_attention"] * 2,
        attention_chunk_size=8192,
        floor_scale=floor_scale,
        attn_temperature_tuning=True,
    )
    return Llama4ForCausalLM(config)


def encoder(kind=(BertConfig, BertLMHeadModel), **settings):
    return kind[1](kind[0](**SMALL, **SPECIAL, **settings))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: doge(16), r"[\d.]+ nats .*keep_window_size = 16"),
        (lambda: doge(90), r"[\d.]+ nats .*keep_window_size = 90"),
        (encoder, "is an encoder.*is_decoder"),
        (lambda: encoder((RobertaConfig, RobertaForCausalLM)), "is an encoder.*is_decoder"),
    ],
    ids=["window", "later window", "bert", "roberta"],
)
def test_wrong_laws_are_not_served(make, reason: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(RerootError, match=reason):
        Transformers((tiny_lm.scrambled(make()), TEXT))


@pytest.mark.parametrize("make", [lambda: doge(16), encoder])
def test_laws_that_hardly_depend_on_the_past_are_checked_as_well(make) -> None:
    """Weights as they are made: all laws are nearly uniform, and wrong ones too."""
    torch.manual_seed(0)
    with pytest.raises(RerootError):
        Transformers((make().eval(), TEXT))


@pytest.mark.parametrize(
    ("make", "scale"),
    [(tiny_lm.scrambled, 16), (tiny_lm.scrambled, 100), (lambda network: network.eval(), 16)],
    ids=["large weights", "later", "weights as they are made"],
)
def test_scales_by_position_are_not_computed_through_the_tree(make, scale: int) -> None:
    """Neither with large weights nor with those as they are made."""
    torch.manual_seed(0)
    network = make(llama4(scale))
    generator = Transformers((network, TEXT))
    assert generator.describe()["engine"] == "own cache"
    why = rf"prefix tree: .* up to [\d.e-]+ nats off a plain pass .*floor_scale = {scale}"
    assert re.search(why, generator.engine_note or "")
    tokens = tuple(np.random.default_rng(1).integers(K, size=150).tolist())
    for cut in (15, 17, 101, 149):
        (law,) = generator.log_laws(tokens[:1], [tokens[1:cut]])
        np.testing.assert_allclose(law, plain_law(network, tokens[:cut]), atol=1e-4)


@pytest.mark.slow
def test_the_usual_8192_are_passed() -> None:
    torch.manual_seed(0)
    generator = Transformers((tiny_lm.scrambled(llama4(8192, positions=9000)), TEXT))
    assert "floor_scale = 8192" in (generator.engine_note or "")


@pytest.mark.parametrize("make", [lambda: doge(200), lambda: encoder(is_decoder=True)])
def test_what_is_right_everywhere_is_served(make) -> None:
    network = tiny_lm.scrambled(make())
    generator = Transformers((network, TEXT))
    tokens = tuple(np.random.default_rng(1).integers(K, size=150).tolist())
    for cut in (3, 64, 149):
        (law,) = generator.log_laws(tokens[:1], [tokens[1:cut]])
        np.testing.assert_allclose(law, plain_law(network, tokens[:cut]), atol=1e-4)


def test_lengths_that_cost_too_much_bound_what_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_WORK", {"cpu": 0})  # 64 tokens, whatever is named
    generator = Transformers((tiny_lm.scrambled(llama4(100)), TEXT))
    assert generator.max_length() == 100
    with pytest.raises(InvalidInput, match="100 positions"):
        generator.log_laws((4,) * 90, [(5,) * 10])
    monkeypatch.undo()
    generator = Transformers((tiny_lm.scrambled(llama4(100)), TEXT))
    assert (generator.max_length(), generator.describe()["engine"]) == (160, "own cache")


def test_the_lengths_that_a_configuration_names() -> None:
    assert named_lengths(doge(16).config)["keep_window_size"] == 16
    assert named_lengths(llama4(16).config) == {"floor_scale": 16}  # 8,192 is past its positions
    assert named_lengths(tiny_lm.model("gpt2").config) == {}
    fixed = {"rope_type": "llama3", "original_max_position_embeddings": 20, "rope_theta": 1e4}
    bands = {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = tiny_lm.model("llama", rope_parameters={**fixed, **bands}).config
    assert named_lengths(config) == {}
    config.rope_parameters["rope_type"] = "of my own"
    assert list(named_lengths(config).values()) == [20]


@pytest.mark.parametrize("positions", [2, 3, 5, 9, 64, 65])
@pytest.mark.parametrize("vocab", [5, K])
def test_short_and_narrow_models_are_checked_too(positions: int, vocab: int) -> None:
    network = tiny_lm.model("llama", vocab=vocab, positions=positions)
    generator = Transformers((network, TEXT if vocab == K else tiny_lm.tokenizer(vocab)))
    (law,) = generator.log_laws((1,), [()])
    np.testing.assert_allclose(law, plain_law(network, (1,)), atol=1e-4)
    assert max(map(len, Probe(network, network.config).known)) == min(positions - 1, 64)


def test_branches_and_cached_steps_are_compared() -> None:
    """Laws that are right along one path alone, or when asked at once alone, are found out."""
    network = tiny_lm.model("llama")
    known = Probe(network, network.config)

    def at_once(strings):
        return np.array([known.known[s] for s in strings])

    known.check(at_once)
    longest = max(map(len, known.known))
    (branch,) = (s for s in known.ends if len(s) == longest)

    def wrong_at_branch(strings):
        laws = at_once(strings)
        laws[[s == branch for s in strings]] += 0.1
        return laws

    with pytest.raises(BackendError, match=f"after {longest} tokens .* 0.1 nats"):
        known.check(wrong_at_branch)
    asked: list[int] = []
    known.check(lambda strings: asked.append(max(map(len, strings))) or at_once(strings))
    assert asked == [longest // 2, longest - 1, longest]


def test_a_tokenizer_of_another_model_is_refused() -> None:
    """Its end token could never be drawn, and what it puts before a prompt could not be asked."""
    words = tiny_lm.tokenizer()
    words.add_special_tokens({"eos_token": "<end>"})
    assert words.eos_token_id == K
    with pytest.raises(InvalidInput, match=f"'<end>' is number {K}, .*vocabulary is 0…{K - 1}"):
        Transformers((tiny_lm.model("llama"), words))
    begins = tiny_lm.tokenizer()
    begins.add_special_tokens({"bos_token": "<begin>"})
    begins.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", K)]
    )
    with pytest.raises(InvalidInput, match=f"'<begin>' is number {K}"):
        Transformers((tiny_lm.model("llama"), begins))
