"""Problems: what is asked of a generator, and how its outputs are judged."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput, Shown
from ..types import Chat, Output, as_tokens

if TYPE_CHECKING:
    from .answers import AnswerRule

RewardFunction = Callable[[Output], float | Awaitable[float | None] | None]
Verifier = Callable[[Output], bool | Awaitable[bool]]
ValueFunction = Callable[[Output], float | Awaitable[float]]
MOST = 1_000_000_000
"""Tokens of an output, or units of a horizon."""


@dataclass(frozen=True, slots=True, repr=False)
class Problem(Shown):
    """One prompt with its judge.

    Reward, verifier and value function may be ``async def``: they are awaited together, on one event
    loop. ``reroot.tasks.judge`` says of a function that it takes many outputs at once, or which of
    its errors pass by themselves.

    Attributes:
        id: unique within a run; part of the random key, so keep it stable.
        prompt: text (encoded by the generator), prompt tokens, or a ``Chat`` (also as a list of
            messages), which the generator's chat template encodes.
        max_tokens: the horizon H, the most tokens of an output.
        reward: outcome reward of a complete output; an output *passes* when it is at least ``pass_at``.
            ``None``: the judge abstains, and the attempt counts in no rate, mean or verdict.
        verifier: process verifier: can this prefix still become a right output?
        demonstration: a right output, as text (stop text included) or tokens.
        unique: up to negligible mass, the right token strings are the demonstration and its variants
            with another token at the end, so that the pass probability of one rollout is
            P(demonstration but its last token) · Σ P(s) over the tokens s that end it there, rightly:
            stop tokens, and tokens that complete a stop text which it has begun.
        stop: texts that end an output: it ends at the token with which its text first contains one of
            them, whatever tokens spell it, and counts up to that token. Whether it has ended is a
            function of its tokens, those of a chosen prefix included; the prompt is not part of it.
        horizon: the task's horizon knob (terms, words, digits), for tables and figures.
        pass_at: reward from which an output passes.
        answer: what to show as the right answer, if there is one.
        value: an estimate ≥ 0 of the value of a prefix, as in V(u) = E_P[r | u]. What it estimates, and
            how well, is between the problem and the learners that ask for it.
        equality: when two answers are the same, for votes; ``None``: when the whole texts are.
        group: the data set that the problem is of, where a task mixes several.
        cluster: the line that the problem is; attempts on one line, under several seeds too, count as one
            in intervals and verdicts. Empty: it is drawn afresh for each seed and stands for
            itself. Data files and tasks of your own fill it in where it is left empty.

    Raises:
        InvalidInput: a field is not what is described here.
    """

    id: str
    prompt: str | tuple[int, ...] | Chat
    max_tokens: int
    reward: RewardFunction
    verifier: Verifier | None = None
    demonstration: str | tuple[int, ...] | None = None
    unique: bool = False
    stop: tuple[str, ...] = ()
    horizon: int = 0
    pass_at: float = 1.0
    answer: str = ""
    value: ValueFunction | None = None
    equality: AnswerRule | None = None
    group: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise InvalidInput(f"a problem needs a non-empty text as id, got {self.id!r}")
        for name in ("id", "prompt", "demonstration", "answer", "group", "cluster"):
            whole_text(getattr(self, name), f"problem {self.id!r}: {name}")
        at = f"problem {self.id!r}"
        set_field = object.__setattr__  # the record is frozen; normalize once, here
        set_field(self, "prompt", _prompt(self.prompt, f"{at}: prompt"))
        set_field(self, "max_tokens", check_int(f"{at}: max_tokens", self.max_tokens, 1, MOST))
        set_field(self, "horizon", check_int(f"{at}: horizon", self.horizon, 0, MOST))
        if not isinstance(self.unique, (bool, np.bool_)):
            raise InvalidInput(f"{at}: unique must be True or False, got {self.unique!r}")
        if not callable(self.reward):
            raise InvalidInput(f"{at}: reward must be a function of an Output, got {self.reward!r}")
        if self.verifier is not None and not callable(self.verifier):
            raise InvalidInput(
                f"{at}: verifier must be a function of an Output or None, got {self.verifier!r}"
            )
        if self.value is not None and not callable(self.value):
            raise InvalidInput(
                f"{at}: value must be a function of an Output or None, got {self.value!r}"
            )
        if self.demonstration is not None:
            shown = _text_or_tokens(self.demonstration, f"{at}: demonstration")
            set_field(self, "demonstration", shown)
        elif self.unique:
            raise InvalidInput(f"{at}: unique=True needs a demonstration")
        set_field(self, "stop", stop_texts(self.stop, at))
        if finite(self.pass_at) is None:
            raise InvalidInput(f"{at}: pass_at must be a finite number, got {self.pass_at!r}")
        if not isinstance(self.answer, str):
            raise InvalidInput(f"{at}: answer must be text, got {self.answer!r}")

    def __repr__(self) -> str:
        shown = repr(self.prompt)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
        more = [n for n in ("verifier", "demonstration", "value") if getattr(self, n) is not None]
        has = f", with {' and '.join(more)}" if more else ""
        return f"Problem({self.id!r}, {shown}, max_tokens={self.max_tokens}{has})"


class Task(Protocol):
    """A family of problems with a horizon knob."""

    @property
    def name(self) -> str:
        """Registry name, with parameters where it has any."""
        ...

    def problems(self, horizon: int, count: int, seed: int) -> Sequence[Problem]:
        """``count`` problems of size ``horizon``; the same arguments give the same problems."""
        ...


@dataclass(frozen=True, slots=True)
class ExactText:
    """Outcome reward of a text answer: 1.0 iff a complete output says exactly ``answer``.

    White space before the answer does not count, nor does white space after it unless
    ``strict_end``; inside, every character counts.
    """

    answer: str
    strict_end: bool = False

    def __call__(self, output: Output) -> float:
        return float(output.complete and _says(output.text, self.answer, self.strict_end))


@dataclass(frozen=True, slots=True)
class TextPrefix:
    """Process verifier of a text answer, consistent with ``ExactText``.

    A complete output must be right. An incomplete one must be extendable, by some text, to a right
    one; where a stop text ends it, what is there of that counts. It judges decoded text, so every
    tokenization of a right answer counts. Whether the tokens left up to the horizon suffice is not
    asked.

    Attributes:
        answer, strict_end: as of ``ExactText``.
        stop: the problem's stop texts.
    """

    answer: str
    strict_end: bool = False
    stop: tuple[str, ...] = ()

    def __call__(self, output: Output) -> bool:
        if _says(output.text, self.answer, self.strict_end):
            return True
        return not output.complete and self._starts(output.text.lstrip())

    def _starts(self, said: str) -> bool:
        text = said.rstrip("\ufffd")  # a character of which only the first bytes are there yet
        whole, behind = text == said, text.removeprefix(self.answer)
        spaces = 0 if self.strict_end else len(behind) - len(behind.lstrip())
        ways = [(self.answer, text)]
        if text.startswith(self.answer):
            ways += [(stop, behind[i:]) for stop in self.stop for i in range(spaces + 1)]
        return any(
            full.startswith(part) and (whole or not full[len(part) :][:1].isascii())
            for full, part in ways
        )


def _says(text: str, answer: str, strict_end: bool) -> bool:
    return (text.lstrip() if strict_end else text.strip()) == answer


def stop_texts(stop: object, at: str) -> tuple[str, ...]:
    """``stop`` as a tuple of non-empty texts (``InvalidInput`` otherwise)."""
    if not isinstance(stop, (tuple, list)) or not all(isinstance(s, str) and s for s in stop):
        raise InvalidInput(f"{at}: stop must be a tuple of non-empty texts, got {stop!r}")
    for text in stop:
        whole_text(text, f"{at}: a stop text")
        if "\ufffd" in text:  # a decoder shows it for half a character, which the next token mends
            raise InvalidInput(f"{at}: a stop text has U+FFFD, which is no character: {text!r}")
    return tuple(stop)


def whole_text(value: object, name: str) -> None:
    """Refuse lone surrogates, which no file and no random key can hold (``InvalidInput``)."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            lone = value[error.start]
            raise InvalidInput(f"{name} has a lone surrogate, {lone!r}: {value!r}") from None


def _prompt(value: Any, name: str) -> str | tuple[int, ...] | Chat:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        value = Chat.of(value)
    if not isinstance(value, Chat):
        return _text_or_tokens(value, name)
    for _, text in value.messages:
        whole_text(text, name)
    return value


def _text_or_tokens(value: object, name: str) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    try:
        return as_tokens(value)  # type: ignore[arg-type]
    except InvalidInput as error:
        raise InvalidInput(f"{name} must be text or tokens: {error}") from None


def finite(said: object) -> float | None:
    """``said`` as a finite number, if it is one."""
    if not isinstance(said, (Real, np.bool_)):
        return None
    try:
        number = float(said)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
