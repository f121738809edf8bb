"""The layering, read from the syntax of every module; and proof that the check can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
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


FOUNDATION = (
    "contract",
    "types",
    "errors",
    "checks",
    "limits",
    "linear",
    "randomness",
    "specs",
    "blocks",
)
ABOVE = ("serving", "probe", "runs", "certify", "testing", "pages", "experiments", "cli")
BEHIND_THE_DOOR = ("gate", "rules", "coarsen", "meter", "episode", "runner", "learner_thread")

ROOMS = (
    *(
        "errors",
        "_version",
        "randomness",
        "checks",
        "specs",
        "contract",
        "types",
        "limits",
        "blocks",
        "linear",
    ),
    *("tasks", "generators", "families", "objective", "access", "learners", "diagnosis"),
    *("serving", "probe", "runs", "training", "testing", "certify", "pages", "experiments", "cli"),
)
"""In the order in which they build on each other: a room imports only rooms before it."""

RULES = [
    Rule(
        "learners and training reach a generator through a session alone; training.trl and "
        "training.groups make the sessions",
        who=("learners", "training"),
        but=("training.trl", "training.groups", "training.granting"),
        only=("learners", "training", "access.session", "access.learner", *FOUNDATION),
    ),
    Rule(
        "generators know contracts, but nothing of sessions, budgets or learners",
        who=("generators", "families"),
        never=("access", "learners", "training", *ABOVE),
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
    ),
    Rule(
        "what a learner holds does not know what is behind the door",
        who=("access.session", "access.learner"),
        never=("generators", "tasks", *(f"access.{name}" for name in BEHIND_THE_DOOR)),
    ),
    Rule(
        "what is exact is worked out from laws, whoever asks for them",
        who=("objective",),
        never=("access", "learners", "training", "families", "tasks", *ABOVE),
    ),
    Rule(
        "pages read what runs have written, and know no experiment",
        who=("pages",),
        never=("experiments", "learners", "training", "generators", "families", "runs.run"),
    ),
    Rule("the notation depends on itself alone", who=FOUNDATION, only=FOUNDATION),
    Rule(
        "the command line is on top", who=("",), never=("cli",), but=("cli", "__main__", "__init__")
    ),
    Rule(
        "of the command line the root package shows what describes names",
        who=("__init__",),
        never=("cli",),
        unless=("cli.describe",),
    ),
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


def upward(root: Path) -> list[str]:
    """Imports of a room that comes later, and rooms that ``ROOMS`` does not know."""
    known, found = modules(root), []
    for name, path in known.items():
        room = name.split(".")[0]
        if room in ("__init__", "__main__"):  # for users, above everything
            continue
        if room not in ROOMS:
            found.append(f"{room} is not in ROOMS")
            continue
        for line, target in imports(name, path, known):
            other = target.split(".")[0]
            if other in ROOMS and ROOMS.index(other) > ROOMS.index(room):
                found.append(f"{name}:{line} imports {target}, a room above it")
    return found


def circle(root: Path) -> tuple[str, ...]:
    """Modules that import each other in a circle, if there are any."""
    known = modules(root)
    graph = {
        name: {t for _, t in imports(name, path, known) if t != name}
        for name, path in known.items()
        if name != "__init__"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


@pytest.mark.slow(1)
def test_rooms_build_on_rooms_before_them() -> None:
    assert upward(SOURCE) == []
    assert circle(SOURCE) == ()


def test_there_are_few_rooms() -> None:
    """Adding one is a decision about the plan of the house."""
    rooms = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert len(rooms) <= 28


def test_an_upward_import_and_a_circle_are_found(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "reroot", SKELETON)
    assert upward(root) == []
    assert circle(root) == ()
    write_tree(root, {"tasks.base": "from ..runs import run\n", "attic": ""})
    assert [x for x in upward(root) if "tasks.base:1" in x]
    assert "attic is not in ROOMS" in upward(root)
    round_about = {
        "errors": "def f():\n    from . import checks\n",
        "checks": "from . import errors\n",
    }
    root = write_tree(tmp_path / "again" / "reroot", {**SKELETON, **round_about})
    assert {"errors", "checks"} <= set(circle(root))


@pytest.mark.slow(1)
def test_the_layers_hold() -> None:
    assert violations(SOURCE) == []


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [f for f in folders if not (f / "__init__.py").exists()] == []


# ---- the check can fail ---------------------------------------------------------------------

SKELETON = {
    "__init__": "from .contract import Contract\nfrom .types import Prefix\n",
    "__main__": "from .cli import main\n",
    "types": "from .contract import Report\nfrom .errors import InvalidInput\n",
    "errors": "import difflib\n",
    "limits": "from .errors import InvalidInput\n",
    "randomness": "import numpy as np\n",
    "access.__init__": "",
    "contract": "from .errors import InvalidInput\n",
    "access.session": "from ..types import Prefix\nfrom ..contract import Contract\n",
    "access.gate": "from ..generators.base import Request\nfrom ..tasks.base import score\n",
    "access.runner": "from .learner import BoundLearner\nfrom .gate import Gate\n",
    "access.meter": "from ..types import Cost\n",
    "learners.__init__": "from ..access.learner import learner\nfrom . import walk\n",
    "access.learner": "from typing import TYPE_CHECKING\nfrom ..contract import Contract\n"
    "if TYPE_CHECKING:\n    from ..access.session import Session\n",
    "learners.walk": "from ..limits import plurality_draws\nfrom ..access.learner import learner\n",
    "training.__init__": "from ..access.learner import learner\n",
    "generators.__init__": "",
    "generators.base": "from ..contract import Contract\nfrom ..types import Reply\n",
    "families.__init__": "from ..generators.base import Generator\nfrom ..tasks.base import Problem\n",
    "tasks.__init__": "",
    "tasks.base": "from ..types import Output\n",
    "runs.run": "from ..access.runner import execute\nfrom ..access.learner import BoundLearner\n",
    "pages.__init__": "import json\n",
    "cli": "import typer\n\n\ndef run():\n    from .runs.run import run\n",
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
        ("learners.walk", "from ..access import gate, learner", "access.gate"),
        ("learners.walk", "from ..access.runner import execute", "access.runner"),
        ("learners.walk", "from ..access.meter import Meter", "access.meter"),
        ("learners.walk", "from ..tasks.base import Problem", "tasks.base"),
        ("learners.walk", "from ..runs.run import run", "runs.run"),
        ("learners.walk", "if TYPE_CHECKING:\n    from ..generators import base", "generators.base"),
        ("learners.walk", "def f():\n    from ..generators import base", "generators.base"),
        ("learners.__init__", "from ..generators import base", "generators.base"),
        ("training.__init__", "from ..families import HiddenPath", "families"),
        ("generators.base", "from ..access.session import Session", "access.session"),
        ("generators.base", "from ..access import meter", "access.meter"),
        ("generators.base", "from ..access.runner import execute", "access.runner"),
        ("generators.base", "from ..access.learner import learner", "access.learner"),
        ("families.__init__", "from ..access.gate import Gate", "access.gate"),
        ("families.__init__", "from ..pages import report", "pages"),
        ("tasks.base", "from ..generators.base import Generator", "generators.base"),
        ("tasks.base", "from ..families import HiddenPath", "families"),
        ("tasks.base", "from ..access.session import Session", "access.session"),
        ("access.runner", "from ..learners.walk import walk", "learners.walk"),
        ("access.runner", "from ..learners import walk", "learners.walk"),
        ("access.runner", "from ..families import HiddenPath", "families"),
        ("access.gate", "from ..pages import report", "pages"),
        ("access.session", "from .gate import Gate", "access.gate"),
        ("access.session", "from ..generators.base import Request", "generators.base"),
        ("types", "from .access.session import Session", "access.session"),
        ("limits", "from .tasks.base import Problem", "tasks.base"),
        ("runs.run", "from ..cli import app", "cli"),
        ("pages.__init__", "from ..cli import app", "cli"),
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
