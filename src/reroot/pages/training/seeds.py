"""Arms over seeds: what training runs that differ in the seed alone have in common."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from scipy import stats

from ..kit.cells import note, table
from ..kit.formatting import percent, quantity
from .data import last_passes
from .figures import Series, variant
from .tables import common_tokens

_NOTE = """Means over the seeds of an arm, and 95 % intervals for the mean by Student's t, within 0 … 100 %. Seeds \
draw the training problems and all rollouts; held-out problems are those of the seed too."""


def seeds_section(series: Sequence[Series]) -> list[str]:
    """One row for each arm of which there are several seeds; nothing where there is none."""
    arms: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        arms.setdefault(variant(one.run), []).append(one)
    several = [arm for arm in arms.values() if len(arm) > 1]
    if not several:
        return []
    shared = common_tokens([one.run for arm in several for one in arm])
    head = ["arm", "seeds", "tokens spent", "least share of the budget", "pass@1, root, %"]
    head += ["pass@1, prefixes, %"]
    head += [f"within {quantity(shared)} tokens: pass@1, root, %"] if shared else []
    rows = [_row(arm, shared) for arm in several]
    return ["<h2>Arms over seeds, at the last evaluation</h2>", table(head, rows), note(_NOTE)]


def _row(arm: Sequence[Series], shared: float | None) -> list[str]:
    last = [passes for one in arm if (passes := last_passes(one.run)) is not None]
    spent = [one.run.tokens for one in arm]
    known = [one for one in arm if (one.run.config.get("budget") or {}).get("tokens")]
    used = [one.run.tokens / one.run.config["budget"]["tokens"] for one in known]
    row = [
        f"{arm[0].swatch()}{escape(str(arm[0].run.config['strategy']))}",
        str(len(arm)),
        quantity(float(np.mean(spent))),
        percent(min(used)) if used else "·",
        mean_and_interval([p.root for p in last]),
        mean_and_interval([p.prefix for p in last]),
    ]
    if shared:
        within = [last_passes(one.run, shared) for one in arm]
        row.append(mean_and_interval([p.root for p in within if p is not None]))
    return row


def mean_and_interval(rates: Sequence[float | None]) -> str:
    """Mean of rates in %, with its 95 % interval where there are at least two."""
    values = np.array([rate for rate in rates if rate is not None])
    if not len(values):
        return "·"
    mean = float(values.mean())
    if len(values) == 1:
        return percent(mean)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return f"{percent(mean)} <small>{percent(low)}–{percent(high)}</small>"
