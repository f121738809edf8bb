"""Sweeps: their table, in a terminal and on a page."""
