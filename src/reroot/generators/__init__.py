"""Generators: anything that answers requests about an autoregressive law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..types.account import Prices
from .base import Capabilities, ConcurrentGenerator, Generator, Request, ShowsHiddenStates
from .ensemble import Ensemble
from .layered import LayeredTree
from .lifted import (
    Bias,
    Interface,
    InterfacePrice,
    Lifted,
    LogitServer,
    Narrowed,
    Never,
    Sizes,
    interface_price,
    interface_prices,
)
from .linear_softmax import LinearSoftmax
from .ngram import CharNgram
from .operators import Operators
from .reward_models import RewardModel
from .softmax_policy import SoftmaxPolicy
from .stepping import SteppingGenerator
from .stops import Pieces, Stop
from .tabular import IntegerGenerator, Tabular

if TYPE_CHECKING:
    from .gguf import GGUF
    from .remote import Remote
    from .transformers import Transformers

__all__ = [
    "GGUF",
    "Bias",
    "Capabilities",
    "CharNgram",
    "ConcurrentGenerator",
    "Ensemble",
    "Generator",
    "IntegerGenerator",
    "Interface",
    "InterfacePrice",
    "LayeredTree",
    "Lifted",
    "LinearSoftmax",
    "LogitServer",
    "Narrowed",
    "Never",
    "Operators",
    "Pieces",
    "Prices",
    "Remote",
    "Request",
    "RewardModel",
    "ShowsHiddenStates",
    "Sizes",
    "SoftmaxPolicy",
    "SteppingGenerator",
    "Stop",
    "Tabular",
    "Transformers",
    "interface_price",
    "interface_prices",
]


def __getattr__(name: str) -> Any:
    """Language models, and what reaches those of others, are loaded when they are asked for.

    Raises:
        MissingDependency: torch or transformers is not installed.
    """
    if name == "GGUF":
        from .gguf import GGUF

        return GGUF
    if name == "Remote":
        from .remote import Remote

        return Remote
    if name != "Transformers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .transformers import Transformers

    return Transformers
