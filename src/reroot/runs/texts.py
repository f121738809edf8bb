"""The text beside token ids: what was asked, what tokens say, where outputs went wrong.

texts.jsonl holds, one sealed line each and append-only,

{"problem": …}  a prompt, its length in tokens, the answer wanted and the tokens of a demonstration
{"tokens": …}   token id → its text, of tokens that an output or a kept transcript names; ``between``
                stands between the texts of two, as the spaces of exact families do
{"key": …}      of an attempt: the pieces of its output, where tokens by themselves say something else,
                and the first token that the problem's verifier rejects

Its size is bounded: a line per problem, each token's text once, and no more than a line per attempt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..access.attempt import Attempt, Job
from ..access.episode import Episode
from ..access.failures import readable
from ..access.sealing import read_sealed, sealed
from ..generators.base import Generator
from ..tasks import judges
from ..tasks.base import Problem
from ..tasks.calls import is_async
from .folder import GrowingFile, cut_unfinished_line
from .numbered import Numbered
from .prefix_trees import named_tokens

TEXTS = "texts.jsonl"
_MOST = 2048
"""Tokens of an output up to which its pieces are found one by one, where that is needed."""
_LISTED = 2**40  # more than there are jobs in a list
_TOGETHER = 1000  # lines that are written together


@dataclass(slots=True)
class Texts:
    """What a folder's ``texts.jsonl`` says.

    Attributes:
        problems: problem id → ``prompt``, ``prompt_tokens``, ``answer``, ``horizon``, ``demonstration``.
        tokens: token id → its text.
        between: what stands between the texts of two tokens.
        attempts: attempt key → ``pieces`` and ``rejected``, where there is something to say.
    """

    problems: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    tokens: dict[int, str] = field(default_factory=dict[int, str])
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    between: str = ""

    def take(self, line: dict[str, Any]) -> None:
        """Add what a line says."""
        if "tokens" in line:
            self.tokens.update({int(token): text for token, text in line["tokens"].items()})
            self.between = line.get("between", "")
        elif "problem" in line:
            self.problems[line["problem"]] = line
        else:
            self.attempts[line["key"]] = line

    def pieces(self, key: str, tokens: Sequence[int]) -> tuple[str, ...] | None:
        """The text of each token of an attempt's output; ``None`` where that is not known."""
        known = self.attempts.get(key, {}).get("pieces")
        if known is not None:
            return tuple(known)
        if all(token in self.tokens for token in tokens):
            return _spaced([self.tokens[token] for token in tokens], self.between)
        return None


def read_texts(folder: Path) -> Texts:
    """The texts of a run folder; none at all of a folder from before they were kept.

    Raises:
        RunFolderError: the file is damaged; it says which line.
    """
    file, found = folder / TEXTS, Texts()
    if not file.exists():
        return found
    for _, line in read_sealed(file, "text", text_line):
        found.take(line)
    return found


def text_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line of ``TEXTS``, if it is one (``ValueError``, ``KeyError`` or ``TypeError`` otherwise)."""
    if "tokens" in line:
        said = cast("dict[str, Any]", line["tokens"])
        if not all(token.isdecimal() and isinstance(text, str) for token, text in said.items()):
            raise ValueError("tokens are not texts by number")
    elif "problem" in line:
        for name in ("problem", "prompt", "answer"):
            if not isinstance(line[name], str):
                raise ValueError(f"{name} is {line[name]!r:.80}")
        for name in ("prompt_tokens", "horizon"):
            if type(line[name]) is not int:
                raise ValueError(f"{name} is {line[name]!r:.80}")
    elif not isinstance(line["key"], str):
        raise ValueError(f"key is {line['key']!r:.80}")
    return line


class TextLog:
    """Writes ``texts.jsonl`` of a run folder.

    Args:
        folder: the run folder.
        kept: what to say is safe when nothing can be added.
    """

    def __init__(self, folder: Path, kept: Callable[[], str]) -> None:
        self._path, self._file = folder / TEXTS, GrowingFile(folder / TEXTS, kept)
        self._tokens, self._between = dict[int, str](), ""
        self._named: set[int] = set()
        self._waiting: list[bytes] = []
        self._generator: Generator | None = None
        # of problems and attempts, of which there may be very many, neither ids nor lines are held:
        self._asked = Numbered()  # problems that have a line
        self._said = Numbered()  # attempt key → a digest of its line
        self._jobs: list[Sequence[Job]] = []
        self._places = (
            Numbered()
        )  # problem, or key where that asks something else → the job's place

    def load(self) -> None:
        """Take up what is there (``RunFolderError``: it is damaged)."""
        if not self._path.exists():
            return
        for _, line in read_sealed(self._path, "text", text_line):
            if "tokens" in line:
                self._tokens.update({int(token): text for token, text in line["tokens"].items()})
            elif "problem" in line:
                self._asked[line["problem"]] = 0
            else:
                self._said[line["key"]] = _digest(line)
        cut_unfinished_line(self._path)

    def know(self, jobs: Sequence[Job], generator: Generator) -> None:
        """Before attempts are made: whose tokens these are, and what is asked.

        Args:
            jobs: all attempts that are to be there in the end; held on to.
            generator: gives tokens their text.
        """
        self._generator = generator
        self._between = _between(generator)
        if jobs:
            self._jobs.append(jobs)
        for at, job in enumerate(jobs):
            name, place = job.episode.problem.id, _LISTED * (len(self._jobs) - 1) + at
            first = self._places.get(name)
            if first is None:
                self._places[name] = place
            elif _asks(self._episode(first)) != _asks(job.episode):
                self._places[job.key] = place
            self.ask(job.episode)
            if len(self._waiting) >= _TOGETHER:
                self._write()

    def _episode(self, place: int) -> Episode:
        which, at = divmod(place, _LISTED)
        return self._jobs[which][at].episode

    def seen(self, attempt: Attempt) -> None:
        """An attempt that is there already: its tokens get their texts."""
        if attempt.output is not None:
            self._named.update(attempt.output.tokens)

    def ask(self, episode: Episode) -> None:
        """Note what a problem asks, once."""
        problem, shown = episode.problem, episode.demonstration
        if problem.id in self._asked:
            return
        line = {
            "problem": problem.id,
            "horizon": problem.horizon,
            "prompt": readable(prompt_text(problem, episode.generator)),
            "prompt_tokens": len(episode.prompt),
            "answer": readable(problem.answer),
            "demonstration": None if shown is None else list(shown.tokens),
        }
        if shown is not None:
            self._named.update(shown.tokens)
        self._asked[problem.id] = 0
        self._waiting.append(sealed(line))

    def pieces(self, tokens: Sequence[int]) -> list[str] | None:
        """What each token adds to the text, where that is not what it says by itself (else ``None``)."""
        assert self._generator is not None
        found = _pieces(self._generator, tokens, self._between)
        return None if found is None else [readable(piece) for piece in found]

    def name(self, tokens: Iterable[int]) -> None:
        """Tokens that are kept somewhere: they get their texts."""
        self._named.update(tokens)

    def transcript(self, lines: Iterable[dict[str, Any]]) -> None:
        """The lines of a transcript that is kept: the tokens that they name get their texts."""
        self._named.update(named_tokens(lines))

    def attempt(self, attempt: Attempt) -> None:
        """Note what is to be said of an attempt that was made."""
        place = self._places.get(attempt.key)
        if place is None:
            place = self._places.get(attempt.problem)
        if attempt.output is None or place is None:
            return
        tokens = attempt.output.tokens
        self._named.update(tokens)
        said: dict[str, Any] = {}
        if (pieces := self.pieces(tokens)) is not None:
            said["pieces"] = pieces
        if not attempt.passed and (at := first_rejected(self._episode(place), tokens)) is not None:
            said["rejected"] = at
        line, known = {"key": attempt.key, **said}, self._said.get(attempt.key)
        if _digest(line) != known if known is not None else said:
            self._said[attempt.key] = _digest(line)
            self._waiting.append(sealed(line))

    def flush(self) -> None:
        """Write down what waits; safe from a kill when this returns.

        Raises:
            RunFolderError: the file system refuses.
        """
        if self._generator is None:
            return
        new = sorted(self._named.difference(self._tokens))
        self._named.clear()
        texts = {
            token: text for token in new if (text := _text(self._generator, (token,))) is not None
        }
        if texts:
            self._tokens.update(texts)
            shown = {str(token): readable(text) for token, text in texts.items()}
            between = {"between": self._between} if self._between else {}
            self._waiting.append(sealed({"tokens": shown, **between}))
        self._write()

    def _write(self) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._file.add(b"".join(lines))

    def close(self) -> None:
        """Let what was added survive a loss of power, and let go of the file."""
        self._file.sync()
        self._file.close()


def _asks(episode: Episode) -> tuple[object, ...]:
    """What the episodes of one problem may differ in."""
    return episode.prompt, episode.horizon, episode.demonstration


def _digest(line: Mapping[str, Any]) -> int:
    """64 bits of what a line says."""
    told = json.dumps(line, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little")


def prompt_text(problem: Problem, generator: Generator) -> str:
    """A prompt as text; empty where it is tokens that no text stands for, as of most exact families."""
    prompt = problem.prompt
    if not isinstance(prompt, tuple):
        return str(prompt)
    text = _text(generator, prompt)
    try:
        return text if text and tuple(generator.encode(text)) == prompt else ""
    except Exception:
        return ""


def first_rejected(episode: Episode, tokens: Sequence[int]) -> int | None:
    """A token that the problem's verifier rejects and before which it accepts, from 0.

    Found by halving, so of a verifier that never accepts what follows on something that it rejects it is
    the first. The verifier is asked beside the attempt: nobody is charged. ``None``: there is none, the
    problem has no verifier, it is ``async`` (dear, as a rule), or it failed, which claims nothing.
    """
    verifier = episode.problem.verifier
    if verifier is None or not tokens or is_async(verifier):
        return None

    def accepts(length: int) -> bool:
        output = episode.output(tokens[:length])
        return bool(judges.begin(episode.problem, "verifier", [output]).results()[0])

    try:
        low, high = 0, len(tokens)
        if accepts(high) or not accepts(low):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if accepts(middle) else (low, middle)
        return low
    except Exception:
        return None


def _text(generator: Generator, tokens: Sequence[int]) -> str | None:
    try:
        return generator.decode(tokens)
    except Exception:  # a generator need not have a text for everything
        return None


def _spaced(texts: Sequence[str], between: str) -> tuple[str, ...]:
    """Texts of tokens as pieces of one text: ``between`` before each that says something but the first."""
    pieces, before = list[str](), False
    for text in texts:
        pieces.append(between + text if before and text else text)
        before = before or bool(text)
    return tuple(pieces)


def _between(generator: Generator) -> str:
    """White space that the generator puts between the texts of two tokens, if it does."""
    first, second, both = (_text(generator, tokens) or "" for tokens in ((0,), (1,), (0, 1)))
    if not (first and second and both.startswith(first) and both.endswith(second)):
        return ""
    between = both[len(first) : len(both) - len(second)]
    return between if between.isspace() else ""


def _pieces(generator: Generator, tokens: Sequence[int], between: str) -> list[str] | None:
    """What each token adds to the text; ``None``: what it says by itself, or there are too many."""
    whole, alone = _text(generator, tokens), [_text(generator, (token,)) for token in tokens]
    shown = "".join(_spaced([text or "" for text in alone], between))
    if whole is None or whole == shown or len(tokens) > _MOST:
        return None
    pieces, before = list[str](), ""
    for i in range(1, len(tokens) + 1):
        text = whole if i == len(tokens) else _text(generator, tokens[:i]) or ""
        half = i < len(tokens) and (text.endswith("\ufffd") or not text.startswith(before))
        pieces.append(
            "" if half else text[len(before) :]
        )  # half a character is said when it is whole
        before = before if half else text
    return pieces
