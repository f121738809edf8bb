"""Scalars and tables of runs for the programs that people track theirs with: nothing leaves the machine by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidInput, nearest
from .logged import Logged, logged
from .writers import WRITERS

__all__ = ["Target", "log_run", "logged", "parse_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where runs are logged.

    Attributes:
        program: ``tensorboard``, ``wandb`` or ``trackio``.
        place: a folder for TensorBoard, else the name of a project.
    """

    program: str
    place: str


def parse_target(text: str) -> Target:
    """``tensorboard:DIR``, ``wandb:PROJECT`` or ``trackio:PROJECT`` (``InvalidInput`` for anything else)."""
    program, _, place = text.partition(":")
    if program not in WRITERS:
        raise InvalidInput(
            f"--to {text!r}: unknown program {program!r}; expected one of {', '.join(WRITERS)}."
            f"{nearest(program, WRITERS)}"
        )
    if not place:
        what = "DIR" if program == "tensorboard" else "PROJECT"
        raise InvalidInput(f"--to {text!r} names no place: expected {program}:{what}")
    return Target(program, place)


def log_run(folder: str | Path, target: Target) -> str:
    """Log the scalars and tables of a comparison, or the scalars of a training run; where they are.

    Raises:
        RunFolderError: it is no such folder.
        MissingDependency: the program's package is not installed.
    """
    run: Logged = logged(Path(folder))
    return WRITERS[target.program](run, target.place)
