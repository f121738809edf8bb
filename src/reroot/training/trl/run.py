"""``reroot train``: a training run in a folder, resumable after a kill at any moment.

config.json        the settings; a folder continues only under the same ones
journal.jsonl      one line per step, evaluation and event, the truth of the curves
checkpoints/       TRL's checkpoints; one is whole when it holds ``reroot.json``
model/             the final weights
results.parquet    the steps as a table;  summary.json: how it ended
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...access.episode import Episode, bind
from ...errors import RerootError, RunFolderError
from ...generators.models import load, quiet, resolve
from ...runs.folder import (
    CONFIG,
    RESULTS,
    SUMMARY,
    JournalFolder,
    write_atomically,
    write_json,
)
from ...tasks.base import Problem
from ...tasks.registry import get_task
from ..advantages import KL
from .bridge import Rollouts
from .collector import BudgetSpent
from .config import TrainConfig
from .evaluation import evaluate, evaluation_line
from .problems import prompt_of
from .setup import (
    CHECKPOINTS,
    contract_of,
    freeze_below,
    grpo_config,
    last_checkpoint,
    lora,
    step_of,
)

MODEL = "model"
QUIET = 50
"""Steps without any signal after which an event says so; then again after twice as many."""

Told = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Watch:
    """Who is told of lines of the journal as they are written."""

    step: Told = lambda line: None
    evaluation: Told = lambda line: None
    event: Told = lambda line: None


def train_run(config: TrainConfig, out: str | Path, watch: Watch | None = None) -> dict[str, Any]:
    """Train, or continue training, in a run folder.

    Returns:
        The content of ``summary.json``.

    Raises:
        InvalidInput: the model, the task or a setting is not what is expected.
        RunFolderError: ``out`` holds another run, or cannot be written; what is finished is safe.
        RerootError: a reward, a law or a loss is no number; the last checkpoint stays.
    """
    folder = Path(out)
    with JournalFolder(folder, run_config(config), _name, parts=(CHECKPOINTS,)) as journal:
        if (folder / SUMMARY).exists() and "end" in journal.lines and (folder / MODEL).is_dir():
            return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        try:
            return _Run(config, journal, watch or Watch()).run()
        except RerootError:
            if not journal.lines:  # nothing was done: the folder is free for other settings
                (folder / CONFIG).unlink()
            raise


def _name(line: dict[str, Any]) -> str:
    return line["name"]


def run_config(config: TrainConfig) -> dict[str, Any]:
    """The identity of a run, as written to ``config.json``."""
    strategy = config.make_strategy()
    return {
        "kind": "train",
        "version": __version__,
        **config.to_dict(),
        "strategy": str(strategy),
        "arm": config.arm,
        "contract": str(contract_of(config)),
        "budget": config.budget.to_dict(),
        "command": command(config),
    }


def command(config: TrainConfig) -> str:
    """The shell command of these settings."""
    defaults = TrainConfig(model=config.model, task=config.task, horizon=config.horizon).to_dict()
    words = ["reroot", "train"]
    for name, value in config.to_dict().items():
        required = name in ("model", "task", "horizon")
        if name != "trl" and (required or value != defaults[name]):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)


class _Run:
    """One call of ``train_run``."""

    def __init__(self, config: TrainConfig, journal: JournalFolder, watch: Watch) -> None:
        self.config, self.journal, self.watch = config, journal, watch
        self.folder = journal.path
        self.reason = "steps"
        self.quiet, self.told = 0, QUIET
        self.started = time.perf_counter()

    def run(self) -> dict[str, Any]:
        with quiet():
            return self._run()

    def _run(self) -> dict[str, Any]:
        from transformers.trainer_callback import PrinterCallback

        checkpoint = last_checkpoint(self.folder / CHECKPOINTS)
        trainer, rollouts = self._trainer()
        trainer.remove_callback(PrinterCallback)  # the screen shows it
        trainer.add_callback(_callback(self, trainer, rollouts))
        step = 0 if checkpoint is None else step_of(checkpoint)
        if not step:  # the untrained policy
            rollouts.prepare(trainer)
            self.evaluate(trainer, rollouts)
        if self._reached(step):
            trainer.args.max_steps, self.reason = step, "target"
            if not step:
                return self._finish(trainer, rollouts)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except BudgetSpent:
            self.reason = "budget"
        except RerootError:
            raise
        except OSError as error:
            raise self._unwritable(error) from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":  # a full disk, as safetensors tells it
                raise
            raise self._unwritable(error) from error
        return self._finish(trainer, rollouts)

    def _unwritable(self, error: Exception) -> RunFolderError:
        return RunFolderError(
            f"can't write {self.folder}: {error}. Make room and run the same command again: it "
            "continues from the last checkpoint."
        )

    def _trainer(self) -> tuple[Any, Rollouts]:
        from .native_generation import OwnGeneration, OwnTrainer
        from .trainer import SessionTrainer

        config = self.config
        trust = {"trust_remote_code": config.trust_remote_code}
        path = resolve(config.model, **trust)
        model, tokenizer = load(path, **trust)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if config.last_layers is not None:
            freeze_below(model, config.last_layers)
        problems = distinct(
            get_task(config.task).problems(config.horizon, config.problems, config.seed)
        )
        own = config.generation == "trl"
        rollouts = (OwnGeneration if own else Rollouts)(
            config.make_strategy(),
            grants=config.grants,
            budget=config.budget,
            problems=problems,
            roots=config.root_groups,
            seed=config.seed,
        )
        longest = max(p.max_tokens for p in problems)
        make: Any = OwnTrainer if own else SessionTrainer
        trainer = make(
            model=model,
            processing_class=tokenizer,
            args=grpo_config(config, self.folder, longest),
            rollouts=rollouts,
            kl=KL(config.beta, config.kl),
            peft_config=lora(config.lora),
        )
        return trainer, rollouts

    # ---- what the callback tells ---------------------------------------------------------------

    def begin(self, trainer: Any, rollouts: Rollouts) -> None:
        """Before the first step of this call: sessions and counts are as they were."""
        rollouts.prepare(trainer)
        for step in range(1, trainer.state.global_step + 1):
            line = self.journal.lines[f"step/{step}"]
            self._silent_for(line["silent"] == line["groups"])

    def step(self, trainer: Any, rollouts: Rollouts, logs: dict[str, float]) -> None:
        batch, collector = rollouts.batch, rollouts.collector
        assert batch is not None
        assert collector is not None
        groups, step = batch.groups, trainer.state.global_step
        silent = sum(g.silent for g in groups)
        lengths = [len(g.start.prefix) for g in groups]
        rewards = {True: list[float](), False: list[float]()}
        for g in groups:
            rewards[not g.start.prefix] += g.rewards
        now = time.perf_counter()
        line = {
            "name": f"step/{step}",
            "step": step,
            "tokens": collector.spent.tokens,
            "spent": collector.spent.to_dict(),
            "building": sum(g.building.tokens for g in groups),
            "root": _mean(rewards[True]),
            "prefix": _mean(rewards[False]),
            "kl": trainer.kl_estimate,
            "silent": silent,
            "groups": len(groups),
            "start": _mean(lengths),
            "longest": max(lengths),
            "loss": logs.get("loss"),
            "grad_norm": logs.get("grad_norm"),
            "seconds": round(now - self.started, 3),
        }
        self.started = now
        self.journal.add(line)
        self.watch.step(line)
        self._silence(step, silent == len(groups))

    def _silent_for(self, silent: bool) -> bool:
        """Count steps without signal; whether it is time to say so."""
        self.quiet = self.quiet + 1 if silent else 0
        self.told = self.told if silent else QUIET
        due = self.quiet >= self.told
        self.told *= 1 + due
        return due

    def _silence(self, step: int, silent: bool) -> None:
        if self._silent_for(silent):
            text = f"no signal for {self.quiet} steps: in every group all rewards were equal"
            line = {"name": f"event/{step}", "step": step, "text": text}
            self.journal.add(line)
            self.watch.event(line)

    def evaluate(self, trainer: Any, rollouts: Rollouts) -> None:
        config, collector = self.config, rollouts.collector
        assert collector is not None
        if not config.eval_problems:
            return
        step, started = trainer.state.global_step, time.perf_counter()
        collector.generator.weights_changed()  # type: ignore[attr-defined]
        found = evaluate(
            collector.generator,
            self._held_out(collector.generator),
            collector.strategy,
            collector.contract,
            size=config.eval_size,
            seed=config.seed,
            label=f"evaluation {step}",
        )
        seconds = round(time.perf_counter() - started, 3)
        line = {"name": f"eval/{step}", "step": step, "tokens": collector.spent.tokens}
        line |= {**evaluation_line(found), "seconds": seconds}
        self.journal.add(line)
        self.watch.evaluation(line)
        self.started = time.perf_counter()
        if self._reached(step):
            self.reason = "target"

    def _reached(self, step: int) -> bool:
        """Whether the evaluation after this step met the target."""
        line = self.journal.lines.get(f"eval/{step}")
        target = self.config.target
        return target is not None and line is not None and line["root"]["1"] >= target

    def _held_out(self, generator: Any) -> list[Episode]:
        """Problems of another seed, without those that are trained on."""
        config = self.config
        task = get_task(config.task)
        known = {prompt_of(p) for p in task.problems(config.horizon, config.problems, config.seed)}
        others = task.problems(config.horizon, config.eval_problems, config.seed + 1)
        fresh = [p for p in distinct(others) if prompt_of(p) not in known]
        return [bind(p, generator) for p in fresh or distinct(others)]

    def _finish(self, trainer: Any, rollouts: Rollouts) -> dict[str, Any]:
        collector = rollouts.collector
        assert collector is not None
        step = trainer.state.global_step
        if f"eval/{step}" not in self.journal.lines:
            self.evaluate(trainer, rollouts)
        beside = self.folder / f".{MODEL}.{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        trainer.save_model(str(beside))
        shutil.rmtree(self.folder / MODEL, ignore_errors=True)
        os.replace(beside, self.folder / MODEL)
        spent = collector.spent
        end = {"name": "end", "step": step, "reason": self.reason, "tokens": spent.tokens}
        self.journal.add(end)
        write_results(self.folder, self.journal.lines)
        evaluation = self.journal.lines.get(f"eval/{step}")
        summary = {"kind": "train", "version": __version__, "steps": step, "reason": self.reason}
        summary |= {"spent": spent.to_dict(), "evaluation": evaluation}
        summary["command"] = self.journal.config["command"]
        write_json(self.folder / SUMMARY, summary)
        return summary


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def distinct(problems: Sequence[Problem]) -> list[Problem]:
    """The first problem of each prompt: small tasks have few."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(prompt_of(problem), problem)
    return list(found.values())


def _callback(run: _Run, trainer: Any, rollouts: Rollouts) -> Any:
    """TRL's events → the run."""
    from transformers import TrainerCallback

    class Journal(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            run.begin(trainer, rollouts)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            run.step(trainer, rollouts, logs)
            step = state.global_step
            if step % run.config.eval_every == 0:
                run.evaluate(trainer, rollouts)
            if run.reason == "target":
                control.should_training_stop = True

    return Journal()


def write_results(folder: Path, lines: dict[str, dict[str, Any]]) -> None:
    """``results.parquet``: one row per step."""
    import polars as pl

    steps = [line for name, line in lines.items() if name.startswith("step/")]
    rows = [
        {k: v for k, v in line.items() if k not in ("name", "spent")} | line["spent"]
        for line in sorted(steps, key=lambda line: line["step"])
    ]
    if rows:
        table = pl.DataFrame(rows, infer_schema_length=None)
        write_atomically(folder / RESULTS, lambda beside: table.write_parquet(beside))
