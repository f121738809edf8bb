"""A user's tasks: a Python file with a function, or a JSONL file of prompts and answers.

``path/to/file.py:function`` (``file.py`` alone: the function ``problems``) is called by keyword as
``function(horizon=…, count=…, seed=…)`` and returns a list of at most ``count`` ``Problem``. It may
be an object whose method ``problems`` does that. Settings (``file.py:function:digits=3``) are passed
as well.

``path/to/file.jsonl`` has one object per line::

    {"prompt": "Q: 2 + 2\\nA:", "answer": "4"}
    {"id": "sky", "prompt": "The sky is", "answer": "blue", "stop": [".", "\\n"], "max_tokens": 8}

An output is right when it says the answer, white space at the ends aside. Defaults: ``id`` is the
file's name and the line number; ``stop`` is the end of the line (nothing for answers of several
lines; ``[]`` says nothing); ``max_tokens`` leaves one token per character of the answer and some
slack.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import specs
from ..checks import check_int
from ..errors import InvalidInput, nearest
from ..randomness import keyed_rng, stream_key
from .base import ExactText, Problem, TextPrefix, stop_texts, whole_text

_FIELDS = ("prompt", "answer", "id", "max_tokens", "stop")
_SLACK = 4  # tokens beyond one per byte of the demonstration


@dataclass(frozen=True, slots=True)
class JsonlTask:
    """The lines of a JSONL file; the horizon knob maps to nothing.

    Attributes:
        name: the specification, which is the path.
        lines: the problems, in file order.
    """

    name: str
    lines: tuple[Problem, ...]

    @classmethod
    def read(cls, path: str) -> JsonlTask:
        """Read and check every line.

        Raises:
            InvalidInput: the file cannot be read, has no problem, or has a line that is no problem;
                the message names the file and the line.
        """
        problems: list[Problem] = []
        where: dict[str, int] = {}
        for number, line in enumerate(_read(path).split(b"\n"), start=1):
            if not line.strip():
                continue
            at = f"{path}, line {number}"
            problem = _problem(_parse(line, at), at, f"{Path(path).stem}/{number}")
            if problem.id in where:
                raise InvalidInput(f"{at}: id {problem.id!r} is taken by line {where[problem.id]}")
            where[problem.id] = number
            problems.append(problem)
        if not problems:
            raise InvalidInput(f"{path}: the file has no lines with a prompt and an answer")
        return cls(path, tuple(problems))

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` lines drawn without replacement by ``seed``, in file order; all if there are fewer."""
        horizon, count, seed = (
            check_int("horizon", horizon),
            check_int("count", count, 1),
            check_int("seed", seed),
        )
        order = keyed_rng(stream_key(seed, "jsonl", "order")).permutation(len(self.lines))
        return [replace(self.lines[i], horizon=horizon) for i in sorted(order[:count].tolist())]


@dataclass(frozen=True, slots=True)
class OwnTask:
    """Problems made by a user's function, checked.

    Attributes:
        name: the specification.
        function: called by keyword with horizon, count, seed and the settings.
        settings: further keyword arguments.
    """

    name: str
    function: Callable[..., Any]
    settings: Mapping[str, specs.Value] = field(default_factory=dict[str, specs.Value])

    @classmethod
    def of(cls, name: str, found: Any, settings: Mapping[str, specs.Value]) -> OwnTask:
        """The task that ``found`` is: a function, or an object with a method ``problems``.

        Raises:
            InvalidInput: it is neither.
        """
        function = getattr(found, "problems", found)
        if not callable(function) or isinstance(found, type):
            raise InvalidInput(
                f"task {name!r} must be a function (horizon, count, seed) or have a method "
                f"'problems', got {found!r}"
            )
        return cls(name, function, settings)

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """What the function returns, checked.

        Raises:
            InvalidInput: the function raises, or returns something else than a list of at least 1
                and at most ``count`` problems with distinct ids.
        """
        asked = {
            "horizon": check_int("horizon", horizon),
            "count": check_int("count", count, 1),
            "seed": check_int("seed", seed),
        }
        at = f"task {self.name!r}"
        made = specs.call(at, self.function, {**asked, **self.settings})
        if not isinstance(made, (list, tuple)):
            raise InvalidInput(
                f"{at} must return a list of Problem, got {type(made).__name__}: {made!r}"
            )
        for index, problem in enumerate(made):
            if not isinstance(problem, Problem):
                raise InvalidInput(
                    f"{at} must return a list of Problem; item {index} is {problem!r}"
                )
        if not 1 <= len(made) <= count:
            raise InvalidInput(f"{at} must return 1…{count} problems (count), got {len(made)}")
        distinct_ids(made, at)
        return list(made)


def distinct_ids(problems: Sequence[Problem], at: str) -> None:
    """Refuse two problems of one id (``InvalidInput``)."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise InvalidInput(f"{at}: two problems have the id {problem.id!r}")
        seen.add(problem.id)


def _read(path: str) -> bytes:
    try:
        return (
            Path(specs.check_text(path, "a task file")).read_bytes().removeprefix(b"\xef\xbb\xbf")
        )
    except OSError as error:
        raise InvalidInput(f"cannot read the task file {path!r}: {error.strerror}") from None


def _parse(line: bytes, at: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{at}: not UTF-8 text (byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:  # an integer of 5,000 digits among them
        raise InvalidInput(f"{at}: not a JSON object: {error}") from None
    if not isinstance(record, dict):
        raise InvalidInput(f"{at}: expected a JSON object with prompt and answer, got {record!r}")
    for name in record:  # other columns are welcome, misspelt ones are not
        hint = nearest(name, [f for f in _FIELDS if f not in record])
        if name not in _FIELDS and "Did you mean" in hint:
            raise InvalidInput(f"{at}: unknown field {name!r}.{hint}")
    return record


def _problem(record: dict[str, Any], at: str, default_id: str) -> Problem:
    for name in ("prompt", "answer"):
        if name not in record:
            raise InvalidInput(f"{at}: the field {name!r} is missing")
        if not isinstance(record[name], str) or not record[name].strip():
            raise InvalidInput(f"{at}: {name} must be a non-empty text, got {record[name]!r}")
    prompt, answer = record["prompt"], record["answer"].strip()
    stop = record.get("stop", [] if "\n" in answer else ["\n"])
    stop = stop_texts([stop] if isinstance(stop, str) else stop, at)
    inside = next((s for s in stop if 0 <= (answer + stop[0]).find(s) < len(answer)), None)
    if inside is not None:
        raise InvalidInput(f"{at}: the stop text {inside!r} occurs in the answer {answer!r}")
    for name in ("prompt", "answer", "id"):
        whole_text(record.get(name), f"{at}: {name}")
    id = record.get("id", default_id)
    if isinstance(id, bool) or not isinstance(id, (str, int)) or id == "":
        raise InvalidInput(f"{at}: id must be a non-empty text or an integer, got {id!r}")
    space = "" if prompt[-1].isspace() else " "
    demonstration = f"{space}{answer}{stop[0] if stop else ''}"
    most = record.get("max_tokens", len(demonstration.encode()) + _SLACK)
    return Problem(
        id=str(id),
        prompt=prompt,
        max_tokens=check_int(f"{at}: max_tokens", most, 1),
        reward=ExactText(answer),
        verifier=TextPrefix(answer, stop=stop),
        demonstration=demonstration,
        stop=stop,
        answer=answer,
    )
