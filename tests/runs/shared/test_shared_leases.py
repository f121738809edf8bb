"""Who works on a run folder on shared storage: one process at a time, whichever died or stood still."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reroot.errors import RunFolderError
from reroot.runs.shared import stored
from reroot.runs.shared.lease import Lease, TakenOver
from reroot.runs.shared.mirror import Mirror
from reroot.runs.shared.storage import LEASES, Storage
from reroot.runs.shared.uploads import newest, publish
from stores import LEASE, Machine, content, lines, write


def test_a_second_driver_is_refused(address: str, machine: Machine) -> None:
    told, tell = lines()
    with stored(address, told=tell, lease=LEASE) as folder:
        write(folder, a="mine")
        with (
            pytest.raises(RunFolderError, match="in use by another process of this"),
            stored(address),
        ):
            pass
        machine("second")
        with (
            pytest.raises(RunFolderError, match=r"is in use by .*, process"),
            stored(address, told=tell, lease=LEASE),
        ):
            pass
    assert any("waiting up to 0.3 s" in line for line in told)
    with stored(address, told=tell, lease=LEASE) as folder:
        assert content(folder) == {"a": b"mine"}


def test_an_expired_lease_is_taken_over(address: str) -> None:
    storage, (told, tell) = Storage(address), lines()
    storage.prepare()
    dead = Lease(storage, LEASE, tell)
    dead.take()
    dead.renew()
    with stored(address, told=tell, lease=LEASE) as folder:
        write(folder, a="1")
        with pytest.raises(TakenOver, match="worked on by another process now"):
            dead.renew()
        dead.release()  # what is not its own stays
        assert len(storage.names(LEASES)) == 1
    assert any("has not renewed it for 0.3 s: taken over" in line for line in told)


def test_what_a_process_of_this_machine_left_is_taken_over_at_once(
    address: str, machine: Machine
) -> None:
    told, tell = lines()
    with stored(address, told=tell, lease=LEASE) as folder:
        token = (folder.parent / "lease").read_text()
    storage = Storage(address)
    dead = Lease(storage, 1e9, tell)
    dead.token = token  # it was killed
    dead.take()
    with stored(address, told=tell, lease=LEASE):
        assert any("which has ended: taken over" in line for line in told)
    dead.take()
    machine("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: 1 / 0)
        with pytest.raises(RunFolderError, match="ZeroDivisionError"), stored(address, told=tell):
            pass
    assert "is held by" in told[-1]


def test_of_two_uploads_of_a_number_one_counts(address: str, tmp_path: Path) -> None:
    """One that stood still for long, and goes on, replaces nothing."""
    storage = Storage(address)
    storage.prepare()
    write(tmp_path, a="old")
    slow = Mirror(storage, tmp_path, None, lambda upload: None, print)
    upload = publish(storage, 1, {})
    assert upload is not None
    assert publish(storage, 1, {}) in (None, upload)  # within a second it is the same
    with pytest.raises(TakenOver, match="upload 1 is not of this one"):
        slow.upload()
    assert newest(storage, print) == upload


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["heeded", "ignored"])
def ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """How Ctrl-C is taken; behind ``nohup`` and ``&`` it is ignored."""
    usual = signal.signal(signal.SIGINT, request.param)
    yield
    assert signal.signal(signal.SIGINT, usual) is request.param


@pytest.mark.usefixtures("ctrl_c")
def test_who_was_taken_over_is_interrupted(address: str) -> None:
    storage = Storage(address)

    def driver() -> None:
        with stored(address, lease=LEASE) as folder:
            write(folder, a="1")
            storage.remove([f"{LEASES}/{name}" for name in storage.names(LEASES)])
            for _ in range(10_000):
                time.sleep(0.01)

    with pytest.raises(TakenOver, match="worked on by another process now"):
        driver()
    assert newest(storage, print) is None
