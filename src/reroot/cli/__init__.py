"""The command line: each command is one typed call of the library."""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
