"""The toy language: a byte-level tokenizer with longer tokens, and a law that depends on every token before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BOS, EOS, USER, ASSISTANT = range(4)
SPECIAL = ("<s>", "</s>", "<user>", "<assistant>")
_PAIRS = [
    "th",
    "he",
    "in",
    "er",
    "an",
    "re",
    "on",
    "at",
    "en",
    "nd",
    "ti",
    "es",
    "or",
    "te",
    "of",
    "ed",
    "is",
    "it",
    "al",
    "ar",
    "st",
    "to",
    "nt",
    "ng",
    "se",
    "ha",
    "as",
    "ou",
    "io",
    "le",
    "ve",
    "co",
    "me",
    "de",
    "hi",
    "ri",
    "ro",
    "ic",
    "ne",
    "ea",
    "ra",
    "ce",
    "li",
    "ch",
    "ll",
    "be",
    "ma",
    "si",
    "om",
    "ur",
]
_LONGER = ("the", "and", "ing", "ther", "Ġt", "Ġa", "Ġthe", "Ġand")
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<user>' if m['role'] == 'user' else '<assistant>' }}{{ m['content'] }}"
    "{% if not (loop.last and m['role'] == 'assistant') %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
Logs = npt.NDArray[np.float64]


def _vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """(token names in order, merges): special tokens, bytes, pairs of letters, longer tokens."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet(), key=ord)]
    merges: list[tuple[str, str]] = []
    for word in (*_PAIRS, *_LONGER):
        cut = next(i for i in range(len(word) - 1, 0, -1) if {word[:i], word[i:]} <= {*names})
        merges.append((word[:cut], word[cut:]))
        names.append(word)
    return names, merges


NAMES, _MERGES = _vocabulary()
K = len(NAMES)
"""Vocabulary size."""


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE({name: i for i, name in enumerate(NAMES)}, _MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return made


def save_tokenizer(folder: Path) -> Path:
    """``tokenizer.json`` and ``tokenizer_config.json``, as a model folder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": _TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def encode(text: str) -> tuple[int, ...]:
    """Text → tokens; the names of special tokens in it become those tokens, as on real servers."""
    return tuple(tokenizer().encode(text, add_special_tokens=False).ids)


def decode(tokens: Sequence[int], special: bool = False) -> str:
    return tokenizer().decode(list(tokens), skip_special_tokens=not special)


@lru_cache(maxsize=1)
def token_bytes() -> tuple[bytes, ...]:
    """What each token adds to a text; special tokens add nothing."""
    byte_of = {chr(b): b for b in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))}
    rest = (b for b in range(256) if chr(b) not in byte_of)
    byte_of |= {chr(256 + i): b for i, b in enumerate(list(rest))}
    return tuple(b"" if n in SPECIAL else bytes(byte_of[c] for c in n) for n in NAMES)


def chat(
    messages: Sequence[dict[str, str]], opens: bool = True, continues: bool = False
) -> tuple[int, ...]:
    """The chat template. ``opens``: a new assistant turn; ``continues``: inside the last message."""
    out: list[int] = [BOS]
    for i, message in enumerate(messages):
        out += [USER if message["role"] == "user" else ASSISTANT, *encode(message["content"])]
        if not (continues and i == len(messages) - 1):
            out.append(EOS)
    return tuple(out + [ASSISTANT] * (opens and not continues))


def _levels(end: float) -> Logs:
    """Bytes that are no printable ASCII are rare, special tokens but the end are very rare."""
    level = np.zeros(K)
    for i, piece in enumerate(token_bytes()):
        level[i] = (
            0.0 if piece.isascii() and (piece.decode().isprintable() or piece == b"\n") else -8.0
        )
    level[list(range(4))] = -12.0
    level[EOS] = np.log(end)
    return level


class Language:
    """P(a | u): independent normal logits at every prefix u, so that every token before matters.

    Args:
        seed: another seed, another law.
        spread: standard deviation of the logits; the smaller, the higher the entropy.
        end: mean probability of the end token.
    """

    def __init__(self, seed: int = 0, spread: float = 1.3, end: float = 0.03) -> None:
        self.seed, self.spread, self.end = seed, spread, end
        self._level = _levels(end * 150)  # the others weigh about 150 together
        self.law = lru_cache(maxsize=50_000)(self._law)

    def _law(self, tokens: tuple[int, ...]) -> Logs:
        data = np.array([self.seed, *tokens], dtype=np.int64).tobytes()
        key = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype=np.uint64)
        noise = np.random.Generator(np.random.Philox(key=key)).standard_normal(K)
        logits = self._level + self.spread * noise
        logits[EOS] = self._level[EOS] + 0.3 * noise[EOS]
        return normalized(logits)


def normalized(logits: Logs) -> Logs:
    """Logits → log-probabilities."""
    top = logits.max()
    return logits - top - np.log(np.exp(logits - top).sum())
