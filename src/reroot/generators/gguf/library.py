"""libllama through the package ``llama-cpp-python``: all that touches memory of C."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BackendError, InvalidInput, MissingDependency
from .sequences import Batch

MOST_SEQUENCES = 256
"""LLAMA_MAX_SEQ: libllama knows no more."""

_ENTRIES = 1 << 23  # most logits of one batch
_TOGETHER = 32  # tokens computed at once: from 64 on, attention has a kernel that rounds by batch
_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_said: deque[str] = deque(maxlen=4)
_callbacks: list[Any] = []
_BUILD = (
    "build it for this processor, as in CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON "
    "-DGGML_F16C=ON' pip install --no-binary llama-cpp-python llama-cpp-python"
)


@cache
def library() -> Any:
    """The functions of ``llama.h``, with what they log kept for error messages.

    Raises:
        MissingDependency: the package is not installed.
        BackendError: its library does not load.
    """
    installed()
    try:
        c = importlib.import_module("llama_cpp.llama_cpp")
    except (RuntimeError, OSError) as error:
        raise BackendError(f"libllama does not load: {error}") from error

    @c.llama_log_callback
    def log(level: int, text: bytes, _: object) -> None:
        if level == _ERROR:
            _said.append(text.decode("utf-8", "replace").strip())

    _callbacks.append(log)  # C keeps no reference
    c.llama_log_set(log, None)
    c.llama_backend_init()
    return c


def installed() -> None:
    """Raise ``MissingDependency`` where there is no libllama; nothing else takes its place."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise MissingDependency(
            "GGUF files are computed by libllama, through llama-cpp-python: pip install 'reroot[gguf]' "
            "('smollm2', and folders, are computed by torch)"
        )


def version() -> str:
    """Which libllama computes."""
    package = importlib.import_module("llama_cpp").__version__
    return f"libllama {library().llama_version().decode()} (llama-cpp-python {package})"


def _failed(what: str) -> BackendError:
    why = f": {' / '.join(_said)}" if _said else ""
    _said.clear()
    return BackendError(f"libllama {what}{why}")


@cache
def try_out(file: str, gpu_layers: int, *context: int) -> None:
    """Load a file and compute with it in another process, which may die of it.

    A library built for another processor ends its process at the first instruction that this one lacks,
    and libllama aborts on what it does not expect.

    Args:
        context: as ``Context`` takes it after the model.

    Raises:
        BackendError: it died, or failed, with what it said.
    """
    code = "import sys; from reroot.generators.gguf.library import trial; trial(*sys.argv[1:])"
    found = subprocess.run(
        [sys.executable, "-c", code, file, *map(str, (gpu_layers, *context))],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "GGML_NO_BACKTRACE": "1",  # else it looks for a debugger
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if found.returncode == 0:
        return
    last = (found.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if found.returncode > 0:
        raise BackendError(f"libllama cannot compute with {file}: {last}")
    name = signal.Signals(-found.returncode).name
    hint = f"; {_BUILD}" if name == "SIGILL" else ""
    raise BackendError(f"libllama dies of {name} on {file} ({last}){hint}")


def trial(file: str, gpu_layers: str, *context_of: str) -> None:
    """What ``try_out`` runs: 33 tokens, 32 together and one alone, as both have kernels of their own."""
    cells, sequences, threads = map(int, context_of)
    context = Context(Model(Path(file), int(gpu_layers)), cells, sequences, threads)
    for first, n in ((0, 32), (32, 1)):
        ones, tokens = np.ones(n, dtype=np.int64), np.arange(n) % 7
        wanted = np.arange(n) == n - 1
        laws = context.decode(
            Batch(tokens, first + np.arange(n), ones, 0 * ones, wanted, tokens[wanted], 0)
        )
        if not np.isfinite(laws).all():
            raise BackendError(f"logits after {first + n} tokens are not finite")


class Model:
    """A loaded file: its weights, vocabulary and metadata.

    Args:
        file: an existing GGUF file.
        gpu_layers: how many layers go to a GPU, where the library was built for one; −1: all.

    Raises:
        InvalidInput: it is no GGUF file of a causal language model.
    """

    def __init__(self, file: Path, gpu_layers: int = 0) -> None:
        self._c = c = library()
        settings = c.llama_model_default_params()
        settings.n_gpu_layers = gpu_layers
        self.handle = c.llama_model_load_from_file(os.fspath(file).encode(), settings)
        if not self.handle:
            raise InvalidInput(f"{file} does not load as a GGUF model: {_failed('says')}")
        weakref.finalize(self, c.llama_model_free, self.handle)
        self._vocab = c.llama_model_get_vocab(self.handle)
        self.vocab_size: int = c.llama_vocab_n_tokens(self._vocab)
        self.positions: int = c.llama_model_n_ctx_train(self.handle)
        self.window: int = c.llama_model_n_swa(self.handle)
        self.quantization: str = (
            c.llama_ftype_name(c.llama_model_ftype(self.handle)) or b"unknown"
        ).decode()
        self.meta = self._metadata()

    def refusal(self) -> str | None:
        """Why keys and values of all past tokens are not this model's whole state, if they are not."""
        c, handle = self._c, self.handle
        if self.vocab_size < 1:
            return "its vocabulary is empty"
        if c.llama_model_has_encoder(handle) or not c.llama_model_has_decoder(handle):
            return "it is no decoder-only model"
        if c.llama_model_is_diffusion(handle):
            return "it is no causal model"
        if c.llama_model_is_recurrent(handle) or c.llama_model_is_hybrid(handle):
            return "it carries a recurrent state, which cannot be left at any token"
        return None

    def _metadata(self) -> dict[str, str]:
        c = self._c

        def read(get: Any, index: int) -> str:
            buffer = ctypes.create_string_buffer(256)
            size = get(self.handle, index, buffer, len(buffer))
            if size >= len(buffer):
                buffer = ctypes.create_string_buffer(size + 1)
                get(self.handle, index, buffer, len(buffer))
            return buffer.value.decode("utf-8", "replace")

        return {
            read(c.llama_model_meta_key_by_index, i): read(c.llama_model_meta_val_str_by_index, i)
            for i in range(c.llama_model_meta_count(self.handle))
        }

    def tokens(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Text → tokens; special tokens in the text are read as such.

        Args:
            special: add what the model puts around a text, such as a begin token.
        """
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8
        while True:
            found = (ctypes.c_int32 * room)()
            size = self._c.llama_tokenize(self._vocab, raw, len(raw), found, room, special, True)
            if size >= 0:
                return tuple(found[:size])
            room = -size

    def pieces(self) -> tuple[bytes, ...]:
        """The bytes that each token adds to a text; special tokens add none."""
        found: list[bytes] = []
        buffer = ctypes.create_string_buffer(64)
        for token in range(self.vocab_size):
            size = self._c.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = self._c.llama_token_to_piece(
                    self._vocab, token, buffer, len(buffer), 0, False
                )
            found.append(buffer.raw[:size])
        return tuple(found)

    def spelling(self, token: int) -> str:
        """A token as the vocabulary writes it."""
        return (self._c.llama_vocab_get_text(self._vocab, token) or b"").decode("utf-8", "replace")

    def special(self, name: str) -> int | None:
        """The token of that role (``bos``, ``eos``, …), if there is one."""
        token = getattr(self._c, f"llama_vocab_{name}")(self._vocab)
        return token if 0 <= token < self.vocab_size else None

    @property
    def closes(self) -> bool:
        """Whether an end token is put after every text."""
        return bool(self._c.llama_vocab_get_add_eos(self._vocab))

    def ends(self) -> list[int]:
        """Tokens at which a generation ends."""
        is_end = self._c.llama_vocab_is_eog
        return [token for token in range(self.vocab_size) if is_end(self._vocab, token)]

    def controls(self) -> list[int]:
        """Tokens that show no text."""
        is_control = self._c.llama_vocab_is_control
        return [token for token in range(self.vocab_size) if is_control(self._vocab, token)]


class Context:
    """Memory for keys and values, and what decodes into it; the ``Memory`` of ``Sequences``.

    Args:
        cells: tokens that it holds.
        sequences: how many sequences there are, one of them for what is buried.
        threads: threads that compute.

    Attributes:
        laws: most laws of one batch.

    Raises:
        BackendError: there is not enough memory.
    """

    def __init__(self, model: Model, cells: int, sequences: int, threads: int) -> None:
        self._c = c = library()
        self._model = model  # it must live as long
        self._grave = sequences - 1
        self.laws = max(1, min(sequences // 2, _ENTRIES // model.vocab_size))
        settings = c.llama_context_default_params()
        settings.n_ctx = settings.n_batch = cells
        settings.n_ubatch = min(_TOGETHER, cells)
        settings.n_seq_max = sequences
        settings.n_outputs_max = sequences  # it aborts on fewer than those
        settings.n_outputs_max_per_seq = 0  # as many as that
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = True  # so that a copy of a sequence copies nothing
        settings.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED  # else laws move with the cells
        self._handle = c.llama_init_from_model(model.handle, settings)
        if not self._handle:
            raise _failed(f"makes no context of {cells} tokens")
        weakref.finalize(self, c.llama_free, self._handle)
        self._memory = c.llama_get_memory(self._handle)

    def copy(self, source: int, target: int, length: int) -> None:
        self._c.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def cut(self, sequence: int, length: int) -> None:
        self._c.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def bury(self, sequence: int, length: int) -> None:
        self._c.llama_memory_seq_cp(self._memory, sequence, self._grave, length, -1)
        self.cut(sequence, length)

    def bytes_of(self, sequence: int) -> int:
        """Bytes of the keys and values of a sequence, about."""
        return int(self._c.llama_state_seq_get_size(self._handle, sequence))

    def clear(self) -> None:
        """Empty all sequences."""
        self._c.llama_memory_clear(self._memory, False)

    def decode(self, batch: Batch) -> npt.NDArray[np.float32]:
        """(m, K) logits where they are wanted, in memory that the next call overwrites.

        Raises:
            BackendError: it fails, with what the library says.
        """
        n = len(batch.tokens)
        tokens, positions, counts, sequences = (
            np.ascontiguousarray(values, dtype=np.int32)
            for values in (batch.tokens, batch.positions, batch.counts, batch.sequences)
        )
        wanted = np.ascontiguousarray(batch.wanted, dtype=np.int8)
        starts = np.cumsum(counts, dtype=np.uint64) - counts.astype(np.uint64)
        lists = np.uint64(sequences.ctypes.data) + np.uint64(sequences.itemsize) * starts
        made = self._c.llama_batch(n_tokens=n)
        for name, array in (
            ("token", tokens),
            ("pos", positions),
            ("n_seq_id", counts),
            ("seq_id", lists),
            ("logits", wanted),
        ):
            kind = type(getattr(made, name))
            setattr(made, name, ctypes.cast(array.ctypes.data, kind))
        if status := self._c.llama_decode(self._handle, made):
            raise _failed(f"does not decode {n} tokens (status {status})")
        rows = int(wanted.sum())
        logits = self._c.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(logits, shape=(rows, self._model.vocab_size))


def existing(file: str | Path) -> Path:
    """The path of a GGUF file (``InvalidInput`` where it is none)."""
    path = Path(file).expanduser()
    try:
        with path.open("rb") as stream:
            begin: Sequence[int] = stream.read(4)
    except OSError as error:
        raise InvalidInput(f"cannot read the GGUF file {str(path)!r}: {error.strerror}") from None
    if begin != b"GGUF":
        raise InvalidInput(f"{str(path)!r} is no GGUF file: it begins with {begin!r}")
    return path
