"""The character n-gram model against counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reroot import InvalidInput, Report
from reroot.generators.base import Generator, Request
from reroot.generators.ngram import CharNgram

TEXT = "abab\nabc\n\nca\n"


def by_counting(documents: list[str], order: int, smoothing: float, history: str) -> list[float]:
    """P(· | history) by scanning the documents; "^" pads their beginning, "$" ends them."""
    tokens = [*sorted(set("".join(documents))), "$"]
    padded = ["^" * order + document + "$" for document in documents]
    history = "^" * order + history
    p = [1 / len(tokens)] * len(tokens)
    for j in range(order):
        context = history[len(history) - j :]
        counts = [
            sum(
                padded[d][i - j : i] == context and padded[d][i] == token
                for d in range(len(padded))
                for i in range(order, len(padded[d]))
            )
            for token in tokens
        ]
        p = [
            (c + smoothing * q) / (sum(counts) + smoothing) for c, q in zip(counts, p, strict=True)
        ]
    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("smoothing", [0.1, 2.0])
def test_laws_by_counting(order: int, smoothing: float):
    model = CharNgram(TEXT, order, smoothing)
    assert (model.vocab_size, model.end_token, model.characters) == (4, 3, "abc")
    for history in ("", "a", "b", "ab", "ba", "cc", "abab", "babca", "aaaaaaa"):
        known = by_counting(["abab", "abc", "ca"], order, smoothing, history)
        law = np.exp(model.log_laws((), [model.encode(history)]))[0]
        np.testing.assert_allclose(law, known, atol=1e-14)
        for cut in range(len(history)):  # a prompt is text like any other
            split = model.log_laws(model.encode(history[:cut]), [model.encode(history[cut:])])
            np.testing.assert_allclose(np.exp(split[0]), known, atol=1e-14)


def test_one_document_without_separator():
    model = CharNgram("ab\nab", order=2, smoothing=0.5, separator=None)
    assert model.characters == "\nab"
    known = by_counting(["ab\nab"], 2, 0.5, "a")
    np.testing.assert_allclose(np.exp(model.log_laws((), [model.encode("a")]))[0], known)


def test_decoding_follows_the_same_contexts_as_a_prefix():
    model = CharNgram(TEXT, order=4, smoothing=0.3)
    (reply,) = model.answer([Request((), n=20, length=12, report=Report.FULL, key=(1, 1))])
    assert reply.laws is not None
    for i in range(20):  # without stop tokens it starts a new document after each end token
        tokens = reply.continuation(i)
        known = model.log_laws((), [tokens[:t] for t in range(12)])
        np.testing.assert_array_equal(reply.laws[i], known)
    assert any(model.end_token in reply.continuation(i)[:-1] for i in range(20))


def test_after_the_end_a_document_begins():
    model = CharNgram(TEXT, order=4)
    laws = model.log_laws((), [(), (0, 1, 3), (3,), (3, 3)])
    assert (laws == laws[0]).all()
    after = model.log_laws((), [(2,), (0, 1, 3, 2)])
    assert (after[0] == after[1]).all()


@pytest.mark.parametrize(("characters", "order"), [("ab", 32), ("abcde", 23)])
def test_high_orders_do_not_overflow(characters: str, order: int):
    # (K + 1)^(order − 1) contexts, just below the limit of 2^62
    model = CharNgram(characters * 30, order)
    with pytest.raises(InvalidInput, match="too high"):
        CharNgram(characters * 30, order + 1)
    prefix = model.encode(characters * 20)
    (reply,) = model.answer([Request((), prefix, n=5, length=30, report=Report.FULL)])
    assert reply.laws is not None
    for i in range(5):
        tokens = reply.continuation(i)
        known = model.log_laws((), [(*prefix, *tokens[:t]) for t in range(30)])
        np.testing.assert_array_equal(reply.laws[i], known)


def test_text_and_stops():
    model = CharNgram(TEXT)
    assert isinstance(model, Generator)
    assert model.encode("cab") == (2, 0, 1) == model.encode_continuation("cab")
    assert model.decode((2, 0, 1, 3)) == "cab"
    assert model.stops(()).tokens == {3}
    assert model.stops(("b", "bc", "x")).tokens == {1, 3}
    assert model.max_length() is None
    with pytest.raises(InvalidInput, match="character 'x' at position 2 of 'abx'"):
        model.encode("abx")
    with pytest.raises(InvalidInput, match="must not be empty"):
        model.stops(("",))
    with pytest.raises(InvalidInput, match="token 4"):
        model.log_laws((), [(4,)])


def test_it_learns_its_text():
    model = CharNgram("the cat sat on the mat\n" * 20, order=6, smoothing=0.1)
    stop = model.stops(())
    (reply,) = model.answer([Request((), length=40, report=Report.ARGMAX(1), stop=stop)])
    assert model.decode(reply.continuation(0)) == "the cat sat on the mat"
    assert reply.continuation(0)[-1] == model.end_token


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"text": ""}, "no characters"),
        ({"text": "\n\n"}, "no characters"),
        ({"order": 0}, "order must be an integer in 1…64, got 0"),
        ({"order": 40}, "order 40 is too high for 3 different characters"),
        ({"smoothing": 0.0}, "smoothing must lie in"),
        ({"separator": ""}, "separator must be"),
    ],
)
def test_bad_parameters(arguments: dict[str, object], why: str):
    with pytest.raises(InvalidInput, match=why):
        CharNgram(**{"text": TEXT, **arguments})  # type: ignore[arg-type]


def test_files(tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    model, again = CharNgram.from_file(file, order=2), CharNgram(TEXT, order=2)
    assert json.dumps(dict(model.describe())) == json.dumps(dict(again.describe()))
    assert model.describe() != CharNgram(TEXT + "a", order=2).describe()
    with pytest.raises(InvalidInput, match="can't read the text file"):
        CharNgram.from_file(tmp_path / "missing.txt")
    file.write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(InvalidInput, match="can't read the text file"):
        CharNgram.from_file(file)
