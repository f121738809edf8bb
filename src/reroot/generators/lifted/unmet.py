"""Pairs of generators that differ at a prefix which a weaker interface never meets.

Without a bias: the prefix holds a token that is never emitted. From the root with a constant bias β,
along which tokens that are kept and tokens that are put far ahead are the same ones: a path each of
whose tokens is met under some β, and all of them under none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...contract import Control, Report, Sampling
from ...types import FloatArray
from ..law import log_normalize
from .pairs import Pair, narrow, shown, total_variation
from .place import Interface

_AT_U = (
    ((0.9, 0.1), (0.1, 0.9)),
    ((0.55, 0.45), (0.6, 0.4)),
    ((0.4, 0.35, 0.25), (0.4, 0.3, 0.3)),
)
"""Laws at the prefix; all but the first two have the same mode."""


class Path(NamedTuple):
    """A prefix and the laws along it.

    Attributes:
        prefix: u.
        laws: (|u|, K) nats, the law before each of its tokens.
    """

    prefix: tuple[int, ...]
    laws: FloatArray


def unreached(has: Interface, wants: Interface) -> Pair | None:
    """Generators that differ at a prefix which ``has`` never meets and ``wants`` asks or meets.

    Without a bias: the prefix starts with a token that is never emitted, as it is not the mode, or outside
    of what truncation keeps; a pass draws its first token as well, and puts one in behind it. With a
    constant bias from the root: see ``unmet_path``. ``None``: no such pair is known.
    """
    weak, strong = has.contract.resolved, wants.contract.resolved
    assert weak.sampling is not None
    assert strong.sampling is not None
    if not narrow(weak.report, weak.sampling):
        return None
    asked = weak.control in (Control.ROOT, Control.EPISODE, Control.VISITED)
    if asked and has.bias is None:
        return _never_emitted(has, wants)
    if weak.control != Control.ROOT or has.bias is None:
        return None
    if _asks(has, wants) or _meets(wants):
        tokens = weak.sampling.top_k if weak.sampling.temperature and weak.sampling.top_k else 1
        path = [str(token) for token in range(tokens + 1)]
        if _steers(has, wants) and not _meets(wants):
            path = [token for each in path for token in ("0", each)]
        return _differing(path, strong.report, strong.sampling, "met under no constant bias")
    if not strong.report.draws:
        return _hidden_mode(weak.sampling, strong.report, strong.sampling)
    path = unmet_path(weak.sampling, strong.sampling)
    if path is None:
        return None
    names = [str(token) for token in path.prefix]
    return _differing(names, strong.report, strong.sampling, "met under no constant bias")


def unmet_path(held: Sampling, wanted: Sampling) -> Path | None:
    """A path that rollouts at ``wanted`` meet, and those at ``held`` under no constant bias.

    * ``held`` keeps k tokens: at place t, token t is behind k others that are about as likely. Of all K
      tokens, which are all on the path, the one of least bias stays behind those k, and is cut off.
    * ``held`` keeps top-p: two tokens, of which 1 leads before 0 and 0 before 1, each by so much that the
      other is cut off. To keep both, each needs more bias than the other one.

    ``None``: neither is a path of ``wanted``.
    """
    if not wanted.temperature:
        return None
    if held.top_p < 1 and held.temperature:
        odds = [
            max(1.0, s.top_p / (1 - s.top_p)) if s.top_p < 1 else math.inf for s in (held, wanted)
        ]
        low, high = (held.temperature * math.log(odds[0]), wanted.temperature * math.log(odds[1]))
        if wanted.top_k == 1 or not low < high:
            return None
        lead = (low + min(high, low + 2.0)) / 2  # log-odds, at temperature 1
        return Path((0, 1), np.array([[0.0, lead], [lead, 0.0]]) - np.logaddexp(0.0, lead))
    kept = held.top_k if held.temperature and held.top_k else 1
    if wanted.top_k and (wanted.top_k <= kept or wanted.top_p < 1):
        return None
    # at the wanted temperature: kept + 1 tokens of about each, and the rest on others, none above them
    each = min(0.8 * wanted.top_p / kept, 0.8 / (kept + 1))
    others = math.ceil((1 - (kept + 1) * each) / (0.9 * each))
    size = kept + 1 + others
    law = np.full(size, (1 - (kept + 1) * each) / others)
    law[: kept + 1] = each * (1 + 0.01 * (kept / 2 - np.arange(kept + 1)) / kept)
    rows = np.zeros((size, size))
    for t in range(size):
        ahead = [(t + 1 + i) % size for i in range(kept)]
        behind = [(t + 1 + kept + i) % size for i in range(others)]
        rows[t, [*ahead, t, *behind]] = law
    return Path(tuple(range(size)), log_normalize(wanted.temperature * np.log(rows)))


def _asks(has: Interface, wants: Interface) -> bool:
    """Whether ``wants`` may ask at prefixes of its own making."""
    return _steers(has, wants) or wants.contract.control in (Control.RESET, Control.CHOSEN)


def _steers(has: Interface, wants: Interface) -> bool:
    """Whether passes put tokens in, and those of ``has`` do not."""

    def puts_in(one: Interface) -> bool:
        return one.contract.control == Control.EPISODE and one.contract.report.draws

    return puts_in(wants) and not puts_in(has)


def _meets(wants: Interface) -> bool:
    """Whether ``wants`` meets every prefix, by draws of all tokens or by a bias where it stands."""
    strong = wants.contract.resolved
    assert strong.sampling is not None
    forced = wants.bias is not None and strong.control in (Control.EPISODE, Control.VISITED)
    return forced or not narrow(strong.report, strong.sampling)


def _never_emitted(has: Interface, wants: Interface) -> Pair | None:
    strong = wants.contract.resolved
    assert strong.sampling is not None
    if not _asks(has, wants):
        return None
    path = ["1"]
    if _steers(has, wants) and not _meets(wants):  # a drawn token before the one that is put in
        path = ["0", "1"]
    return _differing(path, strong.report, strong.sampling, "never emitted")


def _hidden_mode(held: Sampling, report: Report, wanted: Sampling) -> Pair | None:
    """Along the modes, where ``held`` keeps one token: a bias that shows another one loses the path.

    Before u = (0) all tokens are alike, so that 0 is kept only if no other one is put ahead, or far ahead; at
    u, 0 is so far ahead of all others that no such bias shows one.
    """
    if held.top_p == 1 and not (held.top_k == 1 or not held.temperature):
        return None
    pairs = list(_AT_U[1:])
    if held.top_p < 1 and held.temperature:
        odds = max(1.0, held.top_p / (1 - held.top_p))
        # β_1 - β_0 < τ·log(odds) keeps 0 before u; at u it takes more than gap - τ·log(odds) to show 1
        gap = 3 * held.temperature * math.log(odds) + 0.1
        shares = [1 / (1 + math.exp(gap + more)) for more in (0.0, 0.5)]
        pairs = [((1 - shares[0], shares[0]), (1 - shares[1], shares[1]))]
    for first, second in pairs:
        found = _pair(
            first, second, "(0)", report, wanted, "no bias that meets it shows more than 0"
        )
        if found.tv > 1e-6:
            return found
    return None


def _differing(path: list[str], report: Report, sampling: Sampling, why: str) -> Pair:
    where = f"({', '.join(path)})"
    return _pair(*_AT_U[0], where, report, sampling, f"a prefix that is {why}")


def _pair(
    first: tuple[float, ...],
    second: tuple[float, ...],
    where: str,
    report: Report,
    sampling: Sampling,
    why: str,
) -> Pair:
    laws = [np.log(np.array(law)) for law in (first, second)]
    one, other = (shown(x, report, sampling) for x in laws)
    return Pair(first, second, where, why, total_variation(one, other))
