"""What training has sampled, kept to be read: completions.jsonl, one sealed line per step, append-only.

A step that is taken again after an interruption is written again; the last line of a step counts. Which
completions are kept is a function of seed and step alone. Prompts and token texts are in texts.jsonl.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...access.episode import Episode, bind
from ...access.failures import readable
from ...access.sealing import sealed
from ...checks import check_int
from ...errors import InvalidInput
from ...generators.base import Generator
from ...randomness import keyed_rng, stream_key
from ...runs.folder import GrowingFile, cut_unfinished_line
from ...runs.records import COMPLETIONS
from ...runs.texts import TextLog
from ...tasks.base import Problem
from ..group import Group

_SAFE = "The steps taken are safe."


def kept_count(text: str) -> int | None:
    """How many completions of each step are kept: ``all`` (``None``), ``none`` (0) or a number.

    Raises:
        InvalidInput: it is none of these.
    """
    if text in ("all", "none"):
        return None if text == "all" else 0
    try:
        return check_int("keep_completions", int(text), 0)
    except ValueError:
        raise InvalidInput(f"keep_completions is all, none or a number, got {text!r}") from None


class CompletionLog:
    """Keeps completions of a training run.

    Args:
        folder: the run folder.
        problems: what is trained on.
        most: how many completions of each step are kept; ``None``: all.
        seed: of the run.

    Attributes:
        kept, bytes: how many were kept by this process, and what that took.
    """

    def __init__(
        self, folder: Path, problems: Sequence[Problem], most: int | None, seed: int
    ) -> None:
        self._file = GrowingFile(folder / COMPLETIONS, lambda: _SAFE)
        self._texts = TextLog(folder, lambda: _SAFE)
        self._problems = {problem.id: problem for problem in problems}
        self._episodes: dict[str, Episode] = {}
        self._most, self._seed = most, seed
        self.kept = self.bytes = 0
        cut_unfinished_line(folder / COMPLETIONS)
        self._texts.load()

    def step(self, step: int, groups: Sequence[Group], generator: Generator) -> None:
        """Keep what there is to keep of a step.

        Raises:
            RunFolderError: the file system refuses.
        """
        places = [(g, i) for g, group in enumerate(groups) for i in range(len(group.tokens))]
        if self._most is not None and self._most < len(places):
            rng = keyed_rng(stream_key(self._seed, f"step {step}", "completions kept"))
            chosen = rng.choice(len(places), self._most, replace=False)
            places = [places[i] for i in sorted(chosen)]
        if not places:
            return
        self._texts.know((), generator)
        found = [self._told(groups[g], g, i, generator) for g, i in places]
        self._texts.flush()
        of = sum(len(group.tokens) for group in groups)
        line = sealed({"step": step, "of": of, "completions": found})
        self._file.add(line)
        self.kept, self.bytes = self.kept + len(found), self.bytes + len(line)

    def _told(self, group: Group, place: int, i: int, generator: Generator) -> dict[str, Any]:
        """Rollout ``i`` of a group as JSON values."""
        episode = self._episode(group.problem, generator)
        start, tokens = group.start.prefix.tokens, tuple(group.tokens[i])
        self._texts.name((*start, *tokens))
        output, given = episode.output(start + tokens), generator.decode(start)
        reward = group.rewards[i] if group.rewards else math.nan
        judged, pieces = not math.isnan(reward), self._texts.pieces((*start, *tokens))
        return {
            "group": place,
            "rollout": i,
            "problem": group.problem,
            "start": list(start),
            "start_text": readable(given),
            "tokens": [int(token) for token in tokens],
            "text": readable(output.text.removeprefix(given)),
            "complete": output.complete,
            "reward": float(reward) if judged else None,
            "passed": judged and output.complete and reward >= episode.problem.pass_at,
            **({} if pieces is None else {"pieces": pieces}),
        }

    def _episode(self, problem: str, generator: Generator) -> Episode:
        if problem not in self._episodes:
            self._episodes[problem] = bind(self._problems[problem], generator)
            self._texts.ask(self._episodes[problem])
        return self._episodes[problem]

    def close(self) -> None:
        """Let what was added survive a loss of power, and let go of the files."""
        self._file.sync()
        self._file.close()
        self._texts.close()
