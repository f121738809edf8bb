"""Single reductions: their names, what serves them, and how well."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .place import Interface


class Exactness(enum.IntEnum):
    """How well a served answer is that of the stronger interface, best first."""

    FREE = 0
    """A function of what is held."""
    EXACT = 1
    """The same values."""
    IN_LAW = 2
    """Another answer with the same law."""
    WITHIN = 3
    """Within ε, as small as one pays for."""

    def __str__(self) -> str:
        return ("free", "exact", "in law", "within ε")[self]


@dataclass(frozen=True, slots=True)
class Step:
    """One reduction, from one interface to another.

    Attributes:
        row: its name; ``REDUCTIONS`` says what serves it.
        wants: what it serves.
        exactness: how well.
        price: in words and symbols, for one answer.
        value: the price at given sizes: questions to what is held for each answer (expected).
        assumes: what must hold.
        build: questions before the first answer.
    """

    row: str
    wants: Interface
    exactness: Exactness
    price: str
    value: float
    assumes: str = ""
    build: float = 0.0


REDUCTIONS: dict[str, str] = {
    "coarsen": "what is shown already",
    "anchored": "law_anchored",
    "fewest": "law_fewest",
    "raw": "law_raw",
    "bisection": "law_from_ids",
    "scores": "law_from_scores",
    "collecting": "law_by_collecting",
    "counts": "law_by_counts",
    "biased counts": "law_by_biased_counts",
    "retempered law": "retempered",
    "retempered draws": "draw_retempered",
    "kept draws": "draw_kept",
    "biased law": "biased_law",
    "biased draws": "draw_biased",
    "waiting": "Place, at ROOT",
    "passing": "Place, at EPISODE",
    "redrawing": "Place, at VISITED",
    "walking": "Place, at RESET",
    "forcing": "Place, by bias",
    "constant bias": "law_by_constant_bias",
    "rejected outputs": "draw_output",
    "masks": "law_from_masks",
    "image": "law_from_image",
    "bans": "longer_list",
    "together": "law_from_ids_together",
    "lifting": "law_by_lifting",
}
"""Row → the function, in this package, that serves it."""
