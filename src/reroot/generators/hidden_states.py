"""Hidden states of a causal language model: the laws of its layers, and features of outputs.

Plain forward passes over padded strings, without a cache: attention is causal, so no token of a string
sees the padding behind it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..types import FloatArray
from .probe import Probe, String

_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f")
_ENTRIES = 1 << 25  # most entries of the states, and of the laws, of one pass


class HiddenStates:
    """Reads a model's states after each block.

    Args:
        model: a causal language model of the ``transformers`` library, in evaluation mode when asked.
        norm: its final norm.

    Attributes:
        layers: L, number of blocks.
        passes, positions: forward passes made and tokens computed.
    """

    def __init__(self, model: Any, norm: torch.nn.Module) -> None:
        self._model, self._norm = model, norm
        self._head = model.get_output_embeddings()
        self._keep: dict[str, int] = {}
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            self._keep = {"logits_to_keep": 1}
        config = model.config.get_text_config()
        self.layers = int(config.num_hidden_layers)
        self._width, self._vocab = int(config.hidden_size), int(config.vocab_size)
        self.passes = self.positions = 0

    @torch.inference_mode()
    def layer_laws(self, strings: Sequence[String], layers: int) -> npt.NDArray[np.float32]:
        """(n, d, K) nats: the law after each string read out of each of the last d = min(layers, L)
        blocks: the final norm and the output head, applied to the state at the last token."""
        d = min(layers, self.layers)
        laws = np.empty((len(strings), d, self._vocab), dtype=np.float32)
        for chunk in self._chunks(strings, d * self._vocab):
            states = self._forward([strings[i] for i in chunk])
            ends = torch.tensor([len(strings[i]) - 1 for i in chunk], device=states[0].device)
            rows = torch.arange(len(chunk), device=ends.device)
            inner = [self._norm(layer[rows, ends]) for layer in states[-d:-1]]
            # the last layer's states have passed the norm already
            read = self._head(torch.stack([*inner, states[-1][rows, ends]], dim=1))
            laws[chunk] = torch.log_softmax(read.float(), dim=-1).cpu().numpy()
        return laws

    @torch.inference_mode()
    def features(self, strings: Sequence[String], lengths: Sequence[int]) -> FloatArray:
        """(n, width): the mean of the last layer's states at the last ``lengths[i]`` tokens of string i."""
        distinct = list(dict.fromkeys(zip(strings, lengths, strict=True)))  # draws repeat
        found = np.empty((len(distinct), self._width))
        for chunk in self._chunks([string for string, _ in distinct], 0):
            states = self._forward([distinct[i][0] for i in chunk])
            for row, i in enumerate(chunk):
                end = len(distinct[i][0])
                mine = states[-1][row, end - distinct[i][1] : end]
                found[i] = mine.double().mean(dim=0).cpu().numpy()
        at = {one: i for i, one in enumerate(distinct)}
        return found[[at[one] for one in zip(strings, lengths, strict=True)]]

    def _forward(self, strings: Sequence[String]) -> Sequence[torch.Tensor]:
        """(B, T, width) each: states of the embedding, then after each block."""
        longest = max(map(len, strings))
        ids = torch.tensor([[*s, *[0] * (longest - len(s))] for s in strings])
        found = self._model(
            input_ids=ids.to(self._model.device),
            use_cache=False,
            output_hidden_states=True,
            **self._keep,
        )
        self.passes += 1
        self.positions += sum(map(len, strings))
        return found.hidden_states

    def _chunks(self, strings: Sequence[String], entries: int) -> Iterator[list[int]]:
        """Indices of strings that are computed together, of similar length; ``entries`` per string."""
        chunk: list[int] = []
        for i in sorted(range(len(strings)), key=lambda i: len(strings[i])):
            states = len(strings[i]) * (self.layers + 1) * self._width
            states += 0 if self._keep else len(strings[i]) * self._vocab
            if chunk and (len(chunk) + 1) * max(states, entries) > _ENTRIES:
                yield chunk
                chunk = []
            chunk.append(i)
        if chunk:
            yield chunk


def hidden_states_of(model: Any, probe: Probe) -> HiddenStates | None:
    """A reader of the model's hidden states, if the final norm and the output head give its own laws."""
    found = [getattr(model.base_model, name, None) for name in _NORMS]
    norm = next((module for module in found if isinstance(module, torch.nn.Module)), None)
    if norm is None or model.get_output_embeddings() is None:
        return None
    states = HiddenStates(model, norm)
    try:
        probe.check(lambda strings: states.layer_laws(strings, 1)[:, 0], probe.ends)
    except Exception:  # states of other shapes, or a head that does more: whatever it raises
        return None
    return states
