"""``reroot diagnose``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput
from .app import command, console, in_free_folder, say_page
from .console import print_json
from .data import with_data
from .progress import lines

if TYPE_CHECKING:
    from ..runs.diagnosing import Diagnosis
    from ..runs.executors.base import Executor
    from ..runs.models import Load


@command("skip_bad", "chat", "trust_remote_code", "json", "selftest", writes="out")
def diagnose(
    *,
    model: str = "",
    task: str = "",
    group: int = 8,
    per_step: int = 8,
    sampling: str = "T=1",
    horizon: int | None = None,
    problems: int = 32,
    map: str | None = None,
    answer: str | None = None,
    skip_bad: bool = False,
    grants: str | None = None,
    budget_tokens: int | None = None,
    remedy_tokens: int | None = None,
    trainer_log: Path | None = None,
    pass_at: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    judge_timeout: float | None = None,
    judge_workers: int = 0,
    concurrency: int = 256,
    workers: int | None = None,
    ray: str | None = None,
    replicas: int | None = None,
    gpus_per_replica: float | None = None,
    chat: bool = False,
    chat_template_kwargs: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    json: bool = False,
    selftest: bool = False,
) -> None:
    """Why is my reward zero, what would change it, and what would that cost?

    Tells for each problem whether it is learnable from the root, solved, or limited by access, by the base
    model, by the judge, the format, the horizon or the sampling law; what a trainer with this group size will
    see; and what each remedy needs and costs. The same command on the same folder goes on after an interruption.

    Example:

        reroot diagnose --model smollm2 --task copy --horizon 16 --problems 16 --out runs/why

    Args:
        model: smollm2, a model folder, a hub id, an endpoint, FILE.py:FACTORY, or an exact family such as
            hidden_path:K=4,H=16,p=0.4.
        task: A task's name, FILE.py:NAME, a data file, hf:NAME; none for an exact family.
        group: G, rollouts per group of the trainer.
        per_step: Groups per step of the trainer.
        sampling: The law that the trainer draws from, as in T=0.7,top_p=0.9.
        horizon: Size of problems, where there is a knob.
        problems: How many problems are looked at.
        map: Which columns of a data set are what, as in
            prompt=question,answer=answer,demonstration=solution (dots reach inside).
        answer: How answers of a data set are compared: exact, number, math, choice, regex:PATTERN or
            FILE.py:FUNCTION (default: the layout decides, and it is said).
        skip_bad: Leave out rows that cannot be read, and say which.
        grants: What the diagnosis may use, as in root/sample (default: the most that the model allows).
        budget_tokens: Generated tokens in all (default: 200,000; exact families 300,000).
        remedy_tokens: What a remedy may cost per problem, in tokens (default: 4·G·H).
        trainer_log: What a trainer has left: a folder of reroot train, TRL's trainer_state.json, its Parquet tables of
            completions, or JSONL of prompt, completion and reward; alone, it is diagnosed without a model.
        pass_at: Reward from which a completion of such a log passes (default: 1).
        seed: Of problems and attempts.
        out: Folder for diagnosis.json, diagnosis.html and every attempt (default: runs/why, or that and a number
            where another run is).
        judge_timeout: Seconds that one call of a judge may take (no limit).
        judge_workers: Processes for calls of judges that take much time of a CPU.
        concurrency: Attempts in flight; changes speed, not results (on language models: up to rounding).
        workers: Processes that make attempts, each with the model; changes no result (on language models: up to
            rounding).
        ray: Make attempts on Ray: auto (the cluster that it finds), local, or a cluster's address.
        replicas: Actors on Ray (default: one per core of this machine).
        gpus_per_replica: GPUs of each.
        chat: Use the model's chat template.
        chat_template_kwargs: Arguments of the chat template, as in enable_thinking=false.
        dtype: float32 (exact) or bfloat16 (another generator).
        device: cpu or cuda.
        trust_remote_code: Run Python code that the model brings along.
        json: Print diagnosis.json and nothing else to stdout.
        selftest: Diagnose problems whose cause is known by construction instead, and print how often it is found; with
            a model, problems on it whose cause follows from its law.
    """
    from ..runs.executors.choice import executor_of
    from ..runs.models import Load

    executor = executor_of(workers, ray, replicas, gpus_per_replica)
    if selftest:
        load = Load(chat, dtype, device, trust_remote_code, chat_template_kwargs)
        _selftest(model, load, executor, out or Path("runs/why"), json=json)
        return
    if not model and trainer_log is None:
        raise InvalidInput("name a model, as in --model smollm2, or --trainer-log, or --selftest")
    from ..runs.diagnosing import diagnose as run_diagnosis

    (spec,) = with_data([task], map, answer, skip_bad) if task else (None,)

    def run(folder: Path) -> tuple[Path, Diagnosis]:
        with lines("loading the model and the problems") as tell:
            return folder, run_diagnosis(
                model or None,
                spec,
                group=group,
                per_step=per_step,
                sampling=sampling,
                horizon=horizon,
                problems=problems,
                grants=grants,
                budget_tokens=budget_tokens,
                remedy_tokens=remedy_tokens,
                trainer_log=trainer_log,
                pass_at=pass_at,
                seed=seed,
                out=folder,
                load=Load(chat, dtype, device, trust_remote_code, chat_template_kwargs),
                judge_timeout=judge_timeout,
                judge_workers=judge_workers,
                concurrency=concurrency,
                executor=executor,
                on_progress=tell,
            )

    folder, found = in_free_folder(out, "why", run)
    tell_diagnosis(folder, found.summary, json=json)


SELFTEST_SEEDS = {False: 4, True: 1}
"""Times that each case is diagnosed: of all cases, and of those on a model that is named."""


def _selftest(model: str, load: Load, executor: Executor, out: Path, *, json: bool) -> None:
    """Diagnose every constructed case, or those on a model, and show the table of confusion."""
    from ..pages.diagnosis.confusion import confusion_table, write_confusion
    from ..runs.diagnosing.selftest import (
        cases_of,
        made_cases,
        selftest,
        selftest_away,
        selftest_summary,
    )
    from ..runs.folder import made_folder

    made_folder(out)
    cases, notes = cases_of(model, load)
    seeds = SELFTEST_SEEDS[bool(model)]
    with lines("diagnosing constructed cases") as tell:
        if executor.here:
            outcomes = selftest(seeds, cases=cases, told=tell)
        else:
            make = partial(made_cases, model, load)
            outcomes = selftest_away(seeds, executor, make, cases=cases, told=tell)
    summary = selftest_summary(outcomes, notes)
    if json:
        print_json(summary)
    else:
        console.print(confusion_table(summary["confusion"]))
        console.say(
            f"{len(outcomes)} diagnoses: {summary['right']:.1%} right, {summary['wrong']:.1%} wrong, the rest "
            f"undetermined; {summary['tokens']:,.0f} tokens each"
        )
        for note in summary["notes"]:
            console.say(f"note: {note}")
    say_page(out, lambda: write_confusion(out, summary))


def tell_diagnosis(folder: Path, summary: dict[str, Any], *, json: bool = False) -> None:
    """Print a diagnosis on one screen, or as JSON, and write its page."""
    from ..pages.diagnosis.page import write_diagnosis
    from ..pages.diagnosis.terminal import diagnosis_screen

    if json:
        print_json(summary)
    else:
        console.print(diagnosis_screen(summary, console.width))
    say_page(folder, lambda: write_diagnosis(folder, summary))
