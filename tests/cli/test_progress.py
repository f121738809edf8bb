"""Progress: lines where nobody watches a terminal, and a bar that cuts no number off."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

import pytest

from commands import call
from reroot.cli import progress
from reroot.cli.console import PlainConsole
from reroot.cli.training_screen import TrainingScreen


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)


class Watched(io.StringIO):
    """A stream that is told of: ``seen`` is set when a line with the text has been written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.seen = text, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.text in text:
            self.seen.set()
        return written


@pytest.mark.usefixtures("often")
def test_what_waits_and_what_is_counted_is_told_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Watched("preparing: 0:00:0")
    monkeypatch.setattr("sys.stderr", stream)
    with progress.bar("attempts", "preparing") as (start, advance):
        assert stream.seen.wait(30)
        start(1200, 200)
        for _ in range(3):
            advance("2/3 passed, 1,234 tokens")
        stream.text = "attempts: 203 of 1,200, 2/3 passed, 1,234 tokens, 0:00:0"
        stream.seen.clear()
        assert stream.seen.wait(30)
    lines = stream.getvalue().splitlines()
    assert re.search(r", left \d+:\d\d:\d\d$", lines[-1])


@pytest.mark.slow(1)
def test_a_short_command_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("certify", "beam_search", "--processes", "1", "--out", str(tmp_path / "c")) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("arguments", "counted"),
    [
        (["compare", "--model", "hidden_path:K=3,H=4,p=0.6", "--seeds", "1"], "attempts"),
        (["certify", "best_of_n", "--processes", "1"], "cases"),
        (["reproduce", "trie", "--quick", "--workers", "1"], "settings"),
    ],
)
def test_commands_tell_how_far_they_are(
    arguments: list[str], counted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments, "--out", str(tmp_path / "run")) == 0
    told = capsys.readouterr().err
    assert re.search(rf"^{counted}: [\d,]+ of [\d,]+, .*left ", told, re.MULTILINE), told


@pytest.mark.usefixtures("often")
def test_training_tells_that_it_goes_on_between_steps() -> None:
    stream = Watched("at step 0/50, 0:00:0")
    with TrainingScreen({"arm": "adaback"}, 50, PlainConsole(file=stream)):
        assert stream.seen.wait(30)


@pytest.mark.parametrize("width", [60, 100])
def test_the_bar_cuts_no_number_off(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "PlainConsole", lambda **_: console)
    note = "123/12345 passed, 12,345,678 tokens"
    with progress.bar("attempts", "[red]") as (start, advance):
        start(54321, 12344)
        advance(note)
    last = re.split(r"\x1b\[2K", out.getvalue())[-1]
    assert "12345/54321" in last
    assert note in last
    assert re.search(r"0:00:0\d left ", last)
    assert all(
        len(line) <= width for line in re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", last).splitlines()
    )
