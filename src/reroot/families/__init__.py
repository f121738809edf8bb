"""Families: exact generators whose right outputs the interface makes hard or easy to find.

The hidden ones have a secret; Dyck strings are right by a rule that all know.
``parse("hidden_path:K=4,H=16,p=0.4")`` reads a spec as the command line writes it; the result
builds instances: ``spec(seed=3)``, ``spec(seed=3, horizon=8)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import specs
from ..checks import check_float, check_int
from ..errors import InvalidInput, nearest
from .combination_lock import CombinationLock
from .decoy_path import DecoyPath
from .dyck import Dyck, DyckError, ErrorKind
from .hidden_path import HiddenPath, PathFamily
from .hidden_trie import HiddenTrie
from .linear_optimum import LinearOptimum, Needle
from .low_rank import LAWS, LowRank, named
from .noisy_parity import NoisyParity, fidelity
from .planted import Planted
from .rotated import Rotated
from .softmax_hard import SoftmaxHard
from .staircase import Staircase

__all__ = [
    "FAMILIES",
    "CombinationLock",
    "DecoyPath",
    "Dyck",
    "DyckError",
    "ErrorKind",
    "Family",
    "HiddenPath",
    "HiddenTrie",
    "LinearOptimum",
    "LowRank",
    "Needle",
    "NoisyParity",
    "PathFamily",
    "Planted",
    "Rotated",
    "SoftmaxHard",
    "Spec",
    "Staircase",
    "catalogue",
    "fidelity",
    "parse",
]

Instance = (
    PathFamily
    | HiddenTrie
    | NoisyParity
    | Dyck
    | Staircase
    | LowRank
    | LinearOptimum
    | CombinationLock
)


class Parameter(NamedTuple):
    """A parameter of a spec: its kind (``str``: one of ``words``), what it means, and its default, if it
    has one."""

    kind: type[int] | type[float] | type[str]
    meaning: str
    default: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A family as the command line knows it: parameters in a spec are ``K``, ``H`` and ``own``.

    ``build`` is called with K, H, the parameters and a seed. Where the family fixes K, it is
    ``vocab_size`` and no parameter; 0 where it follows from the other parameters.
    """

    build: Callable[..., Instance]
    description: str
    example: str
    own: Mapping[str, Parameter]
    source: str = "arXiv 2604.04855"
    vocab_size: int | None = None
    unit: str = "tokens of an output"

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Name → parameter, K and H first."""
        size = {"K": Parameter(int, "vocabulary size")} if self.vocab_size is None else {}
        return {
            **size,
            "H": Parameter(int, self.unit, "the task's horizon"),
            **self.own,
        }


def _noisy_parity(_vocab_size: int, horizon: int, alpha: float, seed: int) -> NoisyParity:
    return NoisyParity(horizon, alpha, seed=seed)


def _dyck(
    _vocab_size: int,
    horizon: int,
    p: float = 0.2,
    depth: int = 12,
    noise: float = 0.0,
    seed: int = 0,
) -> Dyck:
    return Dyck(horizon, (p, 1.0 - p), depth, noise, seed=seed)


def _combination_lock(
    _vocab_size: int,
    horizon: int,
    A: int = 4,
    G: int = 2,
    n: int = 6,
    q: float = 0.0,
    B: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    seed: int = 0,
) -> CombinationLock:
    return CombinationLock(horizon, A, G, n, q, B, decoders, class_seed, seed)


def _softmax_hard(vocab_size: int, horizon: int, seed: int, **own: Any) -> SoftmaxHard:
    check_int("softmax_hard: H", horizon, 1, 1)
    return SoftmaxHard(vocab_size, **own, seed=seed)


_WIDTH = Parameter(int, "numbers of a feature vector", "3")
_SOFTMAX = "arXiv 2503.07453"

FAMILIES: dict[str, Family] = {
    "hidden_path": Family(
        HiddenPath,
        "one secret path; its tokens have probability p, off it all is uniform",
        "hidden_path:K=4,H=16,p=0.4",
        {"p": Parameter(float, "probability of the path's tokens on the path, above 1/K")},
    ),
    "decoy_path": Family(
        DecoyPath,
        "a secret path behind k decoys that are likelier at every prefix (p1 < p0)",
        "decoy_path:K=8,H=8,k=2,p0=0.2,p1=0.15",
        {
            "k": Parameter(int, "decoys, the tokens 0…k − 1"),
            "p0": Parameter(float, "probability of each decoy at every prefix"),
            "p1": Parameter(float, "probability of the path's tokens on the path, below p0"),
        },
    ),
    "hidden_trie": Family(
        HiddenTrie,
        "many right outputs sharing prefixes; children have probability >= a, others <= b",
        "hidden_trie:K=16,H=8,a=0.3,b=0.1,nodes=20",
        {
            "a": Parameter(float, "probability of each child token"),
            "b": Parameter(float, "bound on that of all other tokens, 1/K <= b < a"),
            "nodes": Parameter(int, "internal nodes, at least H", "2H"),
        },
    ),
    "noisy_parity": Family(
        _noisy_parity,
        "uniform bits, then their parity over a secret set, flipped with probability alpha",
        "noisy_parity:H=12,alpha=0.1",
        {"alpha": Parameter(float, "how often the last bit is flipped, below 1/2")},
        source="arXiv 2302.14753",
        vocab_size=2,
    ),
    "dyck": Family(
        _dyck,
        "two types of brackets to close in time; each token is uniform with probability noise",
        "dyck:H=32,noise=0.05",
        {
            "p": Parameter(float, "probability of the first type of bracket", "0.2"),
            "depth": Parameter(int, "most brackets that may be open at once", "12"),
            "noise": Parameter(float, "how often a token is uniform instead", "0"),
        },
        source="arXiv 2502.12123",
        vocab_size=4,
    ),
    "combination_lock": Family(
        _combination_lock,
        "H actions, each right for what is behind a noisy observation; one wrong one is the end",
        "combination_lock:H=3,A=4,G=2,n=6",
        {
            "A": Parameter(int, "actions", "4"),
            "G": Parameter(int, "good latent states of a layer, at most A", "2"),
            "n": Parameter(int, "bits of noise in an observation", "6"),
            "q": Parameter(float, "how often a right action fails, below 1", "0"),
            "B": Parameter(int, "base of the digits that spell an observation", "2"),
            "decoders": Parameter(int, "decoders of each layer that are possible", "16"),
            "class_seed": Parameter(int, "names the decoders that are possible", "0"),
        },
        source="arXiv 2404.15417",
        vocab_size=0,
        unit="actions of an episode",
    ),
    "staircase": Family(
        Staircase,
        "contexts half as common and alpha times as likely to be answered, step by step; one right answer each",
        "staircase:K=4,H=9,steps=7",
        {
            "steps": Parameter(int, "contexts, which the first tokens say", "4"),
            "alpha": Parameter(
                float, "likelihood of the right answer at each step over the last", "0.25"
            ),
        },
        source="arXiv 2603.06957",
    ),
    "low_rank": Family(
        named,
        "a hidden Markov model: the futures of all histories are mixtures of few",
        "low_rank:K=2,H=8,S=3",
        {
            "law": Parameter(str, f"which: {', '.join(LAWS)}", "rand", LAWS),
            "S": Parameter(int, "states of rand", "3"),
            "g": Parameter(float, "advantage of the likelier token of bit", "0.1"),
            "rho": Parameter(float, "how often the state of bit flips", "0.02"),
            "d": Parameter(float, "how often reveal shows its bit", "0.03"),
            "alpha": Parameter(float, "how often the last bit of parity is flipped", "0.1"),
        },
        source="arXiv 2302.14753, 2411.07536",
    ),
    "softmax_hard": Family(
        _softmax_hard,
        "one token: 0, or with probability epsilon the secret right one, whose features alone are not 0",
        "softmax_hard:K=16,H=1,epsilon=0.01",
        {"epsilon": Parameter(float, "probability of the right token", "e^-5"), "d": _WIDTH},
        source=_SOFTMAX,
    ),
    "needle": Family(
        Needle,
        "uniform; one right output, and features whose hidden directions mark its path",
        "needle:K=2,H=8",
        {"d": _WIDTH},
        source=_SOFTMAX,
    ),
    "rotated": Family(
        Rotated,
        "uniform; Bernoulli rewards that add up along the tokens, linear in rotated features",
        "rotated:K=2,H=4",
        {"d": _WIDTH},
        source=_SOFTMAX,
    ),
}


def _read(name: str, value: specs.Value, known: Parameter) -> int | float | str:
    """A value of a spec, if it is of its kind (else ``InvalidInput``)."""
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
        return FAMILIES[self.family].build(self.vocab_size, tokens, **self.parameters, seed=seed)

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
    missing = [key for key, p in known.items() if not p.default and key not in values]
    if missing:
        raise InvalidInput(f"{read.name} needs {', '.join(missing)}, as in {family.example!r}")
    fixed, horizon = family.vocab_size, values.pop("H", None)
    vocab_size = int(values.pop("K")) if fixed is None else fixed
    return Spec(read.name, vocab_size, None if horizon is None else int(horizon), values)
