"""reroot: the generator interface as a first-class object in language-model post-training.

Importing this package loads nothing but its errors; everything else loads when first used, and
what users hold (contracts, sessions, exact generators) needs NumPy and nothing heavier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    AccessDenied,
    BackendError,
    BudgetExceeded,
    InvalidInput,
    MissingDependency,
    OracleError,
    RerootError,
    RunFolderError,
)

if TYPE_CHECKING:
    from . import (
        families,
        generators,
        learners,
        limits,
        objective,
        tasks,
        testing,
    )
    from .access.learner import learner
    from .access.runner import Attempt
    from .access.session import Session
    from .access.transcript import audit
    from .contract import Contract, Control, Oracle, Report, Sampling
    from .experiments import reproduce
    from .pages import write_report
    from .runs.compare import compare
    from .runs.run import RunResult, run
    from .tasks.base import Problem
    from .types import Budget, Cost, Finding, Output, Prefix, Query, Reply

_LAZY = {
    **dict.fromkeys(("Contract", "Control", "Oracle", "Report", "Sampling"), ".contract"),
    **dict.fromkeys(("Budget", "Cost", "Finding", "Output", "Prefix", "Query", "Reply"), ".types"),
    "Attempt": ".access.runner",
    "Problem": ".tasks.base",
    "RunResult": ".runs.run",
    "Session": ".access.session",
    "audit": ".access.transcript",
    "compare": ".runs.compare",
    "learner": ".access.learner",
    "reproduce": ".experiments",
    "run": ".runs.run",
    "write_report": ".pages",
}
_MODULES = frozenset(
    {"families", "generators", "learners", "limits", "objective", "tasks", "testing"}
)

__all__ = [
    "AccessDenied",
    "Attempt",
    "BackendError",
    "Budget",
    "BudgetExceeded",
    "Contract",
    "Control",
    "Cost",
    "Finding",
    "InvalidInput",
    "MissingDependency",
    "Oracle",
    "OracleError",
    "Output",
    "Prefix",
    "Problem",
    "Query",
    "Reply",
    "Report",
    "RerootError",
    "RunFolderError",
    "RunResult",
    "Sampling",
    "Session",
    "__version__",
    "audit",
    "compare",
    "families",
    "generators",
    "learner",
    "learners",
    "limits",
    "objective",
    "reproduce",
    "run",
    "tasks",
    "testing",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
