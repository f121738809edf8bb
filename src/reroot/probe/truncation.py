"""Which top-k, top-p and min-p cut laws where draws show them to be cut.

A chain of samplers maps (top_k, top_p, min_p, T) to the number K of tokens kept at a prefix. Order matters:
llama.cpp cuts the law first and tempers what is left; transformers and vLLM temper first, so that the same
top_p keeps fewer tokens at T < 1. Draws bound each K (``tempering``): M ≤ K ≤ U. The settings that put every K
between its bounds, for some temperature of its interval, are a confidence region; errors are split by Bonferroni.
Its projections are the intervals. Where several settings could cut at the same ranks, each interval reaches
its neutral value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import FloatArray
from .tempering import FEW, Ranked

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
_ALIKE, _TRIED = 0.1, 300
"""Nats within which settings are about as likely, and how many of them are compared."""


@dataclass(frozen=True, slots=True)
class Region:
    """The settings of one chain that put every cut where draws allow it.

    Attributes:
        chain: name of the order.
        value: name → most likely value, of about equally likely ones the roundest.
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


@dataclass(frozen=True, slots=True)
class Weighed:
    """One law at one temperature: ratios to the top by rank, sums of them, bounds of what is not listed."""

    ratios: FloatArray
    sums: FloatArray
    rest: tuple[float, float]

    @classmethod
    def of(cls, at: Ranked, temperature: float) -> Weighed:
        ratios = np.exp((at.logs - at.logs[0]) / temperature)
        return cls(ratios, np.append(0.0, np.cumsum(ratios)), at.rest_between(temperature))

    def mass(self, kept: FloatArray, unlisted: float) -> FloatArray:
        """Weight of the first ``kept`` tokens, given that of what is not listed."""
        inside = self.sums[np.minimum(kept, len(self.ratios)).astype(np.int64)]
        return inside + np.where(kept > len(self.ratios), unlisted, 0.0)


class _Grid:
    """All (top_k, min_p) of a grid, with the top_p that each of them allows, at one temperature."""

    def __init__(
        self,
        ats: Sequence[Ranked],
        chain: str,
        raw: Sequence[Weighed],
        hot: Sequence[Weighed],
        heat: float,
    ) -> None:
        order = CHAINS[chain]
        self.ats, self.hot = ats, hot
        self.cut = hot if order[0] == "temperature" else raw
        self._before_p = order[: order.index("top_p")]
        many = [len(at.ranks) >= FEW for at in ats]
        alpha = _ALPHA / max(1, sum(many))
        self.least = [at.least for at in ats]
        self.most = [at.most(heat, alpha) if m else None for at, m in zip(ats, many, strict=True)]
        self.telling = [j for j, m in enumerate(many) if m]
        self.ks, self.ms = self._ks(), self._ms()
        self.low, self.high = self._top_p()

    def _ks(self) -> FloatArray:
        least = max(self.least)
        far = np.unique(np.rint(np.geomspace(least, 4 * least + 20, _GRID)))
        round_ones = np.arange(-(-least // 5) * 5, 2 * least + 10, 5)
        edges = [k + d for k in self.most if k is not None for d in (0, 1)]
        return np.unique(
            np.concatenate([far, round_ones, [k for k in edges if k >= least], [np.inf]])
        )

    def _ms(self) -> FloatArray:
        most = min(
            float(w.ratios[min(k, len(w.ratios)) - 1])
            for w, k in zip(self.cut, self.least, strict=True)
        )
        edges = [
            float(w.ratios[k]) * d
            for w, k in zip(self.cut, self.most, strict=True)
            if k is not None and k < len(w.ratios)
            for d in (1.0, 1 + 1e-6)
        ]
        far = np.geomspace(most, most / 50, _GRID)
        return np.unique(np.concatenate([far, [m for m in edges if m <= most], [0.0]]))

    def kept(self, j: int) -> tuple[FloatArray, FloatArray]:
        """What min-p keeps at prefix j, (1, m), and what those before top-p leave; these broadcast to (k, m)."""
        ratios = self.cut[j].ratios
        by_m = len(ratios) - np.searchsorted(ratios[::-1], self.ms * (1 - 1e-9), side="left")
        by_m = np.where(by_m == len(ratios), np.inf, by_m)[None, :]
        left = np.full((1, 1), np.inf)
        left = np.minimum(left, self.ks[:, None]) if "top_k" in self._before_p else left
        return by_m, np.minimum(left, by_m) if "min_p" in self._before_p else left

    def _top_p(self) -> tuple[FloatArray, FloatArray]:
        """Least (excluded) and most top_p that each (top_k, min_p) allows; none where high <= low."""
        low = np.zeros((len(self.ks), len(self.ms)))
        high = np.ones_like(low)
        for j, (weighed, least, most) in enumerate(
            zip(self.cut, self.least, self.most, strict=True)
        ):
            by_m, left = self.kept(j)
            sure = 1 - self.ats[j].slack
            share = weighed.sums[least - 1] / weighed.mass(left, weighed.rest[1])
            np.maximum(low, sure * share, out=low)
            if most is not None:
                over = np.minimum(self.ks[:, None], by_m) > most
                few = weighed.mass(left, weighed.rest[0] if np.isinf(left).any() else 0.0)
                share = weighed.sums[min(most, len(weighed.ratios))] / few / sure
                high = np.where(over, np.minimum(high, share), high)
        return low, high

    def cuts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(k, m) nats lost with the least top_p that is allowed and without any, and up to which top_p all
        stays as with the least."""
        lost, bare = np.zeros_like(self.low), np.zeros_like(self.low)
        stays = np.ones_like(self.low)
        for j in self.telling:
            by_m, left = self.kept(j)
            weighed, hot, at = self.cut[j], self.hot[j], self.ats[j]
            base = weighed.mass(left, weighed.rest[1])
            others = np.minimum(self.ks[:, None], by_m)
            by_p = np.searchsorted(weighed.sums, self.low * base * (1 + 1e-12), side="right")
            by_p = np.where(by_p >= len(weighed.sums), np.inf, by_p)
            share = weighed.mass(by_p, weighed.rest[1]) / base
            stays = np.where(by_p < others, np.minimum(stays, share), stays)
            own = hot.sums[min(at.least, len(hot.ratios))]
            for kept, into in ((np.minimum(others, by_p), lost), (others, bare)):
                into += len(at.ranks) * np.log(hot.mass(kept, sum(hot.rest) / 2) / own)
        return lost, bare, stays


def region(ats: Sequence[Ranked], chain: str, grid: FloatArray, likely: float) -> Region | None:
    """The settings of ``chain`` that draws allow; ``None``: none do.

    Args:
        ats: laws with draws, penalties applied.
        chain: a key of ``CHAINS``.
        grid: temperatures that cover a 99 % interval.
        likely: the most likely of them.
    """
    low, high = dict.fromkeys(NEUTRAL, np.inf), dict.fromkeys(NEUTRAL, -np.inf)
    without, instead = dict.fromkeys(NEUTRAL, False), dict.fromkeys(NEUTRAL, False)
    raw = [Weighed.of(at, 1.0) for at in ats]
    nearest: tuple[float, _Grid] | None = None
    for heat in map(float, grid):
        cells = _Grid(ats, chain, raw, [Weighed.of(at, heat) for at in ats], heat)
        if not (cells.low < cells.high).any():
            continue
        away = abs(float(np.log(heat / likely)))
        nearest = (away, cells) if nearest is None or away < nearest[0] else nearest
        for name, (least, most, absent, present) in _projected(cells):
            low[name], high[name] = min(low[name], least), max(high[name], most)
            without[name] |= absent
            instead[name] |= present
    if nearest is None:
        return None
    lost, value = _most_likely(nearest[1])
    needed = {x: None if without[x] and instead[x] else not without[x] for x in NEUTRAL}
    for name, bound in (("top_k", low), ("top_p", low), ("min_p", high)):
        if needed[name] is None:  # what it is at the tightest
            value[name] = bound[name]
    return Region(chain, value, low, high, needed, lost)


def _projected(cells: _Grid) -> Iterator[tuple[str, tuple[float, float, bool, bool]]]:
    """Of each setting: least, most, whether it may be neutral, and whether it does what others need not do."""
    fits, high = cells.low < cells.high, cells.high
    rows, columns = np.flatnonzero(fits.any(axis=1)), np.flatnonzero(fits.any(axis=0))
    after = cells.ks[rows[-1] + 1] - 1 if rows[-1] + 1 < len(cells.ks) else np.inf
    tighter_k, tighter_m = high > high[-1:] + 1e-12, high > high[:, :1] + 1e-12
    k = float(cells.ks[rows[0]]), float(after), bool(fits[-1].any()), bool((fits & tighter_k).any())
    yield "top_k", k
    p = float(cells.low[fits].min()), float(high[fits].max())
    yield "top_p", (*p, bool((fits & (high >= 1)).any()), bool((fits & (high < 1)).any()))
    m = float(cells.ms[max(columns[0] - 1, 0)]), float(cells.ms[columns[-1]])
    yield "min_p", (*m, bool(fits[:, 0].any()), bool((fits & tighter_m).any()))


def _most_likely(cells: _Grid) -> tuple[float, dict[str, float]]:
    """Nats lost by the most likely settings, and those; of about equally likely ones the roundest."""
    lost, bare, stays = cells.cuts()
    with_p = np.where(cells.low < cells.high, lost, np.inf)
    no_p = np.where((cells.low < cells.high) & (cells.high >= 1), bare, np.inf)
    both = np.stack([no_p, with_p])
    least = float(both.min())
    tried: list[tuple[int, float, dict[str, float]]] = []
    near = np.argwhere(both <= least + _ALIKE)
    cheapest = np.argsort(
        [_roundness_of_rank(float(cells.ks[row])) for _, row, _ in near], kind="stable"
    )
    for uses_p, row, column in near[cheapest][:_TRIED]:
        k, m = float(cells.ks[row]), float(cells.ms[column])
        price, value = _roundness_of_rank(k), {"top_k": k, "top_p": 1.0, "min_p": 0.0}
        if uses_p:
            most = min(float(stays[row, column]), float(cells.high[row, column]))
            cost, value["top_p"] = roundest(float(cells.low[row, column]), most)
            price += 1 + cost
        if m > 0:
            cost, value["min_p"] = roundest(_next_ratio(cells, m, k), m)
            price += 1 + cost
        tried.append((price, float(both[uses_p, row, column]), value))
    _, nats, value = min(tried, key=lambda one: one[:2])
    return nats, value


def _next_ratio(cells: _Grid, m: float, k: float) -> float:
    """The largest ratio to the top that min-p = m cuts away at some prefix where top-k = k does not."""
    found = 0.0
    for j in cells.telling:
        ratios = cells.cut[j].ratios
        kept = len(ratios) - int(np.searchsorted(ratios[::-1], m * (1 - 1e-9), side="left"))
        if kept < min(k, len(ratios)):
            found = max(found, float(ratios[kept]))
    return found


def _roundness_of_rank(k: float) -> int:
    return 0 if np.isinf(k) else 1 if k % 10 == 0 else 2 if k % 5 == 0 else 3


def roundest(low: float, high: float) -> tuple[int, float]:
    """The multiple of 0.1, 0.05, 0.01, … in the middle of (low, high], the coarsest there is, and how many were tried.

    ``high`` itself where no multiple of 10⁻⁶ lies there.
    """
    for tried in range(11):
        step = 10.0 ** -(tried // 2 + 1) / (1 + tried % 2)
        candidate = round(round((low + high) / 2 / step) * step, 8)
        if low < candidate <= high * (1 + 1e-9):
            return tried, candidate
    return 11, high
