"""The command line: each command is one typed call of the library."""

from __future__ import annotations

from . import (
    certify,
    compare,
    reproduce,
    train,
    view,
)  # each adds its commands to the app, in this order
from .app import main

__all__ = ["certify", "compare", "main", "reproduce", "train", "view"]
