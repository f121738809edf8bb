"""What a server may be trusted with: claims with their evidence, from a probe or from a check at the start."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...checks import check_int
from ...contract import Contract, Control, Report, Sampling
from ...errors import InvalidInput
from ..base import Capabilities
from .dialects import WHOLE
from .laws import needed
from .replies import Ranked, ranked


@dataclass(frozen=True, slots=True)
class Claim:
    """One property of a server.

    Attributes:
        name: of the property.
        holds: whether it was found; ``None``: nobody knows, as it was not asked or not settled.
        evidence: what was seen, in words, or why nothing was.
        tokens: spent on it, prompts included.
        error_rate: probability that a server with the property is said to lack it; 0: no chance is involved.
        carries: whether a contract may rest on it.
        settings: sampling settings that were estimated: name, value, low and high of a 95 % interval.
    """

    name: str
    holds: bool | None
    evidence: str
    tokens: int = 0
    error_rate: float = 0.0
    carries: bool = True
    settings: tuple[Mapping[str, Any], ...] = ()

    def written(self) -> dict[str, Any]:
        """As in a ``profile.json``."""
        said = asdict(self)
        return {"claim": said.pop("name"), **said, "settings": [dict(s) for s in self.settings]}

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Claim:
        """One claim of a ``profile.json``; what is missing there is taken as said by nobody."""
        holds = said.get("holds", True)
        return cls(
            str(said.get("claim", said.get("name", ""))),
            None if holds is None else bool(holds),
            str(said.get("evidence", "")),
            int(said.get("tokens", 0)),
            float(said.get("error_rate", 0.0)),
            bool(said.get("carries", True)),
            tuple(said.get("settings", ())),
        )


def unmet(claims: Iterable[Claim]) -> str:
    """What a contract could have rested on and cannot, with the evidence."""
    missing = (c for c in claims if c.carries and not c.holds)
    return "; ".join(f"{c.name}: {c.evidence}" for c in missing)


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
        missing = unmet(self.claims)
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
        model, dialect: of the server; "": not said.
        choices: most continuations per call that are drawn independently; ``None``: as many as the dialect has.
        known: a prompt, and the beginning of its law, by which the model is known again.
    """

    contract: Contract
    claims: tuple[Claim, ...]
    model: str = ""
    dialect: str = ""
    choices: int | None = None
    known: tuple[tuple[int, ...], Ranked] | None = None

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
        try:
            return cls(
                Contract.parse(str(said["contract"])),
                tuple(Claim.read(c) for c in said.get("claims") or ()),
                str(said.get("model") or ""),
                str(said.get("dialect") or ""),
                check_int("choices", said["choices"], 1) if said.get("choices") else None,
                _known(said.get("known_prompt")),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidInput(f"a profile that cannot be read: {error}") from None

    def check_server(self, model: str, dialect: str) -> None:
        """Refuse a profile that is of another server (``InvalidInput``)."""
        for what, own, other in (("model", self.model, model), ("dialect", self.dialect, dialect)):
            if own and own != other:
                raise InvalidInput(
                    f"the profile is of the {what} {own!r}, and the server has {other!r}: probe it"
                )

    def lacks(self, *names: str) -> bool:
        """Whether one of these claims was found not to hold."""
        return any(c.name in names and c.holds is False for c in self.claims)

    def meet(self, seen: Granted) -> Granted:
        """What both the probe and the check at this start carry."""
        report = self.contract.report.meet(seen.report)
        return Granted(
            control=self.contract.control.meet(seen.control),
            report=report,
            sampling=seen.sampling and not self.lacks("sampling fields", "raw lists"),
            forced=seen.forced and report.has_logprob and not self.lacks("given tokens"),
            longest=_longest(report, seen),
            vocab=seen.vocab,
            claims=(*self.claims, *seen.claims),
        )


def _known(said: Mapping[str, Any] | None) -> tuple[tuple[int, ...], Ranked] | None:
    if not said:
        return None
    logs = [-math.inf if value is None else float(value) for value in said["logprobs"]]
    return tuple(int(t) for t in said["prompt"]), ranked([int(t) for t in said["ids"]], logs)


def _longest(report: Report, seen: Granted) -> int:
    return seen.longest if report.has_law else min(seen.longest, report.top)


def nothing_but_rollouts(vocab: int, claims: tuple[Claim, ...]) -> Granted:
    """What a server that speaks in texts is granted."""
    return Granted(
        Control.ROOT, Report.SAMPLE, sampling=False, forced=False, vocab=vocab, claims=claims
    )
