"""Which executor: from what a user says."""

from __future__ import annotations

import os

from ...checks import check_float, check_int
from ...errors import InvalidInput
from .base import Executor
from .on_ray import OnRay
from .processes import Processes


def executor_of(
    workers: int | None = None,
    ray: str | None = None,
    replicas: int | None = None,
    gpus_per_replica: float | None = None,
    *,
    usual: int | None = 1,
) -> Executor:
    """Processes of this machine, or actors on Ray.

    Args:
        workers: processes (``None``: ``usual``).
        ray: ``auto``, ``local`` or a cluster's address, in place of processes.
        replicas: actors (``None``: one per core of this machine).
        gpus_per_replica: of each actor (``None``: none).
        usual: processes where nothing is said; ``None``: one per core.

    Raises:
        InvalidInput: numbers out of range, or settings that do not go together.
    """
    cores = os.cpu_count() or 1
    if ray is None:
        for name, value in (("replicas", replicas), ("gpus_per_replica", gpus_per_replica)):
            if value is not None:
                raise InvalidInput(f"{name}={value} is of Ray: it needs ray (auto, local, ADDRESS)")
        given = workers if workers is not None else usual if usual is not None else cores
        return Processes(check_int("workers", given, 1))
    if workers is not None:
        raise InvalidInput(f"workers={workers} are processes of this machine: with ray, replicas")
    if not ray:
        raise InvalidInput("ray must be auto, local or an address, got ''")
    gpus = check_float("gpus_per_replica", gpus_per_replica or 0.0, 0.0)
    return OnRay(ray, check_int("replicas", replicas if replicas is not None else cores, 1), gpus)
