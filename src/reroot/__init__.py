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
    AccountExceeded,
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
        certify,
        diagnosis,
        families,
        generators,
        learners,
        limits,
        objective,
        pages,
        probe,
        tasks,
        testing,
        training,
    )
    from .access.audit import audit
    from .access.learner import learner
    from .access.runner import Attempt
    from .access.session import Session
    from .cli.describe import describe
    from .contract import Contract, Control, Oracle, Report, Sampling
    from .experiments import reproduce
    from .pages import report
    from .runs.compare import Comparison, compare
    from .runs.diagnosing import Diagnosis, diagnose
    from .runs.record_folders import attempts
    from .runs.run import RunResult, run
    from .runs.shared import fetched, stored
    from .runs.task_check import check
    from .runs.values import with_value
    from .serving.client import connect
    from .tasks.base import Problem, Task
    from .training import train
    from .types import Budget, Chat, Cost, Finding, Output, Prefix, Query, Reply

_LAZY = {
    **dict.fromkeys(("Contract", "Control", "Oracle", "Report", "Sampling"), ".contract"),
    **dict.fromkeys(
        ("Budget", "Chat", "Cost", "Finding", "Output", "Prefix", "Query", "Reply"), ".types"
    ),
    **dict.fromkeys(("Comparison", "compare"), ".runs.compare"),
    **dict.fromkeys(("Diagnosis", "diagnose"), ".runs.diagnosing"),
    **dict.fromkeys(("Problem", "Task"), ".tasks.base"),
    **dict.fromkeys(("RunResult", "run"), ".runs.run"),
    **dict.fromkeys(("fetched", "stored"), ".runs.shared"),
    "Attempt": ".access.runner",
    "Session": ".access.session",
    "attempts": ".runs.record_folders",
    "audit": ".access.audit",
    "connect": ".serving.client",
    "check": ".runs.task_check",
    "describe": ".cli.describe",
    "learner": ".access.learner",
    "report": ".pages",
    "reproduce": ".experiments",
    "train": ".training",
    "with_value": ".runs.values",
}
"""Where what users hold is; each command has a function of its name here, but for ``certify`` and ``probe``,
which their packages hold, and ``list``."""

_PACKAGES = frozenset(
    {
        *("certify", "diagnosis", "families", "generators", "learners", "limits", "objective"),
        *("pages", "probe", "tasks", "testing", "training"),
    }
)

__all__ = [
    "AccessDenied",
    "AccountExceeded",
    "Attempt",
    "BackendError",
    "Budget",
    "BudgetExceeded",
    "Chat",
    "Comparison",
    "Contract",
    "Control",
    "Cost",
    "Diagnosis",
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
    "Task",
    "__version__",
    "attempts",
    "audit",
    "certify",
    "check",
    "compare",
    "connect",
    "describe",
    "diagnose",
    "diagnosis",
    "families",
    "fetched",
    "generators",
    "learner",
    "learners",
    "limits",
    "objective",
    "pages",
    "probe",
    "report",
    "reproduce",
    "run",
    "stored",
    "tasks",
    "testing",
    "train",
    "training",
    "with_value",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
