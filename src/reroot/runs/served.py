"""A comparison on what a server serves: its problems, in its sessions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby

from ..errors import InvalidInput
from ..generators.remote.endpoint import KEYS, checked
from ..serving.client import Served, connect
from .cells import Cell, Workload


def served_workload(
    server: str | Served, horizons: Sequence[int], seeds: int | None, count: int | None
) -> Workload:
    """The problems that ``reroot serve`` serves.

    Args:
        server: its address, with the key in the environment; or what ``connect`` gave.
        horizons: of which; empty: all.
        seeds: of how many seeds; ``None``: all that are served.
        count: how many of each task, horizon and seed; ``None``: all.

    Raises:
        InvalidInput: there is no key, or what is asked for is not served.
        BackendError: the server cannot be reached.
    """
    wall = server if isinstance(server, Served) else _connected(server)
    url = server if isinstance(server, str) else server.url
    cells: list[Cell] = []
    if seeds is None:
        seeds = 1 + max((seed for _, _, seed, _ in wall.places()), default=0)
    for (task, horizon, seed), here in groupby(wall.places(), lambda place: place[:3]):
        if (horizons and horizon not in horizons) or seed >= seeds:
            continue
        bound = tuple(wall.bind(problem) for *_, problem in here)
        if count is not None and len(bound) < count:
            raise InvalidInput(
                f"{url} serves {len(bound)} problems of {task} at horizon {horizon} under seed {seed}, "
                f"not {count}"
            )
        cells.append(Cell(task, horizon, seed, bound[:count]))
    served = {(cell.horizon, cell.seed) for cell in cells}
    missing = [(h, s) for h in horizons for s in range(seeds) if (h, s) not in served]
    if missing or {cell.seed for cell in cells} != set(range(seeds)):
        raise InvalidInput(
            f"{url} does not serve horizons {list(horizons) or 'of its own'} under seeds 0…{seeds - 1}; it "
            f"has (horizon, seed) {sorted({place[1:3] for place in wall.places()})}"
        )
    tasks = tuple(dict.fromkeys(cell.task for cell in cells))
    sizes = tuple(dict.fromkeys(cell.horizon for cell in cells))
    most = max(len(cell.episodes) for cell in cells)
    return Workload(url, wall, tasks, sizes, tuple(cells), most)


def _connected(url: str) -> Served:
    key = os.environ.get(KEYS[""])
    if not key:
        raise InvalidInput(
            f"model {url!r} without a task is a 'reroot serve', which needs a key: set {KEYS['']}; "
            "any other server needs a task, see 'reroot list tasks'"
        )
    return connect(checked(url), key)
