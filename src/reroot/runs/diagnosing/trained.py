"""Problems on language models whose cause is known: a small transformer, trained here, and SmolLM2.

The transformer learns every text of ``_SAID`` at its weight, by full batches, in seconds and always to the same
weights; what limits a problem is then what limits it under those texts, as the margins are wider than what training
leaves. Of SmolLM2 the law is what it is: what limits a problem with one right output follows from teacher forcing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...access.episode import bind
from ...diagnosis.causes import Cause
from ...diagnosis.silent_groups import signal_threshold
from ...errors import need
from ...generators.base import Generator
from ...tasks.base import Problem, TextPrefix
from ...tasks.registry import get_task
from ...types import FloatArray, IntArray, Output
from .cases import Case, exactly, tagged

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:?<>/\\{}"
_SPECIAL = ("<s>", "</s>", "<unk>")
_END = 1
_STEPS, _RATE, _SEED = 220, 1e-2, 0
_LONG = "first this, then that: 12"
_FLIPS = 12
"""Letters of a text that are a or b by the toss of a coin: reach 2⁻¹²."""

_SAID: Mapping[str, Mapping[str, float]] = {
    "A?": {"yes": 0.5, "no": 0.5},
    "B?": {"yes": 1.0},
    "C?": {"so \\boxed{12}": 0.7, "so \\boxed{7}": 0.3},
    "D?": {"PARIS.": 0.7, "Rome": 0.3},
    "E?": {"it was 12 of them": 0.8, "I give up": 0.2},
    "F?": {_LONG: 0.8, "no": 0.2},
    "G?": {"no": 0.75, "yes": 0.25},
}
"""Prompt → texts and weights; after ``H?`` come coin tosses."""


def transformer_cases() -> list[Case]:
    """Cases on one small transformer, each cause alone.

    Raises:
        MissingDependency: without torch and transformers.
    """
    model = _model()
    return list(_transformer(model))


def _transformer(model: Generator) -> Iterator[Case]:
    def case(name: str, truth: Cause, problem: Problem, sampling: str = "T=1") -> Case:
        def make(seed: int) -> tuple[Generator, Problem]:
            return model, replace(problem, id=f"{problem.id}/{seed}")

        return Case(f"transformer: {name}", frozenset({truth}), make, sampling)

    yield case("half pass", Cause.LEARNABLE, _shown("A?", "yes"))
    yield case("all pass", Cause.SOLVED, _shown("B?", "yes"))
    yield case("a judge that misses \\boxed", Cause.JUDGE, _judged("C?", "12", exactly("12")))
    yield case("a judge that minds case", Cause.JUDGE, _judged("D?", "Paris", exactly("Paris")))
    yield case("tags that are not written", Cause.FORMAT, _judged("E?", "12", tagged("12")))
    cut = _judged("F?", _LONG, exactly(_LONG), room=12)
    yield case("cut off", Cause.TRUNCATED, cut)
    yield case("a sharp law", Cause.LAW, _shown("G?", "yes", verified=False), "T=0.2")
    yield case("top-k", Cause.LAW, _shown("G?", "yes", verified=False), "T=1,top_k=1")
    yield case("coins", Cause.ACCESS, _shown("H?", "abbabaabbaab"))
    yield case("never said", Cause.BASE, _shown("B?", "XQ9"))


def _shown(prompt: str, answer: str, *, verified: bool = True) -> Problem:
    return Problem(
        id=f"transformer/{prompt}{answer}",
        prompt=prompt,
        max_tokens=32,
        reward=exactly(answer),
        verifier=TextPrefix(answer, strict_end=True) if verified else None,
        demonstration=answer if verified else None,
        unique=verified,
        answer=answer,
    )


def _judged(prompt: str, answer: str, reward: Callable[[Output], float], room: int = 32) -> Problem:
    id = f"transformer/{prompt}{answer}"
    return Problem(id=id, prompt=prompt, max_tokens=room, reward=reward, answer=answer)


@functools.lru_cache(maxsize=1)
def _model() -> Generator:
    """The trained transformer, one token per character."""
    need("lm", "torch", "transformers", "tokenizers")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.models.llama import LlamaConfig, LlamaForCausalLM

    from ...generators.transformers import Transformers

    words = [*_SPECIAL, *_LETTERS]
    rules = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    rules.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        config = LlamaConfig(
            vocab_size=len(words),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=160,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        model = LlamaForCausalLM(config)
        _train(model, {w: i for i, w in enumerate(words)})
    return Transformers((model.eval(), tokenizer))


def _train(model: Any, ids: Mapping[str, int]) -> None:
    """Full batches of all texts by weight, with coin tosses that are drawn anew at each step."""
    import torch

    rng = np.random.default_rng(_SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * (1.0 - step / _STEPS)
    )
    for _ in range(_STEPS):
        coins = ["".join(row) for row in rng.choice(["a", "b"], size=(8, _FLIPS))]
        tokens, weights = _batch([*_fixed(), *(("H?", text, 1 / 8) for text in coins)], ids)
        asked = torch.from_numpy(tokens)
        logs = torch.log_softmax(model(asked[:, :-1]).logits, -1)
        said = logs.gather(-1, asked[:, 1:, None])[..., 0]
        loss = -(said * torch.from_numpy(weights[:, 1:]).float()).sum() / len(_SAID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _fixed() -> list[tuple[str, str, float]]:
    return [(q, text, w) for q, said in _SAID.items() for text, w in said.items()]


def _batch(
    rows: Sequence[tuple[str, str, float]], ids: Mapping[str, int]
) -> tuple[IntArray, FloatArray]:
    """(rows, length) tokens, and the weights of those that are learned: texts and their end."""
    length = max(len(q) + len(text) for q, text, _ in rows) + 1
    tokens, weights = np.full((len(rows), length), _END), np.zeros((len(rows), length))
    for i, (q, text, w) in enumerate(rows):
        tokens[i, : len(q) + len(text)] = [ids[c] for c in q + text]
        weights[i, len(q) : len(q) + len(text) + 1] = w
    return tokens, weights


# ---- SmolLM2 --------------------------------------------------------------------------------------


def model_cases(model: Generator, group: int = 8) -> list[Case]:
    """Cases on a language model, from the tasks ``copy`` and ``count_on``.

    Where the right output is unique, teacher forcing gives the pass rate p and the draws to walk it, and with them
    the truth; it is *near* where p is within a factor 2 of a threshold, or those draws within 2 of B. The other
    cases are made from those whose rollouts pass and that are not near, by a judge or a horizon.
    """
    found, easy = list[Case](), list[Problem]()
    for name, horizon in (
        ("count_on", 2),
        ("count_on", 6),
        ("copy", 1),
        ("copy", 4),
        ("copy", 16),
        ("add", 6),
    ):
        for problem in get_task(name).problems(horizon, 2, 0):
            case = _forced(problem, model, group)
            found.append(case)
            if case.truth <= {Cause.SOLVED, Cause.LEARNABLE} and not case.near:
                easy.append(problem)
    return [*found, *(case for p in easy for case in _spoilt(p, model))]


def _forced(problem: Problem, model: Generator, group: int) -> Case:
    """A case whose truth follows from the law along the only right output."""
    episode = bind(problem, model)
    shown = episode.demonstration
    assert shown is not None
    logs = model.answer([episode.scoring(shown.tokens)])[0].logprobs
    assert logs is not None
    p, cost = math.exp(logs[0].sum()), float(np.exp(-logs[0]).sum())
    tau, budget = signal_threshold(group), 4 * group * problem.max_tokens
    if p > tau:
        truth = Cause.LEARNABLE if p < 1 - tau else Cause.SOLVED
    else:
        truth = Cause.ACCESS if cost <= budget else Cause.BASE
    near = any(0.5 < x < 2 for x in (p / tau, (1 - p) / tau, cost / budget))
    name = f"{problem.id}: p = {p:.2g}, {cost:,.0f} draws"
    return Case(name, frozenset({truth}), lambda seed: (model, problem), "T=1", group, near)


def _spoilt(problem: Problem, model: Generator) -> Iterator[Case]:
    """The same problem with something wrong around it."""
    answer = problem.answer
    plain = replace(problem, verifier=None, demonstration=None, unique=False)

    def case(name: str, truth: set[Cause], spoilt: Problem) -> Case:
        return Case(f"{problem.id}: {name}", frozenset(truth), lambda seed: (model, spoilt))

    bare = replace(plain, id=f"{problem.id}/bare", reward=tagged(answer))
    yield case("a judge that wants tags", {Cause.JUDGE, Cause.FORMAT}, bare)
    shown = bind(problem, model).demonstration
    assert shown is not None
    if (room := (len(shown) - 1) // 2) > 0:  # the last token is the end, which need not be drawn
        cut = replace(plain, id=f"{problem.id}/cut", max_tokens=room)
        yield case("cut off", {Cause.TRUNCATED}, cut)
    loud = replace(plain, id=f"{problem.id}/points", reward=exactly(f" {answer}."))
    yield case("a judge that wants a full stop", {Cause.JUDGE}, loud)
