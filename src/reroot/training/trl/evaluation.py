"""Evaluation from the root, always; and from the training prefixes beside it.

A policy that solves a problem after a hint has not solved it. So every evaluation draws from the
empty prefix, and from the starts that the strategy would use now; the difference of both pass@1 is
the transfer gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...access.episode import Episode
from ...contract import Contract
from ...diagnosis.pass_at_k import pass_at_k
from ...errors import InvalidInput
from ...generators.base import Generator
from ..group import Group
from ..strategies.base import Strategy
from .collector import run_groups


@dataclass(frozen=True, slots=True)
class Evaluation:
    """pass@k from the root and from the training prefixes.

    Attributes:
        n: samples per problem.
        problems: how many.
        root: k → pass@k from the empty prefix, mean over problems.
        prefix: the same after starts of the strategy; ``None`` for strategies that start at the root.
        horizons: the same for each horizon: horizon → (problems, root, prefix).
    """

    n: int
    problems: int
    root: dict[int, float]
    prefix: dict[int, float] | None
    horizons: dict[int, tuple[int, dict[int, float], dict[int, float] | None]]

    @property
    def gap(self) -> float | None:
        """The transfer gap: pass@1 from the training prefixes less pass@1 from the root."""
        return None if self.prefix is None else self.prefix[1] - self.root[1]


def evaluate(
    generator: Generator,
    episodes: Sequence[Episode],
    strategy: Strategy,
    contract: Contract,
    *,
    size: int,
    seed: int,
    label: str,
) -> Evaluation:
    """Draw from the root and from the strategy's present starts; nothing is learnt from it.

    Args:
        generator: the policy.
        episodes: problems, held out or not.
        strategy: whose starts.
        contract: of the sessions.
        size: n, samples per problem and kind of start; pass@k for powers of 2 up to n.
        seed, label: key the draws.

    Raises:
        InvalidInput: there are no problems.
        RerootError: see ``run_groups``.
    """
    if not episodes:
        raise InvalidInput("an evaluation needs problems")
    kinds = (True,) if strategy.from_root else (True, False)
    names = [
        f"{e.problem.id}@{label}.{'root' if at_root else 'prefix'}"
        for at_root in kinds
        for e in episodes
    ]
    groups = run_groups(
        generator,
        list(episodes) * len(kinds),
        names,
        [at_root for at_root in kinds for _ in episodes],
        strategy=strategy,
        contract=contract,
        size=size,
        seed=seed,
    )
    root, prefix = groups[: len(episodes)], groups[len(episodes) :]
    ks = [1 << j for j in range(int(math.log2(size)) + 1)]
    horizons = sorted({e.problem.horizon for e in episodes})
    return Evaluation(
        size,
        len(episodes),
        _passes(root, episodes, ks),
        _passes(prefix, episodes, ks) if prefix else None,
        {h: _at(h, root, prefix, episodes, ks) for h in horizons},
    )


def _at(
    horizon: int,
    root: Sequence[Group],
    prefix: Sequence[Group],
    episodes: Sequence[Episode],
    ks: Sequence[int],
) -> tuple[int, dict[int, float], dict[int, float] | None]:
    mine = [i for i, e in enumerate(episodes) if e.problem.horizon == horizon]
    here = [episodes[i] for i in mine]
    after = _passes([prefix[i] for i in mine], here, ks) if prefix else None
    return len(mine), _passes([root[i] for i in mine], here, ks), after


def _passes(
    groups: Sequence[Group], episodes: Sequence[Episode], ks: Sequence[int]
) -> dict[int, float]:
    counts = [
        (len(g.rewards), sum(r >= e.problem.pass_at for r in g.rewards))
        for g, e in zip(groups, episodes, strict=True)
    ]
    return {k: float(np.mean([pass_at_k(n, c, k) for n, c in counts])) for k in ks}


def evaluation_line(found: Evaluation) -> Mapping[str, object]:
    """As JSON values, for a journal."""

    def named(passes: dict[int, float] | None) -> dict[str, float] | None:
        return None if passes is None else {str(k): v for k, v in passes.items()}

    return {
        "n": found.n,
        "problems": found.problems,
        "root": named(found.root),
        "prefix": named(found.prefix),
        "gap": found.gap,
        "horizons": {
            str(h): {"problems": count, "root": named(root), "prefix": named(prefix)}
            for h, (count, root, prefix) in found.horizons.items()
        },
    }
