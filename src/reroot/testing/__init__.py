"""The conformance kit: what every generator must honour, as checks that third parties inherit.

    class TestMine(GeneratorConformance):            # pytest finds the numbered test methods
        def make(self):
            return MyGenerator(...)

    check_generator(lambda: MyGenerator(...))        # the same checks outside pytest

The kit is itself tested on generators that are broken on purpose. ``enumerate_runs`` gives the exact
law of what a learner does: see ``enumeration``.
"""

from __future__ import annotations

from ..runs.enumerated import (
    EnumeratedRun,
    enumerate_runs,
    largest_difference,
    law_of,
    output_law,
    total_variation,
)
from .base import Conformance
from .generators import GeneratorConformance, check_generator

__all__ = [
    "Conformance",
    "EnumeratedRun",
    "GeneratorConformance",
    "check_generator",
    "enumerate_runs",
    "largest_difference",
    "law_of",
    "output_law",
    "total_variation",
]
