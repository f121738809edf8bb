"""The decorator keeps a learner's parameters for type checkers, and takes contracts as text."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import Contract, InvalidInput, learner
from reroot.learners.root_start import best_of_n

SNIPPET = """
from collections.abc import Sequence
from reroot import Prefix, Session, learner
from reroot.learners import BoundLearner

@learner(requires="root/sample")
async def mine(session: Session, *, n: int = 2, name: str) -> Prefix | None:
    return None

good: BoundLearner = mine(n=3, name="a")
mine(name="a")
mine(m=3, name="a")  # wrong: no such parameter
mine(n="x", name="a")  # wrong: another type
mine(n=3)  # wrong: one is missing
mine(3, name="a")  # wrong: without its name
bad: int = mine(name="a")  # wrong: it is a learner

@learner(requires="root/sample")
async def number(session: Session) -> int:  # wrong: no output
    return 3
"""


@pytest.mark.slow
def test_pyright_knows_the_parameters(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "pyrightconfig.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "snippet.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=250,
    )  # fmt: skip
    told = {int(n) for n in re.findall(r"snippet\.py:(\d+):\d+ - error", done.stdout)}
    lines = SNIPPET.splitlines()
    wrong = {n for n, line in enumerate(lines, 1) if "# wrong" in line}
    assert told - {n - 1 for n in wrong} <= wrong, done.stdout
    assert all({n, n - 1} & told for n in wrong), done.stdout
    assert len(told) == len(wrong)


def test_contracts_as_text_and_as_functions() -> None:
    async def body(session: Any, *, n: int = 1) -> Any: ...

    assert learner(requires="visited/sample+reward")(body)().requires == Contract.parse(
        "visited/sample+reward"
    )
    chosen = learner(requires=lambda p: "root/sample" if p["n"] == 1 else "chosen/full")(body)
    assert str(chosen(n=2).requires) == "chosen/full"
    for wrong, said in [("visted/sample", "visited"), (3, "got 3"), (None, "got None")]:
        with pytest.raises(InvalidInput, match=said):
            learner(requires=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="takes parameters by name, got 4"):
        chosen(4)  # type: ignore[misc]


def test_factories_know_where_they_are_from() -> None:
    assert best_of_n.__module__ == "reroot.learners.root_start"
    assert best_of_n(n=3).identity() == {
        "name": "best_of_n",
        "params": {"n": "3", "oracle": "reward"},
    }
    assert reroot.learners.get_learner(best_of_n) == best_of_n()
