"""``reroot.compare``: same tasks, same budget, same seeds; only the generator interface changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..access.learner import BoundLearner
from ..access.runner import Attempt, check_concurrency, execute
from ..checks import check_float
from ..contract import Contract, Control, Oracle
from ..errors import InvalidInput
from ..generators.base import Generator
from ..specs import check_text
from ..tasks.base import Problem, Task
from .attempts import RunFolder, attempt_to_row
from .folder import write_atomically, write_json
from .inputs import generator_of
from .plan import (
    AnyLearner,
    Plan,
    attempt_key,
    budgets_of,
    contracts_of,
    learners_of,
    several,
    tasks_of,
)
from .workload import Cell, Workload, build_workload

if TYPE_CHECKING:
    import polars as pl

DEFAULT_GRANTS = ("root/sample", "visited/sample", "reset/sample", "chosen/full")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison.

    Attributes:
        folder: the run folder.
        results: one row per contract, learner and attempt.
        summary: the content of ``summary.json``.
    """

    folder: Path
    results: pl.DataFrame
    summary: dict[str, Any]


def compare(
    *,
    model: str | None = None,
    generator: Generator | None = None,
    task: str | Task | Sequence[str | Task] = (),
    horizons: Sequence[int] = (),
    grants: Contract | str | Sequence[Contract | str] = DEFAULT_GRANTS,
    learners: AnyLearner | Sequence[AnyLearner] = (),
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    seeds: int = 3,
    problems: int | Sequence[Problem] | None = None,
    beta: float = 0.02,
    out: str | Path,
    concurrency: int = 256,
    transcripts: bool = False,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Comparison:
    """Run every learner that each contract permits, on the same problems within the same budget.

    Args:
        model: an exact family (``hidden_path:K=4,H=16,p=0.4``), ``ngram:FILE``, ``FILE.py:FACTORY``,
            ``smollm2``, a model folder or a hub id.
        generator: a generator, in place of a model.
        task: task or tasks, by name or as objects; none for an exact family, or with ``problems``.
        horizons: task sizes.
        grants: contract or contracts to compare. One that names no oracle is granted every oracle the task
            has, so that contracts differ in the generator interface alone. Hidden states (``+hidden``) are
            the generator's, so they are granted where they are named.
        learners: learners or their specs, as in ``best_of_n:n=16``; empty: the default set. Each runs
            once, served what it requires: what it does may depend on answers, not on
            ``session.contract``.
        budget_tokens: generated tokens per learner and cell (task x horizon x seed), shared
            equally by the cell's problems (default, without ``budget_calls``: 200,000).
        budget_calls: rollouts and queries together, per learner and cell, shared in the same way:
            instead of the tokens, or beside them.
        seeds: number of seeds, 0…seeds−1; each has its own problems and draws.
        problems: problems per cell (default: 8, for exact families 32), or the problems, in place
            of a task.
        beta: temperature β of J_β in reward per nat.
        out: run folder; a folder of the same configuration is continued.
        concurrency: attempts in flight; changes no result (on language models: up to rounding).
        transcripts: keep every message of every attempt.
        chat, dtype, device: how to load a language model.
        trust_remote_code: let code that the model's folder brings along run.
        on_start: called with the number of attempts and how many are done already.
        on_attempt: called with each attempt as it finishes.

    Raises:
        InvalidInput: an unknown name or a value out of range.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    if (model is None) == (generator is None):
        raise InvalidInput("give a model or a generator")
    source = generator_of(generator) if model is None else check_text(model, "a model")
    contracts, bound = contracts_of(grants), learners_of(learners)
    budgets = budgets_of(budget_tokens, budget_calls)
    check_float("beta", beta, 0.0)
    check_concurrency(concurrency)
    load = {"chat": chat, "dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    workload = build_workload(
        source,
        tasks_of(task),
        several("horizons", horizons, int),
        seeds,
        problems,
        **load,
        budgets=budgets,
    )
    plan = Plan(workload, contracts, bound, budgets, seeds, beta, load)
    return _run(plan, Path(out), concurrency, transcripts, on_start, on_attempt)


def compare_on(
    workload: Workload,
    *,
    learners: Sequence[str],
    grants: Sequence[str],
    budgets: dict[str, int],
    seeds: int,
    beta: float,
    load: dict[str, Any],
    out: Path,
    concurrency: int,
    on_start: Callable[[int, int], None],
    on_attempt: Callable[[Attempt], None],
) -> Comparison:
    """``compare`` on a workload that is there already, as several comparisons may share one.

    Args:
        workload: the generator and the problems.
        budgets: currency → amount per learner and cell.
        load: ``chat``, ``dtype`` and so on, with which the workload was built.
        learners, grants, seeds, beta, out, concurrency, on_start, on_attempt: see ``compare``.

    Raises:
        InvalidInput, RunFolderError: see ``compare``.
    """
    bound = learners_of(learners)
    plan = Plan(workload, contracts_of(grants), bound, budgets, seeds, beta, load)
    return _run(plan, out, concurrency, False, on_start, on_attempt)


def _run(
    plan: Plan,
    out: Path,
    concurrency: int,
    transcripts: bool,
    on_start: Callable[[int, int], None],
    on_attempt: Callable[[Attempt], None],
) -> Comparison:
    import polars as pl

    from .results import PROBLEMS, problem_schema
    from .summary import summarize

    plan.check()
    generator, jobs = plan.workload.generator, plan.jobs()
    if not jobs:
        raise InvalidInput("no contract permits any of the learners; see 'reroot list learners'")
    started, before = time.perf_counter(), generator.physical()
    with RunFolder(out, plan.config(), transcripts=transcripts) as folder:
        left = [job for job in jobs if job.key not in folder.attempts]
        on_start(len(jobs), len(jobs) - len(left))

        def record(attempt: Attempt) -> None:
            folder.record(attempt)
            seconds = time.perf_counter() - started
            folder.note_usage(generator.physical() - before, seconds)
            on_attempt(attempt)

        if not (out / PROBLEMS).exists():
            table = pl.DataFrame(_problem_rows(plan), schema=problem_schema())
            write_atomically(out / PROBLEMS, table.write_parquet)
        with folder.results(lambda: _rows(plan, folder.attempts)):
            execute(
                left,
                generator,
                concurrency=concurrency,
                on_attempt=record,
                log_of=folder.log_of,
            )
        summary = {**summarize(out), **folder.usage(), "attempts_run": len(left)}
        write_json(out / "summary.json", summary)
    return Comparison(out, pl.read_parquet(out / "results.parquet"), summary)


def _rows(plan: Plan, attempts: dict[str, Attempt]) -> list[dict[str, Any]]:
    """One row per contract, learner and finished attempt, in a fixed order."""
    rows: list[dict[str, Any]] = []
    for cell in plan.workload.cells:
        for learner in plan.learners:
            for contract in plan.permitted(learner, cell.task):
                for episode in cell.episodes:
                    key = attempt_key(learner, contract.sampling, episode.problem.id)
                    if key in attempts:
                        rows.append(_row(cell, learner, contract, attempts[key]))
    return rows


def _row(cell: Cell, learner: BoundLearner, contract: Contract, attempt: Attempt) -> dict[str, Any]:
    used = "+".join(str(o) for o in Oracle if o in learner.requires.oracles)
    return {
        **attempt_to_row(attempt),
        "task": cell.task,
        "horizon": cell.horizon,
        "contract": str(contract),
        "control": str(contract.control),
        "report": str(contract.report),
        "needs_control": learner.requires.control > Control.ROOT,
        "oracles_used": used,
    }


def _problem_rows(plan: Plan) -> list[dict[str, Any]]:
    """What the generator itself makes of each problem: its log-probability along the demonstration."""
    generator = plan.workload.generator
    rows: list[dict[str, Any]] = []
    for cell in plan.workload.cells:
        shown = [e for e in cell.episodes if e.demonstration is not None and len(e.demonstration)]
        requests = [e.scoring(e.demonstration.tokens) for e in shown if e.demonstration]
        replies = iter(generator.answer(requests)) if requests else iter(())
        for episode in cell.episodes:
            problem, demonstration = episode.problem, episode.demonstration
            logprobs: list[float] = []
            if demonstration:
                reply = next(replies)
                assert reply.logprobs is not None
                logprobs = reply.logprobs[0].tolist()
            tokens = demonstration.tokens if demonstration else ()
            rows.append(
                {
                    "task": cell.task,
                    "horizon": cell.horizon,
                    "seed": cell.seed,
                    "problem": problem.id,
                    "unique": problem.unique,
                    "log_reach": sum(logprobs) if problem.unique and logprobs else None,
                    "demo_tokens": [generator.decode([t]) for t in tokens],
                    "demo_logprobs": logprobs,
                    "prompt": problem.prompt if isinstance(problem.prompt, str) else "",
                    "answer": problem.answer,
                }
            )
    return rows
