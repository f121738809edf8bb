"""The text side of a language model: encoding, decoding, and which tokens end an output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ..errors import InvalidInput


class Text:
    """A transformers tokenizer as the ``Generator`` protocol wants it.

    Args:
        tokenizer: any transformers tokenizer.
        chat: put a prompt's text through the chat template, as one user message.
        ends: token ids that end an output, besides the tokenizer's own end token.
        vocab: K of the model.

    Raises:
        InvalidInput: ``chat`` without a chat template, or a tokenizer whose end token, or what it puts
            around a text, is none of the model's tokens.
    """

    def __init__(self, tokenizer: Any, chat: bool, ends: Sequence[int], vocab: int) -> None:
        around = tokenizer("", verbose=False)["input_ids"]
        for token in (tokenizer.eos_token_id, *around):
            if token is not None and token >= vocab:
                raise InvalidInput(
                    f"the tokenizer's token {tokenizer.convert_ids_to_tokens(token)!r} is number {token}, "
                    f"the model's vocabulary is 0…{vocab - 1}: they do not belong together"
                )
        if chat and not getattr(tokenizer, "chat_template", None):
            raise InvalidInput("this tokenizer has no chat template; use chat=False")
        self._tokenizer = tokenizer
        self._chat = chat
        end = tokenizer.eos_token_id
        self.end: int | None = end if end is not None else min(ends, default=None)
        self._ends = frozenset(ends) | ({end} if end is not None else set())
        self._shown: list[str] | None = None
        self._stops: dict[tuple[str, ...], frozenset[int]] = {}
        self._anchor = self._find_anchor()

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → tokens; never empty: an empty text becomes the begin (or end) token.

        Raises:
            InvalidInput: the text is empty and the tokenizer has neither token.
        """
        if self._chat:
            message = [{"role": "user", "content": text}]
            return self._raw(
                self._tokenizer.apply_chat_template(
                    message, tokenize=False, add_generation_prompt=True
                )
            )
        end, begin = self._tokenizer.eos_token_id, self._tokenizer.bos_token_id
        tokens = tuple(self._tokenizer(text, verbose=False)["input_ids"])
        if tokens and tokens[-1] == end and self._raw(text)[-1:] != (end,):
            tokens = tokens[:-1]  # a tokenizer that closes every text
        if tokens:
            return tokens
        if begin is None and end is None:
            raise InvalidInput("the prompt is empty, and the tokenizer has no begin token")
        return (begin if begin is not None else end,)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        """Text that follows a prompt → tokens, nothing added."""
        n = len(self._anchor)
        anchored = self._raw("\n" + text) if n else ()
        return anchored[n:] if n and anchored[:n] == self._anchor else self._raw(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Generated tokens → text, special tokens left out."""
        text = self._decode((*self._anchor, *tokens))
        return text[len(self._decode(self._anchor)) :] if self._anchor else text

    def stop_tokens(self, texts: Sequence[str]) -> frozenset[int]:
        """The end tokens, and every token whose text contains one of ``texts``; a special token
        counts if it *is* one of them.

        Raises:
            InvalidInput: a text is empty.
        """
        if "" in texts:
            raise InvalidInput("a stop text must not be empty")
        if not texts:
            return self._ends
        key = tuple(texts)
        if key not in self._stops:
            self._stops[key] = self._ends | self._showing(key)
        return self._stops[key]

    def _showing(self, texts: tuple[str, ...]) -> frozenset[int]:
        if self._shown is None:
            self._shown = list(
                self._tokenizer.batch_decode(
                    [[i] for i in range(len(self._tokenizer))], clean_up_tokenization_spaces=False
                )
            )
        special = set(self._tokenizer.all_special_ids)
        return frozenset(
            token
            for token, shown in enumerate(self._shown)
            if (shown in texts if token in special else any(text in shown for text in texts))
        )

    def digest(self) -> str:
        """A hash of everything that decides how text becomes tokens."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend is not None else sorted(self._tokenizer.get_vocab())
        template = self._tokenizer.chat_template if self._chat else None
        return hashlib.sha256(json.dumps([rules, template]).encode()).hexdigest()[:16]

    def _raw(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _find_anchor(self) -> tuple[int, ...]:
        """Tokens to put before a continuation, for tokenizers that treat the start of a text
        differently (SentencePiece adds a space when encoding and drops one when decoding)."""
        newline, last = self._raw("\n"), self._raw("a b")[-1:]
        dropped = self._decode(last) == "b" and self._decode((*newline, *last)) == "\n b"
        return newline if dropped else ()
