"""``profile.html``: what may be granted, on what evidence, and what an endpoint does that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...contract import Contract, Report
from ..kit.cells import Html, dot, facts, mark, prose, table, warning
from ..kit.contracts import allowed
from ..kit.formatting import plural, quantity
from ..kit.html import document, write_page
from .settings import settings_section

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
_NOTES = """<h2>How to read this</h2>
<p><b>Claims</b> are granted from what the endpoint did when it was asked, not from its name. A claim that fails was
seen to be false; one that is unknown was not asked, or the budget did not reach, and is not granted either. What rests on chance is tested so that an honest
server is accused by all tests together with probability {rate} at most.</p>
<p><b>Hidden settings</b> are estimated from draws, beside the law that the endpoint itself states. Intervals cover
with 95 %. One that reaches the neutral value belongs to a setting that may be off: another one in the table can do
what is seen. The same top-p keeps fewer tokens where the temperature comes first.</p>"""


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
    return write_page(Path(folder) / PAGE, render(profile))


def render(profile: Mapping[str, Any]) -> str:
    """The page as text."""
    contract = Contract.parse(str(profile["contract"]))
    claims = [dict(claim) for claim in profile["claims"]]
    parts = [
        _header(profile, contract),
        _verdict(profile, contract, claims),
        _claims(claims),
        settings_section(profile, claims),
        _missing(claims),
        _NOTES.format(rate=quantity(profile.get("error_rate", 0.01))),
    ]
    return document(f"reroot probe {profile.get('model') or profile.get('endpoint', '')}", parts)


def _header(profile: Mapping[str, Any], contract: Contract) -> str:
    version = f"reroot probe {profile.get('reroot', '')}".strip()
    asked = [str(profile[key]) for key in ("endpoint", "date") if profile.get(key)]
    model = str(profile.get("model") or profile.get("endpoint") or "an endpoint")
    spoken = " ".join(str(profile[key]) for key in ("dialect", "server") if profile.get(key))
    said = f"It speaks {spoken}. " if spoken else ""
    return f"""<header><p class="kicker">{escape(" · ".join([version, *asked]))}</p>
<h1>What {escape(model)} really grants</h1>
<p>{escape(said)}Every claim was found out by asking.</p></header>"""


def _verdict(
    profile: Mapping[str, Any], contract: Contract, claims: Sequence[Mapping[str, Any]]
) -> str:
    nothing = contract.report == Report.NONE
    kind = "nothing may be granted" if nothing else f"{contract} may be granted"
    where, shown, _ = allowed(contract)
    marks = [claim["holds"] for claim in claims]
    unknown = f"{marks.count(None)} more unknown" if None in marks else "all settled"
    longest, vocab = profile.get("longest_list"), profile.get("vocab_size")
    spent = int(profile.get("tokens", 0))
    calls = f"in {plural(profile['calls'], 'call')}" if profile.get("calls") else ""
    found = [
        (
            "Claims that hold",
            f"{marks.count(True)} of {len(marks) - marks.count(None)}",
            unknown,
        ),
        ("Tokens spent", f"{spent:,}", calls),
    ]
    if longest is not None and vocab:
        found.append(("Longest list", f"{longest:,}", f"of {vocab:,} tokens"))
    if profile.get("choices"):
        found.append(("Continuations per call", f"{profile['choices']:,}", "at most, as seen"))
    words = "" if nothing else f"<p>A learner may {escape(where)}. It sees {escape(shown)}.</p>"
    color = "" if nothing else dot(str(contract.control))
    return (
        f'<article class="verdict"><p class="kind">{color}{escape(kind)}</p>{words}{facts(found)}</article>'
        f"{warning(_alarm(claims))}"
    )


def _alarm(claims: Iterable[Mapping[str, Any]]) -> str:
    """What to say where draws do not follow even with every field neutral."""
    failed = [c["claim"] for c in claims if c["claim"] == "draws" and c["holds"] is False]
    if not failed:
        return ""
    return (
        "Draws do not follow the law that is stated, although every sampling field was sent as neutral: "
        "no log-probability of this endpoint belongs to what it draws."
    )


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    """All claims; those first that a contract rests on."""
    rows: list[list[str]] = []
    bearing = [claim for claim in claims if claim.get("carries", True)]
    others = [claim for claim in claims if not claim.get("carries", True)]
    for title, part in (("A contract rests on", bearing), ("Good to know", others)):
        rows += [[title]] if part and others else []
        rows += [_claim(claim) for claim in part]
    return f"<h2>Claims</h2>{table(['claim', '', 'what was seen', 'tokens'], rows, text=3)}"


def _claim(claim: Mapping[str, Any]) -> list[str]:
    tokens = claim.get("tokens")
    rate = claim.get("error_rate") or 0.0
    chance = (
        f"<br><small>an honest server fails with probability {rate:.1g}</small>" if rate else ""
    )
    seen = Html(f'<div class="prose">{escape(str(claim.get("evidence", "")))}{chance}</div>')
    spent = "·" if tokens is None else f"{tokens:,}"
    return [escape(str(claim["claim"])), mark(claim["holds"], _WORDS), seen, spent]


def _missing(claims: Sequence[Mapping[str, Any]]) -> str:
    """What every claim that is not granted would add."""
    rows: list[list[str]] = []
    for claim in claims:
        name = str(claim["claim"])
        adds = str(claim.get("adds") or _ADDS.get(name, ""))
        if claim["holds"] is not True and adds:
            rows.append([escape(name), mark(claim["holds"], _WORDS), prose(adds)])
    if not rows:
        return ""
    return f"<h2>What is missing</h2>{table(['claim', '', 'would add'], rows, text=3)}"
