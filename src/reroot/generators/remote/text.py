"""The text side of a server's model: a tokenizer folder, or what a server tells of its own vocabulary."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import BackendError, InvalidInput, need
from ...types import Chat
from ..stops import Pieces, Stop
from ..tokenizer import Text
from .dialects import LLAMACPP

_log = logging.getLogger("reroot.remote")
_NUMBERED = r"\d\d|reserved|unused"
"""Names of special tokens that stand for nothing: a vocabulary may have thousands."""
_MOST_NAMES, _MOST_ENDS = 1024, 64
"""Most special tokens whose names are asked for, and that are tried; at another end token a rollout is an error
that says so."""


class Speech(Protocol):
    """What a ``Remote`` needs of text; see the methods of the same names of ``Generator``."""

    end: int | None

    def encode(self, text: str) -> tuple[int, ...]: ...
    def encode_chat(self, chat: Chat) -> tuple[int, ...]: ...
    def encode_continuation(self, text: str) -> tuple[int, ...]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def stops(self, texts: Sequence[str]) -> Stop: ...
    def digest(self) -> str: ...


def from_folder(folder: str | Path, vocab: int | None, chat: bool) -> tuple[Text, int]:
    """(the text side of ``tokenizer.json`` in a folder, K).

    Args:
        vocab: K of the model, where it is known; else the tokenizer's own.
        chat: put a prompt's text through the chat template.

    Raises:
        InvalidInput: there is no tokenizer, or it has more tokens than the model.
        MissingDependency: the package tokenizers is not installed.
    """
    made = FolderTokenizer(Path(folder).expanduser())
    vocab = len(made) if vocab is None else vocab
    return Text(made, chat, made.ends, vocab), vocab


class FolderTokenizer:
    """``tokenizer.json`` and its configuration, with the methods of transformers that ``Text`` uses."""

    def __init__(self, folder: Path) -> None:
        need("remote", "tokenizers")
        from tokenizers import Tokenizer

        if not (folder / "tokenizer.json").is_file():
            raise InvalidInput(f"there is no tokenizer.json in {str(folder)!r}")
        try:
            self.backend_tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the package raises nothing narrower
            raise InvalidInput(f"{folder / 'tokenizer.json'} is no tokenizer: {error}") from None
        config = _json(folder / "tokenizer_config.json")
        template = folder / "chat_template.jinja"
        self.chat_template: str | None = (
            template.read_text("utf-8") if template.is_file() else config.get("chat_template")
        )
        self._names = {n: _name(config.get(n)) for n in ("bos_token", "eos_token")}
        self.bos_token_id = self._id(self._names["bos_token"])
        self.eos_token_id = self._id(self._names["eos_token"])
        ends = _json(folder / "generation_config.json").get("eos_token_id", ())
        self.ends: tuple[int, ...] = (ends,) if isinstance(ends, int) else tuple(ends or ())

    def _id(self, name: str | None) -> int | None:
        return None if name is None else self.backend_tokenizer.token_to_id(name)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = False) -> Any:
        ids = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return {"input_ids": ids}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def batch_decode(
        self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False, **_: Any
    ) -> list[str]:
        return self.backend_tokenizer.decode_batch(
            [list(row) for row in rows], skip_special_tokens=skip_special_tokens
        )

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.backend_tokenizer.id_to_token(i) or "" for i in ids]

    def apply_chat_template(
        self,
        messages: list[dict[str, str]],
        add_generation_prompt: bool,
        continue_final_message: bool,
        **settings: Any,
    ) -> dict[str, list[int]]:
        need("lm", "jinja2")
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        settings = {k: v for k, v in settings.items() if k not in ("tokenize", "return_dict")}
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        names = {name: value or "" for name, value in self._names.items()}
        text = environment.from_string(self.chat_template or "").render(
            messages=messages, add_generation_prompt=add_generation_prompt, **names, **settings
        )
        if continue_final_message:
            last = messages[-1]["content"].rstrip()
            text = text[: text.rindex(last) + len(last)]
        return self(text, add_special_tokens=False)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _json(file: Path) -> Mapping[str, Any]:
    try:
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise InvalidInput(f"{file} is no JSON: {error}") from None


def _name(said: Any) -> str | None:
    return said.get("content") if isinstance(said, Mapping) else said


class ServedText:
    """The text side of a llama.cpp server: it tells the bytes of every token, and tokenizes.

    Args:
        ask: (path, body) → the server's answer.
        table: the bytes of each token; special tokens add none to a text.
        end: the token that ends an output.
        ends: all tokens at which the server ends outputs.
        chat: put a prompt's text through the server's chat template.
    """

    def __init__(
        self,
        ask: Callable[[str, Mapping[str, Any]], Any],
        table: Sequence[bytes],
        end: int | None,
        ends: Sequence[int],
        chat: bool,
    ) -> None:
        self._ask, self._chat, self.end, self._ends = ask, chat, end, tuple(ends)
        self._pieces = Pieces(tuple(table))

    @classmethod
    def of(
        cls,
        ask: Callable[[str, Mapping[str, Any]], Any],
        table: Sequence[bytes],
        end: str,
        chat: bool,
    ) -> ServedText:
        """``end``: the text of the end token; which tokens are special, and which of those end an output (a
        model may have several), is found out by asking."""
        table = list(table)
        for token, piece in enumerate(table):
            name = piece.decode("utf-8", "replace")
            if re.fullmatch(r"<[^<>\s]+>", name) and _ids(ask, name, True) == (token,) != _ids(
                ask, name, False
            ):
                table[token] = b""
        own = _ids(ask, end, True) if end else ()
        only = own[0] if len(own) == 1 else None
        return cls(ask, table, only, _ends(ask, table, only), chat)

    def encode(self, text: str) -> tuple[int, ...]:
        if self._chat:
            return self.encode_chat(Chat((("user", text),)))
        said = {"content": text, "add_special": True, "parse_special": False}
        tokens = tuple(self._ask("/tokenize", said)["tokens"])
        if not tokens:
            raise InvalidInput("the prompt is empty, and the server puts no begin token before it")
        return tokens

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        messages = [{"role": role, "content": text} for role, text in chat.messages]
        said = {"messages": messages, "chat_template_kwargs": dict(chat.settings)}
        return _ids(self._ask, self._ask("/apply-template", said)["prompt"], True)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return _ids(self._ask, text, False)

    def decode(self, tokens: Sequence[int]) -> str:
        table = self._pieces.table
        return b"".join(table[t] for t in tokens).decode("utf-8", "replace")

    def stops(self, texts: Sequence[str]) -> Stop:
        return Stop.of(self._pieces, texts, self._ends)

    def digest(self) -> str:
        return hashlib.sha256(repr(self._pieces.table).encode()).hexdigest()[:16]


def _ends(
    ask: Callable[[str, Mapping[str, Any]], Any], table: Sequence[bytes], own: int | None
) -> tuple[int, ...]:
    """Tokens at which the server ends outputs: of those that are no text, the ones after which it stops."""
    named = [t for t, piece in enumerate(table) if not piece][:_MOST_NAMES]
    names = {t: ask("/detokenize", {"tokens": [t]}).get("content", "") for t in named}
    found = [t for t, name in names.items() if not re.search(_NUMBERED, name)]
    if len(named) == _MOST_NAMES or len(found) > _MOST_ENDS:
        _log.warning(
            "the server may end outputs at more tokens than were tried; name them with ends=…"
        )
    ends = {t for t in found[:_MOST_ENDS] if _is_end(ask, t)}
    return tuple(sorted(ends | ({own} if own is not None else set())))


def _is_end(ask: Callable[[str, Mapping[str, Any]], Any], token: int) -> bool:
    """Whether the server stops when ``token``, which a bias forces, has come."""
    said = {"prompt": [token], "n_predict": 2, "logit_bias": [[token, 1000.0]]}
    answer = ask("/completion", {**LLAMACPP.always, **said})
    return answer.get("stop_type") == "eos" and answer.get("tokens") == [token]


def _ids(ask: Callable[[str, Mapping[str, Any]], Any], text: str, special: bool) -> tuple[int, ...]:
    said = {"content": text, "add_special": False, "parse_special": special}
    tokens = ask("/tokenize", said)["tokens"]
    if not all(isinstance(token, int) for token in tokens):
        raise BackendError(f"the server tokenizes {text!r} as {tokens!r}")
    return tuple(tokens)
