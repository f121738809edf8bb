"""Suites: named sets of learners, compared twice on the same problems, at two equal budgets.

A suite folder holds three ordinary run folders, each append-only and resumable by itself:

tokens/      every method within the same number of generated tokens per problem
calls/       every method within the same number of calls (rollouts and queries) per problem
rollouts/    plain rollouts alone within the tokens: the speed to compare with
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..checks import check_float, check_int
from ..contract import Contract, Control, Oracle, Report
from ..errors import InvalidInput, RunFolderError, nearest
from ..learners import get_learner
from .attempts import Execution, told_failures
from .compare import Asking, Comparison, run_plan
from .estimate import Estimate
from .executors.base import Executor
from .executors.processes import Processes
from .folder import SUMMARY, JournalFolder, read_config, write_json
from .isolated import on_stderr, place_of
from .models import Load, is_family
from .plan import Plan, learners_of
from .results import load_run, reading_config
from .suite_summary import suite_summary_of
from .workload import Workload, build_workload

if TYPE_CHECKING:
    from ..access.isolation.settings import Isolation
    from ..access.learner import BoundLearner
    from ..access.runner import Attempt

PARTS = ("tokens", "calls", "rollouts")
GRANTS = Contract(Control.CHOSEN, Report.FULL)


@dataclass(frozen=True, slots=True)
class Size:
    """How much a suite runs.

    Attributes:
        horizons: task sizes.
        problems: per task, horizon and seed.
        seeds: number of seeds.
        tokens: generated tokens per problem.
        calls: rollouts and queries per problem.
    """

    horizons: tuple[int, ...]
    problems: int
    seeds: int
    tokens: int
    calls: int


@dataclass(frozen=True, slots=True)
class Suite:
    """Learners that are compared with each other.

    Attributes:
        name: as on the command line.
        about: one line.
        learners: their specs, with parameters that let them use a budget up.
        plain: the learner whose speed is that of plain rollouts.
        tasks: default tasks.
        full, quick: sizes.
    """

    name: str
    about: str
    learners: tuple[str, ...]
    plain: str
    tasks: tuple[str, ...]
    full: Size
    quick: Size


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """A suite.

    Attributes:
        folder: the suite folder.
        summary: the content of its ``summary.json``.
        failures: one line on how many attempts failed and with what; ``None`` if none did.
    """

    folder: Path
    summary: dict[str, Any]
    failures: str | None = None


_SAMPLING = Suite(
    "sampling",
    "sampling and search methods at equal generated tokens, and at equal calls",
    (
        # one rollout is the base line; n=1000 and the like: as many as the budget allows
        "best_of_n:n=1",
        "best_of_n:n=1000",
        "best_of_n:n=1000,oracle=verifier",
        "first_success",
        "self_consistency:n=1000",
        "soft_best_of_n:n=1000,beta=0.2",
        "adaptive_best_of_n",
        "softmax_rejection:beta=0.2,bound=16",
        "inference_time_pessimism:n=64,beta=0.2",
        "representation_coreset:n=1000,k=8,dims=none",
        "power_sampling:alpha=4,moves=1000",
        "smc:particles=none,beta=0.2",
        "smc:particles=none,beta=0.2,twist=rollouts,samples=1,stride=3",
        "segment_tree:width=none,segment=2,branching=8",
        "tree_rollouts:chains=2,rounds=1000",
        "verifier_tree_search:subtrees=none,width=4",
        "diligent_search:tries=3,verify=true,searches=none",
        "tokenwise_rejection",
        "backtracking:quota=64",
        "greedy_walk",
        "beam_search:width=4",
        "beam_search:width=4,verify=true",
        "tree_search:simulations=1000",
        "action_rejection:beta=0.1,decay=0.3,children=8",
        "vgb:beta=0.1,decay=0.3,children=8,steps=32",
        "latent_exploration",
    ),
    "best_of_n:n=1000",
    (
        "running_sum",
        "increment",
        "reasoning_gym:chain_sum:min_terms=2,max_terms=2,min_digits=1,max_digits=1,max_tokens=12",
        "reasoning_gym:letter_counting:max_tokens=8",
    ),
    full=Size(horizons=(2, 3), problems=8, seeds=2, tokens=512, calls=96),
    quick=Size(horizons=(2,), problems=6, seeds=1, tokens=160, calls=32),
)
SUITES: dict[str, Suite] = {suite.name: suite for suite in (_SAMPLING,)}


def get_suite(name: str) -> Suite:
    """The suite of this name (``InvalidInput`` with the nearest name if there is none)."""
    if name not in SUITES:
        raise InvalidInput(f"unknown suite {name!r}.{nearest(name, SUITES)}")
    return SUITES[name]


def run_suite(
    suite: str,
    *,
    model: str,
    out: str | Path,
    quick: bool = False,
    task: str | Sequence[str] = (),
    value: str | None = None,
    horizons: Sequence[int] = (),
    seeds: int | None = None,
    problems: int | None = None,
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    beta: float = 0.02,
    concurrency: int = 512,
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
    on_start: Callable[[str, int, int], None] = lambda part, total, done: None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
    estimate: bool = False,
    on_estimate: Callable[[Estimate], None] | None = None,
    on_walls: Callable[[str], object] = on_stderr,
) -> SuiteRun:
    """Run every method of a suite within equal generated tokens, and again within equal calls.

    Each method is served exactly what it requires. Tasks that lack an oracle run the methods that
    do without it.

    Args:
        suite: its name.
        model: as for ``compare``; a family brings its own task and horizon.
        out: suite folder; a folder of the same configuration is continued.
        quick: the small sizes.
        task, horizons, seeds, problems: in place of the suite's.
        value: what ``+value`` asks, as for ``compare``.
        budget_tokens, budget_calls: per task, horizon and seed, shared equally by the problems
            there; in place of the suite's, which are per problem.
        beta: temperature β of J_β, reward per nat.
        concurrency: attempts in flight: what they ask at the same moment is one batch.
        keep_errors, attempt_timeout, judge_timeout, judge_workers, isolation, workers, executor,
            chat_template_kwargs, on_walls: as for ``compare``.
        chat, dtype, device: how to load a language model.
        trust_remote_code: let code that the model's folder brings along run.
        on_start: called for each part with its name, its attempts and how many are done.
        on_attempt: called with each attempt as it finishes.
        estimate, on_estimate: as for ``compare``, of each part.

    Raises:
        InvalidInput: an unknown name or a value out of range.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    chosen = get_suite(suite)
    size = chosen.quick if quick else chosen.full
    check_float("beta", beta, 0.0)
    how = Execution(
        concurrency,
        attempt_timeout,
        judge_timeout,
        keep_errors=keep_errors,
        on_attempt=on_attempt,
        judge_workers=judge_workers,
    )
    family = is_family(model)
    tasks = ((task,) if isinstance(task, str) else tuple(task)) or (() if family else chosen.tasks)
    load = Load(chat, dtype, device, trust_remote_code, chat_template_kwargs)
    count = size.problems if problems is None else problems
    workload = build_workload(
        model,
        tasks,
        horizons or (() if family else size.horizons),
        size.seeds if seeds is None else seeds,
        count,
        load,
        value=value,
        judge_timeout=judge_timeout,
    )
    budgets = {
        "tokens": size.tokens * count if budget_tokens is None else budget_tokens,
        "calls": size.calls * count if budget_calls is None else budget_calls,
    }
    seeds = len({cell.seed for cell in workload.cells})
    plan = Plan(workload, (), (), budgets, seeds, beta, load)
    executor, asking = (
        executor or Processes(check_int("workers", workers, 1)),
        Asking(on_estimate, estimate),
    )
    with place_of(isolation, chosen.learners, on_walls) as place:
        how = replace(how, place=place)
        return _run(chosen, plan, Path(out), how, on_start, asking, executor)


def _run(
    suite: Suite,
    whole: Plan,
    out: Path,
    how: Execution,
    on_start: Callable[[str, int, int], None],
    asking: Asking,
    executor: Executor,
) -> SuiteRun:
    able, unable = _able(suite, whole.workload)
    config = _config(suite, whole, unable)
    made: dict[str, Comparison] = {}
    with JournalFolder(out, config, str, PARTS):
        # the plain rollouts come first: who meets the prompts first computes them
        for part in ("rollouts", "tokens", "calls"):
            currency = "tokens" if part == "rollouts" else part
            learners = learners_of((suite.plain,) if part == "rollouts" else able)
            budgets = {currency: whole.budgets[currency]}
            plan = replace(whole, grants=_grants(learners), learners=learners, budgets=budgets)
            begin = partial(on_start, part)
            made[part] = run_plan(
                plan, out / part, how, begin, asking, summed=False, executor=executor
            )
        summary = suite_summary_of(config, {part: run.data for part, run in made.items()})
        write_json(out / SUMMARY, summary)
    return SuiteRun(out, summary, _failures(made.values()))


def _failures(parts: Iterable[Comparison]) -> str | None:
    runs = list(parts)
    planned = sum(run.planned or 0 for run in runs)
    return told_failures((a for run in runs for a in run.attempts), planned)


def load_suite(folder: str | Path) -> SuiteRun:
    """A suite from its folder, with its ``summary.json`` written anew.

    Raises:
        RunFolderError: it is no folder of a suite, a part of it is not there or damaged, or it
            cannot be written.
    """
    path = Path(folder)
    config = read_config(path)
    if config.get("kind") != "suite":
        raise RunFolderError(f"{path} holds no suite: its kind is {config.get('kind')!r}")
    parts = {part: load_run(path / part) for part in PARTS}
    with reading_config(path, "suite"):
        summary = suite_summary_of(config, parts)
    write_json(path / SUMMARY, summary)
    return SuiteRun(path, summary)


def _able(suite: Suite, workload: Workload) -> tuple[tuple[str, ...], dict[str, str]]:
    """The learners that the generator can serve, and why not the others."""
    unable: dict[str, str] = {}
    for spec in suite.learners:
        required = get_learner(spec).requires
        refused = workload.generator.capabilities.refusal(required)
        oracles = frozenset[Oracle]().union(*map(workload.oracles, workload.tasks))
        lacking = required.oracles - oracles - {Oracle.HIDDEN}
        if refused is not None:
            unable[spec] = refused
        elif lacking:
            unable[spec] = f"no task has {', '.join(sorted(map(str, lacking)))}"
    return tuple(spec for spec in suite.learners if spec not in unable), unable


def _grants(learners: Sequence[BoundLearner]) -> tuple[Contract, ...]:
    """Everything without oracles, to which each task adds its own; and hidden states, by name."""
    hidden = [x.requires for x in learners if Oracle.HIDDEN in x.requires.oracles]
    return (GRANTS, *dict.fromkeys(hidden))


def _config(suite: Suite, plan: Plan, unable: dict[str, str]) -> dict[str, Any]:
    """The identity of a suite run; what its parts are is in their own configurations."""
    workload = plan.workload
    return {
        "kind": "suite",
        "version": __version__,
        "suite": suite.name,
        "about": suite.about,
        "model": workload.model,
        "plain": get_learner(suite.plain).label,
        "grants": str(GRANTS),
        "budgets_per_cell": plan.budgets,
        "beta": plan.beta,
        "oracles": {t: sorted(map(str, workload.oracles(t))) for t in workload.tasks},
        "unable": {get_learner(spec).label: why for spec, why in unable.items()},
    }
