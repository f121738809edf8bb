"""Stronger interfaces out of weaker ones: reductions, with what they cost."""

from __future__ import annotations

from .narrowed import Narrowed, Used
from .place import Held, Interface, Place, interface_of
from .server import Bias, LogitServer, TakesBias

__all__ = [
    "Bias",
    "Held",
    "Interface",
    "LogitServer",
    "Narrowed",
    "Place",
    "TakesBias",
    "Used",
    "interface_of",
]
