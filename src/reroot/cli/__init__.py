"""The command line: each command is one typed call of the library."""

from __future__ import annotations

from . import compare, reproduce, train, view  # each adds its commands to the app, in this order
from .app import main

__all__ = ["compare", "main", "reproduce", "train", "view"]
