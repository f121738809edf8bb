"""The canonical experiment E_N(P): N rollouts with full laws, and what root-start learners see of it.

Source: arXiv 2604.04855: root-start access to P at any report
level is a function of E_N(P) that does not depend on P. ``simulate`` is that function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..access.learner import BoundLearner
from ..access.learner_thread import Finished, LearnerTask
from ..access.session import Answer, Ask, Facts
from ..access.transcript import ARRAYS, coarsened
from ..contract import Sampling
from ..generators.law import sampling_laws
from ..generators.tabular import Tabular
from ..types import PAD, Cost, FloatArray, Prefix, Reply

Seen = tuple[bytes, ...]
"""All that a learner was shown, reply by reply, bit by bit."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout of the canonical experiment.

    Attributes:
        probability: of these tokens.
        tokens: y, L of them.
        laws: (L, K) nats: log P(· | y_<t), t = 1…L.
    """

    probability: float
    tokens: tuple[int, ...]
    laws: FloatArray


def canonical_rollouts(tree: Tabular, sampling: Sampling) -> list[Rollout]:
    """Every rollout of positive probability under ``sampling``, by the definition of P(y)."""
    found: list[Rollout] = []
    rows: list[tuple[float, tuple[int, ...], list[FloatArray]]] = [(1.0, (), [])]
    ends = tree.stops(()).tokens
    while rows:
        probability, prefix, before = rows.pop()
        law = sampling_laws(tree.log_laws((), [prefix]), sampling)[0]
        for token in np.flatnonzero(law > -np.inf).tolist():
            row = (probability * math.exp(law[token]), (*prefix, token), [*before, law])
            if len(row[1]) == tree.horizon or token in ends:
                found.append(Rollout(row[0], row[1], np.array(row[2])))
            else:
                rows.append(row)
    return found


def simulate(bound: BoundLearner, facts: Facts, drawn: Sequence[Rollout]) -> Seen:
    """What a root-start learner sees when its rollouts are taken from a canonical draw.

    A function of the draw and of public facts: no law is asked, and every reply is ``coarsened``.
    """
    task, rest = LearnerTask(bound.start, facts), list(drawn)
    seen: list[bytes] = []
    answers: list[tuple[int, Answer]] = []
    try:
        while not isinstance(turn := task.step(answers), Finished):
            answers = []
            for number, message in turn:
                shown: list[Reply] = []
                for query in cast("Ask", message).queries:
                    taken, rest = rest[: query.n], rest[query.n :]
                    shown.append(coarsened(_reply(taken), query.report))
                seen += map(bits, shown)
                answers.append((number, Answer(shown, None, Cost())))
    finally:
        task.close()
    assert turn.error is None, turn.error
    return tuple(seen)


def _reply(rollouts: Sequence[Rollout]) -> Reply:
    """Rollouts as one reply with FULL reports."""
    lengths = np.array([len(r.tokens) for r in rollouts], dtype=np.int64)
    shape = (len(rollouts), int(lengths.max()))
    tokens = np.full(shape, PAD, dtype=np.int64)
    logprobs = np.zeros(shape)
    laws = np.zeros((*shape, rollouts[0].laws.shape[1]))
    for i, r in enumerate(rollouts):
        length = len(r.tokens)
        tokens[i, :length], laws[i, :length] = r.tokens, r.laws
        logprobs[i, :length] = r.laws[np.arange(length), r.tokens]
    return Reply(Prefix(), tokens, lengths, logprobs, None, None, laws)


def bits(reply: Reply) -> bytes:
    """Every array of a reply, with its shape."""
    return b"".join(
        b"none" if a is None else repr(a.shape).encode() + np.ascontiguousarray(a).tobytes()
        for a in (getattr(reply, name) for name in ARRAYS)
    )
