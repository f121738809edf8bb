"""What a server tells of itself: its dialect, its model, and how much it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ...errors import BackendError, InvalidInput
from .dialects import DIALECTS, Dialect
from .endpoint import Endpoint
from .replies import shortened
from .wire import Wire


@dataclass(frozen=True, slots=True)
class About:
    """What was told.

    Attributes:
        table: the dialect.
        model: the model's name.
        vocab: K.
        positions: most prompt and generated tokens.
        slots: calls that it serves at once.
        folder: a folder on this machine that it names, with a tokenizer in it.
        end: the text of the token that ends an output.
    """

    table: Dialect
    model: str
    vocab: int | None = None
    positions: int | None = None
    slots: int | None = None
    folder: Path | None = None
    end: str = ""

    @property
    def shown(self) -> str:
        """The model's name without the folders that it lies in on the server's machine."""
        path = PureWindowsPath(self.model)  # knows both kinds of slashes
        is_file = (
            path.is_absolute()
            or self.model.startswith(("/", "~"))
            or path.suffix.lower() == ".gguf"
        )
        return path.name if is_file else self.model


async def about(wire: Wire, endpoint: Endpoint) -> About:
    """Ask what is at ``endpoint``.

    Raises:
        BackendError: nothing that is known.
        InvalidInput: it has other models than the one that is named.
    """
    models = await wire.get("/v1/models")
    props = await wire.get("/props")
    info = await wire.get("/get_model_info")
    name = endpoint.dialect or await _dialect(wire, models, props, info)
    listed: list[Mapping[str, Any]] = (models or {}).get("data") or []
    model = _model(endpoint.model, listed)
    entry = next((m for m in listed if m.get("id") == model), {})
    if name == "llamacpp":
        props = props or {}
        settings = props.get("default_generation_settings") or {}
        vocab = (entry.get("meta") or {}).get("n_vocab")
        end = props.get("eos_token") or ""
        return About(
            DIALECTS[name], model, vocab, settings.get("n_ctx"), props.get("total_slots"), None, end
        )
    if name == "sglang":
        info = info or {}
        server = await wire.get("/get_server_info") or {}
        folder = _folder(info.get("tokenizer_path"))
        return About(
            DIALECTS[name],
            model,
            info.get("vocab_size"),
            server.get("context_length"),
            folder=folder,
        )
    positions, folder = entry.get("max_model_len"), _folder(entry.get("root"))
    return About(DIALECTS[name], model, positions=positions, folder=folder)


async def _dialect(wire: Wire, models: Any, props: Any, info: Any) -> str:
    """By the paths that only one kind of server has."""
    if isinstance(props, Mapping) and "total_slots" in props:
        return "llamacpp"
    if isinstance(info, Mapping) and "is_generation" in info:
        return "sglang"
    version = await wire.get("/version")
    if isinstance(version, Mapping) and "version" in version and models:
        return "vllm"
    if isinstance(models, Mapping) and "data" in models:
        return "completions"
    raise BackendError(
        f"{wire.url} is no inference server that is known: /v1/models answers {shortened(models)}; name the "
        f"dialect, as in vllm:{wire.url} ({', '.join(DIALECTS)})"
    )


def _model(wanted: str | None, listed: list[Mapping[str, Any]]) -> str:
    names = [str(m.get("id")) for m in listed]
    if wanted is None:
        return names[0] if names else "default"
    if names and wanted not in names:
        raise InvalidInput(f"the server has no model {wanted!r}; it has {', '.join(names)}")
    return wanted


def _folder(said: Any) -> Path | None:
    """A folder that the server names, where it is here too."""
    folder = Path(said) if isinstance(said, str) and said else None
    return folder if folder is not None and (folder / "tokenizer.json").is_file() else None


async def pieces(wire: Wire) -> list[bytes]:
    """The bytes of every token of a llama.cpp server: those of one whole law."""
    body = {
        "prompt": [0],
        "n_predict": 1,
        "n_probs": 1 << 30,
        "return_tokens": True,
        "post_sampling_probs": False,
    }
    answer = await wire.post("/completion", body, 2)
    try:
        (token, *_) = answer["completion_probabilities"]
        entries = {e["id"]: bytes(e["bytes"]) for e in token["top_logprobs"]}
        return [entries[i] for i in range(len(entries))]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BackendError(
            f"{wire.url} does not tell its vocabulary ({type(error).__name__}: {error}): "
            f"{shortened(answer)}"
        ) from None
