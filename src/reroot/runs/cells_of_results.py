"""The attempts of a comparison by learner, law, task and horizon: taken out of the results when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..types import CURRENCIES
from .tables import comparison_schema

if TYPE_CHECKING:
    import polars as pl

Place = tuple[object, ...]
"""(label, law, task, horizon)."""
UNIT = ("seed", "problem")
"""What identifies an attempt of one learner on one task and horizon."""
_KEYS = ("learner", "law", "task", "horizon")


class Paid(NamedTuple):
    """What the attempts of one learner cost in one currency: in all, and how many of them paid anything."""

    total: int
    paying: int
    attempts: int


def paid_in(rows: pl.DataFrame, currencies: Sequence[str]) -> dict[str, Paid]:
    """Currency → what these attempts paid."""
    found: dict[str, Paid] = {}
    for currency in currencies:
        cost = rows[f"cost_{currency}"]
        found[currency] = Paid(int(cost.sum()), int((cost > 0).sum()), len(cost))
    return found


def cells_of(results: pl.DataFrame) -> tuple[Mapping[Place, pl.DataFrame], int]:
    """Place → its attempts, once each, sorted by seed and problem; and how many attempts there are."""
    numbered = results.select(*_KEYS, *UNIT).with_row_index("row")
    once = numbered.unique([*_KEYS, *UNIT], keep="first", maintain_order=True).sort(UNIT)
    rows = {k: part["row"] for k, part in once.partition_by(_KEYS, as_dict=True).items()}
    return _Cells(results, rows), len(once)


def stored_cells(
    results: pl.LazyFrame, places: pl.DataFrame, prepared: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[Mapping[Place, pl.DataFrame], int]:
    """``cells_of`` results that are on disk, from where each cell is read whenever it is asked for.

    Args:
        results: the results as they are on disk.
        places: (task, horizon, learner, law, contract) of which there are attempts.
        prepared: some of the results → the same with what is known of their contracts and problems.
    """
    by_place = places.group_by(*_KEYS, maintain_order=True).agg("contract").rows()
    contracts = {tuple(place): contracts for *place, contracts in by_place}
    cells = StoredCells(results, contracts, prepared)
    return cells, sum(len(cells.read(place, UNIT)) for place in cells)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells(Mapping[Place, "pl.DataFrame"]):
    results: pl.DataFrame
    rows: Mapping[Place, pl.Series]

    def __getitem__(self, key: Place) -> pl.DataFrame:
        return self.results[self.rows[key]]

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __iter__(self) -> Iterator[Place]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class StoredCells(Mapping[Place, "pl.DataFrame"]):
    results: pl.LazyFrame
    contracts: Mapping[Place, list[str]]
    prepared: Callable[[pl.DataFrame], pl.DataFrame]
    _paid: dict[Place, dict[str, Paid]] = field(default_factory=dict[Place, dict[str, Paid]])

    def paid(self, key: Place) -> dict[str, Paid]:
        """``paid_in`` a cell, which is read for it once."""
        if key not in self._paid:
            rows = self.read(key, [f"cost_{c}" for c in CURRENCIES])
            self._paid[key] = paid_in(rows, CURRENCIES)
        return self._paid[key]

    def read(self, key: Place, columns: Sequence[str]) -> pl.DataFrame:
        """Some columns as they are on disk, with seed and problem."""
        import polars as pl

        learner, _, task, horizon = key
        contracts = pl.col("contract").is_in(self.contracts[key])
        rows = self.results.filter(contracts, learner=learner, task=task, horizon=horizon)
        once = rows.select(*dict.fromkeys([*UNIT, *columns])).collect()
        return once.unique(UNIT, keep="first", maintain_order=True).sort(UNIT)

    def __getitem__(self, key: Place) -> pl.DataFrame:
        names = list(comparison_schema())
        return self.prepared(self.read(key, names).select(names))

    def __contains__(self, key: object) -> bool:
        return key in self.contracts

    def __iter__(self) -> Iterator[Place]:
        return iter(self.contracts)

    def __len__(self) -> int:
        return len(self.contracts)
