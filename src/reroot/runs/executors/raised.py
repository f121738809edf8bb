"""Exceptions on their way from a worker to the process that gave it work."""

from __future__ import annotations

import pickle
import traceback

from ...errors import RerootError


def as_raised(error: BaseException) -> BaseException:
    """The exception as it can travel, with the place where it was raised as a note."""
    place = "".join(traceback.format_exception(error))
    try:
        found = pickle.loads(pickle.dumps(error))
    except Exception:  # its own pickling fails
        found = RerootError(f"{type(error).__name__}: {error}")
    found.add_note(f"in a worker:\n{place}")
    return found
