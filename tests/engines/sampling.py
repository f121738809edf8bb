"""What servers do to logits before they draw: penalties, bias, temperature and truncations, in an order of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .language import Logs, normalized

TEMPERATURE_FIRST = ("temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True)
class Sampler:
    """One chain; the values here do nothing.

    Attributes:
        order: which steps there are, in order.
        bias: token → added to its logit.
        allowed: no other tokens.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    order: tuple[str, ...] = TEMPERATURE_FIRST
    bias: Mapping[int, float] = field(default_factory=dict)
    allowed: frozenset[int] | None = None

    def law(self, raw: Logs, before: Sequence[int], generated: Sequence[int]) -> Logs:
        """(K,) log-probabilities that are drawn from, −inf where cut."""
        logits = raw.copy()
        for token, value in self.bias.items():
            logits[token] += value
        if self.allowed is not None:
            logits[[t for t in range(len(raw)) if t not in self.allowed]] = -np.inf
        if self.repetition_penalty != 1.0 and (seen := list({*before, *generated})):
            scores = logits[seen]
            logits[seen] = np.where(
                scores < 0, scores * self.repetition_penalty, scores / self.repetition_penalty
            )
        if (self.presence_penalty or self.frequency_penalty) and generated:
            counts = np.bincount(generated, minlength=len(raw))
            logits -= self.presence_penalty * (counts > 0) + self.frequency_penalty * counts
        law = normalized(logits)
        if self.temperature == 0 and "temperature" in self.order:
            law = np.full(len(raw), -np.inf)
            law[int(logits.argmax())] = 0.0
            return law
        for step in self.order:
            law = getattr(self, f"_{step}")(law)
        return law

    def _temperature(self, law: Logs) -> Logs:
        return law if self.temperature == 1 else normalized(law / self.temperature)

    def _top_k(self, law: Logs) -> Logs:
        if not 0 < self.top_k < len(law):
            return law
        return _kept(law, np.argsort(-law, kind="stable")[: self.top_k])

    def _top_p(self, law: Logs) -> Logs:
        if self.top_p >= 1:
            return law
        order = np.argsort(-law, kind="stable")
        p = np.exp(law[order])
        return _kept(law, order[np.cumsum(p) - p < self.top_p])

    def _min_p(self, law: Logs) -> Logs:
        if self.min_p <= 0:
            return law
        return _kept(law, np.flatnonzero(law >= law.max() + np.log(self.min_p)))


def _kept(law: Logs, ids: np.ndarray) -> Logs:
    out = np.full(len(law), -np.inf)
    out[ids] = law[ids]
    return normalized(out)
