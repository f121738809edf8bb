"""Draws with a repetition penalty that is told: they show where the zero of logits is, and so how strong a hidden one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..generators.remote.dialects import Call
from .asking import Ask, lies_fail
from .drawn import Drawn
from .penalties import ENOUGH, log_partition
from .repeats import again
from .site import Site

_FIELDS = {
    "vllm": "repetition_penalty",
    "sglang": "sampling_params.repetition_penalty",
    "llamacpp": "repeat_penalty",
}
_TOLD, _ROWS = 1.1, 256
"""A penalty that leaves used tokens likely enough to be counted, and draws with it at each prefix."""
_LIKELY = 0.05
"""Probability of used tokens below which a prefix shows no penalty."""


def calibrated(site: Site, drawn: Sequence[Drawn]) -> list[Drawn]:
    """The same draws, with ``log_partition`` at prefixes whose tokens are likely to come again.

    The server must be known to honour its sampling fields; where it has none for this, or the budget does not
    reach, draws are returned as they are.
    """
    field = _FIELDS.get(site.table.name)
    return list(drawn) if field is None else [_at(site, one, field) for one in drawn]


def _at(site: Site, drawn: Drawn, field: str) -> Drawn:
    if drawn.n < ENOUGH or drawn.log_partition or again(drawn) < _LIKELY:
        return drawn
    size = min(site.choices, _ROWS)
    asked = [
        Ask(Call(drawn.prefix, n=min(size, _ROWS - i), seed=90_000_000 + i), extra={field: _TOLD})
        for i in range(0, _ROWS, size)
    ]
    if not site.asker.fits(asked):
        return drawn
    with lies_fail():
        tokens = np.array([row.ids[0] for row in site.asker.rows(asked)], dtype=np.int64)
    return replace(drawn, log_partition=log_partition(drawn.take(tokens), _TOLD))
