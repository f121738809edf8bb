"""Docs, README and examples import from ``reroot`` and its public packages alone; all of it exists."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import reroot
from docs_blocks import PAGES, ROOT, blocks_of

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PUBLIC = {"reroot", *(f"reroot.{name}" for name in reroot._PACKAGES)}


def blocks() -> Iterator[tuple[str, str]]:
    """(where, code) of every Python block of the pages, and every example."""
    found = [block for page in PAGES for block in blocks_of(page)]
    yield from ((block.where, block.code) for block in found if block.language == "python")
    yield from ((path.name, path.read_text(encoding="utf-8")) for path in EXAMPLES)


def wrong(code: str) -> list[str]:
    """Imports of what is not public, and attributes of reroot that do not exist."""
    found: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.partition(".")[0] == "reroot"]
            found += [name for name in names if name not in PUBLIC]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "reroot":
            public = importlib.import_module(node.module) if node.module in PUBLIC else None
            shown = (*getattr(public, "__all__", ()), *(PUBLIC if node.module == "reroot" else ()))
            found += [f"{node.module}.{a.name}" for a in node.names if a.name not in shown]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "reroot":
            found += [] if node.attr in reroot.__all__ else [f"reroot.{node.attr}"]
    return found


@pytest.mark.parametrize(
    ("where", "code"), list(blocks()), ids=lambda x: x[:24] if "\n" not in x else ""
)
def test_only_what_is_public_is_used(where: str, code: str) -> None:
    assert wrong(code) == []


def test_there_is_something_to_check_and_it_can_fail() -> None:
    assert len(list(blocks())) >= 8
    assert wrong("from reroot.access.learner import learner") == ["reroot.access.learner.learner"]
    assert wrong("from reroot.generators import load") == ["reroot.generators.load"]
    assert wrong("import reroot\nreroot.write_report") == ["reroot.write_report"]
    assert wrong("import reroot.runs.run") == ["reroot.runs.run"]
    assert wrong("from reroot import run\nfrom reroot.learners import get_learner") == []


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_all_that_is_public_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in module.__all__:
        assert getattr(module, exported) is not None, exported
    assert sorted(set(module.__all__)) == sorted(module.__all__)


def test_each_command_has_a_function_of_its_name() -> None:
    from reroot.cli import certify, compare, describe, probe, reproduce, train, view  # noqa: F401
    from reroot.cli.app import app

    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    # they print and serve what reroot.attempts gives; reroot.connect is the other side of serve
    # sweeps are of reroot.training.trl
    shown = {"show", "view", "serve", "keys", "sweep"}
    for name in commands - {"list", "certify", "probe"} - shown:
        assert callable(getattr(reroot, name)), name
        assert name in reroot.__all__
    assert callable(reroot.certify.certify)
    assert callable(reroot.probe.probe)


@pytest.mark.slow(1)
def test_everything_is_reached_by_importing_reroot_alone() -> None:
    parts = ", ".join(f"reroot.{name}" for name in reroot.__all__)
    subprocess.run([sys.executable, "-c", f"import reroot; {parts}"], check=True, timeout=120)
