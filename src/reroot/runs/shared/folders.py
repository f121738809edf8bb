"""Run folders on shared storage: a working copy on this machine, mirrored; and copies that are read.

What is lost with a machine is what was made since the last upload: the same command makes it again elsewhere, with
the same keys and results.
"""

from __future__ import annotations

import _thread
import fcntl
import hashlib
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ...errors import InvalidInput, RunFolderError
from ...generators.models import cache_folder
from ..folder import address_of, made_folder, write_atomically, write_json
from .lease import BEATS, Lease, TakenOver
from .mirror import Mirror, Repeated, at_last
from .storage import Storage
from .uploads import Upload, fetch, newest

WEIGHTS = ("checkpoints", "model")
"""Folders of a training run that nobody reads who only looks at it."""
_TRIES = 4

Told = Callable[[str], None]
_copies: dict[Path, str] = {}


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def address_at_hand(folder: str | Path) -> str | None:
    """The address whose working copy a folder is, or is in, in this process; ``None``: it is an own folder."""
    path = Path(folder).resolve()
    return next((_copies[p] for p in (path, *path.parents) if p in _copies), None)


@contextmanager
def stored(
    address: str | Path, *, told: Told = _to_stderr, every: float = 5.0, lease: float = 30.0
) -> Iterator[Path]:
    """A working copy of the run folder at an address, whose every change is uploaded: ``with`` it, work in it.

        with stored("s3://bucket/runs/x") as folder:
            reroot.compare(model="hidden_path:K=4,H=16,p=0.4", out=folder)

    It begins as what is stored there, and is uploaded every few seconds, at the end, and after an error or Ctrl-C.
    Where storage cannot be reached meanwhile the work goes on. If another process takes over, as this one did not
    reach storage for so long, this one is interrupted.

    Args:
        address: ``PROTOCOL://PLACE``, any that fsspec can write (``s3://``, ``gs://``, ``abfs://``, ``sftp://``,
            ``file://``).
        told: gets a line on whatever is waited for, fails, is left, or is done.
        every: seconds between uploads.
        lease: seconds after which this process counts as dead where it does not reach storage.

    Raises:
        InvalidInput: no address, or no such protocol.
        MissingDependency: fsspec, or what it needs for the protocol, is not installed.
        RunFolderError: storage cannot be reached or written, another process works there, or what is there is
            damaged or no run folder; at the end, that not all could be uploaded.
    """
    storage, place = _opened(address)
    with ExitStack() as held:
        held.enter_context(
            _alone(place, f"{storage.shown} is in use by another process of this machine")
        )
        with storage.reached("write to"):
            storage.prepare()
            right = Lease(storage, lease, told, dead=_read_text(place.lease))
            write_atomically(place.lease, right.token)
            right.take()
        held.callback(_give_back, right, storage, told)
        with storage.reached("continue"):
            last = _continued(storage, place, told)
            remember = partial(_remember, place)
            mirror = Mirror(storage, place.folder, last, remember, told)
        with _mirrored(mirror, right, place, storage, told, every):
            yield place.folder


@contextmanager
def fetched(address: str | Path, *, told: Told = _to_stderr) -> Iterator[Path]:
    """A copy of the run folder at an address, to be read; without checkpoints and models, which is said.

    Raises:
        InvalidInput, MissingDependency: as ``stored``.
        RunFolderError: storage cannot be reached, or holds no run folder there, or a damaged one.
    """
    storage, place = _opened(address, "read")
    with _alone(place, f"the copy of {storage.shown} is being read in", wait=True):
        with storage.reached("read"):
            upload = _read(storage, place.folder, told)
        told(f"{storage.shown} as of {upload.at}; copy: {place.folder}")
    yield place.folder


# ---- the copy --------------------------------------------------------------------------------------


class _Place:
    """Where the copy of an address is, in the user's cache folder."""

    def __init__(self, address: str, part: str) -> None:
        name = re.sub(r"[^\w.=+-]+", "_", address.rpartition("/")[2])[-60:]
        key = hashlib.blake2b(address.encode(), digest_size=6).hexdigest()
        own = cache_folder() / "shared" / f"{name}-{key}" / part
        self.folder, self.state, self.lock = own / name, own / "state.json", own / "lock"
        self.lease = own / "lease"  # of the last process that worked in the folder


def _opened(address: str | Path, part: str = "work") -> tuple[Storage, _Place]:
    found = address_of(address)
    if found is None:
        raise InvalidInput(f"expected PROTOCOL://PLACE, got {str(address)!r}")
    return Storage(found), _Place(found, part)


@contextmanager
def _alone(place: _Place, otherwise: str, *, wait: bool = False) -> Iterator[None]:
    made_folder(place.lock.parent)
    with place.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise RunFolderError(otherwise) from None
        yield


def _read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _known(place: _Place) -> str | None:
    """The upload that the copy was made of, or became; ``None``: there is none that is known."""
    try:
        return json.loads(place.state.read_text(encoding="utf-8"))["upload"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(place: _Place, upload: Upload) -> None:
    write_json(place.state, {"upload": upload.digest, "number": upload.number, "at": upload.at})


def _continued(storage: Storage, place: _Place, told: Told) -> Upload | None:
    """Make the copy what is stored, unless it is that already and more; the upload it goes on from."""
    known, upload = _known(place), newest(storage, told)
    if upload is None:
        if known is not None:
            raise RunFolderError(
                f"{storage.shown} holds nothing any more, and this machine's copy of it is in {place.folder}: remove "
                f"{place.folder.parent} to begin anew, or choose another address"
            )
        if other := set(storage.names()) - {"lease", "objects", "uploads"}:
            raise RunFolderError(
                f"{storage.shown} is not empty and holds no run ({', '.join(sorted(other)[:3])}); choose another address"
            )
        made_folder(place.folder)
        return None
    if upload.digest != known or not place.folder.is_dir():
        if known is not None:
            told(f"another machine went on meanwhile: {place.folder} becomes what is stored")
        fetch(storage, upload.files, place.folder)
        _remember(place, upload)
    told(f"{storage.shown} is continued from {upload.at}; working copy: {place.folder}")
    return upload


def _read(storage: Storage, folder: Path, told: Told) -> Upload:
    """The newest upload, fetched; while it is fetched another may replace it."""
    for left in reversed(range(_TRIES)):
        upload = newest(storage, told)
        if upload is None:
            raise RunFolderError(f"{storage.shown} holds no run folder (of --out {storage.shown})")
        files = {n: p for n, p in upload.files.items() if not set(WEIGHTS) & set(n.split("/")[:-1])}
        try:
            fetch(storage, files, folder)
        except FileNotFoundError:
            if not left:
                raise
            continue
        if without := len(upload.files) - len(files):
            told(f"{without} files of checkpoints and models are not fetched")
        return upload
    raise AssertionError


# ---- the mirror ------------------------------------------------------------------------------------


def _give_back(right: Lease, storage: Storage, told: Told) -> None:
    try:
        right.release()
    except Exception:
        told(f"the lease on {storage.shown} can't be given back; it expires in {right.seconds:g} s")


@contextmanager
def _mirrored(
    mirror: Mirror, right: Lease, place: _Place, storage: Storage, told: Told, every: float
) -> Iterator[None]:
    """Upload while the context is, and at its end."""
    lost = list[TakenOver]()

    def ended(error: TakenOver) -> None:
        for thread in threads:
            thread.stop()
        if not lost:
            lost.append(error)
            _thread.interrupt_main()

    failing = f"{storage.shown} can't be brought up to date; {place.folder} has everything, and it is tried again"
    threads = [
        Repeated(right.renew, right.seconds / BEATS, f"{failing}: lease", told, ended),
        Repeated(mirror.upload, every, f"{failing}: upload", told, ended),
    ]
    folder = place.folder.resolve()
    _copies[folder] = storage.shown
    for thread in threads:
        thread.start()
    try:
        with _interruptible(lost):
            yield
    except BaseException as error:
        _copies.pop(folder)
        if lost:
            for thread in threads:
                thread.end()
            raise lost[0] from None
        try:
            _finish(mirror, right, threads, place, storage, every, told)
        except RunFolderError as failed:
            told(str(failed))
        if isinstance(error, RunFolderError) and str(folder) in str(error):
            error.args = (f"{error} ({folder} is this machine's copy of {storage.shown})",)
        raise
    _copies.pop(folder)
    _finish(mirror, right, threads, place, storage, every, told)
    if mirror.last is not None:
        size = f"{len(mirror.last.files)} files, {mirror.last.size / 1e6:.1f} MB"
        told(f"{storage.shown}: {size}; working copy: {place.folder}")


@contextmanager
def _interruptible(lost: list[TakenOver]) -> Iterator[None]:
    """Where Ctrl-C is ignored, as behind ``nohup`` and ``&``, ``interrupt_main`` would be, too."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def heed(_number: int, _frame: object) -> None:
        if lost:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _finish(
    mirror: Mirror,
    right: Lease,
    threads: list[Repeated],
    place: _Place,
    storage: Storage,
    every: float,
    told: Told,
) -> None:
    """The last upload (``RunFolderError``: it was not possible)."""
    heart, uploads = threads
    uploads.end()
    try:
        at_last(
            lambda: (right.renew(), mirror.upload()),
            f"can't upload to {storage.shown}: {place.folder} has everything, and the same command on this machine "
            "uploads the rest",
            every,
            told,
        )
    finally:
        heart.end()
