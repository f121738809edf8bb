"""``reroot.diagnose``: why a reward is zero, what would change it, and what that would cost."""

from __future__ import annotations

from .diagnose import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
