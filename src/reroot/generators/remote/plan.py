"""From a request to calls over the wire, and from what they answer to its reply."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...contract import Sampling
from ...errors import BackendError, InvalidInput
from ...randomness import Key
from ...types import PAD, Chat, FloatArray, IntArray, Prefix, Reply, read_only
from ..base import Request
from .dialects import WHOLE, Call, Dialect
from .laws import dense, drawn, logprob, most, needed
from .replies import Ranked, Read, Row

_CELLS = 1 << 19
"""Most log-probabilities that one answer may hold: some tens of megabytes of JSON."""
_MOST_STOPS = 64
"""Most stop tokens that are sent; what they miss is cut here."""


@dataclass(frozen=True, slots=True)
class Server:
    """What decides how a request is split into calls.

    Attributes:
        table: the dialect.
        vocab: K.
        longest: the longest list that the server gives; K: the whole law.
        choices: most continuations per call.
        own_ends: tokens at which the server ends by itself.
    """

    table: Dialect
    vocab: int
    longest: int
    choices: int
    own_ends: frozenset[int]


def calls(server: Server, request: Request, said: str | Chat | None = None) -> list[Call]:
    """What is asked over the wire for ``request``; the last one, of one token, may be its law alone.

    Raises:
        InvalidInput: the server cannot do it; says why.
    """
    top = list_length(server, request)
    if request.forced is not None:
        return _scoring(server, request, top)
    if not request.report.draws:
        return [_mode(server, request, top)]
    base = Call(
        prompt=(*request.prompt, *request.prefix),
        said=said,
        length=request.length if server.table.ids else request.length * 5 // 4 + 8,
        sampling=request.sampling,
        top=top,
        **_ends(server, request),  # type: ignore[arg-type]
    )
    law: list[Call] = []
    if request.length == 1 and request.n > 1 and top:  # one law serves all draws of one token
        law = [replace(base, top=top)]
        whole = top == WHOLE or top >= server.vocab
        base = replace(base, top=None if whole else 0)
    cells = request.length * max(1, server.vocab if base.top == WHOLE else base.top or 0)
    rows = max(1, min(server.choices, _CELLS // cells))
    starts = range(0, request.n, rows)
    drawn_calls = [
        replace(
            base,
            n=min(rows, request.n - i),
            seed=seed_of(request.key, request.first + i, server.table),
        )
        for i in starts
    ]
    return drawn_calls + law


def list_length(server: Server, request: Request) -> int | None:
    """How long lists must be for the report; ``None``: no log-probabilities.

    Raises:
        InvalidInput: longer than the server's.
    """
    report = request.report
    if not (report.has_logprob or report.top):
        return None
    if report.has_law:
        top = needed(request.sampling, server.vocab, server.vocab)
    else:
        top = needed(request.sampling, report.top, server.vocab)
    if (server.vocab if top == WHOLE else top) > server.longest:
        raise InvalidInput(
            f"{report} at {request.sampling} needs lists of {'the whole law' if top == WHOLE else top}, "
            f"and the server's have at most {server.longest} tokens"
        )
    return WHOLE if top >= server.vocab else top


def _ends(server: Server, request: Request) -> dict[str, object]:
    """Where the server may stop: at all of the rule's ends that it can be told, and at no others."""
    stop, fields = request.stop, server.table.fields
    if not server.table.ids:  # a text that ends at a stop text is returned without it
        return {}
    goes_on = not server.own_ends <= stop.tokens and request.length > 1
    if goes_on and "goes_on" not in fields:
        raise InvalidInput(
            f"this server ends outputs at its tokens {sorted(server.own_ends)}, and was asked to go on"
        )
    texts = _texts(stop.texts) if not stop.gap and len(stop.texts) <= 4 else ()
    tokens = sorted(stop.tokens - server.own_ends) if "stop_tokens" in fields else []
    return {
        "goes_on": goes_on,
        "stop_texts": texts if request.length > 1 else (),
        "stop_tokens": tuple(tokens) if len(tokens) <= _MOST_STOPS else (),
    }


def _texts(wanted: Sequence[bytes]) -> tuple[str, ...]:
    try:
        return tuple(text.decode() for text in wanted)
    except UnicodeDecodeError:
        return ()


def _mode(server: Server, request: Request, top: int | None) -> Call:
    """The most likely tokens: greedy, with lists of the base law."""
    return Call(
        prompt=(*request.prompt, *request.prefix),
        length=request.length,
        sampling=Sampling(temperature=0.0),
        top=max(1, top) if top is not None and top != WHOLE else top,
        seed=0,
        **_ends(server, request),  # type: ignore[arg-type]
    )


def _scoring(server: Server, request: Request, top: int | None) -> list[Call]:
    forced = request.forced or ()
    start = (*request.prompt, *request.prefix)
    if server.table.scores == "prompt" and len(start):
        # one new token comes with it: servers that take 0 are few
        return [Call((*start, *forced), top=top, scored=len(forced))]
    if server.table.scores != "steps" and len(start):
        raise InvalidInput(f"servers of the dialect {server.table.name!r} score no given tokens")
    whole = top == WHOLE
    return [
        Call((*start, *forced[:i]), top=top, force=None if whole else token, seed=0)
        for i, token in enumerate(forced)
    ]


def seed_of(key: Key, row: int, table: Dialect) -> int:
    """The seed of continuation ``row`` of a stream: the same however rows are split into calls."""
    start = 0 if table.consecutive else row
    data = np.array([*key, start], dtype=np.uint64).tobytes()
    number = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return number % (1 << table.seed_bits) + row - start


# ---- replies ------------------------------------------------------------------------------------


def reply(server: Server, request: Request, asked: Sequence[Call], found: Sequence[Read]) -> Reply:
    """The reply to ``request`` from the answers to its calls.

    Raises:
        BackendError: what came back cannot have been drawn as asked, or ended too early.
    """
    if request.forced is not None:
        return _scored(server, request, asked, found)
    rows = [row for answer in found for row in answer.rows]
    shared: Ranked | None = None
    if len(rows) > request.n:  # the law alone came last
        shared = rows.pop().lists[0]
    for row in rows:
        row.ids = row.ids[: _end(request, row)]
        if shared is not None:
            row.lists = [shared]
    return _assembled(server, request, rows)


def _end(request: Request, row: Row) -> int:
    """How many of a row's tokens belong to the output.

    Raises:
        BackendError: the server ended where the rule does not.
    """
    stop, output = request.stop, (*request.prefix, *row.ids)
    if not (stop.tokens.isdisjoint(row.ids) and stop.closing.isdisjoint(row.ids)):
        for end in range(len(request.prefix) + 1, len(output) + 1):
            if stop.ends(output[:end]):
                return end - len(request.prefix)
    if len(row.ids) < request.length:
        raise BackendError(
            f"the server ended an output after {len(row.ids)} of {request.length} tokens at token "
            f"{row.ids[-1]}, which is no end token; name it with ends=…"
        )
    return len(row.ids)


def _scored(
    server: Server, request: Request, asked: Sequence[Call], found: Sequence[Read]
) -> Reply:
    forced = request.forced or ()
    if asked[0].scored:
        scores = found[0].rows[0].scores
        row = Row(list(forced), lists=[s[2] for s in scores], logprobs=[s[1] for s in scores])
    else:
        firsts = [answer.rows[0] for answer in found]
        row = Row(list(forced), lists=[r.lists[0] for r in firsts if r.lists])
        for call, token, first in zip(asked, forced, firsts, strict=True):
            if call.force is not None and first.ids[0] != token:
                raise BackendError(f"token {token} was to be forced, {first.ids[0]} came")
            row.logprobs.append(
                first.logprobs[0] if call.force is not None else listed_in(first.lists[0], token)
            )
    return _assembled(server, request, [row])


def listed_in(law: Ranked, token: int) -> float:
    """Nats of a token in a whole law (``BackendError``: it is not in it)."""
    at = np.flatnonzero(law[0] == token)
    if not len(at):
        raise BackendError(f"the whole law was asked for, and token {token} is not in it")
    return float(law[1][at[0]])


def _assembled(server: Server, request: Request, rows: Sequence[Row]) -> Reply:
    """Arrays of all rows, ``PAD`` and 0 beyond their ends."""
    report, vocab = request.report, server.vocab
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    n, longest, k = len(rows), int(lengths.max()), min(report.top, vocab)
    tokens = np.full((n, longest), PAD, dtype=np.int64)
    stated, base = np.zeros((n, longest)), np.zeros((n, longest))
    top_tokens = np.full((n, longest, k), PAD, dtype=np.int64)
    top_logprobs = np.zeros((n, longest, k))
    alike = longest == 1 and all(row.lists[0] is rows[0].lists[0] for row in rows if row.lists)
    held = 1 if alike and report.has_law else n
    laws = np.zeros((held, longest, vocab)) if report.has_law else None
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = row.ids
        for t in range(len(row.ids)) if report.has_logprob or k else ():
            law = drawn(row.lists[t], request.sampling, vocab) if row.lists else None
            if k and law is not None:
                top_tokens[i, t], top_logprobs[i, t] = most(law, k)
            if not report.draws:
                tokens[i, t] = _greedy(row, t, top_tokens[i, t])
            if report.has_logprob:
                stated[i, t], base[i, t] = _logprobs(server, request, row, t)
            if laws is not None and law is not None and i < held:
                laws[i, t] = _whole(row.lists[t], law, vocab)
    return Reply(
        Prefix(request.prefix),
        read_only(tokens),
        read_only(lengths),
        read_only(stated) if report.has_logprob else None,
        read_only(top_tokens) if k else None,
        read_only(top_logprobs) if k else None,
        None if laws is None else read_only(np.broadcast_to(read_only(laws), (n, longest, vocab))),
        read_only(base) if report.has_logprob else None,
    )


def _greedy(row: Row, t: int, listed: IntArray) -> int:
    """The most likely token, which the server must have followed, for what comes after it."""
    if row.ids[t] != listed[0] and t < len(row.ids) - 1:
        raise BackendError(
            f"at temperature 0 the server went on with token {row.ids[t]}, its list begins with {listed[0]}"
        )
    return int(listed[0])


def _logprobs(server: Server, request: Request, row: Row, t: int) -> tuple[float, float]:
    """(nats of token t under the law that is drawn from, under the base law)."""
    token = row.ids[t]
    whole = bool(row.lists) and len(row.lists[t][0]) >= server.vocab
    base = row.logprobs[t] if row.logprobs else listed_in(row.lists[t], token)
    if request.sampling.is_base:
        return base, base
    if not whole and token not in row.lists[t][0]:
        own = None
    else:
        own = logprob(row.lists[t], request.sampling, server.vocab, token)
    if own is None and request.forced is None:
        raise BackendError(
            f"the server drew token {token}, which is impossible at {request.sampling}"
        )
    return (-math.inf if own is None else own), base


def _whole(listed: Ranked, law: Ranked, vocab: int) -> FloatArray:
    if len(listed[0]) < vocab:
        raise BackendError(f"the law has {len(listed[0]):,} of {vocab:,} tokens")
    return dense(law, vocab)
