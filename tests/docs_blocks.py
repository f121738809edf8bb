"""The fenced blocks of README and docs: what they are, and running those of a page in their order.

A block is run as it stands, unless a comment right above it says otherwise:

    <!-- not run: REASON -->           the reason is shown on the site, too
    <!-- tests add: --problems 2 -->   every ``reroot`` line of the block ends with this in the tests
    <!-- slow: 20 -->                  anywhere on a page: it takes about 20 seconds

A block with ``title="FILE"`` is written to that file first. Languages that are no commands, such as
``text``, ``json`` or ``mermaid``, are only that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commands import call

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "sh", "bash", "console")
_FENCE = re.compile(
    r"(?P<said>(?:^ *<!--[^\n]*-->\n+)*)^(?P<in> *)```(?P<head>[^\n`]*)\n(?P<code>.*?)^(?P=in)```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file that it is in.
        line: the line of its fence, from 1.
        language: as fenced; "" where none is named.
        code: what is in it.
        title: the file that it is; "" for none.
        not_run: the reason why tests do not run it; "" where they do.
        adds: what tests add to its ``reroot`` lines.
    """

    page: Path
    line: int
    language: str
    code: str
    title: str = ""
    not_run: str = ""
    adds: str = ""

    @property
    def where(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in _FENCE.finditer(text):
        language, _, rest = match["head"].strip().partition(" ")
        said = dict(re.findall(r"<!-- ([a-z ]+): (.*?) -->", match["said"]))
        title = re.search(r'title="([^"]*)"', rest)
        found.append(
            Block(
                page,
                text[: match.end("said")].count("\n") + 1,
                language,
                re.sub(f"^{match['in']}", "", match["code"], flags=re.MULTILINE),
                title[1] if title else "",
                said.get("not run", ""),
                said.get("tests add", ""),
            )
        )
    return found


def seconds_of(page: Path) -> float:
    """Seconds that a page says it takes; 0 where it says nothing."""
    found = re.search(r"<!-- slow: (\d+) -->", page.read_text(encoding="utf-8"))
    return float(found[1]) if found else 0.0


def run_block(block: Block, state: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Run one block in the working directory; ``state`` is shared by the Python blocks of a page."""
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.code, encoding="utf-8")
    if block.not_run or block.language not in RUN:
        return
    if block.language == "python":
        exec(compile("\n" * block.line + block.code, str(block.page), "exec"), state)
    elif block.language == "console":
        _console(block, capsys)
    else:
        _shell(block)


def _lines(code: str) -> list[str]:
    """Commands: one a line, joined where a line ends with a backslash."""
    joined = code.replace("\\\n", " ")
    return [x for x in joined.splitlines() if x.strip() and not x.lstrip().startswith("#")]


def _shell(block: Block) -> None:
    """``reroot`` lines in this process, and any other block as a whole in bash."""
    commands = _lines(block.code)
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", line).partition(" #")[0] for line in commands]
    if all(re.match(r"reroot [^|>;&$`]*$", line) for line in bare):
        for line in commands:
            _reroot(line, block)
        return
    bin_ = str(Path(sys.executable).parent)
    path = {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    source = {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        check=True, timeout=120, env={**os.environ, **path, **source},
    )  # fmt: skip


def _reroot(line: str, block: Block) -> None:
    words = [*shlex.split(line, comments=True)[1:], *shlex.split(block.adds)]
    assert call(*words) == 0, f"{block.where}: {line.strip()} failed"


def _console(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """``$ reroot …`` prints what stands below it; a line ``…`` stands for any lines."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        capsys.readouterr()
        _reroot(command, block)
        found = "\n".join(x.rstrip() for x in capsys.readouterr().out.splitlines())
        wanted = re.escape(shown.rstrip()).replace("…", r"(?:.*\n)*?.*")
        assert re.fullmatch(wanted, found.strip("\n")), f"{block.where}: printed\n{found}"
