"""Actors of a Ray cluster, or of a Ray that is started on this machine and ends with the run.

Ray may run what it was given more than once. Each actor is an attempt at a batch and no more (neither actors nor
their calls are retried by Ray); who does a dead actor's work again is the pool, by keys, as with processes.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, WorkerDied, need
from .base import Begin, CrewPool, Event, Pool, Work
from .raised import as_raised

_ONE_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At 0 Ray has one node, on the loopback interface; else it takes this machine's address whatever it is told."""
_LOOK = 5.0
"""Seconds without news after which it is asked whether this node is still there."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class OnRay:
    """An executor of Ray actors. It connects when a pool is opened, and leaves Ray with it, unless this process
    was connected before.

    Args:
        address: ``local``: Ray on this machine, on its loopback interface; ``auto``: the cluster that Ray finds
            (``RAY_ADDRESS``, or one that runs here); or a cluster's address.
        replicas: actors, each of one core.
        gpus: of each actor; fractions share a GPU.
    """

    address: str
    replicas: int
    gpus: float = 0.0

    @property
    def workers(self) -> int:
        """See ``Executor``."""
        return self.replicas

    @property
    def here(self) -> bool:
        """See ``Executor``: never."""
        return False

    @contextmanager
    def pool(self, begin: Begin) -> Iterator[Pool]:
        """See ``Executor``; raises as ``connected`` does."""
        with self.connected() as ray:
            crew = _Crew(ray, begin, self.gpus)
            try:
                yield CrewPool(crew, self.replicas)
            finally:
                crew.dismiss()

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Ray, for several pools.

        Raises:
            MissingDependency: Ray is not installed.
            InvalidInput: there is no cluster at the address, or a local one would not be local.
        """
        need("ray", "ray")
        if self.address == "local":
            os.environ.setdefault(_ONE_NODE, "0")  # is read as Ray is imported
        import ray  # pyright: ignore[reportMissingImports]

        mine = not ray.is_initialized()
        if mine:
            self._connect(ray)
        try:
            yield ray
        finally:
            if mine:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.address == "local":
            if (here := ray.util.get_node_ip_address()) not in _LOOPBACK:
                raise InvalidInput(
                    f"Ray would listen on {here}, as it was imported before and {_ONE_NODE} was not 0"
                )
            # another Ray of this machine is not taken for it, whatever RAY_ADDRESS says
            ray.init(
                "local",
                num_cpus=self.replicas,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
            return
        try:
            ray.init(self.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = " ".join(str(error).split())[:300]
            raise InvalidInput(
                f"no Ray cluster at {self.address!r}: {why} (one that asks for a token needs "
                "RAY_AUTH_MODE=token here too)"
            ) from None


class _Replica:
    """What runs in an actor."""

    def __init__(self) -> None:
        self._work: Work | None = None

    def begin(self, pickled: bytes) -> tuple[str, Any]:
        try:
            self._work = pickle.loads(pickled)()
        except BaseException as error:
            return "raised", as_raised(error)
        return "ready", None

    def work(self, payloads: Sequence[Any]) -> tuple[str, Any]:
        assert self._work is not None
        try:
            return "done", list(self._work(payloads))
        except BaseException as error:
            return "raised", as_raised(error)


class _Crew:
    def __init__(self, ray: Any, begin: Begin, gpus: float) -> None:
        self._ray, self._gpus = ray, gpus
        # by itself, so that an actor that cannot read it says why
        self._begin: bytes = ray.cloudpickle.dumps(begin)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}
        self._hired = 0
        self._node: str = ray.get_runtime_context().get_node_id()
        self._heard_at = time.monotonic()

    def hire(self) -> int:
        made = self._ray.remote(_Replica).options(
            num_cpus=1, num_gpus=self._gpus, max_restarts=0, max_task_retries=0
        )
        self._hired += 1
        actor = self._actors[self._hired] = made.remote()
        self._asked[actor.begin.remote(self._begin)] = self._hired
        return self._hired

    def give(self, worker: int, payloads: Sequence[Any]) -> None:
        self._asked[self._actors[worker].work.remote(payloads)] = worker

    def events(self, seconds: float) -> Sequence[Event]:
        if not self._asked:
            return []
        self._ray.wait(list(self._asked), timeout=seconds)
        done, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        if done:
            self._heard_at = time.monotonic()
        elif time.monotonic() - self._heard_at > _LOOK:
            self._check_node()
            self._heard_at = time.monotonic()
        return [self._heard(one) for one in done]

    def _check_node(self) -> None:
        """No answer ever comes where the node that this process is connected to is lost."""
        if all(node["NodeID"] != self._node for node in self._ray.nodes() if node["Alive"]):
            raise WorkerDied(
                "Ray has lost the node of this command, which goes on where it was if it is run again"
            )

    def _heard(self, answer: Any) -> Event:
        worker = self._asked.pop(answer)
        errors = self._ray.exceptions
        try:
            kind, value = self._ray.get(answer)
        except errors.RayTaskError as error:  # what it gave cannot travel
            return Event(worker, "raised", as_raised(error))
        except errors.RayError as error:
            self._end(worker)
            return Event(worker, "died", f"of this: {' '.join(str(error).split())[:300]}")
        return Event(worker, kind, value)

    def _end(self, worker: int) -> None:
        with suppress(Exception):  # it is dead already
            self._ray.kill(self._actors.pop(worker))

    def dismiss(self) -> None:
        for worker in list(self._actors):
            self._end(worker)
