"""Reward-guided exploration with a generator: core sets of features, and what little reward they need."""

from __future__ import annotations
