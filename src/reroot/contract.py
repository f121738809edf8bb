"""Contracts: a point in control x observation, a sampling law, and the oracles granted.

Source: arXiv 2604.04855: *control* says at which prefixes a learner may ask, *observation* says what
comes back for a generated token.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from .errors import InvalidInput, Shown, nearest
from .specs import check_text, parse_settings

_Named = TypeVar("_Named", bound=enum.Enum)


def _member(kind: type[_Named], what: str, text: str) -> _Named:
    """The member that ``text`` names, in any case (``InvalidInput`` with the nearest)."""
    name = check_text(text, what).strip().lower()
    members = {str(member): member for member in kind}
    if name not in members:
        raise InvalidInput(f"unknown {what.partition(' ')[2]} {text!r}.{nearest(name, members)}")
    return members[name]


class Control(enum.Enum):
    """At which prefixes may the learner ask?

    * ``ROOT``: only complete rollouts from the empty prefix.
    * ``EPISODE``: passes from the empty prefix. A query begins one, or goes on where one stands,
      with or without one token of the learner's choice put in; where a pass has been it does not
      come back.
    * ``VISITED``: also u·a where the generator itself emitted a at u in this session.
    * ``RESET``: also u·a, for any token a, where u was asked or visited in this session.
    * ``CHOSEN``: any prefix.

    ``<=`` is the partial order ROOT < EPISODE, VISITED < RESET < CHOSEN, a lattice; EPISODE, which
    steers and cannot return, and VISITED, which returns and cannot steer, are incomparable.
    """

    ROOT = 0
    EPISODE = 1
    VISITED = 2
    RESET = 3
    CHOSEN = 4

    @property
    def place(self) -> int:
        """Place in a list of all levels, each behind those that it is above: for tables to sort by."""
        return self.value

    def __le__(self, other: Control) -> bool:
        if self is other:
            return True
        if not isinstance(other, Control):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        apart = {self, other} == {Control.EPISODE, Control.VISITED}
        return self.place <= other.place and not apart

    def __lt__(self, other: Control) -> bool:
        return self != other and self <= other

    def join(self, other: Control) -> Control:
        """The weakest level that is at least both."""
        above = [c for c in Control if self <= c and other <= c]
        return min(above, key=lambda c: c.place)

    def meet(self, other: Control) -> Control:
        """The strongest level that is at most both."""
        below = [c for c in Control if c <= self and c <= other]
        return max(below, key=lambda c: c.place)

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Control:
        """Read ``"root"``, ``"episode"``, ``"visited"``, ``"reset"`` or ``"chosen"``."""
        return _member(cls, "a control level", text)


_Kind = enum.IntEnum("_Kind", "NONE ARGMAX SAMPLE LOGPROB TOPK FULL", start=0)
_LISTS = (_Kind.ARGMAX, _Kind.TOPK)


@dataclass(frozen=True, slots=True)
class Report:
    """What comes back for a generated token a at prefix u.

    ``ARGMAX(k)``: the k most likely tokens with their log-probabilities and no draw;
    ``SAMPLE``: the draw; ``LOGPROB``: the draw and log P(a|u); ``TOPK(k)``: both and the k most
    likely tokens with their log-probabilities; ``FULL``: the draw and the vector log P(·|u).
    ``NONE`` (nothing) is the bottom, so that every two reports have a meet.

    ``<=`` is the partial order: SAMPLE < LOGPROB < TOPK(1) < TOPK(2) < … < FULL,
    ARGMAX(k) < ARGMAX(k+1), ARGMAX(k) < TOPK(k); ARGMAX and SAMPLE are incomparable.
    """

    kind: _Kind
    k: int = 0

    NONE: ClassVar[Report]
    SAMPLE: ClassVar[Report]
    LOGPROB: ClassVar[Report]
    FULL: ClassVar[Report]

    def __post_init__(self) -> None:
        if type(self.kind) is not _Kind:
            raise InvalidInput(f"a report is Report.SAMPLE, Report.TOPK(5), …, got {self.kind!r}")
        listed = self.kind in _LISTS
        # exact type: the order compares k, and a subclass could bring a comparison of its own
        if type(self.k) is not int or (self.k < 1 if listed else self.k != 0):
            said = "(k) needs an integer k >= 1" if listed else " takes no k"
            raise InvalidInput(f"{self.kind.name}{said}, got {self.k!r}")

    @staticmethod
    def ARGMAX(k: int = 1) -> Report:
        """The k most likely tokens with their log-probabilities, no draw."""
        return Report(_Kind.ARGMAX, k)

    @staticmethod
    def TOPK(k: int) -> Report:
        """The draw, its log-probability, and the k most likely tokens with theirs."""
        return Report(_Kind.TOPK, k)

    @property
    def draws(self) -> bool:
        """Whether the generated token is a draw from the law (ARGMAX follows the mode instead)."""
        return self.kind >= _Kind.SAMPLE

    @property
    def has_logprob(self) -> bool:
        """Whether log P(a|u) of the drawn token is reported."""
        return self.kind >= _Kind.LOGPROB

    @property
    def has_law(self) -> bool:
        """Whether the whole vector log P(·|u) is reported."""
        return self.kind == _Kind.FULL

    @property
    def top(self) -> int:
        """Length k of the top-k list that is reported (0: none)."""
        return self.k

    def __le__(self, other: Report) -> bool:
        if not isinstance(other, Report):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        if self.kind == _Kind.NONE or other.kind == _Kind.FULL:
            return True
        if self.kind == _Kind.ARGMAX:
            return other.kind in _LISTS and self.k <= other.k
        return self.kind <= other.kind and self.k <= other.k

    def __lt__(self, other: Report) -> bool:
        return self != other and self <= other

    def join(self, other: Report) -> Report:
        """The weakest report that is at least both."""
        if self <= other:
            return other
        if other <= self:
            return self
        return Report.TOPK(max(self.k, other.k))  # a list on one side, a draw on the other

    def meet(self, other: Report) -> Report:
        """The strongest report that is at most both."""
        if self <= other:
            return self
        if other <= self:
            return other
        k = min(self.k, other.k)  # one of the two is ARGMAX, or both carry no common list
        return Report.ARGMAX(k) if k else Report.NONE

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}({self.k})" if self.k else self.kind.name.lower()

    @classmethod
    def parse(cls, text: str) -> Report:
        """Read ``"sample"``, ``"logprob"``, ``"full"``, ``"none"``, ``"argmax(3)"`` or ``"topk(5)"``."""
        match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", check_text(text, "a report").lower())
        name = match.group(1).upper() if match else ""
        if match is None or name not in _Kind.__members__:
            known = ["sample", "logprob", "full", "argmax", "topk"]
            hint = nearest(text.partition("(")[0].strip().lower(), known)
            raise InvalidInput(f"unknown report {text!r}.{hint}")
        kind, k = _Kind[name], match.group(2)
        if k is None:
            if kind == _Kind.TOPK:
                raise InvalidInput(f"report {text!r} needs a list length, as in 'topk(5)'")
            return cls(kind, int(kind == _Kind.ARGMAX))
        if kind not in _LISTS:
            raise InvalidInput(f"report {text!r}: {name.lower()} takes no list length")
        try:
            return cls(kind, int(k))
        except ValueError:
            raise InvalidInput(f"report {text!r} needs an integer list length >= 1") from None


Report.NONE = Report(_Kind.NONE)
Report.SAMPLE = Report(_Kind.SAMPLE)
Report.LOGPROB = Report(_Kind.LOGPROB)
Report.FULL = Report(_Kind.FULL)


_SETTINGS = {"t": "temperature", "top_p": "top_p", "top_k": "top_k"}


def _plain(value: float, name: str) -> float:
    """``value`` as a Python float without a negative zero (``InvalidInput`` if not a number)."""
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, (bool, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            return float(value) + 0.0
    raise InvalidInput(f"{name} must be a number, got {value!r}")


def _number(value: float) -> str:
    """The shortest text that reads back as ``value``."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True, slots=True)
class Sampling:
    """The law that draws follow: temperature first, then top-k, then top-p, then renormalize.

    Temperature 0 is the point mass on the most likely token (smallest id on ties). Part of the
    interface, because a decoding knob changes the generator that is being sampled.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        # plain floats, so that equal laws print alike and every law reads back from its text
        object.__setattr__(self, "temperature", _plain(self.temperature, "temperature"))
        object.__setattr__(self, "top_p", _plain(self.top_p, "top_p"))
        if not 0.0 <= self.temperature < math.inf:
            raise InvalidInput(f"temperature must be finite and >= 0, got {self.temperature!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidInput(f"top_p must lie in (0, 1], got {self.top_p!r}")
        if type(self.top_k) is not int or self.top_k < 0:
            raise InvalidInput(f"top_k must be an integer >= 0 (0: off), got {self.top_k!r}")

    @property
    def is_base(self) -> bool:
        """Whether draws follow the generator's own law, unchanged."""
        return self.temperature == 1.0 and self.top_p == 1.0 and self.top_k == 0

    def __str__(self) -> str:
        parts = [f"T={_number(self.temperature)}"]
        parts += [f"top_p={_number(self.top_p)}"] if self.top_p < 1 else []
        parts += [f"top_k={self.top_k}"] if self.top_k else []
        return ",".join(parts)

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Read ``"T=0.7"`` or ``"T=1,top_p=0.9,top_k=50"``."""
        plain = check_text(text, "a sampling law").lower()
        settings = parse_settings(plain, f"sampling law {text!r}")
        for name in settings:
            if name not in _SETTINGS:
                hint = nearest(name, ["T", "top_p", "top_k"])
                raise InvalidInput(f"unknown sampling setting {name!r}.{hint}")
        return cls(**{_SETTINGS[name]: value for name, value in settings.items()})  # type: ignore


class Oracle(enum.Enum):
    """What a session may answer besides the generator's reports; each is metered apart.

    * ``REWARD``: outcome rewards of complete outputs.
    * ``VERIFIER``: can this prefix still become a right output?
    * ``DEMONSTRATION``: tokens of a right output.
    * ``VALUE``: an estimate of the value of a prefix; the problem says of what.
    * ``HIDDEN``: hidden states of the generator, its own next-token law among them: whatever the
      report, that law is shown in full where control permits a question.
    """

    REWARD = "reward"
    VERIFIER = "verifier"
    DEMONSTRATION = "demonstration"
    VALUE = "value"
    HIDDEN = "hidden"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, text: str) -> Oracle:
        """Read ``"reward"``, ``"verifier"``, ``"demonstration"``, ``"value"`` or ``"hidden"``."""
        return _member(cls, "an oracle", text)


@dataclass(frozen=True, slots=True, repr=False)
class Contract(Shown):
    """What a learner may ask: control, report, sampling law and oracles.

    The same type states what a learner *requires* and what a session *grants*; a learner may be
    bound to a session when ``requires <= grants``. ``sampling=None`` means "whatever law" in a
    requirement, and is read as temperature 1 in a grant (``resolved``).
    """

    control: Control
    report: Report
    sampling: Sampling | None = None
    oracles: frozenset[Oracle] = frozenset()

    def __init__(
        self,
        control: Control,
        report: Report,
        sampling: Sampling | None = None,
        oracles: Iterable[Oracle] = (),
    ) -> None:
        for name, value, kinds, said in (
            ("control", control, Control, "a Control"),
            ("report", report, Report, "a Report"),
            ("sampling", sampling, (Sampling, type(None)), "a Sampling or None"),
        ):
            if not isinstance(value, kinds):
                raise InvalidInput(f"{name} must be {said}, got {value!r}")
            object.__setattr__(self, name, value)
        granted = list(oracles) if isinstance(oracles, Iterable) else [None]  # pyright: ignore[reportUnnecessaryIsInstance]
        if not all(isinstance(oracle, Oracle) for oracle in granted):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"oracles must be Oracle members, got {oracles!r}")
        object.__setattr__(self, "oracles", frozenset(granted))

    def apart(self) -> Contract:
        """An equal contract, of which whoever holds this one holds no part."""
        report, sampling = self.report, self.sampling
        if sampling is not None:
            sampling = Sampling(sampling.temperature, sampling.top_p, sampling.top_k)
        return Contract(self.control, Report(report.kind, report.k), sampling, self.oracles)

    @property
    def resolved(self) -> Contract:
        """This contract as a grant: with no sampling law named, draws are at temperature 1.

        Where ARGMAX reports show nothing but greedy rollouts, from the root and in passes, which draw,
        they are those of the law at temperature 0: at any other such a grant would permit no question.
        """
        if self.sampling is not None:
            return self
        greedy = self.control <= Control.EPISODE and self.report.kind == _Kind.ARGMAX
        return replace(self, sampling=Sampling(0.0 if greedy else 1.0))

    def with_oracles(self, oracles: Iterable[Oracle]) -> Contract:
        """This contract with ``oracles`` granted as well."""
        return replace(self, oracles=self.oracles | frozenset(oracles))

    def or_oracles(self, oracles: Iterable[Oracle]) -> Contract:
        """This contract; if it names no oracle, with ``oracles`` but hidden states, the generator's."""
        return self if self.oracles else self.with_oracles(set(oracles) - {Oracle.HIDDEN})

    def __le__(self, other: Contract) -> bool:
        if not isinstance(other, Contract):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return (
            self.control <= other.control
            and self.report <= other.report
            and (self.sampling is None or self.sampling == other.sampling)
            and self.oracles <= other.oracles
        )

    def __lt__(self, other: Contract) -> bool:
        return self != other and self <= other

    def meet(self, other: Contract) -> Contract:
        """The strongest contract that is at most both."""
        return Contract(
            self.control.meet(other.control),
            self.report.meet(other.report),
            self.sampling if self.sampling == other.sampling else None,
            self.oracles & other.oracles,
        )

    def join(self, other: Contract) -> Contract:
        """The weakest contract that is at least both.

        Raises:
            InvalidInput: the two name different sampling laws: no contract grants both.
        """
        if None not in (self.sampling, other.sampling) and self.sampling != other.sampling:
            raise InvalidInput(
                f"no contract is above both {self} and {other}: their sampling laws differ"
            )
        return Contract(
            self.control.join(other.control),
            self.report.join(other.report),
            self.sampling if self.sampling is not None else other.sampling,
            self.oracles | other.oracles,
        )

    def __str__(self) -> str:
        oracles = "".join(f"+{o}" for o in Oracle if o in self.oracles)
        law = f"@{self.sampling}" if self.sampling is not None else ""
        return f"{self.control}/{self.report}{oracles}{law}"

    def __repr__(self) -> str:
        return f"Contract({str(self)!r})"

    @classmethod
    def parse(cls, text: Contract | str) -> Contract:
        """Read ``control/report[+oracle…][@T=…[,top_p=…][,top_k=…]]``; a contract is taken as it is.

        Examples: ``root/sample``, ``reset/topk(5)@T=1``, ``chosen/full+reward+verifier``.

        Raises:
            InvalidInput: another text, or neither text nor a contract.
        """
        if isinstance(text, Contract):
            return text
        head, at, law = check_text(text, "a contract").partition("@")
        control, slash, rest = head.partition("/")
        if not slash:
            raise InvalidInput(
                f"contract {text!r} must look like 'control/report', as in 'reset/sample'"
            )
        report, *oracles = rest.split("+")
        return cls(
            Control.parse(control),
            Report.parse(report),
            Sampling.parse(law) if at else None,
            [Oracle.parse(o) for o in oracles],
        )
