"""Repeats of earlier tokens: penalties make them fewer, draws that are cut off make them more."""

from __future__ import annotations

import numpy as np
import pytest

from reroot.probe.draws import _is_punished
from reroot.probe.repeats import repeats
from reroot.probe.sampling_law import Drawn, Setting

K = 50
CUT = [Setting("top_k", 5.0, 4.0, 6.0)]


def drawn(rng: np.random.Generator, top_k: int = K, penalty: float = 0.0) -> list[Drawn]:
    """300 draws at 20 prefixes that hold the most likely tokens."""
    found: list[Drawn] = []
    for _ in range(20):
        logs = np.sort(rng.standard_normal(K))[::-1]
        logs = logs - np.log(np.exp(logs).sum())
        prefix = (0, 1, 2)
        law = logs.copy()
        law[list(prefix)] -= penalty
        p = np.where(np.arange(K) < top_k, np.exp(law), 0.0)
        tokens = rng.choice(K, size=15, p=p / p.sum())
        found.append(Drawn(np.arange(K), logs, tokens, prefix, K))
    return found


@pytest.mark.parametrize(
    ("settings", "top_k", "penalty", "punished"),
    [
        (CUT, 5, 0.0, False),  # the cut explains that more repeat
        ([], K, 2.0, True),
        (CUT, 20, 3.0, True),
        ([Setting("repetition_penalty", 1.1, 1.0, 1.2)], K, 2.0, False),  # it has a name already
        ([], K, 0.0, False),
    ],
)
def test_penalties_are_named_where_nothing_else_explains_repeats(
    settings: list[Setting], top_k: int, penalty: float, punished: bool
) -> None:
    seen = drawn(np.random.default_rng(1), top_k, penalty)
    judged = [repeats(seen, 1e-4)]
    assert judged[0].holds == (top_k == K and not penalty)
    assert _is_punished(judged, seen, settings) == punished
