"""Causal language models of the ``transformers`` library, computed through a prefix tree.

What is asked together is computed together, and nothing is computed twice while the cache holds it. Laws
computed in different batches agree to about 1e-5 nats in float32 (matrix products round differently by
shape), and draws, but for about that share (``wide.draw_wide``). In bfloat16 laws differ by up to a nat
between batches: use it for speed, not for numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput, MissingDependency
from ..types import FloatArray, IntArray, Physical, Reply
from .base import Capabilities, Request
from .models import Progress, load, say
from .stepping import BatchCapacity
from .tokenizer import Text

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401  # what follows needs it
except ImportError as error:
    raise MissingDependency(
        f"language models need torch and transformers ({error}): pip install 'reroot[lm]'"
    ) from None
from .causal_model import device_named, end_ids, fingerprint, positions, refusal, tree_refusal
from .engine import Engine
from .engines import choose
from .hidden_states import HiddenStates, hidden_states_of
from .packed_linear import pack_linears
from .prefix_tree import PrefixTree
from .probe import Probe, short_windows
from .tree_generator import TreeGenerator

_LAW_SHARE = 2  # one part in 2 of the cache holds next-token laws, the rest keys and values
_NODE_BYTES = 256  # bookkeeping of a node, about


class Transformers(TreeGenerator):
    """A causal language model as a generator; a state is a node of the prefix tree.

    What is more than keys and values of past tokens (recurrent states, positions by length of a batch) is computed
    by the model's own cache instead; ``engine_note`` says so, and why, and ``describe()["engine"]`` which.

    Args:
        model: ``"smollm2"``, a folder, a hub id, or a loaded (model, tokenizer) pair. A pair is used
            as it is, with its own dtype and device; call ``weights_changed`` after changing its weights.
        chat: put a prompt's text through the tokenizer's chat template, as one user message.
        chat_template_kwargs: further arguments of the template, such as ``{"enable_thinking": False}``.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        device: where to compute, as torch names it.
        cache_bytes: most memory for keys, values and laws; a forward pass that needs more gets it.
        progress: told what takes time while the model is prepared.
        trust_remote_code: let code that the model's folder brings along run.
        autocast: makes the context of all passes, as a trainer's ``accelerator.autocast``; laws are then
            those of its arithmetic.

    Raises:
        InvalidInput: not a model, no chat template, or no causal model.
        MissingDependency: a package is not installed.
        BackendError: the model fails, or no engine's laws are those of plain passes (see ``Probe``).
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any],
        *,
        chat: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
        trust_remote_code: bool = False,
        autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        super().__init__()
        self._autocast = autocast
        if isinstance(cache_bytes, bool) or cache_bytes < 1:
            raise InvalidInput(f"cache_bytes must be an integer >= 1, got {cache_bytes!r}")
        if isinstance(model, tuple):
            self._model, tokenizer = model
            self._name = Path(self._model.config._name_or_path).name
        else:
            self._model, tokenizer = load(
                model, dtype=dtype, progress=progress, trust_remote_code=trust_remote_code
            )
            self._model.to(device_named(device))
            self._name = Path(model).name
        self._config = self._model.config.get_text_config()
        if why := refusal(self._model, self._config):
            raise InvalidInput(f"a {self._config.model_type} model cannot be served: {why}")
        self._weights: str | None = None
        if not isinstance(model, tuple):  # nobody else has it, so its weights stay as they are
            self._weights = fingerprint(self._model)
            if tree_refusal(self._model, self._config) is None:
                pack_linears(self._model)  # others read weights of their linear layers themselves
        ends = end_ids(self._model, self._config.vocab_size)
        self._text = Text(tokenizer, chat, ends, self._config.vocab_size, chat_template_kwargs)
        self._chat = chat
        self._cache_bytes = cache_bytes
        self._vocab = self._config.vocab_size
        self._slot_bytes = 1 << 14
        self._hidden: HiddenStates | None = None
        self._unreached: int | None = None
        with self._evaluating(), short_windows(self._model, self._config):
            probe = Probe(self._model, self._config)
            self.engine_note = choose(self._model, self._config, probe, self._use, self._probed)
            self._hidden = hidden_states_of(self._model, probe)
        if self.engine_note is None:
            self._unreached = probe.unreached
        self._slot_bytes = self._engine.slot_bytes or self._slot_bytes
        self.clear()
        if self.engine_note:
            say(progress, self.engine_note)

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self.clear()

    def _probed(self, strings: Sequence[tuple[int, ...]]) -> FloatArray:
        nodes = [self._start(string[:1], string[1:]) for string in strings]
        return self._laws(np.array(nodes))

    def weights_changed(self) -> None:
        """Forget all that was computed with other weights; counters go on, identity follows.

        Raises:
            InvalidInput: the model was loaded by name, so nobody else can change its weights.
        """
        if self._weights is not None:
            raise InvalidInput(
                f"the weights of {self._name!r} were loaded by name and cannot change; give a loaded "
                "(model, tokenizer) pair to train it"
            )
        self._forget()

    def clear(self) -> None:
        """Drop everything cached and reset the counters."""
        self._forget()
        if self._hidden is not None:
            self._hidden.passes = self._hidden.positions = 0
        self._engine.passes = self._engine.positions = self._engine.again = 0
        self._reached = self._peak = 0

    def _forget(self) -> None:
        laws = self._cache_bytes // _LAW_SHARE
        slots = (self._cache_bytes - laws) // (self._slot_bytes + _NODE_BYTES)
        self._begin(PrefixTree(limit=max(1, slots)), laws // (4 * self._vocab))
        self._engine.reset(self._tree, self._cache_bytes - laws)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(hidden=self._hidden is not None)

    def max_length(self) -> int | None:
        """Positions of the model, or as many as its laws could be checked for when it was loaded."""
        limits = (positions(self._config), self._unreached)
        return min((limit for limit in limits if limit is not None), default=None)

    def describe(self) -> Mapping[str, object]:
        """Names and hashes: of configuration and sampled weights, and of the tokenizer."""
        return {
            "family": "transformers",
            "model": self._name,
            "weights": self._weights or fingerprint(self._model),
            "tokenizer": self._text.digest(),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "chat": self._chat,
            "engine": self._engine.name,
        }

    def physical(self) -> Physical:
        engine = self._engine
        return Physical(
            forwards=engine.passes + (self._hidden.passes if self._hidden else 0),
            computed=engine.positions + (self._hidden.positions if self._hidden else 0),
            cached=max(0, self._reached - engine.positions),
            recomputed=engine.again,
            peak_bytes=self._peak,
        )

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self._engine.going_on = any(r.length > 1 and r.forced is None for r in requests)
        lengths = (len(r.prompt) + len(r.prefix) + r.length for r in requests)
        self._longest = max(lengths, default=1)
        try:
            return super().answer(requests)
        finally:
            self._engine.going_on = False

    def layer_laws(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], layers: int
    ) -> npt.NDArray[np.float32]:
        """(n, d, K) nats, see ``ShowsHiddenStates``: the output head applied to the normed states after each
        of the last d blocks (logit lens). Computed without the prefix tree.

        Raises:
            InvalidInput: as ``answer``, or the model shows no hidden states.
        """
        strings = [self._string(x, u, 1) for x, u in zip(prompts, prefixes, strict=True)]
        with self._evaluating():
            return self._shown().layer_laws(strings, layers)

    def features(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> FloatArray:
        """(n, d), see ``ShowsHiddenStates``: means of ``hidden_states[-1]``, which is after the final norm.

        Raises:
            InvalidInput: as ``layer_laws``, or an output is empty.
        """
        strings = [self._string(x, y, 0) for x, y in zip(prompts, outputs, strict=True)]
        if not all(map(len, outputs)):
            raise InvalidInput("features are of outputs of at least one token, got an empty one")
        with self._evaluating():
            return self._shown().features(strings, list(map(len, outputs)))

    def _shown(self) -> HiddenStates:
        if self._hidden is None:
            raise InvalidInput(f"a {self._config.model_type} model shows no hidden states here")
        return self._hidden

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout, whatever mode a trainer has put the model in; its mode is restored."""
        training = [m for m in self._model.modules() if m.training]
        for module in training:
            module.training = False
        try:
            with self._autocast():
                yield
        finally:
            for module in training:
                module.training = True

    def _capacity(self) -> BatchCapacity:
        rows = self._engine.rows(self._longest) or len(self._buffer)
        return BatchCapacity(min(len(self._buffer), rows), self._tree.limit)

    def _in_use(self) -> IntArray:
        return self._engine.nodes()

    def _pass(self, asked: IntArray) -> tuple[IntArray, npt.NDArray[np.float32]]:
        found = self._engine.some(asked)
        held = self._engine.bytes + self._kept.bytes + len(self._tree) * _NODE_BYTES
        self._peak = max(self._peak, held)
        return found
