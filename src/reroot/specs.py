"""Specs: ``name:key=value,…`` read and written in one way, and what a name stands for.

A spec names a learner, a strategy, a task, a model or a family, with settings. The name may hold
colons (``ngram:FILE``, ``FILE.py:NAME``): settings begin at the first colon that ``key=`` follows.
A value is ``none``, ``true``, ``false``, an integer, a number, or else text. Text that would read
as something else, or holds a comma, is quoted, as in ``sep=','``; a quote inside is doubled.

A name is one of reroot's own, ``FILE.py:NAME`` in a file of yours, or an entry point of an
installed package, in the group that ``GROUPS`` names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InvalidInput, RerootError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Value = int | float | bool | str | None
T = TypeVar("T")

GROUPS = {
    "learner": "reroot.learners",
    "model": "reroot.generators",
    "task": "reroot.tasks",
    "strategy": "reroot.strategies",
}
"""Kind → group of entry points by which packages bring their own."""

_WORDS = {"none": None, "true": True, "false": False}
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
_KEY = r"[^\W\d]\w*"
_LARGEST = 2**63
_CODE = "_reroot_code"


@dataclass(frozen=True, slots=True)
class Spec:
    """A name with its settings; ``str`` gives a text that reads back as the same.

    Attributes:
        name: unquoted.
        settings: key → value, in the order given.
    """

    name: str
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def __str__(self) -> str:
        plain = self.name == _name(self.name) and not _settings_start(self.name)
        name = self.name if plain else _quote(self.name)
        shown = ",".join(f"{key}={quoted(value)}" for key, value in self.settings.items())
        return f"{name}:{shown}" if shown else name


def parse(text: str, kind: str = "spec") -> Spec:
    """Read ``name`` or ``name:key=value,…``.

    Args:
        kind: what is named, for messages.

    Raises:
        InvalidInput: no text, control characters, an item that is not ``key=value``, or a key given
            twice.
    """
    check_text(text, f"a {kind}")
    start = _settings_start(text)
    name = _name(text[: start.start()] if start else text)
    if name.endswith(":"):
        raise InvalidInput(f"{kind} {text!r}: expected 'key=value' after the colon")
    return Spec(
        name, parse_settings(text[start.start() + 1 :], f"{kind} {text!r}") if start else {}
    )


def parse_settings(text: str, what: str) -> dict[str, Value]:
    """Read ``key=value,…`` (``InvalidInput`` as in ``parse``)."""
    check_text(text, what)
    settings: dict[str, Value] = {}
    for item in _split(text, ","):
        key, _, value = (part.strip() for part in item.partition("="))
        if not re.fullmatch(_KEY, key) or not value:
            raise InvalidInput(f"{what}: expected 'key=value', got {item.strip()!r}")
        if key in settings:
            raise InvalidInput(f"{what} gives {key!r} twice")
        settings[key] = _value(value, f"{what}: {key}")
    return settings


def split(text: str, mark: str = ":") -> list[str]:
    """The specs of a comma-separated list; ``key=value`` after one with a ``mark`` belongs to it.

    Raises:
        InvalidInput: one is empty.
    """
    specs: list[str] = []
    for item in map(str.strip, _split(text, ",")):
        if not item:
            raise InvalidInput(f"an empty value in the list {text!r}")
        setting = "=" in item and mark not in item and "/" not in item
        if setting and specs and mark in specs[-1]:
            specs[-1] += f",{item}"
        else:
            specs.append(item)
    return specs


def check_text(text: Any, what: str) -> str:
    """``text``, refused where it is no text or has control characters (``InvalidInput``)."""
    if not isinstance(text, str):
        raise InvalidInput(f"{what} is named by text, got {text!r}")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidInput(f"{what} has the control character {character!r}: {text!r}")
    return text


def _settings_start(text: str) -> re.Match[str] | None:
    """The colon at which settings begin."""
    return re.search(rf":\s*{_KEY}\s*=", _masked(text))


def _masked(text: str) -> str:
    """``text`` with quoted parts blanked, so that marks outside them are found by position."""
    return re.sub(rf"(?<![^:=,\s])(?:{_QUOTED})", lambda quoted: "_" * len(quoted[0]), text)


def _split(text: str, mark: str) -> list[str]:
    cuts = [at for at, c in enumerate(_masked(text)) if c == mark]
    return [text[a + 1 : b] for a, b in zip([-1, *cuts], [*cuts, len(text)], strict=True)]


def _name(text: str) -> str:
    return ":".join(_unquoted(part.strip()) for part in _split(text.strip(), ":"))


def _unquoted(text: str) -> str:
    if not re.fullmatch(_QUOTED, text):
        return text
    return text[1:-1].replace(text[0] * 2, text[0])


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _value(text: str, what: str) -> Value:
    if text[0] in "'\"":
        if not re.fullmatch(_QUOTED, text):
            raise InvalidInput(f"{what}: a quote is not closed in {text!r}")
        return _unquoted(text)
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number: int | float | None = None
    for kind in (float, int):  # an integer of very many digits is no float and no int
        try:
            number = kind(text)
        except ValueError:
            break
    if number is None:
        return text
    endless = isinstance(number, float) and math.isinf(number) and "inf" not in text.lower()
    if endless or (isinstance(number, int) and abs(number) >= _LARGEST):
        raise InvalidInput(f"{what}: the number {text[:24]}{'…' * (len(text) > 24)} is too large")
    return number


def quoted(thing: object) -> str:
    """``thing`` as it is written in a spec, in quotes where it would read as something else."""
    value = str(thing)
    if thing is None or isinstance(thing, (bool, int, float)):
        return value
    try:
        plain = not re.search(r"""[,:='"]""", value) and _value(value.strip(), "") == value
    except (InvalidInput, IndexError):
        plain = False
    return value if plain else _quote(value)


# ---- what a name stands for -----------------------------------------------------------------


def find(kind: str, name: str, own: Mapping[str, T]) -> T | Any:
    """What ``name`` stands for: one of ``own``, ``FILE.py:NAME``, or an entry point.

    Args:
        kind: a key of ``GROUPS``.

    Raises:
        InvalidInput: an unknown name (with the nearest), or it cannot be loaded.
    """
    if name in own:
        return own[name]
    if is_file(name):
        return load(name, kind)
    offered = plugins(kind)
    if name in offered:
        return load_plugin(kind, offered[name])
    raise unknown(kind, name, [*own, *offered])


def unknown(kind: str, name: str, known: Sequence[str], hint: str = "") -> InvalidInput:
    """The error for a name that is none of ``known``; it suggests the nearest, or says ``hint``."""
    head, colon, rest = name.partition(":")
    if colon and head in known:
        return InvalidInput(f"{kind} {name!r}: expected 'key=value' after the colon, got {rest!r}")
    return InvalidInput(f"unknown {kind} {name!r}.{hint or nearest(name, known)}")


def plugins(kind: str) -> dict[str, EntryPoint]:
    """Name → entry point of a kind, of all installed packages; nothing is loaded."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUPS[kind])}


def load_plugin(kind: str, entry: EntryPoint) -> Any:
    """What an entry point brings (``InvalidInput`` where it cannot be loaded)."""
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        package = entry.dist.name if entry.dist else "a package"
        raise InvalidInput(
            f"{kind} {entry.name!r}, which {package} brings, cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


def is_file(name: str) -> bool:
    """Whether ``name`` looks like ``FILE.py`` or ``FILE.py:NAME``."""
    return split_file(name)[0].suffix == ".py"


def split_file(name: str) -> tuple[Path, str]:
    """``FILE.py:NAME`` → (file, name); without a name (file, "")."""
    path, colon, attribute = name.rpartition(":")
    inside = colon and path.endswith(".py")
    return Path(path if inside else name).expanduser(), attribute if inside else ""


def load(name: str, kind: str, default: str = "") -> Any:
    """What ``FILE.py:NAME`` holds; the file is imported once for each content.

    While it is imported its folder comes first in ``sys.path``, and last from then on, so that it finds its neighbours.

    Args:
        kind: what is looked for, for messages.
        default: the NAME where none is given.

    Raises:
        InvalidInput: no such file or name (the nearest is suggested), or importing it raises; then
            the error is the cause, and the message says its kind, text, file and line.
    """
    path, attribute = split_file(check_text(name, f"a {kind}"))
    module = _import(path, f"{kind} {name!r}")
    attribute = attribute or default
    if hasattr(module, attribute):
        return getattr(module, attribute)
    names = sorted(
        n
        for n, value in vars(module).items()
        if not n.startswith("_")
        and getattr(value, "__module__", "")
        and not _imported(value, module)
    )
    missing = f"has no {attribute!r}" if attribute else f"needs a name, as in {path}:NAME"
    raise InvalidInput(f"{kind} {name!r}: {path} {missing}.{nearest(attribute, names)}")


def _imported(value: object, module: ModuleType) -> bool:
    defined = inspect.isclass(value) or inspect.isfunction(value)
    return defined and value.__module__ != module.__name__  # type: ignore[attr-defined]


def _import(path: Path, what: str) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{what}: cannot read the file {str(path)!r}: {error.strerror}"
        ) from None
    folder = str(path.resolve().parent)
    mark = hashlib.blake2b(f"{path.resolve()}\0".encode() + source, digest_size=8).hexdigest()
    name = f"reroot_user_{path.stem}_{mark}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None  # the name ends in .py
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    setattr(module, _CODE, source.decode("utf-8", "replace"))
    sys.modules[name] = module  # dataclasses and pickle look the module up by its name
    sys.path.insert(0, folder)
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InvalidInput(f"{what}: importing it raised {told(error, path)}") from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    return module


def is_own(module: ModuleType) -> bool:
    """Whether a module is a file that a user has named."""
    return hasattr(module, _CODE)


def told(error: BaseException, path: Path) -> str:
    """``Kind: text (FILE, line N)``, the line being the last one of the file on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
    text = error.msg if isinstance(error, SyntaxError) else error
    at = f" ({path}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {text}{at}"


def call(what: str, factory: Callable[..., T], settings: Mapping[str, Any]) -> T:
    """``factory(**settings)``, with errors that say what was given.

    Args:
        what: kind and name of it, for messages.

    Raises:
        InvalidInput: a setting that it does not take, one that it needs, or code that is not
            reroot's raises; the error is the cause, and the message says its kind, text, file and
            line.
        RerootError: what it raises of the others, as it is.
    """
    check_names(what, inspect.signature(factory).parameters.values(), settings)
    try:
        return factory(**settings)
    except (Exception, SystemExit) as error:
        own = getattr(factory, "__module__", "").partition(".")[0] == "reroot"
        if isinstance(error, RerootError) and (own or not isinstance(error, InvalidInput)):
            raise
        try:
            file = inspect.getsourcefile(factory)
        except TypeError:  # an object with __call__
            file = None
        raise InvalidInput(f"{what} raised {told(error, Path(file or ''))}") from error


def check_names(
    what: str, parameters: Iterable[inspect.Parameter], settings: Mapping[str, Any]
) -> None:
    """Refuse settings that are no parameters, and parameters that are missing (``InvalidInput``)."""
    known = list(parameters)
    names = [p.name for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not any(p.kind == p.VAR_KEYWORD for p in known):
        for name in settings:
            if name not in names:
                raise InvalidInput(f"{what} has no parameter {name!r}.{nearest(name, names)}")
    for p in known:
        if p.name in names and p.default is p.empty and p.name not in settings:
            raise InvalidInput(f"{what} needs the parameter {p.name!r}")


def fingerprint(thing: Any) -> str:
    """16 hexadecimal digits that change with the code of ``thing``, a function or a class.

    The code is its file's where ``load`` brought it, else its own. ``""``: reroot's own, or unknown.
    """
    if thing.__module__.partition(".")[0] == "reroot":
        return ""
    try:
        code = getattr(sys.modules.get(thing.__module__), _CODE, None)
        code = code or inspect.getsource(thing)
    except (OSError, TypeError):
        return ""
    return hashlib.blake2b(code.encode("utf-8", "replace"), digest_size=8).hexdigest()
