"""Audits: would a recorded attempt have been permitted under another contract?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..checks import check_int
from ..contract import Contract, Oracle
from ..errors import AccessDenied, BackendError, BudgetExceeded, InvalidInput, RunFolderError
from ..types import Prefix
from .rules import Marks, PrefixRules, no_oracle
from .transcript import (
    DAMAGED,
    damaged,
    failure_from_json,
    messages,
    query_from_json,
    read_transcript,
    replies_from_json,
)

_REFUSALS = (AccessDenied.__name__, BudgetExceeded.__name__, InvalidInput.__name__)


def audit(path: str | Path, contract: Contract | str) -> AccessDenied | None:
    """Would this recorded attempt have been permitted under ``contract``?

    Args:
        path: a transcript file of a run with ``transcripts=True``.
        contract: the contract to check against; one that names no oracle grants those that the
            attempt was granted, as in ``compare``.

    Returns:
        The refusal of the first message that would have been refused, or ``None``.

    Raises:
        RunFolderError: not a transcript.
    """
    contract = Contract.parse(contract) if isinstance(contract, str) else contract
    lines = (line for _, line in read_transcript(Path(path)))
    head = next(lines, None)
    if head is None or "horizon" not in head:
        raise RunFolderError(f"{path} does not start with the head line of a transcript")
    try:
        return _audit(head, messages(lines), contract)
    except (InvalidInput, BackendError, *DAMAGED) as error:
        raise damaged(str(path), error) from None


def _audit(
    head: dict[str, Any], lines: list[dict[str, Any]], contract: Contract
) -> AccessDenied | None:
    recorded = Contract.parse(head["contract"])
    sampling = recorded.resolved.sampling
    if contract.resolved.sampling != sampling:
        return AccessDenied(
            "the whole transcript",
            f"its draws follow {sampling}, the contract's {contract.resolved.sampling}",
            str(recorded),
        )
    contract = contract.or_oracles(recorded.oracles)
    horizon = check_int("horizon", head["horizon"], least=1)
    rules = PrefixRules(horizon, sampling, contract.control)
    under_way: list[tuple[int, Callable[[], None]]] = []  # what an answer builds when it comes
    for line in lines:
        while under_way and under_way[0][0] < line["after"]:
            under_way.pop(0)[1]()
        try:
            under_way += [(line["i"], act) for act in _audit_line(line, contract, rules)]
        except AccessDenied as refused:
            return AccessDenied(
                f"message {line['i']}: {refused.query}", refused.rule, refused.weakest
            )
    return None


def _audit_line(
    line: dict[str, Any], contract: Contract, rules: PrefixRules
) -> list[Callable[[], None]]:
    """Check one message; what is to be done once its answer has come."""
    message = line["message"]
    failure = None if line["error"] is None else failure_from_json(line["error"])
    if failure is not None and failure.kind in _REFUSALS:
        return []  # refused at the time: nothing was asked
    for oracle in Oracle:
        if oracle.value in message and oracle not in contract.oracles:
            raise no_oracle(oracle, str(oracle))
    if str(Oracle.HIDDEN) in message:
        marks, replies = _audit_states(message, contract, rules), []
    elif "ask" in message:
        queries = [query_from_json(q) for q in message["ask"]]
        marks = rules.check(contract, queries)
        found = [] if failure is not None else replies_from_json(line["value"])
        replies = [*zip(queries, found, marks, strict=failure is None)]
    else:
        return []
    rules.ask(marks)
    if failure is not None:  # what failed builds nothing
        return [partial(rules.failed, marks)]
    noted = [
        partial(rules.note_reply, query, reply, own.prefixes[0]) for query, reply, own in replies
    ]
    return [partial(rules.answered, marks), *noted]


def _audit_states(message: dict[str, Any], contract: Contract, rules: PrefixRules) -> Marks:
    places = [Prefix(tuple(tokens)) for tokens in message[str(Oracle.HIDDEN)]]
    features = message["layers"] is None
    for place in places:
        (rules.check_features if features else rules.check_hidden_states)(contract, place)
    return [] if features else rules.marks_of(places)
