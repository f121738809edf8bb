"""Learning a low-rank law from conditional samples, where its fidelity is high enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Report
from ...errors import BudgetExceeded, InvalidInput
from ...linear.operators import OperatorModel
from ...types import Finding, FloatArray
from ..common import COUNT, POSITIVE, check
from .conditionals import (
    History,
    NextLaws,
    draw,
    drawn_futures,
    end_tokens,
    learned,
    padded,
    rollouts,
)

FLOOR = 1e-9


def reading(params: Params) -> Contract:
    """By frequencies only what was emitted is asked about: VISITED control; by exact laws, RESET."""
    report = Report.parse(params["report"])
    if report not in (Report.SAMPLE, Report.FULL):
        raise InvalidInput(f"report must be 'sample' or 'full', got {params['report']!r}")
    return Contract(Control.RESET if report.has_law else Control.VISITED, report)


def _requires(params: Params) -> Contract:
    check(params, histories=COUNT, tests=COUNT, samples=COUNT, threshold=POSITIVE)
    return reading(params)


@learner(requires=_requires)
async def hmm_samples(
    session: Session,
    *,
    histories: int = 12,
    tests: int = 40,
    samples: int = 40,
    threshold: float = 0.01,
    report: str = "sample",
) -> Finding:
    """A law of low rank from conditional samples: futures of a few random histories span all others.

    Pseudo-code (Mahajan et al. 2023, arXiv 2302.14753, Algorithm 2), for t = 0 … T - 1::

        B_t ← the first t tokens of ``histories`` rollouts, s their frequencies
        z_1 … z_M ~ futures of B_t, mixed by s;  d ← that mixture
        W_c ← (Pr[z_j | c] / d(z_j))_j for c in B_t, and for their children
              (products of next-token laws, each the frequencies of ``samples`` draws)
        V ← eigenvectors of s^½·W·Wᵀ·s^½ / M above the threshold, Λ their eigenvalues
        γ(c) ← V·Λ⁻¹·Vᵀ·s^½·W·W_c / M            (c as a mixture of B_t)
        A_{o,t} ← γ(b∘o) weighed by Pr[o | b], from V to V'

    The ratios are of conditional, never of joint, probabilities, so T does not shrink them. What is
    cut off at the threshold must be noise: the fidelity of the law has to be above it. Random
    histories miss what is rare whatever the fidelity: more of them, not more samples, is then what
    helps. Its guarantee is polynomial in rank, T, K, 1/ε and 1/fidelity. Each next-token law is asked
    once: at most histories·(1 + K)·M·samples·T²/2 tokens.

    Returns:
        A draw of the law, with the notes ``model``: the law (``Operators.from_json`` makes the
        generator), ``ranks`` (histories at each position), ``kept`` (eigenvectors at each) and
        ``complete``. Without the budget to finish: a rollout, and ``complete``: False.

    Args:
        histories: rollouts whose prefixes are B_t.
        tests: M.
        samples: draws at each history.
        threshold: least eigenvalue kept; the largest is about 1.
        report: ``"sample"``, or ``"full"``: exact next-token laws.
    """
    reply = await rollouts(session, histories)
    if reply is None:
        return Finding(None, {"complete": False})
    laws = NextLaws(session, Report.parse(report), samples)
    counts = [
        Counter(tuple(row[:t]) for row in padded(reply, session.horizon).tolist())
        for t in range(session.horizon)
    ]
    try:
        levels = [
            await _level(session, laws, counts, t, tests, threshold) for t in range(len(counts))
        ]
        emissions = [await laws.of(list(seen)) for seen in counts]
    except BudgetExceeded:
        return Finding(reply.outputs()[0], {"complete": False})
    operators = [
        _operator(levels[t], levels[t + 1], emissions[t]) for t in range(session.horizon - 1)
    ]
    start = np.ones(1)
    model = OperatorModel(start, emissions, operators, FLOOR, end=end_tokens(session))
    kept = [int(np.linalg.matrix_rank(level[1])) for level in levels[1:]]
    return Finding(draw(session, model), learned(session, model, {"kept": kept}))


Level = tuple[FloatArray, FloatArray, FloatArray]
"""((n,) roots of the weights of B_t, (n, n) projection on what is kept, (n, n', K) γ of the children of
B_{t−1})."""


async def _level(
    session: Session,
    laws: NextLaws,
    counts: Sequence[Counter[History]],
    t: int,
    tests: int,
    threshold: float,
) -> Level:
    rows = list(counts[t])
    roots = np.sqrt(np.array(list(counts[t].values())) / counts[t].total())
    if t == 0:
        return roots, np.ones((1, 1)), np.empty(0)
    await laws.ask(counts[t - 1])
    K = session.vocab_size
    children = [(*b, o) for b in counts[t - 1] for o in range(K)]
    possible = [c for c in children if laws[c[:-1]][c[-1]] > 0]
    shares = session.rng.multinomial(tests, roots**2)
    drawn = await drawn_futures(session, rows, shares.tolist(), session.horizon - t)
    ratios = await laws.futures([*rows, *possible], drawn)
    mixture = roots**2 @ ratios[: len(rows)]
    ratios = ratios[:, mixture > 0] / mixture[mixture > 0]
    W = roots[:, None] * ratios[: len(rows)]
    values, vectors = np.linalg.eigh(W @ W.T / tests)
    kept = values > threshold
    kept[-1] |= not kept.any()  # of no ratio at all the uniform mixture is left
    V = vectors[:, kept]
    inverse = (V / np.maximum(values[kept], FLOOR)) @ V.T
    gamma = np.zeros((len(rows), len(children)))
    at = [children.index(c) for c in possible]
    gamma[:, at] = inverse @ W @ ratios[len(rows) :].T / tests
    return roots, V @ V.T, gamma.reshape(len(rows), -1, K)


def _operator(here: Level, after: Level, emissions: FloatArray) -> FloatArray:
    """(n, K, n') from weights of B_t to weights of B_{t+1}; weights are s^½·γ."""
    roots, kept, _ = here
    below, kept_after, gamma = after
    weighed = gamma.transpose(2, 0, 1) * emissions.T[:, None, :] * roots  # (K, n', n)
    A = kept_after @ weighed @ kept
    return (below[:, None] * A / roots).transpose(2, 0, 1)
