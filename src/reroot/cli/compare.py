"""``reroot compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidInput
from ..specs import split
from .app import app, console, say_page
from .parsing import split_integers
from .progress import bar
from .suite import end_with, run_suite_of

if TYPE_CHECKING:
    from ..access.runner import Attempt
    from ..runs.compare import Comparison


@app.command()
def compare(
    model: Annotated[
        str,
        typer.Option(
            help="smollm2, a model folder, a hub id, ngram:FILE[:order=N], FILE.py:FACTORY, or an "
            "exact family such as hidden_path:K=4,H=16,p=0.4 (see 'reroot list generators')."
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            help="Task or tasks, comma-separated (FILE.py:NAME too); none for an exact family."
        ),
    ] = "",
    horizons: Annotated[str, typer.Option(help="Task sizes, comma-separated, as in 2,4,6,8.")] = "",
    grants: Annotated[
        str,
        typer.Option(
            help="Contracts to compare. One that names no oracle is granted every oracle of the "
            "task, so that contracts differ in the interface alone."
        ),
    ] = "root/sample,visited/sample,reset/sample,chosen/full",
    learner: Annotated[
        list[str] | None,
        typer.Option(
            help="A learner, as in best_of_n:n=16 or FILE.py:NAME; repeat for more (default: a set)."
        ),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(
            help="Generated tokens that each learner may spend per task, horizon and seed, shared "
            "equally by the problems there (default without --budget-calls: 200,000)."
        ),
    ] = None,
    budget_calls: Annotated[
        int | None,
        typer.Option(
            help="Rollouts and queries together that each learner may spend, instead of tokens or "
            "beside them."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds; each has its own problems (default: 3)."),
    ] = None,
    problems: Annotated[
        int | None,
        typer.Option(help="Problems per task, horizon and seed (default: 8; exact families 32)."),
    ] = None,
    beta: Annotated[float, typer.Option(help="KL temperature β of J_β, reward per nat.")] = 0.02,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same command on the same folder continues it."),
    ] = None,
    attempt_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds of its own that an attempt may take (default: no limit)."),
    ] = None,
    judge_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that one call of a reward or verifier may take (no limit)."),
    ] = None,
    keep_errors: Annotated[
        bool,
        typer.Option(
            "--keep-errors", help="Leave attempts that failed before; else they are made again."
        ),
    ] = False,
    concurrency: Annotated[
        int,
        typer.Option(
            help="Attempts in flight; changes speed, not results (on language models: up to rounding)."
        ),
    ] = 256,
    suite: Annotated[
        str | None,
        typer.Option(
            help="A named set of learners, compared at equal tokens and again at equal calls: "
            "sampling. It brings tasks, horizons, sizes and budgets for whatever is not given."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The small sizes of a suite: under 15 minutes.")
    ] = False,
    transcripts: Annotated[
        bool, typer.Option(help="Keep every message of every attempt, for 'reroot audit'.")
    ] = False,
    chat: Annotated[bool, typer.Option(help="Use the model's chat template.")] = False,
    dtype: Annotated[
        str, typer.Option(help="float32 (exact) or bfloat16 (another generator).")
    ] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run Python code that the model brings along."),
    ] = False,
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
    """
    settings = {
        "model": model,
        "task": split(task, ":") if task else (),
        "horizons": split_integers(horizons),
        "problems": problems,
        "budget_tokens": budget_tokens,
        "budget_calls": budget_calls,
        "beta": beta,
        "concurrency": concurrency,
        "keep_errors": keep_errors,
        "attempt_timeout": attempt_timeout,
        "judge_timeout": judge_timeout,
        "chat": chat,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
    }
    if suite is not None:
        for name, given in (("--learner", learner), ("--transcripts", transcripts)):
            if given:
                raise InvalidInput(f"{name} and --suite do not go together")
        folder = out or Path("runs") / suite
        run_suite_of(suite, folder, quick=quick, seeds=seeds, **settings)
        return
    if quick:
        raise InvalidInput("--quick is for suites, as in --suite sampling --quick")
    from ..runs.compare import compare as run_compare

    folder = out or Path("runs") / _default_name(model, task)
    state = {"passed": 0, "done": 0, "tokens": 0}
    with bar("attempts", "loading the model and the problems") as (on_start, advance):

        def on_attempt(attempt: Attempt) -> None:
            state["passed"] += attempt.passed
            state["done"] += 1
            state["tokens"] += attempt.cost.tokens
            advance(f"{state['passed']}/{state['done']} passed, {state['tokens']:,} tokens")

        result = run_compare(
            grants=split(grants, "@"),
            learners=learner or (),
            seeds=3 if seeds is None else seeds,
            out=folder,
            transcripts=transcripts,
            on_start=on_start,
            on_attempt=on_attempt,
            **settings,
        )
    tell_comparison(result)
    end_with(result.failures)


def tell_comparison(comparison: Comparison) -> None:
    """Print the tables of a comparison, and write its page."""
    from ..pages import terminal_table
    from ..pages.comparison.page import write_report

    console.print(terminal_table(comparison.summary, console.width))
    say_page(comparison.folder, lambda: write_report(comparison))


def _default_name(model: str, task: str) -> str:
    name = model.partition(":")[0] if ":" in model else Path(model).name
    return "-".join(part for part in (name, *task.split(",")) if part).replace("/", "_")
