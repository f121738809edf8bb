"""Which top-k, top-p and min-p cut laws where draws show them to be cut.

A chain of samplers maps (top_k, top_p, min_p, T) to the number K of tokens kept at a prefix. Order matters:
llama.cpp cuts the law first and tempers what is left; transformers and vLLM temper first, so that the same
top_p keeps fewer tokens at T < 1. Draws bound each K (``tempering``): M ≤ K ≤ U. The settings that put every K
between its bounds, for some temperature of its interval, are a confidence region; errors are split by Bonferroni.
Its projections are the intervals. Where several settings could cut at the same ranks, each interval reaches
its neutral value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import FloatArray
from .tempering import Ranked

CHAINS: dict[str, tuple[str, ...]] = {
    "llama.cpp": ("top_k", "top_p", "min_p", "temperature"),
    "transformers": ("temperature", "top_k", "top_p", "min_p"),
    "vLLM": ("temperature", "min_p", "top_k", "top_p"),
}
"""Orders of samplers, by the engine whose default they are."""
NEUTRAL = {"top_k": float("inf"), "top_p": 1.0, "min_p": 0.0}
_ALPHA = 0.04
"""Share of the error that the bounds of K have; the temperature's 99 % interval has the rest."""
_GRID = 48
"""Values of top_k and of min_p beside those at which a cut moves over a bound."""


@dataclass(frozen=True, slots=True)
class Region:
    """The settings of one chain that put every cut where draws allow it.

    Attributes:
        chain: name of the order.
        value: name → most likely value.
        low: name → least.
        high: name → most.
        needed: name → whether nothing without it does; ``None``: it is one of several that would.
        lost: nats by which the likelihood at ``value`` is below that of cuts right behind the least likely draws.
    """

    chain: str
    value: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    needed: dict[str, bool | None]
    lost: float


class _Grid:
    """All (top_k, min_p) of a grid, with the top_p that each of them allows, at one temperature."""

    def __init__(self, ats: Sequence[Ranked], chain: str, temperature: float) -> None:
        order = CHAINS[chain]
        self.ats, self.temperature = ats, temperature
        tempered = order[0] == "temperature"
        scale = temperature if tempered else 1.0
        self._before_p = order[: order.index("top_p")]
        self.ratios = [np.exp((at.logs - at.logs[0]) / scale) for at in ats]
        self.sums = [at.cumulative(scale) for at in ats]
        self.rests = [at.rest_between(scale) for at in ats]
        self.least = [at.least for at in ats]
        self.most = [at.most(temperature, _ALPHA / len(ats)) for at in ats]
        self.ks, self.ms = self._ks(), self._ms()
        self.low, self.high = self._top_p()

    def _ks(self) -> FloatArray:
        least = max(self.least)
        far = np.unique(np.rint(np.geomspace(least, 4 * least + 20, _GRID)))
        edges = [k + d for k in self.most if k is not None for d in (0, 1)]
        return np.unique(np.concatenate([far, [k for k in edges if k >= least], [np.inf]]))

    def _ms(self) -> FloatArray:
        most = min(
            float(r[min(k, len(r)) - 1]) for r, k in zip(self.ratios, self.least, strict=True)
        )
        edges = [
            float(r[k]) * d
            for r, k in zip(self.ratios, self.most, strict=True)
            if k is not None and k < len(r)
            for d in (1.0, 1 + 1e-6)
        ]
        far = np.geomspace(most, most / 50, _GRID)
        return np.unique(np.concatenate([far, [m for m in edges if m <= most], [0.0]]))

    def kept(self, j: int) -> tuple[FloatArray, FloatArray]:
        """What min-p keeps at prefix j, (1, m), and what the others before top-p leave, (k, m)."""
        ratios = self.ratios[j]
        by_m = len(ratios) - np.searchsorted(ratios[::-1], self.ms * (1 - 1e-9), side="left")
        by_m = np.where(by_m == len(ratios), np.inf, by_m).astype(np.float64)[None, :]
        left = np.full((len(self.ks), len(self.ms)), np.inf)
        left = np.minimum(left, self.ks[:, None]) if "top_k" in self._before_p else left
        left = np.minimum(left, by_m) if "min_p" in self._before_p else left
        return by_m, left

    def masses(self, j: int, left: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bounds of the mass that top-p is a share of."""
        sums, listed = self.sums[j], len(self.ratios[j])
        inside = sums[np.minimum(left, listed).astype(np.int64)]
        few, many = self.rests[j]
        beyond = left > listed
        everything = np.isinf(left)
        return inside + np.where(everything, few, 0.0), inside + np.where(beyond, many, 0.0)

    def _top_p(self) -> tuple[FloatArray, FloatArray]:
        """Least (excluded) and most top_p that each (top_k, min_p) allows; none where high <= low."""
        low = np.zeros((len(self.ks), len(self.ms)))
        high = np.ones_like(low)
        for j, (least, most) in enumerate(zip(self.least, self.most, strict=True)):
            by_m, left = self.kept(j)
            few, many = self.masses(j, left)
            low = np.maximum(low, self.sums[j][least - 1] / many)
            if most is not None:
                over = np.minimum(self.ks[:, None], by_m) > most
                high = np.where(over, np.minimum(high, self.sums[j][most] / few), high)
        return low, high

    def cuts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(k, m) nats lost with the least top_p that is allowed, and the top_p up to which cuts stay, and
        the same without top_p."""
        lost, bare = np.zeros_like(self.low), np.zeros_like(self.low)
        stays = np.ones_like(self.low)
        for j, at in enumerate(self.ats):
            by_m, left = self.kept(j)
            few, _ = self.masses(j, left)
            sums, own = self.sums[j], at.cumulative(self.temperature)
            others = np.minimum(self.ks[:, None], by_m)
            by_p = np.searchsorted(sums, self.low * few * (1 + 1e-12), side="right").astype(float)
            by_p = np.where(by_p >= len(sums), np.inf, by_p)
            share = sums[np.minimum(by_p, len(sums) - 1).astype(np.int64)] / few
            stays = np.where(by_p < others, np.minimum(stays, share), stays)
            for kept, into in ((np.minimum(others, by_p), lost), (others, bare)):
                whole = own[-1] + sum(at.rest_between(self.temperature)) / 2
                inside = own[np.minimum(kept, len(own) - 1).astype(np.int64)]
                mass = np.where(kept >= len(own), whole, inside)
                into += len(at.ranks) * np.log(mass / own[min(at.least, len(own) - 1)])
        return lost, bare, stays


def region(ats: Sequence[Ranked], chain: str, grid: FloatArray, likely: float) -> Region | None:
    """The settings of ``chain`` that draws allow; ``None``: none do.

    Args:
        ats: laws with draws, penalties applied.
        chain: a key of ``CHAINS``.
        grid: temperatures that cover a 99 % interval.
        likely: the most likely of them.
    """
    low = dict.fromkeys(NEUTRAL, np.inf)
    high = dict.fromkeys(NEUTRAL, -np.inf)
    without, instead = dict.fromkeys(NEUTRAL, False), dict.fromkeys(NEUTRAL, False)
    values: dict[float, tuple[float, dict[str, float]]] = {}
    for temperature in grid:
        cells = _Grid(ats, chain, float(temperature))
        fits = cells.low < cells.high
        if not fits.any():
            continue
        values[float(temperature)] = _most_likely(cells, fits)
        rows, columns = np.flatnonzero(fits.any(axis=1)), np.flatnonzero(fits.any(axis=0))
        last = rows[-1]
        before_next = cells.ks[last + 1] - 1 if last + 1 < len(cells.ks) else np.inf
        low["top_k"] = min(low["top_k"], float(cells.ks[rows[0]]))
        high["top_k"] = max(high["top_k"], float(before_next))
        low["min_p"] = min(low["min_p"], float(cells.ms[max(columns[0] - 1, 0)]))
        high["min_p"] = max(high["min_p"], float(cells.ms[columns[-1]]))
        low["top_p"] = min(low["top_p"], float(cells.low[fits].min()))
        high["top_p"] = max(high["top_p"], float(cells.high[fits].max()))
        without["top_k"] |= bool(fits[-1].any())
        without["min_p"] |= bool(fits[:, 0].any())
        without["top_p"] |= bool((fits & (cells.high >= 1)).any())
        instead["top_k"] |= bool((fits & (cells.high > cells.high[-1:] + 1e-12)).any())
        instead["min_p"] |= bool((fits & (cells.high > cells.high[:, :1] + 1e-12)).any())
        instead["top_p"] |= bool((fits & (cells.high < 1)).any())
    if not values:
        return None
    lost, value = values[min(values, key=lambda t: abs(np.log(t / likely)))]
    needed = {x: None if without[x] and instead[x] else not without[x] for x in NEUTRAL}
    for name, bound in (("top_k", low), ("top_p", low), ("min_p", high)):
        if needed[name] is None:  # what it is at the tightest
            value[name] = bound[name]
    return Region(chain, value, low, high, needed, lost)


def _most_likely(cells: _Grid, fits: np.ndarray) -> tuple[float, dict[str, float]]:
    """Nats lost by the most likely settings, and those; of equally likely ones the fewest."""
    lost, bare, stays = cells.cuts()
    price = 1e-6 * (np.isfinite(cells.ks)[:, None] + (cells.ms > 0)[None, :])
    with_p = np.where(fits, lost + price + 1e-6, np.inf)
    no_p = np.where(fits & (cells.high >= 1), bare + price, np.inf)
    best = np.minimum(with_p, no_p)
    row, column = np.unravel_index(int(best.argmin()), best.shape)
    k, m = float(cells.ks[row]), float(cells.ms[column])
    value = {"top_k": k, "top_p": 1.0, "min_p": m}
    if with_p[row, column] < no_p[row, column]:
        ends = float(cells.low[row, column]), float(stays[row, column])
        value["top_p"] = fewest_digits(ends[0], min(ends[1], float(cells.high[row, column])))
    if m > 0:
        value["min_p"] = fewest_digits(_next_ratio(cells, m, k), m)
    return float(best[row, column]), value


def _next_ratio(cells: _Grid, m: float, k: float) -> float:
    """The largest ratio to the top that min-p = m cuts away at some prefix where top-k = k does not."""
    found = 0.0
    for ratios in cells.ratios:
        kept = int((ratios >= m * (1 - 1e-9)).sum())
        if kept < min(k, len(ratios)):
            found = max(found, float(ratios[kept]))
    return found


def fewest_digits(low: float, high: float) -> float:
    """The number in (low, high] with the fewest decimals, ``high`` where six do not tell them apart."""
    for digits in range(1, 7):
        step = 10.0**-digits
        candidate = round(np.floor(high / step * (1 + 1e-12)) * step, digits)
        if low < candidate <= high * (1 + 1e-12):
            return candidate
    return high
