"""The table of hidden settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..kit.cells import prose
from ..kit.markup import Html
from ..kit.table import Table, columns, grouped

_NEUTRAL = {
    "temperature": 1.0,
    "top_k": math.inf,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_NAMES = {"temperature": "temperature", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
_MODES = {
    "draws": "every field sent as neutral",
    "draws, no field": "no sampling field sent",
    "draws, temperature alone": "temperature = 1 alone sent",
}


def settings_table(profile: Mapping[str, Any], claims: Sequence[Mapping[str, Any]]) -> Table:
    """The settings that draws show, by what was asked."""
    found = [("", setting) for setting in profile.get("settings") or ()]
    for claim in claims:
        found += [(str(claim["claim"]), setting) for setting in claim.get("settings") or ()]
    rows = grouped((_MODES.get(where, where), _row(setting)) for where, setting in found)
    head = "setting | estimate | 95 % interval | neutral | what draws leave open"
    return Table(columns(head, (0, 4)), list(rows))


def _row(setting: Mapping[str, Any]) -> list[Any]:
    name = str(setting["name"])
    neutral = _NEUTRAL.get(name)
    low, high = (_bound(setting, end, name) for end in ("low", "high"))
    around = f"{_number(low)} to {_number(high)}"
    maybe = neutral is not None and low <= neutral <= high
    value = _bound(setting, "value", name)
    tight = f'<span class="no">{_tight(name, low, high, value)}</span>'
    shown = tight if maybe else f"<b>{_number(value)}</b>"
    off = "off" if neutral is not None and math.isinf(neutral) else _number(neutral or 0.0)
    said = str(setting.get("note") or "")
    return [_NAMES.get(name, name.replace("_", " ")), Html(shown), around, off, prose(said)]


def _tight(name: str, low: float, high: float, value: float) -> str:
    """A value that may as well be neutral: a bound."""
    if name in ("top_k", "top_p"):
        return f"off, or ≥ {_number(low)}"
    return f"off, or ≤ {_number(high)}" if name == "min_p" else _number(value)


def _bound(setting: Mapping[str, Any], key: str, name: str) -> float:
    """A number; JSON has none without end, which stands as ``null``."""
    value = setting.get(key)
    if value is None:
        return -math.inf if key == "low" and name != "top_k" else math.inf
    return float(value)


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")
