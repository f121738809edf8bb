"""Hidden states of language models, against plain passes of the transformers library."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import tiny_lm
from reroot import InvalidInput
from reroot.access.session import Session
from reroot.generators import hidden_states as hidden_states_of
from reroot.generators.transformers import Transformers
from tiny_lm import K
from toys import ask_and_tell, problem

KINDS = ("llama", "gpt2", "qwen2", "qwen3", "gemma")
CLOSE = 1e-4  # nats; float32 gives about 1e-5 on these models
NETWORKS = {kind: tiny_lm.model(kind) for kind in KINDS}
TEXT = tiny_lm.tokenizer()
PLACES = [((3, 5), (7, 4, 9)), ((3,), ()), ((8, 2, 2, 6), (5,)), ((3, 5), (7, 4, 9))]


def made(kind: str) -> Transformers:
    return Transformers((NETWORKS[kind], TEXT))


@torch.inference_mode()
def states(network: object, tokens: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """(T, width) each: what one string gives alone, embedding first."""
    found = network(input_ids=torch.tensor([tokens]), output_hidden_states=True)  # type: ignore[operator]
    return tuple(layer[0] for layer in found.hidden_states)


@torch.inference_mode()
def lens(kind: str, tokens: tuple[int, ...], layer: int) -> np.ndarray:
    """(K,) nats: the law read out after block ``layer``, by the name of each model's norm."""
    network = NETWORKS[kind]
    norm = network.transformer.ln_f if kind == "gpt2" else network.model.norm
    seen = states(network, tokens)
    state = seen[layer][-1] if layer == len(seen) - 1 else norm(seen[layer][-1])
    return torch.log_softmax(network.lm_head(state), dim=-1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_layer_laws(kind: str) -> None:
    """The last row is the law; the row before is the logit lens after block 1; batch = alone."""
    generator = made(kind)
    prompts, prefixes = zip(*PLACES, strict=True)
    laws = generator.layer_laws(prompts, prefixes, 8)  # the models have two layers
    assert laws.shape == (len(PLACES), 2, K)
    for i, (prompt, prefix) in enumerate(PLACES):
        law = generator.log_laws(prompt, [prefix])[0]
        assert np.abs(laws[i, -1] - law).max() < CLOSE
        assert np.abs(laws[i, 0] - lens(kind, prompt + prefix, 1)).max() < CLOSE
        assert np.abs(laws[i] - generator.layer_laws([prompt], [prefix], 2)[0]).max() < CLOSE
        assert np.abs(laws[i, :1] - laws[i, 1:]).max() > 0.1  # layers differ
        last = generator.layer_laws([prompt], [prefix], 1)
        assert np.abs(laws[i, 1:] - last[0]).max() < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_means_of_the_last_states(kind: str) -> None:
    generator = made(kind)
    places = [((3, 5), (7, 4, 9)), ((8, 2, 2, 6), (5,)), ((3,), (4, 4, 4, 4, 1))]
    prompts, outputs = zip(*places, strict=True)
    seen = generator.features(prompts, outputs)
    assert seen.shape == (3, 32)
    for i, (prompt, output) in enumerate(places):
        known = states(NETWORKS[kind], prompt + output)[-1][len(prompt) :].mean(dim=0).numpy()
        assert np.abs(seen[i] - known).max() < CLOSE
        alone = generator.features([prompt], [output])
        assert np.abs(seen[i] - alone[0]).max() < CLOSE


def test_small_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = made("llama")
    prompts, prefixes = zip(*PLACES, strict=True)
    known = generator.layer_laws(prompts, prefixes, 2)
    features = generator.features(prompts[::2], prefixes[::2])
    passes = generator.physical().forwards
    monkeypatch.setattr(hidden_states_of, "_ENTRIES", 1)
    assert np.abs(generator.layer_laws(prompts, prefixes, 2) - known).max() < CLOSE
    assert np.abs(generator.features(prompts[::2], prefixes[::2]) - features).max() < CLOSE
    assert generator.physical().forwards == passes + len(PLACES) + 2


def test_work_is_counted() -> None:
    generator = made("llama")
    assert generator.physical().forwards == 0
    generator.layer_laws([(3, 5), (4,)], [(7,), ()], 2)
    generator.features([(3,)], [(7, 1)])
    assert (generator.physical().forwards, generator.physical().computed) == (2, 4 + 3)
    generator.clear()
    assert generator.physical().computed == 0


def test_equal_outputs_are_computed_once() -> None:
    """Draws repeat; the same string with features over fewer of its tokens is another one."""
    generator = made("llama")
    prompts, outputs = [(3, 5), (3, 5), (3,), (3, 5)], [(7, 4), (7, 4), (5, 7, 4), (7, 2)]
    before = generator.physical().computed
    found = generator.features(prompts, outputs)
    assert generator.physical().computed - before == 4 * 3
    assert (found[0] == found[1]).all()
    alone = [generator.features([x], [y])[0] for x, y in zip(prompts, outputs, strict=True)]
    assert np.abs(found - alone).max() < CLOSE


def test_training_mode_and_new_weights() -> None:
    """Without dropout, and following the weights, as laws do."""
    network = tiny_lm.model("gpt2", dropout=0.5)
    generator = Transformers((network, TEXT))
    known = generator.layer_laws([(3,)], [(4, 5)], 2)
    network.train()
    assert np.abs(generator.layer_laws([(3,)], [(4, 5)], 2) - known).max() < CLOSE
    assert network.training
    with torch.no_grad():
        network.transformer.h[0].mlp.c_fc.weight.mul_(-1.0)
    generator.weights_changed()
    seen = generator.layer_laws([(3,)], [(4, 5)], 2)
    assert np.abs(seen - known).max() > 0.1
    assert np.abs(seen[0, -1] - generator.log_laws((3,), [(4, 5)])[0]).max() < CLOSE


def test_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = made("llama")
    assert generator.capabilities.hidden
    with pytest.raises(InvalidInput, match="at least one prompt token"):
        generator.layer_laws([()], [()], 1)
    with pytest.raises(InvalidInput, match="48 tokens fill the model's 48 positions"):
        generator.layer_laws([(3,) * 40], [(4,) * 8], 1)
    generator.features([(3,) * 40], [(4,) * 8])  # nothing follows an output
    with pytest.raises(InvalidInput, match="outside the vocabulary"):
        generator.features([(3,)], [(99,)])
    with pytest.raises(InvalidInput, match="got an empty one"):
        generator.features([(3,)], [()])


def test_models_whose_head_does_more_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with capped or scaled logits: the head alone does not give the model's law."""
    network = tiny_lm.model("llama")
    plain = type(network).forward

    def capped(self: object, *args: object, **settings: object) -> object:
        found = plain(self, *args, **settings)  # type: ignore[arg-type]
        found.logits = torch.tanh(found.logits)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(type(network), "forward", capped)
    generator = Transformers((network, TEXT))
    assert not generator.capabilities.hidden
    with pytest.raises(InvalidInput, match="a llama model shows no hidden states here"):
        generator.layer_laws([(3,)], [()], 1)


def test_through_a_session() -> None:
    generator = made("qwen2")

    async def look(session: Session) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        output = (await session.rollouts(1)).outputs()[0]
        laws = await session.layer_laws(output[:1], 8)
        law = await session.law(output[:1])
        return laws, law, await session.features([output])

    task = problem(prompt=(3, 5), max_tokens=4, demonstration=None)
    laws, law, features = ask_and_tell(look, "visited/full+hidden", generator=generator, task=task)
    assert laws.dtype == np.float64
    assert np.abs(laws[-1] - law).max() < CLOSE
    assert features.shape == (1, 32)
