"""Text of generators that have a tokenizer: what each of them passes on to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import Chat
from .base import check_prefix
from .stops import Stop


class OverText:
    """The methods of ``Generator`` that are about text.

    Subclasses set ``_vocab``, and ``_text``: what has ``end`` and methods of these names.
    """

    _text: Any
    _vocab: int

    @property
    def end_token(self) -> int | None:
        return self._text.end

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → tokens, through the chat template if there is one in use; never empty."""
        return self._text.encode(text)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → tokens of the model's chat template."""
        return self._text.encode_chat(chat)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._text.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        check_prefix(tokens, self._vocab)
        return self._text.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        """The model's end tokens, and the token with which one of ``texts`` is there."""
        return self._text.stops(texts)
