"""``reroot.compare``: same tasks, same budget, same seeds; only the generator interface changes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..contract import Contract, Control, Oracle
from ..access.runner import Attempt, Job, check_concurrency, execute
from ..checks import check_float, check_int
from ..errors import InvalidInput
from .folder import write_atomically, write_json
from ..access.learner import BoundLearner
from .run import problems_digest
from .attempts import RunFolder, attempt_to_row
from ..types import Budget
from .workload import Cell, Workload, build_workload, is_family

if TYPE_CHECKING:
    import polars as pl

DEFAULT_GRANTS = ("root/sample", "visited/sample", "reset/sample", "chosen/full")
DEFAULT_BUDGET_TOKENS = 200_000


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that is decided before anything runs."""

    workload: Workload
    grants: tuple[Contract, ...]
    learners: tuple[BoundLearner, ...]
    budgets: dict[str, int]
    seeds: int
    beta: float
    load: dict[str, Any]

    def check(self) -> None:
        """Refuse what the generator or the budgets do not allow (``InvalidInput``)."""
        largest = max(len(cell.episodes) for cell in self.workload.cells)
        for currency, amount in self.budgets.items():
            if amount < largest:
                raise InvalidInput(
                    f"budget_{currency}={amount} leaves no {currency.removesuffix('s')} for each "
                    f"of {largest} problems"
                )
        for contract in self.grants:
            refused = self.workload.generator.capabilities.refusal(contract)
            if refused is not None:
                raise InvalidInput(f"the generator cannot honour {contract}: {refused}")

    def granted(self, contract: Contract, task: str) -> Contract:
        """A contract with the task's oracles, unless it names its own."""
        if contract.oracles:
            return contract.resolved
        return contract.with_oracles(self.workload.oracles(task)).resolved

    def permitted(self, learner: BoundLearner, task: str) -> list[Contract]:
        """The contracts that permit a learner on a task."""
        granted = [self.granted(contract, task) for contract in self.grants]
        return [contract for contract in granted if learner.requires <= contract]

    def jobs(self) -> list[Job]:
        """Every learner on every problem, once per sampling law, served exactly what it requires.

        A stronger contract would give identical outputs at identical logical cost (it is a test),
        so nothing is run twice.
        """
        jobs: list[Job] = []
        for cell in self.workload.cells:
            for learner in self.learners:
                budget = Budget(**_shared(self.budgets, len(cell.episodes)))
                laws = {c.sampling for c in self.permitted(learner, cell.task)}
                for law in sorted(laws, key=str):
                    served = Contract(
                        learner.requires.control,
                        learner.requires.report,
                        law,
                        learner.requires.oracles,
                    )
                    jobs += [
                        Job(
                            _key(learner, law, episode.problem.id),
                            learner,
                            episode,
                            served,
                            budget,
                            cell.seed,
                        )
                        for episode in cell.episodes
                    ]
        return jobs

    def config(self) -> dict[str, Any]:
        """The identity of the comparison, as written to ``config.json``."""
        work = self.workload
        return {
            "kind": "compare",
            "version": __version__,
            "model": work.model,
            "generator": dict(work.generator.describe()),
            "tasks": list(work.tasks),
            "horizons": list(work.horizons),
            "grants": [str(g) for g in self.grants],
            "learners": [
                {
                    "name": x.name,
                    "params": {k: str(v) for k, v in x.params.items()},
                    "label": x.label,
                    "requires": str(x.requires),
                }
                for x in self.learners
            ],
            "budget": _shared(self.budgets, work.count),
            **{f"budget_{c}_per_cell": amount for c, amount in self.budgets.items()},
            "seeds": self.seeds,
            "problems": work.count,
            "digest": problems_digest(e.problem for cell in work.cells for e in cell.episodes),
            "beta": self.beta,
            "command": self.command(),
        }

    def command(self) -> str:
        """A shell command that makes the same comparison."""
        work = self.workload
        parts = ["reroot", "compare", "--model", work.model]
        if not is_family(work.model):
            parts += ["--task", ",".join(work.tasks)]
        parts += ["--horizons", ",".join(map(str, work.horizons))]
        parts += ["--grants", ",".join(map(str, self.grants))]
        for learner in self.learners:
            parts += ["--learner", learner.spec]
        for currency, amount in self.budgets.items():
            parts += [f"--budget-{currency}", str(amount)]
        parts += ["--seeds", str(self.seeds), "--problems", str(work.count)]
        parts += ["--beta", repr(self.beta)]
        parts += ["--chat"] if self.load["chat"] else []
        for option, default in (("dtype", "float32"), ("device", "cpu")):
            if self.load[option] != default:
                parts += [f"--{option}", self.load[option]]
        return shlex.join(parts)


def compare(
    *,
    model: str,
    task: str | Sequence[str] = (),
    horizons: Sequence[int] = (),
    grants: Contract | str | Sequence[Contract | str] = DEFAULT_GRANTS,
    learners: BoundLearner | str | Sequence[BoundLearner | str] = (),
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    seeds: int = 3,
    problems: int | None = None,
    beta: float = 0.02,
    out: str | Path,
    concurrency: int = 256,
    transcripts: bool = False,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Comparison:
    """Run every learner that each contract permits, on the same problems within the same budget.

    Args:
        model: an exact family (``hidden_path:K=4,H=16,p=0.4``), ``ngram:FILE``, ``smollm2``, a
            model folder or a hub id.
        task: task name or names; none for an exact family.
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
        problems: problems per cell (default: 8, for exact families 32).
        beta: temperature β of J_β in reward per nat.
        out: run folder; a folder of the same configuration is continued.
        concurrency: attempts in flight; changes no result (on language models: up to rounding).
        transcripts: keep every message of every attempt.
        chat, dtype, device: how to load a language model.
        on_start: called with the number of attempts and how many are done already.
        on_attempt: called with each attempt as it finishes.

    Raises:
        InvalidInput: an unknown name or a value out of range.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    tasks = (task,) if isinstance(task, str) else tuple(task)
    contracts = _contracts([grants] if isinstance(grants, (str, Contract)) else grants)
    bound = _learners([learners] if isinstance(learners, (str, BoundLearner)) else learners)
    budgets = _budgets(budget_tokens, budget_calls)
    check_float("beta", beta, 0.0)
    check_concurrency(concurrency)
    load = {"chat": chat, "dtype": dtype, "device": device}
    workload = build_workload(
        model, tasks, horizons, seeds, problems, chat=chat, dtype=dtype, device=device
    )
    plan = _Plan(workload, contracts, bound, budgets, seeds, beta, load)
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
        load: ``chat``, ``dtype`` and ``device`` with which the workload was built.
        learners, grants, seeds, beta, out, concurrency, on_start, on_attempt: see ``compare``.

    Raises:
        InvalidInput, RunFolderError: see ``compare``.
    """
    bound = _learners(learners)
    plan = _Plan(workload, _contracts(grants), bound, budgets, seeds, beta, load)
    return _run(plan, out, concurrency, False, on_start, on_attempt)


def _run(
    plan: _Plan,
    out: Path,
    concurrency: int,
    transcripts: bool,
    on_start: Callable[[int, int], None],
    on_attempt: Callable[[Attempt], None],
) -> Comparison:
    import polars as pl

    from .summary import summarize
    from .results import PROBLEMS, problem_schema

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


def _rows(plan: _Plan, attempts: dict[str, Attempt]) -> list[dict[str, Any]]:
    """One row per contract, learner and finished attempt, in a fixed order."""
    rows: list[dict[str, Any]] = []
    for cell in plan.workload.cells:
        for learner in plan.learners:
            for contract in plan.permitted(learner, cell.task):
                for episode in cell.episodes:
                    key = _key(learner, contract.sampling, episode.problem.id)
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


def _problem_rows(plan: _Plan) -> list[dict[str, Any]]:
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


def _budgets(tokens: int | None, calls: int | None) -> dict[str, int]:
    """Currency → amount per cell; tokens, unless calls alone are limited."""
    if tokens is None and calls is None:
        tokens = DEFAULT_BUDGET_TOKENS
    given = {"tokens": tokens, "calls": calls}
    budgets = {currency: amount for currency, amount in given.items() if amount is not None}
    for currency, amount in budgets.items():
        check_int(f"budget_{currency}", amount, 1)
    return budgets


def _shared(budgets: dict[str, int], count: int) -> dict[str, int]:
    return {currency: amount // count for currency, amount in budgets.items()}


def _contracts(grants: Sequence[Contract | str]) -> tuple[Contract, ...]:
    contracts = tuple(g if isinstance(g, Contract) else Contract.parse(g) for g in grants)
    if not contracts:
        raise InvalidInput("compare needs at least one contract in grants")
    if len(set(contracts)) != len(contracts):
        raise InvalidInput(f"grants repeat: {', '.join(map(str, contracts))}")
    return contracts


def _learners(learners: Sequence[BoundLearner | str]) -> tuple[BoundLearner, ...]:
    from ..learners import DEFAULT_COMPARISON, get_learner

    chosen = learners or DEFAULT_COMPARISON
    bound = tuple(get_learner(x) if isinstance(x, str) else x for x in chosen)
    for learner in bound:
        if not isinstance(learner, BoundLearner):
            raise InvalidInput(f"expected a learner or its spec, got {learner!r}")
    labels = [learner.label for learner in bound]
    if len(set(labels)) != len(labels):
        raise InvalidInput(f"learners repeat: {', '.join(labels)}")
    return bound


def _key(learner: BoundLearner, sampling: object, problem: str) -> str:
    return f"{problem} | {learner.label} | {sampling}"
