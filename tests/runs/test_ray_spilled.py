"""Results on Ray that its object store does not hold at once: it spills them to a folder, and they are what they were."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reroot.runs.executors.base import Work, singly
from reroot.runs.executors.on_ray import OnRay

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback interface
ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'reroot[ray]'")
pytestmark = pytest.mark.xdist_group("ray")
STORE, SIZE, COUNT = 80 * 2**20, 45 * 2**20, 3


def made(seeds: Sequence[int]) -> list[bytes]:
    return [random.Random(seed).randbytes(SIZE) for seed in seeds]


def begin() -> Work:
    return made


def spilled(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow(12)
def test_results_beyond_the_object_store(tmp_path: Path) -> None:
    assert not ray.is_initialized()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=STORE,
        object_spilling_directory=str(tmp_path),
        log_to_driver=False,
    )
    try:
        held = ray.put(made([-1]))  # of whoever else uses this store: beside it no result has room
        with OnRay("local", 2).pool(begin) as pool:
            results = pool.results(singly((str(i), i) for i in range(COUNT)))
            found = {done.key: done.value for done in results}
        assert spilled(tmp_path) >= SIZE
        assert ray.get(held) == made([-1])
    finally:
        ray.shutdown()
    assert {key: found[key] == made([int(key)])[0] for key in sorted(found)} == {
        str(i): True for i in range(COUNT)
    }
