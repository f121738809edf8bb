"""The released settings of ``settle-neural``: first those without a KL term, then those with one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...limits import balancing_beta
from ..base import Setting
from .rows import MAIN, P

_BUDGET = 1_500_000
_ROOT_BUDGETS = {4: 200_000, 8: 400_000, 12: 800_000, 16: 1_500_000, 20: 4_000_000,
                 22: 8_000_000, 32: 2_400_000}  # fmt: skip


def _runs(
    arm: str, horizons: Sequence[int], paths: Iterable[int] = (0,), task: str = MAIN
) -> list[Setting]:
    budgets = _ROOT_BUDGETS if arm == "root" else dict.fromkeys(horizons, _BUDGET)
    told = {"task": task, "arm": arm}
    return [{**told, "H": H, "path": i, "budget": budgets[H]} for H in horizons for i in paths]


_PLAIN: tuple[Setting, ...] = (
    # long ones first, so that no worker is left alone with one
    *_runs("root", (22, 32)),
    *_runs("plurality", (32,)),
    *_runs("root", (20,)),
    *_runs("root", (16, 12, 8, 4), (0, 1)),
    *_runs("argmax", (32,), (0, 1)),
    *_runs("argmax", (22, 16, 12, 8, 4)),
    *_runs("plurality", (16, 8)),
    *_runs("self_reset", (16,)),
    *(s for arm in ("verified", "adaback", "r3") for s in _runs(arm, (32, 16))),
    *_runs("root", (8,), task="chain_of_parities"),
    *_runs("argmax", (8, 16), task="chain_of_parities"),
    *_runs("root", (20,), (1, 2)),
    *_runs("root", (16, 12, 8, 4), (2, 3)),
    *_runs("argmax", (22, 16, 12, 8, 4), (1,)),
    *_runs("plurality", (32,), (1,)),
)

# ---- with a KL term ------------------------------------------------------------------------------

BALANCE = 4
"""β is R/(2H·log(1/p)) divided by this, so that J*_β stays near 7/8 at every horizon."""

KL_BUDGETS = {4: 200_000, 6: 250_000, 8: 300_000, 10: 350_000, 12: 400_000, 16: 400_000,
              20: 600_000, 32: 2_000_000}  # fmt: skip
"""Horizon → generated tokens of a run, the same in all arms."""

FIRST_SEED = 10
"""Of the runs with a KL term: until the first reward a run with the same seed draws the same rollouts
whatever β is, so that waits would not be new evidence."""

_SMALL: tuple[tuple[str, int], ...] = (
    ("root", 4), ("argmax", 4), ("root", 6), ("root", 8), ("argmax", 8), ("plurality", 8), ("root", 10),
    ("root", 12), ("argmax", 12), ("root", 16), ("argmax", 16), ("plurality", 16), ("self_reset", 16),
    ("verified", 16), ("adaback", 16), ("r3", 16),
)  # fmt: skip
_LARGE = (
    ("argmax", 20), ("argmax", 32), ("adaback", 32), ("verified", 32), ("r3", 32),
    ("plurality", 32),
)  # fmt: skip
_FEW, _MANY = range(3), range(3, 6)


def beta_of(H: int) -> float:
    """β of the runs at a horizon, reward per nat: it depends on H and p alone."""
    return round(balancing_beta(H, P) / BALANCE, 9)


def _run(arm: str, H: int, i: int) -> Setting:
    told = {"task": MAIN, "arm": arm, "H": H, "path": FIRST_SEED + i}
    return {**told, "budget": KL_BUDGETS[H], "beta": beta_of(H)}


# seed by seed, so that a recording that is cut short has all arms; the root's long runs before cheap
# ones, so that no worker is left alone with one
_KL: tuple[Setting, ...] = (
    *(_run(arm, H, i) for i in _FEW for arm, H in _SMALL),
    *(_run(arm, H, i) for i in _FEW for arm, H in _LARGE),
    *(_run("root", H, i) for i in _FEW for H in (20, 32)),
    *(_run("root", 20, i) for i in (3, 4)),
    *(_run(arm, H, i) for i in _MANY for arm, H in _SMALL),
)

SETTINGS = (*_PLAIN, *_KL)
QUICK = tuple(
    i
    for i, s in enumerate(_PLAIN)
    if s["path"] == 0 and s["task"] == MAIN and s["arm"] in ("root", "argmax") and s["H"] <= 8
)
