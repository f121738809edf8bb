"""The conformance kit: what every generator must honour, as checks that third parties inherit.

    class TestMine(GeneratorConformance):            # pytest finds the numbered test methods
        def make(self):
            return MyGenerator(...)

    check_generator(lambda: MyGenerator(...))        # the same checks outside pytest

The kit is itself tested on generators that are broken on purpose.
"""

from __future__ import annotations

from .base import Conformance
from .generators import GeneratorConformance, check_generator

__all__ = ["Conformance", "GeneratorConformance", "check_generator"]
