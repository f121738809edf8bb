"""What a process reward model is given to read: text as tokens, and where the scores of steps stand.

Three layouts, after those that published models are trained on:

* token classifiers, as TRL's ``PRMTrainer`` writes them: begin token, prompt, then each step and the
  mark, every piece tokenized by itself; a score stands at the last token of a mark;
* causal language models, as Math-Shepherd (arXiv 2312.08935) and OpenR (arXiv 2410.09671): one text, a
  mark behind each step; or in turns, as RLHFlow (https://github.com/RLHFlow/RLHF-Reward-Modeling): each
  step is a user's message, the label the assistant's; a score stands where the label is said next;
* sequence classifiers: one text for each step, up to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from ..tasks.step_values import Asked
from ..types import Chat


@dataclass(frozen=True, slots=True)
class Row:
    """One text to read.

    Attributes:
        tokens: of the text.
        at: positions where scores stand; empty: the text as a whole has one.
    """

    tokens: tuple[int, ...]
    at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes rows of steps.

    Attributes:
        tokenizer: a transformers tokenizer.
        head: of the model, a key of ``models.HEADS``.
        mark: text behind each step.
        join: text between a mark and the next step.
        turns: steps are a user's messages.
        good: the label that earlier steps have been given, in turns.
    """

    tokenizer: Any
    head: str
    mark: str
    join: str
    turns: bool
    good: str

    def rows(self, asked: Asked, last: bool) -> list[Row]:
        """One row; of a sequence classifier, one for each step, or for the last alone.

        Raises:
            InvalidInput: a mark is no token of its own, or the chat template refuses the prompt.
        """
        if self.turns:
            return [self._in_turns(asked)]
        opening, special = self._opening(asked.prompt)
        if self.head == "TokenClassification":
            return [self._in_pieces(opening, asked.steps, special)]
        if self.head == "CausalLM":
            return [self._marked(opening, asked.steps, special)]
        texts, n = [text + self.mark for text in asked.steps], len(asked.steps)
        ends = [n] if last else range(1, n + 1)
        return [Row(self._ids(opening + self.join.join(texts[:end]), special)) for end in ends]

    def _opening(self, prompt: str | Chat) -> tuple[str, bool]:
        """The text before the first step, and whether the tokenizer puts its own around it all."""
        if not isinstance(prompt, Chat):
            return prompt, True
        if not getattr(self.tokenizer, "chat_template", None):
            return "\n\n".join(text for _, text in prompt.messages) + " ", True
        text = self._template(
            [{"role": role, "content": text} for role, text in prompt.messages],
            add_generation_prompt=not prompt.continued,
            continue_final_message=prompt.continued,
            tokenize=False,
        )
        return text, False

    def _ids(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _in_pieces(self, opening: str, steps: Sequence[str], special: bool) -> Row:
        begin, at = self.tokenizer.bos_token_id, list[int]()
        tokens = [begin] if special and begin is not None else []
        tokens += self._ids(opening, False)
        mark = self._ids(self.mark, False)
        for i, step in enumerate(steps):
            tokens += self._ids(self.join if i else "", False) + self._ids(step, False) + mark
            at.append(len(tokens) - 1)
        return Row(tuple(tokens), tuple(at))

    def _marked(self, opening: str, steps: Sequence[str], special: bool) -> Row:
        text, ends = opening, list[int]()
        for i, step in enumerate(steps):
            text += (self.join if i else "") + step + self.mark
            ends.append(len(text))
        found = self.tokenizer(
            text, add_special_tokens=special, return_offsets_mapping=True, verbose=False
        )
        # of the tokens that spell one character between them, the last
        closing = {end: i for i, (start, end) in enumerate(found["offset_mapping"]) if end > start}
        for end in ends:
            at = closing.get(end)
            if at is None or found["offset_mapping"][at][0] < end - len(self.mark):
                raise InvalidInput(
                    f"the mark {self.mark!r} is no token of its own in "
                    f"{text[max(0, end - len(self.mark) - 12) : end + 4]!r}"
                )
        return Row(tuple(found["input_ids"]), tuple(closing[end] for end in ends))

    def _in_turns(self, asked: Asked) -> Row:
        prompt = asked.prompt
        chat = prompt if isinstance(prompt, Chat) else Chat((("user", prompt.rstrip()),))
        *before, (role, question) = chat.messages
        if role != "user":
            raise InvalidInput(
                f"in turns the first step goes into the user's message; the prompt ends with {role}'s"
            )
        messages = [{"role": r, "content": text} for r, text in before]
        tokens, at = (), list[int]()
        for i, step in enumerate(asked.steps):
            content = step.lstrip() if i else f"{question} {step.lstrip()}"
            messages.append({"role": "user", "content": content})
            found = self._template(messages, add_generation_prompt=True, return_dict=True)
            longer = tuple(found["input_ids"])
            if longer[: len(tokens)] != tokens:
                raise InvalidInput("the chat template changes earlier turns when one is added")
            tokens = longer
            at.append(len(tokens) - 1)
            messages.append({"role": "assistant", "content": self.good})
        return Row(tokens, tuple(at))

    def _template(self, messages: Sequence[dict[str, str]], **how: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(messages, **how)
        except Exception as error:  # templates raise what they like
            raise InvalidInput(
                f"the reward model's chat template refuses the messages ({type(error).__name__}: "
                f"{error}): {messages}"
            ) from error
