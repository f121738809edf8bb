"""The text side of a language model: encoding, decoding, and which tokens end an output."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..errors import InvalidInput
from ..types import Chat
from .chat_template import check_arguments
from .stops import Decoded, Pieces, Stop, stop_bytes
from .token_bytes import concatenated

_KEPT = 1024
"""Prefixes whose texts are kept, where texts must be decoded whole: a walk comes back to them."""


class Text:
    """A transformers tokenizer as the ``Generator`` protocol wants it.

    Args:
        tokenizer: any transformers tokenizer.
        chat: put a prompt's text through the chat template, as one user message.
        template: further arguments of the chat template, such as ``enable_thinking``.
        ends: token ids that end an output, besides the tokenizer's own end token.
        vocab: K of the model.

    Raises:
        InvalidInput: ``chat`` without a chat template, an argument that the template does not use, or a tokenizer whose end token, or what it puts
            around a text, is none of the model's tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat: bool,
        ends: Sequence[int],
        vocab: int,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        around = tokenizer("", verbose=False)["input_ids"]
        for token in (tokenizer.eos_token_id, *around):
            if token is not None and token >= vocab:
                raise InvalidInput(
                    f"the tokenizer's token {tokenizer.convert_ids_to_tokens(token)!r} is number {token}, "
                    f"the model's vocabulary is 0…{vocab - 1}: they do not belong together"
                )
        if (chat or template) and not getattr(tokenizer, "chat_template", None):
            raise InvalidInput("this tokenizer has no chat template; use chat=False")
        self._tokenizer = tokenizer
        self._chat, self._template = chat, dict(template or {})
        if self._template:
            self._check_template(self._template)
        end = tokenizer.eos_token_id
        self.end: int | None = end if end is not None else min(ends, default=None)
        self._ends = frozenset(ends) | ({end} if end is not None else set())
        self._vocab = vocab
        self._shown: list[str] = []
        self._pieces: Pieces | None = None
        self._stops: dict[tuple[str, ...], Stop] = {}
        self._twin_decode: Callable[[tuple[int, ...]], str] | None = None
        self._anchor = self._find_anchor()

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → tokens; never empty: an empty text becomes the begin (or end) token.

        Raises:
            InvalidInput: the text is empty and the tokenizer has neither token.
        """
        if self._chat:
            return self.encode_chat(Chat((("user", text),)))
        end, begin = self._tokenizer.eos_token_id, self._tokenizer.bos_token_id
        tokens = tuple(self._tokenizer(text, verbose=False)["input_ids"])
        if tokens and tokens[-1] == end and self._raw(text)[-1:] != (end,):
            tokens = tokens[:-1]  # a tokenizer that closes every text
        if tokens:
            return tokens
        if begin is None and end is None:
            raise InvalidInput("the prompt is empty, and the tokenizer has no begin token")
        return (begin if begin is not None else end,)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → tokens, exactly those of ``tokenizer.apply_chat_template``.

        Raises:
            InvalidInput: there is no chat template, it does not use an argument, or it refuses the
                messages.
        """
        settings = {**self._template, **dict(chat.settings)}
        self._check_template(settings)
        try:
            found = self._tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in chat.messages],
                add_generation_prompt=not chat.continued,
                continue_final_message=chat.continued,
                tokenize=True,
                return_dict=True,
                **settings,
            )
        except Exception as error:  # templates raise what they like
            raise InvalidInput(
                f"the chat template refuses the messages ({type(error).__name__}: {error}): {chat}"
            ) from error
        return tuple(found["input_ids"])

    def _check_template(self, settings: Mapping[str, Any]) -> None:
        """Refuse arguments that the template would ignore in silence (``InvalidInput``)."""
        template = getattr(self._tokenizer, "chat_template", None)
        if template is None:
            raise InvalidInput("the prompt is a chat, and this tokenizer has no chat template")
        check_arguments(template.values() if isinstance(template, dict) else [template], settings)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        """Text that follows a prompt → tokens, nothing added."""
        n = len(self._anchor)
        anchored = self._raw("\n" + text) if n else ()
        return anchored[n:] if n and anchored[:n] == self._anchor else self._raw(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Generated tokens → text, special tokens left out."""
        text = self._decode((*self._anchor, *tokens))
        return text[len(self._decode(self._anchor)) :] if self._anchor else text

    def stops(self, texts: Sequence[str]) -> Stop:
        """End tokens, special tokens that *are* one of ``texts``, and where a text holds one of them.

        Raises:
            InvalidInput: a text is empty.
        """
        key = tuple(texts)
        if key not in self._stops:
            self._stops[key] = self._rule(key) if key else Stop(self._ends)
        return self._stops[key]

    def _rule(self, texts: tuple[str, ...]) -> Stop:
        wanted = stop_bytes(texts)
        self._read_vocabulary()
        special = {i for i, shown in enumerate(self._shown) if not shown}
        names = self._tokenizer.convert_ids_to_tokens(sorted(special))
        ends = {i for i, name in zip(sorted(special), names, strict=True) if name in texts}
        ends |= self._ends
        if self._pieces is not None:
            return Stop.of(self._pieces, texts, ends)
        # what a token shows by itself need not be what it adds to others, so all are looked at
        closing = {i for i, shown in enumerate(self._shown) if _may_close(shown, texts)} - ends
        writing = Decoded(lru_cache(_KEPT)(self.decode), self._twin)
        return Stop(frozenset(ends), wanted, frozenset(closing), writing)

    def _read_vocabulary(self) -> None:
        """The text of each token after others; and their bytes, if that is all there is to a text."""
        if self._shown:
            return
        count = min(len(self._tokenizer), self._vocab)
        shown = self._tokenizer.batch_decode(
            [[*self._anchor, i] for i in range(count)],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        before = len(self._decode(self._anchor)) if self._anchor else 0
        shown = [text[before:] for text in shown]
        pieces = None if self._anchor else concatenated(self._tokenizer, shown)
        if pieces is not None:  # rows of the model that are no tokens say nothing
            self._pieces = Pieces((*pieces.table, *[b""] * (self._vocab - count)))
        self._shown = shown

    def _twin(self) -> Callable[[tuple[int, ...]], str]:
        """A ``decode`` that learners may have: what they do to its tokenizer reaches no other."""
        if self._twin_decode is None:
            other = copy.copy(self)
            other._tokenizer, other._stops = copy.deepcopy(self._tokenizer), {}
            self._twin_decode = lru_cache(_KEPT)(other.decode)
        return self._twin_decode

    def digest(self) -> str:
        """A hash of everything that decides how text becomes tokens."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend is not None else sorted(self._tokenizer.get_vocab())
        template = getattr(self._tokenizer, "chat_template", None), self._template
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


def _may_close(shown: str, texts: Sequence[str]) -> bool:
    """Whether a token that shows this by itself might be the last of a stop text.

    It shows the last character, or has a part of it; a space may come from between two tokens.
    """
    return any(t[-1] in shown or "\ufffd" in shown or t[-1] == " " for t in texts)
