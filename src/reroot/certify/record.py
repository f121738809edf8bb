"""Certificates as records: plain numbers and text, for tables, pages and JSON."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._version import __version__
from ..learners import list_learners
from ..types import CURRENCIES
from .case import EXACT
from .cases import cases_of
from .check import CONFIDENCE, Certificate, Distances
from .toys import Law, Tokens

Record = dict[str, Any]


def record(certificate: Certificate) -> Record:
    """A certificate as JSON-able values; an infinite number is the text ``"inf"``.

    Returns:
        What ``Case`` and ``Certificate`` say: the toy by name (``toy``) and in words (``about``), the
        contract as text (``grants``), ``stated`` and ``aimed`` as tv, kl (nats) and ratio, ``costs``
        as currency → expected and formula, ``law`` as a list of output, found, stated, aimed and own
        (what the learner itself outputs, where ``found`` is another law).
    """
    case = certificate.case
    aimed = None if certificate.aimed is None else _distances(certificate.aimed)
    if aimed is not None and case.aim is not None:
        aimed = {"name": case.aim.name, **aimed}
    costs = {
        c: {"expected": certificate.costs[c], "formula": case.costs.get(c)}
        for c in CURRENCIES
        if certificate.costs[c] or c in case.costs
    }
    return {
        "learner": case.learner.label,
        "parameters": {name: case.learner.params[name] for name in case.learner.explicit},
        "toy": case.toy.name,
        "about": case.toy.what,
        "states": case.states,
        "grants": str(case.grants),
        "how": certificate.how,
        "runs": certificate.runs,
        "seconds": certificate.seconds,
        "margin": certificate.margin,
        "stated": None if certificate.stated is None else _distances(certificate.stated),
        "aimed": aimed,
        "costs": costs,
        "law": _law(certificate),
        "holds": certificate.holds,
        "faults": list(certificate.faults),
    }


def _distances(found: Distances) -> dict[str, Any]:
    return {"tv": found.tv, "kl": _finite(found.kl), "ratio": _finite(found.ratio)}


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _law(certificate: Certificate) -> list[dict[str, Any]]:
    """Probabilities of every output; last those of no output, or of all that are not told apart."""
    case = certificate.case
    laws: dict[str, Law | None] = {
        "found": certificate.law,
        "stated": case.law,
        "aimed": None if case.aim is None else case.aim.law,
        "own": certificate.output,
    }
    keys: dict[Tokens | None, None] = dict.fromkeys(case.toy.tree.outputs)
    for law in laws.values():
        keys |= dict.fromkeys(y for y in law or () if y is not None)
    if any(None in law for law in laws.values() if law):
        keys[None] = None
    return [
        {
            "output": None if y is None else list(y),
            **{name: None if law is None else law.get(y, 0.0) for name, law in laws.items()},
        }
        for y in keys
    ]


def uncertified() -> list[str]:
    """Learners of the registry that no case is about."""
    known = {case.method for case in cases_of()}
    return [name for name in list_learners() if name not in known]


def summary(methods: Sequence[str], found: Mapping[str, Sequence[Record]]) -> Record:
    """All records of some methods, in their order, and what they were made with."""
    learners = list_learners()
    records = [r for name in methods for r in found[name]]
    return {
        "kind": "certificates",
        "versions": {
            "reroot": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "holds": all(r["holds"] is not False for r in records),
        "exact": EXACT,
        "confidence": CONFIDENCE,
        "methods": [
            {
                "name": name,
                "about": learners[name].summary if name in learners else "",
                "certificates": list(found[name]),
            }
            for name in methods
        ],
        "without": uncertified(),
    }
