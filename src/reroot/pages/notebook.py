"""What a notebook shows: HTML of results, contracts and problems, and progress as lines that replace each other.

Nothing but IPython itself is needed, no widgets; where pages have colours in their style sheet, a notebook
gets them with each piece.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any, Self

from ..errors import MissingDependency, visible
from .comparison.tables import pass_rates
from .kit.contracts import may
from .kit.formatting import at_horizon, clipped, percent, plural, quantity, short_id, unfinished
from .kit.plots import COLORS, color, label, named_rows, to_svg
from .kit.table import Table, columns

if TYPE_CHECKING:
    from ..access.attempt import Attempt
    from ..runs.compare import Comparison
    from ..runs.estimate import Estimate

_STYLE = (
    ".reroot{{{};color:var(--ink);background:var(--paper);padding:.2em .6em}}"
    ".reroot th,.reroot td{{text-align:right;padding:.1em .6em}}.reroot .text{{text-align:left}}"
    ".reroot small{{opacity:.7}}.reroot pre{{white-space:pre-wrap;text-align:left}}"
    ".reroot .dot{{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em}}"
).format(";".join(f"--{name}:{light}" for name, (light, _) in COLORS.items()))

_MOST = 8
"""Attempts of a run that are shown."""

_WORTH = 30.0
"""Seconds from which an estimate is told."""

_AGAIN = 0.5
"""Seconds between two lines of progress."""


def html_of(thing: Any) -> str:
    """HTML of a ``Comparison``, ``RunResult``, ``Certificate``, ``Contract`` or ``Problem``."""
    body = _VIEWS[type(thing).__name__](thing)
    return visible(f'<div class="reroot"><style>{_STYLE}</style>{body}</div>')


def _comparison(comparison: Comparison) -> str:
    summary = comparison.summary
    told = unfinished(summary)
    parts = [f"<p><b>{escape(told)}</b></p>" if told else ""]
    for task in summary["tasks"]:
        main = next(v for v in summary["verdicts"] if v["task"] == task and v["main"])
        where = at_horizon(task, main["horizon"])
        parts += [
            f"<h4>{escape(where)}: {escape(main['kind'])}</h4>",
            _sentences(main["sentences"]),
        ]
        parts += [pass_rates(summary, task).html(), _figure(summary, task, main["horizon"])]
    return "".join([*parts, f"<p><code>{escape(str(comparison.folder))}</code></p>"])


def _sentences(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _figure(summary: Mapping[str, Any], task: str, horizon: int) -> str:
    """Pass rates at one horizon with their intervals; nothing without matplotlib."""
    at = {c["short"]: c for c in summary["cells"] if (c["task"], c["horizon"]) == (task, horizon)}
    shown = [c for c in at.values() if c["pass_rate"] is not None]
    with suppress(MissingDependency):
        figure, axes = named_rows([clipped(c["short"], 32) for c in shown], 560, 240, 18, 60)
        for y, cell in enumerate(shown):
            tone = color(cell["control"])
            axes.plot([100 * x for x in cell["pass_interval"]], [y, y], color=tone, linewidth=2)
            axes.plot([100 * cell["pass_rate"]], [y], "o", color=tone)
        axes.set_xlim(-2, 102)
        label(axes, "attempts passed, %", "")
        told = "; ".join(f"{c['short']}: {percent(c['pass_rate'])}" for c in shown)
        return to_svg(figure, "rates", f"Attempts passed in percent. {told}")
    return ""


def _run(result: Any) -> str:
    attempts: Sequence[Attempt] = result.attempts
    head = "problem | passed:yes | reward | tokens:q | output"
    rows = [
        [
            short_id(a.problem),
            a.passed,
            a.reward,
            a.cost.tokens,
            str(a.error) if a.error else clipped(a.text, 120),
        ]
        for a in attempts[:_MOST]
    ]
    more = f"; the first {_MOST}" if len(attempts) > _MOST else ""
    return Table(columns(head, (0, 1, 4)), rows, f"{result!r}{more}").html()


def _certificate(found: Any) -> str:
    facts = [
        ("states", found.case.states),
        ("on", found.case.toy.name),
        ("grants", str(found.case.grants)),
        ("checked", found.how),
        ("runs", quantity(found.runs)),
        ("distance to the stated law", None if found.stated is None else f"{found.stated.tv:.3g}"),
        ("expected cost", ", ".join(f"{v:.4g} {k}" for k, v in found.costs.items())),
        ("faults", "; ".join(found.faults)),
    ]
    rows = [[name, value] for name, value in facts if value]
    return Table(columns(" | ", 2), rows, repr(found)).html()


def _contract(contract: Any) -> str:
    return f"<p><code>{escape(str(contract))}</code></p><p>{escape(may(contract))}</p>"


def _problem(problem: Any) -> str:
    prompt = problem.prompt if isinstance(problem.prompt, str) else repr(problem.prompt)
    facts = {"answer": problem.answer, "demonstration": problem.demonstration}
    rows = [
        [name, clipped(str(value), 120)] for name, value in facts.items() if value not in (None, "")
    ]
    rows += [["most tokens", problem.max_tokens], ["passes from reward", problem.pass_at]]
    rows += [["ends at", ", ".join(map(repr, problem.stop))]] if problem.stop else []
    known = Table(columns(" | ", 2), rows, problem.id)
    return f"{known.html()}<pre>{escape(clipped(prompt, 2000))}</pre>"


_VIEWS: dict[str, Callable[[Any], str]] = {
    "Certificate": _certificate,
    "Comparison": _comparison,
    "Contract": _contract,
    "Problem": _problem,
    "RunResult": _run,
}


class Progress:
    """Progress of ``reroot.compare`` in a notebook, or on stderr; a context manager.

        with reroot.pages.Progress() as shown:
            found = reroot.compare(..., **shown.callbacks)

    In a notebook one line that is replaced at most twice a second and stays when it is over; elsewhere a
    line on stderr at the start and at the end.
    """

    def __init__(self) -> None:
        self._total = self._done = self._passed = self._tokens = 0
        self._since = self._said = time.monotonic()
        self._estimate = ""
        self._handle: Any = None

    @property
    def callbacks(self) -> dict[str, Any]:
        """Arguments for ``reroot.compare``."""
        return {
            "on_start": self._start,
            "on_attempt": self._attempt,
            "on_estimate": self._estimated,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._show(self._line(f", {time.monotonic() - self._since:.1f} s"))

    def _start(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._show(self._line())

    def _attempt(self, attempt: Attempt) -> None:
        self._done += 1
        self._passed += attempt.passed
        self._tokens += attempt.cost.tokens
        if self._handle is not None and time.monotonic() - self._said >= _AGAIN:
            self._show(self._line())

    def _estimated(self, estimate: Estimate) -> None:
        if estimate.seconds.high >= _WORTH:
            self._estimate = str(estimate)
            self._show(self._line())

    def _line(self, end: str = "") -> str:
        counts = f"{self._done:,} of {plural(self._total, 'attempt')}, {self._passed:,} passed"
        told = f"\n{self._estimate}" if self._estimate else ""
        return f"{counts}, {self._tokens:,} tokens{end}{told}"

    def _show(self, text: str) -> None:
        self._said = time.monotonic()
        if self._handle is not None:
            self._handle.update(_Line(text))
        elif _in_a_kernel():
            from IPython.display import display

            self._handle = display(_Line(text), display_id=True)
        else:
            print(text, file=sys.stderr)


def _in_a_kernel() -> bool:
    """Whether a notebook's kernel runs this code: a process that only imported ipykernel has no shell."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Line:
    """A line of progress, in a notebook plain text and HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self._text)}</pre>"
