"""The screen of a training run while it runs; plain lines where nobody watches a terminal."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from . import progress
from .console import PlainConsole
from .progress import clock

TAIL = 10
"""Numbers of "the last steps" are over this many; so often a plain line is printed."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_CELLS = 32
Line = Mapping[str, Any]


class TrainingScreen:
    """Shows a run as it goes on: a context manager that is told of every line of the journal.

    On a terminal there is one screen, redrawn in place, that stays when the run ends; elsewhere a
    plain line per ``TAIL`` steps, evaluation and event, and one when nothing was said for long. All
    of it goes to stderr.

    Args:
        config: the run's configuration; read are arm, task, model, horizon and budget.
        total_steps: steps that are planned.
        console: where to draw (default: stderr).
    """

    def __init__(
        self, config: Mapping[str, Any], total_steps: int, console: PlainConsole | None = None
    ) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._title = _title(config)
        self._total = max(total_steps, 1)
        self._budget = (config.get("budget") or {}).get("tokens")
        self._last: deque[Line] = deque(maxlen=TAIL)
        self._roots: list[float | None] = []
        self._evaluation: Line | None = None
        self._event: Line | None = None
        self._since = self._said = time.monotonic()
        self._until_end = ExitStack()
        self._body: RenderableType = Text("waiting for the first step", style="dim")
        self._live = Live(get_renderable=self._screen, console=self._console, auto_refresh=True)

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print(f"{self._title}: {self._total} steps")
            self._until_end.enter_context(progress.ticking(self._still))
        return self

    def __exit__(self, *raised: object) -> None:
        self._until_end.close()
        if self._live.is_started:
            self._live.stop()

    def step(self, line: Line) -> None:
        """A step has been done."""
        self._last.append(line)
        self._roots.append(line.get("root"))
        step = line["step"]
        self._show(_step_text(line, self._total), step % TAIL == 0 or step in (1, self._total))

    def evaluation(self, line: Line) -> None:
        """The policy has been evaluated."""
        self._evaluation = line
        found = "; ".join(f"{name.strip()} {value}" for name, value in _passes(line))
        self._show(f"evaluation at step {line['step']}: {found}", True)

    def event(self, line: Line) -> None:
        """Something is to be noticed."""
        self._event = line
        self._show(f"step {line['step']}: {line['text']}", True)

    def _show(self, text: str, worth_a_line: bool) -> None:
        if self._console.is_terminal:
            self._body = self._table()  # the refreshing thread sees the old one or the new one
        elif worth_a_line:
            self._print(text)

    def _still(self) -> None:
        if time.monotonic() - self._said >= progress.EVERY / 2:
            self._print(f"at step {self._done()}/{self._total}, {self._times()}")

    def _print(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.say(text)

    # -- the screen ------------------------------------------------------------------------------

    def _screen(self) -> RenderableType:
        return Group(Text(self._title, style="bold"), self._bar(), self._body)

    def _bar(self) -> RenderableType:
        """The bar, with the time taken and the time left."""
        done = self._done()
        row = Table.grid(padding=(0, 2, 0, 0), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        row.add_row(f"step {done}/{self._total}", ProgressBar(self._total, done), self._times())
        return row

    def _done(self) -> int:
        return self._last[-1]["step"] if self._last else 0

    def _times(self) -> str:
        return f"{clock(time.monotonic() - self._since)}, left {self._left()}"

    def _left(self) -> str:
        seconds = [line["seconds"] for line in list(self._last) if line.get("seconds") is not None]
        if not seconds:
            return "-:--:--"
        return clock(max(self._total - self._done(), 0) * sum(seconds) / len(seconds))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, Text(value))
        return table

    def _rows(self) -> Iterator[tuple[str, str]]:
        if self._last:
            yield "reward, root", self._both("root")
            yield "", _sparkline(self._roots)
            yield "reward, prefixes", self._both("prefix")
            yield "KL, nats", self._both("kl")
            yield "tokens", self._tokens()
            yield "zero-variance groups", self._zero_variance()
            yield "start prefix", self._starts()
        if self._evaluation is not None:
            yield f"evaluation, step {self._evaluation['step']}", ""
            yield from _passes(self._evaluation)
        if self._event is not None:
            yield f"event, step {self._event['step']}", str(self._event["text"])

    def _both(self, name: str) -> str:
        """A number at the last step and its mean over the last steps."""
        last, known = self._last[-1].get(name), self._known(name)
        mean = f"{sum(known) / len(known):.3f}" if known else "·"
        return f"{_number(last)}, mean of the last {len(self._last)}: {mean}"

    def _known(self, name: str) -> list[float]:
        return [x for line in self._last if (x := line.get(name)) is not None]

    def _tokens(self) -> str:
        spent = self._last[-1].get("tokens") or 0
        if not self._budget:
            return f"{spent:,}"
        return f"{spent:,} of {self._budget:,} ({100 * spent / self._budget:.0f} %)"

    def _zero_variance(self) -> str:
        last, name = self._last[-1], "zero_variance"
        known = [x for x in self._last if x.get(name) is not None and x.get("groups")]
        equal, groups = (sum(line[key] for line in known) for key in (name, "groups"))
        share = f"{100 * equal / groups:.0f} %" if known else "·"
        now = f"{_number(last.get(name))} of {_number(last.get('groups'))}"
        return f"{now}, in the last {len(self._last)} steps {share}"

    def _starts(self) -> str:
        last = self._last[-1]
        return f"{_number(last.get('start'))} tokens on average, longest {_number(last.get('longest'))}"


def _title(config: Mapping[str, Any]) -> str:
    words = [
        f"{config.get('arm', 'training')}: {config.get('model', '?')} on {config.get('task', '?')}"
    ]
    if config.get("horizon"):
        words.append(f"horizon {config['horizon']}")
    return ", ".join(words)


def _number(value: float | None) -> str:
    if value is None:
        return "·"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _step_text(line: Line, total: int) -> str:
    """A step in one line."""
    named = {"root": "reward root", "prefix": "prefixes", "kl": "KL"}
    shown = [f"{text} {_number(line.get(name))}" for name, text in named.items()]
    equal = f"{_number(line.get('zero_variance'))} of {_number(line.get('groups'))} groups zero-variance"
    tokens = f"{line.get('tokens') or 0:,} tokens"
    return f"step {line['step']}/{total}: {', '.join([*shown, equal, tokens])}"


def _passes(line: Line) -> Iterator[tuple[str, str]]:
    """pass@1 and pass@k of an evaluation from both starts, and the gap, in percent and points."""
    root, prefix = _known_rates(line.get("root")), _known_rates(line.get("prefix"))
    yield "  root", _rates(root)
    yield "  training prefixes", _rates(prefix)
    if 1 in root and 1 in prefix:
        yield "  transfer gap", f"{100 * (prefix[1] - root[1]):+.1f} points".replace("-", "−")


def _known_rates(rates: Mapping[Any, float | None] | None) -> dict[int, float]:
    return {int(k): rate for k, rate in (rates or {}).items() if rate is not None}


def _rates(rates: Mapping[int, float]) -> str:
    ends = sorted({min(rates), max(rates)}) if rates else []
    return ", ".join(f"pass@{k} {100 * rates[k]:.1f} %" for k in ends) or "not evaluated"


def _sparkline(values: Sequence[float | None]) -> str:
    """Means of up to ``_CELLS`` equal stretches of the run as blocks, between their ends."""
    count = min(len(values), _CELLS)
    cuts = [i * len(values) // count for i in range(count + 1)]
    means: list[float | None] = []
    for start, stop in itertools.pairwise(cuts):
        known = [x for x in values[start:stop] if x is not None]
        means.append(sum(known) / len(known) if known else None)
    some = [x for x in means if x is not None]
    if not some:
        return "no rollouts from the root yet"
    low, high = min(some), max(some)
    top = len(_BLOCKS) - 1
    scale = top / (high - low) if high > low else 0.0
    drawn = "".join(" " if x is None else _BLOCKS[round((x - low) * scale)] for x in means)
    return f"{low:.2f} {drawn} {high:.2f}"
