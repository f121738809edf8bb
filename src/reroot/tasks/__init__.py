"""Problems and tasks: what is asked, and how outputs are judged."""

from __future__ import annotations

from .base import Problem, Task, check, score
from .registry import get_task, list_tasks

__all__ = ["Problem", "Task", "check", "get_task", "list_tasks", "score"]
