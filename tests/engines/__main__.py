"""``python -m engines DIALECT [--port N] [--set flag=value …]``: a server in a process of its own."""

from __future__ import annotations

import argparse
from typing import Any

from .behaviour import HONEST, behaviour
from .server import Server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dialect", choices=sorted(HONEST))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--misbehaviour", action="append", default=[])
    parser.add_argument("--set", action="append", default=[], help="flag=number")
    parser.add_argument("--end", type=float, help="mean probability of the end token")
    given = parser.parse_args()
    pairs = (item.partition("=")[::2] for item in given.set)
    changes: dict[str, Any] = {
        name: int(value) if value.isdigit() else float(value) for name, value in pairs
    }
    if given.end is not None:
        changes["language"] = {"end": given.end}
    server = Server(behaviour(given.dialect, *given.misbehaviour, **changes), port=given.port)
    print(server.url, flush=True)
    server.run()


main()
