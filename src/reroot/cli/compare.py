"""``reroot compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..specs import split
from .app import command, console, in_free_folder, say_page
from .console import PlainConsole, print_json
from .data import with_data
from .progress import attempts_bar
from .suite import end_with, run_suite_of, tell_estimate

if TYPE_CHECKING:
    from ..runs.compare import Comparison


@command("estimate", "keep_errors", "quick", "skip_bad", "trust_remote_code", "json", writes="out")
def compare(
    *,
    model: str,
    task: str = "",
    value: str | None = None,
    horizons: str = "",
    map: str | None = None,
    answer: str | None = None,
    skip_bad: bool = False,
    grants: str | None = None,
    learner: list[str] | None = None,
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    budget_usd: float | None = None,
    seeds: int | None = None,
    problems: int | None = None,
    beta: float = 0.02,
    out: Path | None = None,
    attempt_timeout: float | None = None,
    judge_timeout: float | None = None,
    judge_workers: int = 0,
    isolation: str = "none",
    workers: int | None = None,
    ray: str | None = None,
    replicas: int | None = None,
    gpus_per_replica: float | None = None,
    keep_errors: bool = False,
    estimate: bool = False,
    concurrency: int = 256,
    suite: str | None = None,
    quick: bool = False,
    transcripts: bool = False,
    chat: bool = False,
    chat_template_kwargs: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    json: bool = False,
) -> None:
    """Same tasks, same budget, same seeds: what is each generator interface worth?

    Runs every learner that each contract permits, writes a run folder (results.parquet,
    summary.json, report.html) and prints a table and a verdict per task. Interrupt it at any time:
    the same command continues where it stopped. Where attempts failed, by an error of a learner, a
    judge or the generator, it goes on, says at the end how many and with what, and exits with 3;
    the same command tries those again.

    Example:

        reroot compare --model smollm2 --task running_sum --horizons 2,4,6,8 \\
            --grants root/sample,visited/sample,reset/sample,chosen/full \\
            --budget-tokens 200000 --seeds 3 --out runs/x
        reroot compare --suite sampling --model smollm2 --quick --out runs/sampling

    Args:
        model: smollm2, a model folder, a hub id, FILE.gguf, ngram:FILE[:order=N], FILE.py:FACTORY, or an exact
            family such as hidden_path:K=4,H=16,p=0.4 (see 'reroot list generators').
        task: Task or tasks, comma-separated: a name, FILE.py:NAME, a data file (.jsonl, .json, .csv,
            .parquet), hf:NAME; none for an exact family.
        value: What +value asks of every task: prm:FOLDER[:key=value,...], a process reward model (see
            'reroot describe prm').
        horizons: Task sizes, comma-separated, as in 2,4,6,8; none for data sets.
        map: Which columns of a data set are what, as in
            prompt=question,answer=answer,demonstration=solution (dots reach inside).
        answer: How answers of a data set are compared: exact, number, math, choice, regex:PATTERN or
            FILE.py:FUNCTION (default: the layout decides, and it is said).
        skip_bad: Leave out problems of a data set that cannot be used, and say which.
        grants: Contracts to compare. One that names no oracle is granted every oracle of the task,
            so that contracts differ in the interface alone (default: root/sample,visited/sample,reset/sample,
            chosen/full; of a server, no more than its key is granted).
        learner: A learner, as in best_of_n:n=16 or FILE.py:NAME; repeat for more (default: a set).
        budget_tokens: Generated tokens that each learner may spend per task, horizon and seed,
            shared equally by the problems there (default, without another budget: 200,000).
        budget_calls: Rollouts and queries together that each learner may spend, instead of tokens
            or beside them.
        budget_usd: US dollars that each learner may spend, shared likewise, at the model's prices
            (of a server: --model http://HOST:PORT:price_in=0.15,price_out=0.6).
        seeds: Number of seeds; each has its own problems (default: 3, or those that a server has).
        problems: Problems per task, horizon and seed (default: 8; exact families 32).
        beta: KL temperature β of J_β, reward per nat.
        out: Run folder; the same command on the same folder continues it (default: runs/ and the names of model
            and task, or that and a number where another run is).
        attempt_timeout: Seconds of its own that an attempt may take (default: no limit).
        judge_timeout: Seconds that one call of a reward or verifier may take (no limit).
        judge_workers: Processes for calls of rewards and verifiers that take much time of a CPU
            (default 0: they are called in this one).
        isolation: none, or process: learners run in processes of their own that have a socket to their
            session and nothing else, for code that is not trusted (limits: process:memory_mb=512).
        workers: Processes that make attempts, each with the model (default: this one). Changes no result (on
            language models: up to rounding).
        ray: Make attempts on Ray: auto (the cluster that it finds), local (on this machine), or a cluster's
            address.
        replicas: Actors on Ray, each with the model (default: one per core of this machine).
        gpus_per_replica: GPUs of each actor.
        keep_errors: Leave attempts that failed before; else they are made again.
        estimate: Make a few attempts of each learner, say what all of it will take, in time and tokens, and
            stop. They count: the same command without --estimate goes on from them.
        concurrency: Attempts in flight; changes speed, not results (on language models: up to
            rounding).
        suite: A named set of learners, compared at equal tokens and again at equal calls: sampling.
            It brings tasks, horizons, sizes and budgets for whatever is not given.
        quick: The small sizes of a suite: under 15 minutes.
        transcripts: Keep every message of every attempt, for 'reroot audit'.
        chat: Use the model's chat template.
        chat_template_kwargs: Arguments of the chat template, as in enable_thinking=false.
        dtype: float32 (exact) or bfloat16 (another generator).
        device: cpu or cuda.
        trust_remote_code: Run Python code that the model brings along.
        json: Print summary.json, every number of the tables, and nothing else to stdout.
    """
    from ..runs.executors.choice import executor_of

    settings = {
        "model": model,
        "task": with_data(split(task, ":") if task else [], map, answer, skip_bad),
        "value": value,
        "horizons": split_integers(horizons),
        "problems": problems,
        "budget_tokens": budget_tokens,
        "budget_calls": budget_calls,
        "budget_usd": budget_usd,
        "beta": beta,
        "concurrency": concurrency,
        "keep_errors": keep_errors,
        "attempt_timeout": attempt_timeout,
        "judge_timeout": judge_timeout,
        "judge_workers": judge_workers,
        "isolation": isolation,
        "on_walls": PlainConsole(stderr=True).say,
        "executor": executor_of(workers, ray, replicas, gpus_per_replica),
        "chat": chat,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
        "chat_template_kwargs": chat_template_kwargs,
    }
    if suite is not None:
        usd = settings.pop("budget_usd")
        alone = {
            "--learner": learner,
            "--transcripts": transcripts,
            "--budget-usd": usd is not None,
        }
        for name, given in alone.items():
            if given:
                raise InvalidInput(f"{name} and --suite do not go together")
        run_suite_of(suite, out, json=json, estimate=estimate, quick=quick, seeds=seeds, **settings)
        return
    if quick:
        raise InvalidInput("--quick is for suites, as in --suite sampling --quick")
    from ..runs.compare import compare as run_compare

    def run(folder: Path) -> Comparison:
        with attempts_bar(always=estimate) as bar:
            return run_compare(
                grants=None if grants is None else split(grants, "@"),
                learners=learner or (),
                seeds=seeds,
                out=folder,
                transcripts=transcripts,
                estimate=estimate,
                on_start=bar.on_start,
                on_attempt=bar.on_attempt,
                on_estimate=bar.on_estimate,
                **settings,
            )

    result = in_free_folder(out, _default_name(model, task), run)
    if estimate:
        if json and result.estimate is not None:
            print_json(result.estimate.to_dict())
        tell_estimate(result.folder)
        return
    tell_comparison(result, json=json)
    end_with(result.failures)


def split_integers(text: str) -> list[int]:
    try:
        return [int(value) for value in split(text)] if text else []
    except ValueError:
        raise InvalidInput(f"expected integers separated by commas, got {text!r}") from None


def tell_comparison(
    comparison: Comparison,
    *,
    json: bool = False,
    macro: bool = False,
    lm_eval: Path | None = None,
) -> None:
    """Print the tables of a comparison, or its summary as JSON, and write its page, and the file of its cells."""
    from ..pages import terminal_table
    from ..pages.comparison.page import write_report
    from ..pages.comparison.terminal import macro_screen

    if json:
        print_json(comparison.summary)
    else:
        for note in comparison.data.config.get("notes", ()):
            console.say(note)
        console.print(terminal_table(comparison.summary, console.width))
    if macro:
        console.print(macro_screen(comparison.summary, console.width))
    say_page(comparison.folder, lambda: write_report(comparison))
    if lm_eval is not None:
        from ..pages.comparison.harness import write_harness

        console.say(f"lm-eval: {write_harness(comparison.summary, lm_eval)}")


def _default_name(model: str, task: str) -> str:
    name = model.partition(":")[0] if ":" in model else Path(model).name
    return "-".join(part for part in (name, *task.split(",")) if part).replace("/", "_")
