"""GGUF files as generators, through libllama in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_int
from ...errors import BackendError, InvalidInput
from ...randomness import keyed_rng, stream_key
from ...types import FloatArray, IntArray, Physical
from ..models import Progress, say
from ..prefix_tree import PrefixTree
from ..stepping import BatchCapacity
from ..tree_generator import TreeGenerator
from .library import MOST_SEQUENCES, Context, Model, existing, installed, try_out, version
from .sequences import Sequences
from .text import FileText

_NODE_BYTES = 256  # bookkeeping of a node, about
_CHUNK = 16  # laws normalized together: they stay in the processor's cache
_PROBE = 12  # tokens of the check at load
_APART = 0.2  # total variation at load that is no rounding


class GGUF(TreeGenerator):
    """A GGUF file as a generator; a state is a node of a prefix tree on libllama's sequences.

    The laws are those of the quantized weights, with activations rounded to 8 bits as libllama does. On
    processors with AVX2 they are the same bit for bit whatever is cached or asked together, which tests see on
    SmolLM2; where libllama has other kernels for larger batches, they may move by its rounding. Beside the same
    weights in fp32 they are off by 0.02 in total variation on average (0.09 at most, over 93 prefixes of text).

    Args:
        file: a GGUF file of a causal language model.
        chat: put a prompt's text through the file's chat template, as one user message.
        chat_template_kwargs: further arguments of the template, such as ``{"enable_thinking": False}``.
        threads: threads that compute. More than there are idle cores is far slower than one.
        cells: tokens whose keys and values are held, and with them the most that an output may have.
        law_bytes: most memory for laws that are kept.
        gpu_layers: how many layers go to a GPU, where the library was built for one; −1: all.
        progress: told what takes time while the model is prepared.

    Raises:
        InvalidInput: no GGUF file, no chat template, or a model whose state is more than the keys and
            values of all past tokens (recurrence, windows shorter than ``cells``).
        MissingDependency: llama-cpp-python is not installed.
        BackendError: libllama dies of the file (tried in another process first), or its laws through the
            tree are not those of single strings.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        chat: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        threads: int = 1,
        cells: int = 8192,
        law_bytes: int = 1 << 30,
        gpu_layers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        check_int("threads", threads, 1)
        check_int("cells", cells, 16)
        check_int("law_bytes", law_bytes, 1)
        check_int("gpu_layers", gpu_layers, -1)
        path = existing(file)
        installed()
        size = (cells + MOST_SEQUENCES, MOST_SEQUENCES, threads)
        say(progress, f"trying {path.name} in a process of its own")
        try_out(str(path), gpu_layers, *size)
        self._template = dict(chat_template_kwargs or {})
        with path.open("rb") as stream:
            self._digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self._name, self._chat, self._cells = path.name, chat, cells
        self._model = Model(path, gpu_layers)
        self._vocab = self._model.vocab_size
        if why := self._model.refusal():
            raise InvalidInput(f"{path.name} cannot be served: {why}")
        if 0 < self._model.window < cells:
            raise InvalidInput(
                f"{path.name} cannot be served with cells={cells}: its layers forget what is more than "
                f"{self._model.window} tokens back; cells={self._model.window} serves outputs below that"
            )
        self._text = FileText(self._model, chat, self._template)
        self._law_rows = law_bytes // (4 * self._vocab)
        self._context = Context(self._model, *size)
        self._cell_bytes = 0
        self._check_engine()
        self.clear()

    def _check_engine(self) -> None:
        """Compare laws through the tree with those of single strings; measure what a cell takes."""
        rng = keyed_rng(stream_key(0, "gguf", "probe"))
        path = tuple(rng.integers(self._vocab, size=_PROBE).tolist())
        turn = ((path[-1] + 1) % self._vocab,)
        strings = [path, path[: _PROBE // 2], path[: _PROBE // 2] + turn, path[:-1] + turn]
        alone: list[FloatArray] = []
        for string in strings:
            self.clear()
            alone.append(self.log_laws(string[:1], [string[1:]])[0])
        self._cell_bytes = self._context.bytes_of(0) // len(strings[-1])
        self.clear()
        for part in (strings[1:3], strings):
            laws = self.log_laws(path[:1], [string[1:] for string in part])
            apart = [
                np.abs(np.exp(law) - np.exp(alone[strings.index(string)])).sum() / 2
                for law, string in zip(laws, part, strict=True)
            ]
            if not max(apart) <= _APART:  # NaN too
                raise BackendError(
                    f"{self._name} cannot be computed through the prefix tree: laws there are up to "
                    f"{max(apart):.3g} in total variation off those of single strings"
                )

    def clear(self) -> None:
        """Drop everything cached and reset the counters."""
        self._forget()
        self._reached = self._passes = self._positions = self._again = self._peak = 0

    def _forget(self) -> None:
        self._context.clear()
        self._begin(PrefixTree(self._cells), self._law_rows)
        self._sequences = Sequences(
            self._tree, self._context, MOST_SEQUENCES - 1, self._context.laws
        )

    def max_length(self) -> int | None:
        """Positions that the model was trained for, or as many as there are cells."""
        return min(self._model.positions or self._cells, self._cells)

    def describe(self) -> Mapping[str, object]:
        """The file, by name and SHA-256, and what computes it."""
        return {
            "family": "gguf",
            "model": self._name,
            "sha256": self._digest,
            "quantization": self._model.quantization,
            "library": version(),
            "chat": self._chat,
            "chat_template_kwargs": self._template,
        }

    def physical(self) -> Physical:
        return Physical(
            forwards=self._passes,
            computed=self._positions,
            cached=max(0, self._reached - self._positions),
            recomputed=self._again,
            peak_bytes=self._peak,
        )

    def _capacity(self) -> BatchCapacity:
        """Half the cells: when they are full, what is in flight is computed again."""
        return BatchCapacity(self._context.laws, max(1, self._tree.limit // 2))

    def _pass(self, asked: IntArray) -> tuple[IntArray, npt.NDArray[np.float32]]:
        """One decode."""
        try:
            batch = self._sequences.plan(asked)
            logits = self._context.decode(batch)
            self._sequences.done()
        except BaseException:  # also an interrupt: memory and tree may not fit together any more
            self._forget()
            raise
        self._passes += 1
        self._positions += len(batch.tokens)
        self._again += batch.recomputed
        held = self._tree.held * self._cell_bytes + self._kept.bytes
        self._peak = max(self._peak, held + len(self._tree) * _NODE_BYTES)
        for i in range(0, len(logits), _CHUNK):
            part = logits[i : i + _CHUNK]
            part -= part.max(axis=1, keepdims=True)
            part -= np.log(np.exp(part).sum(axis=1, keepdims=True, dtype=np.float64)).astype("f4")
        return batch.asked, logits
