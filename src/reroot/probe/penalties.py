"""Penalties on tokens that the prefix has already: repetition, presence and frequency.

All chains apply them first. A presence penalty s takes s from the logit of each used token, a frequency penalty
s times its count; a repetition penalty r divides logits above 0 by r and multiplies the others. Logits are stated up
to a constant: logit = ℓ + c, with c = log Σ exp(logits) unknown at each prefix unless a reference model tells it. So
with ℓ of a used token a the change is

    −(ℓ + c)(1 − 1/r)  where ℓ + c > 0,    (ℓ + c)(r − 1)  elsewhere:

one used token shows the product alone; how the change differs between used tokens of different ℓ tells r in
principle, and a presence penalty apart from it, but takes thousands of draws. Nothing but a repetition penalty depends
on c, so it is a told one that calibrates: draws with, say, ``repetition_penalty=1.1`` and all else neutral give c
(``log_partition``), and then the hidden penalty at the same prefix. Without that c is anything from ``_OFFSETS``,
apart at each prefix; intervals of r are those of the likelihood at the best c, and its value is that at logits of
usual size (``_USUAL``).

Penalties are compared at the same cuts: of the tokens at least as likely as the least likely draw, after penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray
from .drawn import Drawn, Setting
from .tempering import HALF_95, Ranked, Temperature, by_rank

KINDS = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Name → neutral value."""
_DETECT = 1e-3
"""Error rate at which a penalty is said to be there."""
_OFFSETS = np.concatenate([np.linspace(-120, -45, 16), np.linspace(-40, 60, 101)])
"""Nats that log Σ exp(logits) is looked for among."""
_USUAL = (10.0, 25.0)
_GRIDS: dict[str, FloatArray] = {
    "repetition_penalty": np.unique(
        np.concatenate([np.linspace(0.8, 1.5, 71), np.linspace(1.55, 2.5, 20)]).round(3)
    ),
    "presence_penalty": np.linspace(-3, 3, 121).round(3),
    "frequency_penalty": np.linspace(-3, 3, 121).round(3),
}
ENOUGH = 10
"""Draws at a prefix from which on penalties are looked for there."""
_ALIKE = 3.0
"""Nats within which explanations are about as good; repetition penalties are then named first."""
_COARSE, _HOPELESS = 6, 1.0
"""Every so many values of a grid are tried first; the others where these gain so many nats."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """What draws say of one kind of penalty.

    Attributes:
        name: the kind.
        value: the most likely.
        low: of the 95 % interval.
        high: of the 95 % interval.
        gain: nats that it adds to the likelihood.
        p_value: of there being none, by χ².
        offsets: per prefix the constant c that goes with ``value``; ``None``: no used token shows there.
        own: whether only what was written in the same answer counts, not the prompt.
    """

    name: str
    value: float
    low: float
    high: float
    gain: float
    p_value: float
    offsets: tuple[float | None, ...]
    own: bool = False


@dataclass(frozen=True, slots=True)
class _Site:
    """One prefix: tokens that are used, and all others in order; nats below the most likely.

    Attributes:
        used: (m,) nats of the used tokens that are listed.
        times: (m,) how often each was drawn.
        counts: name of the kind → (m,) how often it was used before.
        fresh: the other tokens' nats, sorted up.
        least: of the fresh ones drawn.
        total: of the fresh draws.
        n: draws.
        offsets: candidates for c.
        top: nats of the most likely token, which others are below.
    """

    used: FloatArray
    times: FloatArray
    counts: dict[str, FloatArray]
    fresh: FloatArray
    least: float
    total: float
    n: int
    offsets: FloatArray
    top: float

    @classmethod
    def of(cls, drawn: Drawn, own: bool = False) -> _Site:
        law, ranks, known = drawn.law(), drawn.ranks(), drawn.log_partition
        k = len(drawn.ids)
        ranks = ranks[ranks < k]
        with np.errstate(divide="ignore"):
            logs = np.log(law[:-1])
        top = float(logs[0])
        logs = logs - top
        is_used = np.isin(drawn.ids, drawn.prefix)
        used_ids, times = drawn.ids[is_used], np.bincount(ranks, minlength=k).astype(np.float64)
        everywhere, counted = drawn.used(), drawn.used(generated=own)
        counts = {
            name: np.array([float(count[int(t)]) for t in used_ids])
            for name, count in zip(KINDS, (everywhere, counted, counted), strict=True)
        }
        fresh_times = times[~is_used]
        drew = logs[~is_used][fresh_times > 0]
        deep = len(ranks) < drawn.n  # what is not listed was drawn: all that is listed is kept
        return cls(
            used=logs[is_used],
            times=times[is_used],
            counts=counts,
            fresh=logs[~is_used][::-1],
            least=float(logs.min()) if deep else float(drew.min()) if len(drew) else 0.0,
            total=float(fresh_times[fresh_times > 0] @ drew),
            n=len(ranks),
            offsets=np.array(known) if known else _OFFSETS,
            top=top,
        )

    @property
    def tells(self) -> bool:
        """Whether a used token was drawn, or should have been."""
        weights = np.exp(self.used + self.top)
        return bool(self.times.sum() or self.n * weights.sum() > 1)

    def shift(self, name: str, value: float, offsets: FloatArray) -> FloatArray:
        """(offsets, m) or (1, m): nats that used tokens gain."""
        if name == "repetition_penalty":
            logits = self.used + self.top + offsets[:, None]
            return np.where(logits > 0, logits * (1 / value - 1), logits * (value - 1))
        counts = self.counts[name]
        often = counts if name == "frequency_penalty" else np.minimum(counts, 1.0)
        return (-value * often)[None, :].astype(np.float64)

    def log_likelihood(self, shift: FloatArray, beta: float, masses: FloatArray) -> FloatArray:
        """(offsets,) given the cut right behind the least likely draw; ``masses``: sums over ``fresh`` from its end."""
        now = self.used + shift
        drawn: FloatArray = np.where(self.times > 0, now, np.inf).min(axis=1, initial=np.inf)
        least = np.minimum(drawn, self.least) - 1e-9
        fresh = masses[len(self.fresh) - np.searchsorted(self.fresh, least)]
        used = np.where(now >= least[:, None], np.exp(beta * now), 0.0).sum(axis=1)
        return beta * (self.total + now @ self.times) - self.n * np.log(fresh + used)


def penalties(draws: Sequence[Drawn], heat: Temperature) -> list[Penalty]:
    """The kinds of penalty that draws show, the best explanation first.

    Args:
        draws: prefixes with draws; those with few say nothing.
        heat: the temperature by the tokens that no penalty touches.
    """
    spread = heat.grid if np.isfinite(heat.value) else np.array([1.0])
    betas = [float(1 / t) for t in spread]
    found: list[Penalty] = []
    for own in (False, True):
        if own and all(one.generated is None for one in draws):
            continue
        sites = [_Site.of(one, own) if one.n >= ENOUGH else None for one in draws]
        told = [s for s in sites if s is not None and s.tells]
        if not told:
            return []
        likelihood = _Likelihood(told, betas)
        kinds = [name for name in KINDS if not (own and name == "repetition_penalty")]
        fitted = (_fit(name, likelihood, sites) for name in kinds)
        found += [replace(one, own=own) for one in fitted if one is not None]
    most = max((one.gain for one in found), default=0.0)
    return sorted(found, key=lambda one: one.gain < most - _ALIKE)


class _Likelihood:
    """Of penalties of one kind, at the best temperature and the best constants."""

    def __init__(self, told: Sequence[_Site], betas: Sequence[float]) -> None:
        self.told, self._betas = told, betas
        self._masses = [
            [np.append(0.0, np.cumsum(np.exp(b * s.fresh[::-1]))) for s in told] for b in betas
        ]
        self.neutral = self.at("presence_penalty", 0.0)[0]

    def at(
        self, name: str, value: float, among: tuple[float, float] | None = None
    ) -> tuple[float, list[float]]:
        """Nats, and the constant of each prefix (``among``: of those candidates, where there are any)."""
        best, chosen = -np.inf, [0.0] * len(self.told)
        offsets = [_some(site.offsets, among) for site in self.told]
        shifts = [s.shift(name, value, o) for s, o in zip(self.told, offsets, strict=True)]
        for beta, masses in zip(self._betas, self._masses, strict=True):
            nats = [
                site.log_likelihood(shift, beta, mass)
                for site, shift, mass in zip(self.told, shifts, masses, strict=True)
            ]
            total = sum(float(one.max()) for one in nats)
            if total > best:
                best = total
                chosen = [float(o[int(one.argmax())]) for o, one in zip(offsets, nats, strict=True)]
        return best, chosen

    def over(
        self, name: str, grid: FloatArray, among: tuple[float, float] | None = None
    ) -> FloatArray:
        """Nats of each value of a grid."""
        return np.array([self.at(name, float(value), among)[0] for value in grid])


def _some(offsets: FloatArray, among: tuple[float, float] | None) -> FloatArray:
    if among is None or offsets is not _OFFSETS:
        return offsets
    inside = offsets[(offsets >= among[0]) & (offsets <= among[1])]
    return inside if len(inside) else offsets


def _fit(name: str, likelihood: _Likelihood, sites: Sequence[_Site | None]) -> Penalty | None:
    """One kind of penalty, if draws show it."""
    grid, none = _GRIDS[name], likelihood.neutral
    if float(likelihood.over(name, grid[::_COARSE]).max()) < none + _HOPELESS:
        return None
    nats = likelihood.over(name, grid)
    gain, free, among = float(nats.max()) - none, 1, None
    if name == "repetition_penalty":
        free, among = free + sum(len(site.offsets) > 1 for site in likelihood.told), _USUAL
    p_value = float(special.chdtrc(free, 2 * max(gain, 0.0)))
    if p_value > _DETECT:
        return None
    inside = np.flatnonzero(nats >= nats.max() - HALF_95)
    usual = nats if among is None else likelihood.over(name, grid, among)
    value = float(grid[int(np.where(nats >= nats.max() - HALF_95, usual, -np.inf).argmax())])
    offsets = likelihood.at(name, value, among)[1]
    at = dict(zip(map(id, likelihood.told), offsets, strict=True))
    return Penalty(
        name,
        value,
        float(grid[inside[0] - 1]) if inside[0] else -np.inf,
        float(grid[inside[-1] + 1]) if inside[-1] < len(grid) - 1 else np.inf,
        gain,
        p_value,
        tuple(at.get(id(site)) for site in sites),
    )


def log_partition(drawn: Drawn, penalty: float) -> tuple[float, ...]:
    """What log Σ exp(logits) can be at a prefix, nats, by draws with a told penalty.

    A 95 % set: a value above 0, and one below that would change used tokens as much.

    Args:
        drawn: draws with the repetition penalty and all else neutral.
        penalty: the repetition penalty that was told.

    Raises:
        InvalidInput: ``penalty`` is not above 0, or is 1, which shows nothing.
    """
    check_between("penalty", penalty, 0, 100)
    if penalty == 1:
        raise InvalidInput("a repetition penalty of 1 changes nothing; tell one such as 1.1")
    site = replace(_Site.of(drawn), least=-np.inf)  # nothing is cut
    offsets = np.linspace(-120.0, 60.0, 361)
    mass = np.append(0.0, np.cumsum(np.exp(site.fresh[::-1])))
    nats = site.log_likelihood(site.shift("repetition_penalty", penalty, offsets), 1.0, mass)
    return tuple(offsets[nats >= nats.max() - HALF_95].tolist())


def applied(drawn: Drawn, penalty: Penalty, offset: float) -> Ranked:
    """The law after a penalty, by rank, with its draws."""
    law = drawn.law()
    with np.errstate(divide="ignore"):
        logs = np.log(law[:-1])
    used = np.isin(drawn.ids, drawn.prefix)
    shift = _Site.of(drawn, penalty.own).shift(penalty.name, penalty.value, np.array([offset]))
    logs[used] += shift[0]
    return by_rank(logs, drawn.ranks(), float(law[-1]), drawn.vocab - len(drawn.ids))


def setting(found: Sequence[Penalty]) -> Setting:
    """The best explanation as a setting; others that would do are in its note."""
    best, *others = found
    said = ["on what the same answer has written alone"] if best.own else []
    said += [
        f"or {o.name} {o.low:.3g} to {o.high:.3g}" for o in others if o.gain > best.gain - _ALIKE
    ]
    if best.name == "repetition_penalty" and not (best.high - best.low) < 0.15:
        said.append(
            "the value is that at logits of usual size; draws with a told penalty would tell"
        )
    return Setting(best.name, best.value, best.low, best.high, "; ".join(said))
