"""One context or two, in ``locks``: the separation at G = A, where good states are alike in what led to them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from ..pages.kit.cells import table_of
from ..pages.kit.table import Table
from ..randomness import stream_key
from .base import Check, Row, total, where
from .fits import Growth, beside, growth
from .measuring import setting_of

_separation = setting_of("separation", "learner H tries", A=3, G=3, n=4)

SEPARATIONS = (
    *(_separation(name, H, 2) for name in ("pce", "pcr") for H in (2, 3, 4, 5)),
    *(_separation(name, 6, 1) for name in ("pce", "pcr")),
    *(_separation("one-context", H, 3) for H in (2, 3, 4, 5)),
    _separation("one-context", 6, 2),
)
NAMES = {"pce": "two contexts", "pcr": "one context, with resets", "one-context": "one context"}


def fitted(rows: Sequence[Row], learner: str, what: str) -> Growth | None:
    """How ``what`` grows with H, where there are five sizes; a run that did not get there counts as
    one that took the largest budget."""
    costs: dict[int, list[float]] = defaultdict(list)
    for row in where(rows, kind="separation", learner=learner):
        costs[row["H"]].append(float(row[what]))
    if len(costs) < 5:
        return None
    return growth(costs, stream_key(0, "locks", f"separation {learner} {what}"))


def separation_checks(rows: Sequence[Row]) -> Iterator[Check]:
    """Polynomial with two contexts, and with resets; what one context in passes takes beside log A."""
    for name in ("pce", "pcr"):
        fit = fitted(rows, name, "draws")
        if fit is None:
            return
        mine, line = where(rows, kind="separation", learner=name), fit.polynomial
        low, high = line.scattered()
        yield Check(
            f"G = A, {NAMES[name]}: draws grow as a power of H, below 6",
            all(r["reached"] for r in mine) and high < 6,
            f"power {line.slope:.2f} ({low:.2f} to {high:.2f}), H^3 of it at a fixed N_p; "
            f"{total(mine, 'reached')} of {len(mine)} reached",
        )
    one, two = fitted(rows, "one-context", "budget"), fitted(rows, "pce", "budget")
    if one is None or two is None:
        return
    rate, H, A = one.exponential, max(r["H"] for r in rows), rows[0]["A"]
    many, few = (
        [float(r["draws"]) for r in where(rows, learner=name, H=H)]
        for name in ("one-context", "pce")
    )
    yield Check(
        "G = A: without resets one context is not enough, two are",
        min(many) > 4 * max(few),
        f"H = {H}: {np.mean(many):,.0f} draws against {np.mean(few):,.0f}",
    )
    low, high = rate.scattered()
    yield Check(
        "G = A, one context in passes: N_p grows exponentially, by up to a factor of A a layer",
        low > 0 and low <= math.log(A),
        f"nats a layer {beside(rate.slope, (low, high), math.log(A))}; two contexts "
        f"{two.exponential.slope:.2f}; at H = {H}: {_mean(rows, 'one-context', H):,.0f} against "
        f"{_mean(rows, 'pce', H):,.0f}",
    )


def _mean(rows: Sequence[Row], learner: str, H: int) -> float:
    return float(np.mean([r["budget"] for r in where(rows, learner=learner, H=H)]))


def separation_table(rows: Sequence[Row]) -> Table:
    """The fits of draws and of N_p; no rows without five sizes."""
    shown: list[Row] = []
    for name, label in NAMES.items():
        for what, said in (("draws", "draws"), ("budget", "N_p")):
            fit = fitted(rows, name, what)
            if fit is not None:
                shown.append(
                    {
                        "what": f"{label}: {said}",
                        "power": between(fit.polynomial.slope, fit.polynomial.scattered()),
                        "rate": between(fit.exponential.slope, fit.exponential.scattered()),
                        "aic": fit.both("aic"),
                        "preferred": fit.preferred,
                    }
                )
    head = "G = A = 3 | power of H | nats a layer | AIC, exponential and power | smaller"
    cells = "{what} | {power} | {rate} | {aic} | {preferred}"
    return table_of(head, cells, shown, text=1)


def between(slope: float, interval: tuple[float, float]) -> str:
    """A slope and its interval, as tables show them."""
    return f"{slope:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
