"""Which contract the sessions of a training run have, and what training needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..contract import Contract, Oracle, Sampling
from ..errors import AccessDenied, InvalidInput
from ..tasks.base import Problem
from .strategies.base import Strategy


def oracles_of(problems: Sequence[Problem]) -> set[Oracle]:
    """The oracles that all of these problems have."""
    have = {
        Oracle.REWARD: True,
        Oracle.VERIFIER: all(p.verifier is not None for p in problems),
        Oracle.DEMONSTRATION: all(p.demonstration is not None for p in problems),
        Oracle.VALUE: all(p.value is not None for p in problems),
    }
    return {oracle for oracle, there in have.items() if there}


def granted(
    grants: Contract | str | None,
    strategy: Strategy,
    have: Iterable[Oracle],
    law: Sampling | None = None,
) -> Contract:
    """The contract of every session.

    Args:
        grants: ``None``: what the strategy requires.
        strategy: whose groups start in the sessions.
        have: oracles of a contract that names none.
        law: what draws follow where the contract does not say; ``None``: temperature 1.

    Raises:
        InvalidInput: not a contract.
        AccessDenied: the strategy requires more.
    """
    if grants is None:
        contract = strategy.requires
    else:
        contract = Contract.parse(grants) if isinstance(grants, str) else grants
        if not isinstance(contract, Contract):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"grants must be a Contract or its text, got {grants!r}")
        contract = contract.or_oracles(have)
    if contract.sampling is None and law is not None:
        contract = replace(contract, sampling=law)
    if not strategy.requires <= contract.resolved:
        raise AccessDenied(
            f"strategy {strategy}",
            f"it requires {strategy.requires}, the contract grants {contract.resolved}",
            str(strategy.requires),
        )
    return contract.resolved


def check_on_policy(contract: Contract, law: Sampling) -> None:
    """Refuse draws from another law than the trainer's (``InvalidInput``)."""
    drawn = contract.resolved.sampling
    if drawn != law:
        raise InvalidInput(
            f"rollouts at {drawn} are not on-policy: the trainer's law is {law}; grant @{law}, or set "
            "temperature, top_k and top_p of the trainer"
        )
