"""Trainers that generate with vLLM: what it is asked, and what TRL is told.

vLLM is ``fake_vllm``: TRL's own code on one side, the tiny model's weights on the other.
"""

# ruff: noqa: E402
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from scipy.stats import chi2
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import fake_vllm
import trl_pairs
import trl_toys
from reroot import InvalidInput
from reroot.contract import Report, Sampling
from reroot.errors import BackendError
from reroot.generators.base import Request
from reroot.generators.transformers import Transformers
from reroot.training import KL, SessionTrainer, rollouts_for_trl, strategies
from reroot.training.trl.setup import lora
from reroot.training.trl.vllm_generator import VLLMGenerator
from trl_vllm import ROWS, Vllm, both_modes, forced, generated, moved, served, share

IMPORTANCE = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@both_modes
def test_groups_continue_token_ids_of_prompt_and_start(vllm: Vllm, tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.R3(stages=4), temperature=0.7, **vllm.settings
    )
    batch = generated(trainer)
    groups = trainer.rollouts.batch.groups
    assert trainer.rollouts.collector.contract.report == Report.SAMPLE
    assert any(g.start.prefix for g in groups)
    asked = [
        (prompt, s.n, s.max_tokens, s.temperature, sorted(s.stop_token_ids or ()), s.ignore_eos)
        for prompts, settings in vllm.engine.calls
        for prompt, s in zip(prompts, settings, strict=True)
    ]
    expected = [
        ([*g.prompt, *g.start.prefix], 4, trl_toys.LENGTH - len(g.start.prefix), 0.7, [1], True)
        for g in groups
    ]
    assert sorted(asked) == sorted(expected)
    assert all(prompts == sorted(prompts) for prompts, _ in vllm.engine.calls)
    rows = [(list(g.start.prefix), t, list(g.prompt)) for g in groups for t in g.tokens]
    for i, (start, tokens, prompt) in enumerate(rows):
        kept = batch["completion_mask"][i].bool()
        assert batch["completion_ids"][i][kept].tolist() == start + tokens
        assert batch["tool_mask"][i][kept].tolist() == [0] * len(start) + [1] * len(tokens)
        said = batch["sampling_per_token_logps"][i][kept]
        assert said[: len(start)].tolist() == [0.0] * len(start)
        known = forced(vllm.engine.model, prompt + start, tokens, 0.7)
        assert torch.allclose(said[len(start) :].double(), known, atol=1e-4)
    assert torch.allclose(batch["importance_sampling_ratio"], torch.tensor(1.0), atol=1e-4)


@served
@pytest.mark.parametrize("mode", IMPORTANCE)
def test_ratios_are_those_of_own_tokens(mode: str, vllm: Vllm, tmp_path: Path) -> None:
    """A server that kept the old weights: ratios are exp(new − old) over generated tokens alone."""
    vllm.engine.deaf = True
    trainer = trl_toys.session_trainer(
        tmp_path,
        strategies.R3(stages=4),
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_max=1.2,
        **vllm.settings,
    )
    moved(trainer.model)
    batch = generated(trainer)
    ratios, whole = batch["importance_sampling_ratio"], list[float]()
    row = 0
    for group in trainer.rollouts.batch.groups:
        start = list(group.start.prefix)
        for tokens in group.tokens:
            before = [*group.prompt, *start]
            new = forced(trainer.model, before, tokens)
            known = (new - forced(vllm.engine.model, before, tokens)).float()
            known = known.sum(0, keepdim=True).exp() if "sequence" in mode else known.exp()
            whole += known.tolist()
            known = known.clamp(max=1.2) if "truncate" in mode else known * (known <= 1.2)
            own = ratios[row]
            if "token" in mode:
                assert (own[: len(start)] == 1).all()
                own = own[len(start) : len(start) + len(tokens)]
            assert torch.allclose(own, known, atol=1e-4)
            row += 1
    assert min(whole) < 0.9 < 1.2 < max(whole)
    assert any(g.start.prefix for g in trainer.rollouts.batch.groups)


@pytest.mark.slow(3)
@both_modes
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vllm_importance_sampling_correction": False, "loss_type": "grpo"},
        {"vllm_importance_sampling_mode": "token_mask", "top_k": 5, "temperature": 0.8},
        {
            "num_iterations": 2,
            "steps_per_generation": 2,
            "off_policy_mask_threshold": 0.1,
            "mask_truncated_completions": True,
            "vllm_importance_sampling_mode": "token_truncate",
        },
    ],
    ids=["plain", "off", "token_mask", "reused"],
)
def test_root_trains_as_trl_does(vllm: Vllm, changes: dict[str, Any], tmp_path: Path) -> None:
    """TRL's trainer with vLLM, with and without the bridge, on the same draws: all numbers are equal."""
    vllm.engine.seeds = False  # TRL sends none
    ours, theirs = trl_pairs.both(
        tmp_path,
        lambda: ROWS,
        lambda: [share],
        max_steps=4,
        evaluation=ROWS[:2],
        eval_strategy="steps",
        eval_steps=2,
        per_device_eval_batch_size=4,
        replay=False,
        **vllm.settings,
        **changes,
    )
    trl_pairs.assert_equal(ours, theirs)
    base = trl_toys.fresh()[0].state_dict()
    assert max(float((ours.weights[k] - base[k]).abs().max()) for k in base) > 1e-3


@pytest.mark.slow(2)
@served
def test_adapters_are_merged_for_vllm(vllm: Vllm, tmp_path: Path) -> None:
    """LoRA: what vLLM has are the merged weights, before each step."""
    pytest.importorskip("peft")
    rollouts = rollouts_for_trl(strategies.SelfReset(), problems=trl_toys.problems(), roots=1)
    trainer = SessionTrainer(
        model=trl_toys.fresh()[0],
        processing_class=trl_toys.fresh()[1],
        args=trl_toys.settings(tmp_path, **(vllm.settings | {"learning_rate": 0.1})),
        rollouts=rollouts,
        kl=KL(beta=0.05),
        peft_config=lora(2),
    )
    trainer.train()
    generated(trainer)
    base = trl_toys.fresh()[0].state_dict()
    changed = [k for k, v in vllm.engine.model.state_dict().items() if not torch.equal(v, base[k])]
    assert any("q_proj" in name for name in changed)
    (group, *_) = rollouts.batch.groups  # type: ignore[union-attr]
    before = [*group.prompt, *group.start.prefix]
    own, known = (
        forced(m, before, group.tokens[0]) for m in (vllm.engine.model, trainer.model.eval())
    )
    assert torch.allclose(own, known, atol=1e-4)


@pytest.mark.slow(2)
@both_modes
def test_draws_come_from_the_weights_of_their_step(vllm: Vllm, tmp_path: Path) -> None:
    """Of every step and evaluation, of a second ``train`` too; a colocated vLLM sleeps in between."""
    sleeps = {"vllm_enable_sleep_mode": True} if vllm.server is None else {}
    trainer = trl_pairs.stock(
        tmp_path,
        ROWS,
        [share],
        rollouts_for_trl(strategies.SelfReset()),
        max_steps=1,
        evaluation=ROWS[:2],
        per_device_eval_batch_size=4,
        **vllm.settings,
        **sleeps,
    )
    answer, matches = vllm.engine.generate, list[bool]()

    def generate(*asked: Any) -> Any:
        known = trainer.model.state_dict()
        matches.append(
            all(torch.equal(v, known[k]) for k, v in vllm.engine.model.state_dict().items())
        )
        return answer(*asked)

    vllm.engine.generate = generate  # type: ignore[method-assign]
    trainer.train()
    steps = [len(matches)]
    for again in (trainer.train, trainer.evaluate):
        again()
        steps.append(len(matches))
    assert all(matches)
    assert 0 < steps[0] < steps[1] < steps[2]
    if vllm.server is None:
        assert not trainer.vllm_generation.llm.awake


@pytest.mark.slow(2)
@both_modes
@pytest.mark.parametrize(
    "law",
    [Sampling(), Sampling(0.8, 1.0, 3), Sampling(1.5, 0.7, 6), Sampling(1.0, 0.6)],
    ids=str,
)
def test_draws_follow_the_trainers_law(vllm: Vllm, law: Sampling, tmp_path: Path) -> None:
    """χ² of 2,000 first tokens against the law of transformers' own processors, error rate 1e-4."""
    size = 2000
    rollouts = rollouts_for_trl(strategies.Root(), grants="root/logprob")
    trainer = trl_pairs.stock(
        tmp_path,
        ROWS[:1],
        [share],
        rollouts,
        num_generations=size,
        per_device_train_batch_size=size,
        max_completion_length=1,
        temperature=law.temperature,
        generation_kwargs={"top_k": law.top_k, "top_p": law.top_p},
        **vllm.settings,
    )
    with torch.no_grad():
        scores = vllm.engine.model(torch.tensor([[4, 5]])).logits[0, -1:]
    for warper in (
        TemperatureLogitsWarper(law.temperature),
        *([TopKLogitsWarper(law.top_k)] if law.top_k else []),
        TopPLogitsWarper(law.top_p),
    ):
        scores = warper(torch.tensor([[4, 5]]), scores)
    known = torch.softmax(scores[0].double(), -1).numpy()
    generated(trainer, 1, size)
    (group,) = rollouts.batch.groups  # type: ignore[union-attr]
    counts = np.bincount([t[0] for t in group.tokens], minlength=12)
    assert not counts[known == 0].any()
    likely = known * size >= 5
    distance = float(
        (((counts - known * size) ** 2) / np.maximum(known * size, 1e-9))[likely].sum()
    )
    assert distance <= chi2.ppf(1 - 1e-4, max(1, likely.sum() - 1))
    for (token,), (nats,) in zip(group.tokens, group.logprobs or [], strict=True):
        assert nats == pytest.approx(float(np.log(known[token])), abs=1e-4)


@both_modes
def test_lists_are_those_of_the_model(vllm: Vllm, tmp_path: Path) -> None:
    """TOPK and ARGMAX beside the same queries to the weights themselves."""
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root(), **vllm.settings)
    inner, known = VLLMGenerator(trainer, Sampling()), Transformers(trl_toys.fresh())
    stop = known.stops(())
    requests = [
        Request((4, 5), (), 1, 5, Report.ARGMAX(3), stop=stop),
        Request((5,), (6, 4), 3, 4, Report.TOPK(2), stop=stop, key=(1, 2)),
    ]
    greedy, drawn = inner.answer(requests)
    same = known.answer(requests)[0]
    for name in ("tokens", "lengths", "top_tokens"):
        assert (getattr(greedy, name) == getattr(same, name)).all()
    assert greedy.top_logprobs == pytest.approx(same.top_logprobs, abs=1e-4)
    assert drawn.logprobs is not None
    for i, tokens in enumerate(drawn.outputs()):
        for t in range(2, len(tokens)):
            law = known.log_laws((5,), [tokens[:t].tokens])[0]
            assert drawn.logprobs[i, t - 2] == pytest.approx(law[tokens[t]], abs=1e-4)
            assert drawn.top_tokens is not None
            assert drawn.top_tokens[i, t - 2].tolist() == np.argsort(-law)[:2].tolist()
    for wrong in (
        replace(requests[1], n=1, forced=(4,) * 4),
        replace(requests[0], report=Report.FULL),
    ):
        with pytest.raises(InvalidInput, match="vLLM reports"):
            inner.answer([wrong])


@pytest.mark.slow(2)
def test_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Colocated draws follow the seed of the rollouts; groups of one prompt differ."""
    engine = fake_vllm.Engine(trl_toys.fresh()[0])
    fake_vllm.install(monkeypatch, lambda: engine)

    def drawn(seed: int) -> list[list[list[int]]]:
        rollouts = rollouts_for_trl(strategies.Root(), seed=seed)
        trainer = trl_pairs.stock(
            tmp_path, ROWS, [share], rollouts, use_vllm=True, max_completion_length=12
        )
        trainer.model.train()
        trainer._generate_and_score_completions([ROWS[0]] * 8)
        return [g.tokens for g in rollouts.batch.groups]  # type: ignore[union-attr]

    first = drawn(1)
    assert first == drawn(1)
    assert first != drawn(2)
    assert first[0] != first[1]
    assert len({tuple(t) for group in first for t in group}) > 4


@both_modes
def test_equal_rollouts_keep_their_own_log_probabilities(vllm: Vllm, tmp_path: Path) -> None:
    """vLLM's arithmetic may give two draws of one token two numbers; TRL gets each once."""
    answer, drawn = vllm.engine.generate, list[tuple[int, float]]()

    def noisy(*asked: Any) -> Any:
        found = answer(*asked)
        for output in (o for one in found for o in one.outputs):
            (token,), (place,) = output.token_ids, output.logprobs
            place[token].logprob -= 0.01 * len(drawn)
            drawn.append((token, float(np.float32(place[token].logprob))))
        return found

    vllm.engine.generate = noisy  # type: ignore[method-assign]
    trainer = trl_pairs.stock(
        tmp_path,
        ROWS,
        [share],
        rollouts_for_trl(strategies.Root()),
        max_completion_length=1,
        num_generations=16,
        per_device_train_batch_size=32,
        **vllm.settings,
    )
    batch = generated(trainer, 2, 16)
    ids, said = batch["completion_ids"][:, 0], batch["sampling_per_token_logps"][:, 0]
    assert sorted(zip(ids.tolist(), said.tolist(), strict=True)) == sorted(drawn)


@pytest.mark.slow(1)
@both_modes
def test_an_output_that_vllm_ends_by_itself_is_an_error(vllm: Vllm, tmp_path: Path) -> None:
    """A default of the server's, for one: such an output would count as a whole one."""
    answer = vllm.engine.generate
    vllm.engine.generate = lambda prompts, settings: answer(  # type: ignore[method-assign]
        prompts, [replace(s, max_tokens=2) for s in settings]
    )
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root(), **vllm.settings)
    with pytest.raises(BackendError, match="gave 2 of 4 tokens, and no stop ends"):
        trainer.train()
    assert trainer.rollouts.collector.spent.tokens == 0
