"""``profile.html``: what may be granted, on what evidence, and what an endpoint does that nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract, Report
from ..kit import page as kit
from ..kit.cells import mark, prose
from ..kit.contracts import allowed
from ..kit.formatting import plural
from ..kit.markup import Html
from ..kit.table import Table, columns, grouped
from .settings import settings_table

PAGE = "profile.html"
_ADDS = {
    "continuations": "any continuation at all",
    "token ids": "questions at any prefix, spelled as it is sent (control chosen)",
    "lists": "the most likely tokens, with how likely they are",
    "log-probabilities": "log-probabilities: how likely each drawn token was, and lists",
    "given tokens": "scores of given outputs in one call instead of one call for each of their tokens",
    "choices": "several continuations in one call",
    "draws": "log-probabilities: they are granted as those of the law that is drawn from",
    "raw lists": "laws at another temperature, top-k or top-p than the one that lists are of",
    "sampling fields": "other temperatures, top-k and top-p than the server's own",
    "seeds": "the same draws again from the same seed",
    "repeatable": "log-probabilities: the same question must get the same numbers",
    "cache": "log-probabilities: they must not depend on what was asked before",
    "draws, no field": "nothing where every sampling field is sent, as it always is here; without that, see below",
    "draws, temperature alone": "nothing where every sampling field is sent; other clients send temperature alone",
    "stop reasons": "whether an output ended by itself or was cut",
    "logit bias": "scores of given tokens by forcing them",
    "unknown fields": "an error instead of silence where a setting is misspelt or not known",
    "text boundaries": "texts as prompts that end inside a word",
    "begin token": "texts as prompts that are read as their tokens are",
    "chat template": "chats that are read as the model's own template writes them",
    "last turn": "answers that are begun and then continued",
    "reference": "numbers that may be compared with those of the reference model",
}
"""Claim → what could be granted, or relied on, if it held."""
_WORDS = ("holds", "fails", "unknown")


def write_profile_page(profile: Mapping[str, Any], folder: Path) -> Path:
    """Write ``profile.html`` from the content of ``profile.json``; its path.

    Args:
        profile: ``contract`` and ``claims`` (``claim, holds, evidence``, and where they are known ``tokens,
            carries, error_rate, settings, adds``), beside ``endpoint, model, dialect, tokens``, ``settings``.
        folder: where to write.

    Raises:
        InvalidInput: its contract is none.
        RunFolderError: the page cannot be written.
    """
    return kit.write_page(Path(folder) / PAGE, render(profile))


def render(profile: Mapping[str, Any]) -> str:
    """The page as text."""
    contract = Contract.parse(str(profile["contract"]))
    claims = [dict(claim) for claim in profile["claims"]]
    asked = [str(profile[key]) for key in ("endpoint", "date") if profile.get(key)]
    return kit.render(
        f"reroot probe {profile.get('model') or profile.get('endpoint', '')}",
        "profile/page.html",
        kicker=" · ".join([f"reroot probe {profile.get('reroot', '')}".strip(), *asked]),
        model=str(profile.get("model") or profile.get("endpoint") or "an endpoint"),
        spoken=" ".join(str(profile[key]) for key in ("dialect", "server") if profile.get(key)),
        contract=None if contract.report == Report.NONE else contract,
        allowed=allowed(contract),
        tiles=_tiles(profile, [claim["holds"] for claim in claims]),
        alarm=any(c["claim"] == "draws" and c["holds"] is False for c in claims),
        claims=_claims(claims),
        drawn=any(str(c["claim"]).startswith("draws") and c["holds"] is not None for c in claims),
        settings=settings_table(profile, claims),
        missing=_missing(claims),
        error_rate=profile.get("error_rate", 0.01),
    )


def _tiles(profile: Mapping[str, Any], marks: Sequence[bool | None]) -> list[tuple[str, str, str]]:
    unknown = f"{marks.count(None)} more unknown" if None in marks else "all settled"
    longest, vocab = profile.get("longest_list"), profile.get("vocab_size")
    calls = f"in {plural(profile['calls'], 'call')}" if profile.get("calls") else ""
    held = f"{marks.count(True)} of {len(marks) - marks.count(None)}"
    spent = f"{int(profile.get('tokens', 0)):,}"
    found = [("Claims that hold", held, unknown), ("Tokens spent", spent, calls)]
    if longest is not None and vocab:
        found.append(("Longest list", f"{longest:,}", f"of {vocab:,} tokens"))
    if profile.get("choices"):
        found.append(("Continuations per call", f"{profile['choices']:,}", "at most, as seen"))
    return found


def _claims(claims: Sequence[Mapping[str, Any]]) -> Table:
    """All claims; those first that a contract rests on."""
    parts = ("A contract rests on", "Good to know")
    ranked = sorted(claims, key=lambda claim: not claim.get("carries", True))
    others = any(not claim.get("carries", True) for claim in claims)
    rows = grouped(
        (parts[not claim.get("carries", True)] if others else "", _claim(claim)) for claim in ranked
    )
    return Table(columns("claim | found | what was seen | tokens:,", 3), list(rows))


def _claim(claim: Mapping[str, Any]) -> list[Any]:
    seen, rate = escape(str(claim.get("evidence", ""))), claim.get("error_rate") or 0.0
    if rate:
        seen += f"<br><small>an honest server fails with probability {rate:.1g}</small>"
    found = mark(claim["holds"], _WORDS)
    return [str(claim["claim"]), found, prose(Html(seen)), claim.get("tokens")]


def _missing(claims: Sequence[Mapping[str, Any]]) -> Table:
    """What every claim that is not granted would add."""
    rows = [
        [str(claim["claim"]), mark(claim["holds"], _WORDS), prose(str(adds))]
        for claim in claims
        if claim["holds"] is not True
        and (adds := claim.get("adds") or _ADDS.get(str(claim["claim"])))
    ]
    return Table(columns("claim | found | would add", 3), rows)
