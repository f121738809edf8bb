"""Process reward models: values are those of plain forward passes, whatever is asked together."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from reroot import InvalidInput, Output, Problem
from reroot.generators.reward_models import _PASS, RewardModel
from reroot.types import Chat
from tiny_lm import scrambled, tokenizer

VOCAB = 24  # begin, end, unknown, line break, a … t
GOOD, BAD, MARK = "g", "h", "m"
LABELS: dict[str, Any] = {"good": GOOD, "bad": BAD, "mark": MARK}
TEMPLATE = (
    "{% for m in messages %}{{ 's' if m.role == 'user' else 't' }}{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}t{% endif %}"
)
TEXTS = ["aa\n", "ab\ncc\n", "dd\nab\nbb\nc", "", "abc", "cc\ndd\nab\nab\nddd\n"]
KINDS = {
    "llama": ("Llama", {"num_key_value_heads": 2, "head_dim": 8}),
    "gpt2": ("GPT2", {}),
    "bert": ("Bert", {}),
}


def saved(
    folder: Path, head: str, kind: str = "llama", template: str | None = None, **changes: Any
) -> Path:
    """A folder with a tiny network of random weights."""
    name, settings = KINDS[kind]
    ends = "LMHeadModel" if (kind, head) == ("gpt2", "CausalLM") else f"For{head}"
    config = getattr(transformers, f"{name}Config")(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            **settings,
            **changes,
        }
    )
    scrambled(getattr(transformers, f"{name}{ends}")(config)).save_pretrained(folder)
    words = tokenizer(VOCAB)
    words.chat_template = template
    words.save_pretrained(folder)
    return folder


def ids(text: str) -> list[int]:
    return [3 if c == "\n" else 4 + ord(c) - ord("a") for c in text]


def begun(text: str) -> Output:
    return Output((), text, complete=False)


def problem(prompt: Any = "pq") -> Problem:
    return Problem("p", prompt, 40, reward=lambda output: 0.0)


def steps_of(text: str) -> list[str]:
    return text.split("\n")[:-1]


@lru_cache(maxsize=1)
def network(folder: Path, head: str) -> Any:
    return getattr(transformers, f"AutoModelFor{head}").from_pretrained(folder).eval()


def plain(folder: Path, head: str, tokens: Sequence[int]) -> Any:
    """Logits of one unpadded pass, by transformers alone."""
    with torch.inference_mode():
        return network(folder, head)(input_ids=torch.tensor([list(tokens)])).logits[0].double()


def share(logits: Any) -> float:
    return float(torch.sigmoid(logits[0]) if len(logits) == 1 else torch.softmax(logits, -1)[1])


def token_scores(folder: Path, text: str) -> list[float]:
    tokens = [0, *ids("pq"), *ids(text.removesuffix(text.split("\n")[-1]))]
    logits = plain(folder, "TokenClassification", tokens)
    return [share(logits[i]) for i, token in enumerate(tokens) if token == 3]


def text_scores(folder: Path, text: str) -> list[float]:
    steps = steps_of(text)
    texts = ["pq" + "\n".join(steps[: i + 1]) for i in range(len(steps))]
    return [share(plain(folder, "SequenceClassification", ids(t))) for t in texts]


def label_scores(folder: Path, text: str) -> list[float]:
    tokens = ids("pq" + "\n".join(step + MARK for step in steps_of(text)))
    logits = plain(folder, "CausalLM", tokens)[:, ids(BAD + GOOD)]
    return [share(logits[i]) for i, token in enumerate(tokens) if token == ids(MARK)[0]]


def turn_scores(folder: Path, text: str) -> list[float]:
    tokens, found = [*ids("spq"), 2], list[float]()  # the template's marks are s and t; 2: a space
    for step in steps_of(text):
        tokens += ids(f"{step}\nt")
        found.append(share(plain(folder, "CausalLM", tokens)[-1][ids(BAD + GOOD)]))
        tokens += ids(f"{GOOD}\ns")
    return found


CASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], Callable[[Path, str], list[float]]]] = {
    "two labels of tokens": (lambda f: saved(f, "TokenClassification"), {}, token_scores),
    "one label of tokens": (lambda f: saved(f, "TokenClassification", num_labels=1), {}, token_scores),
    "tokens of an encoder": (lambda f: saved(f, "TokenClassification", "bert"), {}, token_scores),
    "two labels of texts": (lambda f: saved(f, "SequenceClassification"), {}, text_scores),
    "one label of texts": (lambda f: saved(f, "SequenceClassification", num_labels=1), {}, text_scores),
    "texts of an encoder": (lambda f: saved(f, "SequenceClassification", "bert"), {}, text_scores),
    "texts without padding": (lambda f: saved(f, "SequenceClassification", "gpt2", pad_token_id=None), {}, text_scores),
    "label tokens": (lambda f: saved(f, "CausalLM"), LABELS, label_scores),
    "label tokens of GPT-2": (lambda f: saved(f, "CausalLM", "gpt2"), LABELS, label_scores),
    "label tokens in turns": (
        lambda f: saved(f, "CausalLM", template=TEMPLATE),
        {"good": GOOD, "bad": BAD, "turns": True},
        turn_scores,
    ),
}  # fmt: skip


@pytest.mark.slow(1)
@pytest.mark.parametrize("of", ["last", "prod"])
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_plain_passes(case: str, of: str, tmp_path: Path) -> None:
    """One by one and together; two-layer networks whose weights make every past token count."""
    make, settings, scores = CASES[case]
    folder = make(tmp_path)
    found = [scores(folder, t) if steps_of(t) else [1.0] for t in TEXTS]
    expected = [some[-1] if of == "last" else math.prod(some) for some in found]
    assert len({round(v, 4) for v in expected}) == 5  # they do tell texts apart
    together = RewardModel(folder, step="\n", of=of, **settings)(problem())
    alone = [
        RewardModel(folder, step="\n", of=of, **settings)(problem())(begun(t)) for t in TEXTS[:3]
    ]
    np.testing.assert_allclose(together.batch([begun(t) for t in TEXTS]), expected, atol=1e-6)
    np.testing.assert_allclose(alone, expected[:3], atol=1e-6)
    np.testing.assert_allclose([together(begun(t)) for t in TEXTS], expected, atol=1e-6)


def test_marks_and_separators_can_be_any(tmp_path: Path) -> None:
    """A blank line in outputs; behind each step a mark of two tokens, and a joint."""
    folder = saved(tmp_path, "CausalLM")
    settings: dict[str, Any] = {"good": GOOD, "bad": BAD, "mark": "om", "join": "p\\n"}
    value = RewardModel(folder, step=r"\n\n", of="min", **settings)(problem())
    tokens = ids("pqaaomp\nb\nbomp\nccom")
    logits = plain(folder, "CausalLM", tokens)[:, ids(BAD + GOOD)]
    expected = min(share(logits[i]) for i, token in enumerate(tokens) if token == ids("m")[0])
    assert value(begun("aa\n\nb\nb\n\n cc \n\nrest")) == pytest.approx(expected, abs=1e-6)


def test_a_mark_may_stand_in_a_step(tmp_path: Path) -> None:
    folder = saved(tmp_path, "CausalLM")
    value = RewardModel(folder, step="\n", of="prod", **LABELS)(problem())
    tokens = ids("pqamam\nbm")
    logits = plain(folder, "CausalLM", tokens)[:, ids(BAD + GOOD)]
    expected = share(logits[5]) * share(logits[8])
    assert value(begun("ama\nb\n")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_chats_go_through_the_models_own_template(template: str | None, tmp_path: Path) -> None:
    folder = saved(tmp_path, "TokenClassification", template=template)
    chat = Chat.of([{"role": "system", "content": "o"}, {"role": "user", "content": "pq"}])
    value = RewardModel(folder, step="\n")(problem(chat))
    # without one: its messages with a blank line between, and a space (which is unknown here)
    opening = ids("to\nspq\nt") if template else [0, *ids("o\n\npq"), 2]
    expected = share(plain(folder, "TokenClassification", [*opening, *ids("ab\n")])[-1])
    assert value(begun("ab\n")) == pytest.approx(expected, abs=1e-6)


def test_passes_are_few_and_what_is_known_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RewardModel(saved(tmp_path, "CausalLM"), step="\n", **LABELS)
    passes: list[int] = []
    forward = RewardModel._forward

    def counted(self: RewardModel, rows: Any) -> Any:
        passes.append(len(rows))
        return forward(self, rows)

    monkeypatch.setattr(RewardModel, "_forward", counted)
    value = model(problem())
    first = value.batch([begun(t) for t in [*TEXTS, *TEXTS]])
    assert passes == [4]
    assert value.batch([begun(t) for t in [*TEXTS, *TEXTS]]) == first
    assert passes == [4]
    monkeypatch.setitem(_PASS, "cpu", 30)
    other = model(problem("qq"))
    again = other.batch([begun(t) for t in TEXTS])
    assert passes[1:] == [2, 1, 1]  # of similar length, at most 30 tokens with padding
    assert again == pytest.approx([model(problem("qq"))(begun(t)) for t in TEXTS], abs=1e-6)


def test_the_model_is_known_by_its_weights_and_settings(tmp_path: Path) -> None:
    """What tells runs apart: a moved folder is the same model, another setting is not."""
    folder = saved(tmp_path / "one", "TokenClassification")
    first = repr(RewardModel(folder)(problem()))
    shutil.copytree(folder, tmp_path / "two")
    assert repr(RewardModel(tmp_path / "two")(problem())) == first
    assert repr(RewardModel(folder, of="min")(problem())) != first
    assert repr(RewardModel(folder, mark="m")(problem())) != first
    other = saved(tmp_path / "three", "TokenClassification", num_labels=1)
    assert repr(RewardModel(other)(problem())) != first


def test_processes_that_judge_load_the_model_once(tmp_path: Path) -> None:
    folder = saved(tmp_path, "CausalLM")
    value = RewardModel(folder, step="\n", of="min", **LABELS)(problem())
    packed = pickle.dumps(value)
    again, other = pickle.loads(packed), pickle.loads(packed)
    assert again.scorer is other.scorer
    assert repr(again) == repr(value)
    outputs = [begun(t) for t in TEXTS]
    assert again.batch(outputs) == value.batch(outputs)


# ---- what cannot be honoured ----------------------------------------------------------------


def changed(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def bare(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder


REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no folder": (lambda f: f / "no", {}, "is neither 'smollm2', nor a folder, nor a hub id"),
    "no model": (lambda f: f, {}, "is not a model folder: it lacks config.json"),
    "no weights": (lambda f: bare(saved(f, "CausalLM")), {}, "it lacks weights"),
    "three labels": (lambda f: saved(f, "TokenClassification", num_labels=3), {}, "has 3 labels"),
    "another head": (
        lambda f: changed(saved(f, "CausalLM"), architectures=["Qwen2ForProcessRewardModel"]),
        {}, "is a Qwen2ForProcessRewardModel; a reward model is a causal language model",
    ),
    "code": (
        lambda f: changed(saved(f, "CausalLM"), auto_map={"AutoModel": "own.Model"}),
        {}, "brings code of its own, which is not run",
    ),
    "labels": (lambda f: saved(f, "TokenClassification"), {"good": "g"}, "token classifier: good=g is"),
    "turns": (lambda f: saved(f, "SequenceClassification"), {"turns": True}, "turns=True is for"),
    "no mark": (lambda f: saved(f, "TokenClassification"), {"mark": ""}, "needs a mark"),
    "an aggregate": (lambda f: f, {"of": "max"}, "of must be one of last"),
    "two tokens": (lambda f: saved(f, "CausalLM"), {**LABELS, "good": "gg"}, "good='gg' is 2 tokens"),
    "unknown": (lambda f: saved(f, "CausalLM"), {**LABELS, "bad": "-"}, "bad='-' is an unknown token"),
    "the same": (lambda f: saved(f, "CausalLM"), {**LABELS, "bad": "g"}, "the same token"),
    "no template": (
        lambda f: saved(f, "CausalLM"), {"good": "g", "bad": "h", "turns": True}, "no chat template",
    ),
    "a device": (lambda f: saved(f, "CausalLM"), {**LABELS, "device": "tpu"}, "device 'tpu'"),
}  # fmt: skip
BEFORE_TORCH = [name for name in REFUSED if name not in (
    "two tokens", "unknown", "the same", "no template", "a device"
)]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_honoured_is_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, settings, said = REFUSED[case]
    folder = make(tmp_path)
    if case in BEFORE_TORCH:
        monkeypatch.setattr("reroot.generators.reward_models.need", lambda *names: 1 / 0)
    with pytest.raises(InvalidInput, match=said):
        RewardModel(folder, **settings)


@pytest.mark.parametrize(
    "spec",
    ["prm:", "nosuch", "prm:x:folder=y", "prm:x:nosuch=1", "prm:x:mark=1,mark=2"],
)
def test_bad_specs_are_refused(spec: str) -> None:
    with pytest.raises(InvalidInput, match="value"):
        RewardModel.read(spec)


def test_marks_that_melt_into_the_text_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "CausalLM")
    words = {"<unk>": 0, "a": 1, "b": 2, "m": 3, "bm": 4, "g": 5, "h": 6}
    rules = Tokenizer(models.BPE(words, [("b", "m")], unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Split("\n", behavior="isolated")
    PreTrainedTokenizerFast(tokenizer_object=rules, unk_token="<unk>").save_pretrained(folder)
    with pytest.raises(InvalidInput, match="the mark 'm' is no token of its own in 'abm"):
        RewardModel(folder, **LABELS)


def test_prompts_of_tokens_and_texts_that_are_too_long_are_refused(tmp_path: Path) -> None:
    model = RewardModel(saved(tmp_path, "TokenClassification"), step="\n")
    with pytest.raises(InvalidInput, match="'p': its prompt is tokens"):
        model(problem((1, 2)))
    value = model(problem())
    value(begun("a" * 60 + "\n"))
    with pytest.raises(InvalidInput, match="have 65 tokens; the reward model has 64 positions"):
        value(begun("a" * 61 + "\n"))
