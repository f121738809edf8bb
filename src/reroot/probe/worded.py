"""Draws and lists of servers that speak in texts: tokens are known by their texts alone.

Texts that several tokens may have (none at all, or half a character) count as unlisted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInput
from ..generators.remote.dialects import Call, spelt
from .asking import LAW_FIELDS, Fails, NotAsked, lies_fail
from .sampling_law import Drawn
from .site import Site, Worded

_TEXTS = ("My", "The", "It is", "1, 7,", "So", "Once upon")
_DRAWS = 1536
"""Draws of one token, in as few calls as the server takes."""
_MANY = 1 << 17
"""Stands for the size of a vocabulary that nobody tells."""


def lists(site: Site) -> str:
    """How long are the lists, and where is the law rough enough for draws to show it?"""
    if site.table.path == "/v1/responses":
        raise NotAsked("reroot reads no log-probabilities of this dialect")
    found: list[Worded] = []
    most, refused = site.table.longest or 5, ""
    for text in _TEXTS:
        try:
            names, _ = _asked(site, text, most, 1, "neutral", 1)
        except InvalidInput as error:
            refused = str(error)
            break
        found.append(names)
    if not found:
        raise Fails(f"lists of {most} are refused ({refused})")
    site.worded = max(found, key=_telling)
    count = len(site.worded.names)
    mass = float(np.exp(site.worded.logprobs).sum())
    if not count:
        raise Fails("log-probabilities were asked for, and none came: ignored in silence")
    return f"{count} tokens by text, which sum to {mass:.4f}; not by id, so that no contract rests on them"


def _telling(listed: Worded) -> float:
    """What one draw tells of a temperature: the variance of listed log-probabilities, each by its probability."""
    logs = np.array(listed.logprobs)
    if not len(logs):
        return -1.0
    p = np.exp(logs)
    return float(p @ (logs - p @ logs / p.sum()) ** 2)


def gathered(site: Site, mode: str, seed: int) -> list[Drawn]:
    """Draws of first tokens beside the list that is stated where every field is neutral."""
    listed = site.worded
    if listed is None or not listed.names:
        raise NotAsked("no list was stated")
    drawn: list[str] = []
    size = min(_DRAWS, site.table.choices)
    while len(drawn) < _DRAWS:
        n = min(size, _DRAWS - len(drawn))
        _, words = _asked(site, listed.prompt, len(listed.names), n, mode, seed + len(drawn))
        drawn += words
    place = {name: i for i, name in enumerate(listed.names)}
    others = {name: i for i, name in enumerate(dict.fromkeys(w for w in drawn if w not in place))}
    tokens = [place.get(word, len(place) + others.get(word, 0)) for word in drawn]
    ids, logs = np.arange(len(place)), np.minimum(np.array(listed.logprobs), 0.0)
    return [Drawn(ids, logs, np.array(tokens), (), _MANY)]


def _asked(
    site: Site, text: str, top: int, n: int, mode: str, seed: int
) -> tuple[Worded, list[str]]:
    """(the list of the first token, the texts of n first tokens)."""
    table, chat = site.table, site.table.path != "/v1/completions"
    call = Call((), said=text, n=n, length=1, seed=seed if "seed" in table.fields else None)
    body = spelt(table, call, site.asker.model)
    if mode != "neutral":
        body = {k: v for k, v in body.items() if k not in LAW_FIELDS}
    if mode == "alone":
        body["temperature"] = 1.0
    body |= {"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top}

    def cost(answer: Any) -> int:
        usage = answer["usage"]
        return int(usage["prompt_tokens"]) + int(usage["completion_tokens"])

    worst = len(text.encode()) + site.asker.around + n
    with lies_fail():
        answer = site.asker.post(table.path, body, worst, cost)
    try:
        choices: Sequence[Any] = answer["choices"]
        if len(choices) != n:
            raise Fails(f"{n} continuations were asked for, {len(choices)} came back")
        firsts = [(_chat if chat else _legacy)(choice["logprobs"]) for choice in choices]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Fails(
            f"log-probabilities were asked for, and what came is none ({type(error).__name__}: {error})"
        ) from None
    entries = sorted(firsts[0][1].items(), key=lambda e: -e[1])[:top]
    listed = Worded(text, tuple(e[0] for e in entries), tuple(e[1] for e in entries))
    return listed, [word for word, _ in firsts]


def _chat(stated: Any) -> tuple[str, dict[str, float]]:
    if not stated or not stated["content"]:
        return "", {}
    first = stated["content"][0]
    merged: dict[str, float] = {}
    for entry in first["top_logprobs"]:
        name, own = str(entry["token"]), float(entry["logprob"])
        merged[name] = float(np.logaddexp(merged[name], own)) if name in merged else own
    return str(first["token"]), _plain(merged)


def _legacy(stated: Any) -> tuple[str, dict[str, float]]:
    if not stated or not stated["tokens"]:
        return "", {}
    return str(stated["tokens"][0]), _plain(dict(stated["top_logprobs"][0]))


def _plain(entries: dict[str, float]) -> dict[str, float]:
    """Without texts that several tokens may have (``ValueError``: a number is none)."""
    kept = {name: float(value) for name, value in entries.items() if name and "\ufffd" not in name}
    if any(not -np.inf <= value <= 1e-3 for value in kept.values()):
        raise ValueError(f"log-probabilities {sorted(kept.values())[-3:]}")
    return kept
