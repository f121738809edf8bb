"""Answers: where they stand in a text, and when two are the same."""

from __future__ import annotations

from .rules import AnswerRule, Exact, GivesAnswer, MayGiveAnswer, equal, rule

__all__ = ["AnswerRule", "Exact", "GivesAnswer", "MayGiveAnswer", "equal", "rule"]
