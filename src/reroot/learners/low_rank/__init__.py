"""Learners that return a law, learned from conditional probabilities or samples at chosen histories."""

from __future__ import annotations
