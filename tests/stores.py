"""Shared storage for tests: a folder, memory, and S3 from a server of moto where s3fs and moto are installed."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reroot.runs.shared.storage import Storage

PROTOCOLS = ("file", "memory", "s3")
LEASE = 0.3
"""Seconds of leases in tests."""

Machine = Callable[[str], None]
"""Makes this process one on the machine of that name."""

_COUNT = itertools.count()


@contextmanager
def store(protocol: str, folder: Path) -> Iterator[str]:
    """The address of a place that is empty, while the context is."""
    if protocol == "file":
        yield f"file://{folder / 'store'}"
    elif protocol == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        yield "memory://store"
    else:
        with _s3() as address:
            yield address


@contextmanager
def _s3() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'reroot[storage]'")
    moto = pytest.importorskip(
        "moto.server", reason="a server of S3: pip install 'moto[s3]' flask-cors"
    )
    fs = importlib.import_module("s3fs").S3FileSystem
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    settings = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            fs.clear_instance_cache()  # of an endpoint that was
            bucket = f"bucket{next(_COUNT)}"  # servers of a process have the same
            fs().mkdir(bucket)
            yield f"s3://{bucket}/runs/x"
            fs.clear_instance_cache()
    finally:
        server.stop()


def lines() -> tuple[list[str], Callable[[str], None]]:
    """What was told, and who takes it."""
    found = list[str]()
    return found, found.append


def cut(storage: Storage, name: str) -> None:
    """Tear an object: its first half stays."""
    data = storage.read(name)
    assert data
    storage.write(name, data[: len(data) // 2])


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
