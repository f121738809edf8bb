"""Reading the transcripts that tests have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reroot.access.transcript import (
    read_transcript,
)

EVERYTHING = "chosen/full+reward+verifier+demonstration"


def transcript_of(folder: Path) -> Path:
    (path,) = (folder / "transcripts").iterdir()
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_transcript(path)]


def left_in(path: Path) -> dict[str, bytes]:
    """What a run has left, but for its machine and times, and for files that a kill left half written."""
    files = [path / "results.parquet", *(path / "transcripts").glob("[!.]*")]
    return {file.name: file.read_bytes() for file in files}
