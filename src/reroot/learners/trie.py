"""Exact recovery of a hidden trie by breadth-first search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..limits import trie_draws
from ..types import Finding, IntArray, Prefix, Query, Reply
from .common import COUNT, between, check


def _contract(params: Params) -> Contract:
    check(params, nodes=COUNT, a=between(0, 1), b=between(0, params["a"]), delta=between(0, 1))
    report = Report.parse(params["report"])
    if report in (Report.SAMPLE, Report.LOGPROB):
        return Contract(Control.VISITED, report)
    if report.has_law or report.top >= _most_children(params["a"]):
        return Contract(Control.RESET, report)
    raise InvalidInput(
        f"report must be 'sample', 'logprob', 'full' or a list of at least 1/a tokens, "
        f"'argmax({_most_children(params['a'])})', got {params['report']!r}"
    )


@learner(requires=_contract)
async def trie_search(
    session: Session,
    *,
    nodes: int = 24,
    a: float = 0.3,
    b: float = 0.1,
    delta: float = 0.05,
    report: str = "sample",
) -> Finding:
    """Find the whole trie level by level: keep the tokens that are frequent, or likely, enough.

    Pseudo-code (hidden trie, arXiv 2604.04855)::

        level ← {∅};  asked ← 0
        while level is not empty:
            if asked + |level| > S: report failure;   asked ← asked + |level|
            ask every u of the level;   level ← {u·a : share of a at u ≥ (a + b)/2}
            leaves ← leaves ∪ {complete u·a};   if some u has no u·a: report failure

    * SAMPLE: the share is the frequency in m = ``limits.trie_draws(K, S, a, b, delta)`` draws; by
      Hoeffding all S nodes are right together with probability at least 1 - delta/2. Tokens that
      are kept were emitted, so VISITED control is enough.
    * LOGPROB: the share is the reported probability of a token drawn, so nothing false is kept;
      m = ⌈log(2·S·⌊1/a⌋/delta)/-log(1 - a)⌉ draws miss a child anywhere with probability at most
      delta/2. VISITED.
    * FULL, or lists of at least ⌊1/a⌋ tokens: m = 1, right for certain. RESET.

    At most S·m queries: exactly m for each internal node. All nodes of a level are asked at once.
    A trie with more than S internal nodes is reported as a failure unless a node was misread, which
    the first S nodes are with probability at most delta/2 in all.

    Returns:
        The first leaf in order, with the notes ``complete``: True, ``leaves``: all of them in order,
        and ``nodes``: internal nodes asked. On failure no output, ``complete``: False, the leaves
        found so far, ``nodes``, and ``why``: ``"nodes"`` (more than S), ``"childless"`` (a node
        without a child: a share is wrong) or ``"budget"``.

    Args:
        nodes: S, most internal nodes.
        a: least probability of a child token.
        b: largest probability of any other token, b < a.
        delta: failure probability; half of it is left to noisy outcome rewards.
        report: ``"sample"``, ``"logprob"``, ``"full"``, or a list as in ``"argmax(3)"``.
    """
    asked, leaves = 0, list[Prefix]()
    level = [session.root]
    m = _draws(session.vocab_size, nodes, a, b, delta, report)
    with suppress(BudgetExceeded):
        while level:
            if asked + len(level) > nodes:
                return _failure("nodes", leaves, asked)
            replies = await session.ask([Query(u, m, 1, Report.parse(report)) for u in level])
            asked += len(level)
            found = [_likely(reply, (a + b) / 2) for reply in replies]
            children = [u.append(t) for u, ts in zip(level, found, strict=True) for t in ts]
            level = [u for u in children if not session.is_complete(u)]
            leaves += [u for u in children if session.is_complete(u)]
            if not all(len(tokens) for tokens in found):
                return _failure("childless", leaves, asked)
        leaves.sort(key=tuple)
        notes = {"complete": True, "leaves": [list(u) for u in leaves], "nodes": asked}
        return Finding(leaves[0], notes)
    return _failure("budget", leaves, asked)


def _failure(why: str, leaves: Sequence[Prefix], asked: int) -> Finding:
    found = sorted(list(u) for u in leaves)
    return Finding(None, {"complete": False, "leaves": found, "nodes": asked, "why": why})


def _most_children(a: float) -> int:
    return int((1.0 + 1e-12) / a)  # 3 at a = 1/3, up to rounding


def _draws(vocab_size: int, nodes: int, a: float, b: float, delta: float, report: str) -> int:
    """m for each report."""
    asked = Report.parse(report)
    if asked == Report.SAMPLE:
        return trie_draws(vocab_size, nodes, a, b, delta)
    if asked == Report.LOGPROB:
        return math.ceil(math.log(2 * nodes * _most_children(a) / delta) / -math.log1p(-a))
    return 1


def _likely(reply: Reply, threshold: float) -> list[int]:
    """Tokens whose frequency, or probability, is at least the threshold, in order."""
    least = threshold * (1 - 1e-12)
    if reply.laws is not None:
        return np.flatnonzero(np.exp(reply.laws[0, 0]) >= least).tolist()
    if reply.top_tokens is not None and reply.top_logprobs is not None:
        return _kept(reply.top_tokens[0, 0], np.exp(reply.top_logprobs[0, 0]) >= least)
    if reply.logprobs is not None:
        return _kept(reply.first_tokens(), np.exp(reply.logprobs[:, 0]) >= least)
    return sorted(t for t, count in reply.counts().items() if count >= least * reply.n)


def _kept(tokens: IntArray, mask: np.ndarray) -> list[int]:
    return np.unique(tokens[mask]).tolist()
