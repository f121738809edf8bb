"""A tiny trainer: random language model, letters, a reward for the letter c."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import tiny_lm
from reroot.tasks.base import Problem
from reroot.training import KL, SessionTrainer, rollouts_for_trl
from reroot.training.strategies import Strategy
from reroot.types import Output

LENGTH = 4
PROMPTS = ("ab", "ba", "aab", "bb")


def reward(output: Output) -> float:
    """Share of c among the places of an output."""
    return output.text.count("c") / LENGTH


def problems(**changes: Any) -> list[Problem]:
    return [
        Problem(
            f"p{i}",
            prompt,
            LENGTH,
            **{
                "reward": reward,
                "verifier": lambda output: "d" not in output.text,
                "demonstration": "cccc",
                **changes,
            },
        )
        for i, prompt in enumerate(PROMPTS)
    ]


def fresh() -> tuple[Any, Any]:
    """(model, tokenizer), always the same."""
    return tiny_lm.model(), tiny_lm.tokenizer(pad_token="</s>")


def settings(out: Path, **changes: Any) -> Any:
    from trl import GRPOConfig

    known: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "steps_per_generation": 1,
        "max_completion_length": LENGTH,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "beta": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "seed": 0,
    }
    return GRPOConfig(**(known | changes))


def session_trainer(
    out: Path,
    strategy: Strategy,
    *,
    kl: KL | None = None,
    roots: int = 0,
    what: list[Problem] | None = None,
    budget: Any = None,
    grants: str | None = None,
    pieces: tuple[Any, Any] | None = None,
    **changes: Any,
) -> Any:
    model, tokenizer = fresh() if pieces is None else pieces
    rollouts = rollouts_for_trl(
        strategy, problems=what or problems(), roots=roots, budget=budget, grants=grants
    )
    return SessionTrainer(
        model=model,
        processing_class=tokenizer,
        args=settings(out, **changes),
        rollouts=rollouts,
        kl=kl,
    )


def weights(trainer: Any) -> dict[str, Any]:
    return {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}


def save_parity_model(folder: Path) -> Path:
    """A random model of the characters 0, 1 and =, saved."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(("<pad>", "<eos>", "0", "1", "="))}
    rules = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    rules.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    rules.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>"
    )
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
