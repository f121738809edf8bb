"""The command line, called from tests."""

from __future__ import annotations

from reroot.cli import main


def call(*arguments: str) -> int:
    """Exit code of a command."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
