"""Trainers that generate with vLLM: strategies and the account, and what cannot be had."""

# ruff: noqa: E402
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import reroot
import trl_pairs
import trl_toys
from reroot import Budget, InvalidInput
from reroot.errors import BackendError
from reroot.training import KL, SessionTrainer, rollouts_for_trl, strategies
from reroot.training.groups import BudgetSpent
from trl_vllm import ROWS, Vllm, both_modes, colocated, generated, served, share

# ---- strategies and the account --------------------------------------------------------------------


@pytest.mark.slow(3)
@both_modes
@pytest.mark.parametrize(
    "strategy",
    [
        strategies.Plurality(draws=3),
        strategies.SelfReset(),
        strategies.Fork(),
        strategies.AdaBack(),
        strategies.R3(stages=4),
        strategies.Verified(),
        strategies.Argmax(),
        strategies.VineValues(samples=2),
    ],
    ids=lambda s: s.name,
)
def test_strategies_run_and_are_charged_what_was_drawn(
    vllm: Vllm, strategy: Any, tmp_path: Path
) -> None:
    trainer = trl_toys.session_trainer(
        tmp_path,
        strategy,
        kl=KL(beta=0.05),
        roots=1,
        budget=Budget(tokens=360),
        max_steps=40,
        **vllm.settings,
    )
    drawn = 0
    answer = vllm.engine.generate

    def generate(*asked: Any) -> Any:
        nonlocal drawn
        found = answer(*asked)
        drawn += sum(len(o.token_ids) for one in found for o in one.outputs)
        return found

    vllm.engine.generate = generate  # type: ignore[method-assign]
    with pytest.raises(BudgetSpent):
        trainer.train()
    spent = trainer.rollouts.collector.spent.tokens
    assert 180 < spent <= 360
    assert spent == drawn
    assert trainer.state.global_step > 1
    assert np.isfinite([line["loss"] for line in trainer.state.log_history]).all()


@pytest.mark.slow(1)
@both_modes
def test_what_is_drawn_behind_a_stop_text_is_thrown_away(vllm: Vllm, tmp_path: Path) -> None:
    problems = [
        replace(p, stop=("ah", "f"), max_tokens=12, demonstration=None) for p in trl_toys.problems()
    ]
    rollouts = rollouts_for_trl(strategies.Root(), problems=problems)
    trainer = SessionTrainer(
        model=trl_toys.fresh()[0],
        processing_class=trl_toys.fresh()[1],
        args=trl_toys.settings(
            tmp_path,
            max_completion_length=12,
            num_generations=16,
            per_device_train_batch_size=32,
            max_steps=1,
            **vllm.settings,
        ),
        rollouts=rollouts,
    )
    trainer.train()
    groups, decode = rollouts.batch.groups, rollouts._generator.decode  # type: ignore[union-attr]
    texts = [decode(t) for g in groups for t in g.tokens]
    assert any(text.endswith("ah") for text in texts)
    assert any(text.endswith("f") for text in texts)
    assert not any("f" in text[:-1] or "ah" in text[:-1] for text in texts)
    spent = rollouts.collector.spent.tokens  # type: ignore[union-attr]
    assert spent == sum(len(t) for g in groups for t in g.tokens)
    assert rollouts._generator.physical().computed > spent


@pytest.mark.slow(2)
@served
@pytest.mark.parametrize("when", ["generate", "take the new weights"])
def test_a_server_that_dies_is_named_and_nothing_is_lost(
    when: str, vllm: Vllm, tmp_path: Path
) -> None:
    from transformers import TrainerCallback

    assert vllm.server is not None
    server = vllm.server
    trainer = trl_toys.session_trainer(
        tmp_path,
        strategies.Root(),
        max_steps=4,
        save_strategy="steps",
        save_steps=1,
        **vllm.settings,
    )
    client = trainer.vllm_generation.vllm_client
    plain = type(client.session.get_adapter("http://"))()
    client.session.mount("http://", plain)  # no minute of retries
    generate, whole, tries = client.generate, list[int](), list[int]()

    def tried(*asked: Any, **settings: Any) -> Any:
        tries.append(trainer.state.global_step)
        return generate(*asked, **settings)

    client.generate = tried

    class Dies(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                whole.append(trainer.rollouts.collector.spent.tokens)
                if when == "generate":
                    trainer.vllm_generation.sync_weights = lambda: None
                server.die()

    trainer.add_callback(Dies())
    with pytest.raises(
        BackendError, match=f"{re.escape(server.url)} failed to {when}: ConnectionErr"
    ):
        trainer.train()
    # nor are the groups asked for one by one
    assert tries == ([0, 1, 2] if when == "generate" else [0, 1])
    assert trainer.rollouts.collector.spent.tokens == whole[0] > 0
    assert (tmp_path / "checkpoint-2" / "reroot.json").exists()


# ---- what is refused, and the command ----------------------------------------------------------------


@served
@pytest.mark.parametrize(
    ("engine", "settings", "strategy", "said"),
    [
        ({"max_logprobs": 0}, {}, strategies.Argmax(), r"argmax.*reports up to logprob.*--max-logprobs 1"),
        ({}, {"temperature": 0.7}, strategies.Argmax(), r"up to logprob at T=0\.7.*set temperature=1"),
        ({"logprobs_mode": "raw_logprobs"}, {"temperature": 0.7}, strategies.Root(),
         r"vllm_importance_sampling_correction: .*raw_logprobs.*--logprobs-mode processed_logprobs"),
        ({"logprobs_mode": "raw_logits"},
         {"vllm_importance_sampling_correction": False}, strategies.Fork(), r"fork.*reports up to sample"),
        ({}, {"vllm_structured_outputs_regex": "a"}, strategies.Root(), "vllm_structured_outputs_regex='a'"),
        ({}, {"generation_kwargs": {"seed": 1}}, strategies.Root(), "generation_kwargs: seed would give"),
        ({}, {"generation_kwargs": {"stop": ["a"]}}, strategies.Root(), r"generation_kwargs: stop=\['a'\]"),
        ({}, {"generation_kwargs": {"max_tokens": 2}}, strategies.Root(), "max_tokens=2, but the trainer"),
        ({}, {"generation_kwargs": {"temperature": 0.2}}, strategies.Root(), r"temperature=0\.2, but"),
        ({}, {"generation_kwargs": {"new": 1}}, strategies.Root(), "generation_kwargs: new is no setting"),
        ({}, {"temperature": 0.001}, strategies.Root(), r"temperature=0\.001: vLLM draws at no"),
        ({}, {"min_p": 0.1}, strategies.Root(), r"min_p=0\.1 changes what is drawn"),
        ({}, {"repetition_penalty": 1.1}, strategies.Root(), r"repetition_penalty=1\.1 changes"),
    ],
    ids=["argmax-logprobs", "argmax-law", "correction", "fork", "regex", "seed", "stop", "max_tokens",
         "temperature", "unknown", "cold", "min_p", "repetition_penalty"],
)  # fmt: skip
def test_refusals(
    engine: dict[str, Any],
    settings: dict[str, Any],
    strategy: Any,
    said: str,
    vllm: Vllm,
    tmp_path: Path,
) -> None:
    for name, value in engine.items():
        setattr(vllm.engine, name, value)
    with pytest.raises(InvalidInput, match=said):
        trl_toys.session_trainer(tmp_path, strategy, **vllm.settings, **settings)
    assert not vllm.engine.calls


@served
def test_log_probabilities_of_another_law_reach_nobody(vllm: Vllm, tmp_path: Path) -> None:
    """With the correction off, draws alone are used; at temperature 1 raw ones are the right ones."""
    vllm.engine.logprobs_mode = "raw_logprobs"
    off = {"vllm_importance_sampling_correction": False, "temperature": 0.7}
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root(), **vllm.settings, **off)
    batch = generated(trainer)
    assert "sampling_per_token_logps" not in batch
    assert all(s.logprobs is None for _, settings in vllm.engine.calls for s in settings)
    trainer = trl_toys.session_trainer(tmp_path, strategies.Fork(), **vllm.settings)
    assert torch.allclose(
        generated(trainer)["importance_sampling_ratio"], torch.tensor(1.0), atol=1e-4
    )


@pytest.mark.slow(1)
@both_modes
def test_a_row_that_does_not_fit_vllm_is_named(vllm: Vllm, tmp_path: Path) -> None:
    vllm.engine.max_model_len = 6
    rollouts = rollouts_for_trl(strategies.Root())
    trainer = trl_pairs.stock(tmp_path, ROWS, [share], rollouts, **vllm.settings)
    with pytest.raises(InvalidInput, match=r"training data, row 2: .*6"):
        trainer.train()
    assert not vllm.engine.calls


@pytest.mark.slow(1)
@colocated
def test_tensor_parallelism_of_a_colocated_engine_is_refused(vllm: Vllm, tmp_path: Path) -> None:
    trainer = trl_pairs.stock(
        tmp_path, ROWS, [share], rollouts_for_trl(strategies.Root()), **vllm.settings
    )
    trainer.args.vllm_tensor_parallel_size = 2
    with pytest.raises(InvalidInput, match="vllm_tensor_parallel_size=2"):
        trainer.train()


@pytest.mark.slow(3)
@both_modes
def test_the_command_takes_trls_settings(vllm: Vllm, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "problems": trl_toys.problems(),
        "eval_problems": trl_toys.problems()[:2],
        "eval_size": 2,
        "eval_every": 1,
        "strategy": strategies.AdaBack(),
        "steps": 2,
        "groups": 2,
        "size": 4,
        "beta": 0.05,
        "trl": vllm.settings | {"use_cpu": True},
    }
    found = reroot.train(trl_toys.fresh(), out=tmp_path / "run", **settings)
    assert found["steps"] == 2
    assert found["evaluation"]["problems"] == 2
    assert vllm.engine.loaded == 3  # before each step, and for the last evaluation
    with pytest.raises(InvalidInput, match="use_vllm needs generation 'session'"):
        reroot.train(
            trl_toys.fresh(),
            **(settings | {"strategy": "root", "generation": "trl", "beta": 0.0}),
        )
