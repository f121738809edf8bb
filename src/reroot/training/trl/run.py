"""A training run in a folder, resumable after a kill at any moment.

config.json        the settings; a folder continues only under the same ones
journal.jsonl      one line per step, evaluation and event, the truth of the curves
completions.jsonl  what steps have sampled, as far as it is kept (``completions``)
checkpoints/       TRL's checkpoints; one is whole when it holds ``reroot.json``
model/             the final weights
results.parquet    the steps as a table;  summary.json: how it ended
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...access.episode import bind
from ...generators.models import load, quiet
from ...runs.folder import (
    RESULTS,
    SUMMARY,
    JournalFolder,
    write_json,
    write_table,
)
from ..advantages import KL
from ..groups import BudgetSpent
from .bridge import Rollouts
from .callbacks import Callbacks
from .completions import CompletionLog, kept_count
from .config import CHECKPOINTS, MODEL, TrainConfig
from .evaluation import evaluate
from .setup import freeze_below, grpo_config, last_checkpoint, lora, step_of

NO_SIGNAL = 50
"""Steps of zero-variance groups alone after which an event says so; then again after twice as many."""


class Run:
    """One call of ``train_run``."""

    def __init__(self, config: TrainConfig, journal: JournalFolder, callbacks: Callbacks) -> None:
        self.config, self.journal, self.callbacks = config, journal, callbacks
        self.folder = journal.path
        self.reason = "steps"
        self.no_signal, self.warn_at = 0, NO_SIGNAL
        self.started = time.perf_counter()
        self.completions = CompletionLog(
            self.folder,
            config.training_problems(),
            kept_count(config.keep_completions),
            config.seed,
        )

    def run(self) -> dict[str, Any]:
        try:
            with quiet():
                return self._run()
        finally:
            self.completions.close()

    def _run(self) -> dict[str, Any]:
        from transformers.trainer_callback import PrinterCallback

        checkpoint = last_checkpoint(self.folder / CHECKPOINTS)
        trainer, rollouts = self._trainer()
        trainer.remove_callback(PrinterCallback)  # the screen shows it
        trainer.add_callback(_callback(self, trainer, rollouts))
        step = 0 if checkpoint is None else step_of(checkpoint)
        if not step:  # the untrained policy
            rollouts.prepare(trainer)
            if (remarks := self.config.remarks()) and "event/0" not in self.journal.lines:
                self._tell(0, "; ".join(remarks))
            self.evaluate(trainer, rollouts)
        if self._reached(step):
            trainer.args.max_steps, self.reason = step, "target"
            if not step:
                return self._finish(trainer, rollouts)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except BudgetSpent:
            self.reason = "budget"
        return self._finish(trainer, rollouts)

    def _trainer(self) -> tuple[Any, Rollouts]:
        from .native_generation import NativeGeneration, NativeTrainer
        from .trainer import SessionTrainer

        config = self.config
        trust, pair = config.trust_remote_code, config.model
        model, tokenizer = pair if isinstance(pair, tuple) else load(pair, trust_remote_code=trust)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if config.last_layers is not None:
            freeze_below(model, config.last_layers)
        problems = config.training_problems()
        native = config.generation == "trl"
        rollouts = (NativeGeneration if native else Rollouts)(
            config.make_strategy(),
            grants=config.contract,
            budget=config.budget,
            problems=problems,
            roots=config.root_groups,
            seed=config.seed,
            chat=config.chat,
        )
        longest = max(p.max_tokens for p in problems)
        make: Any = NativeTrainer if native else SessionTrainer
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
            self._is_warning_due(line["zero_variance"] == line["groups"])

    def step(self, trainer: Any, rollouts: Rollouts, logs: dict[str, float]) -> None:
        batch, collector = rollouts.batch, rollouts.collector
        assert batch is not None
        assert collector is not None
        groups, step = batch.groups, trainer.state.global_step
        equal = sum(g.zero_variance for g in groups)
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
            "zero_variance": equal,
            "groups": len(groups),
            "start": _mean(lengths),
            "longest": max(lengths),
            "loss": logs.get("loss"),
            "grad_norm": logs.get("grad_norm"),
            "seconds": round(now - self.started, 3),
        }
        self.started = now
        self.completions.step(step, groups, collector.generator)
        self.journal.add(line)
        self.callbacks.step(line)
        if self._is_warning_due(equal == len(groups)):
            text = f"no signal for {self.no_signal} steps: in every group all rewards were equal"
            self._tell(step, text)

    def _tell(self, step: int, text: str) -> None:
        """Something that deserves a look."""
        line = {"name": f"event/{step}", "step": step, "text": text}
        self.journal.add(line)
        self.callbacks.event(line)

    def _is_warning_due(self, no_signal: bool) -> bool:
        """Count steps without signal; whether it is time to say so."""
        self.no_signal = self.no_signal + 1 if no_signal else 0
        self.warn_at = self.warn_at if no_signal else NO_SIGNAL
        due = self.no_signal >= self.warn_at
        self.warn_at *= 1 + due
        return due

    def evaluate(self, trainer: Any, rollouts: Rollouts) -> None:
        config, collector = self.config, rollouts.collector
        assert collector is not None
        if not config.eval_count:
            return
        step, started = trainer.state.global_step, time.perf_counter()
        collector.generator.weights_changed()  # type: ignore[attr-defined]
        found = evaluate(
            collector.generator,
            [bind(p, collector.generator) for p in config.held_out_problems()],
            collector.strategy,
            collector.contract,
            size=config.eval_size,
            seed=config.seed,
            label=f"evaluation {step}",
        )
        rollouts.rest()
        seconds = round(time.perf_counter() - started, 3)
        line = {"name": f"eval/{step}", "step": step, "tokens": collector.spent.tokens}
        line |= {**found, "seconds": seconds}
        self.journal.add(line)
        self.callbacks.evaluation(line)
        self.started = time.perf_counter()
        if self._reached(step):
            self.reason = "target"

    def _reached(self, step: int) -> bool:
        """Whether the evaluation after this step met the target."""
        line = self.journal.lines.get(f"eval/{step}")
        target = self.config.target
        return target is not None and line is not None and line["root"]["1"] >= target

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


def _callback(run: Run, trainer: Any, rollouts: Rollouts) -> Any:
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
        write_table(folder / RESULTS, table)
