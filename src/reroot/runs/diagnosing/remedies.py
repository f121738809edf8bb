"""What would change the diagnosis, which access that needs, and what the first signal would cost then.

A price is predicted from attempts that were made; what none of them tells is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...access.attempt import Attempt
from ...contract import Contract
from ...diagnosis.first_signal import Posterior, first_signal, posterior
from ...generators.base import Generator
from ...randomness import keyed_rng, stream_key
from ...types import FloatArray
from .examination import Examination
from .forecast import GROUPS, counts, mean_tokens, tokens_of
from .opinions import second_opinion
from .patient import FIRST, Patient
from .starting import starting, unknown


class Remedies:
    """The list for one examination.

    Args:
        found: what was examined.
        draws: pass probabilities as things are.
        per_step: groups of one step of the trainer.
        seed: of the forecasts.
    """

    def __init__(
        self,
        found: Examination,
        draws: Posterior,
        *,
        per_step: int,
        seed: int,
    ) -> None:
        self._found, self._draws = found, draws
        self._per_step, self._seed = per_step, seed

    def all(self) -> list[dict[str, Any]]:
        """Every remedy as JSON values, those with a prediction first, the cheapest of them first."""
        made = [
            *self._larger_groups(),
            *self._same_rollouts(),
            *starting(self._found, self._draws, per_step=self._per_step, seed=self._seed),
            unknown("SFT on demonstrations first", ""),
        ]
        for remedy in made:
            remedy["granted"] = self._granted(remedy["needs"])
        return sorted(made, key=lambda r: _order(r["tokens"]))

    def _granted(self, needs: str) -> bool:
        """Whether the model's own interface allows it."""
        if not needs:
            return False
        generator: Generator = self._found.generator
        return generator.capabilities.refusal(Contract.parse(needs).resolved) is None

    def _predicted(
        self, name: str, needs: str, silent: FloatArray, cost: float, evidence: str
    ) -> dict[str, Any]:
        law = first_signal(np.clip(silent, 0.0, 1.0), self._per_step)
        tokens = tokens_of(law, min(self._per_step, silent.shape[1]) * cost)
        return {"name": name, "needs": needs, "tokens": dict(tokens), "evidence": evidence}

    def _larger_groups(self) -> list[dict[str, Any]]:
        length, mine = mean_tokens(self._found.patients), self._found.group
        return [
            self._predicted(
                f"groups of {g}",
                "root/sample+reward",
                self._draws.silent(g),
                g * length,
                "pass rates of the rollouts",
            )
            for g in GROUPS
            if g > mine
        ]

    # ---- the same rollouts, seen otherwise -----------------------------------------------------

    def _same_rollouts(self) -> list[dict[str, Any]]:
        """Another law, more room, another judge: where attempts speak of them."""
        patients, found = self._found.patients, list[dict[str, Any]]()
        if any(p.own_law for p in patients):
            name = "the model's own law (T = 1)"
            found.append(self._recounted(name, lambda p: p.own_law, lambda p, a: a.passed))
        if any(p.longer for p in patients):
            name = "a longer horizon (× 4)"
            found.append(self._recounted(name, lambda p: p.longer, lambda p, a: a.passed))
        pairs = [(p, a) for p in patients for a in p.counted()]
        examples = [a.text[-200:] for p, a in pairs if _would_pass(p, a) and not a.passed][:5]
        if examples:
            remedy = self._recounted("a mended judge", lambda p: p.counted(), _would_pass)
            found.append({**remedy, "examples": examples})
        return found

    def _recounted(
        self,
        name: str,
        attempts: Callable[[Patient], Sequence[Attempt]],
        passes: Callable[[Patient, Attempt], bool],
    ) -> dict[str, Any]:
        """Pass rates by other attempts, where there are any; as they are elsewhere."""
        patients = self._found.patients
        passed, tried = counts(patients)
        spent = [sum(a.cost.tokens for a in p.rollouts) / max(1, len(p.rollouts)) for p in patients]
        for i, p in enumerate(patients):
            rows = [a for a in attempts(p) if not a.abstained][:FIRST]
            if rows:
                passed[i], tried[i] = sum(passes(p, a) for a in rows), len(rows)
                spent[i] = sum(a.cost.tokens for a in rows) / len(rows)
        rng = keyed_rng(stream_key(self._seed, "diagnosis", name))
        silent = posterior(passed, tried, rng).silent(self._found.group)
        cost = self._found.group * float(np.mean(spent))
        evidence = f"{sum(passed)} of {sum(tried)} first rollouts pass so"
        return self._predicted(name, "root/sample+reward", silent, cost, evidence)


def _would_pass(patient: Patient, attempt: Attempt) -> bool:
    """Whether a second judge passes it."""
    answer = patient.episode.problem.answer
    return attempt.passed or (attempt.complete and second_opinion(answer, attempt.text))


def _order(tokens: dict[str, int | None] | None) -> float:
    median = None if tokens is None else tokens["median"]
    return float("inf") if tokens is None else 1e300 if median is None else float(median)
