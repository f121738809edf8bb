"""Conformance kits: what every generator, learner, task and strategy must honour, for third parties.

    class TestMine(GeneratorConformance):            # pytest finds the numbered test methods
        def make(self):
            return MyGenerator(...)

    check_generator(lambda: MyGenerator(...))        # the same checks outside pytest
    check_learner("my_file.py:my_learner")
    check_task("my_file.py:problems")
    check_strategy(MyStrategy)

Each check is itself tested on something that is broken on purpose. ``enumerate_runs`` gives the exact
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
from .learners import LearnerConformance, check_learner
from .strategies import StrategyConformance, check_strategy
from .tasks import TaskConformance, check_task

__all__ = [
    "Conformance",
    "EnumeratedRun",
    "GeneratorConformance",
    "LearnerConformance",
    "StrategyConformance",
    "TaskConformance",
    "check_generator",
    "check_learner",
    "check_strategy",
    "check_task",
    "enumerate_runs",
    "largest_difference",
    "law_of",
    "output_law",
    "total_variation",
]
