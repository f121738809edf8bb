"""Which sampling settings draws show that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from ..types import FloatArray
from .drawn import Drawn, Setting, as_draws
from .penalties import Penalty, applied, penalties
from .penalties import setting as penalty_setting
from .tempering import FEW, Ranked, Temperature, ranked, temperature, untouched
from .truncation import CHAINS, NEUTRAL, Region, region

_DETECT = 1e-3
"""Error rate at which a setting is said to differ from neutral."""
_LIGHT = 0.02
"""Probability of used tokens up to which a penalty hardly matters to where a law is cut."""
_FALL = float(special.chdtri(1, _DETECT)) / 2


def estimate(drawn: Drawn | Sequence[Drawn]) -> tuple[Setting, ...]:
    """The settings that differ from neutral, with 95 % intervals, the most telling first.

    Args:
        drawn: draws at one prefix or, better, at several of different shapes (``plan``).

    Raises:
        InvalidInput: nothing was drawn.
    """
    draws = as_draws(drawn)
    ats = [ranked(one) for one in draws]
    if all(at.ranks.max() == 0 for at in ats):
        return _greedy(ats)
    fresh = temperature([at for one in draws if (at := untouched(one)) is not None])
    found: list[tuple[float, Setting]] = []
    if punished := penalties(draws, fresh):
        best, heat = punished[0], fresh
        ats = _after(draws, best)
        found.append((best.gain, penalty_setting(punished)))
    else:
        heat = temperature(ats)
    if heat.against > _FALL:
        found.append((heat.against, Setting("temperature", heat.value, heat.low, heat.high)))
    found += _truncation(ats, heat)
    found.sort(key=lambda one: -one[0])
    return tuple(setting for _, setting in found)


def _after(draws: Sequence[Drawn], penalty: Penalty) -> list[Ranked]:
    """Laws with a penalty on them: those alone that it hardly touches, if there are any with enough draws; without
    the tokens that it touches."""
    fresh = [untouched(one) for one in draws]
    light = [at for at in fresh if at is not None and at.slack < _LIGHT and len(at.ranks) >= FEW]
    pairs = zip(draws, penalty.offsets, strict=True)
    return light or [applied(one, penalty, c or 0.0) for one, c in pairs]


def _greedy(ats: Sequence[Ranked]) -> tuple[Setting, ...]:
    """Settings of draws that are all the most likely token."""
    nats = -sum(len(at.ranks) * float(at.logs[0]) for at in ats)
    if nats < -np.log(_DETECT):
        return ()

    def loss(temperature: float) -> float:
        sums = [at.cumulative(temperature)[-1] + at.rest_between(temperature)[0] for at in ats]
        return sum(len(at.ranks) * float(np.log(s)) for at, s in zip(ats, sums, strict=True))

    heats = np.geomspace(1.0, 1e-3, 400)
    hottest = next((t for t in heats if loss(float(t)) <= -np.log(0.05)), 1e-3)
    note = "every draw is the most likely token: temperature 0 or top_k 1"
    return (
        Setting("temperature", 0.0, 0.0, float(hottest), note),
        Setting("top_k", 1.0, 1.0, float("inf"), note),
    )


def _truncation(ats: Sequence[Ranked], heat: Temperature) -> list[tuple[float, Setting]]:
    grid, likely = heat.grid, heat.value if np.isfinite(heat.value) else 1.0
    telling = [at for at in ats if len(at.ranks) >= FEW] or ats  # single draws would drown them
    nats = _cut_off(telling, grid)
    if special.chdtrc(2 * len(telling), 2 * nats) > _DETECT:
        return []
    fitting = [r for chain in CHAINS if (r := region(ats, chain, grid, likely)) is not None]
    best = min(fitting, key=lambda r: r.lost, default=None)
    if best is None:
        return []
    found: list[tuple[float, Setting]] = []
    for name in NEUTRAL:
        if all(r.needed[name] is False for r in fitting):
            continue
        low, high = min(r.low[name] for r in fitting), max(r.high[name] for r in fitting)
        certain = all(r.needed[name] for r in fitting)
        source = (
            best
            if best.needed[name] is not False
            else next(r for r in fitting if r.needed[name] is not False)
        )
        setting = Setting(name, source.value[name], low, high, _note(fitting, name, certain))
        found.append((nats if certain else 0.0, setting))
    return found


def _cut_off(ats: Sequence[Ranked], grid: FloatArray) -> float:
    """Nats that uncut laws lose by all draws being as likely as they are, at the best temperature."""

    def lost(at: Ranked, temperature: float) -> float:
        if at.open:
            return 0.0
        sums = at.cumulative(temperature)
        whole = sums[-1] + at.rest_between(temperature)[0]
        return len(at.ranks) * float(np.log(whole / sums[at.ranks.max() + 1]))

    return min(sum(lost(at, float(t)) for at in ats) for t in grid)


def _note(fitting: Sequence[Region], name: str, certain: bool) -> str:
    """What draws do not tell of a truncation."""
    orders = [r.chain for r in fitting]
    said = f"in the order of {', '.join(orders)}" if len(orders) < len(CHAINS) else "in any order"
    if certain:
        return said
    return f"{said}; may be neutral: another setting can cut where it would"
