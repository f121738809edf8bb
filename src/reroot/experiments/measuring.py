"""How experiments say their settings, and run a learner on many secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, Signature
from typing import Any

import numpy as np

from ..access.learner import BoundLearner
from ..families.many import ensemble
from ..generators.base import Generator
from ..runs.run import RunResult, run
from .base import Row, Setting


def setting_of(kind: str, names: str, **usual: object) -> Callable[..., Setting]:
    """Makes settings of one kind: ``setting_of("walk", "K H", first=0)(16, 4)``."""
    named = dict.fromkeys(names.split(), Parameter.empty) | usual
    signature = Signature(
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=x) for name, x in named.items()]
    )

    def made(*values: object, **more: object) -> Setting:
        given = signature.bind(*values, **more)
        given.apply_defaults()
        return {"kind": kind, **given.arguments}

    return made


def by_kind(**kinds: Callable[[Setting], Iterable[Row]]) -> Callable[[Setting], list[Row]]:
    """What measures settings of several kinds."""
    return lambda s: list(kinds[s["kind"]](s))


def run_each(
    learner: BoundLearner, secrets: Sequence[Generator], seed: int, grants: str = "", **more: Any
) -> RunResult:
    """One attempt on each secret, under ``grants`` or just what the learner requires.

    Errors are recorded: the checks count them.
    """
    laws = ensemble(secrets)
    more = {"grants": grants or str(learner.requires), "on_error": "record", **more}
    return run(learner, laws.problems(), laws, seed=seed, **more)


def account(result: RunResult) -> Row:
    """What the attempts found, and the queries they took."""
    queries = [a.cost.queries for a in result.attempts]
    return {
        "passed": sum(a.passed for a in result.attempts),
        "queries": float(np.mean(queries)),
        "least": min(queries),
        "most": max(queries),
        "errors": sum(a.error is not None for a in result.attempts),
    }
