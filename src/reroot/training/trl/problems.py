"""What a TRL trainer trains on, as problems: prompts, rewards and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import InvalidInput
from ...tasks.base import Problem
from ...types import Output

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]


def name_of(prompt: Prompt) -> str:
    """A text that names a prompt: itself, or the contents of its messages."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{m['role']}: {m['content']}" for m in prompt)


def prompt_of(problem: Problem) -> str:
    """The prompt column of a problem: its text, or its id where the prompt is given as tokens."""
    return problem.prompt if isinstance(problem.prompt, str) else problem.id


def by_prompt(problems: Sequence[Problem]) -> dict[str, Problem]:
    """Prompt column → problem.

    Raises:
        InvalidInput: there are none, or two have the same prompt.
    """
    found: dict[str, Problem] = {}
    for problem in problems:
        other = found.setdefault(prompt_of(problem), problem)
        if other is not problem:
            raise InvalidInput(f"problems {other.id!r} and {problem.id!r} have the same prompt")
    if not found:
        raise InvalidInput("there are no problems to train on")
    return found


def from_trainer(
    prompt: Prompt, trainer: Any, demonstrations: Mapping[str, str], rows: Mapping[str, Message]
) -> Problem:
    """A problem made of a row of the trainer's data set and of its reward functions.

    Args:
        prompt: as the trainer gives it.
        trainer: the GRPOTrainer.
        demonstrations: prompt → demonstration; else the row's column ``demonstration``.
        rows: prompt's name → row.

    Raises:
        InvalidInput: a reward that is a model, not a function.
    """
    name = name_of(prompt)
    row = rows.get(name, {})
    shown = demonstrations.get(name, row.get("demonstration"))
    return Problem(
        id=name[:200],
        prompt=_tokens(prompt, trainer.processing_class),
        max_tokens=trainer.max_completion_length,
        reward=_reward(prompt, trainer, row),
        demonstration=shown,
    )


def rows_of(dataset: Any) -> dict[str, Message]:
    """Prompt's name → its first row in a data set that can be read twice."""
    found: dict[str, Message] = {}
    if hasattr(dataset, "__len__"):
        for row in dataset:
            found.setdefault(name_of(row["prompt"]), row)
    return found


def _tokens(prompt: Prompt, tokenizer: Any) -> tuple[int, ...]:
    """Prompt tokens exactly as the trainer makes them."""
    if isinstance(prompt, str):
        return tuple(tokenizer(text=prompt)["input_ids"])
    ids = tokenizer.apply_chat_template(
        list(prompt), add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    return tuple(ids)


def _reward(prompt: Prompt, trainer: Any, row: Message) -> Callable[[Output], float]:
    """The weighted sum of the trainer's reward functions, on one completion."""
    functions, weights = trainer.reward_funcs, trainer.reward_weights.tolist()
    if not all(callable(f) and not hasattr(f, "forward") for f in functions):
        raise InvalidInput("give problems=… to train with a reward that is a model")
    columns = {k: [v] for k, v in row.items() if k not in ("prompt", "completion")}

    def reward(output: Output) -> float:
        said: object = output.text
        if not isinstance(prompt, str):
            said = [{"role": "assistant", "content": output.text}]
        total = 0.0
        for function, weight in zip(functions, weights, strict=True):
            value = function(
                prompts=[prompt],
                completions=[said],
                completion_ids=[list(output.tokens)],
                trainer_state=trainer.state,
                log_extra=lambda *_: None,
                log_metric=lambda *_: None,
                **columns,
            )[0]
            total += weight * (0.0 if value is None else float(value))
        return total

    return reward
