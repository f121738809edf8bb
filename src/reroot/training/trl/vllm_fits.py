"""Which settings of a trainer with ``use_vllm`` sessions can follow, and the refusal of those that they cannot."""

from __future__ import annotations

from typing import Any

from ...contract import Sampling
from ...errors import InvalidInput
from ..strategies.base import Strategy
from .vllm_engine import engine_of
from .vllm_generator import served

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "min_p": (None, 0.0),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), (None, 0.0)),
    "repetition_penalty": (None, 1.0),
    **dict.fromkeys(("logit_bias", "bad_words", "allowed_token_ids"), (None, {}, [])),
    **dict.fromkeys(("stop", "stop_token_ids"), (None, [])),
    **dict.fromkeys(("structured_outputs", "truncate_prompt_tokens", "prompt_logprobs"), (None,)),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "n": (1,),
}
"""Settings of vLLM's draws, besides those of ``Sampling`` → the values that change nothing."""

_SHOWN = ("skip_special_tokens", "spaces_between_special_tokens", "detokenize")
"""Settings of vLLM's texts, which nobody reads."""

_COLDEST = 0.01
"""vLLM takes this for temperatures between 0 and it."""


def vllm_law(trainer: Any) -> Sampling:
    """The law that the trainer would have vLLM draw from.

    Raises:
        InvalidInput: it is no law of sessions, or another temperature than that of the gradient; the
            setting is named.
    """
    given = dict(trainer.args.generation_kwargs or {})
    for name in ("min_p", "repetition_penalty"):
        _check_neutral(name, getattr(trainer, name), name)
    law: dict[str, Any] = {}
    for name in ("top_p", "top_k"):
        law[name] = given.pop(name, getattr(trainer, name))
    if law["top_k"] in (None, -1):  # vLLM's way to say all
        law["top_k"] = 0
    if law["top_p"] is None:
        law["top_p"] = 1.0
    for name, value in (
        ("temperature", trainer.temperature),
        ("max_tokens", trainer.max_completion_length),
    ):
        if given.pop(name, value) != value:
            raise InvalidInput(
                f"generation_kwargs: {name}={trainer.args.generation_kwargs[name]!r}, but the trainer has "
                f"{value}: what is drawn would not be what is trained on"
            )
    if trainer.temperature < _COLDEST:
        raise InvalidInput(
            f"temperature={trainer.temperature!r}: vLLM draws at no temperature below {_COLDEST}"
        )
    if given.pop("seed", None) is not None:
        raise InvalidInput(
            "generation_kwargs: seed would give equal prompts equal draws, in all steps: seed="
            "… of rollouts_for_trl keys the draws of a colocated vLLM"
        )
    for name, value in given.items():
        if name not in _SHOWN:
            _check_neutral(name, value, f"generation_kwargs: {name}")
    return Sampling(trainer.temperature, **law)


def _check_neutral(name: str, value: Any, shown: str) -> None:
    if name not in _NEUTRAL:
        raise InvalidInput(f"{shown} is no setting of vLLM whose effect on what is drawn is known")
    if value not in _NEUTRAL[name]:
        raise InvalidInput(
            f"{shown}={value!r} changes what is drawn, and no contract says how: sessions sample by "
            "temperature, top_k and top_p alone"
        )


def check_vllm(trainer: Any, strategy: Strategy, law: Sampling) -> None:
    """Refuse a vLLM that sessions cannot draw through, or a strategy that needs more than it gives.

    Args:
        trainer: a GRPOTrainer with ``use_vllm``.
        strategy: whose groups start in the sessions.
        law: that the trainer samples from.

    Raises:
        InvalidInput: it is named, with what would do.
        BackendError: the server does not answer.
    """
    args = trainer.args
    if args.vllm_structured_outputs_regex is not None:
        raise InvalidInput(
            f"vllm_structured_outputs_regex={args.vllm_structured_outputs_regex!r} changes what is drawn, "
            "and no contract says how"
        )
    if args.vllm_mode == "colocate" and args.vllm_tensor_parallel_size > 1:
        raise InvalidInput(
            f"vllm_tensor_parallel_size={args.vllm_tensor_parallel_size}: processes that share a "
            "colocated engine must ask it the same, and each has sessions of its own; set 1, or "
            "vllm_mode='server' and the server's --tensor-parallel-size"
        )
    limits = engine_of(trainer).limits
    vocab = trainer.accelerator.unwrap_model(trainer.model).config.get_text_config().vocab_size
    report = served(limits, law, vocab)
    if args.vllm_importance_sampling_correction and not report.has_logprob:
        raise InvalidInput(
            f"vllm_importance_sampling_correction: the server's log-probabilities are "
            f"{limits.logprobs_mode}, not those of {law}: restart it with --logprobs-mode "
            "processed_logprobs, or set vllm_importance_sampling_correction=False"
        )
    if not strategy.requires.report <= report:
        ways = ["train without use_vllm"]
        if not law.is_base and strategy.requires.report.top:
            ways.append("set temperature=1, top_p=1 and top_k=0")
        elif not report.has_logprob:
            ways.append("restart the server with --logprobs-mode processed_logprobs")
        elif strategy.requires.report.top:
            ways.append(f"start vLLM with --max-logprobs {strategy.requires.report.top}")
        raise InvalidInput(
            f"{strategy} requires {strategy.requires}, and this vLLM reports up to {report} at {law}: "
            f"{', or '.join(ways)}"
        )
