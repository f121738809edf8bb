"""What one interface costs in another: the cheapest path of rows, or a pair that shows why there is none."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...contract import Contract, Control, Report, Sampling
from ...errors import InvalidInput
from .candidates import indistinguishable
from .pairs import Pair
from .place import Interface
from .rows import RULES, Space, laws_of
from .server import Bias
from .sizes import Sizes
from .steps import Exactness, Step
from .unmet import unreached


@dataclass(frozen=True, slots=True)
class InterfacePrice:
    """``has`` serves ``wants``.

    Attributes:
        has, wants: the interfaces.
        steps: the reductions, one after the other; none where ``has`` shows it already.
    """

    has: Interface
    wants: Interface
    steps: tuple[Step, ...]

    @property
    def exactness(self) -> Exactness:
        """That of the worst step."""
        return max((step.exactness for step in self.steps), default=Exactness.FREE)

    @property
    def value(self) -> float:
        """Expected questions to what is held for one answer, at the sizes asked about."""
        return self.questions(1)

    def questions(self, answers: float) -> float:
        """Expected questions for so many answers at one prefix, which is built once."""
        for step in reversed(self.steps):
            answers = step.build + step.value * answers
        return answers

    @property
    def paid(self) -> tuple[Step, ...]:
        """The steps that cost something or change something."""
        return tuple(step for step in self.steps if step.row != "coarsen")

    @property
    def price(self) -> str:
        """In words and symbols."""
        said = [step.price for step in self.paid if step.value != 1 or step.build]
        return " × ".join(said) or "nothing"

    @property
    def assumes(self) -> str:
        """What must hold."""
        said = dict.fromkeys(step.assumes for step in self.steps if step.assumes)
        return "; ".join(said)

    def __str__(self) -> str:
        rows = ", ".join(step.row for step in self.paid) or "what is shown already"
        return f"{self.has} → {self.wants}: {self.exactness}, {self.price} ({rows})"


@dataclass(frozen=True, slots=True)
class Never:
    """``has`` cannot serve ``wants``: ``pair`` looks the same through it for ever."""

    has: Interface
    wants: Interface
    pair: Pair

    def __str__(self) -> str:
        return f"{self.has} → {self.wants}: never; {self.pair}"


def interface_price(
    has: Interface | Contract | str, wants: Interface | Contract | str, sizes: Sizes | None = None
) -> InterfacePrice | Never:
    """How ``has`` can answer as ``wants`` would: at best exactness, then at the least price.

    Rows are composed: an answer of one step asks for so many of the step before, and a prefix is built
    once; the exactness of a path is that of its worst row. "Within ε" is of log-probabilities or
    of total variation; lists, modes and truncated laws follow where no tie is within ε.

    Args:
        has: what is held; a contract without a sampling law is at temperature 1.
        wants: what is wanted.
        sizes: where prices are worked out.

    Raises:
        InvalidInput: a contract with oracles, or raw reports of another law than temperature 1.
    """
    return next(iter(interface_prices(has, [wants], sizes)))


def interface_prices(
    has: Interface | Contract | str,
    wants: Sequence[Interface | Contract | str],
    sizes: Sizes | None = None,
) -> list[InterfacePrice | Never]:
    """``interface_price`` of each of ``wants``; paths may pass the interfaces of all of them."""
    found: list[InterfacePrice | Never] = []
    for goal, one in zip(wants, settled(has, wants, sizes), strict=True):
        if one is None:
            raise InvalidInput(f"no row leads from {has} to {goal}, and no pair forbids one")
        found.append(one)
    return found


def settled(
    has: Interface | Contract | str,
    wants: Sequence[Interface | Contract | str],
    sizes: Sizes | None = None,
) -> list[InterfacePrice | Never | None]:
    """As ``interface_prices``; ``None`` where there is neither a path nor a pair."""
    start, goals = _interface(has, scores=True), [_interface(one) for one in wants]
    paths = _paths(start, _space((start, *goals)), sizes or Sizes(), set(goals))
    found: list[InterfacePrice | Never | None] = []
    for goal in goals:
        if goal in paths:
            found.append(InterfacePrice(start, goal, paths[goal]))
            continue
        pair = unreached(start, goal) or indistinguishable(start, goal)
        found.append(None if pair is None else Never(start, goal, pair))
    return found


def open_pairs(
    nodes: Sequence[Interface], sizes: Sizes | None = None
) -> list[tuple[Interface, Interface]]:
    """(has, wants) of all ordered pairs that have neither a path nor a pair: what the price list leaves open."""
    return [
        (has, goal)
        for has in nodes
        for goal, one in zip(nodes, settled(has, nodes, sizes), strict=True)
        if one is None
    ]


def lattice(
    k: int = 2, biases: Sequence[Bias] = (), laws: Sequence[str] = ("T=1",)
) -> Iterator[Interface]:
    """Every control with every report (lists of 1 and k), these biases beside none, and these laws.

    Left out is what has no price: greedy rollouts under a constant bias, raw reports at other laws.
    """
    listed = Report.ARGMAX(1), Report.ARGMAX(k), Report.TOPK(k)
    reports = dict.fromkeys((*listed, Report.SAMPLE, Report.LOGPROB, Report.FULL))
    for control, report, law, bias in itertools.product(
        Control, reports, map(Sampling.parse, laws), (None, *biases)
    ):
        greedy = control in (Control.ROOT, Control.EPISODE) and not report.draws
        raw = bias is not None and bias.raw and not law.is_base
        if bias is None or not (greedy or raw):
            yield Interface(Contract(control, report, law), bias)


def _interface(one: Interface | Contract | str, scores: bool = False) -> Interface:
    """With its sampling law named; a contract that is held scores from RESET on, where it can."""
    made = one if isinstance(one, Interface) else Interface(Contract.parse(one))
    contract = made.contract.resolved
    if contract.oracles:
        raise InvalidInput(f"prices are of reports, not of oracles, got {contract}")
    if contract.report == Report.NONE:
        raise InvalidInput("prices are of reports, got none")
    if made.bias is not None and made.bias.raw and contract.sampling != Sampling():
        raise InvalidInput(f"raw reports are of draws at temperature 1 here, got {contract}")
    rolls = contract.control in (Control.ROOT, Control.EPISODE)
    if made.bias is not None and rolls and not contract.report.draws:
        raise InvalidInput(f"greedy rollouts under a constant bias have no price here: {contract}")
    own = contract.control in (Control.RESET, Control.CHOSEN) and contract.report.has_logprob
    return Interface(contract, made.bias, scores and (made.scores or own))


def _space(ends: Sequence[Interface]) -> Space:
    """What a path between interfaces may pass."""
    reports = (one.contract.report for one in ends)
    usual = (Report.ARGMAX(1), Report.SAMPLE, Report.LOGPROB, Report.FULL)
    # sorted, so that all ends of a table have the same space, and share its edges
    return Space(
        tuple(Control),
        tuple(sorted({*reports, *usual}, key=str)),
        tuple(sorted({*map(laws_of, ends), Sampling(), Sampling(0.0)}, key=str)),
        tuple(sorted({None, *(one.bias for one in ends)}, key=str)),
    )


@functools.lru_cache(maxsize=8)
def _edges(space: Space, sizes: Sizes) -> dict[Interface, tuple[Step, ...]]:
    """Interface → the steps from it, as far as they were asked for."""
    return {}


def _paths(
    start: Interface, space: Space, sizes: Sizes, goals: set[Interface]
) -> dict[Interface, tuple[Step, ...]]:
    """The best paths from ``start``, until all goals are met (Dijkstra; exactness first, then price)."""
    done: dict[Interface, tuple[Step, ...]] = {}
    best: dict[Interface, tuple[float, float]] = {}
    left, tie, edges = set(goals), itertools.count(), _edges(space, sizes)
    # (exactness, questions for one answer, steps, tie, questions before the first, interface, path)
    queue: list[tuple[int, float, int, int, float, Interface, tuple[Step, ...]]] = [
        (0, 1.0, 0, next(tie), 0.0, start, ())
    ]
    while queue and left:
        exactness, value, length, _, built, here, steps = heapq.heappop(queue)
        if here in done:
            continue
        done[here] = steps
        left.discard(here)
        if here not in edges:
            edges[here] = tuple(
                itertools.chain.from_iterable(rule(here, space, sizes) for rule in RULES)
            )
        for step in edges[here]:
            if step.wants not in done:
                before = built + (value - built) * step.build
                after = before + (value - built) * step.value
                worst = max(exactness, int(step.exactness))
                if (worst, after) < best.get(step.wants, (9, 0.0)):
                    best[step.wants] = worst, after
                    entry = (worst, after, length + 1, next(tie), before, step.wants)
                    heapq.heappush(queue, (*entry, (*steps, step)))
    return done
