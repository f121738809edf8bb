"""All commands together, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..errors import RerootError
from . import (  # noqa: F401  they add their commands
    certify,
    check,
    compare,
    describe,
    diagnose,
    probe,
    reproduce,
    serve,
    show,
    sweep,
    train,
    view,
)
from .app import app
from .console import PlainConsole


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command; an error of the user's is one line and 2."""
    try:
        return app(args=arguments, standalone_mode=False) or 0
    except RerootError as error:
        message = str(error)
    except Exception as error:  # click's own; typer keeps its click in a private place
        if not hasattr(error, "format_message"):
            raise
        usage: Any = error
        if not (message := usage.format_message()):  # help has been asked for by giving nothing
            return 2
        message += _given(sys.argv[1:] if arguments is None else arguments, usage)
        if usage.ctx is not None:
            message += f" (see {usage.ctx.command_path} --help)"
    PlainConsole(stderr=True).say(f"error: {message}", "red")
    return 2


def _given(arguments: Sequence[str], usage: Any) -> str:
    """``", got 'x'"`` where an option's value is wrong: Typer's sentence does not say what it was."""
    names = getattr(getattr(usage, "param", None), "opts", ())
    values = [b for a, b in pairwise(arguments) if a in names]
    values += [a.partition("=")[2] for a in arguments if a.partition("=")[0] in names and "=" in a]
    return f", got {', '.join(map(repr, values))}" if values else ""
