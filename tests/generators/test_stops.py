"""Outputs end at the token with which their text first holds a stop text: the law by enumeration."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from reroot import InvalidInput, Report, Sampling
from reroot.generators.base import Request
from reroot.generators.ensemble import Ensemble
from reroot.generators.ngram import CharNgram
from reroot.generators.stops import Pieces, Stop, grouped
from reroot.generators.tabular import Tabular
from reroot.objective.tree import Tree
from spelt import ACCENT, CASES, SMILE, TAG, Spelt, Tokens, ends_here, outputs_below
from spelt import reachable_strings as strings

H = 4


# ---- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("pieces", "stop"), CASES)
@pytest.mark.parametrize("ends", [False, True])
def test_the_rule_is_the_definition(
    pieces: Sequence[str | bytes], stop: Sequence[str], ends: bool
) -> None:
    """On every string that can be reached, and on strings that go on behind their end."""
    generator = Spelt.of(pieces, H, ends=ends)
    rule = generator.stops(stop)
    assert rule.closing  # something does run over a border
    seen: Counter[bool] = Counter()
    for tokens, known in strings(generator, stop, H):
        assert rule.ends(tokens) == known, tokens
        assert rule.first_end(tokens) == (len(tokens) - 1 if known else None)
        seen[known] += 1
    assert min(seen[True], seen[False]) > 10
    for tokens in itertools.product(range(generator.vocab_size), repeat=3):
        ended = (i for i in range(3) if ends_here(generator, stop, tokens[: i + 1]))
        assert rule.first_end(tokens) == next(ended, None)


def test_a_token_that_holds_a_stop_text_ends_it_whatever_is_before() -> None:
    rule = Spelt.of(TAG, H).stops(("</a>",))
    assert (rule.tokens, rule.closing) == ({5}, {2})  # "a></a>" by itself; "a>" as the end
    assert rule.ends((4, 5))
    assert not rule.ends((5, 2))  # the text held it before
    assert rule.ends((0, 1, 2))
    assert rule.ends((4, 3, 2))
    assert not rule.ends((0, 4, 1, 2))
    assert not rule.ends(())


def test_only_borders_need_more_than_a_set_of_tokens() -> None:
    generator = Spelt.of(TAG, H)
    for stop in ((), ("x",), ("<", "x")):
        rule = generator.stops(stop)
        assert rule.closing == frozenset()
        assert rule.tokens == {t for t, p in enumerate(TAG) if any(s in p for s in stop)}
    with pytest.raises(InvalidInput, match="must not be empty"):
        generator.stops(("x", ""))


def test_a_stop_text_that_overlaps_itself() -> None:
    generator = Spelt.of(("a", "b", "ab", "ba"), 6)
    for stop in (("abab",), ("aab", "bba"), ("aaaa", "ba")):
        rule = generator.stops(stop)
        for tokens, known in strings(generator, stop, 5):
            assert rule.ends(tokens) == known, (stop, tokens)


def test_what_is_not_text_is_passed_over() -> None:
    """A token without text inside a stop text changes nothing, however many there are."""
    generator = Spelt.of((*TAG, ""), 30)
    rule = generator.stops(("</a>",))
    assert rule.ends((0, *[6] * 10, 1, *[6] * 10, 2))
    assert not rule.ends((0, *[6] * 10, 1, 6))


def test_rules_are_plain_values() -> None:
    generator = Spelt.of(TAG, H)
    rule = generator.stops(("</a>",))
    assert hash(rule) == hash(replace(rule))
    assert replace(rule) == rule
    copy = rule.apart()
    assert copy.writing is not rule.writing
    assert copy.tokens == rule.tokens
    assert pickle.loads(pickle.dumps(copy)).ends((0, 1, 2))  # nothing of a generator is in it
    with pytest.raises(AttributeError):
        rule.tokens = frozenset()  # type: ignore[misc]


def test_what_is_no_token_is_named() -> None:
    rule = Spelt.of(TAG, H).stops(("</a>",))
    with pytest.raises(InvalidInput, match="token 6 is outside the vocabulary 0…5"):
        rule.ends((6, 1, 2))
    with pytest.raises(InvalidInput, match="has the token -1"):
        rule.ends((-1, 1, 2))


def test_equal_rules_are_one_for_a_batch() -> None:
    """However many problems ask a generator for one: a batch looks at each rule once."""
    for generator, stop in (
        (CharNgram("abc\n</a>"), ("</a>",)),
        (Tabular.random(9, 3, seed=0), ("1 2",)),
        (Tabular.random(9, 3, seed=0), ("1",)),
    ):
        assert generator.stops(stop) == generator.stops(stop)
        assert len(grouped([generator.stops(stop) for _ in range(3)])) == 1


def test_text_is_cut_before_the_first_stop_text_of_all() -> None:
    rule = Spelt.of(TAG, H).stops(("b", "ab", "</a>"))
    for text, known in (
        ("xab", "x"),  # not "xa": "ab" begins before "b"
        ("x</a>b", "x"),
        ("é</a", "é</a"),
        ("", ""),
        ("b", ""),
    ):
        assert rule.cut(text) == known
    assert Stop(frozenset({1})).cut("xab") == "xab"


# ---- integers and characters --------------------------------------------------------------------


def test_integers_stop_at_strings_of_tokens() -> None:
    tree = Tabular.random(12, 4, seed=0, end=(7,))
    rule = tree.stops(("1 2", "11 1", "5"))
    assert (rule.tokens, rule.closing) == ({5, 7}, {1, 2})
    for tokens, known in (
        ((1, 2), True),
        ((11, 2), False),
        ((11, 1), True),
        ((1, 1), False),
        ((3, 11, 1), True),
        ((1, 3, 2), False),
        ((1, 2, 2), False),
        ((0, 5), True),
    ):
        assert rule.ends(tokens) is known, tokens
    for tokens, text in (((3, 11, 2), "3 11 2"), ((3, 1, 2), "3"), ((1, 2), ""), ((11, 5), "11")):
        assert rule.cut(tree.decode(tokens)) == text
    assert tree.stops(("1",)).cut("11 2") == "11 2"
    with pytest.raises(InvalidInput, match="tokens as integers, got ''"):
        tree.stops(("",))


def test_characters_stop_at_words() -> None:
    model = CharNgram("the cat sat\nthe mat\n" * 5, order=4, smoothing=0.5)
    request = Request(model.encode("th"), n=400, length=12, key=(1, 2))
    for stop in (("at",), ("he c", "he m"), ("xyz",)):
        rule = model.stops(stop)
        free, cut = model.answer([request, replace(request, stop=rule)])
        assert_cut(model, stop, free.outputs(), cut.outputs())


# ---- draws --------------------------------------------------------------------------------------


def assert_cut(generator, stop, free, cut) -> None:
    """Every output of ``cut`` is that of ``free`` up to where the definition ends it."""
    ended = 0
    for whole, output in zip(free, cut, strict=True):
        tokens = tuple(whole)
        ends = (t for t in range(1, len(tokens)) if ends_here(generator, stop, tokens[:t]))
        end = next(ends, len(tokens))
        assert tuple(output) == tokens[:end]
        ended += end < len(tokens)
    assert ended or "xyz" in stop


@pytest.mark.slow(1)
@pytest.mark.parametrize(("pieces", "stop"), CASES)
def test_outputs_have_the_enumerated_law(
    pieces: Sequence[str | bytes], stop: Sequence[str]
) -> None:
    """The tree to rounding, draws by χ² at an error rate of 1e-6 each; also from half a stop text."""
    generator = Spelt.of(pieces, H, seed=1)
    rule = generator.stops(stop)
    tree = Tree.of(generator, horizon=H, stop=rule)
    known = outputs_below(generator, stop, H)
    found = dict(zip(tree.outputs, np.exp(tree.log_probabilities()).tolist(), strict=True))
    assert found.keys() == known.keys()
    assert max(abs(found[y] - known[y]) for y in known) < 1e-12
    assert sum(known.values()) == pytest.approx(1.0, abs=1e-12)
    for prefix in ((), (0,), (0, 1)):
        if generator.stops(stop).ends(prefix):
            continue
        law = outputs_below(generator, stop, H, prefix)
        request = Request((), prefix, 4000, H - len(prefix), stop=rule, key=(3, len(prefix)))
        (reply,) = generator.answer([request])
        counts = Counter(output.tokens for output in reply.outputs())
        assert counts.keys() <= law.keys()
        assert p_value(counts, law) > 1e-6


def p_value(counts: Counter[Tokens], law: dict[Tokens, float]) -> float:
    n = sum(counts.values())
    common = [y for y, p in law.items() if p * n >= 5]
    pairs = [(counts[y], law[y] * n) for y in common]
    rest = n - sum(law[y] * n for y in common)
    if rest >= 5:
        pairs.append((n - sum(counts[y] for y in common), rest))
    return float(chi2.sf(sum((seen - p) ** 2 / p for seen, p in pairs), len(pairs) - 1))


@pytest.mark.parametrize("report", [Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL])
def test_a_stop_text_cuts_draws_and_changes_none(report: Report) -> None:
    """The same numbers: alone, beside other rules, and beside no rule."""
    generator = Spelt.of(TAG, 6, seed=2)
    free = Request((), n=300, length=6, report=report, key=(5, 6))
    rules = [("</a>",), ("x", "</a>"), ("<<",)]
    ruled = [replace(free, stop=generator.stops(stop)) for stop in rules]
    tempered = replace(ruled[0], sampling=Sampling(0.7))
    plain, *together, _ = generator.answer([free, *ruled, tempered])
    for stop, request, reply in zip(rules, ruled, together, strict=True):
        (alone,) = generator.answer([request])
        assert alone.tokens.tolist() == reply.tokens.tolist()
        assert alone.lengths.tolist() == reply.lengths.tolist()
        assert_cut(generator, stop, plain.outputs(), reply.outputs())
        if reply.logprobs is not None:
            assert plain.logprobs is not None
            inside = np.arange(reply.tokens.shape[1]) < reply.lengths[:, None]
            width = reply.tokens.shape[1]
            assert (reply.logprobs[inside] == plain.logprobs[:, :width][inside]).all()
            assert not reply.logprobs[~inside].any()


def test_the_mode_stops_too() -> None:
    generator = Spelt.of(TAG, 6, seed=4)
    whole = Request((), (0,), length=5, report=Report.ARGMAX(2))
    (free,) = generator.answer([whole])
    text = generator.decode(free.outputs()[0].tokens)
    stop = (text[1:4],)
    (cut,) = generator.answer([replace(whole, stop=generator.stops(stop))])
    assert_cut(generator, stop, free.outputs(), cut.outputs())


def test_given_tokens_pass_over_stop_texts() -> None:
    generator = Spelt.of(TAG, 6)
    forced = (0, 1, 2, 4)
    request = Request((), length=4, report=Report.LOGPROB, forced=forced)
    (reply,) = generator.answer([replace(request, stop=generator.stops(("</a>",)))])
    assert reply.continuation(0) == forced


def test_an_ensemble_stops_as_its_members_do() -> None:
    members = [Spelt.of(TAG, 5, seed=i) for i in range(2)]
    both = Ensemble(members)
    stop = ("</a>",)
    for i, member in enumerate(members):
        request = Request((i,), n=200, length=5, stop=both.stops(stop), key=(1, i))
        alone = replace(request, prompt=(), stop=member.stops(stop))
        assert both.answer([request])[0].outputs() == member.answer([alone])[0].outputs()


def test_pieces_beyond_a_short_memory_are_looked_at() -> None:
    """One-byte tokens: a stop text of 40 bytes ends with the 40th."""
    letters = [chr(97 + i) for i in range(5)]
    generator = Spelt.of(letters, 60)
    text = "".join(letters[i % 5] for i in range(40))
    rule = generator.stops((text,))
    tokens = generator.encode_continuation("ee" + text)
    assert rule.first_end(tokens) == 41
    assert rule.first_end((*tokens[:-1], 0)) is None
    assert isinstance(rule.writing, Pieces)
    assert [len(generator.stops((s,)).closing) for s in ("é", "🙂")] == [0, 0]
    assert Spelt.of(ACCENT, 4).stops(("é",)).closing == {1, 2, 4}
    assert Spelt.of(SMILE, 4).stops(("🙂",)).closing == {2, 3, 5}
