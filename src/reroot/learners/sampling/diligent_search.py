"""The diligent learner: depth-first search with drawn proposals, backtracking when they are used up."""

from __future__ import annotations

from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import Finding, Prefix
from ..common import COUNT, FLAG, REAL, check, unbounded


def _requires(params: Params) -> Contract:
    check(params, tries=COUNT, stride=COUNT, searches=COUNT.or_none, verify=FLAG, pass_at=REAL)
    oracles = [Oracle.REWARD, *([Oracle.VERIFIER] if params["verify"] else [])]
    return Contract(Control.VISITED, Report.SAMPLE, oracles=oracles)


@learner(requires=_requires)
async def diligent_search(
    session: Session,
    *,
    tries: int = 2,
    stride: int = 1,
    verify: bool = False,
    pass_at: float = 1.0,
    searches: int | None = 1,
) -> Finding | None:
    """Depth-first search over drawn proposals until an output passes.

    Pseudo-code (after the diligent learner, Shalev-Shwartz & Shashua 2025, arXiv 2507.15865)::

        search(u):
            if u is an output:  return whether r(u) passes
            ``tries`` times:  c ~ P(· | u), some tokens
                if V(uc) (if verify) and search(uc):  return true
            return false                                        (backtrack)

    With s(y) = 1[y passes] at outputs, it succeeds with probability s(∅), where
    s(u) = 1 - (1 - Σ_c P(c | u)·s(uc))^tries: a proposal that is right with probability γ at every step is
    found with near certainty from tries ≈ log(1/δ)/γ on. Returns the best output seen.

    Args:
        tries: proposals at each prefix; drawn one by one, as most searches end early.
        stride: tokens of a proposal.
        verify: let the process verifier reject proposals before anything is searched below them.
        pass_at: reward from which an output passes.
        searches: most times it starts again; ``None``: until one passes or the budget ends it.

    Raises:
        InvalidInput: ``searches`` is None, and no budget in rollouts, queries or tokens ends it.
    """
    if searches is None and unbounded(session, rollouts=1, queries=1, tokens=1):
        raise InvalidInput(
            "diligent_search may never end: give searches, or a budget in rollouts, queries or tokens"
        )
    search = _Search(session, tries, stride, verify, pass_at)
    passed, made = False, 0
    with suppress(BudgetExceeded):
        while not passed and (searches is None or made < searches):
            passed, made = await search.below(session.root), made + 1
    if search.best is None:
        return None
    return Finding(search.best, {"passed": passed, "outputs": search.outputs})


class _Search:
    """The search, and the best output that it has seen."""

    def __init__(
        self, session: Session, tries: int, stride: int, verify: bool, pass_at: float
    ) -> None:
        self._session, self._tries, self._stride = session, tries, stride
        self._verify, self._pass_at = verify, pass_at
        self.best: Prefix | None = None
        self.outputs = 0
        self._reward = float("-inf")

    async def below(self, root: Prefix) -> bool:
        """Whether an output below ``root`` passed. A stack, as horizons go beyond recursion."""
        stack = [(root, 0)]
        while stack:
            prefix, tried = stack.pop()
            if self._session.is_complete(prefix):
                if await self._passes(prefix):
                    return True
            elif tried < self._tries:
                stack.append((prefix, tried + 1))
                reply = await self._session.continuations(
                    prefix, 1, length=self._stride, report=Report.SAMPLE
                )
                child = reply.outputs()[0]
                if not self._verify or await self._session.verify(child):
                    stack.append((child, 0))
        return False

    async def _passes(self, output: Prefix) -> bool:
        reward = await self._session.reward(output)
        self.outputs += 1
        if reward > self._reward:
            self.best, self._reward = output, reward
        return reward >= self._pass_at
