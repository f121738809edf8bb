"""What a server may be trusted with: claims with their evidence, from a probe or from a check at the start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...contract import Contract, Control, Report, Sampling
from ...errors import InvalidInput
from ..base import Capabilities
from .dialects import WHOLE
from .laws import needed


@dataclass(frozen=True, slots=True)
class Claim:
    """One property of a server.

    Attributes:
        name: of the property.
        holds: whether it was found.
        evidence: what was seen, in words.
    """

    name: str
    holds: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Granted(Capabilities):
    """The strongest contract that a server's claims carry.

    Attributes:
        longest: longest list that it shows; K: the whole law.
        vocab: K.
        claims: what it rests on.
    """

    longest: int = 0
    vocab: int = 0
    claims: tuple[Claim, ...] = field(default=(), compare=False)

    def refusal(self, contract: Contract) -> str | None:
        """Why ``contract`` cannot be honoured, with the claims that are missing; ``None`` if it can."""
        why = Capabilities.refusal(self, contract) or self._list_refusal(contract)
        missing = "; ".join(f"{c.name}: {c.evidence}" for c in self.claims if not c.holds)
        return f"{why} ({missing})" if why and missing else why

    def _list_refusal(self, contract: Contract) -> str | None:
        """Log-probabilities are those of the law drawn from: it must follow from the lists there are."""
        report, sampling = contract.report, contract.resolved.sampling or Sampling()
        if report == Report.SAMPLE or report == Report.NONE:
            return None
        top = needed(sampling, self.vocab if report.has_law else report.top, self.vocab)
        if (self.vocab if top == WHOLE else top) <= self.longest:
            return None
        wanted = "the whole law" if top == WHOLE else f"lists of {top} tokens"
        return f"{report} at {sampling} needs {wanted}, and its lists have at most {self.longest}"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a probe has found out about a server.

    Attributes:
        contract: the strongest that may be granted.
        claims: what it rests on.
    """

    contract: Contract
    claims: tuple[Claim, ...]

    @classmethod
    def read(cls, profile: str | Path | Mapping[str, Any]) -> Profile:
        """A profile, its ``profile.json``, or a folder with one.

        Raises:
            InvalidInput: it is none.
        """
        said: Any = profile
        if isinstance(profile, (str, Path)):
            file = Path(profile).expanduser()
            file = file / "profile.json" if file.is_dir() else file
            try:
                said = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise InvalidInput(f"{str(file)!r} is no profile: {error}") from None
        if not isinstance(said, Mapping) or "contract" not in said:
            raise InvalidInput(f"a profile has a contract and claims, got {str(said)[:80]!r}")
        claims = tuple(
            Claim(
                str(c.get("claim", c.get("name", ""))),
                bool(c.get("holds", True)),
                str(c.get("evidence", "")),
            )
            for c in said.get("claims", ())
        )
        return cls(Contract.parse(str(said["contract"])), claims)

    def meet(self, seen: Granted) -> Granted:
        """What both the probe and the check at this start carry."""
        report = self.contract.report.meet(seen.report)
        return Granted(
            control=self.contract.control.meet(seen.control),
            report=report,
            sampling=seen.sampling,
            forced=seen.forced and report.has_logprob,
            longest=_longest(report, seen),
            vocab=seen.vocab,
            claims=(*self.claims, *seen.claims),
        )


def _longest(report: Report, seen: Granted) -> int:
    return seen.longest if report.has_law else min(seen.longest, report.top)


def nothing_but_rollouts(vocab: int, claims: tuple[Claim, ...]) -> Granted:
    """What a server that speaks in texts is granted."""
    return Granted(
        Control.ROOT, Report.SAMPLE, sampling=False, forced=False, vocab=vocab, claims=claims
    )
