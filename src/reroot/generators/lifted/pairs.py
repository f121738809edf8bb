"""Pairs of generators that a weaker interface cannot tell apart and one stronger answer can.

``told_apart`` is the total variation between N answers of two laws at one prefix, by enumeration;
``indistinguishable`` looks for two laws that show the same at one interface and not at another.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...contract import Contract, Control, Report, Sampling
from ...types import FloatArray
from ..law import log_normalize, most_likely, sampling_laws
from .place import Interface

Shown = Mapping[tuple[object, ...], float]
"""What one answer shows → its probability."""

_CLEAR = 0.01  # a pair that far apart needs no better one
_DIGITS = 9  # reports that differ by less than rounding are equal


@dataclass(frozen=True, slots=True)
class Pair:
    """Two generators.

    Attributes:
        first, second: next-token probabilities, at ``where``.
        where: the prefix at which they differ; elsewhere they agree.
        why: what the weaker interface misses.
        tv: of one stronger answer.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    where: str
    why: str
    tv: float

    def __str__(self) -> str:
        shown = [f"({', '.join(f'{p:.3g}' for p in law)})" for law in (self.first, self.second)]
        return f"{shown[0]} and {shown[1]} at {self.where}: {self.why}"


def shown(
    law: FloatArray, report: Report, sampling: Sampling, shift: FloatArray | float = 0.0
) -> Shown:
    """What one answer at a prefix with this law (K,) nats shows, with its probability."""
    row = sampling_laws(log_normalize(law + shift)[None], sampling)[0]
    # + 0.0: no negative zeros
    values = np.round(row, _DIGITS) + 0.0
    base: tuple[object, ...] = ()
    if report.top:
        ids = most_likely(row[None], report.top)[0].tolist()
        base = tuple((i, float(values[i])) for i in ids if row[i] > -np.inf)
    if report.has_law:
        base = tuple(values.tolist())
    if not report.draws:
        return {base: 1.0}
    drawn = ((a, float(np.exp(row[a]))) for a in range(len(row)) if row[a] > -np.inf)
    return {(a, *((float(values[a]),) if report.has_logprob else ()), *base): p for a, p in drawn}


def total_variation(first: Shown, second: Shown, n: int = 1) -> float:
    """Between n independent answers, by enumeration of all of them."""
    keys = list(dict.fromkeys((*first, *second)))
    p, q = (np.array([law.get(key, 0.0) for key in keys]) for law in (first, second))
    joint_p, joint_q = p, q
    for _ in range(n - 1):
        joint_p, joint_q = np.outer(joint_p, p).ravel(), np.outer(joint_q, q).ravel()
    return 0.5 * float(np.abs(joint_p - joint_q).sum())


def told_apart(
    p: tuple[float, ...], q: tuple[float, ...], contract: Contract | str, n: int = 1
) -> float:
    """TV between n answers under a contract at a prefix where the laws are p and q."""
    one = Contract.parse(contract)
    sampling = one.sampling or Sampling()
    with np.errstate(divide="ignore"):
        laws = [np.log(np.array(law)) for law in (p, q)]
    first, second = (shown(law, one.report, sampling) for law in laws)
    return total_variation(first, second, n)


def indistinguishable(has: Interface, wants: Interface) -> Pair | None:
    """Two laws of one token that answers at ``has`` cannot tell apart and one at ``wants`` can.

    Only for interfaces without a bias: with one every law shows. ``None``: none was found.
    """
    if has.bias is not None:
        return None
    weak, strong = has.contract.resolved, wants.contract.resolved
    at = Control.CHOSEN  # at one prefix control does not matter
    weak = Interface(Contract(at, weak.report, weak.sampling))
    return _looked_for(weak, Interface(Contract(at, strong.report, strong.sampling), wants.bias))


@functools.lru_cache(maxsize=4096)
def _looked_for(has: Interface, wants: Interface) -> Pair | None:
    weak, strong = has.contract, wants.contract
    assert weak.sampling is not None
    assert strong.sampling is not None
    best: Pair | None = None
    for p, q in _candidates(has, wants):
        with np.errstate(divide="ignore"):
            laws = [np.log(np.array(law)) for law in (p, q)]
        first, second = (shown(x, weak.report, weak.sampling) for x in laws)
        if total_variation(first, second) > 1e-12:
            continue
        for shift in _shifts(wants, len(p)):
            first, second = (shown(x, strong.report, strong.sampling, shift) for x in laws)
            tv = total_variation(first, second)
            if tv > max(1e-6, best.tv if best else 0.0):
                what = f"{weak.report} at {weak.sampling} shows the same"
                best = Pair(p, q, "∅", what, tv)
        if best is not None and best.tv > _CLEAR:
            break
    return best


def _shifts(wants: Interface, size: int) -> Iterator[FloatArray | float]:
    """Some biases that a stronger interface may choose."""
    yield 0.0
    if wants.bias is not None:
        for token in range(size):
            up = np.zeros(size)
            up[token] = min(3.0, wants.bias.bound)
            yield up
            yield -up


def _candidates(
    has: Interface, wants: Interface
) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Pairs of laws: alike in what lists, temperature or truncation show, and not in the rest."""
    weak, strong = has.contract.resolved.sampling, wants.contract.resolved.sampling
    assert weak is not None
    assert strong is not None
    tau = weak.temperature or 1.0
    kept = max(has.contract.report.top, weak.top_k if weak.top_p == 1.0 else 0, 1)
    pi = weak.top_p if weak.top_p < 1 else 0.9
    masses = (1 - 0.1 * (1 - pi), 1 - 0.3 * (1 - pi), 0.95, 0.8, 0.6, 1.0)
    heads = list(_heads(kept, pi, strong.top_p))
    for head in heads:
        tails = [_law(head, mass, tail) for mass in masses for tail in _TAILS]
        good = [law for law in tails if law is not None]
        for x, y in itertools.combinations(good, 2):
            yield _power(x, tau), _power(y, tau)
        unseen = has.contract.report.top  # the first token that a list does not show
        for x in good if 0 < unseen < len(head) else ():
            y = x.copy()
            y[[unseen, -1]] = x[[-1, unseen]]
            yield _power(x, tau), _power(y, tau)
    # the first token is known and short of what top-p asks for
    yield _power(np.array([0.4, 0.35, 0.25]), tau), _power(np.array([0.4, 0.3, 0.3]), tau)
    yield (0.7, 0.3), (0.6, 0.4)
    yield (0.55, 0.3, 0.15), (0.6, 0.25, 0.15)


_TAILS = ((0.5, 0.5), (0.9, 0.1), (0.1, 0.9), (1.0, 0.0))


def _heads(kept: int, pi: float, wanted: float) -> Iterator[FloatArray]:
    """Laws of the tokens that the weaker interface shows."""
    for size in sorted({kept, 2, 1}, reverse=True):
        yield np.array([0.8**i for i in range(size)]) / sum(0.8**i for i in range(size))
    mass = 1 - 0.1 * (1 - pi)
    if wanted < 1:  # the first token alone reaches top-p only where the rest is not there
        first = wanted * (1 + mass) / (2 * mass)
        if first < 1:
            yield np.array([first, 1 - first])


def _law(head: FloatArray, mass: float, tail: tuple[float, float]) -> FloatArray | None:
    """(K,) probabilities, where no tail token is above the head's."""
    rest = (1 - mass) * np.array(tail)
    law = np.concatenate([mass * head, rest])
    return law if rest.max() <= mass * head.min() else None


def _power(x: FloatArray, tau: float) -> tuple[float, ...]:
    """The law whose law at temperature τ is x."""
    law = x**tau
    return tuple((law / law.sum()).tolist())


def unreached(has: Interface, wants: Interface) -> Pair | None:
    """Generators that differ at a prefix which ``has`` never meets and ``wants`` asks or meets.

    Without a bias: the prefix starts with a token that is never emitted, as it is not the mode, or outside
    of what truncation keeps; a pass draws its first token as well, and puts one in behind it. From the root with a constant bias: u = (0, 1, …, k), where at every place t the
    token t is far behind all others: it is kept only if its bias is far above the least one, and the
    token of the least bias has its place too.
    """
    weak, strong = has.contract.resolved, wants.contract.resolved
    assert weak.sampling is not None
    assert strong.sampling is not None
    if not narrow(weak.report, weak.sampling):
        return None
    asked = weak.control in (Control.ROOT, Control.EPISODE, Control.VISITED)
    strict = asked and has.bias is None
    constant = weak.control == Control.ROOT and has.bias is not None
    steers = strong.control == Control.EPISODE and strong.report.draws
    steers = steers and not (weak.control == Control.EPISODE and weak.report.draws)
    own = steers or strong.control in (Control.RESET, Control.CHOSEN)
    meets = not narrow(strong.report, strong.sampling) or (
        wants.bias is not None and strong.control in (Control.EPISODE, Control.VISITED)
    )
    if not (strict and own) and not (constant and (own or meets)):
        return None
    first, second = (0.9, 0.1), (0.1, 0.9)
    laws = [np.log(np.array(law)) for law in (first, second)]
    one, other = (shown(x, strong.report, strong.sampling) for x in laws)
    tv = total_variation(one, other)
    tokens = weak.sampling.top_k if weak.sampling.temperature and weak.sampling.top_k else 1
    path = ["1"] if strict else [str(token) for token in range(tokens + 1)]
    if steers and not meets:  # a drawn token before each one that is put in
        path = [token for each in path for token in ("0", each)]
    where = f"({', '.join(path)})"
    why = "never emitted" if strict else "met under no constant bias"
    return Pair(first, second, where, f"a prefix that is {why}", tv)


def narrow(report: Report, sampling: Sampling) -> bool:
    """Whether some tokens are never emitted: modes only, or a truncated law."""
    truncated = bool(sampling.top_k) or sampling.top_p < 1
    return not report.draws or not sampling.temperature or truncated


def text_prefixes(length: int) -> int:
    """Sequences of tokens {a, b, ab} that the tokenizer itself makes (longest match): 3, 8, 21, 55, …

    Those in which no b follows an a, of all 3^length: a prefix of text reaches no other.
    """
    ends_in_a, other = 0, 1
    for _ in range(length):
        ends_in_a, other = ends_in_a + other, 2 * other + ends_in_a
    return ends_in_a + other


def half_reach(p: float, depth: int) -> float:
    """p^d: the best reach of a balanced path of K tokens under any constant bias (``depth`` = d)."""
    return math.exp(depth * math.log(p))
