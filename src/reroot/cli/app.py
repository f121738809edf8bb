"""The command line: each command is one typed call of the library."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from .._version import __version__
from ..errors import MissingDependency, OtherRun
from .addresses import with_addresses
from .console import PlainConsole

_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R")


class _Encoded:
    """Help in characters that the stream holds: Click would write UTF-8 to one that is ASCII."""

    def get_help(self, ctx: Any) -> str:
        encoding = sys.stdout.encoding or "ascii"
        text: str = super().get_help(ctx)  # type: ignore[misc]
        return text.encode(encoding, "reroot").decode(encoding)


class _Command(_Encoded, TyperCommand): ...


class _Group(_Encoded, TyperGroup): ...


app = typer.Typer(
    name="reroot",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Compare what different generator interfaces are worth.

A contract says who may ask an autoregressive generator what, and at which prefix: control (root < visited < reset < chosen, and episode, between root and reset) / report (argmax(k), sample, logprob, topk(k), full). Learners reach the generator only through a metered session that enforces it, so that the same learner, task, seed and budget can be run with nothing but the interface changed.

Start with:  reroot compare --model hidden_path:K=4,H=16,p=0.4
""",
)
console = PlainConsole()


def documented(doc: str | None) -> tuple[str, dict[str, str]]:
    """A docstring's text before its sections, and its ``Args`` as name → meaning."""
    text = inspect.cleandoc(doc or "")
    about, *parts = re.split(r"^(Args|Attributes|Returns|Raises|Example)s?::?\n", text, flags=re.M)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    meanings: dict[str, str] = {}
    for item in re.findall(r"^    (\w[^\n]*(?:\n {5,}[^\n]*)*)", sections.get("Args", ""), re.M):
        names, _, meaning = item.partition(":")
        for name in names.split(","):
            meanings[name.strip()] = re.sub(r"\s+", " ", meaning.replace("``", "")).strip()
    return about.strip().replace("``", ""), meanings


def command(
    *flags: str, name: str | None = None, writes: str = "", reads: str = ""
) -> Callable[[_F], _F]:
    """Add a command that is told in its docstring, at its end the ``Args``; keywords are options.

    With ``--json``, where there is such an option, all that is said goes to stderr.

    Args:
        flags: options that are given or not, without a ``--no-…``.
        name: of the command, where the function has another.
        writes, reads: the parameter whose paths may be addresses (``with_addresses``).
    """

    def add(function: _F) -> _F:
        text, kinds = inspect.cleandoc(function.__doc__ or ""), get_type_hints(function)
        known = inspect.signature(function).parameters
        for key, meaning in documented(text)[1].items():
            if known[key].kind == inspect.Parameter.KEYWORD_ONLY:
                names = [f"--{key.replace('_', '-')}"] if key in flags else []
                told = typer.Option(*names, help=meaning)
            else:
                told = typer.Argument(help=meaning)
            function.__annotations__[key] = Annotated[kinds[key], told]

        run = with_addresses(function, writes=writes, reads=reads)

        @functools.wraps(function)
        def called(*given: Any, **settings: Any) -> Any:
            console.stderr = bool(settings.get("json"))  # stdout is for the data alone
            try:
                return run(*given, **settings)
            finally:
                console.stderr = False

        about = text.partition("\n\nArgs:\n")[0]
        shown = re.sub(r"\n\n(?=    )", "\n\n\b\n", about)  # lines of an example stay lines
        first = re.sub(r"\s+", " ", about.partition("\n\n")[0])
        app.command(name, cls=_Command, help=shown, short_help=first)(called)
        return function

    return add


def in_free_folder(out: Path | None, name: str, run: Callable[[Path], _R]) -> _R:
    """``run`` in ``out``; without one in ``runs/NAME``, or in ``runs/NAME-2`` and so on where others are, which is said.

    Raises:
        OtherRun: ``out`` is given and holds another run.
    """
    if out is not None:
        return run(out)
    for number in itertools.count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            return run(folder)
        except OtherRun as error:
            console.say(f"{error} Without --out the next name is tried.")
    raise AssertionError


def say_page(folder: Path, write: Callable[[], object]) -> None:
    """Write the page of a run that is complete, and say where it is, or what it lacks."""
    try:
        console.say(f"report: {write()}")
    except MissingDependency as error:
        console.say(f"no page: {error}; then: reroot report {folder}")


def table_of(*header: str, fixed: int) -> Table:
    """A table without lines, whose first ``fixed`` columns do not wrap."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, no_wrap=i < fixed)
    return table


def _version(show: bool) -> None:
    if show:
        console.say(f"reroot {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
