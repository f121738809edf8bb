"""The demo model: SmolLM2 through the prefix tree."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


from reroot.contract import Report
from reroot.generators.base import Generator, Request
from reroot.generators.transformers import Transformers
from reroot.testing import GeneratorConformance
from tiny_lm import plain_law

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2")]


@pytest.fixture(scope="module")
def smollm2(kept: Path) -> Transformers:
    pytest.importorskip("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REROOT_CACHE", str(kept))
        return Transformers("smollm2")


def test_smollm2_knows_a_capital(smollm2: Transformers) -> None:
    law = smollm2.log_laws(smollm2.encode("The capital of France is"), [()])[0]
    assert smollm2.decode((int(law.argmax()),)) == " Paris"
    assert smollm2.vocab_size == 49_152
    assert smollm2.max_length() == 8192
    assert smollm2.end_token == 2
    newline = smollm2.stops(("\n",)).tokens
    assert all("\n" in smollm2.decode((t,)) for t in newline - {2})
    assert smollm2.encode_continuation("\n")[0] in newline


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


# ---- stop texts ----------------------------------------------------------------------------------

PAIRS = "Input: apple\nOutput: apple\n\nInput: bread\nOutput:"
STOPS: list[tuple[str, tuple[str, ...], list[str]]] = [
    ("The word. <answer>apple</answer> <answer>", ("</answer>",), ["apple", "</", "answer", ">"]),
    ("The word. <answer>apple</answer> <answer>", ("swer",), ["apple", "</", "answer"]),
    ("The word. <answer>apple</answer> <answer>", ("le</a",), ["apple", "</", "answer"]),
    (PAIRS, ("\n\n",), [" bread", "\n", "\n"]),
    (PAIRS, ("\n\nThe", "zz"), [" bread", "\n", "\n", "The"]),
    (PAIRS, ("ead\n\nT",), [" bread", "\n", "\n", "The"]),
    (PAIRS, ("d\n",), [" bread", "\n"]),
    (
        "Question: The capital of France?\nAnswer: Paris.\n\nQuestion: The capital of Italy?\nAnswer:",
        ("Question:",),
        [" Rome", ".", "\n", "\n", "Question", ":"],
    ),
    ("Repeat: 🙂🙂\nRepeat: 🙂🙂\nRepeat:", ("🙂🙂",), [" 🙂", "\ufffd", "\ufffd\ufffd"]),
    ("Repeat: naïve café\nRepeat: naïve café\nRepeat:", ("ïve c",), [" na", "ïve", " café"]),
    (
        "Repeat: 日本語\nRepeat: 日本語\nRepeat:",
        ("日本語",),
        [" \ufffd", "\ufffd", "\ufffd", "本", "\ufffd", "\ufffd", "\ufffd"],
    ),
]


@pytest.mark.parametrize(("prompt", "stop", "known"), STOPS)
def test_stop_texts_end_where_those_of_transformers_do(
    smollm2: Transformers, prompt: str, stop: tuple[str, ...], known: list[str]
) -> None:
    """Beside ``generate(stop_strings=…)``, greedily; and what the text is cut to."""
    import torch

    tokens, rule = smollm2.encode(prompt), smollm2.stops(stop)
    request = Request(tokens, length=16, report=Report.ARGMAX(1), stop=rule)
    ours = smollm2.answer([request])[0].continuation(0)
    theirs = smollm2._model.generate(
        torch.tensor([tokens]),
        attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
        do_sample=False,
        max_new_tokens=16,
        stop_strings=list(stop),
        tokenizer=smollm2._text._tokenizer,
    )[0, len(tokens) :].tolist()
    assert [smollm2.decode((t,)) for t in ours] == known
    assert list(ours) == theirs
    whole = smollm2.decode(ours)
    assert rule.cut(whole) == whole[: min(whole.find(s) for s in stop if s in whole)]
    assert rule.first_end(ours) == len(ours) - 1
    (rest,) = smollm2.answer([replace(request, prefix=ours[:-1], length=5)])  # from half of it
    assert rest.continuation(0) == ours[-1:]


@pytest.mark.parametrize(
    "stop", [("</answer>",), ("\n\n",), ("e ",), ("the",), ("é", "🙂"), ("nd a", ", t", ".\n")]
)
def test_drawn_outputs_end_by_the_definition(smollm2: Transformers, stop: tuple[str, ...]) -> None:
    """Draws are those without the rule, up to the token with which the whole text holds a stop text."""
    prompts = [smollm2.encode(text) for text in (PAIRS, "Emoji 🙂 and accents é à ü: é🙂 é🙂 é")]
    free = [Request(x, n=24, length=20, key=(4, i)) for i, x in enumerate(prompts)]
    ruled = [replace(request, stop=smollm2.stops(stop)) for request in free]
    for whole, cut in zip(smollm2.answer(free), smollm2.answer(ruled), strict=True):
        for i in range(whole.n):
            tokens = whole.continuation(i)
            texts = [smollm2.decode(tokens[: t + 1]) for t in range(len(tokens))]
            ends = (
                t + 1
                for t, text in enumerate(texts)
                if tokens[t] == smollm2.end_token or any(s in text for s in stop)
            )
            assert cut.continuation(i) == tokens[: next(ends, len(tokens))]


def test_special_tokens_that_are_no_end_are_no_text(smollm2: Transformers) -> None:
    """Every string of up to three tokens of a few that matter, against the decoder."""
    names = ["</", "answer", ">", "<file_sep>", "r", "></"]
    ids = [smollm2._text._tokenizer.convert_tokens_to_ids(n) for n in names]
    rule = smollm2.stops(("</answer>", "<file_sep>"))
    for tokens in itertools.product(ids, repeat=4):
        now, before = (smollm2.decode(part) for part in (tokens, tokens[:-1]))
        closes = "</answer>" in now and "</answer>" not in before
        assert rule.ends(tokens) == (closes or tokens[-1] == ids[3]), tokens


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
