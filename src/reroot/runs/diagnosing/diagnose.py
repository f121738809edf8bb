"""``reroot.diagnose``: the examination of a task on a model, what it means, and its record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...access.attempt import Attempt
from ...checks import check_float, check_int
from ...contract import Contract, Sampling
from ...diagnosis.causes import Cause, Ruling, rule
from ...errors import InvalidInput, RunFolderError
from ...generators.base import Generator
from ...tasks.base import Problem, Task
from ..attempts import Execution, Maker, RunFolder
from ..executors.base import Executor
from ..executors.processes import Processes
from ..folder import CONFIG, RESULTS, made_folder, read_json, write_json, write_table
from ..models import DEFAULT_LOAD, Load
from ..run import problems_digest
from ..tables import attempts_table
from ..workload import Workload, build_workload
from .away import maker_of
from .examination import Examination
from .forecast import counts, forecast, pass_posterior, reach_of
from .from_log import diagnose_log, shares
from .patient import LOOK, Patient
from .remedies import Remedies
from .trainer_log import read_trainer_log

DIAGNOSIS = "diagnosis.json"
_BUDGET = {False: 200_000, True: 300_000}
"""Tokens by default: of language models, and of exact families."""
_LADDER = (
    "chosen/full",
    "chosen/logprob",
    "chosen/sample",
    "reset/sample",
    "visited/sample",
    "root/sample",
)
"""Contracts from the strongest; the first that a generator honours is granted."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        summary: the content of ``diagnosis.json``.
        attempts: every attempt, by key.
        folder: where it is kept, if it is.
    """

    summary: dict[str, Any]
    attempts: dict[str, Attempt]
    folder: Path | None = None

    @property
    def causes(self) -> dict[str, str]:
        """Problem → what limits it."""
        return {p["id"]: p["cause"] for p in self.summary["problems"]}


def diagnose(
    model: str | Generator | None = None,
    task: str | Task | Sequence[Problem] | None = None,
    *,
    group: int = 8,
    per_step: int = 8,
    sampling: str = "T=1",
    horizon: int | None = None,
    problems: int = 32,
    grants: Contract | str | None = None,
    budget_tokens: int | None = None,
    remedy_tokens: int | None = None,
    trainer_log: str | Path | None = None,
    pass_at: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    load: Load = DEFAULT_LOAD,
    judge_timeout: float | None = None,
    judge_workers: int = 0,
    concurrency: int = 256,
    workers: int = 1,
    executor: Executor | None = None,
    on_progress: Callable[[str], object] = lambda line: None,
) -> Diagnosis:
    """Find out what limits each problem's reward, what a trainer would see, and what would help.

    Args:
        model: as for ``compare``: a name, an endpoint, an exact family, or a generator.
        task: a task, its name, or problems; none for an exact family.
        group: G, rollouts per group of the trainer.
        per_step: groups per step of the trainer.
        sampling: the law that the trainer draws from, as in ``T=0.7,top_p=0.9``.
        horizon: size of problems, where there is a knob.
        problems: how many.
        grants: what the diagnosis may use; ``None``: the strongest that the generator honours.
        budget_tokens: generated tokens in all (default: 200,000; exact families 300,000).
        remedy_tokens: B, what a remedy may cost per problem (default: 4·G·H).
        trainer_log: what a trainer has left (see ``trainer_log``); without a model it is all there is.
        pass_at: reward from which a completion of that log passes, where it is all there is (default: 1).
        seed: of problems and attempts.
        out: a folder to write and to resume from: ``diagnosis.json``, the attempts, results.parquet.
        load: how to load a language model.
        judge_timeout: seconds that one call of a judge may take.
        judge_workers: processes for such calls.
        concurrency: attempts in flight; changes no result (on language models: up to rounding).
        workers, executor: where attempts are made, as for ``compare``; they need ``out``.
        on_progress: told a line now and then.

    Raises:
        InvalidInput: a value is out of range, or the generator does not honour the contract.
        BackendError: the generator failed.
        RunFolderError: ``out`` holds another diagnosis, or cannot be written.
    """
    check_int("group", group, 2, 1024)
    check_int("per_step", per_step, 1)
    check_int("seed", seed)
    log = None if trainer_log is None else read_trainer_log(trainer_log)
    if pass_at is not None and (log is None or model is not None):
        raise InvalidInput(
            "pass_at is for a trainer_log alone: with a model its task's judge says it"
        )
    if model is None:
        if log is None:
            raise InvalidInput("name a model, or a trainer_log")
        least = check_float("pass_at", 1.0 if pass_at is None else pass_at)
        summary = diagnose_log(log, group=group, per_step=per_step, pass_at=least, seed=seed)
        return _kept(summary, out)
    tasks, given = _given(task)
    count = check_int("problems", problems, 1) if given is None else given
    horizons = [] if horizon is None else [check_int("horizon", horizon, 1)]
    work = build_workload(model, tasks, horizons, 1, count, load, checked=False)
    budget = _BUDGET[not tasks and given is None] if budget_tokens is None else budget_tokens
    config = _config(work, _granted(work.generator, grants, Sampling.parse(sampling)))
    config |= {"group": group, "per_step": per_step, "seed": seed}
    config |= {"budget_tokens": check_int("budget_tokens", budget, 1)}
    if remedy_tokens is not None:
        check_int("remedy_tokens", remedy_tokens, 1)
    config |= {"remedy_tokens": remedy_tokens}
    how = Execution(concurrency, None, judge_timeout, keep_errors=True, judge_workers=judge_workers)
    executor = executor or Processes(check_int("workers", workers, 1))
    if out is None and not executor.here:
        raise InvalidInput("workers need a folder: give out")
    named = count if isinstance(count, int) else None
    with (
        maker_of(executor, work, named, load, how) as maker,
        _folder(out, config, how) as folder,
    ):
        found = _examine(work, config, how, folder, on_progress, maker)
        told = _summary(found, per_step, seed)
        summary = {**config, "notes": [*work.notes, *found.notes], **told}
        if log is not None:
            summary["trainer_log"] = log.to_json()
            summary["notes"] += log.findings()
        if folder is not None:
            made = folder.attempts
            write_table(folder.path / RESULTS, attempts_table([made[k] for k in sorted(made)]))
            write_json(folder.path / DIAGNOSIS, summary)
    return Diagnosis(summary, found.attempts, None if out is None else Path(out))


def _config(work: Workload, granted: Contract) -> dict[str, Any]:
    """What is examined: the identity of a folder, with the settings."""
    episodes = [e for cell in work.cells for e in cell.episodes]
    return {
        "kind": "diagnose",
        "version": __version__,
        "model": work.model,
        "generator": dict(work.generator.describe()),
        "tasks": list(work.tasks),
        "horizons": list(work.horizons),
        "grants": str(granted),
        "problems": len(episodes),
        "digest": problems_digest(e.problem for e in episodes),
    }


def _examine(
    work: Workload,
    config: Mapping[str, Any],
    how: Execution,
    folder: RunFolder | None,
    told: Callable[[str], object],
    maker: Maker,
) -> Examination:
    found = Examination(
        [e for cell in work.cells for e in cell.episodes],
        work.generator,
        Contract.parse(config["grants"]),
        group=config["group"],
        budget=config["budget_tokens"],
        remedy=config["remedy_tokens"],
        how=how,
        folder=folder,
        told=told,
        seed=config["seed"],
        maker=maker,
    )
    found.run()
    return found


def _kept(summary: dict[str, Any], out: str | Path | None) -> Diagnosis:
    """A diagnosis without attempts, in its folder; it may be written again."""
    if out is None:
        return Diagnosis(summary, {})
    folder = Path(out)
    config = folder / CONFIG
    if config.exists() and read_json(config, f"no configuration in {folder}").get("kind") != "log":
        raise RunFolderError(f"{folder} holds another run; choose another folder")
    made_folder(folder)
    write_json(config, {"kind": "log", "version": __version__})
    write_json(folder / DIAGNOSIS, summary)
    return Diagnosis(summary, {}, folder)


def read_diagnosis(folder: str | Path) -> dict[str, Any]:
    """The content of ``diagnosis.json`` (``RunFolderError``: there is none)."""
    return read_json(Path(folder) / DIAGNOSIS, f"no diagnosis in {folder}")


def _given(
    task: str | Task | Sequence[Problem] | None,
) -> tuple[list[str | Task], list[Problem] | None]:
    if task is None:
        return [], None
    if isinstance(task, str) or not isinstance(task, Sequence):
        return [task], None
    return [], list(task)


def _granted(generator: Generator, grants: Contract | str | None, law: Sampling) -> Contract:
    """What may be used, with the trainer's sampling law.

    Raises:
        InvalidInput: the generator does not honour it, or not even rollouts.
    """
    wanted = [Contract.parse(x) for x in (_LADDER if grants is None else (grants,))]
    refused = ""
    for contract in (replace(c, sampling=law).resolved for c in wanted):
        if not contract.report.draws:
            raise InvalidInput(f"a diagnosis needs rollouts, and {contract} draws none")
        refused = generator.capabilities.refusal(contract)
        if refused is None:
            return contract
    raise InvalidInput(f"the generator cannot honour {wanted[-1]} at {law}: {refused}")


def _folder(
    out: str | Path | None, config: dict[str, Any], how: Execution
) -> contextlib.AbstractContextManager[RunFolder | None]:
    return contextlib.nullcontext() if out is None else RunFolder(out, config, how)


# ---- what it means --------------------------------------------------------------------------------


def _summary(found: Examination, per_step: int, seed: int) -> dict[str, Any]:
    rulings = [rule(p.evidence()) for p in found.patients]
    judged = [p for p in found.patients if p.counted()]
    told: dict[str, Any] = {"tokens": found.spent, "shares": shares(rulings)}
    told["problems"] = [_problem(p, r) for p, r in zip(found.patients, rulings, strict=True)]
    if len(judged) < len(found.patients):
        left = len(found.patients) - len(judged)
        found.notes.append(f"{left} problems have no judged rollout, and are in no forecast")
    if not judged:
        return {**told, "forecast": None, "remedies": []}
    draws = pass_posterior(judged, seed)
    told["forecast"] = forecast(judged, draws, group=found.group, per_step=per_step, seed=seed)
    if len(judged) < len(found.patients):
        return {**told, "remedies": []}
    remedies = Remedies(found, draws, per_step=per_step, seed=seed)
    return {**told, "remedies": remedies.all()}


def _problem(patient: Patient, ruling: Ruling) -> dict[str, Any]:
    """One problem as JSON values."""
    problem, evidence = patient.episode.problem, patient.evidence()
    (passed,), (attempts,) = counts([patient])
    reach, interval, how = reach_of(patient)
    length = sum(a.cost.tokens for a in patient.rollouts) / max(1, len(patient.rollouts))
    left = int(patient.test.looks[-1]) - len(patient.rollouts) - len(patient.guarded)
    return {
        "id": patient.id,
        "task": patient.id.partition("/")[0],
        "cause": str(ruling.cause),
        "causes": [str(cause) for cause in ruling.causes],
        "why": ruling.why,
        "reach": reach,
        "interval": [interval.low, interval.high],
        "how": how,
        "first_rollouts": [passed, attempts],
        "rollouts": len(patient.rollouts) + len(patient.guarded),
        "passed": sum(a.passed for a in (*patient.rollouts, *patient.guarded)),
        "abstained": sum(a.abstained for a in patient.rollouts),
        "truncated": sum(map(patient.truncated, patient.rollouts)),
        "answer": problem.answer,
        "verifier_sound": evidence.sound,
        "walks": [sum(a.passed for a in patient.walks), len(patient.walks)],
        "stuck": patient.stuck,
        "forced_logprobs": patient.forced and [x if x > -1e300 else None for x in patient.forced],
        "forced_cost": _finite(patient.forced_cost),
        "lost": patient.lost and patient.lost.to_json(),
        "cuts": {str(k): list(v) for k, v in patient.cuts.items()},
        "examples": [
            {"text": a.text[-400:], "reward": a.reward, "passed": a.passed}
            for a in _examples(patient)
        ],
        "tokens_to_decide": None
        if ruling.cause != Cause.UNDETERMINED or left < LOOK
        else int(left * length),
    }


def _examples(patient: Patient) -> list[Attempt]:
    """A right and two wrong rollouts, as far as there are."""
    right = [a for a in patient.rollouts if a.passed][:1]
    return right + [a for a in patient.rollouts if not a.passed][:2]


def _finite(value: float | None) -> float | None:
    return value if value is not None and value < float("inf") else None
