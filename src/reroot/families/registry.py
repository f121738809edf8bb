"""The exact families by name, with their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..checks import check_between, check_int
from ..errors import InvalidInput
from .combination_lock import CombinationLock
from .composed import Mixture
from .decoy_path import DecoyPath
from .dyck import Dyck
from .from_logits import FromLogits
from .hidden_path import HiddenPath, PathFamily
from .hidden_trie import HiddenTrie
from .linear_optimum import LinearOptimum, Needle
from .low_rank import LAWS, LowRank, named
from .noisy_parity import NoisyParity
from .product import Product
from .rotated import Rotated
from .softmax_hard import SoftmaxHard
from .staircase import Staircase

Instance = (
    PathFamily
    | HiddenTrie
    | NoisyParity
    | Dyck
    | Staircase
    | LowRank
    | LinearOptimum
    | CombinationLock
    | FromLogits
    | Mixture
    | Product
)


class Parameter(NamedTuple):
    """A parameter of a spec: its kind (``str``: one of ``words``, if there are some), what it means, and its
    default, if it has one. A ``member`` is a spec itself, and ``build`` gets its instance."""

    kind: type[int] | type[float] | type[str]
    meaning: str
    default: str = ""
    words: tuple[str, ...] = ()
    member: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A family as the command line knows it: parameters in a spec are ``K``, ``H`` and ``own``.

    ``build`` is called with K, H, the parameters and a seed. Where the family fixes K, it is
    ``vocab_size`` and no parameter; 0 where it follows from the other parameters. Where they fix H,
    ``horizon`` says it.
    """

    build: Callable[..., Instance]
    description: str
    example: str
    own: Mapping[str, Parameter]
    source: str = "arXiv 2604.04855"
    vocab_size: int | None = None
    unit: str = "tokens of an output"
    horizon: Callable[..., int] | None = None

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


def _mixture(
    _vocab_size: int,
    _horizon: int,
    first: Instance,
    second: Instance,
    weight: float = 0.5,
    seed: int = 0,
) -> Mixture:
    share = check_between("mixture: weight", weight, 0.0, 1.0)
    return Mixture([first, second], [share, 1.0 - share])


def _product(
    _vocab_size: int, _horizon: int, first: Instance, second: Instance, seed: int = 0
) -> Product:
    return Product([first, second])


def _from_logits(_vocab_size: int, horizon: int, file: str, seed: int = 0) -> FromLogits:
    """Arrays have no secret, so every seed gives the same."""
    found = FromLogits.load(file)
    if found.horizon != horizon:
        raise InvalidInput(
            f"from_logits: {file!r} has H = {found.horizon} arrays, got H = {horizon}"
        )
    return found


_MEMBER = "a family's spec, in quotes where it has commas; its H is that of the whole"

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
    "mixture": Family(
        _mixture,
        "one of two families at random, and then a string of it; right for one is right",
        "mixture:first='hidden_path:K=4,p=0.4',second='hidden_path:K=4,p=0.6',H=8",
        {
            "first": Parameter(str, _MEMBER, member=True),
            "second": Parameter(str, "another one, with the same K", member=True),
            "weight": Parameter(float, "probability of the first", "0.5"),
        },
        source="",
        vocab_size=0,
    ),
    "product": Family(
        _product,
        "two families side by side, a token of each in one token; right for both is right",
        "product:first='hidden_path:K=4,p=0.4',second='noisy_parity:alpha=0.1',H=8",
        {
            "first": Parameter(str, _MEMBER, member=True),
            "second": Parameter(str, "another one", member=True),
        },
        source="",
        vocab_size=0,
    ),
    "from_logits": Family(
        _from_logits,
        "the law of your own arrays of logits, one per position, with rewards of outputs if you like",
        "from_logits:file=laws.npz",
        {"file": Parameter(str, "an .npz file of H arrays (K,), (K, K), …, and of rewards")},
        source="",
        vocab_size=0,
        horizon=lambda file: FromLogits.load(file).horizon,
    ),
}
"""Name → family; each has a section in ``docs/families.md``."""
