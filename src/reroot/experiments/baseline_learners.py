"""Learners that only the experiments need: root-start readers, and askers that show blindness."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..access.learner import learner
from ..access.session import Session
from ..contract import Contract, Control, Oracle, Report
from ..errors import AccessDenied
from ..types import Finding, IntArray, Prefix, Query, Reply

_ROUNDING = 1e-9
_GUESSING = Contract(Control.ROOT, Report.NONE, oracles=[Oracle.REWARD])


def _as_named(params: Mapping[str, Any]) -> Contract:
    """Root control, and the report that the parameters name."""
    return Contract(Control.ROOT, Report.parse(params["report"]))


# ---- blindness -----------------------------------------------------------------------------------


@learner(requires=_as_named)
async def ask_all(session: Session, *, report: str, prefixes: Sequence[Sequence[int]]) -> Finding:
    """Ask everywhere: one report at each prefix, and one rollout; note all that came back.

    The notes are a ``digest`` of every reply, bit by bit, and how many queries were ``answered``
    and ``refused``. Where the digests are equal for two secrets no learner tells them apart.
    """
    digest, answered, refused = hashlib.blake2b(digest_size=16), 0, 0
    asked = Report.parse(report)
    queries = [Query(report=asked), *(Query(Prefix(tuple(u)), 1, 1, asked) for u in prefixes)]
    for query in queries:
        try:
            (reply,) = await session.ask([query])
        except AccessDenied:
            refused += 1
            continue
        answered += 1
        for array in (reply.tokens, reply.top_tokens, reply.top_logprobs):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return Finding(None, {"digest": digest.hexdigest(), "answered": answered, "refused": refused})


@learner(requires=_GUESSING)
async def guesses(session: Session, *, rewards: int, decoys: int = 0) -> Prefix:
    """Name different strings without decoys in random order: M with the reward, then one more."""
    shape = (session.vocab_size - decoys,) * session.horizon
    order = session.rng.permutation(int(np.prod(shape)))
    strings = [
        Prefix(tuple(int(a) + decoys for a in np.unravel_index(i, shape)))
        for i in order[: rewards + 1]
    ]
    paid = strings[:rewards]
    for string, reward in zip(paid, await session.rewards(paid), strict=True):
        if reward > 0:
            return string
    return strings[-1]


# ---- paths from the root -------------------------------------------------------------------------


@learner(requires=_as_named)
async def greedy_rollout(session: Session, *, report: str = "argmax(1)") -> Prefix:
    """One rollout with ARGMAX reports, which is one at temperature 0."""
    return (await session.rollouts(1, report=Report.parse(report))).outputs()[0]


@learner(requires=_as_named)
async def root_reading(session: Session, *, n: int, report: str, decoys: int = 0) -> Prefix:
    """Follow the rollout that stays longest on the path, read what it shows next, guess the rest.

    A token is the path's where its probability exceeds the mean of the tokens that are no decoys.
    LOGPROB: the tokens drawn where the deepest rollouts left the path are not the next one.
    FULL: the law there shows it. The Bayes rule for p > 1/K, and for p1 > 1/(K - k).
    """
    K, H = session.vocab_size, session.horizon
    reply = await session.rollouts(n, report=Report.parse(report))
    assert reply.logprobs is not None
    likely = np.exp(reply.logprobs) * (K - decoys) > 1 + _ROUNDING
    followed = np.cumprod((reply.tokens >= decoys) & likely, axis=1).sum(axis=1)
    depth = int(followed.max())
    rows = np.flatnonzero(followed == depth)
    path = reply.tokens[rows[0], :depth].tolist()
    if depth < H:
        if reply.laws is not None:
            path.append(decoys + int(reply.laws[rows[0], depth, decoys:].argmax()))
        else:
            left = np.setdiff1d(np.arange(decoys, K), reply.tokens[rows, depth])
            path.append(int(session.rng.choice(left)))
    path += session.rng.integers(decoys, K, size=H - len(path)).tolist()
    return Prefix(tuple(path))


@learner(requires=Contract(Control.ROOT, Report.SAMPLE))
async def root_plurality(session: Session, *, n: int, decoys: int = 0) -> Prefix:
    """At each prefix the most frequent token, decoys apart, of the rollouts that passed there."""
    rows, path = (await session.rollouts(n)).tokens, list[int]()
    for t in range(session.horizon):
        seen = rows[rows[:, t] >= decoys, t]
        if not len(seen):
            seen = np.arange(decoys, session.vocab_size)
        tokens, counts = np.unique(seen, return_counts=True)
        path.append(int(session.rng.choice(tokens[counts == counts.max()])))
        rows = rows[rows[:, t] == path[-1]]
    return Prefix(tuple(path))


# ---- tries ---------------------------------------------------------------------------------------


@learner(requires=_as_named)
async def root_trie(session: Session, *, n: int, threshold: float, report: str) -> Finding:
    """The trie that n rollouts show: at each node the tokens whose share reaches the threshold.

    SAMPLE: the frequency among the rollouts that passed there; LOGPROB: the reported probability of
    a token drawn there; FULL: the law there.
    """
    reply = await session.rollouts(n, report=Report.parse(report))
    leaves: list[list[int]] = []
    level = [((), np.arange(n))]
    while level:
        below: list[tuple[tuple[int, ...], IntArray]] = []
        for u, rows in level:
            if len(u) == session.horizon:
                leaves.append(list(u))
                continue
            for token in _shown(reply, rows, len(u), threshold):
                below.append(((*u, token), rows[reply.tokens[rows, len(u)] == token]))
        level = below
    leaves.sort()
    return Finding(Prefix(tuple(leaves[0])) if leaves else None, {"leaves": leaves})


def _shown(reply: Reply, rows: IntArray, t: int, threshold: float) -> list[int]:
    """Tokens that pass for children at position t, given the rollouts ``rows`` that got there."""
    if not len(rows):
        return []
    drawn = reply.tokens[rows, t]
    if reply.laws is not None:
        return np.flatnonzero(np.exp(reply.laws[rows[0], t]) >= threshold).tolist()
    if reply.logprobs is not None:
        return np.unique(drawn[np.exp(reply.logprobs[rows, t]) >= threshold]).tolist()
    return sorted(a for a, c in Counter(drawn.tolist()).items() if c >= threshold * len(rows))


@learner(requires=Contract(Control.RESET, Report.ARGMAX(1), oracles=[Oracle.REWARD]))
async def trie_by_top1(session: Session, *, threshold: float) -> Finding:
    """The whole trie from single likeliest tokens: ask every child of every node what it would say.

    A prefix is inside where its likeliest token reaches the threshold. Of the leaves below the last
    nodes a list of one shows one each; the outcome reward of the others tells which are right.
    """
    K, H, top = session.vocab_size, session.horizon, Report.ARGMAX(1)
    level = [session.root]
    (first,) = await session.ask([Query(session.root, 1, 1, top)])
    likeliest = {session.root: int(first.tokens[0, 0])}
    while len(level[0]) < H - 1:
        children = [u.append(a) for u, a in itertools.product(level, range(K))]
        replies = await session.ask([Query(u, 1, 1, top) for u in children])
        level = [u for u, r in zip(children, replies, strict=True) if _inside(r, threshold)]
        likeliest = {r.prefix: int(r.tokens[0, 0]) for r in replies}
    leaves = [u.append(likeliest[u]) for u in level]
    others = [u.append(a) for u, a in itertools.product(level, range(K)) if a != likeliest[u]]
    rewards = await session.rewards(others)
    leaves += [y for y, reward in zip(others, rewards, strict=True) if reward > 0]
    found = sorted(list(y) for y in leaves)
    return Finding(Prefix(tuple(found[0])), {"leaves": found})


def _inside(reply: Reply, threshold: float) -> bool:
    assert reply.top_logprobs is not None
    return float(np.exp(reply.top_logprobs[0, 0, 0])) >= threshold


def found_leaves(notes: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The leaves in the notes of a finding, as ``HiddenTrie.leaves`` writes them."""
    return [tuple(leaf) for leaf in notes.get("leaves", ())]
