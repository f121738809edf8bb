"""The bridge to TRL: rollouts for ``GRPOTrainer`` that come through a metered session."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...access.episode import Episode
from ...checks import check_int
from ...contract import Contract, Oracle
from ...errors import InvalidInput
from ...generators.transformers import Transformers
from ...tasks.base import Problem
from ...types import Budget
from ..granting import check_on_policy, granted, oracles_of
from ..group import Group, without_rewards
from ..groups import run_groups, whole
from ..strategies.base import Strategy
from .checkpoints import Keeper, saved
from .collector import Collector
from .fits import check_trainer, law_of
from .frames import Row, rows_at_hand
from .outputs import END, completions
from .problems import Known, Prompt
from .rows import Rows
from .vllm_fits import check_vllm
from .vllm_generator import VLLMGenerator


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the last call has collected.

    Attributes:
        groups: the groups of all processes; they have their rewards once the trainer has.
        first: index of this process's first group.
        count: groups of this process.
        training: whether it was for training.
    """

    groups: list[Group]
    first: int
    count: int
    training: bool

    @property
    def own(self) -> list[Group]:
        """The groups of this process."""
        return self.groups[self.first : self.first + self.count]


class Rollouts:
    """A ``rollout_func`` for ``GRPOTrainer``; made by ``rollouts_for_trl``.

    Attributes:
        strategy: where groups start.
        roots: groups of each step that start at the empty prefix whatever the strategy.
        batch: what the last call has collected.
        collector: keeps the account; made when the trainer is known.
    """

    def __init__(
        self,
        strategy: Strategy,
        grants: Contract | str | None,
        budget: Budget | None,
        problems: Sequence[Problem] | None,
        roots: int,
        seed: int,
        chat: bool = False,
        demonstration_column: str | None = None,
    ) -> None:
        if not isinstance(strategy, Strategy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"strategy must be a Strategy, got {strategy!r}")
        if problems is not None and demonstration_column is not None:
            raise InvalidInput(
                f"demonstration_column={demonstration_column!r} is of a data set; problems=… bring "
                "demonstrations of their own"
            )
        self.strategy = strategy
        self.batch: Batch | None = None
        self.roots = check_int("roots", roots)
        self.collector: Collector | None = None
        self._grants, self._budget, self._seed, self._chat = grants, budget, seed, chat
        self._known = None if problems is None else Known(problems)
        self._column = demonstration_column
        self._evaluations = (0, 0)  # step, evaluation batches at it

    # ---- for the trainer -----------------------------------------------------------------------

    def __call__(self, prompts: list[Prompt], trainer: Any) -> dict[str, Any]:
        """The completions of one generation batch, as TRL wants them.

        Raises:
            InvalidInput: the trainer's settings or rows do not fit (see ``rollouts_for_trl``).
            BudgetSpent: the budget does not allow the step.
            BackendError: vLLM failed.
            OracleError: a reward is no number, or a demonstration is wrong.
            RerootError: see ``run_groups``.
        """
        training = bool(trainer.model.training)
        size = trainer.num_generations if training else trainer.num_generations_eval
        collector = self.prepare(trainer)
        episodes = self._bound(prompts, rows_at_hand(trainer), size, training)
        self._generator.weights_changed()
        first = trainer.accelerator.process_index * len(episodes)
        gather = _gatherer(trainer)
        if training:
            groups = collector.collect(
                episodes,
                size,
                roots=self.roots,
                first=first,
                total=len(episodes) * trainer.accelerator.num_processes,
                gather=gather,
            )
        else:
            groups = gather(self._evaluated(collector, episodes, size, first))
        self.rest()
        self.batch = Batch(groups, first, len(episodes), training)
        ends = [*trainer.eos_token_ids, trainer._tokenizer.pad_token_id]
        vllm = self._generator if isinstance(self._generator, VLLMGenerator) else None
        return completions(self.batch.own, episodes, ends, vllm and vllm.behaviour)

    def rest(self) -> None:
        """Between steps: vLLM sleeps if it is to."""
        if isinstance(self._generator, VLLMGenerator):
            self._generator.rest()

    def reward(self, **_: Any) -> list[float]:
        """A reward function for TRL: the outcome rewards that the sessions have given already."""
        assert self.batch is not None
        return [reward for group in self.batch.own for reward in group.rewards]

    def dataset(self) -> Any:
        """A data set of the problems' prompts, for ``train_dataset``.

        Raises:
            InvalidInput: there are no problems of its own.
        """
        from datasets import Dataset

        if self._known is None:
            raise InvalidInput("rollouts_for_trl(problems=…) brings the problems of a data set")
        return Dataset.from_list(self._known.rows())

    def prepare(self, trainer: Any) -> Collector:
        """The collector, made at the first call and set to where the trainer's checkpoint stood.

        Args:
            trainer: the GRPOTrainer.

        Raises:
            InvalidInput, AccessDenied: see ``rollouts_for_trl``.
            RunFolderError: the checkpoint has no state of ours.
        """
        if self.collector is not None:
            if trainer is not self._trainer:
                raise InvalidInput("these rollouts are those of another trainer: make new ones")
            return self.collector
        contract = self.contract(trainer)
        self._generator = self._live(trainer)
        self._rows = Rows(trainer, self._generator, self.strategy, self._known, self._column)
        self._rows.check()
        scored = Oracle.REWARD in contract.oracles
        found = Collector(
            self._generator, self.strategy, contract, self._budget, self._seed, scored
        )
        if (state := saved(trainer)) is not None:
            found.restore(state)
        trainer.add_callback(Keeper(found, trainer))
        trainer.eos_token_ids = [*trainer.eos_token_ids, END]
        self._listen(trainer)
        self._trainer, self.collector = trainer, found
        return found

    def contract(self, trainer: Any) -> Contract:
        """What the sessions of a trainer grant.

        Raises:
            InvalidInput, AccessDenied: the trainer's settings do not fit (see ``rollouts_for_trl``).
        """
        check_trainer(trainer, self.strategy)
        law = law_of(trainer)
        if trainer.use_vllm:
            check_vllm(trainer, self.strategy, law)
        if self._known is not None:
            have = oracles_of(self._known.all)
        else:  # what a row has beyond that is no business of the strategy's
            have = {Oracle.REWARD, *(self.strategy.requires.oracles & {Oracle.DEMONSTRATION})}
        found = granted(self._grants, self.strategy, have, law)
        check_on_policy(found, law)
        return found if self._scores(trainer) else without_rewards(found)

    def _live(self, trainer: Any) -> Transformers | VLLMGenerator:
        """The policy, as the trainer would generate from it."""
        if trainer.use_vllm:
            return VLLMGenerator(trainer, law_of(trainer), chat=self._chat)
        return Transformers(
            (trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class),
            chat=self._chat,
            autocast=trainer.accelerator.autocast,
        )

    # ---- rewards -------------------------------------------------------------------------------

    def _scores(self, trainer: Any) -> bool:
        """Whether sessions reward: the problems' own rewards, where they are what is trained on."""
        asked = self.reward in trainer.reward_funcs
        if asked and self._known is None:
            raise InvalidInput(
                "reward_funcs: rollouts.reward gives the rewards of problems=…, and there are none"
            )
        if self.strategy.per_token and not self._trains_on_ours(trainer):
            raise InvalidInput(
                f"{self.strategy} needs rewards while its rollouts are drawn: those of problems=…, with "
                "rollouts.reward as the only reward function. Reward functions of the trainer are called "
                "once, on the whole batch"
            )
        return asked

    def _trains_on_ours(self, trainer: Any) -> bool:
        """Whether what is trained on is what the sessions have given, to the last bit."""
        return trainer.reward_funcs == [self.reward] and trainer.reward_weights.tolist() == [1.0]

    def _listen(self, trainer: Any) -> None:
        """Be told what the trainer's reward functions have said of a batch."""
        calculate = trainer._calculate_rewards

        @functools.wraps(calculate)
        def listening(*args: Any, **others: Any) -> Any:
            found = calculate(*args, **others)
            self._rewarded(found, trainer)
            return found

        trainer._calculate_rewards = listening

    def _rewarded(self, said: Any, trainer: Any) -> None:
        """Take note of rewards, and let the strategy learn from what is trained on.

        Args:
            said: (rollouts of all processes, reward functions), NaN where one gave none.
            trainer: the GRPOTrainer.
        """
        batch = self.batch
        assert batch is not None
        assert self.collector is not None
        if not self._trains_on_ours(trainer):
            weights = trainer.reward_weights.to(said.device)
            total = (said * weights).nansum(dim=1)
            total[said.isnan().all(dim=1)] = float("nan")
            left = iter(total.tolist())
            groups = [g.rewarded([next(left) for _ in g.tokens]) for g in batch.groups]
            self.batch = batch = replace(batch, groups=groups)
        if batch.training:
            self.collector.learn(batch.groups)

    # ---- groups --------------------------------------------------------------------------------

    def _bound(
        self, prompts: list[Prompt], rows: Sequence[Row] | None, size: int, training: bool
    ) -> list[Episode]:
        """What each group is of."""
        groups = [prompts[i : i + size] for i in range(0, len(prompts), size)]
        if any(len(g) < size or any(p != g[0] for p in g) for g in groups):
            raise InvalidInput(
                f"a process must hold whole groups of {size} rollouts, got {len(prompts)} prompts: "
                "choose per_device_train_batch_size × steps_per_generation as a multiple of "
                "num_generations"
            )
        firsts = range(0, len(prompts), size)
        known = [{} for _ in prompts] if rows is None else rows
        return [self._rows.episode(prompts[i], known[i], training) for i in firsts]

    def _evaluated(
        self, collector: Collector, episodes: Sequence[Episode], size: int, first: int
    ) -> list[Group]:
        """Groups from the root, which are neither paid from the budget nor learnt from."""
        step, count = self._evaluations
        self._evaluations = (collector.steps, count + 1 if step == collector.steps else 1)
        label = f"evaluation {collector.steps}.{self._evaluations[1]}"
        found = run_groups(
            collector.generator,
            episodes,
            [f"{e.problem.id}@{label}.{first + i}" for i, e in enumerate(episodes)],
            [True] * len(episodes),
            strategy=collector.strategy,
            contract=collector.contract,
            size=size,
            seed=collector.seed,
            scored=collector.scored,
        )
        return whole(found)


def rollouts_for_trl(
    strategy: Strategy,
    *,
    grants: Contract | str | None = None,
    budget: Budget | None = None,
    problems: Sequence[Problem] | None = None,
    roots: int = 0,
    seed: int = 0,
    demonstration_column: str | None = None,
) -> Rollouts:
    """Rollouts for TRL's ``GRPOTrainer(rollout_func=…)``, through metered sessions.

    A group of ``num_generations`` rollouts starts where the strategy says. Completions hold the start
    and the suffix; ``env_mask`` is 0 on the start, so that its tokens get exactly no gradient.
    The prefix-tree engine generates on the trainer's own weights, under its autocast. Token ids are
    those that were generated: nothing is tokenized again.

    With ``Root`` all else is as without the bridge: prompts are those that the trainer makes of its
    rows, draws follow its temperature, top_k and top_p, and its reward functions are called once, on
    the whole batch; the strategy learns from what they say, weighted as the trainer weighs them.

    Args:
        strategy: where groups start.
        grants: the contract of every session (``None``: what the strategy requires). One that names no
            oracle grants those that the problems have; one that names no law, the trainer's.
        budget: the most that training may spend; then ``BudgetSpent`` ends it.
        problems: prompts with rewards, verifiers and demonstrations; train on ``dataset()`` with the
            reward function ``reward``. ``None``: prompts and demonstrations come from the trainer's data
            set, rewards from its reward functions; sessions then give none.
        roots: how many groups of each step start at the empty prefix whatever the strategy.
        seed: keys all draws.
        demonstration_column: of the trainer's data set: a text, tokens, or messages of each row
            (``None``: ``demonstration``, or ``completion``).

    Raises:
        InvalidInput: here, by ``SessionTrainer`` or at the first step, and the setting or the row is
            named: a value out of range; a strategy that needs credit per token or rewards in the middle,
            which a plain ``GRPOTrainer`` does not have; groups that are spread over processes; a
            sampling setting that no contract has (``min_p``, ``repetition_penalty``, most of
            ``generation_kwargs``), or another law than the trainer's; tools, environments, images; with
            ``use_vllm`` a report that vLLM does not give, structured outputs, tensor parallelism of a
            colocated engine; a row that does not fit the model or has no demonstration where one is needed.
        AccessDenied: the strategy requires more than is granted.
    """
    return Rollouts(
        strategy,
        grants,
        budget,
        problems,
        roots,
        seed,
        demonstration_column=demonstration_column,
    )


def _gatherer(trainer: Any):
    if trainer.accelerator.num_processes == 1:
        return list
    from accelerate.utils import gather_object

    return gather_object
