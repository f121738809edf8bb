"""Who is told of a training run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Callback = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Callbacks:
    """Functions that get each line of the journal as it is written.

    Attributes:
        step, evaluation: what a step or an evaluation has measured.
        event: something that deserves a look, in words.
    """

    step: Callback = lambda line: None
    evaluation: Callback = lambda line: None
    event: Callback = lambda line: None
