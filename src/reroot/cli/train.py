"""``reroot train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import MissingDependency, need
from .app import app, console


@app.command()
def train(
    model: Annotated[str | None, typer.Option(help="smollm2, a model folder, or a hub id.")] = None,
    task: Annotated[str | None, typer.Option(help="A task (see 'reroot list tasks').")] = None,
    horizon: Annotated[int | None, typer.Option(help="Task size.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Where groups start, as in adaback:tau=0.5 (see 'reroot list strategies'; default "
            "root)."
        ),
    ] = None,
    grants: Annotated[
        str | None,
        typer.Option(
            help="Contract of every session, as in chosen/logprob (default: what the strategy "
            "requires). One that names no oracle grants those of the task."
        ),
    ] = None,
    generation: Annotated[
        str | None,
        typer.Option(
            help="session (default), or trl: TRL's own, from the root without a session, to compare "
            "with."
        ),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="β, reward per nat of KL (default 0).")] = None,
    kl: Annotated[
        str | None,
        typer.Option(help="k1_reward (the gradient of the KL; default) or k3_loss (as in GRPO)."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps (default 200).")] = None,
    groups: Annotated[int | None, typer.Option(help="Start prefixes per step (default 8).")] = None,
    size: Annotated[int | None, typer.Option(help="Rollouts of each group (default 8).")] = None,
    roots: Annotated[
        int | None,
        typer.Option(help="Groups of each step that start at the root whatever the strategy."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of AdamW, constant (default 1e-5).")
    ] = None,
    problems: Annotated[int | None, typer.Option(help="Training prompts (default 64).")] = None,
    eval_problems: Annotated[
        int | None, typer.Option(help="Held-out prompts (default 16); 0: no evaluation.")
    ] = None,
    eval_size: Annotated[
        int | None, typer.Option(help="Samples of each held-out prompt (default 8).")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations (default 25).")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints (default 25).")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Generated tokens that training may spend.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Root pass@1 of an evaluation at which training ends.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of problems, draws and order.")] = None,
    chat: Annotated[
        bool | None, typer.Option("--chat", help="Use the model's chat template.")
    ] = None,
    trust_remote_code: Annotated[
        bool | None,
        typer.Option("--trust-remote-code", help="Run Python code that the model brings along."),
    ] = None,
    lora: Annotated[
        int | None, typer.Option(help="Rank of LoRA adapters; 0: all weights (default).")
    ] = None,
    last_layers: Annotated[
        int | None, typer.Option(help="Train the last so many layers alone (default: all weights).")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of these settings (with _ for -), and 'trl:' for GRPOConfig."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same command on the same folder continues it."),
    ] = None,
) -> None:
    """Post-train a model from the root or from prefixes, through a metered session, on TRL.

    Evaluates from the root throughout, writes a run folder (curves, checkpoints, the model,
    report.html) and shows it all on one screen. Interrupt or kill it at any time: the same command
    continues from the last checkpoint, with the same result.

    Example:

        reroot train --model smollm2 --task running_sum --horizon 8 --strategy adaback \\
            --beta 0.01 --out runs/t1
    """
    given = {k: v for k, v in locals().items() if k not in ("config", "out")}
    need("train", "torch", "transformers", "trl", "tensorboard")
    from ..pages.training.page import write_training_page
    from ..training.trl.config import read_config
    from ..training.trl.run import Watch, run_config, train_run
    from .training_screen import TrainingScreen

    settings = read_config(config, given)
    folder = (
        out or Path("runs") / f"train-{Path(settings.model).name}-{settings.task}-{settings.arm}"
    )
    with TrainingScreen(run_config(settings), settings.steps) as screen:
        summary = train_run(settings, folder, Watch(screen.step, screen.evaluation, screen.event))
    ended = {
        "steps": "all steps taken",
        "budget": "the budget is spent",
        "target": "target reached",
    }
    spent = summary["spent"]["tokens"]
    console.print(
        f"{ended[summary['reason']]}: {summary['steps']} steps, {spent:,} generated tokens; "
        f"model: {folder / 'model'}",
        soft_wrap=True,
    )
    try:
        console.print(f"report: {write_training_page([folder])}", soft_wrap=True)
    except MissingDependency as error:  # the run itself is complete
        console.print(
            f"no page: {error}; then: reroot report {folder}", markup=False, soft_wrap=True
        )
