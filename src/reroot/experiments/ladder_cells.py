"""The cells of the ladder: what each control and report needs on paths, and the run that backs it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .. import limits
from ..access.learner import BoundLearner
from ..contract import Contract
from ..families.decoy_path import DecoyPath
from ..families.hidden_path import HiddenPath
from ..generators.base import Generator
from ..learners.registry import get_learner
from ..randomness import keyed_rng, stream_key
from ..types import Budget
from .baseline_learners import ask_all, greedy_rollout, root_plurality, root_reading
from .formulas import RootPath, scoring_quantile, waiting_quantile

SUCCESS = 0.95
CONTROLS = ("root", "visited", "reset", "chosen")
DECOYS = 2
REPORTS = ("argmax(1)", f"argmax({DECOYS + 1})", "sample", "logprob", "topk(1)", "full")

_READ = ("sample", "logprob", "full")


@dataclass(frozen=True, slots=True)
class Cell:
    """What success 0.95 takes under one control and report.

    Attributes:
        kind: ``exact`` (fixed, or exact by formula), ``quantile`` (exact 0.95 quantile of what the
            learner needs), ``mean`` (measured), ``bound`` (between ``low`` and the numbers given), or
            ``never``.
        trial: name of the run behind it.
        why: the learner, or why it is impossible; HTML.
        run: the learner, where the run is at full size with the numbers as its budget.
        rollouts, queries, rewards: the numbers; queries of ``mean`` come from the run.
        low: lower bound for any learner, of rollouts under root control, else of queries.
    """

    kind: str
    trial: str
    why: str
    run: str | BoundLearner = ""
    rollouts: int = 0
    queries: int = 0
    rewards: int = 0
    low: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A run: a learner on instances under the weakest contract, within the budget of its cell.

    Attributes:
        learner: the learner; ``ask_all`` if all instances must answer it alike.
        grants: the contract, as text.
        instances: makes the generators, one per attempt.
        budget: the numbers of the cell, or of the same formula at a smaller size.
        size: the size, where it is smaller than the cell's.
        exact: probability of success, where it is known exactly.
        leaves: whether success is to name all leaves of a trie.
    """

    learner: BoundLearner
    grants: str
    instances: Callable[[], Sequence[Generator]]
    budget: Budget = Budget()
    size: str = ""
    exact: float | None = None
    leaves: bool = False


def exact(trial: str, why: str, run: str | BoundLearner = "", **numbers: int) -> Cell:
    """A fixed cost, or one that is exact by formula."""
    return Cell("exact", trial, why, run, **numbers)


def bound(trial: str, why: str, run: str = "", **numbers: int) -> Cell:
    """Numbers that suffice, and a lower bound."""
    return Cell("bound", trial, why, run, **numbers)


def waits(trial: str, why: str, run: str, queries: int) -> Cell:
    """The exact quantile of a law of waiting."""
    return Cell("quantile", trial, why, run, queries=queries)


def dark(control: str, why: str) -> list[Cell]:
    """Lists that show nothing, whatever is asked."""
    return [Cell("never", f"blind {control}/{report}", why) for report in REPORTS[:2]]


def by_control(rows: Sequence[Sequence[Cell]]) -> dict[tuple[str, str], Cell]:
    """Cells by control and report, from a row for each control."""
    return {
        (control, report): cell
        for control, row in zip(CONTROLS, rows, strict=True)
        for report, cell in zip(REPORTS, row, strict=True)
    }


def full_runs(
    cells: Mapping[tuple[str, str], Cell],
    instances: Callable[[], Sequence[Generator]],
    **more: object,
) -> dict[str, Trial]:
    """The trials of the cells that say their run."""
    found: dict[str, Trial] = {}
    for cell in cells.values():
        if cell.run:
            learner = get_learner(cell.run) if isinstance(cell.run, str) else cell.run
            paid = {"rollouts": cell.rollouts, "queries": cell.queries, "rewards": cell.rewards}
            budget = Budget(**{name: amount for name, amount in paid.items() if amount})
            found[cell.trial] = under(learner, instances=instances, budget=budget, **more)
    return found


@dataclass(frozen=True)
class Ladder(ABC):
    """A family of the ladder: ``title`` and ``remark`` are its parameters, and what is particular; HTML."""

    title: str
    remark: str

    @abstractmethod
    def cells(self) -> dict[tuple[str, str], Cell]:
        """(control, report) → cell."""

    @abstractmethod
    def trials(self) -> dict[str, Trial]:
        """Name → run."""


def under(learner: BoundLearner, **more: object) -> Trial:
    """A trial under exactly what the learner requires."""
    return Trial(learner, str(learner.requires), **more)  # type: ignore[arg-type]


def blind(
    contract: str, instances: Callable[[], Sequence[Generator]], prefixes: Sequence[Sequence[int]]
) -> Trial:
    """All instances must answer alike, wherever the contract lets one ask."""
    report = contract.partition("/")[2]
    return Trial(ask_all(report=report, prefixes=prefixes), contract, instances)


def blind_runs(
    instances: Callable[[], Sequence[Generator]], prefixes: Sequence[Sequence[int]]
) -> dict[str, Trial]:
    """The trials of ``dark`` from the root and with VISITED control."""
    contracts = [f"{control}/{report}" for control in CONTROLS[:2] for report in REPORTS[:2]]
    return {f"blind {contract}": blind(contract, instances, prefixes) for contract in contracts}


@dataclass(frozen=True)
class PathLadder(Ladder):
    """A hidden path, or with decoys a decoy path: n candidates, the path token p, the others q.

    Args:
        K, H, p: vocabulary size, horizon, probability of the path token.
        k, p0: decoys and their probability.
        short: horizon of root-start runs.
        attempts, walks: attempts of each run, and of the posterior walk.
    """

    K: int
    H: int
    p: float
    k: int = 0
    p0: float = 0.0
    short: int = 4
    attempts: int = 80
    walks: int = 24

    @property
    def n(self) -> int:
        """Candidates for each place."""
        return self.K - self.k

    @property
    def q(self) -> float:
        """Probability of each other candidate on the path."""
        return (1.0 - self.k * self.p0 - self.p) / (self.n - 1)

    def make(self, H: int, seed: int, path: Sequence[int] | None = None) -> Generator:
        """An instance."""
        if self.k:
            return DecoyPath(self.K, H, self.k, self.p0, self.p, path, seed)
        return HiddenPath(self.K, H, self.p, path, seed)

    def paths(self, H: int) -> Callable[[], list[Generator]]:
        """As many secrets as attempts."""
        return lambda: [self.make(H, seed) for seed in range(self.attempts)]

    # ---- numbers ---------------------------------------------------------------------------------

    @property
    def root(self) -> RootPath:
        """The path, from the root."""
        return RootPath(self.n, self.p, self.q)

    @cached_property
    def floor(self) -> int:
        """Fano floor of conditional draws: decoys tell nothing, the others are a hidden path."""
        share = 1.0 - self.k * self.p0
        return math.ceil(SUCCESS * limits.capacity_floor(self.n, self.H, self.p / share) / share)

    @cached_property
    def draws(self) -> int:
        """m of the plurality walk behind decoys."""
        return limits.decoy_draws(self.K, self.H, self.k, self.p0, self.p, 1 - SUCCESS)

    @property
    def waiting(self) -> int:
        """Draws until the generator has emitted the first H - 1 tokens, and one more query."""
        return 1 + waiting_quantile(self.H - 1, self.p, SUCCESS)

    # ---- cells -----------------------------------------------------------------------------------

    def cells(self) -> dict[tuple[str, str], Cell]:
        reset = self._reset()  # what to choose is not known before it is reset to
        return by_control([self._root(), self._visited(), reset, reset])

    def _root(self) -> list[Cell]:
        enough, logprob, full = (self.root.rollouts(r, self.H, SUCCESS) for r in _READ)
        deepest = "the Bayes rule: the deepest rollout, less what was drawn there"
        plurality = "plurality of the rollouts at each prefix; below: LOGPROB"
        end = "the Bayes rule: the law at the end of the deepest rollout"
        votes = bound("root sample", plurality, rollouts=enough, low=logprob)
        read = exact("root logprob", deepest, rollouts=logprob)
        seen = exact("root full", end, rollouts=full)
        if self.k:
            decoy = "the greedy rollout follows decoy 0, at temperature 0 without doubt"
            return [*dark("root", f"{decoy}: {self._odds(self.H)}"), votes, read, read, seen]
        once = "the law at temperature 0 walks down the path"
        greedy = exact("greedy rollout", once, greedy_rollout(), rollouts=1)
        shown = "the Bayes rule: the list shows what the law does"
        listed = exact("root topk", shown, rollouts=full)
        return [greedy, greedy, votes, read, listed, seen]

    def _visited(self) -> list[Cell]:
        blind = [Cell("never", f"blind visited/{r}", self._why_not(r)) for r in REPORTS[:2]]
        until = "the law walk waits until the generator emits the next token"
        law = waits("visited full", until, self._law("visited"), self.waiting)
        draw = self._drawn("visited")
        return [*blind, self._sample(), draw, draw if self.k else law, law]

    def _reset(self) -> list[Cell]:
        greedy = f"greedy_walk:decoys={self.k}"
        walk = exact("reset argmax", "the greedy walk", greedy, queries=self.H)
        blind = Cell("never", "blind chosen/argmax(1)", self._why_not(REPORTS[0]))
        law = exact("reset full", "the law walk", self._law(), queries=self.H)
        draw = self._drawn("reset")
        return [blind if self.k else walk, walk, self._sample(), draw, draw if self.k else law, law]

    def _drawn(self, control: str) -> Cell:
        """Log-probabilities of what was drawn, and with resets of what is scored."""
        trial, law = f"{control} logprob", "at K = 2 one log-probability is the law"
        one, free = self.K == 2, control == "reset"
        walk = "law_walk:report=logprob" if one else f"logprob_walk:decoys={self.k}"
        walk += f",control={control}"
        if free:
            if one:
                return exact(trial, law, walk, queries=self.H)
            scores = "the log-probability walk draws once and scores the others"
            needed = scoring_quantile(self.n, self.H, self.p, self.q, SUCCESS)
            return waits(trial, scores, walk, needed)
        draws = "the log-probability walk draws until it sees the next token"
        return waits(
            trial,
            law if one else draws,
            walk,
            self.waiting if one else waiting_quantile(self.H, self.p, SUCCESS),
        )

    def _law(self, control: str = "") -> str:
        """The law walk, on the report that shows the law."""
        seen = "report=full" if self.k else "report=logprob" if self.K == 2 else "report=topk(1)"
        return f"law_walk:decoys={self.k},{seen}" + (f",control={control}" if control else "")

    def _sample(self) -> Cell:
        if not self.k:
            why = "the posterior walk; below: the capacity floor"
            return Cell("mean", "sample", why, low=self.floor)
        why = "the plurality walk that leaves decoys out; below: the capacity floor"
        walk = f"plurality_walk:draws_per_token={self.draws},decoys={self.k}"
        return bound("sample", why, walk, queries=self.H * self.draws, low=self.floor)

    def _why_not(self, report: str) -> str:
        if self.k and report == REPORTS[0]:
            return f"the decoys lead the list at every prefix: {self._odds(self.H)}"
        why = "nothing is emitted (@T=0 would emit the mode), so only ∅ may be asked"
        return f"{why}: {self._odds(self.H - 1)}"

    def _odds(self, unknown: int) -> str:
        return f"success at most (M + 1)/{self.n}<sup>{unknown}</sup> with M rewards"

    # ---- runs ------------------------------------------------------------------------------------

    def trials(self) -> dict[str, Trial]:
        paths = self.paths(self.H)
        found = self._root_trials() | full_runs(self.cells(), paths) | self._blind_trials()
        if not self.k:
            posterior = get_learner(f"posterior_walk:p={self.p},delta={1 - SUCCESS:.2g}")
            found["sample"] = under(posterior, instances=lambda: paths()[: self.walks])
        return found

    def _root_trials(self) -> dict[str, Trial]:
        """At a small horizon, by the same formulas."""
        h, k = self.short, self.k
        votes, read, seen = (self.root.rollouts(r, h, SUCCESS) for r in _READ)
        odds, law = self.root.success("logprob", read, h), self.root.success("full", seen, h)
        made = {
            "root sample": (root_plurality(n=votes, decoys=k), votes, None),
            "root logprob": (root_reading(n=read, report="logprob", decoys=k), read, odds),
            "root full": (root_reading(n=seen, report="full", decoys=k), seen, law),
        }
        if not k:
            made["root topk"] = (get_learner(f"root_bayes:n={seen}"), seen, law)
        size, paths = f"H = {h}", self.paths(h)
        return {
            name: under(learner, instances=paths, budget=Budget(rollouts=n), size=size, exact=sure)
            for name, (learner, n, sure) in made.items()
        }

    def _blind_trials(self) -> dict[str, Trial]:
        """Secrets that differ behind their first token, or with decoys everywhere."""
        H, rng = self.H, keyed_rng(stream_key(0, "ladder", "paths", (self.K, self.k)))
        rest = rng.integers(self.k, self.K, size=(4, H))
        same_start = rest.copy()
        same_start[:, 0] = rest[0, 0]
        found: dict[str, Trial] = {}
        for cell in self.cells().values():
            if cell.kind == "never":
                contract = cell.trial.removeprefix("blind ")
                length = Contract.parse(contract).report.top
                # ∅ shows the first token to a list that is longer than the decoys
                shared = contract.startswith("visited") and length > self.k
                paths = same_start if shared else rest
                asked = sorted({tuple(path[:t].tolist()) for path in paths for t in range(H)})
                found[cell.trial] = blind(contract, self._given(paths.tolist()), asked)
        return found

    def _given(self, paths: list[list[int]]) -> Callable[[], list[Generator]]:
        return lambda: [self.make(self.H, 0, path) for path in paths]


def permitted(trial: Trial, control: str, report: str) -> bool:
    """Whether a run under the trial's contract is one under this cell's as well."""
    mine = Contract.parse(trial.grants)
    cell = Contract.parse(f"{control}/{report}+reward")
    return mine.control <= cell.control and mine.report <= cell.report
