"""One exception root. Every error a user can meet names the value and what was expected."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import unicodedata
from collections.abc import Iterable


class RerootError(Exception):
    """Root of every error reroot raises on purpose."""


class InvalidInput(RerootError, ValueError):
    """A value at the boundary is not what was asked for."""


class AccessDenied(RerootError):
    """A query that the granted contract does not permit.

    Attributes:
        query: the refused query, as text.
        rule: the rule that refused it.
        weakest: the weakest contract, as text, under which it would have been permitted.
    """

    def __init__(self, query: str, rule: str, weakest: str) -> None:
        super().__init__(
            f"refused {query}: {rule}. The weakest contract that allows it: {weakest}."
        )
        self.query = query
        self.rule = rule
        self.weakest = weakest

    def __reduce__(self) -> tuple[type[AccessDenied], tuple[str, str, str]]:
        return AccessDenied, (self.query, self.rule, self.weakest)


class BudgetExceeded(RerootError):
    """A query whose worst case does not fit into what is left of the budget.

    Nothing was asked and nothing was charged; the learner may ask for less, or return what it has.

    Attributes:
        currency: which budget (a field of ``Budget``).
        requested: the worst-case cost of the refused request (US dollars: rounded).
        remaining: what was left.
    """

    whose = "the budget"

    def __init__(self, currency: str, requested: float, remaining: float) -> None:
        super().__init__(
            f"the request may cost {requested:,} {currency}, but {remaining:,} are left of {self.whose}"
        )
        self.currency = currency
        self.requested = requested
        self.remaining = remaining

    def __reduce__(self) -> tuple[type[BudgetExceeded], tuple[str, float, float]]:
        return type(self), (self.currency, self.requested, self.remaining)


class AccountExceeded(BudgetExceeded):
    """The same, where what is short is not an attempt's own budget but the account of its key at a server,
    which all attempts share. To a learner it is like the other; an attempt that met it tells nothing of
    its learner."""

    whose = "the key's account"


class OracleError(RerootError):
    """A reward, verifier or demonstration supplied by a task raised or returned a non-answer."""


class BackendError(RerootError):
    """A generator failed, or answered something that breaks the generator protocol."""


class WorkerDied(RerootError):
    """Processes that were to work died, again and again, with the same work or before any."""


class RunFolderError(RerootError):
    """A run folder cannot be written, or holds a run with another configuration."""


class OtherRun(RunFolderError):
    """A run folder holds a run with another configuration."""


class MissingDependency(RerootError, ImportError):
    """An optional dependency is not installed; the message says which group brings it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the known name nearest to ``name``, else the list of names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names)}." if names else ""


_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Control, format (bidi among them), surrogates, separators."""
_SUSPECT = re.compile(r"[^\n\t -~]")


def visible(text: str) -> str:
    """Text of anybody's making, safe to show: what controls a terminal or a page becomes its escape.

    New lines and tabs stay. Idempotent.
    """
    return _SUSPECT.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    c = found[0]
    return c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in _UNSEEN else c


def need(group: str, *packages: str) -> None:
    """Refuse, with the command to run, if one of ``packages`` is not installed.

    Args:
        group: the optional group that brings them.

    Raises:
        MissingDependency: one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"this needs {', '.join(missing)}: pip install 'reroot[{group}]'")


class Shown:
    """What a notebook shows as HTML. Who draws it, a page, builds on all there is, so it is found by name."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return importlib.import_module("reroot.pages.notebook").html_of(self)
