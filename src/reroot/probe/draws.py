"""Claims about draws: do they follow the law that is stated, and which sampling settings hide where it is not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import binom

from ..contract import Sampling
from ..errors import InvalidInput
from ..generators.remote.dialects import Call
from ..generators.remote.laws import difference
from ..generators.remote.laws import drawn as drawn_law
from ..generators.remote.replies import Ranked, Row
from ..types import IntArray
from . import worded
from .asking import Ask, Fails, NotAsked, OutOfBudget, lies_fail
from .repeats import REPEATS, fewer, repeats
from .sampling_law import Drawn, Finding, Setting, estimate, follows
from .site import AGREE, EACH, Site, entropy
from .written import owned, pairs

NEUTRAL, ALONE, SILENT = "neutral", "alone", "silent"
_TOLD_AS = {
    NEUTRAL: "every field neutral",
    ALONE: "temperature=1 alone",
    SILENT: "no sampling field",
}
_DRAWS = {NEUTRAL: 500, ALONE: 300, SILENT: 700}
"""How many draws of one token; most where settings are most likely to hide."""
_SHARE = {NEUTRAL: 0.2, ALONE: 0.1, SILENT: 0.3}
"""Of the budget, at most."""
_ROLLOUTS, _LENGTH = 8, 24
"""Outputs whose own tokens may be punished when they come again."""
_TOLD = (Sampling(0.5), Sampling(1.0, 1.0, 3), Sampling(1.0, 0.5, 0))
"""Sampling laws that fields must bring about, with ``_TOLD_DRAWS`` draws each."""
_TOLD_DRAWS = 48
_CERTAIN = 0.5
"""Nats of entropy below which draws show nothing."""


def choices(site: Site) -> str:
    """How many continuations come from one call, and are they drawn independently of each other?"""
    most = site.table.choices
    if "n" not in site.table.fields or most < 2:
        raise NotAsked("the dialect has one continuation per call")
    if not site.law:
        raise NotAsked("independence is judged beside a law, and none may be relied on")
    rows: list[Row] = []
    refused = ""
    for n in (2, 16, 64, min(most, 128)):
        call = Call(site.rough, n=n, seed=7000 + 1009 * n)
        try:
            with lies_fail():
                rows += site.asker.rows([call])
        except InvalidInput as error:
            refused, site.most_choices = f"; {n} are refused ({error})", site.choices
            break
        site.choices = n
    if fault := _alike(site.law, [row.ids[0] for row in rows]):
        site.choices = site.most_choices = 1
        raise Fails(fault)
    if not rows:
        raise Fails(f"not even 2 continuations{refused}")
    return f"{site.choices} came from one call, {len(rows)} in all are as often alike as the law says{refused}"


def _alike(law: Ranked, tokens: Sequence[int]) -> str:
    """What is wrong with draws that should be independent: neighbours that are equal too often."""
    p = np.exp(law[1])
    rest = max(0.0, 1.0 - float(p.sum()))
    equal = float((p**2).sum()) + rest**2  # at most: what is left out as one token
    pairs = len(tokens) // 2
    same = sum(tokens[2 * i] == tokens[2 * i + 1] for i in range(pairs))
    if pairs and binom.sf(same - 1, pairs, min(equal, 1.0)) < EACH:
        return (
            f"{same} of {pairs} pairs of neighbouring choices are equal, where the law says "
            f"{pairs * equal:.1f}: they are copies, not independent draws"
        )
    return ""


def draw(site: Site, prompt: tuple[int, ...], n: int, mode: str, seed: int) -> IntArray:
    """(n,) tokens drawn at a prompt; no lists are asked for, which cost time."""
    size = min(site.choices, n)
    asked = [
        _told(site, Call(prompt, n=min(size, n - i), seed=seed + 1009 * i), mode)
        for i in range(0, n, size)
    ]
    return np.array([row.ids[0] for row in site.asker.rows(asked)], dtype=np.int64)


def _told(site: Site, call: Call, mode: str) -> Ask:
    if mode == NEUTRAL:
        return Ask(call)
    alone = {site.table.fields["temperature"]: 1.0} if mode == ALONE else {}
    return Ask(call, silent=True, extra=alone)


def _more(site: Site, mode: str) -> list[Drawn]:
    """Further draws, to name what is hidden; none where the budget does not reach."""
    if not site.table.ids:
        return []
    try:
        return gathered(site, mode, 500_000_000)
    except OutOfBudget:
        return []


def gathered(site: Site, mode: str, start: int = 0) -> list[Drawn]:
    """Draws at the places, beside the laws that are stated there where every field is neutral.

    Args:
        start: of the seeds.
    """
    shares = sum(place.share for place in site.places)
    prompts = sum(place.share * len(place.prompt) for place in site.places) / shares
    each = 1 + prompts / min(site.choices, 64)  # tokens of one draw
    most = min(_DRAWS[mode], int(_SHARE[mode] * site.asker.budget / each))
    found: list[Drawn] = []
    with lies_fail():
        for i, place in enumerate(site.places):
            n = max(1, round(most * place.share / shares))
            seed = start + 10_000_000 * (1 + list(_DRAWS).index(mode)) + 1_000_003 * i
            tokens = draw(site, place.prompt, n, mode, seed)
            found.append(site.drawn(place.law, tokens, place.prompt))
    return found


def _rollouts(site: Site, mode: str) -> list[Drawn]:
    """Draws along rollouts beside the lists that come with them, if such lists are those of neutral fields."""
    assert site.law is not None
    told = _told(site, Call(site.rough), mode)
    if difference(site.asker.law(site.rough, site.top, told), site.law) > AGREE:
        return []  # lists there are of another law than the base law
    start = 900 + 100 * list(_DRAWS).index(mode)
    call = Call(site.rough, length=_LENGTH, top=site.top)
    asked = [replace(told, call=replace(call, seed=start + i)) for i in range(_ROLLOUTS)]
    found: list[Drawn] = []
    for row in site.asker.rows(asked):
        for t, (token, (ids, logs)) in enumerate(zip(row.ids, row.lists, strict=False)):
            at = (*site.rough, *row.ids[:t])
            found.append(site.drawn((ids[: site.top], logs[: site.top]), [token], at, t))
    return found


def _need_chance(site: Site) -> None:
    if not site.table.ids:
        return
    site.need_lists()
    if site.law is None:
        raise NotAsked("no law was stated")
    if entropy(site.law) < _CERTAIN:
        raise NotAsked(f"the law has {entropy(site.law):.2f} nats of entropy: draws show nothing")


def neutral(site: Site) -> str:
    """Do draws follow the stated law where every sampling field is neutral?"""
    _need_chance(site)
    return _judged(site, NEUTRAL)


def alone(site: Site) -> str:
    """Do draws follow the law where temperature=1 is all that is said?"""
    _need_chance(site)
    return _judged(site, ALONE)


def silent(site: Site) -> str:
    """Do draws follow the law where nothing is said of sampling?"""
    _need_chance(site)
    return _judged(site, SILENT)


def _judged(site: Site, mode: str) -> str:
    along: list[Drawn] = []
    twos: list[Drawn] = []
    if site.table.ids:
        drawn = gathered(site, mode)
        with lies_fail():
            along = _rollouts(site, mode)
        twos = pairs(
            site, _told(site, Call(()), mode), 80_000_000 + 100_003 * list(_DRAWS).index(mode)
        )
    else:
        drawn = worded.gathered(site, mode, 1 + 1_000_000 * list(_DRAWS).index(mode))
    where, said = _TOLD_AS[mode], _shown(site.asker.shown)
    own = [owned(one) for one in twos]
    # apart: many prefixes with one draw each would drown what few with many draws say
    tests = [(follows, drawn)]
    tests += [(follows, along), (repeats, along)] if along else []
    tests += [(repeats, drawn + along)] if site.table.ids else []
    tests += [(follows, twos), (repeats, own)] if twos else []
    judged = [test(part, EACH / len(tests)) for test, part in tests]
    seen = "; ".join(found.evidence for found in judged)
    if not all(found.holds for found in judged):
        drawn = drawn + along + twos
        settings = estimate(drawn) or estimate(drawn + _more(site, mode))
        names = [in_words(setting) for setting in settings]
        if _is_punished(judged, drawn + own, settings):
            names += ["a penalty on tokens that came before"]
        named = ", ".join(names) or "no setting that is known explains it"
        says = f"; the server itself says {said}" if said else ""
        written = [_written(s) for s in settings]
        raise Fails(f"{where}: {seen}; estimated: {named}{says}", written)
    if mode == NEUTRAL and said:
        raise Fails(f"{where}: draws fit the law, but the server says that it runs with {said}")
    return f"{where}: {seen}"


def _is_punished(
    judged: Sequence[Finding], drawn: Sequence[Drawn], settings: Sequence[Setting]
) -> bool:
    """Whether repeats show a penalty that has no name yet. Draws that are cut off or sharpened repeat tokens more
    often than the whole law says, so that more repeats mean a penalty (a negative one) where nothing else is found."""
    if any(setting.name.endswith("penalty") for setting in settings):
        return False
    denied = any(found.name == REPEATS and not found.holds for found in judged)
    return denied and (not settings or fewer(drawn))


def _shown(shown: Mapping[str, Any]) -> str:
    """Settings that a llama.cpp server shows and that are not neutral."""
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    odd = {
        name: shown[name]
        for name, value in neutral.items()
        if name in shown and shown[name] != value
    }
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, (int, float)) else f"{name} {value}"
        for name, value in odd.items()
    )


def in_words(setting: Setting) -> str:
    """``top_k 40 (38–41)``."""
    return f"{setting.name} {setting.value:.3g} ({setting.low:.3g}–{setting.high:.3g})"


def _written(setting: Setting) -> dict[str, Any]:
    """As JSON has it: numbers without end are left out."""
    numbers = {"value": setting.value, "low": setting.low, "high": setting.high}
    finite = {k: float(v) if np.isfinite(v) else None for k, v in numbers.items()}
    return {"name": setting.name, **finite, "note": setting.note}


def sampling_fields(site: Site) -> str:
    """Do temperature, top-k and top-p do what they say?"""
    if not site.table.ids:
        raise NotAsked("laws of this dialect are known by text alone")
    _need_chance(site)
    assert site.law is not None
    whole = site.longest == site.vocab
    told = _TOLD if whole else _TOLD[1:2] if site.longest >= 3 else ()
    if "top_k" not in site.table.fields or not told:
        raise NotAsked("needs the field top_k and lists of 3")
    found: list[Drawn] = []
    for i, sampling in enumerate(told):
        size = min(site.choices, _TOLD_DRAWS)
        asked = [
            Call(
                site.rough,
                n=min(size, _TOLD_DRAWS - j),
                sampling=sampling,
                seed=70_000_000 + 10_007 * i + 101 * j,
            )
            for j in range(0, _TOLD_DRAWS, size)
        ]
        with lies_fail():
            tokens = [row.ids[0] for row in site.asker.rows(asked)]
        ids, logs = drawn_law(site.law, sampling, site.vocab)
        if stray := set(tokens) - set(ids.tolist()):
            raise Fails(f"told {sampling}, it draws token {min(stray)}, which is impossible there")
        found.append(site.drawn((ids, logs), tokens, site.rough))
    judged = follows(found, EACH)
    what = "; ".join(map(str, told))
    if not judged.holds:
        raise Fails(f"told {what}, draws do not follow: {judged.evidence}")
    return f"told {what}, draws follow: {judged.evidence}"
