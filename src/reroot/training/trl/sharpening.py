"""Sharpening of a language model through TRL's SFT and DPO trainers, its draws through metered sessions.

What the base draws, with its log-probabilities, comes out of one session for each prompt (root/logprob), with
an account. Rewards are those log-probabilities (arXiv 2412.01951); nobody judges the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...access.episode import bind
from ...access.learner import learner
from ...access.session import Session
from ...checks import check_between, check_int
from ...contract import Report
from ...errors import InvalidInput, need
from ...generators.base import Generator
from ...runs.inputs import generator_of, problems_of
from ...runs.run import run
from ...tasks.base import Problem
from ...types import Budget, Cost, Finding


@dataclass(frozen=True, slots=True)
class Drawn:
    """Outputs of one prompt.

    Attributes:
        problem: its id.
        prompt: prompt tokens.
        outputs: generated tokens of each draw, those that stop it included.
        log_probabilities: nats, of each whole output under the law that it was drawn from.
    """

    problem: str
    prompt: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    log_probabilities: tuple[float, ...]

    @property
    def best(self) -> tuple[int, ...]:
        """The likeliest output; the first of equals."""
        return self.outputs[int(np.argmax(self.log_probabilities))]


@learner(requires="root/logprob")
async def _log_draws(session: Session, *, draws: int) -> Finding:
    reply = await session.rollouts(draws, report=Report.LOGPROB)
    outputs = [list(y.tokens) for y in reply.outputs()]
    return Finding(None, {"outputs": outputs, "logs": reply.total_logprobs().tolist()})


def collect(
    generator: Generator,
    problems: Sequence[Problem],
    *,
    draws: int,
    seed: int = 0,
    budget: Budget | str | None = None,
) -> tuple[list[Drawn], Cost]:
    """``draws`` rollouts of each problem with their log-probabilities, and what they cost.

    Args:
        generator: the base model.
        problems: with distinct ids; their judges are not asked.
        draws: N.
        seed: of the draws.
        budget: the most that each session may spend.

    Raises:
        InvalidInput: a value is not what is expected, or the draws of a problem do not fit its budget.
    """
    generator, problems = generator_of(generator), problems_of(problems)
    one = _log_draws(draws=check_int("draws", draws, 1))
    done = run(one, problems, generator, grants=one.requires, seed=seed, budget=budget)
    found: list[Drawn] = []
    for problem, attempt in zip(problems, done.attempts, strict=True):
        if attempt.stopped == "budget":
            raise InvalidInput(f"the budget does not allow {draws} draws of {problem.id!r}")
        told = attempt.metadata
        outputs = tuple(tuple(y) for y in told["outputs"])
        prompt = bind(problem, generator).prompt
        found.append(Drawn(problem.id, prompt, outputs, tuple(told["logs"])))
    return found, done.cost


def sft(
    model: Any, tokenizer: Any, drawn: Sequence[Drawn], out: str | Path, **settings: Any
) -> Any:
    """SFT-Sharpening: fine-tune on the likeliest draw of each prompt; loss on its tokens alone.

    Args:
        model, tokenizer: loaded; the model is trained in place.
        drawn: what ``collect`` gave.
        out: folder for TRL.
        settings: of ``SFTConfig``, over small defaults for the CPU.

    Returns:
        The trainer, when it is done.

    Raises:
        MissingDependency: TRL is not installed.
        InvalidInput: nothing was drawn.
    """
    need("train", "torch", "transformers", "trl", "datasets")
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = [
        {
            "input_ids": [*d.prompt, *d.best],
            "completion_mask": [0] * len(d.prompt) + [1] * len(d.best),
        }
        for d in drawn
    ]
    args = SFTConfig(**_arguments(out, settings), completion_only_loss=True, max_length=None)
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=_table(rows), processing_class=tokenizer
    )
    trainer.train()
    return trainer


def dpo(
    model: Any,
    tokenizer: Any,
    drawn: Sequence[Drawn],
    out: str | Path,
    beta: float,
    **settings: Any,
) -> Any:
    """RLHF-Sharpening by the regression of log-ratios, in TRL's DPO trainer.

    Draws 2i and 2i + 1 of a prompt are a pair; those that are equal say nothing and are left out. The loss
    is (β·(log π(y)/π(y') − ℓ) − ℓ)², ℓ = log π_base(y)/π_base(y') as the session reported it; no reference
    model is held.

    Args:
        model, tokenizer, drawn, out: as for ``sft``; at least two draws of a prompt.
        beta: β > 0.
        settings: of ``DPOConfig``.

    Returns:
        The trainer, when it is done.

    Raises:
        MissingDependency: TRL is not installed.
        InvalidInput: β is out of range, or no pair differs.
    """
    need("train", "torch", "transformers", "trl", "datasets")
    from trl.trainer.dpo_config import DPOConfig

    check_between("beta", beta, 0.0, np.inf)
    rows = [
        {
            "prompt_ids": list(d.prompt),
            "chosen_ids": list(d.outputs[i]),
            "rejected_ids": list(d.outputs[i + 1]),
            "ref_chosen_logps": d.log_probabilities[i],
            "ref_rejected_logps": d.log_probabilities[i + 1],
        }
        for d in drawn
        for i in range(0, len(d.outputs) - 1, 2)
        if d.outputs[i] != d.outputs[i + 1]
    ]
    args = DPOConfig(
        **_arguments(out, settings), beta=beta, precompute_ref_log_probs=True, max_length=None
    )
    trainer = _regression_trainer()(
        model=model, args=args, train_dataset=_table(rows), processing_class=tokenizer
    )
    trainer.train()
    return trainer


def _regression_trainer() -> Any:
    """TRL's trainer with the regression in place of its loss, on tokens and log-probabilities of sessions."""
    from trl.trainer.dpo_trainer import DPOTrainer

    class RegressionTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
            return dataset  # tokens already, those that were drawn

        def _precompute_ref_logps(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
            return dataset  # the session reported them

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            outputs = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
            )
            logs = outputs.logits[:, :-1].float().log_softmax(dim=-1)
            tokens = inputs["input_ids"][:, 1:, None]
            mask = inputs["completion_mask"][:, 1:]
            chosen, rejected = (logs.gather(2, tokens)[..., 0] * mask).sum(dim=1).chunk(2)
            label = inputs["ref_chosen_logps"] - inputs["ref_rejected_logps"]
            loss = ((self.beta * (chosen - rejected - label) - label) ** 2).mean()
            return (loss, outputs) if return_outputs else loss

    return RegressionTrainer


def _table(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    if not rows:
        raise InvalidInput("there is nothing to train on: no draws, or no two that differ")
    return Dataset.from_list(rows)


def _arguments(out: str | Path, settings: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "seed": 0,
    }
    return known | settings
