"""What went wrong, as plain data: no object of whoever raised it travels with it."""

from __future__ import annotations

import site
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from .. import errors
from ..errors import BackendError, OracleError

_MOST_TEXT = 4000  # characters of an error that are kept
_OWN = f"{Path(__file__).parents[1]}/"
_LIBRARIES = tuple(
    f"{path}/"
    for path in {
        *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
        *site.getsitepackages(),
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        kind: name of the exception's type; ``"stalled"`` if nothing was raised.
        message: what it said.
        who: whose fault it is: ``"learner"``, ``"generator"``, ``"task"`` or ``"reroot"``.
        file, line: where it was raised: in code of the user, if any took part.
    """

    kind: str
    message: str
    who: str = "learner"
    file: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The inverse of ``Failure(**data)``."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.kind}: {self.message}" if self.message else self.kind
        if self.file is None or hasattr(errors, self.kind):  # reroot's own say where by themselves
            return text
        return f"{text} (line {self.line} of {self.file})"


def failure_of(error: BaseException) -> Failure:
    """An exception as data, whatever its own methods do; of a group, the first error's place."""
    try:
        first, message = next(leaves(error)), _text(error)
        if first is not error:
            message = f"{message}: {type(first).__name__}: {_text(first)}"
        file, line = _place((first.__cause__ or first).__traceback__)
        who = "generator" if isinstance(first, BackendError) else "learner"
        who = "task" if isinstance(first, OracleError) else who
        return Failure(readable(type(error).__name__), readable(message), who, file, line)
    except BaseException:  # the error's own methods fail
        return Failure("Exception", "an error that can't be shown")


def backend_error(error: Exception) -> BackendError:
    """An error of a generator, as attempts and records tell it."""
    if isinstance(error, BackendError):
        return error
    wrapped = BackendError(f"the generator failed: {failure_of(error)}")
    wrapped.__cause__ = error
    return wrapped


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of errors; an error that is no group is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for part in cast("tuple[BaseException, ...]", error.exceptions):  # pyright: ignore[reportUnknownMemberType]
        yield from leaves(part)


def readable(text: str) -> str:
    """``text`` as UTF-8 can hold it, and no subclass of it: lone surrogates are written out."""
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def _text(error: BaseException) -> str:
    return readable(str(error))[:_MOST_TEXT]


def _place(traceback: TracebackType | None) -> tuple[str | None, int | None]:
    """The innermost line of the user's own code; failing that outside reroot; failing that any."""
    best: tuple[int, str | None, int | None] = (-1, None, None)
    while traceback is not None:
        file = readable(traceback.tb_frame.f_code.co_filename)
        rank = 0 if file.startswith(_OWN) else 1 if file.startswith(_LIBRARIES) else 2
        if rank >= best[0]:
            best = (rank, file, traceback.tb_lineno)
        traceback = traceback.tb_next
    return best[1:]
