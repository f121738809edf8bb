"""Run folders on shared storage: what is uploaded is what is there, whatever dies, is torn, or is done twice."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reroot.access.sealing import sealed
from reroot.errors import RunFolderError
from reroot.runs.shared import fetched, folders, mirror, stored
from reroot.runs.shared.mirror import Mirror
from reroot.runs.shared.storage import LEASES, OBJECTS, UPLOADS, Storage
from reroot.runs.shared.uploads import fetch, newest
from stores import LEASE, Machine, content, cut, lines, store, write


def test_what_is_uploaded_is_what_is_there(address: str, machine: Machine) -> None:
    told, tell = lines()
    with stored(address, told=tell, lease=LEASE) as folder:
        write(folder, a="1", empty="")
        (folder / "part").mkdir()
        (folder / "part" / "journal.jsonl").write_text("x\n")
        (folder / ".lock").write_text("not mine to give")
        expected = content(folder)
    assert len(told) == 1
    assert "3 files" in told[0]
    machine("reader")
    with fetched(address, told=tell) as copy:
        assert content(copy) == expected
        assert copy != folder
    machine("second")
    with stored(address, told=tell, lease=LEASE) as other:
        assert content(other) == expected
        (other / "a").unlink()
        write(other, b="2")
    with fetched(address, told=tell) as copy:
        assert sorted(content(copy)) == ["b", "empty", "part/journal.jsonl"]
    machine("first")  # has a copy, of what was before
    with stored(address, told=tell, lease=LEASE) as folder:
        assert sorted(content(folder)) == ["b", "empty", "part/journal.jsonl"]
    assert any("another machine went on meanwhile" in line for line in told)
    assert Storage(address).names(LEASES) == []


def changed(folder: Path, rng: random.Random) -> None:
    """Something that writers of run folders do."""
    name = rng.choice(["journal.jsonl", "texts.jsonl", "table", "sub/table"])
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    kind = rng.random()
    data = rng.randbytes(rng.randrange(1, 300))
    if kind < 0.1 and file.exists():
        file.unlink()
    elif kind < 0.3 or not name.endswith(".jsonl"):
        (folder / ".beside").write_bytes(data)
        (folder / ".beside").replace(file)
    elif kind < 0.4 and file.exists():  # a line that was cut off, or did not fit
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.truncate(max(0, size - rng.randrange(100)))
    else:
        with file.open("ab") as opened:
            opened.write(data)


@pytest.mark.slow(1)
def test_a_copy_equals_the_folder_after_any_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "BLOCK", 64)
    rng = random.Random(5)
    with store("memory", tmp_path) as address:
        storage, (folder, copy) = Storage(address), (tmp_path / "folder", tmp_path / "copy")
        folder.mkdir()
        mine = Mirror(storage, folder, None, lambda upload: None, lambda line: None)
        for step in range(150):
            for _ in range(rng.randrange(4)):
                changed(folder, rng)
            mine.upload()
            if step % 10 == 9:  # another process goes on
                mine = Mirror(storage, folder, mine.last, lambda upload: None, lambda line: None)
            upload = newest(storage, lambda line: None)
            if upload is None:
                assert content(folder) == {}
                continue
            if step % 5 == 0:
                shutil.rmtree(copy, ignore_errors=True)
            fetch(storage, upload.files, copy)
            assert content(copy) == content(folder)
        # of the last two uploads, and no others
        assert len(storage.names(UPLOADS)) == 2
        size = sum(len(data) for data in content(folder).values())
        assert len(storage.names(OBJECTS)) < 2 * size / 64 + 20


def test_an_upload_is_a_state_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are replaced one after the other while they are uploaded: never the later without the earlier."""
    folder, count = tmp_path / "folder", [0]
    folder.mkdir()
    send = Storage.send

    alone = threading.Lock()

    def step() -> None:
        with alone:
            count[0] += 1
            for name in ("first", "second"):
                (folder / ".beside").write_text(str(count[0]))
                (folder / ".beside").replace(folder / name)

    def sent(self: Storage, file: Path, name: str) -> None:
        send(self, file, name)
        if count[0] % 4:
            step()

    monkeypatch.setattr(Storage, "send", sent)
    with store("memory", tmp_path) as address:
        storage = Storage(address)
        mine = Mirror(storage, folder, None, lambda upload: None, print)
        for _ in range(30):
            step()
            mine.upload()
            upload = newest(storage, print)
            assert upload is not None
            fetch(storage, upload.files, tmp_path / "copy")
            first, second = (int((tmp_path / "copy" / n).read_text()) for n in ("first", "second"))
            assert 0 <= first - second <= 1
        monkeypatch.setattr(Storage, "send", lambda *given: (send(*given), step()))
        step()
        with pytest.raises(BlockingIOError, match="replaced while they are read"):
            mine.upload()


def test_an_upload_that_was_torn(address: str, machine: Machine) -> None:
    told, tell = lines()
    with stored(address, told=tell, lease=LEASE) as folder:
        write(folder, a="before")
    with stored(address, told=tell, lease=LEASE) as folder:
        write(folder, a="after")
    storage = Storage(address)
    names = storage.names(UPLOADS)
    cut(storage, f"{UPLOADS}/{names[-1]}")
    storage.write(f"{OBJECTS}/00000003-torn.a", b"no list has it")
    machine("second")
    with stored(address, told=tell, lease=LEASE) as folder:
        assert content(folder) == {"a": b"before"}
        write(folder, a="again")
    assert any("upload 2 was cut off or damaged" in line for line in told)
    with fetched(address, told=tell) as copy:
        assert content(copy) == {"a": b"again"}
    assert storage.names(UPLOADS) == [names[0], "00000003.json"]
    assert not any("torn" in name for name in storage.names(OBJECTS))


def test_a_torn_object_is_named(address: str, machine: Machine) -> None:
    with stored(address, told=print, lease=LEASE) as folder:
        write(folder, table="some rows", **{"journal.jsonl": "a line\n"})
    storage = Storage(address)
    for name in storage.names(OBJECTS):
        machine(name)
        whole = storage.read(f"{OBJECTS}/{name}")
        assert whole
        cut(storage, f"{OBJECTS}/{name}")
        for opened in (fetched(address), stored(address, lease=LEASE)):
            with pytest.raises(RunFolderError, match=f"{name} is damaged: .* bytes"), opened:
                pass
        storage.remove([f"{OBJECTS}/{name}"])
        with pytest.raises(RunFolderError, match="there is no such place"), fetched(address):
            pass
        storage.write(f"{OBJECTS}/{name}", whole)
    with fetched(address) as copy:
        assert sorted(content(copy)) == ["journal.jsonl", "table"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_made_before_an_error_is_uploaded(
    address: str, machine: Machine, error: type[BaseException]
) -> None:
    def driver() -> None:
        with stored(address, lease=LEASE) as folder:
            write(folder, a="1")
            raise error

    with pytest.raises(error):
        driver()
    machine("second")
    with fetched(address) as copy:
        assert content(copy) == {"a": b"1"}


def test_nothing_made_leaves_nothing(address: str) -> None:
    with (
        pytest.raises(RunFolderError, match=r"no room \(.* is this machine's copy of "),
        stored(address, lease=LEASE) as folder,
    ):
        raise RunFolderError(f"{folder}: no room")
    assert Storage(address).names(UPLOADS) == []
    with pytest.raises(RunFolderError, match="holds no run folder"), fetched(address):
        pass


def test_storage_that_is_lost_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    told, tell = lines()
    lost, asked = [False], [0]
    write_ = Storage.write
    create_ = Storage.create

    def unless_lost(real: Callable[..., object]) -> Callable[..., object]:
        def called(self: Storage, name: str, data: bytes) -> object:
            if lost[0]:
                asked[0] += 1
                raise ConnectionError("the cable is out")
            return real(self, name, data)

        return called

    def wait_for(true: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if true():
                return
            time.sleep(0.005)
        raise AssertionError

    monkeypatch.setattr(Storage, "write", unless_lost(write_))
    monkeypatch.setattr(Storage, "create", unless_lost(create_))
    with store("memory", tmp_path) as address:
        with stored(address, told=tell, lease=60, every=0.01) as folder:
            write(folder, a="1")
            lost[0] = True
            wait_for(lambda: asked[0] > 1)
            lost[0] = False
            write(folder, a="2")
            wait_for(lambda: "it can be reached again" in told)
        failed = [line for line in told if "the cable is out" in line]
        assert len(failed) == 1
        assert f"{folder} has everything, and it is tried again" in failed[0]

        monkeypatch.setattr(mirror, "_TRIES", 2)

        def driver() -> None:
            with stored(address, told=tell, lease=60, every=0.01) as folder:
                lost[0] = True
                write(folder, a="3")

        with pytest.raises(RunFolderError, match=r"has everything, and the same command on this"):
            driver()
        lost[0] = False
        with stored(address, told=tell, lease=0.1, every=60) as folder:
            assert content(folder) == {"a": b"3"}
        machine("second")
        with fetched(address, told=tell) as copy:
            assert content(copy) == {"a": b"3"}


def test_what_was_removed_there_is_not_brought_back(address: str) -> None:
    with stored(address, lease=LEASE) as folder:
        write(folder, a="1")
    storage = Storage(address)
    for part in (UPLOADS, OBJECTS):
        storage.remove([f"{part}/{name}" for name in storage.names(part)])
    with (
        pytest.raises(RunFolderError, match="holds nothing any more, and this machine's copy"),
        stored(address, lease=LEASE),
    ):
        pass
    shutil.rmtree(folder.parent)
    with stored(address, lease=LEASE) as folder:
        assert content(folder) == {}


def test_a_place_of_something_else_is_refused(address: str) -> None:
    Storage(address).prepare()
    Storage(address).write("notes.txt", b"mine")
    with pytest.raises(RunFolderError, match=r"holds no run \(notes.txt\)"), stored(address):
        pass
    assert Storage(address).read("notes.txt") == b"mine"


@pytest.mark.parametrize("name", ["../a", "/a", "x/../../a", "", "a\0"])
def test_a_list_names_no_file_elsewhere(address: str, tmp_path: Path, name: str) -> None:
    storage = Storage(address)
    storage.prepare()
    told = {"number": 1, "at": "now", "files": {"b": [], name: []}}
    storage.write(f"{UPLOADS}/00000001.json", sealed(told))
    with pytest.raises(RunFolderError, match="none of its uploads is whole"), fetched(address):
        pass
    assert not (tmp_path / "a").exists()


def test_a_working_copy_is_known_as_one(address: str) -> None:
    with stored(address, lease=LEASE) as folder:
        assert folders.address_at_hand(folder / "runs" / "x") == address
    assert folders.address_at_hand(folder) is None
