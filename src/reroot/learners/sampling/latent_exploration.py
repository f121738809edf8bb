"""Latent exploration decoding: where the last layers are less sure than the law, follow them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...errors import BudgetExceeded
from ...types import FloatArray, Prefix
from ..common import COUNT, FLAG, checked


# its tokens are its own draws, not the generator's; the law is the last of the layer laws
@learner(requires=checked("reset/none+hidden", k=COUNT, d=COUNT, renormalize=FLAG))
async def latent_exploration(
    session: Session, *, k: int = 20, d: int = 8, renormalize: bool = False
) -> Prefix | None:
    """Explore by the last layers' laws where the generator's own law is unsure.

    Pseudo-code (latent exploration decoding, arXiv 2602.01698), with P_1 … P_L the laws read out of
    the layers, P_L = P the generator's own, and A the k most likely tokens of P(· | s)::

        s ← ∅;  until complete:
            S_j ← Σ_{i<j} P_{L-i}(· | s)·1[· ∈ A],   j = 1 … d
            Q ← the S_j / ΣS_j of largest entropy      (smallest j on ties)
            t ~ max_a P(a | s) · P(· | s) + (1 - max_a P(a | s)) · Q;    s ← s·t

    The output law is the product of these mixtures. With d = 1, Q is P restricted to A; with k = 1
    or a P that is sure it follows P. The source explores in a model's thinking part only; here
    the whole output is one part. It does not state whether laws restricted to A are renormalized
    before they are summed: if not, a layer that puts little on A counts little (the default here).

    One question and one state per token. The contract's temperature, top-k and top-p change nothing,
    as P is the generator's own law.

    Args:
        k: how many of the most likely tokens may be explored.
        d: how many of the last layers are summed, at most.
        renormalize: sum the restricted laws as probability vectors.
    """
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            law = step_law(await session.layer_laws(prefix, d), k, renormalize)
            prefix = prefix.append(session.rng.choice(len(law), p=law))
    return prefix


def step_law(laws: FloatArray, k: int, renormalize: bool = False) -> FloatArray:
    """(K,) probabilities of the next token.

    Args:
        laws: (d, K) nats, the laws of the last d layers, the generator's own last.
        k, renormalize: see ``latent_exploration``.
    """
    laws = np.exp(laws)
    laws /= laws.sum(axis=1, keepdims=True)  # to the last bit: they may come in float32
    own = laws[-1]
    explored = np.argsort(-own, kind="stable")[:k]  # the smaller token on ties
    inner = laws[::-1, explored]  # the last layer first
    if renormalize:
        # a layer that puts nothing on A at all has nothing to say
        inner /= np.maximum(inner.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    sums = np.cumsum(inner, axis=0)
    sums /= sums.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = -np.where(sums > 0, sums * np.log(sums), 0.0).sum(axis=1)
    sure = own[explored[0]]
    mixed = sure * own
    mixed[explored] += (1.0 - sure) * sums[entropies.argmax()]
    return mixed
