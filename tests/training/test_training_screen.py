"""The live screen of a training run, recorded at a fixed width."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest

from reroot.cli.console import PlainConsole
from reroot.cli.training_screen import TrainingScreen

CONFIG = {
    "arm": "adaback",
    "model": "smollm2",
    "task": "[red]sum",
    "horizon": 8,
    "budget": {"tokens": 200_000},
}


def step(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"step/{number}", "step": number, "tokens": 1000 * number, "spent": {},
        "root": number / 100, "prefix": 0.5 + number / 100, "kl": 0.01 * number,
        "zero_variance": number % 4, "groups": 4, "start": 3.25, "longest": 7, "loss": None,
        "grad_norm": None, "seconds": 6.0, **more,
    }  # fmt: skip


EVALUATION = {
    "name": "eval/20", "step": 20, "tokens": 20_000, "n": 8, "problems": 16,
    "root": {"1": 0.25, "2": 0.4, "8": 0.625}, "prefix": {"1": 0.75, "8": 1.0}, "horizons": {},
}  # fmt: skip


def recorded(*, terminal: bool, width: int = 100) -> tuple[PlainConsole, StringIO]:
    out = StringIO()
    console = PlainConsole(
        file=out, width=width, height=40, force_terminal=terminal, color_system=None, legacy_windows=False
    )  # fmt: skip
    return console, out


def last_screen(text: str) -> list[str]:
    """The lines of the screen that is left when the run has ended."""
    drawn = re.split(r"(?:\x1b\[1A|\x1b\[2K|\r)+", text)[-1]
    return [re.sub(r"\x1b\[[0-9;?]*[a-z]", "", line).rstrip() for line in drawn.splitlines()]


def shown(lines: list[dict[str, Any]], width: int = 100, total: int = 50) -> str:
    console, out = recorded(terminal=True, width=width)
    with TrainingScreen(CONFIG, total, console) as screen:
        for line in lines:
            kind = line["name"].partition("/")[0]
            {"step": screen.step, "eval": screen.evaluation, "event": screen.event}[kind](line)
    return "\n".join(last_screen(out.getvalue()))


def test_the_screen_says_how_the_run_stands() -> None:
    event = {"name": "event/1", "step": 17, "text": "no signal for [bold] 5 steps"}
    text = shown([step(n) for n in range(1, 21)] + [EVALUATION, event])
    assert text.startswith("adaback: smollm2 on [red]sum, horizon 8\n")
    assert re.search(r"step 20/50 +━+.* 0:00:0\d, left 0:03:00", text)  # 30 steps of 6 s
    rows = rows_of(text)
    assert rows["reward, root"] == "0.200, mean of the last 10: 0.155"
    assert rows["reward, prefixes"] == "0.700, mean of the last 10: 0.655"
    assert rows["KL, nats"] == "0.200, mean of the last 10: 0.155"
    assert rows["tokens"] == "20,000 of 200,000 (10 %)"
    silent = sum(n % 4 for n in range(11, 21))
    share = f"{100 * silent / 40:.0f} %"
    assert rows["zero-variance groups"] == f"0 of 4, in the last 10 steps {share}"
    assert rows["start prefix"] == "3.250 tokens on average, longest 7"
    assert "evaluation, step 20" in text
    assert rows["root"] == "pass@1 25.0 %, pass@8 62.5 %"
    assert rows["training prefixes"] == "pass@1 75.0 %, pass@8 100.0 %"
    assert rows["transfer gap"] == "+50.0 points"
    assert rows["event, step 17"] == "no signal for [bold] 5 steps"


def rows_of(text: str) -> dict[str, str]:
    """Name → value of the rows below the bar."""
    rows = (re.split(r"  +", line.strip(), maxsplit=1) for line in text.splitlines()[2:])
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_one_screen_is_left() -> None:
    """The screen is redrawn in place: its title stands once."""
    text = shown([step(n) for n in range(1, 13)])
    assert text.count("adaback: smollm2") == 1


def test_the_sparkline_rises_with_the_reward() -> None:
    text = shown([step(n) for n in range(1, 9)])
    assert "0.01 ▁▂▃▄▅▆▇█ 0.08" in text
    long = shown([step(n) for n in range(1, 401)], total=400)
    (drawn,) = re.findall(r"[▁▂▃▄▅▆▇█]{8,}", long)
    assert len(drawn) == 32
    assert list(drawn) == sorted(drawn)
    gaps = shown([step(n, root=None if n == 2 else n / 10) for n in (1, 2, 3)])
    assert "0.10 ▁ █ 0.30" in gaps
    assert "0.50 ▁▁ 0.50" in shown([step(n, root=0.5) for n in (1, 2)])


def test_numbers_that_are_missing() -> None:
    nothing = dict.fromkeys(
        ("root", "prefix", "kl", "zero_variance", "start", "longest", "seconds")
    )
    evaluation = {**EVALUATION, "prefix": None}
    text = shown([step(1, **nothing), evaluation])
    assert "no rollouts from the root yet" in text
    assert rows_of(text)["reward, root"] == "·, mean of the last 1: ·"
    assert rows_of(text)["zero-variance groups"] == "· of 4, in the last 1 steps ·"
    assert "left -:--:--" in text
    assert rows_of(text)["training prefixes"] == "not evaluated"
    assert "gap" not in text
    assert "waiting for the first step" in shown([])


@pytest.mark.parametrize("width", [60, 100])
def test_the_screen_keeps_to_its_width(width: int) -> None:
    text = shown([step(n) for n in range(1, 61)] + [EVALUATION], width=width, total=60)
    assert max(map(len, text.splitlines())) <= width
    assert "gap" in text


def test_an_error_ends_the_screen() -> None:
    console, _ = recorded(terminal=True)
    with pytest.raises(ValueError, match="boom"), TrainingScreen(CONFIG, 5, console) as screen:
        raise ValueError("boom")
    assert not screen._live.is_started


def test_plain_lines_where_there_is_no_terminal() -> None:
    console, out = recorded(terminal=False, width=40)
    with TrainingScreen(CONFIG, 24, console) as screen:
        for n in range(1, 25):
            screen.step(step(n))
        screen.evaluation(EVALUATION)
        screen.event({"name": "event/1", "step": 24, "text": "a [warning]"})
    lines = out.getvalue().splitlines()
    assert lines == [
        "adaback: smollm2 on [red]sum, horizon 8: 24 steps",
        *(
            f"step {n}/24: reward root {n / 100:.3f}, prefixes {0.5 + n / 100:.3f}, KL {n / 100:.3f}, "
            f"{n % 4} of 4 groups zero-variance, {1000 * n:,} tokens"
            for n in (1, 10, 20, 24)
        ),
        "evaluation at step 20: root pass@1 25.0 %, pass@8 62.5 %; "
        "training prefixes pass@1 75.0 %, pass@8 100.0 %; transfer gap +50.0 points",
        "step 24: a [warning]",
    ]
    assert "\x1b" not in out.getvalue()


def test_it_draws_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingScreen({}, 3) as screen:
        screen.step(step(3, tokens=None))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 3/3: reward root 0.030" in printed.err
