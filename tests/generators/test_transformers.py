"""Language models through the prefix tree: cached laws equal laws computed from scratch."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers.models.llama import LlamaForCausalLM

import tiny_lm
from reroot import InvalidInput
from reroot.contract import Report
from reroot.generators import transformers, tree_generator
from reroot.generators.base import Generator, Request
from reroot.generators.prefix_tree import Limits
from reroot.generators.stops import Stop
from reroot.generators.transformers import Transformers
from reroot.testing import GeneratorConformance
from served_lm import CLOSE, KINDS, NETWORKS, ROOMY, TEXT
from tiny_lm import K, plain_law

WIDE_NETWORK = tiny_lm.model("llama", vocab=1300)


with patch.object(transformers, "_LAW_SHARE", 8):
    CRAMPED = {  # holds about 17 tokens and 26 laws
        kind: Transformers((network, TEXT), cache_bytes=10_000)
        for kind, network in NETWORKS.items()
    }


@pytest.mark.slow(1)
class TestLlamaConforms(GeneratorConformance):
    prompts = ("abca", (3, 5, 7))
    tolerance = 1e-3
    length = 5
    draws = 2000

    def make(self) -> Generator:
        return Transformers((NETWORKS["llama"], TEXT))


@pytest.mark.slow(1)
class TestGPT2Conforms(TestLlamaConforms):
    def make(self) -> Generator:
        return Transformers((NETWORKS["gpt2"], TEXT))


@pytest.mark.slow
class TestCrampedCacheConforms(TestLlamaConforms):
    def make(self) -> Generator:
        return Transformers((NETWORKS["qwen3"], TEXT), cache_bytes=10_000)


# ---- laws ----------------------------------------------------------------------------------

token_strings = st.lists(st.integers(0, K - 1), max_size=7).map(tuple)


@st.composite
def question_rounds(draw: st.DrawFn) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Rounds of (prompt, prefixes): prompts that share suffixes and beginnings, tree-like prefixes."""
    suffix = draw(st.lists(st.integers(0, K - 1), min_size=1, max_size=6).map(tuple))
    heads = draw(st.lists(token_strings, min_size=1, max_size=3, unique=True))
    prompts = [head + suffix for head in heads] + [suffix + suffix]
    stems = draw(st.lists(token_strings, min_size=1, max_size=6))
    prefixes = [stem + tail for stem in stems for tail in draw(st.lists(token_strings, max_size=3))]
    prefixes = [*stems, *prefixes, ()]
    rounds = st.tuples(
        st.sampled_from(prompts), st.lists(st.sampled_from(prefixes), min_size=1, max_size=12)
    )
    return draw(st.lists(rounds, min_size=1, max_size=5))


@pytest.mark.slow(1)
@pytest.mark.parametrize("cache", [ROOMY, CRAMPED], ids=["roomy", "cramped"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(rounds=question_rounds())
def test_laws_equal_plain_passes_whatever_was_asked_before(cache, kind, rounds) -> None:
    generator = cache[kind]
    for prompt, prefixes in rounds:
        laws = generator.log_laws(prompt, prefixes)
        for prefix, law in zip(prefixes, laws, strict=True):
            np.testing.assert_allclose(
                law, plain_law(NETWORKS[kind], prompt + prefix), atol=CLOSE, rtol=0
            )


@pytest.mark.parametrize("limits", [Limits(row=3, positions=5), Limits(columns=4, positions=7)])
def test_laws_do_not_depend_on_how_passes_are_packed(limits: Limits) -> None:
    rng = np.random.default_rng(0)
    prompt = tuple(rng.integers(0, K, 9).tolist())
    prefixes = [tuple(rng.integers(0, 3, n).tolist()) for n in rng.integers(0, 9, 60)]
    generator = Transformers((NETWORKS["gpt2"], TEXT))
    known = generator.log_laws(prompt, prefixes)
    generator.clear()
    generator._engine.limits = limits
    np.testing.assert_allclose(generator.log_laws(prompt, prefixes), known, atol=CLOSE, rtol=0)
    assert generator.physical().forwards > 10


def test_prompts_with_one_suffix_have_their_own_laws() -> None:
    generator = Transformers((NETWORKS["llama"], TEXT))
    suffix = (4, 5, 6, 7, 8)
    one, other = (generator.log_laws((head, *suffix), [(4, 5)])[0] for head in (9, 10))
    assert np.abs(one - other).max() > 0.01  # the models do look that far back
    np.testing.assert_allclose(one, plain_law(NETWORKS["llama"], (9, *suffix, 4, 5)), atol=CLOSE)


def test_half_precision_gives_laws() -> None:
    network = tiny_lm.model("llama").to(torch.bfloat16)
    generator = Transformers((network, TEXT))
    laws = generator.log_laws((4, 5, 6), [(), (4,), (4, 4)])
    np.testing.assert_allclose(np.exp(laws).sum(axis=1), 1.0, atol=1e-5)
    assert generator.describe()["dtype"] == "bfloat16"


# ---- what is computed ----------------------------------------------------------------------


def test_nothing_is_computed_twice() -> None:
    generator = Transformers((NETWORKS["llama"], TEXT))
    generator.log_laws((4, 5, 6, 7), [()])
    assert (generator.physical().forwards, generator.physical().computed) == (1, 4)
    generator.log_laws((4, 5, 6, 7), [(), (8, 9), (8, 4), (8, 9)])  # nodes 8, 89, 84
    assert (generator.physical().forwards, generator.physical().computed) == (2, 7)
    generator.log_laws((4, 5, 6, 7), [(8, 4), ()])
    generator.answer([Request((4, 5, 6, 7, 8), (9,), n=50)])  # the same place, cut differently
    physical = generator.physical()
    assert (physical.forwards, physical.computed, physical.recomputed) == (2, 7, 0)
    asked = 4 + (4 + 6 + 6) + (6 + 4) + 6  # tokens that these laws depend on
    assert physical.cached == asked - 7


def test_given_tokens_take_one_pass() -> None:
    generator = Transformers((NETWORKS["gpt2"], TEXT))
    request = Request((4, 5), length=8, report=Report.LOGPROB, forced=(4, 6, 8, 4, 6, 8, 10, 11))
    (reply,) = generator.answer([request])
    assert generator.physical().forwards == 1
    assert generator.physical().computed == 2 + 7
    assert reply.logprobs is not None
    for t, token in enumerate(request.forced or ()):
        law = plain_law(NETWORKS["gpt2"], (4, 5, *(request.forced or ())[:t]))
        assert reply.logprobs[0, t] == pytest.approx(law[token], abs=CLOSE)


def test_evicted_tokens_are_recomputed_and_counted() -> None:
    generator = Transformers((NETWORKS["llama"], TEXT), cache_bytes=10_000)
    limit = generator._tree.limit
    first = generator.log_laws((4, 5, 6, 7), [(8, 9)])
    for head in range(4, K):
        generator.log_laws((head,) * 5, [(head, 4), (head, 5, 6)])
        assert generator._tree.held <= limit
    assert generator._tree.capacity <= limit
    before = generator.physical()
    again = generator.log_laws((4, 5, 6, 7), [(8, 9), (8, 8)])
    assert generator.physical().recomputed > before.recomputed
    np.testing.assert_allclose(again[0], first[0], atol=CLOSE)


def test_a_cache_too_small_for_one_path_still_answers() -> None:
    generator = Transformers((NETWORKS["gpt2"], TEXT), cache_bytes=1)
    assert generator._tree.limit == 1
    prefixes = [(4,) * 9, (5, 4, 4), (4,) * 9 + (6,), ()]
    laws = generator.log_laws((6, 7), prefixes)
    for prefix, law in zip(prefixes, laws, strict=True):
        np.testing.assert_allclose(law, plain_law(NETWORKS["gpt2"], (6, 7, *prefix)), atol=CLOSE)


def test_what_the_cache_cannot_hold_waits() -> None:
    reports = (Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL)
    requests = [
        Request((4, 5, 6), n=9, length=6, report=report, stop=Stop(frozenset({1})), key=(7, i))
        for i, report in enumerate(reports)
    ]
    roomy, cramped = Transformers((NETWORKS["llama"], TEXT)), CRAMPED["llama"]
    before = cramped.physical()
    whole, cut = roomy.answer(requests), cramped.answer(requests)
    assert (cramped.physical() - before).forwards > 4 * roomy.physical().forwards
    for mine, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(mine.tokens, other.tokens)
        np.testing.assert_array_equal(mine.lengths, other.lengths)
        for name in ("logprobs", "base_logprobs", "top_logprobs", "laws"):
            a, b = getattr(mine, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, atol=CLOSE)


@pytest.mark.slow(1)
def test_many_rollouts_leave_few_nodes_behind() -> None:
    """Nodes that nothing needs any more are dropped while a long call goes on."""
    with patch.object(transformers, "_LAW_SHARE", 8), patch.object(tree_generator, "_NODES", 200):
        generator = Transformers((NETWORKS["gpt2"], TEXT), cache_bytes=1 << 17)
        generator.answer([Request((4, 5), n=200, length=12, key=(1, 1))])
        assert len(generator._tree) < 200 * 12 / 2


def test_weights_changed_leaves_nothing_stale() -> None:
    network = tiny_lm.model("llama")
    generator = Transformers((network, TEXT))
    old, described = generator.log_laws((4, 5), [(6,)]), generator.describe()
    computed = generator.physical().computed
    tiny_lm.scrambled(network, seed=1)
    assert generator.describe()["weights"] != described["weights"]
    np.testing.assert_array_equal(generator.log_laws((4, 5), [(6,)]), old)  # from the cache
    generator.weights_changed()
    new = generator.log_laws((4, 5), [(6,)])
    np.testing.assert_allclose(new[0], plain_law(network, (4, 5, 6)), atol=CLOSE)
    assert np.abs(new - old).max() > 0.01
    assert generator.physical().computed == computed + 3


def test_weights_of_a_named_model_cannot_change(tmp_path: Path) -> None:
    network = tiny_lm.model("gpt2")
    network.save_pretrained(tmp_path)
    TEXT.save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="loaded by name and cannot change"):
        Transformers(tmp_path).weights_changed()


def test_training_mode_is_switched_off_and_restored() -> None:
    network = tiny_lm.model("gpt2", dropout=0.5)
    generator = Transformers((network, TEXT))
    known = generator.log_laws((4, 5), [(6,)])
    generator.weights_changed()
    network.train()
    network.transformer.h[0].eval()  # one block frozen
    modes = [module.training for module in network.modules()]
    np.testing.assert_allclose(generator.log_laws((4, 5), [(6,)]), known, atol=CLOSE)
    (reply,) = generator.answer([Request((4, 5), (6,), n=3, report=Report.FULL)])
    assert reply.laws is not None
    np.testing.assert_allclose(reply.laws[0, 0], known[0], atol=CLOSE)
    assert [module.training for module in network.modules()] == modes


def test_the_peak_of_memory_is_told() -> None:
    generator = Transformers((NETWORKS["llama"], TEXT))
    assert generator.physical().peak_bytes == 0
    generator.log_laws((4,) * 30, [()])
    first = generator.physical().peak_bytes
    assert first >= 30 * generator._slot_bytes
    generator.log_laws((4,) * 30, [(5,) * t for t in range(15)])
    most = generator.physical().peak_bytes
    assert most >= first + 14 * 4 * generator.vocab_size  # as many laws more
    generator.weights_changed()
    generator.log_laws((4,), [()])
    assert generator.physical().peak_bytes == most


@pytest.mark.slow
class TestWideModelConforms(TestLlamaConforms):
    draws = 500

    def make(self) -> Generator:
        return Transformers((WIDE_NETWORK, TEXT))


# ---- the boundary --------------------------------------------------------------------------


def test_positions_are_limited() -> None:
    generator = ROOMY["gpt2"]
    assert generator.max_length() == 48
    (reply,) = generator.answer([Request((4,) * 40, length=8, key=(1, 1))])
    assert reply.lengths.tolist() == [8]
    with pytest.raises(InvalidInput, match="48 positions"):
        generator.answer([Request((4,) * 40, length=9)])
    with pytest.raises(InvalidInput, match="48 positions"):
        generator.log_laws((4,) * 40, [(5,) * 8])
    with pytest.raises(InvalidInput, match="at least one prompt token"):
        generator.log_laws((), [()])


@pytest.mark.parametrize("cache_bytes", [0, -1, True])
def test_bad_cache_size(cache_bytes: int) -> None:
    with pytest.raises(InvalidInput, match="cache_bytes"):
        Transformers((NETWORKS["llama"], TEXT), cache_bytes=cache_bytes)


def test_a_model_that_ignores_the_mask_is_found_out() -> None:
    class Blind(LlamaForCausalLM):
        def forward(self, *args, attention_mask=None, **kwargs):
            if attention_mask is not None:
                attention_mask = torch.zeros_like(attention_mask)
            return super().forward(*args, attention_mask=attention_mask, **kwargs)

    network = tiny_lm.scrambled(Blind(NETWORKS["llama"].config))
    generator = Transformers((network, TEXT))
    assert generator.describe()["engine"] == "recomputed"
    assert re.search("prefix tree: after .* nats off a plain pass", generator.engine_note or "")
    laws = generator.log_laws((4, 5, 6), [(7,), (8, 9)])
    np.testing.assert_allclose(laws[1], plain_law(network, (4, 5, 6, 8, 9)), atol=CLOSE)
