"""What each token of a transformers tokenizer adds to a text, in bytes, where that is well defined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .stops import Pieces, encoded

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a byte as SentencePiece vocabularies spell it


def concatenated(tokenizer: Any, shown: Sequence[str]) -> Pieces | None:
    """The bytes of each token, if the text of tokens is that of their bytes; ``None`` if it is not.

    It is for byte-level tokenizers, and is not where decoding adds spaces, merges them, or drops bytes
    that make no character. Read off the names of tokens, and compared with the text of the whole
    vocabulary, forwards and backwards.

    Args:
        tokenizer: any transformers tokenizer.
        shown: the text of each token after others, special tokens left out.
    """
    names = tokenizer.convert_ids_to_tokens(list(range(len(shown))))
    pieces = [
        _bytes(name) if "\ufffd" in text else encoded(text)
        for name, text in zip(names, shown, strict=True)
    ]
    for order in (1, -1):
        tokens = list(range(len(pieces)))[::order]
        whole = tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        if whole != b"".join(pieces[::order]).decode("utf-8", "replace"):
            return None
    return Pieces(tuple(pieces))


def _bytes(name: str) -> bytes:
    """A token's bytes by its name: one character per byte, or one byte spelt out."""
    if spelt := _BYTE.fullmatch(name):
        return bytes.fromhex(spelt[1])
    if all(character in _OF for character in name):
        return bytes(_OF[character] for character in name)
    return encoded(name)


def _alphabet() -> dict[str, int]:
    """Character → byte, as GPT-2 writes bytes: printable ones as they are, others from U+0100 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_OF = _alphabet()
