"""``reasoning_gym:NAME[:param=value,...]``: the procedural data sets of reasoning-gym as tasks.

Source: Stojanovski et al., reasoning-gym (https://github.com/open-thought/reasoning-gym). Every data
set brings its own questions, reference answers and scorer; reroot adds the prompt format and the
rule that reads an answer out of an output.

Two settings are reroot's, everything else goes to the data set's configuration:

* ``style=raw`` (default): the question, then ``Answer:``; the output up to the end of the line is
  the answer (up to the end of the output where reference answers have several lines).
  ``style=chat``: the question and the request to put the answer between ``<answer>`` tags.
* ``max_tokens=N``: the most tokens of an output.

In both styles an output with ``<answer>…</answer>`` in it answers with the last of these, and any
other output answers with its whole text; white space at the ends does not count.

The horizon knob maps to nothing unless a parameter asks for it by the value ``horizon``, as in
``reasoning_gym:chain_sum:min_terms=horizon,max_terms=horizon``.

Some scorers (string_insertion, spiral_matrix, binary_matrix, n_queens, and those that use sympy's
parser) *evaluate* the answer as Python: judge outputs of a model you do not trust in a sandbox.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import specs
from ..checks import check_int
from ..errors import InvalidInput, MissingDependency, RerootError, nearest
from ..randomness import stream_key
from ..types import Output
from .base import Problem

PREFIX = "reasoning_gym:"
Request = tuple[str, tuple[tuple[str, specs.Value], ...]]
"""Data set name and configuration, sorted by parameter."""

_STYLES = ("raw", "chat")
_SET_BY_REROOT = ("seed", "size")
_CHAT_TOKENS = 512
_RAW_TOKENS = 64  # least horizon of a raw answer
_UNKNOWN_TOKENS = 256  # horizon of a raw answer without a reference

# Set iteration order, and with it some data sets' questions, depends on the process's hash seed:
# entries come from a child process with a fixed one, so that the same arguments give the same
# problems in every process.
_CHILD = """
import pickle, sys
requests, sys.path[:] = pickle.load(sys.stdin.buffer)
out, sys.stdout = sys.stdout.buffer, sys.stderr
import reasoning_gym
replies = []
for name, config in requests:
    try:
        data = reasoning_gym.create_dataset(name, **dict(config))
        replies.append(pickle.dumps([data[i] for i in range(len(data))]))
    except Exception as error:
        replies.append(f"{type(error).__name__}: {error}")
out.write(pickle.dumps(replies))
"""


@dataclass(frozen=True, slots=True)
class ReasoningGymTask:
    """One data set of reasoning-gym.

    Attributes:
        name: the specification it was made from.
        dataset: the data set's name.
        params: settings of the data set's configuration; the value ``"horizon"`` stands for the
            horizon knob.
        style: ``"raw"`` or ``"chat"``.
        max_tokens: most tokens of an output; ``None``: from the length of the reference answer.
    """

    name: str
    dataset: str
    params: tuple[tuple[str, specs.Value], ...] = ()
    style: str = "raw"
    max_tokens: int | None = None

    @classmethod
    def parse(cls, spec: str) -> ReasoningGymTask:
        """Read ``reasoning_gym:NAME[:param=value,...]``.

        Raises:
            MissingDependency: reasoning-gym is not installed.
            InvalidInput: no such data set or parameter, or a setting that cannot be read.
        """
        read = specs.parse(spec, "task")
        dataset, known = read.name.removeprefix(PREFIX), dataset_names()
        if dataset not in known:
            hint = nearest(dataset, known)
            raise InvalidInput(f"task {spec!r}: reasoning-gym has no data set {dataset!r}.{hint}")
        params = dict(read.settings)
        _check_names(spec, dataset, params)
        style = params.pop("style", "raw")
        if style not in _STYLES:
            raise InvalidInput(f"task {spec!r}: style must be raw or chat, got {style!r}")
        most = params.pop("max_tokens", None)
        if most is not None:
            most = check_int(f"task {spec!r}: max_tokens", most, 1)
        return cls(spec, dataset, tuple(params.items()), str(style), most)

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` entries of the data set, generated with a seed derived from ``seed``.

        A few data sets are generated as a whole, so entries may depend on ``count``. The data set's
        own scorer is the reward, an output passes at 1.0, and the reference answer is the
        demonstration where the scorer accepts it.

        Raises:
            InvalidInput: the data set cannot be built with these parameters.
        """
        request = self.request(horizon, count, seed)
        (made,) = generate([request])
        return self.wrap(made, horizon, seed, request)

    def request(self, horizon: int, count: int, seed: int) -> Request:
        """What ``generate`` makes this task's entries from."""
        horizon, count, seed = (
            check_int("horizon", horizon),
            check_int("count", count, 1),
            check_int("seed", seed),
        )
        config = {k: horizon if v == "horizon" else v for k, v in self.params}
        # Entry i of seed s is often entry 0 of seed s + i: neighbouring seeds would share entries.
        derived = stream_key(seed, self.dataset, "reasoning_gym")[0] % 2**31
        return self.dataset, tuple(sorted({**config, "seed": derived, "size": count}.items()))

    def wrap(self, made: bytes | str, horizon: int, seed: int, request: Request) -> list[Problem]:
        """The problems of one reply of ``generate``; arguments and errors as for ``problems``."""
        if isinstance(made, str):
            raise InvalidInput(f"task {self.name!r}: reasoning-gym cannot build it: {made}")
        name, config = request
        with contextlib.redirect_stdout(io.StringIO()):  # some data sets print while they work
            data = _package().create_dataset(name, **dict(config))
        return [
            self._problem(f"{self.name}/h{horizon}/s{seed}/{i}", horizon, Scored(data, entry))
            for i, entry in enumerate(pickle.loads(made))
        ]

    def _problem(self, id: str, horizon: int, reward: Scored) -> Problem:
        question, answer = str(reward.entry["question"]).rstrip(), reward.entry["answer"]
        known = isinstance(answer, str)
        line = self.style == "raw" and known and "\n" not in answer
        if self.style == "raw":
            prompt = f"{question}\nAnswer:"
            shown = f" {answer}" + ("\n" if line else "")
            most = max(_RAW_TOKENS, 2 * len(shown)) if known else _UNKNOWN_TOKENS
        else:
            prompt = f"{question}\n\nGive the final answer between <answer> and </answer>."
            shown = f"<answer>{answer}</answer>"
            most = _CHAT_TOKENS + (len(shown) if known else 0)
        right = known and reward(Output((), shown, complete=True)) >= 1.0
        return Problem(
            id=id,
            prompt=prompt,
            max_tokens=self.max_tokens or most,
            reward=reward,
            demonstration=shown if right else None,
            stop=("\n",) if line else (),
            horizon=horizon,
            answer=answer if known else "",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Outcome reward by a data set's own scorer.

    A scorer that raises has been given something that it cannot read as an answer: that scores 0.

    Attributes:
        data: the data set.
        entry: question, reference answer and what else the scorer needs.
    """

    data: Any = field(repr=False)
    entry: dict[str, Any]

    def __call__(self, output: Output) -> float:
        if not output.complete:
            return 0.0
        try:
            return float(self.data.score_answer(answer_in(output.text), self.entry))
        except (Exception, SystemExit):
            return 0.0


def answer_in(text: str) -> str:
    """What ``text`` answers: the last ``<answer>…</answer>`` in it, else all of it; stripped."""
    from reasoning_gym.utils import extract_answer

    tagged = extract_answer(text)
    return (text if tagged is None else tagged).strip()


def generate(requests: Sequence[Request]) -> list[bytes | str]:
    """For each request its pickled list of entries, or what went wrong as text.

    All are made in one child process (1–2 s to start).

    Raises:
        RerootError: the child process failed.
    """
    return list(_generate(tuple(requests)))


@lru_cache(maxsize=32)
def _generate(requests: tuple[Request, ...]) -> tuple[bytes | str, ...]:
    child = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD],
        input=pickle.dumps((requests, sys.path)),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
    )
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise RerootError(
            f"the process that generates reasoning-gym entries ended with {child.returncode}: {last[0]}"
        )
    return tuple(pickle.loads(child.stdout))


def _package():
    """The package, imported on first use (``MissingDependency`` if it is not there)."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingDependency(
            f"reasoning_gym tasks need the package reasoning-gym: pip install reroot[tasks] ({error})"
        ) from error
    return reasoning_gym


def dataset_names() -> list[str]:
    """The data sets of the installed package, sorted (``MissingDependency`` without it)."""
    spec = importlib.util.find_spec("reasoning_gym")
    if spec is None or spec.origin is None:
        _package()
    return sorted(_names_in(Path(str(spec and spec.origin)).parent))


@lru_cache
def _names_in(package: Path) -> frozenset[str]:
    """Read off the source: importing it takes two seconds, too long for a list or a refusal."""
    names: set[str] = set()
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for word in re.findall(r"""register_dataset\(\s*([\w"']+)""", text):
            constant = re.search(rf"""^{re.escape(word)} *= *["'](\w+)["']""", text, re.MULTILINE)
            if constant or word[0] in "\"'":
                names.add(constant[1] if constant else word.strip("\"'"))
    return frozenset(names)


def own_settings(dataset: str) -> dict[str, tuple[str, str]]:
    """Name → (meaning, default) of what a spec may set: reroot's two, then the data set's own."""
    config = _package().factory.DATASETS[dataset][1]
    own = {f.name: ("", "" if f.default is MISSING else str(f.default)) for f in fields(config)}
    reroots = {
        "style": ("raw: question and answer; chat: the answer between <answer> tags", "raw"),
        "max_tokens": ("most tokens of an output", "by the reference answer"),
    }
    return {**reroots, **{k: v for k, v in own.items() if k not in _SET_BY_REROOT}}


def _check_names(spec: str, dataset: str, params: Iterable[str]) -> None:
    known = own_settings(dataset)
    for name in params:
        if name in _SET_BY_REROOT:
            raise InvalidInput(
                f"task {spec!r}: {name!r} is set by the number of problems and the seed asked for"
            )
        if name not in known:
            hint = nearest(name, known)
            raise InvalidInput(f"task {spec!r}: {dataset} has no parameter {name!r}.{hint}")
