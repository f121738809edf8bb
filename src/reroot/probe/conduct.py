"""Claims about how a server behaves: seeds, repetition, cache, logit bias, unknown fields, ends, faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import InvalidInput
from ..generators.remote.dialects import Call
from ..generators.remote.laws import difference
from ..generators.remote.replies import Row
from .asking import Ask, Fails, NotAsked, lies_fail
from .laws import usual
from .site import AGREE, Site

_LONG = 160
"""Tokens of a prompt whose computation takes a time that can be seen."""
_ENDS = 8
"""Most tokens that a model can have to end outputs with."""
_BIASED = 8
"""Draws that a bias must make alike."""
_FAULTS = 0.01
"""Share of calls that may fail, as connections that are closed for being idle do."""
UNKNOWN = "reroot_field_that_does_not_exist"


def prompt_of(site: Site, text: str = "Once upon a time") -> Call:
    """A call with a prompt in the form that the dialect takes."""
    if site.table.ids:
        return Call(site.rough or usual(site))
    return Call((), said=text)


def said_by(row: Row) -> tuple[int, ...] | str:
    """What a continuation is, in the dialect's own form."""
    return tuple(row.ids) or row.text


def continuations(site: Site) -> str:
    """Does anything come back, and no more than was asked for?"""
    call = replace(prompt_of(site), length=4, seed=1)
    if site.table.ids:
        call = replace(call, prompt=usual(site))
    with lies_fail():
        (answer,) = site.asker.ask([call])
    (row,) = answer.rows
    if answer.generated > 4 and site.table.path != "/v1/responses":
        raise Fails(f"{answer.generated} tokens came where at most 4 were asked for")
    return f"{len(row.ids) or answer.generated} tokens came where 4 were asked for"


def seeds(site: Site) -> str:
    """Does the same seed give the same tokens, alone and beside others?"""
    if "seed" not in site.table.fields:
        raise NotAsked("the dialect has no seeds")
    one = replace(prompt_of(site), length=8, seed=3)
    others = [replace(one, seed=s) for s in range(4, 11)]
    with lies_fail():
        serial = [said_by(site.asker.rows([one])[0]) for _ in range(3)]
        beside = [said_by(row) for row in site.asker.rows([one, *others])]
    if len(set(serial)) > 1:
        raise Fails("the same seed gave other tokens, one call after the other")
    if beside[0] != serial[0]:
        raise Fails(
            "the same seed gave other tokens beside seven other calls; alone it gave the same"
        )
    if len(set(beside)) == 1:
        raise Fails("eight seeds gave the same tokens")
    if site.table.consecutive and site.choices > 1:
        with lies_fail():
            rows = site.asker.rows([replace(one, n=3)])
        if [said_by(row) for row in rows] != beside[:3]:
            raise Fails("choice i of a call is not what the seed + i gives alone")
    return "the same tokens again, three times alone and once beside seven others"


def repeatable(site: Site) -> str:
    """Does the same request give the same numbers, alone and beside others?"""
    site.need_lists()
    prompt = site.tokens(12)
    with lies_fail():
        first = site.asker.law(prompt, site.top)
        again = site.asker.law(prompt, site.top)
        call = Call(prompt, top=site.top, seed=1)
        others = [Call(site.tokens(12), top=site.top, seed=1) for _ in range(3)]
        beside = [row.lists[0] for row in site.asker.rows([call, *others])[:1] if row.lists]
    apart = [difference(first, other) for other in (again, *beside)]
    if max(apart) > AGREE:
        raise Fails(f"the same request gave log-probabilities {max(apart):.2g} nats apart")
    return f"the same list again, alone within {apart[0]:.1g} nats, beside others within {apart[-1]:.1g}"


def cache(site: Site) -> str:
    """Does a prefix cache change values, and does it show in time?"""
    site.need_lists()
    times: dict[bool, list[float]] = {False: [], True: []}
    told, worst = 0, 0.0
    fresh = np.random.default_rng(time.time_ns())  # no earlier probe may have asked for them
    for _ in range(2):
        prompt, laws = site.tokens(_LONG, fresh), []
        for again in (False, True, True):
            begun = time.monotonic()
            with lies_fail():
                (answer,) = site.asker.ask([Call(prompt, top=site.top, seed=11)])
            times[again].append(time.monotonic() - begun)
            laws += answer.rows[0].lists[:1]
            told = max(told, answer.cached if again else 0)
        worst = max([worst, *(difference(laws[0], law) for law in laws[1:])])
    spared = (
        f"{told} of {_LONG} prompt tokens are said to be cached"
        if told
        else "no cached tokens are told"
    )
    first, again = (float(np.median(times[key])) for key in (False, True))
    seen = f"{spared}; a prompt takes {first * 1e3:.0f} ms at first and {again * 1e3:.0f} ms again"
    if worst > AGREE:
        raise Fails(
            f"a prompt that was asked before has log-probabilities {worst:.2g} nats away; {seen}"
        )
    return f"values are the same within {worst:.1g} nats; {seen}"


def logit_bias(site: Site) -> str:
    """Does a bias on one token make it come?"""
    if site.table.name == "responses":
        raise NotAsked("the dialect has no logit bias")
    token = site.tokens(1)[0] if site.vocab else 300
    name, value = "logit_bias", {str(token): 100}
    if site.table.name == "llamacpp":
        value = [[token, 1000.0]]
    if site.table.name == "sglang":
        name = "sampling_params.logit_bias"
    call = replace(prompt_of(site), seed=1)
    asked = [Ask(replace(call, seed=i), extra={name: value}) for i in range(_BIASED)]
    plain = [replace(call, seed=i) for i in range(_BIASED)]
    try:
        with lies_fail():
            biased = [said_by(row) for row in site.asker.rows(asked)]
            free = [said_by(row) for row in site.asker.rows(plain)]
    except InvalidInput as error:
        raise Fails(f"it is refused: {error}") from None
    if site.table.ids and set(biased) != {(token,)}:
        raise Fails(
            f"a bias towards token {token} brought it {biased.count((token,))} of {_BIASED} times"
        )
    if len(set(biased)) > 1 or set(biased) == set(free):
        raise Fails(
            f"{_BIASED} draws with a bias towards token {token} are {len(set(biased))} kinds of text"
        )
    return f"a bias towards token {token} brought it {_BIASED} of {_BIASED} times"


def unknown_fields(site: Site) -> str:
    """Is a field that does not exist refused?"""
    call = replace(prompt_of(site), seed=1)
    try:
        with lies_fail():
            site.asker.ask([Ask(call, extra={UNKNOWN: 1})])
    except InvalidInput as error:
        return f"it is refused: {error}"
    raise Fails(
        "a field that does not exist is accepted in silence: what is misspelt has no effect"
    )


def stop_reasons(site: Site) -> str:
    """Is an output that ended said to have ended, and one that was cut to have been cut?"""
    site.need_lists()
    with lies_fail():
        asked = [
            Call(site.rough or usual(site), n=site.choices, seed=60_000 + 997 * i) for i in range(3)
        ]
        rows = site.asker.rows(asked if site.choices > 8 else _many(asked[0], 24))
    return _ends(site, rows)


def _many(call: Call, n: int) -> Sequence[Call]:
    return [replace(call, seed=60_000 + i) for i in range(n)]


def _ends(site: Site, rows: Sequence[Row]) -> str:
    ended = {row.ids[-1] for row in rows if row.ended}
    cut = {row.ids[-1] for row in rows if not row.ended}
    known = site.speech.stops(()).tokens if site.speech else frozenset[int]()
    both = ended & cut
    if len(ended) > _ENDS or both:
        what = f"token {min(both)}" if both else f"{len(ended)} different tokens"
        raise Fails(f"{what} of {len(rows)} cut outputs are said to have ended them")
    if missed := known & cut:
        raise Fails(f"the end token {min(missed)} is said to have been cut")
    return f"{len(rows)} outputs of one token; {len(ended)} tokens are said to end one"


def service(site: Site) -> str:
    """Were calls answered at once, in the dialect's shape?"""
    faults, busy = site.asker.faults, site.asker.wire.repeated
    told = f"; it said {busy} times that it was busy" if busy else ""
    if not faults:
        return f"{site.asker.answered:,} calls were answered, none had to be asked again{told}"
    kinds, calls = ", ".join(sorted({_kind(f) for f in faults})), site.asker.answered + len(faults)
    seen = f"{len(faults)} of {calls:,} calls had to be asked again: {kinds}{told}"
    if len(faults) > _FAULTS * calls:
        raise Fails(seen)
    return seen


def _kind(fault: str) -> str:
    """A fault without what differs from one to the next."""
    known = (
        "HTTP 429",
        "HTTP 500",
        "HTTP 502",
        "HTTP 503",
        "no JSON",
        "is no",
        "down",
        "answered within",
    )
    names = {"is no": "an answer of another shape", "no JSON": "half an answer, or no JSON"}
    names |= {"answered within": "too late"}
    return next((names.get(k, k) for k in known if k in fault), fault[:80])
