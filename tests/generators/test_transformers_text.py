"""Text, tokens and identity of language models."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


import tiny_lm
from reroot import InvalidInput
from reroot.generators.transformers import Transformers
from served_lm import NETWORKS, ROOMY, TEXT
from tiny_lm import K

# ---- text and identity ---------------------------------------------------------------------


def test_text_round_trip() -> None:
    generator = ROOMY["llama"]
    assert generator.encode("abc") == (4, 5, 6)
    assert generator.encode("") == (0,)  # the begin token
    assert generator.encode_continuation("b\na") == (5, 3, 4)
    assert generator.decode((5, 3, 4, 1)) == "b\na"  # the end token is not shown
    assert generator.end_token == 1
    assert generator.stops(()).tokens == {1}
    assert generator.stops(("\n", "ab", "</s>", "<s>")).tokens == {0, 1, 3}
    with pytest.raises(InvalidInput, match="empty"):
        generator.stops(("",))
    with pytest.raises(InvalidInput, match="outside the vocabulary"):
        generator.decode((K,))


def test_end_tokens_of_the_generation_settings_count() -> None:
    network = tiny_lm.model("llama")
    network.generation_config.eos_token_id = [5, 7, K + 100]
    assert Transformers((network, TEXT)).stops(()).tokens == {1, 5, 7}


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
