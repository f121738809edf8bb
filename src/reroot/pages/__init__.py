"""What a comparison shows: summary.json, a table for the terminal, one self-contained page."""

from __future__ import annotations

from .comparison.page import write_report
from .comparison.terminal import terminal_table

__all__ = ["terminal_table", "write_report"]
