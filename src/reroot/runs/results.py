"""A comparison read back from its run folder, checked, and regrouped by learner."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract import Contract, Control, Oracle, Report, Sampling
from ..errors import InvalidInput, RunFolderError
from .attempts import attempts_of, usage_of
from .cells_of_results import UNIT, Paid, StoredCells, cells_of, paid_in, stored_cells
from .folder import CONFIG, JOURNAL, RESULTS, read_config
from .parted import Beside, read_results, results_beside
from .tables import (
    PROBLEMS,
    comparison_pieces,
    comparison_schema,
    planned_attempts,
    problem_schema,
    read_table,
)

if TYPE_CHECKING:
    import polars as pl

_ON = ("task", "horizon", *UNIT)
_FLAGS = ("True", "False")


@dataclass(frozen=True, slots=True, eq=False)
class Learner:
    """One learner as it was run, under one sampling law.

    Attributes:
        label: as in the results.
        name: name of the learner's function.
        short: the shortest name that is unique in this comparison, for figures and tables.
        params: its parameters, as text.
        requires: what it needs.
        sampling: the law it drew from.
        contracts: the granted contracts that permit it, weakest control first.
    """

    label: str
    name: str
    short: str
    params: Mapping[str, str]
    requires: Contract
    sampling: Sampling
    contracts: tuple[str, ...]

    @property
    def control(self) -> Control:
        """The control level it needs."""
        return self.requires.control

    @property
    def uses(self) -> frozenset[Oracle]:
        """Oracles it uses."""
        return self.requires.oracles

    @property
    def greedy(self) -> bool:
        """It sees nothing but the most likely token."""
        return self.requires.report <= Report.ARGMAX(1)

    @property
    def given_answer(self) -> bool:
        """It is shown a demonstration."""
        return Oracle.DEMONSTRATION in self.uses


@dataclass(frozen=True, slots=True, eq=False)
class RunData:
    """A comparison on disk.

    Attributes:
        folder: the run folder.
        config: ``config.json``.
        table: one row per contract, learner and attempt, and the columns ``law``, ``cluster`` and
            ``group`` (of its problem), and ``abstained`` (its judge gave no reward, and no error); of
            very many attempts it is read from disk whenever it is collected.
        places: (task, horizon, learner, law, contract) of which there are attempts, in the order of the table.
        problems: one row per problem.
        usage: ``physical`` and ``seconds`` of all processes that worked on it, if known.
        learners: every learner, weakest control first.
        tasks: in the order of the configuration.
        cells: (label, law, task, horizon) → its attempts, once each, as they are asked for.
        lines: (task, horizon) → its problems, sorted by seed and problem.
        made: attempts that have finished, and attempts in all: fewer if it was interrupted.
        beside: where the parts of the table are, if very many attempts are not finished; they go with this.
    """

    folder: Path
    config: dict[str, Any]
    table: pl.LazyFrame
    places: pl.DataFrame
    problems: pl.DataFrame
    usage: dict[str, Any]
    learners: tuple[Learner, ...]
    tasks: tuple[str, ...]
    cells: Mapping[tuple[object, ...], pl.DataFrame]
    lines: dict[tuple[object, ...], pl.DataFrame]
    made: tuple[int, int]
    beside: Beside | None = None

    @property
    def results(self) -> pl.DataFrame:
        """The whole table, in memory."""
        return self.table.collect()

    @property
    def beta(self) -> float:
        """Temperature β of J_β, reward per nat."""
        return float(self.config.get("beta", 0.0))

    def horizons(self, task: str) -> list[int]:
        """The horizons of a task that have attempts, ascending."""
        return sorted({int(str(horizon)) for _, _, named, horizon in self.cells if named == task})

    def attempts(self, learner: Learner, task: str, horizon: int) -> pl.DataFrame:
        """The attempts of one learner, sorted by seed and problem; empty if there are none."""
        key = (learner.label, str(learner.sampling), task, horizon)
        return self.cells[key] if key in self.cells else self.table.head(0).collect()

    def paid(self, learner: Learner, task: str, horizon: int, currency: str) -> Paid:
        """What the attempts of one learner cost in one currency."""
        key = (learner.label, str(learner.sampling), task, horizon)
        if isinstance(self.cells, StoredCells) and key in self.cells:
            return self.cells.paid(key)[currency]
        return paid_in(self.attempts(learner, task, horizon), [currency])[currency]

    def ran(self, task: str, horizon: int) -> list[Learner]:
        """The learners that have attempts there, weakest control first."""
        return [x for x in self.learners if (x.label, str(x.sampling), task, horizon) in self.cells]

    def problem_rows(self, task: str, horizon: int) -> pl.DataFrame:
        """The problems of one task and horizon, sorted by seed and problem."""
        return self.lines.get((task, horizon), self.problems.head(0))


def load_run(folder: str | Path) -> RunData:
    """Read and check the folder of a comparison; of one that is not finished, what there is.

    Raises:
        RunFolderError: a file or column is missing or damaged, it is the folder of something
            else than a comparison, or it holds no finished attempt.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunFolderError(f"{path} is not a folder")
    config = read_config(path)
    if config.get("kind") != "compare":
        kind = config.get("kind")
        raise RunFolderError(f"{path} holds no comparison: {CONFIG} says kind {kind!r}")
    if not (path / PROBLEMS).exists():
        raise RunFolderError(f"{path} holds no finished attempt: no {PROBLEMS}")
    problems = read_table(path / PROBLEMS, problem_schema())
    with reading_config(path, "comparison"):
        _check_config(config)
        results, planned, beside = _results(path, config, problems)
        if results.lazy().head(1).collect().is_empty():
            raise RunFolderError(f"{path} holds no finished attempt")
        return run_data(path, config, results, problems, usage_of(path), planned, beside)


@contextmanager
def reading_config(folder: Path, what: str) -> Iterator[None]:
    """Say of whatever cannot be read inside that the configuration is none of ``what``."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RunFolderError(f"{folder / CONFIG} is no configuration of a {what}: {why}") from None


def _results(
    path: Path, config: Mapping[str, Any], problems: pl.DataFrame
) -> tuple[pl.DataFrame | pl.LazyFrame, int | None, Beside | None]:
    """The results, how many attempts there will be, and where the results are kept meanwhile; from the journal
    if it has more."""
    planned = planned_attempts(config, problems) if "granted" in config else None
    results = read_results(path, comparison_schema())
    if results is None or (planned is not None and _count(results) < planned):
        if (path / JOURNAL).exists() and planned is not None:
            found, beside = results_beside(comparison_pieces(config, problems, attempts_of(path)))
            return found, planned, beside
        if results is None:
            raise RunFolderError(f"{path} holds no finished attempt: no {RESULTS}")
    return results, planned, None


def _check_config(config: Mapping[str, Any]) -> None:
    """Refuse values of another kind than summaries and pages count on (``ValueError``)."""
    budget = config.get("budget", {})
    kinds = {
        **dict.fromkeys(("grants", "horizons", "learners"), list),
        **dict.fromkeys(("seeds", "problems"), int),
        "beta": (int, float),
        "budget": dict,
    }
    for name, kind in kinds.items():
        if name in config and not isinstance(config[name], kind):
            raise ValueError(f"{name} is {config[name]!r}")
    if not all(type(n) is int or (c == "usd" and type(n) is float) for c, n in budget.items()):
        raise ValueError(f"budget is {budget!r}")


def _count(results: pl.DataFrame | pl.LazyFrame) -> int:
    """Attempts in a table of results, where each has a row per contract that permits it."""
    import polars as pl

    table = results.lazy()
    laws = _laws(table.select("contract").unique().collect()["contract"])
    pairs = table.select("learner", _law(laws)).unique().collect(engine="streaming").rows()
    return sum(
        table.filter(pl.col("learner") == learner, pl.col("contract").is_in(_of(laws, law)))
        .select(pl.col("problem").n_unique())
        .collect()
        .item()
        for learner, law in pairs
    )


def _laws(contracts: Iterable[str]) -> dict[str, str]:
    """Contract → its sampling law."""
    return {c: str(Contract.parse(c).resolved.sampling) for c in contracts}


def _of(laws: Mapping[str, str], law: object) -> list[str]:
    return [contract for contract, its in laws.items() if its == law]


def _law(laws: Mapping[str, str]) -> pl.Expr:
    import polars as pl

    return pl.col("contract").replace_strict(laws, return_dtype=pl.String).alias("law")


def run_data(
    folder: Path,
    config: dict[str, Any],
    results: pl.DataFrame | pl.LazyFrame,
    problems: pl.DataFrame,
    usage: dict[str, Any],
    planned: int | None,
    beside: Beside | None = None,
) -> RunData:
    """The tables of a comparison, regrouped by learner; those on disk stay there.

    Raises:
        RunFolderError: they do not go with the configuration.
    """
    import polars as pl

    four = results.lazy().select("task", "horizon", "learner", "contract")
    there = four.unique(maintain_order=True).collect(engine="streaming")
    try:
        laws = _laws(there["contract"].unique())
    except InvalidInput as error:
        raise RunFolderError(f"{folder / RESULTS}: {error}") from None
    places = there.select("task", "horizon", "learner", _law(laws), "contract")
    learners = _learners(config, places, folder)
    found = set(there["task"])
    named = [t for t in config.get("tasks", []) if t in found]
    tasks = (*named, *sorted(found - set(named)))
    if isinstance(results, pl.LazyFrame):
        table = _joined(results.with_columns(_told(laws)), problems)
        cells, count = stored_cells(results, places, partial(_prepared, laws, problems))
    else:
        whole = _prepared(laws, problems, results)
        table, (cells, count) = whole.lazy(), cells_of(whole)
    made = (count, count if planned is None else planned)
    lines = problems.sort(UNIT).partition_by("task", "horizon", as_dict=True)
    return RunData(
        *(folder, config, table, places, problems, usage),
        *(learners, tasks, cells, lines, made, beside),
    )


def _prepared(
    laws: Mapping[str, str], problems: pl.DataFrame, results: pl.DataFrame
) -> pl.DataFrame:
    """Results with what is known of their contracts and problems; without one it stands for itself."""
    lines = _joined(results.lazy().select(_ON), problems).collect()
    return results.with_columns(*_told(laws), lines["cluster"], lines["group"])  # without copies


def _told(laws: Mapping[str, str]) -> list[pl.Expr]:
    import polars as pl

    abstained = pl.col("reward").is_null() & pl.col("error").is_null()
    filled = [pl.col(name).fill_null(False) for name in ("passed", "complete")]
    return [_law(laws), *filled, abstained.alias("abstained")]


def _joined(results: pl.LazyFrame, problems: pl.DataFrame) -> pl.LazyFrame:
    """Results with the cluster and group of each row's problem."""
    import polars as pl

    lines = problems.lazy().select(*_ON, "cluster", "group").unique(_ON, keep="first")
    return results.join(lines, on=_ON, how="left", maintain_order="left").with_columns(
        pl.col("cluster").fill_null(pl.col("problem")), pl.col("group").fill_null("")
    )


def accepted_failures(run: RunData) -> dict[str, Any] | None:
    """Complete outputs that the verifier accepts though their reward fails: how many, and one of them."""
    import polars as pl

    wrong = run.table.filter(pl.col("accepted")).collect()
    if not len(wrong):
        return None
    keys = ["learner", "law", "task", "horizon", *UNIT]
    wrong = wrong.unique(keys, keep="first", maintain_order=True)
    shown = wrong.select("problem", "learner", "text", "reward").row(0, named=True)
    return {"attempts": len(wrong), **shown}


def _learners(config: Mapping[str, Any], places: pl.DataFrame, path: Path) -> tuple[Learner, ...]:
    entries = {_label(entry): entry for entry in config.get("learners", [])}
    pairs = places.select("learner", "law").unique(maintain_order=True).rows()
    unknown = [label for label, _ in pairs if label not in entries]
    if unknown:
        raise RunFolderError(f"{path / CONFIG} does not name the learner {unknown[0]!r}")
    shorts = short_names([(entries[label], law) for label, law in pairs])
    found: list[Learner] = []
    for (label, law), short in zip(pairs, shorts, strict=True):
        here = (places["learner"] == label) & (places["law"] == law)
        contracts = places.filter(here)["contract"].unique(maintain_order=True).to_list()
        found.append(
            Learner(
                label,
                entries[label]["name"],
                short,
                {k: str(v) for k, v in entries[label].get("params", {}).items()},
                Contract.parse(entries[label]["requires"]),
                Sampling.parse(law),
                tuple(sorted(contracts, key=lambda c: Contract.parse(c).control.place)),
            )
        )
    return tuple(sorted(found, key=lambda x: (x.given_answer, x.control.place)))


def _label(entry: Mapping[str, Any]) -> str:
    if "label" in entry:
        return str(entry["label"])
    shown = ", ".join(
        f"{k}={v}" for k, v in entry.get("params", {}).items() if str(v) not in ("None", "none")
    )
    return f"{entry['name']}({shown})" if shown else str(entry["name"])


def short_names(entries: Sequence[tuple[Mapping[str, Any], str]]) -> list[str]:
    """Names that are unique: the learner's, plus the parameters (and law) that tell it apart.

    One parameter is enough if it differs everywhere, preferably one in words.
    """
    shorts: list[str] = []
    for entry, law in entries:
        same = {
            json.dumps(e.get("params", {})): {k: str(v) for k, v in e.get("params", {}).items()}
            for e, _ in entries
            if e["name"] == entry["name"]
        }
        mine = {k: str(v) for k, v in entry.get("params", {}).items()}
        differing = [k for k, v in mine.items() if any(x.get(k) != v for x in same.values())]
        telling = [k for k in differing if len({x.get(k) for x in same.values()}) == len(same)]
        shown = sorted(telling, key=lambda k: not mine[k].isalpha())[:1] or differing
        parts = [f"{k}={mine[k]}" for k in shown]
        if len(shown) == 1 and mine[shown[0]].isalpha() and mine[shown[0]] not in _FLAGS:
            parts = [mine[shown[0]]]  # the word alone says enough
        laws = {x for e, x in entries if e["name"] == entry["name"]}
        parts += [law] if len(laws) > 1 else []
        shorts.append(f"{entry['name']}({', '.join(parts)})" if parts else entry["name"])
    return shorts
