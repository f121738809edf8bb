"""What a contract allows and what is paid, in plain words."""

from __future__ import annotations

from collections.abc import Iterable

from ...contract import Contract, Control, Oracle, Report
from .formatting import listing

WHERE = {
    Control.ROOT: "start at the beginning only",
    Control.EPISODE: "play forward from the beginning, put in a token at each stop, and never go back",
    Control.VISITED: "go back to what the generator itself wrote",
    Control.RESET: "go back, and go on with any token of its choice",
    Control.CHOSEN: "start anywhere",
}
"""At which prefixes a learner may ask."""

PAYS = {
    "rollouts": "root-start rollouts",
    "tokens": "generated tokens",
    "queries": "prefix queries",
    "prefill": "prompt and prefix tokens submitted",
    "rewards": "outcome-reward calls",
    "verifications": "verifier calls",
    "demonstrations": "demonstration tokens revealed",
    "values": "value estimates",
    "hidden_states": "prefixes and outputs whose hidden states were shown",
}
SHORT = {
    "verifications": "verifier calls",
    "demonstrations": "demo tokens",
    "rewards": "reward calls",
    "values": "value calls",
    "hidden_states": "hidden states",
}
"""Currencies, short enough for the head of a column."""

_ORACLES = {
    Oracle.REWARD: "have outputs scored",
    Oracle.VERIFIER: "ask whether a beginning can still become right",
    Oracle.DEMONSTRATION: "be shown a right output",
    Oracle.VALUE: "ask what a beginning is worth",
    Oracle.HIDDEN: "look inside the model",
}


def sees(report: Report) -> str:
    """What it is shown of the generator's law."""
    listed = "the most likely token" if report.top == 1 else f"the {report.top} most likely tokens"
    if report == Report.NONE:
        return "nothing"
    if not report.draws:
        return f"{listed} and how likely"
    parts = ["what is drawn"]
    if report.has_law:
        parts.append("the probability of every token")
    elif report.has_logprob:
        parts.append("how likely that was")
    return listing([*parts, *([listed] if report.top else [])])


def asks(oracles: Iterable[Oracle]) -> str:
    """What it may ask beside the generator."""
    granted = set(oracles)
    return listing([_ORACLES[oracle] for oracle in Oracle if oracle in granted]) or "nothing"


def may(contract: Contract) -> str:
    """All that it allows, as a text."""
    at, shown, more = allowed(contract)
    said = f"Beside the generator it may {more}" if contract.oracles else "It may ask nothing else"
    return f"It may {at}. It sees {shown}. {said}."


def allowed(contract: Contract) -> tuple[str, str, str]:
    """Where it may ask, what it sees, and what else it may ask."""
    return WHERE[contract.control], sees(contract.report), asks(contract.oracles)
