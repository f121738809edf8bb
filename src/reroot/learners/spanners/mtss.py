"""MTSS: exploration token by token, from core sets of prefixes to which the generator is returned."""

from __future__ import annotations

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract
from ...errors import BudgetExceeded
from ...types import Finding, Prefix
from ..common import COUNT, POSITIVE, check
from .cores import Cores
from .walks import Walker


def _requires(params: Params) -> Contract:
    counts = ("visits", "final", "passes", "starts")
    check(params, beta=POSITIVE, coverage=POSITIVE, nu=POSITIVE, ridge=POSITIVE)
    check(params, draws=COUNT.or_none, **dict.fromkeys(counts, COUNT))
    return Contract.parse("visited/sample+reward+hidden")


@learner(requires=_requires)
async def mtss(
    session: Session,
    *,
    beta: float = 0.2,
    coverage: float = 2.0,
    draws: int | None = None,
    visits: int = 2,
    final: int = 16,
    nu: float = 1.0,
    ridge: float = 0.05,
    starts: int = 4,
    passes: int = 50,
) -> Finding | None:
    """A linear softmax policy, token by token: the price is the coverage of a token, not of an output.

    Pseudo-code (MTSS, Foster et al. 2025, arXiv 2503.07453, with practical choices of ours), with
    D = φ(x·a) - φ(x·ā), ā ~ P(· | x), and Σ_h over the pairs in core h::

        step(x):   N draws a ~ P(· | x) → Ẑ;  a by rejection from P·e^{f/β},
                   f = ⟨θ_h, D⟩ where Dᵀ·Σ_h⁻¹·D is at most ν², else 0;  log ρ = f/β - log Ẑ - s²/(2N·Ẑ²)
        value(xa): mean over returns to x·a of r(y) - β·Σ_{l>h} log ρ_l, rolled out by step
        repeat:    for h = hi … 1:  θ_h ← ridge regression of value(xa) - value(xā) on core h
                   roll out from the root and from all pairs of the cores; of the prefixes x that are visited at
                   each level, and of the tokens drawn there, add the pair of largest Dᵀ·Σ_h⁻¹·D if that
                   is above ν²;  hi ← the deepest level that got one
                   until nothing was added twice in a row
        for h = H … 1 once more, with ``final`` returns;  return a draw of the policy

    One pair per level and pass, the stop after calm passes, and the refit of levels up to hi are ours. All
    prefixes that are asked were emitted, so VISITED control is enough. T_data is the number of
    rewards, T_comp that of tokens. A token with P(a | x) far below 1/N is not seen.

    Returns:
        An output, with the notes ``thetas`` (H rows of d numbers, the policy ∝ P·e^{⟨θ_h, φ_h⟩/β}), ``cores``
        (pairs at each level), ``passes``, ``accepted`` (the share of draws that were accepted) and
        ``complete``: whether it ended by itself.

    Args:
        beta: β, reward per nat.
        coverage: C_cond, the largest ratio of the optimum's next-token law to P; M = 2·C_cond.
        draws: N; ``None``: 8·K.
        visits: returns per pair while cores grow, and roll-outs from each start.
        final: returns per pair in the last fit; many where rewards are noisy.
        nu: ν.
        ridge: λ, in units of max ‖φ‖² of the first draws.
        starts: roll-outs from the root in each pass.
        passes: most passes.
    """
    N = 8 * session.vocab_size if draws is None else draws
    walker = Walker(session, beta, 2.0 * max(1.0, coverage), N)
    cores = Cores(walker, nu, ridge)
    seen: Prefix | None = None
    done, complete = 0, False
    try:
        seen = (await session.rollouts(1)).outputs()[0]
        calm, deepest = 0, session.horizon
        while calm < 2 and done < passes:
            await cores.fit(deepest, visits)
            deepest = await cores.explore(starts, visits)
            calm = 0 if deepest else calm + 1
            done += 1
        await cores.fit(session.horizon, final)
        walker.truncated = False
        (path,) = (await walker.roll([()])).ends
        seen, complete = Prefix.of(path), calm == 2
    except BudgetExceeded:
        pass
    if seen is None:
        return None
    thetas = [None if theta is None else theta.tolist() for theta in walker.thetas]
    notes = {
        "thetas": thetas,
        "cores": [len(pairs) for pairs in cores.pairs],
        "passes": done,
        "accepted": walker.accepted / walker.asked if walker.asked else None,
        "complete": complete,
    }
    return Finding(seen, notes)
