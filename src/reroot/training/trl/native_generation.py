"""TRL's own generation, with the account and journal of sessions: what they are compared with."""

from __future__ import annotations

from typing import Any

from ...access.episode import Episode
from ...errors import InvalidInput
from ...tasks.judges import score
from ...types import Cost, Prefix
from ..group import Group
from ..strategies.base import Start
from .base_trainer import BaseTrainer
from .bridge import Batch, Rollouts
from .collector import BudgetSpent
from .problems import Prompt


class NativeGeneration(Rollouts):
    """The account of a trainer that generates itself, from the root and without a session.

    Problems, rewards and what counts as an output are those of sessions; draws are the trainer's.
    """

    def begin(self, prompts: list[Prompt], trainer: Any) -> frozenset[int]:
        """Before a batch is generated: the tokens that end every output of it.

        Raises:
            InvalidInput: a prompt is given as tokens, which TRL cannot generate from; or see
                ``rollouts_for_trl``.
            BudgetSpent: the longest outputs would not fit what is left of the budget.
        """
        self._collector, self._size = self.prepare(trainer), trainer.num_generations
        self._step = [self.episode(p, trainer) for p in self._firsts(prompts, self._size)]
        for episode in self._step:
            if not isinstance(episode.problem.prompt, str):
                raise InvalidInput(
                    f"problem {episode.problem.id!r}: TRL generates from texts, and its prompt is "
                    "given as tokens"
                )
        share = self._collector.share(len(self._step)).tokens
        if share is not None and share < self._size * trainer.max_completion_length:
            raise BudgetSpent("the budget does not allow the step", Cost())
        return frozenset.intersection(*(episode.stop.tokens for episode in self._step))

    def ended(self, completion_ids: list[list[int]]) -> tuple[list[list[int]], set[int]]:
        """(what was generated, up to where each output ends; the tokens with which outputs ended).

        TRL stops at tokens alone; what it has drawn behind a stop text is neither paid nor learnt from.
        """
        size = len(completion_ids) // len(self._step)
        rules = [self._step[i // size].stop for i in range(len(completion_ids))]
        ends = [rule.first_end(t) for rule, t in zip(rules, completion_ids, strict=True)]
        kept = [
            t if end is None else t[: end + 1] for t, end in zip(completion_ids, ends, strict=True)
        ]
        return kept, {t[-1] for t, end in zip(kept, ends, strict=True) if end is not None}

    def score(self, *, completion_ids: list[list[int]], **_: Any) -> list[float]:
        """A reward function for TRL: the problems' rewards; charges the step.

        Raises:
            OracleError: a reward is no finite number.
        """
        groups = [
            self._scored(episode, completion_ids[i * self._size : (i + 1) * self._size])
            for i, episode in enumerate(self._step)
        ]
        self._collector.account(groups)
        self.batch = Batch(groups, 0, len(groups), training=True)
        return [reward for g in groups for reward in g.rewards]

    def _scored(self, episode: Episode, tokens: list[list[int]]) -> Group:
        rewards = [score(episode.problem, episode.output(t)) for t in tokens]
        n, drawn = len(tokens), sum(map(len, tokens))
        spent = Cost(rollouts=n, tokens=drawn, prefill=len(episode.prompt), rewards=n)
        return Group(episode.prompt, Start(Prefix(())), tokens, None, rewards, None, Cost(), spent)


class NativeTrainer(BaseTrainer):
    """``GRPOTrainer`` that generates by itself on the problems of ``rollouts``; one process.

    Args:
        rollouts: keeps the account.
        args, others: as for ``GRPOTrainer``, without rewards and data.
    """

    def __init__(self, *, rollouts: NativeGeneration, **others: Any) -> None:
        self.rollouts = rollouts
        super().__init__(reward_funcs=[rollouts.score], train_dataset=rollouts.dataset(), **others)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        stop = sorted(self.rollouts.begin([row["prompt"] for row in inputs], self))
        self.eos_token_ids = self.generation_config.eos_token_id = stop
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        generated, logprobs = super()._generate_single_turn(*args, **kwargs)
        kept, last = self.rollouts.ended(generated)
        # TRL counts as truncated what ends with another token
        self.eos_token_ids = sorted({*self.eos_token_ids, *last})
        return kept, logprobs
