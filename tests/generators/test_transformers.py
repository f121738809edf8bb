"""Language models through the prefix tree: cached laws equal laws computed from scratch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers.models.bloom import BloomConfig, BloomForCausalLM
from transformers.models.llama import LlamaForCausalLM
from transformers.models.mamba import MambaConfig, MambaForCausalLM
from transformers.models.mistral import MistralConfig, MistralForCausalLM

import tiny_lm
from reroot import BackendError, InvalidInput
from reroot.contract import Report, Sampling
from reroot.generators import transformers
from reroot.generators.attention import _grouped
from reroot.generators.base import Generator, Request
from reroot.generators.law import cumulative, invert
from reroot.generators.packed_linear import PackedLinear, pack_linears
from reroot.generators.prefix_tree import ROOT, Limits, PrefixTree, plan_pass
from reroot.generators.transformers import Transformers
from reroot.generators.wide import LawStore, draw_wide
from reroot.randomness import Uniforms
from reroot.testing import GeneratorConformance
from tiny_lm import K, plain_law

KINDS = ("llama", "gpt2", "qwen2", "qwen3", "gemma")
CLOSE = 1e-4  # nats; float32 gives about 1e-5 on these models
NETWORKS = {kind: tiny_lm.model(kind) for kind in KINDS}
TEXT = tiny_lm.tokenizer()
WIDE_NETWORK = tiny_lm.model("llama", vocab=1300)
ROOMY = {kind: Transformers((network, TEXT)) for kind, network in NETWORKS.items()}
with patch.object(transformers, "_LAW_SHARE", 8):
    CRAMPED = {  # holds about 17 tokens and 26 laws
        kind: Transformers((network, TEXT), cache_bytes=10_000)
        for kind, network in NETWORKS.items()
    }


class TestLlamaConforms(GeneratorConformance):
    prompts = ("abca", (3, 5, 7))
    tolerance = 1e-3
    length = 5
    draws = 2000

    def make(self) -> Generator:
        return Transformers((NETWORKS["llama"], TEXT))


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
    generator._limits = limits
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
        Request((4, 5, 6), n=9, length=6, report=report, stop=frozenset({1}), key=(7, i))
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


def test_many_rollouts_leave_few_nodes_behind() -> None:
    """Nodes that nothing needs any more are dropped while a long call goes on."""
    with patch.object(transformers, "_LAW_SHARE", 8), patch.object(transformers, "_NODES", 200):
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


# ---- grouped attention ---------------------------------------------------------------------


def test_heads_that_share_keys_are_computed_together() -> None:
    assert ROOMY["llama"]._group == 2
    assert ROOMY["gpt2"]._group == 1
    with patch.object(transformers, "group_size", lambda config: 1):
        plain = Transformers((NETWORKS["llama"], TEXT))
    prefixes = [(5,), (5, 6), (7, 5), ()]
    mine, other = (g.log_laws((4, 5, 6), prefixes) for g in (ROOMY["llama"], plain))
    np.testing.assert_allclose(mine, other, atol=CLOSE, rtol=0)
    assert NETWORKS["llama"].config._attn_implementation == "sdpa"


def test_attention_that_cannot_be_grouped_stays_as_it_is() -> None:
    """A wrong size of groups is noticed by the check of the engine."""
    with patch.object(transformers, "group_size", lambda config: 2):
        generator = Transformers((NETWORKS["gpt2"], TEXT))
    assert generator._group == 1
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


# ---- the tree ------------------------------------------------------------------------------


def path_of(tree: PrefixTree, node: int) -> tuple[int, ...]:
    path: list[int] = []
    while node != ROOT:
        path.append(int(tree.token[node]))
        node = int(tree.parent[node])
    return tuple(reversed(path))


def test_slots_are_held_by_whole_paths_after_any_eviction() -> None:
    rng = np.random.default_rng(0)
    tree = PrefixTree(limit=12)
    for _ in range(300):
        prompts = [tuple(rng.integers(0, 3, rng.integers(1, 9)).tolist()) for _ in range(3)]
        asked = np.unique([tree.start(prompt, ()) for prompt in prompts])
        while len(asked):
            step = plan_pass(tree, asked, Limits(row=2, positions=6))
            assert len(set(step.write.tolist())) == len(step.write)
            asked = np.setdiff1d(asked, step.asked)
        held = np.flatnonzero(tree.slot[: tree._size] >= 0)
        assert len(set(tree.slot[held].tolist())) == len(held) == tree.held
        parents = tree.parent[held]
        assert (tree.slot[parents[parents != ROOT]] >= 0).all()
    assert tree.capacity <= 12 + 8  # one pass may exceed the limit by the paths it needs


def test_forgetting_keeps_what_is_held() -> None:
    tree = PrefixTree(limit=100)
    kept = tree.start((1, 2, 3), (4,))
    step = plan_pass(tree, np.array([kept]), Limits())
    remembered = tree.start((1, 2), (9, 9))
    dropped = tree.start((7, 7), (7,))
    tree.forget(np.array([remembered]))
    assert len(tree) == 4 + 2
    assert path_of(tree, remembered) == (1, 2, 9, 9)
    assert tree.start((1, 2, 3, 4), ()) == kept
    assert tree.slot[kept] in step.write
    fresh = {tree.start((5,), ()), tree.start((6,), ()), tree.start((8,), ())}
    assert dropped in fresh  # numbers are used again
    assert {path_of(tree, node) for node in fresh} == {(5,), (6,), (8,)}


def test_law_store_keeps_the_most_recent() -> None:
    store = LawStore(3, 2)
    laws = np.arange(10, dtype=np.float32).reshape(5, 2)
    store.write(np.array([1, 2, 3]), laws[:3])
    out = np.zeros((2, 2), dtype=np.float32)
    assert store.read(np.array([1, 9]), out).tolist() == [1]
    assert out.tolist() == [[0, 1], [0, 0]]
    store.write(np.array([4]), laws[3:4])  # 2 is now the oldest
    assert [node in store for node in (1, 2, 3, 4)] == [True, False, True, True]
    store.write(np.array([5, 6, 7, 8]), laws[:4])
    assert store.nodes() == [6, 7, 8]
    assert store.read(np.array([7]), out[:1]).tolist() == []
    assert out[0].tolist() == [4, 5]
    LawStore(0, 2).write(np.array([1]), laws[:1])


# ---- draws ---------------------------------------------------------------------------------


def wide_law(vocab: int, seed: int = 0) -> np.ndarray:
    """(1, vocab) nats: a peaked law with a long tail, a third of it impossible."""
    rng = np.random.default_rng(seed)
    law = rng.normal(0.0, 3.0, (1, vocab))
    law[0, rng.random(vocab) < 1 / 3] = -np.inf
    return law - np.logaddexp.reduce(law[0])


@pytest.mark.parametrize("vocab", [1024, 1300, 5000])
def test_wide_draws_follow_the_law(vocab: int) -> None:
    """χ² of 100,000 draws; a right program fails with probability 1e-4 in each case."""
    law, n = wide_law(vocab), 100_000
    u = Uniforms().column((3, vocab), 0, n, 0)
    tokens = draw_wide(law, np.zeros(n, dtype=np.int64), u)
    counts, expected = np.bincount(tokens, minlength=vocab), np.exp(law[0]) * n
    assert not counts[expected == 0].any()  # what is impossible is never drawn
    common = expected >= 5
    seen = np.append(counts[common], counts[~common].sum())
    assert stats.chisquare(seen, np.append(expected[common], expected[~common].sum())).pvalue > 1e-4


def test_wide_draws_depend_on_their_law_and_uniform_alone() -> None:
    laws = np.concatenate([wide_law(1300, seed) for seed in range(40)]).astype(np.float32)
    rows = np.random.default_rng(1).integers(40, size=700)
    u = Uniforms().column((4, 4), 0, 700, 0)
    together = draw_wide(laws, rows, u)
    alone = [int(draw_wide(laws[[r]], np.array([0]), u[[i]])[0]) for i, r in enumerate(rows)]
    assert together.tolist() == alone


def test_rounding_moves_hardly_any_wide_draw() -> None:
    """Laws that differ by 1e-6 nats: 20,000 draws of each; inverse transform moves more."""
    law, n = wide_law(20_000, seed=2), 20_000
    noisy = law + np.random.default_rng(0).normal(0.0, 1e-6, law.shape)
    noisy -= np.logaddexp.reduce(noisy[0])
    u, rows = Uniforms().column((5, 5), 0, n, 0), np.zeros(n, dtype=np.int64)
    assert (draw_wide(law, rows, u) != draw_wide(noisy, rows, u)).sum() <= 3
    moved = invert(cumulative(law), rows, u) != invert(cumulative(noisy), rows, u)
    assert moved.sum() >= 5


def test_a_law_that_is_none_is_refused() -> None:
    laws = np.full((2, 1100), -np.log(1100))
    assert 0 <= draw_wide(laws, np.array([1]), np.array([0.5]))[0] < 1100
    laws[0, 3] = np.nan
    with pytest.raises(BackendError, match="misses probability 1"):
        draw_wide(laws, np.array([1]), np.array([0.5]))


def test_wide_models_draw_from_the_law_they_report() -> None:
    network = tiny_lm.model("llama", vocab=1300)
    generator = Transformers((network, TEXT))
    request = Request((4, 5), n=30, length=4, report=Report.FULL, key=(1, 2))
    warm = replace(request, sampling=Sampling(temperature=0.5, top_k=20))
    for reply in generator.answer([request, warm]):
        assert reply.laws is not None
        for t in range(4):
            u = Uniforms().column((1, 2), 0, 30, t)
            tokens = draw_wide(reply.laws[:, t], np.arange(30), u)
            assert (reply.tokens[:, t] != tokens).sum() <= 1  # rounding to float32


@pytest.mark.slow
class TestWideModelConforms(TestLlamaConforms):
    draws = 500

    def make(self) -> Generator:
        return Transformers((WIDE_NETWORK, TEXT))


# ---- text and identity ---------------------------------------------------------------------


def test_text_round_trip() -> None:
    generator = ROOMY["llama"]
    assert generator.encode("abc") == (4, 5, 6)
    assert generator.encode("") == (0,)  # the begin token
    assert generator.encode_continuation("b\na") == (5, 3, 4)
    assert generator.decode((5, 3, 4, 1)) == "b\na"  # the end token is not shown
    assert generator.end_token == 1
    assert generator.stop_tokens(()) == {1}
    assert generator.stop_tokens(("\n", "ab", "</s>", "<s>")) == {0, 1, 3}
    with pytest.raises(InvalidInput, match="empty"):
        generator.stop_tokens(("",))
    with pytest.raises(InvalidInput, match="outside the vocabulary"):
        generator.decode((K,))


def test_end_tokens_of_the_generation_settings_count() -> None:
    network = tiny_lm.model("llama")
    network.generation_config.eos_token_id = [5, 7, K + 100]
    assert Transformers((network, TEXT)).stop_tokens(()) == {1, 5, 7}


def test_chat_template() -> None:
    text = tiny_lm.tokenizer()
    with pytest.raises(InvalidInput, match="no chat template"):
        Transformers((NETWORKS["llama"], text), chat=True)
    text.chat_template = (
        "{% for m in messages %}a{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n' }}{% endif %}"
    )
    chat, raw = (Transformers((NETWORKS["llama"], text), chat=chat) for chat in (True, False))
    assert chat.encode("bc") == (4, 5, 6, 3)
    assert raw.encode("bc") == (5, 6)
    assert chat.encode_continuation("bc") == (5, 6)
    assert chat.describe() != raw.describe()


def test_sentencepiece_spaces_survive() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", "<0x0A>", "▁", "▁a", "▁b", "a", "b", "ab"]
    rules = Tokenizer(
        models.BPE(
            {w: i for i, w in enumerate(words)},
            [("▁", "a"), ("▁", "b"), ("a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    rules.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    rules.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    text = PreTrainedTokenizerFast(tokenizer_object=rules, bos_token="<s>", eos_token="</s>")
    assert text.decode(text("a b", add_special_tokens=False)["input_ids"][-1:]) == "b"  # lost
    generator = Transformers((NETWORKS["llama"], text))
    assert generator.decode((6, 7)) == " ba"
    for continuation in (" b a", "ba", "\nab", " ab"):
        assert generator.decode(generator.encode_continuation(continuation)) == continuation
    assert generator.encode_continuation("ba") == (8, 7)  # no space in front


def test_a_tokenizer_that_closes_every_text_leaves_prompts_open() -> None:
    from tokenizers import processors

    text = tiny_lm.tokenizer()
    text.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert text("ab")["input_ids"] == [0, 4, 5, 1]
    assert Transformers((NETWORKS["llama"], text)).encode("ab") == (0, 4, 5)


def test_describe_names_the_law() -> None:
    first = dict(ROOMY["llama"].describe())
    assert json.loads(json.dumps(first)) == first
    assert dict(Transformers((tiny_lm.model("llama"), TEXT)).describe()) == first
    for other in (
        Transformers((tiny_lm.scrambled(tiny_lm.model("llama"), seed=5), TEXT)),
        Transformers((tiny_lm.model("llama", rope_theta=123.0), TEXT)),
        Transformers((tiny_lm.model("llama"), tiny_lm.tokenizer(K - 1))),
    ):
        assert dict(other.describe()) != first


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


def mistral() -> MistralForCausalLM:
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=K,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=8,
        )
    )


@pytest.mark.parametrize(
    ("network", "error", "reason"),
    [
        (mistral(), InvalidInput, "not all of its layers attend to all past tokens"),
        (
            MambaForCausalLM(MambaConfig(vocab_size=K, hidden_size=16, num_hidden_layers=1)),
            InvalidInput,
            "recurrent state",
        ),
        (
            tiny_lm.model(
                "llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
            ),
            InvalidInput,
            "depend on the length",
        ),
        (
            BloomForCausalLM(BloomConfig(vocab_size=K, hidden_size=16, n_layer=1, n_head=2)),
            BackendError,
            "cannot be computed through the prefix tree",
        ),
    ],
    ids=["sliding", "recurrent", "dynamic-rope", "alibi"],
)
def test_architectures_that_a_tree_cannot_serve(network, error, reason) -> None:
    with pytest.raises(error, match=reason):
        Transformers((network, TEXT))


def test_a_model_that_ignores_the_mask_is_found_out() -> None:
    class Blind(LlamaForCausalLM):
        def forward(self, *args, attention_mask=None, **kwargs):
            if attention_mask is not None:
                attention_mask = torch.zeros_like(attention_mask)
            return super().forward(*args, attention_mask=attention_mask, **kwargs)

    network = tiny_lm.scrambled(Blind(NETWORKS["llama"].config))
    with pytest.raises(BackendError, match="total variation"):
        Transformers((network, TEXT))


# ---- SmolLM2 -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> Transformers:
    pytest.importorskip("gguf")
    return Transformers("smollm2")


@pytest.mark.slow
def test_smollm2_knows_a_capital(smollm2: Transformers) -> None:
    law = smollm2.log_laws(smollm2.encode("The capital of France is"), [()])[0]
    assert smollm2.decode((int(law.argmax()),)) == " Paris"
    assert smollm2.vocab_size == 49_152
    assert smollm2.max_length() == 8192
    assert smollm2.end_token == 2
    newline = smollm2.stop_tokens(("\n",))
    assert all("\n" in smollm2.decode((t,)) for t in newline - {2})
    assert smollm2.encode_continuation("\n")[0] in newline


@pytest.mark.slow
def test_smollm2_cached_equals_uncached(smollm2: Transformers) -> None:
    rng = np.random.default_rng(0)
    shots = "Input: 3 4 5\nOutput: 6 7 8\n"
    prompts = [smollm2.encode(shots * n + "Input: 7 8 9\nOutput:") for n in (1, 2)]
    prefixes: list[tuple[int, ...]] = [()]
    while len(prefixes) < 12:
        parent = prefixes[rng.integers(len(prefixes))]
        prefixes.append((*parent, int(rng.integers(3, smollm2.vocab_size))))
    smollm2.clear()
    for prompt in prompts:
        for part in (prefixes[6:], prefixes[:6], prefixes):
            laws = smollm2.log_laws(prompt, part)
            for prefix, law in zip(part[:3], laws, strict=False):
                np.testing.assert_allclose(
                    law, plain_law(smollm2._model, prompt + prefix), atol=1e-3, rtol=0
                )


@pytest.mark.slow
class TestSmolLM2Conforms(GeneratorConformance):
    prompts = ("Input: 1 2\nOutput: 3\n\nInput: 4 5\nOutput:",)
    tolerance = 1e-3
    length = 2
    draws = 1000

    @pytest.fixture(autouse=True)
    def loaded(self, smollm2: Transformers) -> None:
        self.pair = (smollm2._model, smollm2._text._tokenizer)

    def make(self) -> Generator:
        return Transformers(self.pair)
