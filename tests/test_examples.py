"""The example scripts run and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTS = {
    "quickstart.py": ["passed=False", "passed=True"],
    "own_learner.py": ["passed", "refused", "reset/full"],
    "own_task.py": ["tokenwise_rejection", "passed=True"],
    "audit_transcript.py": ["permitted", "message 0"],
    "reinforce.py": [
        "root: the path has probability 0.000",
        "adaback: the path has probability 0.9",
    ],
}


def test_every_example_is_covered() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRINTS))
def test_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for text in PRINTS[name]:
        assert text in done.stdout
