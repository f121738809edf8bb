"""Causal language models of the ``transformers`` library, computed through a prefix tree.

What is asked together is computed together, and nothing is computed twice while the cache holds it. Laws
computed in different batches agree to about 1e-5 nats in float32 (matrix products round differently by
shape), and draws, but for about that share (``wide.draw_wide``). In bfloat16 laws differ by up to a nat
between batches: use it for speed, not for numbers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendError, InvalidInput, MissingDependency
from ..types import Chat, FloatArray, IntArray, Physical
from .base import Capabilities, check_prefix
from .models import Progress, load
from .stops import Stop
from .tokenizer import Text

try:
    import torch
    import transformers  # noqa: F401  # what follows needs it
except ImportError as error:
    raise MissingDependency(
        f"language models need torch and transformers ({error}): pip install 'reroot[lm]'"
    ) from None
from .attention import group_size, grouped_attention
from .causal_model import arithmetic, device_named, end_ids, fingerprint, positions, refusal
from .hidden_states import HiddenStates, hidden_states_of
from .key_values import DevicePass, KeyValues
from .packed_linear import pack_linears
from .prefix_tree import Limits, Pass, PrefixTree, plan_pass
from .probe import Probe
from .tree_generator import TreeGenerator

_LAW_SHARE = 2  # one part in 2 of the cache holds next-token laws, the rest keys and values
_NODE_BYTES = 256  # bookkeeping of a node, about
_PASS_ENTRIES = 6 << 20  # most logits of one pass: below 32 MiB the allocator reuses memory


class Transformers(TreeGenerator):
    """A causal language model as a generator; a state is a node of the prefix tree.

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
        InvalidInput: not a model, no chat template, no causal model, or one whose state is more than the
            keys and values of all past tokens (sliding windows, recurrence, rotations by length).
        MissingDependency: a package is not installed.
        BackendError: laws through the prefix tree are not those of plain passes (see ``Probe``).
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
            pack_linears(self._model)
        ends = end_ids(self._model, self._config.vocab_size)
        self._text = Text(tokenizer, chat, ends, self._config.vocab_size, chat_template_kwargs)
        self._chat = chat
        self._keeps = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self._cache_bytes = cache_bytes
        self._vocab = self._config.vocab_size
        self._limits = Limits(positions=min(512, max(64, _PASS_ENTRIES // self._vocab)))
        self._slot_bytes = 1 << 14
        self._group = group_size(self._config)
        self._hidden: HiddenStates | None = None
        self._unreached: int | None = None
        self.clear()
        with self._evaluating():
            probe = Probe(self._model, self._config)
            self._check_engine(probe)
            self._hidden = hidden_states_of(self._model, probe)
        self._unreached = probe.unreached
        self._slot_bytes = self._store.slot_bytes
        self.clear()

    def _check_engine(self, probe: Probe) -> None:
        """Compare laws through the tree with plain ones; attention in groups is given up if it fails."""
        try:
            probe.check(self._probed)
        except Exception as error:
            if self._group > 1:
                self._group = 1  # its attention is its own
                self.clear()
                return self._check_engine(probe)
            if isinstance(error, BackendError):
                raise
            raise BackendError(
                f"a {self._config.model_type} model cannot be computed through the prefix tree: "
                f"{type(error).__name__}: {error}"
            ) from error

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
        self._reached = self._passes = self._positions = self._again = self._peak = 0

    def _forget(self) -> None:
        laws = self._cache_bytes // _LAW_SHARE
        slots = (self._cache_bytes - laws) // (self._slot_bytes + _NODE_BYTES)
        self._begin(PrefixTree(limit=max(1, slots)), laws // (4 * self._vocab))
        self._store = KeyValues(self._tree)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(hidden=self._hidden is not None)

    @property
    def end_token(self) -> int | None:
        return self._text.end

    def max_length(self) -> int | None:
        """Positions of the model, or as many as its laws could be checked for when it was loaded."""
        limits = (positions(self._config), self._unreached)
        return min((limit for limit in limits if limit is not None), default=None)

    def encode(self, text: str) -> tuple[int, ...]:
        """Prompt text → tokens, through the chat template if there is one in use; never empty."""
        return self._text.encode(text)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Messages → tokens of the tokenizer's chat template."""
        return self._text.encode_chat(chat)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._text.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        check_prefix(tokens, self._vocab)
        return self._text.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        """End tokens of model and tokenizer, and the token with which one of ``texts`` is there."""
        return self._text.stops(texts)

    def describe(self) -> Mapping[str, object]:
        """Names and hashes: of configuration and sampled weights, and of the tokenizer."""
        return {
            "family": "transformers",
            "model": self._name,
            "weights": self._weights or fingerprint(self._model),
            "tokenizer": self._text.digest(),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "chat": self._chat,
        }

    def physical(self) -> Physical:
        return Physical(
            forwards=self._passes + (self._hidden.passes if self._hidden else 0),
            computed=self._positions + (self._hidden.positions if self._hidden else 0),
            cached=max(0, self._reached - self._positions),
            recomputed=self._again,
            peak_bytes=self._peak,
        )

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

    def _pass(self, asked: IntArray) -> tuple[IntArray, npt.NDArray[np.float32]]:
        step = plan_pass(self._tree, asked, self._limits)
        return step.asked, self._forward(step)

    @torch.inference_mode()
    def _forward(self, step: Pass) -> npt.NDArray[np.float32]:
        """(m, K) nats: the laws at ``step.asked``."""
        device, dtype = self._model.device, arithmetic(self._model)
        sees = torch.from_numpy(step.sees).to(device)
        mask = torch.full(sees.shape, torch.finfo(dtype).min, dtype=dtype, device=device)
        mask = mask.masked_fill_(sees, 0.0)[:, None]
        keep = {"logits_to_keep": step.keep} if self._keeps else {}
        grouped = grouped_attention(self._config) if self._group > 1 else contextlib.nullcontext()
        with grouped:
            logits = self._model(
                input_ids=torch.from_numpy(step.tokens).to(device),
                attention_mask=mask.repeat(1, 1, self._group, 1),
                position_ids=torch.from_numpy(step.positions).to(device),
                past_key_values=DevicePass(step, self._store, device),
                use_cache=True,
                **keep,
            ).logits
        logits = logits[:, -step.keep :].flatten(0, 1)
        if len(step.at) != len(logits):
            logits = logits[torch.from_numpy(step.at).to(device)]
        self._passes += 1
        self._positions += len(step.write)
        self._again += step.recomputed
        held = self._store.bytes + self._kept.bytes + len(self._tree) * _NODE_BYTES
        self._peak = max(self._peak, held)
        return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
