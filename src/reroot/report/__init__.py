"""What a comparison shows: summary.json, a table for the terminal, one self-contained page."""

from __future__ import annotations

from .page import write_report
from .summary import summarize
from .terminal import terminal_table

__all__ = ["summarize", "terminal_table", "write_report"]
