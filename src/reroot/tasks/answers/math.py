"""Mathematical equality by math-verify, in a child process that can be stopped.

math-verify limits its time by a signal, which only a main thread gets and which cannot interrupt
one long operation (a power tower). The child has a main thread; what takes longer than twice the
limit ends with the child, and counts as not equal.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
from functools import lru_cache

from ...errors import RerootError, need
from .extract import plain

LIMIT = 5
"""Seconds that math-verify may take to read an expression, and again to compare two."""

_CHILD = """
import json, logging, sys
logging.disable(logging.CRITICAL)
sys.set_int_max_str_digits(100_000)
from math_verify import parse, verify
LIMIT = int(sys.argv[1])
def read(text, whole):
    found = parse(r"\\\\boxed{" + text + "}", parsing_timeout=LIMIT) if whole else []
    return found or parse(text, parsing_timeout=LIMIT)
for line in sys.stdin:
    answer, found, whole = json.loads(line)
    try:
        same = bool(verify(read(answer, True), read(found, whole), timeout_seconds=LIMIT))
    except Exception:
        same = False
    print(int(same), flush=True)
"""


def _is_prose(text: str) -> bool:
    """Whether ``text`` has words or lines around an expression, which math-verify must look for."""
    bare = re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", " ", text)
    return "\n" in text or re.search(r"[A-Za-z]{2,} +[A-Za-z]{2,}", bare) is not None


class _Child:
    """The process that compares, made when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def same(self, answer: str, found: str) -> bool:
        with self._lock:
            process = self._alive()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([answer, found, not _is_prose(found)]) + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], 4 * LIMIT)
                said = process.stdout.readline() if ready else ""
            except BrokenPipeError:
                said = ""
            except BaseException:  # an interrupt: its answer must not be taken for the next one's
                self.stop()
                raise
            if not said:
                self.stop()
            return said.strip() == "1"

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(LIMIT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_child = _Child()
atexit.register(_child.stop)
os.register_at_fork(after_in_child=_child.__init__)  # pipes are not shared


_WRITTEN = (  # what math-verify reads otherwise than it is meant
    (re.compile(r"(?<=\d)\\[,!](?=\d{3})"), ""),
    (re.compile(r"(?<=\d)\s?°"), r"^\\circ"),
    (re.compile(r"√\s?(\w+|\([^()]*\))"), r"\\sqrt{\1}"),
    (re.compile(r"\\varnothing|∅"), r"\\emptyset"),
    (re.compile(r"[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"^(\d+) (\d+)/(\d+)$"), r"\1\\frac{\2}{\3}"),
)


_BASED = re.compile(r"([0-9A-F]+)(?:_\{?(\d+)\}?)?")
_UNITED = re.compile(r"([-+]?\\?\$?\d[\d,]*(?:\.\d+)?)(?:\s[A-Za-z]{2,}){1,2}")  # "4 dollars"


def _written(text: str) -> str:
    """``text`` in the one of its spellings that is understood."""
    text = text.strip()
    for pattern, instead in _WRITTEN:
        text = pattern.sub(instead, text)
    return text


@lru_cache(maxsize=65536)
def math_same(answer: str, found: str) -> bool:
    """Whether two expressions, LaTeX or plain, are equal.

    Args:
        answer: the right one.
        found: an expression, or a text with one in it.

    Raises:
        MissingDependency: math-verify is not installed.
        RerootError: the child process cannot be started.
    """
    answer, found = _written(answer), _written(found)
    based, in_base = _BASED.fullmatch(answer), _BASED.fullmatch(found.strip("$ "))
    if based and in_base and based[2]:  # math-verify drops subscripts: 2516_8 would be 2516_9
        return based[1] == in_base[1] and in_base[2] in (None, based[2])
    united = _UNITED.fullmatch(found)
    if united and not re.search(r"[A-Za-z]", answer):
        found = united[1]
    if plain(answer) == plain(found):
        return True
    need("tasks", "math_verify")
    try:
        return _child.same(answer, found)
    except OSError as error:
        raise RerootError(f"the process that compares mathematics cannot run: {error}") from None
