"""The text side of a GGUF file: its own vocabulary and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ...errors import InvalidInput
from ...types import Chat
from ..chat_template import check_arguments, render
from ..stops import Pieces, Stop
from .library import Model

_ROLES = ("bos", "eos", "pad")


class FileText:
    """The vocabulary of a GGUF file as the ``Generator`` protocol wants it.

    Args:
        model: a loaded file.
        chat: put a prompt's text through the chat template, as one user message.
        template: further arguments of the chat template, such as ``enable_thinking``.

    Raises:
        InvalidInput: ``chat`` without a chat template, or an argument that it does not use.
    """

    def __init__(self, model: Model, chat: bool, template: Mapping[str, Any]) -> None:
        self._model, self._chat, self._arguments = model, chat, dict(template)
        self._template = model.meta.get("tokenizer.chat_template")
        if (chat or template) and not self._template:
            raise InvalidInput("this GGUF file has no chat template; use chat=False")
        check_arguments([self._template or ""], self._arguments)
        tokens = {role: model.special(role) for role in _ROLES}
        self._begin, self._eos = tokens["bos"], tokens["eos"]
        self._names = {f"{r}_token": model.spelling(t) for r, t in tokens.items() if t is not None}
        self._ends = frozenset(model.ends()) | ({self._eos} if self._eos is not None else set())
        self.end = self._eos if self._eos is not None else min(self._ends, default=None)
        self._anchor = self._find_anchor()

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._model.pieces())

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → tokens; never empty: an empty text becomes the begin (or end) token.

        Raises:
            InvalidInput: the text is empty and the vocabulary has neither token.
        """
        if self._chat:
            return self.encode_chat(Chat((("user", text),)))
        tokens = self._model.tokens(text, special=True)
        if self._model.closes and tokens[-1:] == (self._eos,):
            tokens = tokens[:-1]  # a vocabulary that closes every text
        if tokens:
            return tokens
        found = self._begin if self._begin is not None else self._eos
        if found is None:
            raise InvalidInput("the prompt is empty, and the vocabulary has no begin token")
        return (found,)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → tokens of the file's chat template.

        Raises:
            InvalidInput: there is no chat template, it does not use an argument, or it refuses the
                messages.
        """
        if self._template is None:
            raise InvalidInput("the prompt is a chat, and this GGUF file has no chat template")
        text = render(self._template, chat, self._names, self._arguments)
        return self._model.tokens(text, special=False)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        """Text that follows a prompt → tokens, nothing added."""
        n = len(self._anchor)
        anchored = self._model.tokens("\n" + text, special=False) if n else ()
        if n and anchored[:n] == self._anchor:
            return anchored[n:]
        return self._model.tokens(text, special=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """Generated tokens → text, special tokens left out."""
        table = self._pieces.table
        return b"".join([table[token] for token in tokens]).decode("utf-8", "replace")

    def stops(self, texts: Sequence[str]) -> Stop:
        """End tokens, special tokens that *are* one of ``texts``, and where a text holds one of them.

        Raises:
            InvalidInput: a text is empty.
        """
        if not texts:
            return Stop(self._ends)
        named = {t for t in self._model.controls() if self._model.spelling(t) in texts}
        return Stop.of(self._pieces, texts, self._ends | named)

    def _find_anchor(self) -> tuple[int, ...]:
        """Tokens to put before a continuation, where the start of a text gets a space (SentencePiece)."""
        first = self._model.tokens("b", special=False)[:1]
        spaced = first and self._pieces.table[first[0]].startswith(b" ")
        return self._model.tokens("\n", special=False) if spaced else ()
