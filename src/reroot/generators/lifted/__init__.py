"""Stronger interfaces out of weaker ones: reductions, with what they cost."""

from __future__ import annotations

from .lifted import Lifted
from .narrowed import Narrowed, Used
from .place import Held, Interface, Place, interface_of
from .pricing import (
    InterfacePrice,
    Never,
    interface_price,
    interface_prices,
    lattice,
    open_pairs,
    settled,
)
from .server import Bias, LogitServer, TakesBias
from .sizes import Sizes
from .steps import Exactness, Step

__all__ = [
    "Bias",
    "Exactness",
    "Held",
    "Interface",
    "InterfacePrice",
    "Lifted",
    "LogitServer",
    "Narrowed",
    "Never",
    "Place",
    "Sizes",
    "Step",
    "TakesBias",
    "Used",
    "interface_of",
    "interface_price",
    "interface_prices",
    "lattice",
    "open_pairs",
    "settled",
]
