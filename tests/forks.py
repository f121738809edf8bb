"""A process that has imported what programs need, and forks them: a start costs nothing, and can be killed.

Tests that kill a program again and again at any moment would otherwise spend their time importing it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_SERVER = """
import json, os, sys
exec(json.loads(sys.stdin.readline()))
print("ready", flush=True)
for line in sys.stdin:
    if line in ("poll\\n", "wait\\n"):
        found, status = os.waitpid(child, os.WNOHANG if line == "poll\\n" else 0)
        print(os.waitstatus_to_exitcode(status) if found else "runs", flush=True)
        continue
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        code = 1
        try:
            exec(json.loads(line), {"__name__": "__main__"})
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
"""


class Forks:
    """Forks programs, one at a time.

    Args:
        imports: Python statements run once, before the first fork. They must start no thread.
        path: folders that go before ``sys.path``.
    """

    def __init__(self, imports: str, path: Sequence[object] = ()) -> None:
        self._server: Any = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._child = 0
        self._ended: int | None = None
        self._tell(f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n" + imports)

    def __enter__(self) -> Forks:
        """Wait for the imports; they run from the start on, beside whatever is done before."""
        assert self._hear() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def start(self, program: str) -> None:
        """Run Python statements in a fork."""
        self._tell(program)
        self._child, self._ended = int(self._hear()), None

    def kill(self) -> None:
        if self._ended is None:
            os.kill(self._child, signal.SIGKILL)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; ``None`` while it runs."""
        return self._status("poll\n")

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self._status("wait\n")
        assert code is not None
        return code

    def _status(self, question: str) -> int | None:
        if self._ended is None:
            self._server.stdin.write(question)
            self._server.stdin.flush()
            answer = self._hear()
            self._ended = None if answer == "runs" else int(answer)
        return self._ended

    def _tell(self, text: str) -> None:
        self._server.stdin.write(json.dumps(text) + "\n")
        self._server.stdin.flush()

    def _hear(self) -> str:
        return self._server.stdout.readline().strip()
