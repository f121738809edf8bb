"""Numbers as people read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...runs.records import short_id

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def from_log(log_value: float, digits: int = 2) -> str:
    """A positive number given by its natural log: ``0.42``, ``1,200``, ``3.1·10⁻⁷``."""
    log10 = log_value / math.log(10)
    if -3 <= log10 < 6 - 1e-12:  # a million itself is 10⁶
        return quantity(float(f"{10**log10:.{digits}g}"))
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.{digits}g}"
    if mantissa == "10":
        mantissa, exponent = "1", exponent + 1
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def quantity(value: float) -> str:
    """A cost or count: ``0``, ``0.25``, ``12.5``, ``1,234``; powers of ten from a million on."""
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-3:
        return ("−" if value < 0 else "") + from_log(math.log(abs(value)))
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def rounded(value: float | None, digits: int = 3) -> str:
    """A quantity to so many digits; ``·``: unknown."""
    return "·" if value is None else quantity(float(f"{value:.{digits}g}"))


def share(value: float) -> str:
    """A probability in percent, without the sign: ``0``, ``0.4``, ``96``; ``3·10⁻⁷`` below 0.01."""
    value *= 100
    if value == 0:
        return "0"
    if value < 0.01:
        return from_log(math.log(value))
    return f"{value:.2g}" if value < 1 else f"{value:.0f}"


def shares(interval: Sequence[float]) -> str:
    """An interval of probabilities in percent: ``86–100``."""
    return f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign; ``·``: unknown."""
    return "·" if value is None else signed(100 * value, 0)


def percent(value: float | None) -> str:
    """``share``, or ``·`` where it is unknown."""
    return "·" if value is None else share(value)


def signed(value: float, digits: int = 2) -> str:
    """With a sign and a real minus: ``+0.50``."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def plural(count: float, noun: str) -> str:
    """``1 problem``, ``8 problems``."""
    return f"{quantity(count)} {noun}{'' if count == 1 else 's'}"


def unfinished(summary: Mapping[str, Any]) -> str | None:
    """What to say of a comparison or suite that was interrupted; ``None`` if it is finished."""
    done, planned = summary["made"]
    if done == planned:
        return None
    return f"Not finished: {quantity(done)} of {plural(planned, 'attempt')} made, the rest is left out."


def judged(cell: Mapping[str, Any]) -> int:
    """The attempts of a cell that its rate is of: all but those on which the judge abstained."""
    return cell["attempts"] - cell["abstained"]


def clustered(cells: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any line was tried more than once."""
    return any(cell["clusters"] < judged(cell) for cell in cells)


def counting(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on how attempts count, where it is not each for itself; none elsewhere."""
    found = [LINES] if clustered(cells) else []
    once = {(c["short"], c.get("task"), c.get("horizon"), c.get("budget")): c for c in cells}
    for name, said in _COUNTED.items():
        counts = Counter[str]()
        for cell in once.values():
            counts[cell["short"]] += cell[name]
        told = ", ".join(f"{short} ({count})" for short, count in sorted(counts.items()) if count)
        found += [f"{said}: {told}."] if told else []
    first = next((cell["error"] for cell in cells if cell["errors"]), None)
    return found if first is None else [*found, f"The first one: {short_id(first)}"]


_COUNTED = {
    "abstained": "The judge abstained, and the attempt counts nowhere",
    "errors": "Attempts with errors count as not passed",
}

LINES = (
    "Attempts on one line, or on lines with the same prompt, count as one in rates and intervals."
)


def at_horizon(task: str, horizon: int) -> str:
    """``running_sum, horizon 8``; the task alone where it has no horizon."""
    return f"{task}, horizon {horizon}" if horizon else task


def clipped(text: str, most: int) -> str:
    """Its beginning, where it is longer than so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listing(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def verifier_warning(found: Mapping[str, Any] | None) -> str:
    """What to say of outputs that the verifier accepts and the reward refuses; empty without any."""
    if not found:
        return ""
    return (
        f"Verifier and reward disagree: {plural(found['attempts'], 'attempt')} ended with a complete output "
        f"that the verifier accepts and that does not pass. One by {found['learner']} on "
        f"{short_id(found['problem'])}: {found['text']!r} has reward {found['reward']:g}, and the verifier says True. "
        "Learners that trust the verifier stop at such outputs."
    )
