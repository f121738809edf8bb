"""Every learner at the edge: one token in the vocabulary, one token per output, one of each budget."""

from __future__ import annotations

import numpy as np
import pytest

import reroot
from reroot import Budget
from reroot.generators.base import Capabilities
from reroot.generators.tabular import IntegerGenerator
from reroot.learners import get_learner, list_learners
from reroot.tasks.base import Problem


class Uniform(IntegerGenerator):
    """All tokens equally likely, whatever K; shows hidden states."""

    def __init__(self, vocab: int, horizon: int) -> None:
        super().__init__(2, horizon, ())
        self._vocab_size = vocab

    vocab_size = property(lambda self: self._vocab_size)
    capabilities = property(lambda self: Capabilities(hidden=True))

    def describe(self):
        return {"family": "uniform"}

    def _start(self, prompt, prefix):
        return len(prefix)

    def _advance(self, states, tokens):
        return states + 1

    def _laws(self, states):
        return np.full((len(states), self._vocab_size), -np.log(self._vocab_size))

    def layer_laws(self, prompts, prefixes, layers):
        return np.full((len(prefixes), 1, self._vocab_size), -np.log(self._vocab_size))

    def features(self, prompts, outputs):
        return np.ones((len(outputs), 2))


def problem(horizon: int) -> Problem:
    return Problem(
        id="edge",
        prompt=(),
        max_tokens=horizon,
        reward=lambda output: 1.0,
        verifier=lambda output: True,
        demonstration=(0,) * horizon,
        value=lambda output: 1.0,
    )


@pytest.mark.parametrize("name", list_learners())
@pytest.mark.parametrize("vocab", [1, 2])
@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize("tokens", [1, 400])
def test_edges_are_answered_or_refused_in_words(
    name: str, vocab: int, horizon: int, tokens: int
) -> None:
    result = reroot.run(
        get_learner(name),
        [problem(horizon)],
        Uniform(vocab, horizon),
        grants="chosen/full+reward+verifier+demonstration+value+hidden",
        budget=Budget(tokens=tokens, calls=400),
        on_error="record",
    )
    (attempt,) = result.attempts
    assert attempt.error is None or attempt.error.kind == "InvalidInput", attempt.error
