"""The rows that a trainer trains on, each bound to the trainer's model: found wrong before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ...access.episode import Episode, bind
from ...contract import Oracle
from ...errors import InvalidInput, OracleError
from ...generators.base import Generator
from ...tasks.judges import check, score
from ..strategies.base import Strategy
from .frames import Row
from .problems import (
    COLUMNS,
    Known,
    Prompt,
    column_of,
    columns_of,
    datasets_of,
    demonstration_of,
    name_of,
    of_row,
    whole,
)

_SPARE = 64  # tokens that a chat template may put around one more message


class Rows:
    """What the rows of a trainer's data are to sessions.

    Args:
        trainer: the GRPOTrainer.
        generator: its model.
        strategy: whose groups start there.
        known: the problems that rows are of; ``None``: each row is one of its own.
        column: of demonstrations; ``None``: see ``problems.COLUMNS``.

    Raises:
        InvalidInput: the strategy needs demonstrations, and the training data has no column of them.
    """

    def __init__(
        self,
        trainer: Any,
        generator: Generator,
        strategy: Strategy,
        known: Known | None,
        column: str | None,
    ) -> None:
        self._trainer, self._generator, self._strategy = trainer, generator, strategy
        self._known, self._column = known, None
        self._episodes: dict[str, Episode] = {}
        self._shows = Oracle.DEMONSTRATION in strategy.requires.oracles
        self._told = getattr(strategy, "demonstrations", {})
        self._horizon: int = trainer.max_completion_length
        if known is None and (self._shows or column is not None):
            names = columns_of(trainer.train_dataset)
            self._column = column_of(names, column)
            if self._shows and self._column is None and not self._told:
                raise InvalidInput(
                    f"{strategy} has no demonstration to start from: the training data has no column "
                    f"{' or '.join(map(repr, COLUMNS))} but {names}; say which with "
                    "rollouts_for_trl(demonstration_column=…)"
                )

    def check(self) -> None:
        """Look at all rows that can be looked at in advance: those of streams come later.

        Raises:
            InvalidInput, OracleError: one does not fit the model or is no problem; the message says which.
        """
        for problem in () if self._known is None else self._known.all:
            self._bound(problem)
        sets = [
            *datasets_of(self._trainer.train_dataset, "the training data"),
            *datasets_of(self._trainer.eval_dataset, "the evaluation data"),
        ]
        for what, data in sets:
            training = data is self._trainer.train_dataset
            for index, row in whole(data):
                if (prompt := row.get("prompt")) is None or self._surely_fits(prompt, training):
                    continue
                self._named(f"{what}, row {index}", prompt, row, training)

    def episode(self, prompt: Prompt, row: Row, training: bool) -> Episode:
        """A row as a problem of the model: its prompt is exactly the trainer's.

        Args:
            prompt: as the trainer hands it out.
            row: where it comes from.
            training: whether its demonstration is wanted; evaluations start at the root.

        Raises:
            InvalidInput, OracleError: as ``check``.
        """
        return self._named(
            f"the row with the prompt {name_of(prompt)!r:.80}", prompt, row, training
        )

    def tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """A prompt as the trainer tokenizes it."""
        return tuple(self._trainer._tokenize_prompts([prompt])[0][0])

    def _named(self, where: str, prompt: Prompt, row: Row, training: bool) -> Episode:
        try:
            if self._known is not None:
                return self._bound(self._known.of(prompt, row))
            shown = self._shown(prompt, row) if training and self._shows else None
            problem = of_row(prompt, self.tokens(prompt), self._horizon, shown)
            return bind(problem, self._generator)
        except (InvalidInput, OracleError) as error:
            raise type(error)(f"{where}: {error}") from None

    def _shown(self, prompt: Prompt, row: Row) -> Any:
        shown = demonstration_of(row, prompt, self._column)
        if shown is None and (shown := self._told.get(name_of(prompt))) is None:
            what = "" if self._column is None else f" (column {self._column!r})"
            raise InvalidInput(f"it has no demonstration to start from{what}")
        return shown

    def _bound(self, problem: Any) -> Episode:
        """A known problem, looked at once."""
        if problem.id not in self._episodes:
            if problem.max_tokens > self._horizon:
                raise InvalidInput(
                    f"problem {problem.id!r} has outputs of up to {problem.max_tokens} tokens, and the "
                    f"trainer has max_completion_length={self._horizon}"
                )
            self._episodes[problem.id] = self._shown_rightly(bind(problem, self._generator))
        return self._episodes[problem.id]

    def _shown_rightly(self, episode: Episode) -> Episode:
        """Refuse a demonstration that is wrong, where demonstrations are used (``OracleError``)."""
        problem, shown = episode.problem, episode.demonstration
        if not self._shows or shown is None:
            return episode
        output = episode.output(shown.tokens)
        reward = score(problem, output)
        if reward < problem.pass_at:
            raise OracleError(
                f"problem {problem.id!r}: its demonstration {output.text!r} has the reward {reward:g}, and "
                f"outputs pass from {problem.pass_at:g} on (Problem(pass_at=…) says from where)"
            )
        if problem.verifier is not None and not check(problem, output):
            raise OracleError(
                f"problem {problem.id!r}: its verifier rejects its demonstration {output.text!r}"
            )
        return episode

    def _surely_fits(self, prompt: Prompt, training: bool) -> bool:
        """Whether a row needs no closer look: a token is at least a byte, and a template is bounded."""
        if self._known is not None or (training and self._shows):
            return False
        limit = self._generator.max_length()
        if limit is None:
            return True
        most = len(name_of(prompt).encode(errors="replace")) + _SPARE
        if not isinstance(prompt, str):
            most += self._around + _SPARE * len(prompt)
        return most + self._horizon <= limit

    @cached_property
    def _around(self) -> int:
        """Tokens that the chat template puts around an empty conversation, and tools with it."""
        message: Sequence[Any] = [{"role": "user", "content": ""}]
        return len(self.tokens(message))
