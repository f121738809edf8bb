"""Beam search: the most likely prefixes of each length, with or without a process verifier."""

from __future__ import annotations

import math
from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded
from ...types import Prefix, Query
from ..common import COUNT, FLAG, affordable, check, finished


def _requires(params: Params) -> Contract:
    check(params, width=COUNT, verify=FLAG)
    oracles = [Oracle.VERIFIER] if params["verify"] else []
    return Contract(Control.RESET, Report.ARGMAX(params["width"]), oracles=oracles)


@learner(requires=_requires)
async def beam_search(session: Session, *, width: int = 4, verify: bool = False) -> Prefix | None:
    """The most likely output that a beam of prefixes finds; no draw.

    Pseudo-code::

        beam ← {∅}
        until every member of the beam is an output:
            candidates ← members that are outputs, and the ``width`` most likely children of the others
            drop the candidates that the verifier rejects            (if verify, as long as one passes)
            beam ← the ``width`` candidates of largest P
        return the most likely member

    Where the beam holds every prefix it is exact: the mode of P, or of P given the verifier. One query
    per member and token.

    Where the budget cannot carry a beam so wide to the horizon, it is as wide as can be.

    Args:
        width: members kept, and children listed of each.
        verify: let the process verifier strike candidates out.
    """
    beam: list[tuple[float, Prefix]] = [(0.0, session.root)]
    verdicts: dict[Prefix, bool] = {}
    kept = max(1, affordable(session, width, queries=session.horizon, tokens=session.horizon))
    with suppress(BudgetExceeded):
        while open_ := [u for _, u in beam if not session.is_complete(u)]:
            replies = await session.ask(Query(u, 1, 1, Report.ARGMAX(width)) for u in open_)
            below = dict(zip(open_, replies, strict=True))
            candidates: list[tuple[float, Prefix]] = []
            for score, u in beam:
                if u not in below:
                    candidates.append((score, u))
                    continue
                tokens, logprobs = below[u].top_tokens, below[u].top_logprobs
                assert tokens is not None
                assert logprobs is not None
                listed = zip(tokens[0, 0].tolist(), logprobs[0, 0].tolist(), strict=True)
                candidates += [
                    (score + logprob, u.append(token))
                    for token, logprob in listed
                    if logprob > -math.inf
                ]
            if verify:
                new = [u for _, u in candidates if u not in verdicts]
                verdicts |= dict(zip(new, await session.verify_all(new), strict=True))
                candidates = [c for c in candidates if verdicts[c[1]]] or candidates
            # ties: the smaller tokens first, so that the result is one
            beam = sorted(candidates, key=lambda c: (-c[0], c[1].tokens))[:kept]
    outputs = [u for _, u in beam if session.is_complete(u)]
    return outputs[0] if outputs else await finished(session, beam[0][1])
