"""``reroot.compare``: same tasks, same budget, same seeds; only the generator interface changes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..access.episode import Episode
from ..access.runner import Attempt, Job
from ..checks import check_float, check_int
from ..contract import Contract
from ..errors import InvalidInput, Shown
from ..generators.base import Generator
from ..specs import check_text
from ..tasks.base import Problem, Task
from .attempts import Execution, Maker, RunFolder, make_attempts, told_failures
from .cells import Cell
from .estimate import WORTH, Estimate, probe, shares_of
from .executors.base import Executor
from .executors.processes import Processes
from .folder import SUMMARY, write_json, write_table
from .inputs import generator_of
from .isolated import on_stderr, place_of
from .kept import chosen
from .made import Picked, where
from .models import Load
from .parted import write_results
from .plan import (
    AnyLearner,
    Jobs,
    Plan,
    budgets_of,
    chosen_learners,
    contracts_of,
    granted_by,
    learners_of,
    several,
    tasks_of,
)
from .results import RunData, load_run, run_data
from .tables import PROBLEMS, comparison_pieces, problem_schema
from .values import Values
from .workload import build_workload

if TYPE_CHECKING:
    import polars as pl

    from ..access.isolation.settings import Isolation

_TOGETHER = 1024  # problems that the generator scores together


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Shown):
    """A comparison.

    Attributes:
        folder: the run folder.
        data: its tables, regrouped by learner.
        summary: the content of ``summary.json``.
        made: how many attempts were made now; the others were there.
        attempts: every attempt, if they were not just read as a table.
        planned: how many attempts there should be; fewer are there if the judge was down.
        estimate: what it will take, or would have taken, if that was asked for.
    """

    folder: Path
    data: RunData
    summary: dict[str, Any]
    made: int = 0
    attempts: Sequence[Attempt] = ()
    planned: int | None = None
    estimate: Estimate | None = None

    def __repr__(self) -> str:
        done, planned = self.data.made
        kinds = [v["kind"] for v in self.summary.get("verdicts", ()) if v["main"]]
        model, tasks = self.data.config.get("model"), ", ".join(self.data.tasks)
        said = f"{done:,} of {planned:,} attempts; {'; '.join(kinds)}; {str(self.folder)!r}"
        return f"Comparison({model} on {tasks}: {said})"

    @property
    def results(self) -> pl.DataFrame:
        """One row per contract, learner and attempt, and the law of each row's contract."""
        return self.data.results

    @property
    def failures(self) -> str | None:
        """One line on how many attempts failed and with what; ``None`` if none did."""
        return told_failures(self.attempts, self.planned)


def compare(
    *,
    model: str | None = None,
    generator: Generator | None = None,
    task: str | Task | Sequence[str | Task] = (),
    value: str | Values | None = None,
    horizons: Sequence[int] = (),
    grants: Contract | str | Sequence[Contract | str] | None = None,
    learners: AnyLearner | Sequence[AnyLearner] = (),
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    budget_usd: float | None = None,
    seeds: int | None = None,
    problems: int | Sequence[Problem] | None = None,
    beta: float = 0.02,
    out: str | Path | None = None,
    concurrency: int = 256,
    transcripts: bool = False,
    keep_errors: bool = False,
    attempt_timeout: float | None = None,
    judge_timeout: float | None = None,
    judge_workers: int = 0,
    isolation: str | Isolation = "none",
    workers: int = 1,
    executor: Executor | None = None,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    chat_template_kwargs: str = "",
    estimate: bool = False,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
    on_estimate: Callable[[Estimate], None] | None = None,
    on_walls: Callable[[str], object] = on_stderr,
) -> Comparison:
    """Run every learner that each contract permits, on the same problems within the same budget.

    Args:
        model: an exact family (``hidden_path:K=4,H=16,p=0.4``), ``ngram:FILE``, ``FILE.py:FACTORY``,
            ``smollm2``, a model folder or a hub id.
        generator: a generator, in place of a model.
        task: task or tasks, by name or as objects; none for an exact family, or with ``problems``.
        value: what ``+value`` asks, in place of the tasks' own value functions: ``prm:FOLDER[:key=value,…]``,
            a ``RewardModel``, or a function that gives each problem its value function.
        horizons: task sizes; none for data sets, which have no such knob.
        grants: contract or contracts to compare. One that names no oracle is granted every oracle the task
            has, so that contracts differ in the generator interface alone. Hidden states (``+hidden``) are
            the generator's, so they are granted where they are named. ``None``: ``plan.DEFAULT_GRANTS``, or
            what a server's key is granted, if that is less.
        learners: learners or their specs, as in ``best_of_n:n=16``; empty: the default set. Each runs
            once, served what it requires: what it does may depend on answers, not on
            ``session.contract``.
        budget_tokens: generated tokens per learner and cell (task x horizon x seed), shared
            equally by the cell's problems (default, without another budget: 200,000).
        budget_calls: rollouts and queries together, per learner and cell, shared in the same way:
            instead of the tokens, or beside them.
        budget_usd: US dollars per learner and cell, shared in the same way, at the prices that the
            generator declares for prompt and generated tokens.
        seeds: number of seeds, 0…seeds−1; each has its own problems and draws (``None``: 3, or those
            that a server has).
        problems: problems per cell (default: 8, for exact families 32), or the problems, in place
            of a task.
        beta: temperature β of J_β in reward per nat.
        out: run folder; a folder of the same configuration is continued. ``None``: a new temporary folder,
            which stays; where it is is said on stderr.
        concurrency: attempts in flight; changes no result (on language models: up to rounding).
        transcripts: keep every message of every attempt.
        keep_errors: leave attempts in ``out`` that failed as they are; else they are made again.
        attempt_timeout: seconds of its own that an attempt may take (``None``: no limit).
        judge_timeout: seconds that one call of a reward, verifier or value function may take.
        judge_workers: processes for calls of rewards, verifiers and value functions, where these take
            much time of a CPU; 0: they are called in this process.
        isolation: ``"none"``, or ``"process"``: learners run in processes of their own, as in ``run``.
        workers: processes that make attempts, each with the model rebuilt from its name; changes no result (on
            language models: up to rounding). An attempt that three of them die with has failed.
        executor: makes them in place of processes of this machine (see ``executor_of``).
        chat, dtype, device: how to load a language model.
        chat_template_kwargs: arguments of its chat template, as in ``enable_thinking=false``.
        trust_remote_code: let code that the model's folder brings along run.
        estimate: make a few attempts of each learner, say what all of it will take (``Comparison.estimate``),
            and stop; they count, and the same call without it goes on from them.
        on_start: called with the number of attempts and how many are done already.
        on_attempt: called with each attempt as it finishes.
        on_estimate: called with such an estimate as soon as it is known, where ``estimate`` asks for it or
            there are ``WORTH`` attempts of each learner, task and horizon left; such a run goes on.
        on_walls: gets one line on what stands around isolated learners and what does not.

    Raises:
        InvalidInput: an unknown name or a value out of range.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    if (model is None) == (generator is None):
        raise InvalidInput("give a model or a generator")
    source = generator_of(generator) if model is None else check_text(model, "a model")
    with place_of(isolation, chosen_learners(learners), on_walls) as place:
        asked = None if grants is None else contracts_of(grants)
        bound = learners_of(learners, place.learner)
        budgets = budgets_of(budget_tokens, budget_calls, budget_usd)
        check_float("beta", beta, 0.0)
        how = Execution(
            concurrency,
            attempt_timeout,
            judge_timeout,
            transcripts,
            keep_errors,
            on_attempt=on_attempt,
            judge_workers=judge_workers,
            place=place,
        )
        load = Load(chat, dtype, device, trust_remote_code, chat_template_kwargs)
        sizes = several("horizons", horizons, int)
        workload = build_workload(
            source, tasks_of(task), sizes, seeds, problems, load, budgets, value, judge_timeout
        )
        number = len({cell.seed for cell in workload.cells})
        contracts = granted_by(workload.generator) if asked is None else asked
        plan = Plan(workload, contracts, bound, budgets, number, beta, load)
        folder = _temporary() if out is None else Path(out)
        asking = Asking(on_estimate, estimate)
        return run_plan(
            *(plan, folder, how, on_start, asking),
            executor=executor or Processes(check_int("workers", workers, 1)),
        )


def _temporary() -> Path:
    """A new folder that nobody named, and where it is."""
    folder = Path(tempfile.mkdtemp(prefix="reroot-"))
    print(f"reroot.compare without out=…: the run folder is {folder}", file=sys.stderr)
    return folder


@dataclass(frozen=True, slots=True)
class Asking:
    """Whether a comparison is estimated.

    Attributes:
        told: gets the estimate; ``None``: nobody wants to know.
        alone: nothing is made beyond the probe.
    """

    told: Callable[[Estimate], None] | None = None
    alone: bool = False


def run_plan(
    plan: Plan,
    out: Path,
    how: Execution,
    on_start: Callable[[int, int], None],
    asking: Asking | None = None,
    summed: bool = True,
    executor: Executor | None = None,
) -> Comparison:
    """``compare`` as planned; not ``summed`` where several comparisons are summarized together."""
    plan.check()
    jobs, config = plan.jobs(), plan.config() | how.place.config
    if not jobs:
        raise InvalidInput("no contract permits any of the learners; see 'reroot list learners'")
    with _maker(plan, how, executor) as maker, RunFolder(out, config, how) as folder:
        left = folder.left(jobs)
        on_start(len(jobs), len(jobs) - len(left))
        problems = problems_table(plan)
        if not (out / PROBLEMS).exists():
            write_table(out / PROBLEMS, problems)
        made, generator = folder.attempts, plan.workload.generator
        pieces = partial(comparison_pieces, config, problems, made)

        def write() -> pl.DataFrame | pl.LazyFrame:
            return write_results(out, pieces())

        with folder.tabling(write):
            estimate, probed = _estimate(
                generator, jobs, left, asking or Asking(), maker, folder, how
            )
        alone = asking is not None and asking.alone
        rest = [] if alone else where(left, lambda job: job.key not in probed)
        results = folder.make(rest, generator, write, maker)
        data = run_data(out, config, results, problems, folder.usage(), len(jobs))
        from .summary import summary_of  # here, as scipy takes time that refusals save

        summary = summary_of(data) if summed else {}
        if summed:
            write_json(out / SUMMARY, summary)
    attempts = chosen(made, where(jobs, lambda job: job.key in made))
    return Comparison(out, data, summary, len(left), attempts, len(jobs), estimate)


@contextmanager
def _maker(plan: Plan, how: Execution, executor: Executor | None) -> Iterator[Maker]:
    """Attempts are made in this process, or in the workers of an executor."""
    if executor is None or executor.here:
        yield make_attempts
        return
    from .elsewhere import Elsewhere, begin, recipe_of, told

    with executor.pool(begin(recipe_of(plan, how))) as pool:
        yield Elsewhere(pool, executor.workers, told)


def _estimate(
    generator: Generator,
    jobs: Jobs,
    left: Picked[Job],
    asking: Asking,
    maker: Maker,
    folder: RunFolder,
    how: Execution,
) -> tuple[Estimate | None, set[str]]:
    """What the attempts of a probe say, where there is to be one; and the keys of these attempts."""
    if not left or not (asking.alone or asking.told is not None):
        return None, set()
    shares = shares_of(left, jobs.place)
    if not asking.alone and len(left) < WORTH * len(shares):
        return None, set()
    probed = set[str]()

    def make(some: Sequence[Job], seconds: float) -> Mapping[str, Attempt]:
        limited = replace(how, seconds=seconds, on_attempt=finished)
        return maker(some, generator, limited, folder)

    def finished(attempt: Attempt) -> None:
        probed.add(attempt.key)
        how.on_attempt(attempt)

    found = probe(shares, make, how.concurrency)
    if asking.told is not None:
        asking.told(found)
    return found, probed


def load_comparison(folder: str | Path) -> Comparison:
    """A comparison from its folder, with its ``summary.json`` written anew.

    Raises:
        RunFolderError: the folder holds no comparison, is damaged, or cannot be written.
    """
    data = load_run(folder)
    from .summary import summary_of

    summary = summary_of(data)
    write_json(data.folder / SUMMARY, summary)
    return Comparison(data.folder, data, summary)


def problems_table(plan: Plan) -> pl.DataFrame:
    """What the generator itself makes of each problem: its log-probability along the demonstration."""
    import polars as pl

    tables = [pl.DataFrame([], schema=problem_schema())]
    for cell in plan.workload.cells:
        parts = [
            pl.DataFrame(
                _problem_rows(plan.workload.generator, cell, cell.episodes[at : at + _TOGETHER]),
                schema=problem_schema(),
            )
            for at in range(0, len(cell.episodes), _TOGETHER)
        ]
        tables.append(pl.concat(parts, rechunk=True))
    return pl.concat(tables)


def _problem_rows(
    generator: Generator, cell: Cell, episodes: Sequence[Episode]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    shown = [e for e in episodes if e.demonstration is not None and len(e.demonstration)]
    requests = [e.scoring(e.demonstration.tokens) for e in shown if e.demonstration]
    replies = iter(generator.answer(requests)) if requests else iter(())
    for episode in episodes:
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
                "cluster": problem.cluster or problem.id,
                "group": problem.group,
                "unique": problem.unique,
                "log_reach": sum(logprobs) if problem.unique and logprobs else None,
                "demo_tokens": [generator.decode([t]) for t in tokens],
                "demo_logprobs": logprobs,
                "prompt": problem.prompt if isinstance(problem.prompt, str) else "",
                "answer": problem.answer,
            }
        )
    return rows
