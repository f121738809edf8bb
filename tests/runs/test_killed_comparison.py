"""A comparison that is killed in its middle: its partial table and page say so, and it goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

import reroot
from commands import call
from forks import Forks
from reroot.runs.growing import new_attempts


def compare(out: Path, wait: float = 0.0) -> reroot.Comparison:
    return reroot.compare(
        model="hidden_path:K=3,H=3,p=0.6",
        learners=["best_of_n:n=4", "beam_search:width=2"],
        budget_tokens=500,
        seeds=2,
        problems=12,
        out=out,
        concurrency=2,
        on_attempt=lambda attempt: time.sleep(wait),
    )


@pytest.mark.slow(6)
def test_killed_reported_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, here = tmp_path / "run", Path(__file__).parent
    imports = "from pathlib import Path\nfrom test_killed_comparison import compare\n"
    with Forks(f"{imports}import reroot.runs.summary, polars", (here, here.parent)) as forks:
        forks.start(f"{imports}compare(Path({str(folder)!r}), wait=0.05)")
        seen = new_attempts(folder)
        while len(seen.lines) < 5 and forks.poll() is None:
            time.sleep(0.01)
            seen = new_attempts(folder)
        forks.kill()
        assert forks.wait() == -signal.SIGKILL
    made = len(new_attempts(folder).lines)
    assert 5 <= made < 48
    assert call("report", str(folder)) == 0
    marked = f"Not finished: {made} of 48 attempts made"
    assert marked in capsys.readouterr().out
    assert marked in (folder / "report.html").read_text()
    whole = compare(folder)
    assert whole.made == 48 - made
    assert call("report", str(folder)) == 0
    assert "Not finished" not in capsys.readouterr().out
    assert "Not finished" not in (folder / "report.html").read_text()
    assert whole.results.equals(compare(tmp_path / "other").results)
