"""Problems and tasks: what is asked, and how outputs are judged."""

from __future__ import annotations

from .answers import equal
from .base import ExactText, Problem, Task, TextPrefix
from .judges import check, judge, score
from .registry import get_task, list_tasks, load

__all__ = [
    "ExactText",
    "Problem",
    "Task",
    "TextPrefix",
    "check",
    "equal",
    "get_task",
    "judge",
    "list_tasks",
    "load",
    "score",
]
