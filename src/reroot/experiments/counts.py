"""Counts against the probability that they should have: checks, and cells of tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnosis.intervals import clopper_pearson
from ..pages.kit.markup import Html
from .base import Check, Row
from .formulas import at_most, inside

ERROR = 1e-3
"""Probability that a statistical check fails though all is right."""


def rarely(
    name: str, failed: int, of: int, rate: float, what: str, *, sound: bool = True, digits: int = 3
) -> Check:
    """``failed`` of so many is compatible with a rate of at most that (and ``sound``)."""
    low, high = clopper_pearson(failed, of)
    detail = f"{failed} of {of:,} {what}, interval {low:.{digits}f} to {high:.{digits}f}"
    return Check(name, sound and at_most(failed, of, rate, ERROR), f"{detail}; at most {rate:g}")


def banded(
    name: str, rows: Sequence[Row], n: str = "attempts", error: float | None = None
) -> list[Check]:
    """``passed`` of ``n`` lies in the binomial band around ``exact`` in every row; none without rows.

    ``error``: of each band; by default those of all rows together fail with probability ``ERROR``.
    """
    if not rows:
        return []
    error = ERROR / len(rows) if error is None else error
    good = [inside(r["passed"], r[n], r["exact"], error) for r in rows]
    worst = max(abs(r["passed"] / r[n] - r["exact"]) for r in rows)
    detail = f"{sum(good)} of {len(rows)} settings in their bands; largest difference {worst:.4f}"
    return [Check(name, all(good), detail)]


# ---- cells of tables ---------------------------------------------------------------------------------


def counted(k: int, n: int) -> Html:
    """k of n with its 95 % interval."""
    low, high = clopper_pearson(k, n)
    return Html(f"{k} of {n} <small>{low:.3f}–{high:.3f}</small>", k / n, (low, high))


def rate(k: int, n: int) -> Html:
    """The rate of k of n with its 95 % interval."""
    low, high = clopper_pearson(k, n)
    return Html(f"{k / n:.4f} <small>{low:.4f}–{high:.4f}</small>", k / n, (low, high))
