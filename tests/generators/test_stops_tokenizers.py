"""Stop texts in the vocabularies of language models: byte-level, with bytes to fall back on, of words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import tiny_lm
from reroot.generators.base import Request
from reroot.generators.stops import Decoded, Pieces
from reroot.generators.tokenizer import Text
from reroot.generators.transformers import Transformers
from served_lm import KINDS, NETWORKS, ROOMY, TEXT
from toys import reachable

BYTES = pre_tokenizers.ByteLevel.alphabet()
END = "</s>"


def served(rules: Tokenizer, words: Sequence[str], **settings: Any) -> Text:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, eos_token=END, **settings)
    assert len(tokenizer) == len(words)
    return Text(tokenizer, False, (), len(words) + 3)  # a model with rows to spare


def byte_level() -> tuple[Text, list[str]]:
    """As of GPT-2, Llama 3 and Qwen: bytes, and some merges."""
    merges = [("<", "/"), ("a", ">"), ("Ċ", "Ċ"), ("</", "a"), ("©", "Ã")]
    words = [END, *BYTES, *(a + b for a, b in merges)]
    rules = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = decoders.ByteLevel()
    return served(rules, words), words


def fallback() -> tuple[Text, list[str]]:
    """As of Llama 2 and Gemma: pieces, a space as ▁ that is dropped in front, and bytes where none fits."""
    pieces = ["▁", "▁a", "a", "<", "/", ">", "</", "a>", "▁>", "\n", "x"]
    words = ["<unk>", END, *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    vocabulary = {w: i for i, w in enumerate(words)}
    rules = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    rules.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    rules.pre_tokenizer = pre_tokenizers.Metaspace()
    return served(rules, words, unk_token="<unk>"), words


def of_words() -> tuple[Text, list[str]]:
    """As of BERT: spaces stand between words, and in no token."""
    words = ["[UNK]", END, "the", "end", "##s", "##e", "."]
    rules = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    rules.decoder = decoders.WordPiece(cleanup=False)
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    return served(rules, words, unk_token="[UNK]"), words


def holds(text: Text, stop: Sequence[str], tokens: Sequence[int]) -> bool:
    return any(s in text.decode(tokens) for s in stop)


CASES: list[Any] = [
    (byte_level, ("</a>",), ["<", "/", "</", "a", "a>", "</a", ">", END]),
    (byte_level, ("\n\n",), ["Ċ", "ĊĊ", "a", ">", END]),
    (byte_level, ("é",), ["Ã", "©", "©Ã", "a", "ð"]),
    (byte_level, ("🙂", "a\nb"), ["ð", "Ł", "Ļ", "Ĥ", "a", "Ċ", "b"]),
    (byte_level, (END, "ba"), [END, "a", "b", "a>"]),
    (fallback, ("</a>",), ["<", "/", "</", "a", "a>", ">", "▁>", END]),
    (fallback, (" >", "a a"), ["▁", "▁a", "a", ">", "▁>", "<0x3E>"]),
    (fallback, ("é",), ["<0xC3>", "<0xA9>", "a", "<0xE5>", "▁"]),
    (fallback, ("\n\n",), ["\n", "<0x0A>", "a", "<0xE5>"]),
    (fallback, ("\n", "a"), ["\n", "<0x0A>", "<0x61>", "<0xE5>", "▁a", "x"]),
    (of_words, ("the end",), ["the", "end", "##s", "##e", ".", END]),
    (of_words, ("e ", "s e"), ["the", "end", "##s", "##e", "."]),
]


@pytest.mark.slow(1)
@pytest.mark.parametrize(("make", "stop", "tokens"), CASES)
def test_the_rule_is_the_definition(make: Any, stop: Sequence[str], tokens: Sequence[str]) -> None:
    """On every string of up to five of the tokens: the text of the whole holds a stop text just now."""
    text, words = make()
    ids = [words.index(token) for token in tokens]
    rule = text.stops(stop)
    assert isinstance(rule.writing, Pieces if make is byte_level else Decoded)
    learners = rule.apart()
    own = rule.tokens & {i for i in ids if not text.decode((i,))}
    alive: list[tuple[int, ...]] = [()]
    ended = 0
    for _ in range(5 if len(ids) < 7 else 4):
        longer = [(*u, a) for u, a in itertools.product(alive, ids)]
        alive = []
        for u in longer:
            known = u[-1] in own or holds(text, stop, u)
            assert rule.ends(u) == learners.ends(u) == known, (u, text.decode(u))
            ended += known
            if not known:
                assert rule.first_end(u) is None
                alive.append(u)
    assert ended > 5
    assert alive


def test_special_tokens_end_where_they_are_named() -> None:
    text, words = byte_level()
    assert text.stops((END, "zz")).tokens == {0}
    tokenizer = tiny_lm.tokenizer()
    rule = Text(tokenizer, False, (), tiny_lm.K).stops(("<s>", "ab"))
    assert rule.tokens == {0, 1}
    assert rule.ends((4, 5))
    assert rule.ends((4, 2, 5)) == ("ab" in tokenizer.decode([4, 2, 5], skip_special_tokens=True))
    assert words


def test_rows_of_the_model_that_are_no_tokens_say_nothing() -> None:
    text, words = byte_level()
    rule = text.stops(("ab",))
    a, b = words.index("a"), words.index("b")
    assert rule.ends((a, len(words) + 1, b))
    assert not rule.ends((a, len(words) + 1))


def test_a_rule_is_made_once() -> None:
    text, _ = byte_level()
    assert text.stops(("ab", "c")) is text.stops(["ab", "c"])
    assert text.stops(()).tokens == {0}


@pytest.mark.slow(1)
@pytest.mark.parametrize("make", [byte_level, fallback, of_words])
def test_a_learner_s_copy_leads_to_no_tokenizer_of_others(make: Any) -> None:
    text, _ = make()
    found = [thing for _, thing in reachable(text.stops(("the end", "</a>")).apart())]
    assert not any(thing is text or thing is text._tokenizer for thing in found)
    assert not any(thing is text._tokenizer.backend_tokenizer for thing in found)


@pytest.mark.slow(1)
@pytest.mark.parametrize("kind", KINDS)
def test_the_prefix_tree_stops_rows_at_their_texts(kind: str) -> None:
    """Draws with a rule are those without, cut; from prefixes too, and where rows wait for room."""
    roomy = ROOMY[kind]
    narrow = Transformers((NETWORKS[kind], TEXT), cache_bytes=1 << 17)
    for stop in (("\n\n",), ("ab", "bca"), ("gg", "\na", "hd"), ("zz",)):
        rule = roomy.stops(stop)
        free = [
            Request((0, 4, 5), prefix, n=40, length=8, key=(2, i))
            for i, prefix in enumerate(((), (4,), (5, 6), (3,)))
        ]
        ruled = [replace(request, stop=rule) for request in free]
        answers = [roomy.answer(free), roomy.answer(ruled), narrow.answer(ruled)]
        for whole, cut, waited in zip(*answers, strict=True):
            assert cut.tokens.tolist() == waited.tokens.tolist()
            for known, output in zip(whole.outputs(), cut.outputs(), strict=True):
                after = range(len(whole.prefix) + 1, len(known) + 1)
                ends = (
                    t
                    for t in after
                    if known[t - 1] == 1 or any(s in roomy.decode(known[:t]) for s in stop)
                )
                assert output == known[: next(ends, len(known))]
