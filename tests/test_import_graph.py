"""The layering, read from the syntax of every module; and proof that the check can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "reroot"


@dataclass(frozen=True)
class Rule:
    """What the modules ``who`` (with everything below them) may import of reroot.

    ``never`` these, or ``only`` these; ``unless`` the target is one of those, ``but`` not these
    importers.
    """

    why: str
    who: tuple[str, ...]
    never: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    unless: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def refuses(self, importer: str, target: str) -> bool:
        if not below(importer, self.who) or below(importer, self.but) or below(target, self.unless):
            return False
        return below(target, self.never) or not (self.only is None or below(target, self.only))


FOUNDATION = ("types", "errors", "checks", "limits", "randomness", "access.contract")
ABOVE = (
    *("running", "runs", "folders", "workload", "comparison"),
    *("report", "experiments", "catalog", "cli"),
)
BEHIND_THE_DOOR = ("desk", "rules", "coarsen", "meter", "episode", "runner", "learner_thread")

RULES = [
    Rule(
        "learners and training reach a generator through a session alone; training.trl makes the "
        "sessions",
        who=("learners", "training"),
        but=("training.trl",),
        only=("learners", "training", "access.session", *FOUNDATION),
    ),
    Rule(
        "generators know contracts, but nothing of sessions, budgets or learners",
        who=("generators", "families"),
        never=("access", "learners", "training", *ABOVE),
        unless=("access.contract",),
    ),
    Rule(
        "tasks judge text and tokens, whoever generated them",
        who=("tasks",),
        never=("generators", "families", "access", "learners", "training", *ABOVE),
    ),
    Rule(
        "the door knows what a learner is, but no learner, family or report",
        who=("access",),
        never=("learners", "families", "training", *ABOVE),
        unless=("learners.base",),
    ),
    Rule(
        "what a learner holds does not know what is behind the door",
        who=("access.session", "access.contract"),
        never=("generators", "tasks", *(f"access.{name}" for name in BEHIND_THE_DOOR)),
    ),
    Rule(
        "what is exact is worked out from laws, whoever asks for them",
        who=("objective",),
        never=("access", "learners", "training", "families", "tasks", *ABOVE),
        unless=("access.contract",),
    ),
    Rule(
        "reports read what runs have written, and know no experiment",
        who=("report",),
        never=("experiments", "learners", "training", "generators", "families", "running"),
    ),
    Rule("the notation depends on itself alone", who=FOUNDATION, only=FOUNDATION),
    Rule("the command line is on top", who=("",), never=("cli",), but=("cli", "__main__")),
    Rule(
        "the root package is for users: inside, import the module that is meant",
        who=("learners", "training", "generators", "families", "tasks", "access", *FOUNDATION),
        never=("__init__",),
    ),
]


def below(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module, named from the root package on, is one of ``places`` or inside one."""
    return any(not p or name == p or name.startswith(f"{p}.") for p in places)


def modules(root: Path) -> dict[str, Path]:
    """Name from the root package on (``"__init__"`` for itself) → file."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """(line, module of the package) of every import in a file, wherever it stands."""
    package = name.split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    elif name == "__init__":
        package = []

    def inside(dotted: list[str]) -> str:
        while dotted and ".".join(dotted) not in known:  # an attribute of the module above it
            dotted = dotted[:-1]
        return ".".join(dotted) or "__init__"

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == "reroot":
                    yield node.lineno, inside(rest)
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            elif base[:1] == ["reroot"]:
                base = base[1:]
            else:
                continue
            for alias in node.names:
                yield node.lineno, inside([*base, alias.name])


def dynamic_imports(path: Path) -> Iterator[int]:
    """Lines that name ``importlib`` or ``__import__``: imports that the syntax does not show."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [node.id] if isinstance(node, ast.Name) else []
        if any(n.split(".")[0] in ("importlib", "__import__") for n in names):
            yield node.lineno  # type: ignore[attr-defined]


def violations(root: Path) -> list[str]:
    """``importer:line imports target: rule`` for every import that a rule refuses."""
    known = modules(root)
    found = []
    for name, path in known.items():
        for line, target in imports(name, path, known):
            for rule in RULES:
                if rule.refuses(name, target):
                    found.append(f"{name}:{line} imports {target}: {rule.why}")
        if below(name, ("learners", "training")):
            found += [
                f"{name}:{line} imports by name at run time" for line in dynamic_imports(path)
            ]
    return found


def test_the_layers_hold() -> None:
    assert violations(SOURCE) == []


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [f for f in folders if not (f / "__init__.py").exists()] == []


# ---- the check can fail ---------------------------------------------------------------------

SKELETON = {
    "__init__": "from .access.contract import Contract\nfrom .types import Prefix\n",
    "__main__": "from .cli import main\n",
    "types": "from .access.contract import Report\nfrom .errors import InvalidInput\n",
    "errors": "import difflib\n",
    "limits": "from .errors import InvalidInput\n",
    "randomness": "import numpy as np\n",
    "access.__init__": "",
    "access.contract": "from ..errors import InvalidInput\n",
    "access.session": "from ..types import Prefix\nfrom .contract import Contract\n",
    "access.desk": "from ..generators.base import Request\nfrom ..tasks.base import judge\n",
    "access.runner": "from ..learners.base import BoundLearner\nfrom .desk import Desk\n",
    "access.meter": "from ..types import Cost\n",
    "learners.__init__": "from .base import learner\nfrom . import walk\n",
    "learners.base": "from typing import TYPE_CHECKING\nfrom ..access.contract import Contract\n"
    "if TYPE_CHECKING:\n    from ..access.session import Session\n",
    "learners.walk": "from ..limits import plurality_draws\nfrom .base import learner\n",
    "training.__init__": "from ..learners.base import learner\n",
    "generators.__init__": "",
    "generators.base": "from ..access.contract import Contract\nfrom ..types import Reply\n",
    "families.__init__": "from ..generators.base import Generator\nfrom ..tasks.base import Problem\n",
    "tasks.__init__": "",
    "tasks.base": "from ..types import Output\n",
    "running": "from .access.runner import execute\nfrom .learners.base import BoundLearner\n",
    "report.__init__": "import json\n",
    "cli": "import typer\n\n\ndef run():\n    from .running import run\n",
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_tree_that_keeps_the_rules_is_accepted(tmp_path: Path) -> None:
    assert violations(write_tree(tmp_path / "reroot", SKELETON)) == []


@pytest.mark.parametrize(
    ("importer", "line", "target"),
    [
        ("learners.walk", "from ..generators.base import Generator", "generators.base"),
        ("learners.walk", "from reroot.generators import base", "generators.base"),
        ("learners.walk", "import reroot.generators.base as backend", "generators.base"),
        ("learners.walk", "from .. import generators", "generators"),
        ("learners.walk", "from .. import families as tables", "families"),
        ("learners.walk", "from ..access import desk, contract", "access.desk"),
        ("learners.walk", "from ..access.runner import execute", "access.runner"),
        ("learners.walk", "from ..access.meter import Meter", "access.meter"),
        ("learners.walk", "from ..tasks.base import Problem", "tasks.base"),
        ("learners.walk", "from ..running import run", "running"),
        ("learners.walk", "if TYPE_CHECKING:\n    from ..generators import base", "generators.base"),
        ("learners.walk", "def f():\n    from ..generators import base", "generators.base"),
        ("learners.__init__", "from ..generators import base", "generators.base"),
        ("training.__init__", "from ..families import HiddenPath", "families"),
        ("generators.base", "from ..access.session import Session", "access.session"),
        ("generators.base", "from ..access import meter", "access.meter"),
        ("generators.base", "from ..access.runner import execute", "access.runner"),
        ("generators.base", "from ..learners.base import learner", "learners.base"),
        ("families.__init__", "from ..access.desk import Desk", "access.desk"),
        ("families.__init__", "from ..report import write_report", "report"),
        ("tasks.base", "from ..generators.base import Generator", "generators.base"),
        ("tasks.base", "from ..families import HiddenPath", "families"),
        ("tasks.base", "from ..access.contract import Contract", "access.contract"),
        ("access.runner", "from ..learners.walk import walk", "learners.walk"),
        ("access.runner", "from ..learners import walk", "learners.walk"),
        ("access.runner", "from ..families import HiddenPath", "families"),
        ("access.desk", "from ..report import write_report", "report"),
        ("access.session", "from .desk import Desk", "access.desk"),
        ("access.session", "from ..generators.base import Request", "generators.base"),
        ("types", "from .access.session import Session", "access.session"),
        ("limits", "from .tasks.base import Problem", "tasks.base"),
        ("running", "from .cli import app", "cli"),
        ("report.__init__", "from ..cli import app", "cli"),
        ("__init__", "from .cli import main", "cli"),
    ],
)  # fmt: skip
def test_every_rule_can_be_broken(tmp_path: Path, importer: str, line: str, target: str) -> None:
    tree = {**SKELETON, importer: f"{line}\n{SKELETON[importer]}"}
    found = violations(write_tree(tmp_path / "reroot", tree))
    name = importer.removesuffix(".__init__")
    assert found
    assert all(f.startswith(f"{name}:") and f" imports {target}: " in f for f in found)


@pytest.mark.parametrize("importer", ["learners.walk", "generators.base", "tasks.base", "types"])
@pytest.mark.parametrize("line", ["import reroot", "from reroot import run", "from {} import run"])
def test_the_root_package_is_no_way_around(tmp_path: Path, importer: str, line: str) -> None:
    line = line.format("." * (importer.count(".") + 1))
    tree = {**SKELETON, importer: f"{line}\n{SKELETON[importer]}"}
    found = violations(write_tree(tmp_path / "reroot", tree))
    assert found
    assert all(f.startswith(f"{importer}:1 imports __init__: ") for f in found)


@pytest.mark.parametrize(
    "line",
    [
        "import importlib",
        "from importlib import import_module",
        "import importlib.util as tools",
        "base = __import__('reroot.generators.base')",
    ],
)
def test_imports_by_name_are_no_way_around(tmp_path: Path, line: str) -> None:
    tree = {**SKELETON, "learners.walk": f"{line}\n"}
    found = violations(write_tree(tmp_path / "reroot", tree))
    assert found == ["learners.walk:1 imports by name at run time"]
