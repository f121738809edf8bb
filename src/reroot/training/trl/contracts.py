"""Which contract the sessions of a training run have, and what training needs of it."""

from __future__ import annotations

from ...contract import Contract, Oracle
from ...errors import AccessDenied, InvalidInput
from ...tasks.base import Problem
from ..strategies.base import Strategy


def granted(grants: Contract | str | None, strategy: Strategy, problem: Problem) -> Contract:
    """The contract of every session; what names no oracle gets those that the problem has.

    Raises:
        InvalidInput: not a contract.
        AccessDenied: the strategy requires more.
    """
    if grants is None:
        return strategy.requires.resolved
    contract = Contract.parse(grants) if isinstance(grants, str) else grants
    if not isinstance(contract, Contract):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"grants must be a Contract or its text, got {grants!r}")
    if not contract.oracles:
        have = {Oracle.REWARD: True, Oracle.VERIFIER: problem.verifier is not None}
        have[Oracle.DEMONSTRATION] = problem.demonstration is not None
        have[Oracle.VALUE] = problem.value is not None
        contract = contract.with_oracles(o for o, there in have.items() if there)
    if not strategy.requires <= contract.resolved:
        raise AccessDenied(
            f"strategy {strategy}",
            f"it requires {strategy.requires}, the contract grants {contract.resolved}",
            str(strategy.requires),
        )
    return contract.resolved


def check_on_policy(contract: Contract, temperature: float) -> None:
    """Refuse draws from another law than the one whose gradient is followed (``InvalidInput``)."""
    law = contract.resolved.sampling
    assert law is not None
    if law.temperature != temperature or law.top_k or law.top_p < 1.0:
        raise InvalidInput(
            f"rollouts at {law} are not on-policy: the trainer follows the gradient of the law at "
            f"temperature {temperature:g} without truncation; grant @T={temperature:g}"
        )
