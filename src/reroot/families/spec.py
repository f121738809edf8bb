"""Specs of exact families: ``name:K=…,H=…,parameter=…`` read, written and built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import specs
from ..checks import check_float, check_int
from ..errors import InvalidInput, nearest
from ..randomness import stream_key
from .registry import FAMILIES, Instance, Parameter


def _read(name: str, value: specs.Value, known: Parameter) -> int | float | str:
    """A value of a spec, if it is of its kind (else ``InvalidInput``)."""
    if known.kind is str and not known.words:
        return str(value)
    if known.kind is not str:
        return (check_int if known.kind is int else check_float)(name, value)
    if value not in known.words:
        raise InvalidInput(
            f"{name} must be one of {', '.join(known.words)}, got {value!r}."
            f"{nearest(str(value), known.words)}"
        )
    return str(value)


def catalogue() -> dict[str, str]:
    """Family name → one line of what it is, with an example of its spec."""
    return {name: f"{f.description} ({f.example})" for name, f in FAMILIES.items()}


@dataclass(frozen=True, slots=True)
class Spec:
    """A family with its parameters; calling it builds the instance of a seed.

    Attributes:
        family: name in ``catalogue()``.
        vocab_size: K; 0 where it follows from the parameters.
        horizon: H, or ``None`` if the spec leaves it to the call.
        parameters: the family's own parameters.
    """

    family: str
    vocab_size: int
    horizon: int | None
    parameters: Mapping[str, int | float | str]

    def __call__(self, seed: int = 0, horizon: int | None = None) -> Instance:
        """The instance of ``seed``, with ``horizon`` in place of the spec's H where given.

        Raises:
            InvalidInput: no horizon is known, or a parameter is out of range.
        """
        tokens = self.horizon if horizon is None else horizon
        if tokens is None:
            raise InvalidInput(
                f"{self} needs a horizon: add H=…, as in {FAMILIES[self.family].example!r}"
            )
        family = FAMILIES[self.family]
        own: dict[str, Any] = dict(self.parameters)
        # the first member has the seed of the whole, the others seeds of their own
        at = seed
        for name in (name for name, p in family.own.items() if p.member):
            own[name] = parse(str(own[name]))(at, tokens)
            at = stream_key(seed, self.family, name)[0] >> 1
        return family.build(self.vocab_size, tokens, **own, seed=seed)

    def __str__(self) -> str:
        fixed = FAMILIES[self.family].vocab_size is not None
        size = None if fixed else self.vocab_size
        shown = {"K": size, "H": self.horizon, **self.parameters}
        return str(specs.Spec(self.family, {n: v for n, v in shown.items() if v is not None}))


def parse(spec: str) -> Spec:
    """Read ``name:K=…,H=…,parameter=…``; H may be left to the call, K where the family fixes it.

    Raises:
        InvalidInput: unknown family or parameter (with the nearest name), a parameter missing or
            given twice, or a value that is no number.
    """
    read = specs.parse(spec, "family")
    family = FAMILIES.get(read.name)
    if family is None:
        raise specs.unknown("family", read.name, list(FAMILIES))
    known = family.parameters
    values: dict[str, Any] = {}
    for key, value in read.settings.items():
        if key not in known:
            raise InvalidInput(f"{read.name} has no parameter {key!r}.{nearest(key, known)}")
        values[key] = _read(f"{read.name}: {key}", value, known[key])
    if family.horizon is not None and {"H", *family.own} - values.keys() == {"H"}:
        values["H"] = family.horizon(**values)
    missing = [key for key, p in known.items() if not p.default and key not in values]
    if missing:
        raise InvalidInput(f"{read.name} needs {', '.join(missing)}, as in {family.example!r}")
    fixed, horizon = family.vocab_size, values.pop("H", None)
    vocab_size = int(values.pop("K")) if fixed is None else fixed
    return Spec(read.name, vocab_size, None if horizon is None else int(horizon), values)
