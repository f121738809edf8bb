"""Paths of a command that are addresses (``s3://…``): it works on copies, fetched before and uploaded as it goes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from .console import PlainConsole


def with_addresses(
    function: Callable[..., Any], *, writes: str = "", reads: str = ""
) -> Callable[..., Any]:
    """The function of a command, which gets a path of this machine in place of every address.

    Args:
        function: the command.
        writes: the parameter whose folder is written: what is stored is continued, and uploaded.
        reads: the parameter whose folders are read: they are fetched.

    Raises:
        InvalidInput: another parameter is an address.
    """

    @functools.wraps(function)
    def called(*given: Any, **settings: Any) -> Any:
        with ExitStack() as held:
            for name, value in settings.items():
                paths = value if isinstance(value, list) else [value]
                if not any(isinstance(path, Path) and ":" in str(path) for path in paths):
                    continue
                local = [_local(held, path, name, writes, reads) for path in paths]
                settings[name] = local if isinstance(value, list) else local[0]
            return function(*given, **settings)

    return called


def _local(held: ExitStack, path: Path, name: str, writes: str, reads: str) -> Path:
    from ..runs.folder import address_of

    address = address_of(path)
    if address is None:
        return path
    from ..runs.shared import fetched, stored

    say = PlainConsole(stderr=True).say
    if name == writes:
        return held.enter_context(stored(address, told=say))
    if name == reads:
        return held.enter_context(fetched(address, told=say))
    raise InvalidInput(f"{name.replace('_', '-')} is a path of this machine, got {address}")
