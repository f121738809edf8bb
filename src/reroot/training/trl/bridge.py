"""The bridge to TRL: rollouts for ``GRPOTrainer`` that come through a metered session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...access.episode import Episode, bind
from ...checks import check_int
from ...contract import Contract, Oracle
from ...errors import InvalidInput, OracleError, RunFolderError
from ...generators.transformers import Transformers
from ...runs.folder import write_json
from ...tasks.base import Problem
from ...tasks.judges import check, score
from ...types import Budget
from ..group import Group
from ..strategies.base import Strategy
from .collector import Collector, run_groups
from .contracts import check_on_policy, granted
from .ends import show_ends
from .problems import Prompt, by_prompt, from_trainer, name_of, rows_of

STATE = "reroot.json"
"""The file of a checkpoint that says where strategy and account stood; written last."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the last call has collected.

    Attributes:
        groups: the groups of all processes.
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
    ) -> None:
        if not isinstance(strategy, Strategy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"strategy must be a Strategy, got {strategy!r}")
        self.strategy = strategy
        self.batch: Batch | None = None
        self.roots = check_int("roots", roots)
        self._grants, self._budget, self._seed, self._chat = grants, budget, seed, chat
        self._problems = None if problems is None else by_prompt(problems)
        self._rows: dict[str, Any] | None = None
        self._episodes: dict[str, Episode] = {}
        self._evaluations = 0
        self.collector: Collector | None = None

    # ---- for the trainer -----------------------------------------------------------------------

    def __call__(self, prompts: list[Prompt], trainer: Any) -> dict[str, list[Any]]:
        """The completions of one generation batch, as TRL wants them.

        Raises:
            InvalidInput: the trainer's settings do not fit (see ``rollouts_for_trl``).
            BudgetSpent: the budget does not allow the step.
            OracleError: a reward is no number, or a demonstration is wrong.
            RerootError: see ``run_groups``.
        """
        training = bool(trainer.model.training)
        size = trainer.num_generations if training else trainer.num_generations_eval
        firsts = self._firsts(prompts, size)
        collector = self.prepare(trainer, firsts[0])
        self._generator.weights_changed()
        episodes = [self.episode(prompt, trainer) for prompt in firsts]
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
        self.batch = Batch(groups, first, len(episodes), training)
        return show_ends(completions(self.batch.own), episodes, trainer)

    def reward(self, *, reroot_reward: Sequence[float], **_: Any) -> list[float]:
        """A reward function for TRL: the outcome rewards that the sessions have given already."""
        return list(reroot_reward)

    def dataset(self) -> Any:
        """A data set of the problems' prompts, for ``train_dataset``.

        Raises:
            InvalidInput: there are no problems of its own.
        """
        from datasets import Dataset

        if self._problems is None:
            raise InvalidInput("rollouts_for_trl(problems=…) brings the problems of a data set")
        return Dataset.from_list([{"prompt": prompt} for prompt in self._problems])

    # ---- state ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write strategy and account into the folder of a checkpoint."""
        if self.collector is not None:
            write_json(Path(folder) / STATE, self.collector.state())

    def prepare(self, trainer: Any, prompt: Prompt | None = None) -> Collector:
        """The collector, made at the first call and set to where the trainer's checkpoint stood.

        Args:
            trainer: the GRPOTrainer.
            prompt: any prompt of its data; ``None``: the first of the problems.

        Raises:
            InvalidInput, AccessDenied: see ``rollouts_for_trl``.
            RunFolderError: the checkpoint has no state of ours.
        """
        if self.collector is not None:
            return self.collector
        _check_credit(trainer, self.strategy)
        model = trainer.accelerator.unwrap_model(trainer.model)
        self._generator = Transformers((model, trainer.processing_class), chat=self._chat)
        some = next(iter(self._problems or ())) if prompt is None else prompt
        problem = self.episode(some, trainer).problem
        contract = granted(self._grants, self.strategy, problem)
        check_on_policy(contract, trainer.args.temperature)
        found = Collector(self._generator, self.strategy, contract, self._budget, self._seed)
        if trainer.state.global_step:
            found.restore(_saved(trainer))
        trainer.add_callback(_saver(self))
        self.collector = found
        return found

    def episode(self, prompt: Prompt, trainer: Any) -> Episode:
        """The problem with this prompt, as tokens of the trainer's model."""
        name = name_of(prompt)
        if name not in self._episodes:
            if self._problems is None:
                if self._rows is None:
                    self._rows = rows_of(trainer.train_dataset)
                shown = getattr(self.strategy, "demonstrations", {})
                problem = from_trainer(prompt, trainer, shown, self._rows)
            elif name in self._problems:
                problem = self._problems[name]
            else:
                raise InvalidInput(f"no problem has the prompt {name!r}")
            self._episodes[name] = self._checked(bind(problem, self._generator))
        return self._episodes[name]

    def _checked(self, episode: Episode) -> Episode:
        """Refuse a demonstration that is wrong, where demonstrations are used (``OracleError``)."""
        problem, shown = episode.problem, episode.demonstration
        if Oracle.DEMONSTRATION in self.strategy.requires.oracles and shown is not None:
            output = episode.output(shown.tokens)
            reward = score(problem, output)
            if reward < problem.pass_at:
                raise OracleError(
                    f"problem {problem.id!r}: its demonstration {output.text!r} has the reward "
                    f"{reward:g}, and outputs pass from {problem.pass_at:g} on"
                )
            if problem.verifier is not None and not check(problem, output):
                raise OracleError(
                    f"problem {problem.id!r}: its verifier rejects its demonstration {output.text!r}"
                )
        return episode

    def _evaluated(
        self, collector: Collector, episodes: Sequence[Episode], size: int, first: int
    ) -> list[Group]:
        """Groups from the root, which are neither paid from the budget nor learnt from."""
        self._evaluations += 1
        label = f"evaluation {collector.steps}.{self._evaluations}"
        return run_groups(
            collector.generator,
            episodes,
            [f"{e.problem.id}@{label}.{first + i}" for i, e in enumerate(episodes)],
            [True] * len(episodes),
            strategy=collector.strategy,
            contract=collector.contract,
            size=size,
            seed=collector.seed,
        )

    @staticmethod
    def _firsts(prompts: list[Prompt], size: int) -> list[Prompt]:
        """The prompt of each group."""
        groups = [prompts[i : i + size] for i in range(0, len(prompts), size)]
        if any(len(g) < size or any(p != g[0] for p in g) for g in groups):
            raise InvalidInput(
                f"a process must hold whole groups of {size} rollouts, got {len(prompts)} prompts: "
                "choose per_device_train_batch_size × steps_per_generation as a multiple of "
                "num_generations"
            )
        return [g[0] for g in groups]


def rollouts_for_trl(
    strategy: Strategy,
    *,
    grants: Contract | str | None = None,
    budget: Budget | None = None,
    problems: Sequence[Problem] | None = None,
    roots: int = 0,
    seed: int = 0,
) -> Rollouts:
    """Rollouts for TRL's ``GRPOTrainer(rollout_func=…)``, through metered sessions.

    A group of ``num_generations`` rollouts starts where the strategy says. Completions hold the start
    and the suffix; ``env_mask`` is 0 on the start, so that its tokens get exactly no gradient.
    The prefix-tree engine generates on the trainer's own weights. Token ids are those that were
    generated: nothing is tokenized again.

    Args:
        strategy: where groups start.
        grants: the contract of every session (``None``: what the strategy requires). One that names no
            oracle grants those that the problems have.
        budget: the most that training may spend; then ``BudgetSpent`` ends it.
        problems: prompts with rewards, verifiers and demonstrations; train on ``dataset()`` with the
            reward function ``reward``. ``None``: prompts come from the trainer's data set (column
            ``demonstration``, if there is one), rewards from its reward functions.
        roots: how many groups of each step start at the empty prefix whatever the strategy.
        seed: keys all draws.

    Raises:
        InvalidInput: here or at the first step: a value out of range; a strategy that gives credit per
            token, which a plain ``GRPOTrainer`` cannot use; groups that are spread over processes; a
            sampling law that is not the one that the trainer takes gradients of.
        AccessDenied: the strategy requires more than is granted.
    """
    return Rollouts(strategy, grants, budget, problems, roots, seed)


_COLUMNS = (
    *("prompt_ids", "completion_ids", "logprobs", "env_mask"),
    *("reroot_reward", "reroot_start"),
)


def completions(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Groups as TRL wants them, rollout by rollout."""
    found: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for group in groups:
        start = list(group.start.prefix)
        for i, tokens in enumerate(group.tokens):
            found["prompt_ids"].append(list(group.prompt))
            found["completion_ids"].append(start + tokens)
            found["env_mask"].append([0] * len(start) + [1] * len(tokens))
            if group.logprobs is not None:
                found["logprobs"].append([0.0] * len(start) + group.logprobs[i])
        found["reroot_reward"] += group.rewards
        found["reroot_start"] += [len(start)] * len(group.tokens)
    if not found["logprobs"]:
        found["logprobs"] = None  # type: ignore[assignment]
    return found


def _check_credit(trainer: Any, strategy: Strategy) -> None:
    if strategy.per_token and not hasattr(trainer, "token_advantages"):
        raise InvalidInput(
            f"{strategy} gives each token an advantage of its own, which TRL's GRPOTrainer cannot use: "
            "train with reroot.training.SessionTrainer"
        )


def _gatherer(trainer: Any):
    if trainer.accelerator.num_processes == 1:
        return list
    from accelerate.utils import gather_object

    return gather_object


def _saved(trainer: Any) -> dict[str, Any]:
    file = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}" / STATE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"the trainer goes on from step {trainer.state.global_step}, but {file} cannot be read: "
            f"{error}"
        ) from None


def _saver(rollouts: Rollouts) -> Any:
    """A callback that writes the state into every checkpoint."""
    from transformers import TrainerCallback

    class Saver(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                rollouts.save(folder)

    return Saver()
