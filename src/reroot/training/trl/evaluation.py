"""Evaluation from the root, always; and from the training prefixes beside it.

A policy that solves a problem after a hint has not solved it. So every evaluation draws from the
empty prefix, and from the starts that the strategy would use now; the difference of both pass@1 is
the transfer gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...access.episode import Episode
from ...contract import Contract
from ...diagnosis.pass_at_k import pass_at_k
from ...errors import InvalidInput
from ...generators.base import Generator
from ..group import Group
from ..groups import run_groups, whole
from ..strategies.base import Strategy

Passes = dict[str, float]
"""k, as text, → pass@k, mean over problems."""


def evaluate(
    generator: Generator,
    episodes: Sequence[Episode],
    strategy: Strategy,
    contract: Contract,
    *,
    size: int,
    seed: int,
    label: str,
) -> dict[str, Any]:
    """Draw from the root and from the strategy's present starts; nothing is learnt from it.

    Args:
        generator: the policy.
        episodes: problems, held out or not.
        strategy: whose starts.
        contract: of the sessions.
        size: n, samples per problem and kind of start; pass@k for powers of 2 up to n.
        seed, label: key the draws.

    Returns:
        JSON values: ``n`` samples of each of so many ``problems``; ``root`` and ``prefix``: k →
        pass@k from the empty prefix and after starts of the strategy (``None`` for strategies that
        start at the root); ``gap``, the transfer gap; and ``horizons``: the same for each horizon.

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
    attempted = run_groups(
        generator,
        list(episodes) * len(kinds),
        names,
        [at_root for at_root in kinds for _ in episodes],
        strategy=strategy,
        contract=contract,
        size=size,
        seed=seed,
    )
    groups = whole(attempted)
    ks = [1 << j for j in range(size.bit_length())]
    taken = {"root": groups[: len(episodes)], "prefix": groups[len(episodes) :]}

    def measured(chosen: Sequence[int]) -> dict[str, Any]:
        found: dict[str, Any] = {"problems": len(chosen)}
        for name, mine in taken.items():
            counts = [_passed(mine[i], episodes[i]) for i in chosen] if mine else []
            found[name] = _passes(counts, size, ks) if mine else None
        return found

    everything = measured(range(len(episodes)))
    by_horizon: dict[str, list[int]] = {}
    for i in sorted(range(len(episodes)), key=lambda i: episodes[i].problem.horizon):
        by_horizon.setdefault(str(episodes[i].problem.horizon), []).append(i)
    gap = (
        None
        if everything["prefix"] is None
        else everything["prefix"]["1"] - everything["root"]["1"]
    )
    horizons = {h: measured(chosen) for h, chosen in by_horizon.items()}
    return {"n": size, **everything, "gap": gap, "horizons": horizons}


def _passed(group: Group, episode: Episode) -> int:
    return sum(r >= episode.problem.pass_at for r in group.rewards)


def _passes(counts: Sequence[int], n: int, ks: Sequence[int]) -> Passes:
    return {str(k): float(np.mean([pass_at_k(n, c, k) for c in counts])) for k in ks}
