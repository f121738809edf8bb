"""The messages of a session as plain data (JSON values), strictly read: for a wire between processes.

What a learner's side sends is read with suspicion: every type is checked, nothing is evaluated, no
object but reroot's own frozen records is made. What comes back says of itself what it is.

| sent by the learner's side | here |
|---|---|
| a message | ``transcript.message_to_json``, ``message_from_json`` |
| sent by the door's side | |
| what a session knows from the start | ``facts_to_json``, ``facts_from_json`` |
| an answer | ``answer_to_json``, ``answer_from_json`` |
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from .. import errors
from ..contract import Contract, Oracle, Report
from ..errors import AccessDenied, BudgetExceeded, InvalidInput, RerootError
from ..generators.stops import Pieces, Stop
from ..types import Budget, Cost, Prefix, Query, Reply, as_tokens
from ..types.account import Prices
from .session import (
    Answer,
    Ask,
    AskHiddenStates,
    Consult,
    Decode,
    Demonstrate,
    EndRule,
    Equality,
    Facts,
    Message,
)
from .transcript import array_from_json, replies_from_json, value_to_json

_CONSULTED = {str(oracle): oracle for oracle in (Oracle.REWARD, Oracle.VERIFIER, Oracle.VALUE)}

Call = Callable[[str, list[Any]], Any]
"""Asks the other side, at once, for what cannot be written down: ``(verb, arguments) → JSON value``."""


# ---- messages -----------------------------------------------------------------------------------


def message_from_json(data: object) -> Message:
    """A message that came over a wire.

    Raises:
        InvalidInput: it is none, or a field is not of its type.
    """
    record = _record(data, "a message")
    names = set(record)
    if names == {"ask"}:
        return Ask(tuple(map(_query, _list(record["ask"], "ask"))))
    if names == {str(Oracle.HIDDEN), "layers"}:
        places = _prefixes(record[str(Oracle.HIDDEN)])
        return AskHiddenStates(places, _maybe_integer(record["layers"], "layers"))
    if names == {"demonstration"}:
        return Demonstrate(_maybe_integer(record["demonstration"], "demonstration"))
    if names == {"text"}:
        return Decode(_prefix(record["text"]))
    if len(names) == 1 and names <= _CONSULTED.keys():
        (name,) = names
        return Consult(_CONSULTED[name], _prefixes(record[name]))
    raise InvalidInput(f"a session sends messages, not a record of {sorted(names)!r:.80}")


_QUERY = {"prefix", "n", "length", "report", "forced"}


def _query(data: object) -> Query:
    record = _record(data, "a query", _QUERY)
    report, forced = record["report"], record["forced"]
    if type(report) is not str:
        raise InvalidInput(f"a query's report must be text, got {report!r:.80}")
    return Query(
        _prefix(record["prefix"]),
        _integer(record["n"], "n"),
        _maybe_integer(record["length"], "length"),
        _report(report),
        None if forced is None else _prefix(forced).tokens,
    )


_report = functools.lru_cache(maxsize=256)(Report.parse)


def _record(data: object, what: str, names: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidInput(f"{what} must be a record, got {data!r:.80}")
    record = cast("dict[str, Any]", data)
    if names is not None and record.keys() != names:
        raise InvalidInput(f"{what} must have {sorted(names)}, got {sorted(record)!r:.80}")
    return record


def _list(data: object, what: str) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidInput(f"{what} must be a list, got {data!r:.80}")
    return cast("list[Any]", data)


def _integer(data: object, what: str) -> int:
    if type(data) is not int:
        raise InvalidInput(f"{what} must be an integer, got {data!r:.80}")
    return data


def _maybe_integer(data: object, what: str) -> int | None:
    return None if data is None else _integer(data, what)


def _prefix(data: object) -> Prefix:
    tokens = tuple(_list(data, "a prefix"))
    if not all(type(token) is int for token in tokens):
        raise InvalidInput(f"tokens must be integers, got {tokens!r:.80}")
    return Prefix.of(tokens)


def _prefixes(data: object) -> tuple[Prefix, ...]:
    return tuple(map(_prefix, _list(data, "prefixes")))


# ---- answers ------------------------------------------------------------------------------------


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """An answer and the account after it, as JSON values."""
    told: dict[str, Any] = {"spent": list(answer.spent)}
    if answer.error is not None:
        return {**told, "error": _error_to_json(answer.error)}
    value = answer.value
    kind = "plain"
    if isinstance(value, Prefix):
        kind = "prefix"
    elif isinstance(value, np.ndarray):
        kind = "array"
    elif isinstance(value, list) and value and isinstance(value[0], Reply):
        kind = "replies"
    return {**told, kind: value_to_json(cast("object", value))}


def answer_from_json(data: dict[str, Any]) -> Answer:
    """The inverse of ``answer_to_json``, on the learner's side, which trusts the door's."""
    spent = Cost(*data["spent"])
    if "error" in data:
        return Answer(None, _error_from_json(data["error"]), spent)
    if "replies" in data:
        return Answer(replies_from_json(data["replies"]), None, spent)
    if "array" in data:
        return Answer(array_from_json(data["array"]), None, spent)
    if "prefix" in data:
        return Answer(Prefix(tuple(data["prefix"])), None, spent)
    return Answer(data["plain"], None, spent)


def _error_to_json(error: Exception) -> list[Any]:
    if isinstance(error, AccessDenied):
        return [AccessDenied.__name__, error.query, error.rule, error.weakest]
    if isinstance(error, BudgetExceeded):
        return [BudgetExceeded.__name__, error.currency, error.requested, error.remaining]
    return [type(error).__name__, str(error)]


def _error_from_json(data: list[Any]) -> Exception:
    kind = getattr(errors, data[0], RerootError)
    return kind(*data[1:])


# ---- what a session knows from the start ----------------------------------------------------------


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """What a learner may know before it asks anything.

    A rule for the ends or for equal answers that is a function, not data, stays here: the other side
    asks for it (``answer_call``).
    """
    return {
        "prompt": list(facts.prompt),
        "vocab_size": facts.vocab_size,
        "horizon": facts.horizon,
        "stop": stop_to_json(facts.stop),
        "contract": str(facts.contract),
        "budget": facts.budget.to_dict(),
        "rng_key": [f"{word:016x}" for word in facts.rng_key],
        "equality": facts.equality is not None,
        "prices": None if facts.prices is None else facts.prices.to_dict(),
    }


def facts_from_json(data: dict[str, Any], call: Call) -> Facts:
    """The inverse of ``facts_to_json``; ``call`` reaches the side that has sent them."""
    stop = _AskedEnds(call) if data["stop"] is None else stop_from_json(data["stop"])
    return facts_with(data, stop, _AskedEquality(call) if data["equality"] else None)


def facts_with(data: dict[str, Any], stop: EndRule, equality: Equality | None) -> Facts:
    """Facts as ``facts_to_json`` writes them, but for their rules, which are given."""
    first, second = (int(word, 16) for word in data["rng_key"])
    return Facts(
        prompt=as_tokens(data["prompt"]),
        vocab_size=data["vocab_size"],
        horizon=data["horizon"],
        stop=stop,
        contract=Contract.parse(data["contract"]).resolved,
        budget=Budget(**data["budget"]),
        rng_key=(first, second),
        equality=equality,
        prices=None if data["prices"] is None else Prices(**data["prices"]),
    )


def stop_to_json(stop: EndRule) -> dict[str, Any] | None:
    """A rule as data, or ``None`` where it is a function."""
    if not isinstance(stop, Stop) or not isinstance(stop.writing, Pieces | None):
        return None
    table = None if stop.writing is None else [_text(piece) for piece in stop.writing.table]
    return {
        "tokens": sorted(stop.tokens),
        "texts": [_text(text) for text in stop.texts],
        "closing": sorted(stop.closing),
        "table": table,
        "gap": _text(stop.gap),
    }


def stop_from_json(data: dict[str, Any]) -> Stop:
    """The inverse of ``stop_to_json``, where it gave data."""
    table = data["table"]
    return Stop(
        frozenset(data["tokens"]),
        tuple(map(_bytes, data["texts"])),
        frozenset(data["closing"]),
        None if table is None else Pieces(tuple(map(_bytes, table))),
        _bytes(data["gap"]),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


@dataclass(frozen=True, slots=True)
class _AskedEnds:
    call: Call

    def ends(self, tokens: Sequence[int]) -> bool:
        return bool(self.call("ends", [list(tokens)]))


@dataclass(frozen=True, slots=True)
class _AskedEquality:
    call: Call

    def find(self, text: str) -> str | None:
        return self.call("find", [text])

    def same(self, answer: str, found: str) -> bool | float:
        return self.call("same", [answer, found])


def answer_call(facts: Facts, verb: object, arguments: object) -> object:
    """What a rule of the door's side says to the other side: a JSON value.

    Raises:
        InvalidInput: there is no such rule, an argument is not of its type, or the rule fails; then
            the error says nothing of what it raised.
    """
    given = _list(arguments, "arguments")
    if verb == "ends" and len(given) == 1:
        return _asked(facts.stop.ends, _prefix(given[0]).tokens)
    texts = all(isinstance(text, str) for text in given)
    equality: Equality | None = facts.equality
    if equality is not None and texts and (verb, len(given)) in (("find", 1), ("same", 2)):
        return _asked(equality.find if verb == "find" else equality.same, *given)
    raise InvalidInput(f"there is no rule {verb!r:.40} to be asked with {len(given)} arguments")


def _asked(rule: Callable[..., object], *given: object) -> object:
    try:
        said = rule(*given)
    except Exception:
        raise InvalidInput(
            "a rule of the problem failed; the learner's side is not told how"
        ) from None
    if said is None or isinstance(said, (str, bool, int, float)):
        return said
    return bool(said)
