"""What a learner in a process of its own may use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ... import specs
from ...checks import check_int
from ...errors import InvalidInput

KINDS = ("none", "process")


@dataclass(frozen=True, slots=True)
class Isolation:
    """Limits of a learner's process.

    Attributes:
        memory_mb: MiB that it may take beyond what the interpreter and reroot's code take.
        open_files: files that it may have open.
        write: whether it may make files: in an empty folder ``/tmp`` of memory, which ends with the run,
            where the platform can give it one, else wherever the user may.
        reads: a file or folder that it may read besides reroot, Python's libraries and its own file.

    Raises:
        InvalidInput: a value is out of range, or there is nothing at ``reads``.
    """

    memory_mb: int = 2048
    open_files: int = 64
    write: bool = False
    reads: str = ""

    def __post_init__(self) -> None:
        check_int("memory_mb", self.memory_mb, 16, 1 << 20)
        check_int("open_files", self.open_files, 16, 1 << 20)
        if not isinstance(self.write, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"write must be true or false, got {self.write!r}")
        if not isinstance(self.reads, str) or not (not self.reads or Path(self.reads).exists()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"reads must be a file or folder, got {self.reads!r}")

    def __str__(self) -> str:
        values = {field: getattr(self, field.name) for field in fields(self)}
        text = ",".join(
            f"{field.name}={str(value).lower() if isinstance(value, bool) else specs.quoted(value)}"
            for field, value in values.items()
            if value != field.default
        )
        return f"process:{text}" if text else "process"


def isolation_of(text: object) -> Isolation | None:
    """Read ``none``, ``process`` or ``process:memory_mb=512,open_files=64,write=true,reads=FOLDER``.

    Raises:
        InvalidInput: another kind, or a setting that there is not.
    """
    if isinstance(text, Isolation):
        return text
    if not isinstance(text, str):
        raise InvalidInput(f"isolation must be one of {', '.join(KINDS)}, got {text!r}")
    spec = specs.parse(text, "isolation")
    if spec.name not in KINDS or (spec.name == "none" and spec.settings):
        raise InvalidInput(f"isolation must be one of {', '.join(KINDS)}, got {text!r}")
    return None if spec.name == "none" else specs.call("isolation", Isolation, spec.settings)
