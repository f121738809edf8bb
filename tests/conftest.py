"""Settings that every test runs under: reproducible, offline, no clocks; and what runs where, and when."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

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
    return pytestconfig.getoption("nightly")


@pytest.fixture
def shared_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """reroot's cache is one folder of this test run: what takes long to make is made once, in any process."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cache"
    monkeypatch.setenv("REROOT_CACHE", str(folder))
    return folder


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
