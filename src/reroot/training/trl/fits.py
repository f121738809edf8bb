"""Which settings of a trainer sessions can follow, and the refusal of those that they cannot."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

from ...contract import Sampling
from ...errors import InvalidInput
from ..strategies.base import Strategy
from .vllm_fits import vllm_law

_LAW = {
    **dict.fromkeys(("min_p", "top_h", "epsilon_cutoff", "eta_cutoff", "guidance_scale"), None),
    **dict.fromkeys(("typical_p", "repetition_penalty", "encoder_repetition_penalty"), 1.0),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), None),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"), None),
    **dict.fromkeys(("min_length", "min_new_tokens", "max_time", "stop_strings"), None),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "sequence_bias"), None),
    **dict.fromkeys(("exponential_decay_length_penalty", "watermarking_config"), None),
    **dict.fromkeys(("penalty_alpha", "dola_layers", "token_healing"), None),
    **dict.fromkeys(("constraints", "force_words_ids"), None),
    **dict.fromkeys(("num_beams", "num_beam_groups", "num_return_sequences"), 1),
    "do_sample": True,
}
"""Settings of ``generate`` that change what is drawn, besides those of ``Sampling`` → the value that does not."""


def check_trainer(trainer: Any, strategy: Strategy) -> None:
    """Refuse a trainer that generates in ways that no session takes part in (``InvalidInput``)."""
    if strategy.per_token and not hasattr(trainer, "token_advantages"):
        raise InvalidInput(
            f"{strategy} gives each token an advantage of its own, which TRL's GRPOTrainer cannot use: "
            "train with reroot.training.SessionTrainer"
        )
    for name, there, why in (
        ("environment_factory", trainer.environment_factories, "sessions have a fixed prompt"),
        ("tools", trainer.tools, "after a tool's answer TRL would draw outside the session"),
        ("images (a processor as processing_class)", trainer._is_vlm, "sessions are of tokens"),
    ):
        if there:
            raise InvalidInput(f"{name} cannot be used with rollouts through a session: {why}")


def law_of(trainer: Any) -> Sampling:
    """The law that the trainer would sample from: its settings, and the model's where it has none.

    Raises:
        InvalidInput: it is no law of sessions, or another temperature than that of the gradient; the
            setting is named.
    """
    if trainer.use_vllm:
        return vllm_law(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    given = trainer.args.generation_kwargs or {}
    config, _ = model._prepare_generation_config(trainer.generation_config)
    for name in given:
        if not hasattr(GenerationConfig(), name):
            raise InvalidInput(f"generation_kwargs: {name!r} is no setting of generate")
    for name, neutral in _LAW.items():
        value = getattr(config, name, None)
        if (value or name == "do_sample") and value != neutral:
            raise InvalidInput(
                f"{_where(trainer, name)}={value!r} changes what is drawn, and no contract says how: "
                "sessions sample by temperature, top_k and top_p alone"
            )
    ends = {
        "max_new_tokens": trainer.max_completion_length,
        "temperature": trainer.temperature,
        "eos_token_id": [end for end in trainer.eos_token_ids if isinstance(end, int)],
    }
    for name, value in ends.items():
        if name in given and given[name] != value and [given[name]] != value:
            raise InvalidInput(
                f"generation_kwargs: {name}={given[name]!r}, but the trainer has {value}: what is "
                "drawn would not be what is trained on"
            )
    top_p = 1.0 if config.top_p is None else config.top_p
    return Sampling(trainer.temperature, top_p, config.top_k or 0)


def _where(trainer: Any, name: str) -> str:
    """A setting by the name that the user knows it by."""
    if name in (trainer.args.generation_kwargs or {}):
        return f"generation_kwargs: {name}"
    if getattr(trainer.args, name, None) is not None:
        return name
    return f"the model's generation_config.{name}"
