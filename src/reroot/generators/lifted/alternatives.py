"""Other reductions than the one that a path of the price list names: fewer calls, or what is known besides."""

from __future__ import annotations

import math

from ...contract import Contract
from ...errors import InvalidInput
from . import formulas
from .place import Interface
from .pricing import InterfacePrice
from .sizes import Sizes
from .steps import Exactness, Step

BY = ("fewest", "masks", "image", "bans", "together")
"""What ``Lifted(by=…)`` takes."""

_REPLACED = ("anchored", "fewest", "raw", "bisection")


def replaced(price: InterfacePrice, by: str, sizes: Sizes, dimension: int) -> InterfacePrice:
    """``price`` with the row ``by`` in place of its row that makes laws by a bias.

    Args:
        by: one of ``BY``.
        sizes: where the price is worked out.
        dimension: d, of the image.

    Raises:
        InvalidInput: another name, or no law is made by a bias.
    """
    if by not in BY:
        raise InvalidInput(f"by must be one of {', '.join(BY)}, got {by!r}")
    at = next((i for i, step in enumerate(price.steps) if step.row in _REPLACED), None)
    if at is None:
        raise InvalidInput(f"{price} makes no law by a bias: by={by!r} has no place in it")
    old, k = price.steps[at], max(1, price.has.contract.report.top)
    wants, goal, vocab_size = old.wants, price.wants.contract.report, sizes.vocab_size
    exactness = Exactness.EXACT
    if by == "fewest":
        said, value, assumes = (
            "⌈(K − 1)/k⌉",
            formulas.fewest_calls(vocab_size, k),
            "b >= k; exact arithmetic",
        )
    elif by == "masks":
        said, value, assumes = "⌈(K − 1)/(k − 1)⌉", formulas.masked_calls(vocab_size, k), "masks"
    elif by == "image":
        said, value, assumes = (
            "⌈d/(k − 1)⌉",
            formulas.image_calls(dimension, max(2, k)),
            "image known",
        )
    elif by == "together":
        b = 1 if price.has.bias is None else price.has.bias.tokens
        value = formulas.bisection_floor(vocab_size, sizes.gap, sizes.epsilon, b)
        said, assumes, exactness = (
            "(K − 1)log(R/2ε)/log(b + 1) at least",
            "B >= R",
            Exactness.WITHIN,
        )
    else:
        if not goal.top or goal.has_law:
            raise InvalidInput(f"bans make lists longer, they do not give {goal}")
        said, value, assumes = (
            "⌈L/k⌉",
            formulas.longer_list_calls(goal.top, k),
            "bans on L − k tokens",
        )
        wants = Interface(Contract(wants.contract.control, goal, wants.contract.sampling))
    step = Step(by, wants, exactness, said, float(math.ceil(value)), assumes)
    return InterfacePrice(price.has, price.wants, (*price.steps[:at], step, *price.steps[at + 1 :]))
