"""Attempts as JSON values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from ..types import Cost, Prefix
from .attempt import Attempt
from .failures import Failure

MOST = 2**63  # integers beyond do not fit into tables
_TEXTS = ("key", "problem", "learner", "contract", "text")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, (str,)),
    "stopped": (str, type(None)),
    "seed": (int,),
    "output": (list, type(None)),
    **dict.fromkeys(("complete", "passed"), (bool,)),
    "accepted": (bool, type(None)),
    **dict.fromkeys(("reward", "surprisal"), (float, type(None))),
    **dict.fromkeys(("cost", "metadata"), (dict,)),
    "error": (dict, type(None)),
}


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON values."""
    return {
        **{name: getattr(attempt, name) for name in _TYPES},
        "cost": attempt.cost.to_dict(),
        "output": None if attempt.output is None else list(attempt.output.tokens),
        "error": None if attempt.error is None else asdict(attempt.error),
    }


def attempt_from_json(data: dict[str, Any]) -> Attempt:
    """The inverse of ``attempt_to_json``; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none."""
    for name, types in _TYPES.items():
        if type(data[name]) not in types:
            raise ValueError(f"{name} is {data[name]!r:.80}")
    for name in _TEXTS:
        cast("str", data[name]).encode("utf-8")  # no lone surrogates
    output, cost = data["output"], cast("dict[str, Any]", data["cost"])
    if not all(type(n) is int and 0 <= n < MOST for n in (*cost.values(), *(output or ()))):
        raise ValueError(f"tokens and costs must be integers in 0…2**63−1: {output} {cost}"[:200])
    given: dict[str, Any] = {
        **data,
        "output": None if output is None else Prefix(tuple(output)),
        "error": None if data["error"] is None else Failure(**data["error"]),
        "cost": Cost(**cost),
    }
    return Attempt(**given)
