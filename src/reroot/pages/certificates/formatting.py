"""Numbers of certificates as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...certify.case import EXACT
from ..kit.formatting import listing, rounded

_SAME = 1e-9


def small(value: float | str) -> str:
    """A distance: ``0`` where it is rounding, ``∞``, or three digits."""
    if value == "inf":
        return "∞"
    number = float(value)
    return "0" if abs(number) < EXACT else rounded(number)


def ratio(value: float | str) -> str:
    """A largest ratio: ``1`` where it is that but for rounding."""
    return "1" if value != "inf" and abs(float(value) - 1.0) < _SAME else small(value)


def distance_words(found: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Total variation, KL and largest ratio; dots where nothing is stated."""
    if found is None:
        return "·", "·", "·"
    return small(found["tv"]), small(found["kl"]), ratio(found["ratio"])


def how_words(one: Mapping[str, Any]) -> str:
    """``enumerated, 512 runs``; ``sampled, 2,000 runs, TV ± 0.06``."""
    count = f"{one['runs']:,} run{'s' * (one['runs'] != 1)}"
    around = f", TV ± {one['margin']:.2g}" if one["margin"] else ""
    return f"{one['how']}, {count}{around}"


def aimed_name(one: Mapping[str, Any]) -> str:
    """The law that the output is compared with."""
    return f"its output to {one['aimed']['name']}"


def parameter_words(one: Mapping[str, Any]) -> str:
    """``n=3, beta=0.5``; numbers with six digits."""
    shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in one["parameters"].items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def same(cost: Mapping[str, Any]) -> bool:
    """Whether a cost is that of its formula, but for rounding."""
    return math.isclose(cost["expected"], cost["formula"], rel_tol=_SAME, abs_tol=_SAME)


def methods_in_short(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One entry per method: ``name``, ``cases``, ``how``, ``tv`` (the largest that is checked, in words),
    ``holds`` and ``faults`` (learner, toy, what is wrong)."""
    for method in summary["methods"]:
        cases = method["certificates"]
        marks = [one["holds"] for one in cases]
        apart = [one["stated"]["tv"] for one in cases if one["stated"] and not one["margin"]]
        sampled = [one["stated"]["tv"] for one in cases if one["stated"] and one["margin"]]
        shown = [small(max(apart))] if apart else []
        shown += [f"{max(sampled):.2g} sampled"] if sampled else []
        yield {
            "name": method["name"],
            "cases": len(cases),
            "how": listing(list(dict.fromkeys(one["how"] for one in cases))),
            "tv": ", ".join(shown) or "·",
            "holds": False if False in marks else (True if True in marks else None),
            "faults": [(c["learner"], c["toy"], f) for c in cases for f in c["faults"]],
        }
