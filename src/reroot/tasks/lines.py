"""Which problems are one and the same line, whatever seed drew them: a cluster of their attempts."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from ..types import Chat
from .base import Problem


def prompt_words(prompt: str | tuple[int, ...] | Chat) -> str:
    """A text that two prompts share when they differ in white space, case and punctuation alone."""
    if isinstance(prompt, tuple):
        return repr(prompt)
    text = unicodedata.normalize("NFKC", str(prompt)).casefold()
    words = re.findall(r"[^\W_]+|[+*/=<>^%-]", text)
    return " ".join(words) or str(prompt)


def line_of(prompt: str | tuple[int, ...] | Chat) -> str:
    """16 hexadecimal digits of a line of data: the same for repeated prompts, whatever their answers."""
    return _digest(prompt_words(prompt))


def content_of(problem: Problem) -> str:
    """The cluster of a problem that nobody says to be drawn afresh for each seed.

    It is the problem's own ``cluster`` where it has one; else problems with the same prompt, answer and
    demonstration are one. Where the prompt is empty, or there is neither answer nor demonstration,
    the ids must be the same too.
    """
    if problem.cluster:
        return problem.cluster
    known = problem.prompt and (problem.answer or problem.demonstration is not None)
    told = (problem.answer, problem.demonstration, "" if known else problem.id)
    return _digest(f"{prompt_words(problem.prompt)}\n{told!r}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
