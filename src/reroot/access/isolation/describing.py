"""What a learner is, told by a process of its own: none of its code runs in the run's process."""

from __future__ import annotations

import select
import time
from typing import Any, cast

from ... import specs
from ...contract import Contract
from ...errors import InvalidInput, visible
from ..learner import BoundLearner
from ..session import Session
from .frames import Broken, packed, unpacked
from .starting import Launcher

_PATIENCE = 60.0
"""Seconds of processor time, and by the clock, that loading a learner may take."""


def described(launcher: Launcher, spec: str) -> BoundLearner:
    """The learner that a spec names, for a run in which it runs elsewhere.

    Raises:
        InvalidInput: it cannot be loaded, or what it tells of itself is no learner.
    """
    given = specs.parse(spec, "learner").settings
    told = _asked(launcher, spec)
    if "error" in told:
        raise InvalidInput(visible(str(told["error"])[:4000]))
    name, requires, origin, code = (told.get(n) for n in ("name", "requires", "origin", "code"))
    texts = (name, requires, origin, code)
    params = told.get("params")
    if not all(isinstance(text, str) for text in texts) or not isinstance(params, dict):
        raise InvalidInput(f"learner {spec!r} told nothing of itself that a learner is")
    shown = cast("dict[str, Any]", params)
    if not all(isinstance(value, str) for value in shown.values()):
        raise InvalidInput(f"learner {spec!r} told parameters that are no text")
    if not str(name).isidentifier() or not given.keys() <= shown.keys():
        raise InvalidInput(f"learner {spec!r} told a name or parameters that it does not have")
    return BoundLearner(
        str(name),
        {key: given.get(key, value) for key, value in shown.items()},
        Contract.parse(str(requires)),
        _elsewhere,
        tuple(key for key in shown if key in given),
        str(origin) and specs.parse(spec, "learner").name,
        str(code)[:64],
    )


async def _elsewhere(session: Session, **params: object) -> None:
    raise InvalidInput("this learner runs in processes of its own alone")


def _asked(launcher: Launcher, spec: str) -> dict[str, Any]:
    number, line = launcher.start(int(_PATIENCE))
    buffer, until = bytearray(), time.monotonic() + _PATIENCE
    try:
        line.send(packed({"describe": spec}))
        while time.monotonic() < until:
            select.select([line], [], [], max(0.0, until - time.monotonic()))
            more = line.recv(1 << 16)
            buffer += more
            told = unpacked(buffer)
            if isinstance(told, dict):
                return cast("dict[str, Any]", told)
            if not more or told is not None:
                break
    except (OSError, Broken) as error:
        raise InvalidInput(f"learner {spec!r} cannot be loaded: its process: {error}") from None
    finally:
        line.close()
        launcher.end(number, kill=True)
    raise InvalidInput(f"learner {spec!r} cannot be loaded: its process told nothing")
