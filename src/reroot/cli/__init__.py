"""The command line: each command is one typed call of the library."""

from __future__ import annotations

from . import (  # each adds its commands to the app, in this order
    certify,
    compare,
    reproduce,
    train,
    view,
)
from .app import main

__all__ = ["certify", "compare", "main", "reproduce", "train", "view"]
