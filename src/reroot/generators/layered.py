"""A tree with hidden states: a stack of next-token tables, the last of which is the law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..types import FloatArray
from .base import Capabilities
from .tabular import Tabular

Features = Callable[[tuple[int, ...]], npt.ArrayLike]
"""(output tokens) → (d,) numbers."""


class LayeredTree(Tabular):
    """A ``Tabular`` that shows the laws of its layers, and features of outputs.

    Args:
        layers: trees over the same strings, first layer first; the last one is the law.
        features: the features of an output; ``None``: the share of its tokens that is each token, that
            is, the mean of their one-hot vectors (d = K).

    Raises:
        InvalidInput: no layers, or layers over different strings.
    """

    def __init__(self, layers: Sequence[Tabular], features: Features | None = None) -> None:
        if not len(layers):
            raise InvalidInput("a layered tree needs at least one layer")
        last = layers[-1]
        for i, layer in enumerate(layers):
            mine, its = _strings(layer), _strings(last)
            if mine != its:
                raise InvalidInput(
                    f"layers of a tree share K, H and end tokens; the last has {its}, layer {i} {mine}"
                )
        self._layers = tuple(layers)
        self._features = features
        named = features and f"{features.__module__}.{getattr(features, '__qualname__', features)}"
        identity = {"layers": [dict(layer.describe()) for layer in layers], "features": named}
        self._setup(last._law, last.vocab_size, last.horizon, last.stops(()).tokens, identity)

    @property
    def layers(self) -> tuple[Tabular, ...]:
        """The layers, first to last."""
        return self._layers

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(hidden=True)

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "family": "layered"}

    def layer_laws(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], layers: int
    ) -> FloatArray:
        """(n, d, K) nats: the laws of the last d = min(``layers``, L) layers, see ``ShowsHiddenStates``."""
        shown = self._layers[-layers:]
        self._forwards += 1
        self._computed += len(prefixes) * len(shown)
        places = zip(prompts, prefixes, strict=True)
        return np.array([[one.log_laws(x, [u])[0] for one in shown] for x, u in places])

    def features(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> FloatArray:
        """(n, d): the features of each output, whatever its prompt, see ``ShowsHiddenStates``."""
        self._forwards += 1
        self._computed += sum(map(len, outputs))
        of = self._features or self._shares
        return np.array([of(tuple(output)) for output in outputs], dtype=np.float64)

    def _shares(self, output: tuple[int, ...]) -> FloatArray:
        return np.bincount(output, minlength=self.vocab_size) / len(output)


def _strings(tree: Tabular) -> tuple[int, int, tuple[int, ...]]:
    return tree.vocab_size, tree.horizon, tuple(sorted(tree.stops(()).tokens))
