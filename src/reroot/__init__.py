"""reroot: the generator interface as a first-class object in language-model post-training.

Importing this package loads NumPy and nothing heavier; everything else loads when first used.
"""

from __future__ import annotations

from ._version import __version__
from .access.contract import Contract, Control, Oracle, Report, Sampling
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
from .types import Budget, Cost, Output, Prefix, Query, Reply

__all__ = [
    "AccessDenied",
    "BackendError",
    "Budget",
    "BudgetExceeded",
    "Contract",
    "Control",
    "Cost",
    "InvalidInput",
    "MissingDependency",
    "Oracle",
    "OracleError",
    "Output",
    "Prefix",
    "Query",
    "Reply",
    "Report",
    "RerootError",
    "RunFolderError",
    "Sampling",
    "__version__",
]
