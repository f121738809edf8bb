"""Machines that are none: a Ray cluster whose nodes are network and mount namespaces of this machine.

Everything is inside one user and process namespace (``unshare``, ``nsenter`` and ``ip``; no root needed where
user namespaces are allowed): nothing outside can be reached, and all of it ends with the process that began it.
Each node has an address of its own on a bridge, and a /tmp/ray and /dev/shm of its own; other folders are shared.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

NET, PORT = "10.77.0", 6379
ADDRESS = f"{NET}.1:{PORT}"
_TOOLS = ("unshare", "nsenter", "ip", "mount")
_WALL = ("--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc")
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_ONE_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" where a local Ray was kept on loopback


def inside(command: Sequence[str]) -> list[str]:
    """The command, run inside such a namespace as its root; what it starts ends with it."""
    return ["unshare", *_WALL, "--kill-child", *command]


def why_not() -> str:
    """Why there can be no such nodes here; empty where there can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"network namespaces need {', '.join(missing)}"
    attempt = "ip link add name reroot0 type veth peer name reroot1 && unshare --net --mount true"
    tried = subprocess.run(inside(["sh", "-c", attempt]), capture_output=True, check=False)
    said = " ".join(tried.stderr.decode(errors="replace").split())
    return f"no network namespaces here: {said}" if tried.returncode else ""


def environment() -> dict[str, str]:
    """Of Ray and of drivers: nothing holds nodes apart, and no token is asked for."""
    apart = (*_PROXIES, _ONE_NODE.lower())
    kept = {name: value for name, value in os.environ.items() if name.lower() not in apart}
    return kept | _QUIET


def processes() -> Iterator[tuple[int, bytes]]:
    """(process, its command line) of what runs inside."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield int(entry.parent.name), entry.read_bytes()


class Nodes:
    """A cluster; to be made inside.

    Args:
        cores: CPUs that each node offers, the head first; the head has the address ``ADDRESS``.
        store: bytes of each node's object store.
    """

    def __init__(self, cores: Sequence[int], store: int = 80 * 2**20) -> None:
        self.cores, self.store = cores, store
        self._machines: list[subprocess.Popen[bytes]] = []
        _do("mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && ip link set lo up")
        _do(
            f"ip link add br0 type bridge && ip addr add {NET}.254/24 dev br0 && ip link set br0 up"
        )
        for number in range(1, len(cores) + 1):
            self._machine(number)
        self.start(1)
        with ThreadPoolExecutor() as others:
            list(others.map(self.start, range(2, len(cores) + 1)))

    def _machine(self, number: int) -> None:
        held = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])
        self._machines.append(held)
        mine = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{held.pid}/ns/net") == mine:
            time.sleep(0.01)
        _do(f"ip link add v{number} type veth peer name eth0 netns {held.pid}")
        _do(f"ip link set v{number} master br0 up")
        setup = (
            "mount -t tmpfs none /tmp/ray && mount -t tmpfs none /dev/shm && ip link set lo up"
            f" && ip addr add {NET}.{number}/24 dev eth0 && ip link set eth0 up"
            f" && ip route add default via {NET}.254"
        )
        subprocess.run(self.on(number, ["sh", "-c", setup]), check=True)

    def on(self, number: int, command: Sequence[str]) -> list[str]:
        """The command, run on a node."""
        return ["nsenter", "-t", str(self._machines[number - 1].pid), "-n", "-m", *command]

    def start(self, number: int) -> None:
        """Ray on a node, which has nothing of a former one: drivers would be sent to its socket."""
        subprocess.run(self.on(number, ["sh", "-c", "rm -rf /tmp/ray/*"]), check=True)
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--disable-usage-stats"]
        head = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        size = [f"--num-cpus={self.cores[number - 1]}", f"--object-store-memory={self.store}"]
        place = [f"--node-ip-address={NET}.{number}"]
        role = head if number == 1 else [f"--address={ADDRESS}"]
        command = self.on(number, [*ray, *role, *place, *size])
        for last in (False, False, True):  # on a busy machine Ray gives up by itself
            done = subprocess.run(command, env=environment(), capture_output=True, check=False)
            if done.returncode == 0:
                return
            if last:
                raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
            self.lose(number)

    def raylet(self, number: int) -> int | None:
        """The process of a node's raylet."""
        place = f"--node_ip_address={NET}.{number}\0".encode()
        return next(
            (p for p, said in processes() if b"raylet/raylet" in said and place in said), None
        )

    def lose(self, number: int) -> None:
        """A node loses power: all its processes end at once."""
        machine = self._machines[number - 1].pid
        net = os.readlink(f"/proc/{machine}/ns/net")
        for process, _ in list(processes()):
            with suppress(OSError):
                if process != machine and os.readlink(f"/proc/{process}/ns/net") == net:
                    os.kill(process, signal.SIGKILL)


def _do(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True)
