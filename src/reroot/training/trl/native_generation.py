"""TRL's own generation, with the account and journal of sessions: what they are compared with."""

from __future__ import annotations

from typing import Any

from ...access.episode import Episode
from ...errors import InvalidInput
from ...tasks.judges import score
from ...types import Cost, Prefix
from ..group import Group
from ..groups import BudgetSpent
from ..strategies.base import Start
from .base_trainer import BaseTrainer
from .bridge import Batch, Rollouts
from .outputs import END, EndToken


class NativeGeneration(Rollouts):
    """The account of a trainer that generates itself, from the root and without a session.

    Problems, rewards and what counts as an output are those of sessions; draws are the trainer's.
    """

    def begin(self, rows: list[dict[str, Any]], trainer: Any) -> frozenset[int]:
        """Before a batch is generated: the tokens that end every output of it.

        Raises:
            InvalidInput: a prompt is given as tokens, which TRL cannot generate from; or see
                ``rollouts_for_trl``.
            BudgetSpent: the longest outputs would not fit what is left of the budget.
        """
        collector, self._size = self.prepare(trainer), trainer.num_generations
        self._step = self._bound([row["prompt"] for row in rows], rows, self._size, True)
        for episode in self._step:
            if not isinstance(episode.problem.prompt, str):
                raise InvalidInput(
                    f"problem {episode.problem.id!r}: TRL generates from texts, and its prompt is "
                    "given as tokens"
                )
        share = collector.share(len(self._step)).tokens
        if share is not None and share < self._size * trainer.max_completion_length:
            raise BudgetSpent("the budget does not allow the step", Cost())
        return frozenset.intersection(*(episode.stop.tokens for episode in self._step))

    def ended(self, completion_ids: list[list[int]]) -> list[list[int]]:
        """What was generated, up to where each output ends.

        TRL stops at tokens alone; what it has drawn behind a stop text is neither paid nor learnt from.
        """
        size = len(completion_ids) // len(self._step)
        kept: list[list[int]] = []
        for i, tokens in enumerate(completion_ids):
            end = self._step[i // size].stop.first_end(tokens)
            kept.append(tokens if end is None else [*tokens[:end], EndToken(tokens[end])])
        return kept

    def reward(self, *, completion_ids: list[list[int]], **_: Any) -> list[float]:
        """A reward function for TRL: the problems' rewards; charges the step.

        Raises:
            OracleError: a reward is no finite number.
        """
        groups = [
            self._scored(episode, completion_ids[i * self._size : (i + 1) * self._size])
            for i, episode in enumerate(self._step)
        ]
        assert self.collector is not None
        self.collector.charge(groups)
        self.batch = Batch(groups, 0, len(groups), training=True)
        return super().reward()

    def _scored(self, episode: Episode, tokens: list[list[int]]) -> Group:
        rewards = [score(episode.problem, episode.output(t)) for t in tokens]
        n, drawn = len(tokens), sum(map(len, tokens))
        spent = Cost(rollouts=n, tokens=drawn, prefill=len(episode.prompt), rewards=n)
        start, problem = Start(Prefix(())), episode.problem.id
        return Group(episode.prompt, start, tokens, None, rewards, None, Cost(), spent, problem)


class NativeTrainer(BaseTrainer):
    """``GRPOTrainer`` that generates by itself on the problems of ``rollouts``; one process.

    Args:
        rollouts: keeps the account.
        args, others: as for ``GRPOTrainer``, without rewards and data.
    """

    def __init__(self, *, rollouts: NativeGeneration, **others: Any) -> None:
        self.rollouts = rollouts
        super().__init__(reward_funcs=[rollouts.reward], train_dataset=rollouts.dataset(), **others)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        stop = sorted(self.rollouts.begin(inputs, self))
        self.eos_token_ids = self.generation_config.eos_token_id = stop
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        generated, logprobs = super()._generate_single_turn(*args, **kwargs)
        self.eos_token_ids = [*self.eos_token_ids, END]
        return self.rollouts.ended(generated), logprobs
