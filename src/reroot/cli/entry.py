"""The entry point. It imports nothing before signals are heeded, so that Ctrl-C is never a traceback."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_KEPT = {  # what is left of a command that was ended
    **dict.fromkeys(
        ("compare", "certify", "diagnose", "reproduce", "run", "suite", "sweep", "train"),
        "run folders keep what is finished; the same command continues.",
    ),
    "serve": "what clients were told is written down; the same command goes on.",
}
_ASCII = str.maketrans({"…": "...", "−": "-", "–": "-", "—": "-", "·": ".", "×": "x", "─": "-"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with its status.

    Errors are one line and exit code 2. Ctrl-C and SIGTERM end a command in the same way, with 130
    and 143: what is finished is in its folder, and no worker process stays.
    """
    heard: list[int] = []

    def end(number: int, _frame: object) -> NoReturn:
        heard.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, end) for number in _SIGNALS}
    code = 0
    try:
        _degrade()
        from .commands import run

        code = run(arguments)
        print(end="", flush=True)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    except BaseException:
        if not heard:
            raise  # else it is the signal, or what a library has made of it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        given = sys.argv[1:] if arguments is None else arguments
        said = [_SIGNALS[signal.Signals(heard[0])], _KEPT.get(given[0] if given else "", "")]
        print(": ".join(filter(None, said)), file=sys.stderr)
        code = 128 + heard[0]
    if code:
        sys.exit(code)


def _degrade() -> None:
    """A terminal or file that cannot hold a character gets a plain one, or its escape."""
    codecs.register_error("reroot", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="reroot")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace"), error.end
