"""The ladder: for each control and report, the queries that success 0.95 takes on each family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..generators.base import Generator
from ..pages.kit.cells import dot, table_of
from ..pages.kit.formatting import from_log, quantity
from ..pages.kit.markup import Html
from ..pages.kit.table import Part, Table, columns
from ..runs.run import RunResult, run
from ..types import CURRENCIES
from .base import Check, Experiment, Row, Setting, where
from .baseline_learners import found_leaves
from .counts import ERROR, banded, counted
from .formulas import at_most
from .ladder_cells import CONTROLS, DECOYS, REPORTS, SUCCESS, Cell, Ladder, PathLadder, Trial
from .ladder_more import ParityLadder, TrieLadder
from .measuring import run_each

FAMILIES: dict[str, Ladder] = {
    "hidden-path": PathLadder(
        "Hidden path, K = 4, H = 16, p = 0.5",
        "Root-start is exponential, all else is linear in H; what VISITED costs against RESET is waiting.",
        4, 16, 0.5,
    ),
    "small-advantage": PathLadder(
        "Hidden path with a small advantage, K = 4, H = 16, p = 0.3",
        "Here p − q = Δ = 0.067: a token takes about 1/Δ² samples, and one law.",
        4, 16, 0.3, short=3,
    ),
    "two-tokens": PathLadder(
        "Hidden path over two tokens, K = 2, H = 16, p = 0.6",
        "At K = 2 one log-probability is the law: LOGPROB equals FULL at every control level.",
        2, 16, 0.6,
    ),
    "decoy-path": PathLadder(
        f"Decoy path, K = 8, H = 16, k = {DECOYS}, p0 = 0.25, p1 = 0.2",
        "The list of k is blind under any control, the list of k + 1 sees; TOPK(1) adds nothing to LOGPROB.",
        8, 16, 0.2, k=DECOYS, p0=0.25, short=3,
    ),
    "hidden-trie": TrieLadder(
        "Hidden trie, K = 16, H = 8, a = 0.3, b = 0.1, S = 24, all leaves to be found",
        "One leaf is easy, the greedy rollout ends in one; the whole trie is not.",
        16, 8, 0.3, 0.1, 24,
    ),
    "noisy-parity": ParityLadder(
        "Noisy parity, T = 12, α = 0.2",
        "ROOT/SAMPLE is hard to compute, not short of information; whatever else sees the last bit is easy.",
        12, 0.2,
    ),
}  # fmt: skip

_LISTS = ("argmax(1)", "argmax(3)")
_FROM_VISITED = tuple(f"blind visited/{report}" for report in _LISTS)
_FROM_ROOT = tuple(f"blind root/{report}" for report in _LISTS)
_READ = ("visited logprob", "visited full", "reset argmax", "reset logprob", "reset full")
_WALKS = ("greedy rollout", "root sample", "root logprob", "root topk", "root full", "sample")
_WALKS = (*_WALKS, *_READ, *_FROM_VISITED)
_SEEN = ("root sample", "root logprob", "root full", "sample")
_PROBES = ("reset probe", "reset sample", "chosen probe", "chosen logprob", "chosen sample")
_TRIALS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("hidden-path", _WALKS),
    ("small-advantage", _WALKS),
    ("two-tokens", _WALKS),
    ("decoy-path", (*_SEEN, *_READ, *_FROM_ROOT, *_FROM_VISITED, "blind chosen/argmax(1)")),
    ("hidden-trie", (*_SEEN, "logprob", "listed", "law", "top-1", *_FROM_ROOT, *_FROM_VISITED)),
    ("noisy-parity", (*_SEEN[:2], "visited sample", *_PROBES, *_FROM_ROOT, *_FROM_VISITED)),
)
"""Append-only, like the settings that are made of it."""

_SETTINGS: tuple[Setting, ...] = tuple(
    {"family": family, "trial": trial} for family, trials in _TRIALS for trial in trials
)
_QUICK_TRIALS = {
    "two-tokens": ("reset full",),
    "decoy-path": (
        "root full",
        "reset argmax",
        _FROM_ROOT[1],
        _FROM_VISITED[1],
        "blind chosen/argmax(1)",
    ),
    "hidden-trie": ("root full", "law", _FROM_ROOT[0], _FROM_VISITED[0]),
    "noisy-parity": (
        "root sample",
        "root logprob",
        "chosen probe",
        _FROM_ROOT[0],
        _FROM_VISITED[0],
    ),
}
_QUICK = tuple(
    i for i, s in enumerate(_SETTINGS) if s["trial"] in _QUICK_TRIALS.get(s["family"], ())
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(setting: Setting) -> list[Row]:
    trial = FAMILIES[setting["family"]].trials()[setting["trial"]]
    members = trial.instances()
    if trial.learner.name == "ask_all":
        return [_answers(trial, members, setting["seed"])]
    result = run_each(trial.learner, members, setting["seed"], trial.grants, budget=trial.budget)
    return [_account(trial, members, result)]


def _account(trial: Trial, members: Sequence[Generator], result: RunResult) -> Row:
    passed = [attempt.passed for attempt in result.attempts]
    if trial.leaves:
        passed = [
            found_leaves(attempt.metadata) == list(member.leaves)  # type: ignore[attr-defined]
            for attempt, member in zip(result.attempts, members, strict=True)
        ]
    costs = {c: np.array([getattr(a.cost, c) for a in result.attempts]) for c in CURRENCIES}
    queries = costs["queries"]
    paid = ("rollouts", "queries", "rewards")
    most, least = ({c: int(f(costs[c])) for c in paid} for f in (max, min))
    return {
        "learner": trial.learner.label,
        "grants": trial.grants,
        "size": trial.size,
        "attempts": len(passed),
        "passed": sum(passed),
        "exact": trial.exact,
        "budget": trial.budget.to_dict(),
        "most": most,
        "least": least,
        "queries": float(queries.mean()),
        "deviation": float(queries.std(ddof=1) / math.sqrt(len(queries))),
        "errors": sum(a.error is not None for a in result.attempts),
    }


def _answers(trial: Trial, members: Sequence[Generator], seed: int) -> Row:
    """How many different answers the secrets give; each is asked by the same learner, at the same."""
    notes = []
    for member in members:
        problem = member.problem("it")  # type: ignore[attr-defined]
        result = run(trial.learner, [problem], member, grants=trial.grants, seed=seed)
        notes.append(result.attempts[0].metadata)
    return {
        "grants": trial.grants,
        "secrets": len(members),
        "answers": len({note["digest"] for note in notes}),
        "answered": notes[0]["answered"],
        "refused": notes[0]["refused"],
    }


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    runs = [r for r in rows if "passed" in r]
    known = [r for r in runs if r["exact"] is not None]
    return [
        _backed(runs),
        _fixed(runs),
        *banded("the exact formulas of the root row hold where they can be run", known),
        *_blindness([r for r in rows if "answers" in r]),
        *_particular(rows),
    ]


def _backed(rows: Sequence[Row]) -> Check:
    """Success 0.95 is not refuted in any run: exact binomial, wrong with 1e-3 in all."""
    error = ERROR / max(1, len(rows))
    missed = [(r, r["attempts"] - r["passed"]) for r in rows]
    short = [r for r, n in missed if not at_most(n, r["attempts"], 1 - SUCCESS, error)]
    worst = min(rows, key=lambda r: r["passed"] / r["attempts"])
    said = f"{len(rows)} runs; the least success is {worst['passed']} of {worst['attempts']} "
    said += f"({_run_name(worst)})"
    said += f"; too few: {'; '.join(map(_run_name, short))}" if short else ""
    name = "the numbers of the table suffice for success 0.95, as budgets that cannot be passed"
    return Check(name, not short and not any(r["errors"] for r in rows), said)


def _run_name(row: Row) -> str:
    return f"{row['family']}: {row['trial']}"


def _fixed(rows: Sequence[Row]) -> Check:
    """Where the table says exact, every attempt took just that."""
    off, count = [], 0
    for r in rows:
        kinds = {c.kind for c in FAMILIES[r["family"]].cells().values() if c.trial == r["trial"]}
        if kinds == {"exact"} and not r["size"]:
            count += 1
            paid = {c: r["budget"].get(c, 0) for c in r["most"]}
            off += [] if r["most"] == r["least"] == paid else [_run_name(r)]
    detail = f"{count} runs" + (f"; not so: {'; '.join(off)}" if off else "")
    return Check("exact numbers are what every attempt took", not off, detail)


def _blindness(rows: Sequence[Row]) -> Iterator[Check]:
    if not rows:
        return
    visited = [r for r in rows if r["grants"].startswith("visited")]
    yield Check(
        "where the table says ∞ the secrets give one and the same answer, bit by bit",
        all(r["answers"] == 1 and r["answered"] for r in rows),
        f"{len(rows)} runs, {sum(r['answered'] * r['secrets'] for r in rows):,} reports",
    )
    yield Check(
        "VISITED/ARGMAX answers at ∅ alone",
        all(r["answered"] == 1 and r["refused"] for r in visited),
        f"{sum(r['refused'] * r['secrets'] for r in visited):,} queries refused",
    )


def _particular(rows: Sequence[Row]) -> Iterator[Check]:
    """What the families were chosen for."""
    two = FAMILIES["two-tokens"].cells()
    pairs = [(two[c, "logprob"], two[c, "full"]) for c in CONTROLS]
    equal = [(a.rollouts, a.queries) == (b.rollouts, b.queries) for a, b in pairs]
    shown = [str(a.queries or a.rollouts) for a, _ in pairs]
    same = "at K = 2 LOGPROB equals FULL at every control level"
    yield Check(same, all(equal), ", ".join(shown))
    for row in where(rows, family="small-advantage", trial="sample"):
        path = FAMILIES["small-advantage"]
        assert isinstance(path, PathLadder)
        each, square = row["queries"] / path.H, (path.p - path.q) ** -2
        name = "with a small advantage a token takes about 1/Δ² samples, and one law"
        said = f"{each:.0f} draws per token, 1/Δ² = {square:.0f}; {each:.0f} times FULL"
        yield Check(name, 0.25 * square <= each <= 4 * square, said)


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    parts: list[Part] = []
    for name, family in FAMILIES.items():
        mine = where(rows, family=name)
        parts += [f"<h3>{family.title}</h3>", f"<p>{family.remark}</p>", *_cells(family, mine)]
        if mine:
            parts.append(_runs(mine))
    return parts


def _cells(family: Ladder, rows: Sequence[Row]) -> list[Part]:
    """The table of a family, and what its letters mean."""
    cells = family.cells()
    reasons = list(dict.fromkeys(cell.why for cell in cells.values()))
    body = list[list[Html]]()
    for control in CONTROLS:
        unit = "rollouts" if control == "root" else "queries"
        line = [Html(f"{dot(control)}{control.upper()} <small>{unit}</small>")]
        for report in REPORTS:
            cell = cells[control, report]
            letter = chr(ord("a") + reasons.index(cell.why))
            line.append(Html(f"{_number(cell, control, rows)}<sup> {letter}</sup>"))
        body.append(line)
    notes = "; ".join(f"<b>{chr(ord('a') + i)}</b> {why}" for i, why in enumerate(reasons))
    heads = columns(" | ".join(["control", *map(str.upper, REPORTS)]))
    return [Table(heads, body), f'<p class="note">{notes}.</p>']


def _number(cell: Cell, control: str, rows: Sequence[Row]) -> str:
    if cell.kind == "never":
        return "∞"
    parts = [_amount(cell.queries)] if cell.queries else []
    if cell.rollouts:
        parts.append(_amount(cell.rollouts) + (" rollouts" if control != "root" else ""))
    if cell.rewards:
        parts.append(f"{_amount(cell.rewards)} rewards")
    text = " + ".join(parts)
    if cell.kind == "mean":
        (row,) = where(rows, trial=cell.trial) or [None]
        low = f"≥ {_amount(cell.low or 0)}"
        if row is None:
            return f"{low} <small>floor</small>"
        text = f"{quantity(row['queries'])} ± {quantity(1.96 * row['deviation'])}"
        return f"{text} <small>mean, {low}</small>"
    if cell.kind == "bound":
        return f"{_amount(cell.low or 0)} … {text} <small>bounds</small>"
    return f"{text} <small>{cell.kind}</small>"


def _amount(value: int) -> str:
    return from_log(math.log(value)) if value >= 10**6 else quantity(value)


def _runs(rows: Sequence[Row]) -> Table:
    """What backs the table."""
    shown: list[Row] = []
    for r in rows:
        paid = "no limit"
        if "answers" in r:
            paid = f"{quantity(r['answered'])} answered, {quantity(r['refused'])} refused"
            found = f"{r['answers']} answer of {r['secrets']} secrets"
        else:
            found = counted(r["passed"], r["attempts"])
            paid = ", ".join(f"{_amount(v)} {c}" for c, v in r["budget"].items()) or paid
        name = r.get("learner", "ask_all").partition("(")[0]
        shown.append({"size": "", **r, "learner": name, "paid": paid, "found": found})
    head = "run under | learner | smaller size | budget | found"
    return table_of(head, "{grants:name} | {learner} | {size} | {paid} | {found}", shown, text=2)


EXPERIMENT = Experiment(
    id="ladder",
    claim="control and observation together decide what finding the secret takes",
    statement=(
        "For each control level and each report: what it takes to find the secret with probability 0.95. "
        "<b>Exact</b> numbers are fixed costs, or the least number of rollouts by an exact law; a <b>quantile</b> "
        "is that of an exact law of waiting; a <b>mean</b> is measured, with its 95 % interval and the floor for "
        "every learner; <b>bounds</b> are a lower bound for every learner and a number that a run shows to "
        "suffice. ∞: no number of queries suffices, and the M outcome rewards that would are exponentially many; "
        "secrets give the same reports, bit by bit. Outcome rewards are used only where it is said.",
        "Every finite number is the budget of a run, of the same formula at a smaller size where rollouts are too "
        "many; CHOSEN repeats RESET where a path is to be found, as what to choose is not known before. A query is "
        "one token drawn, listed or scored, but in the probe of a parity, which lets the generator continue some "
        "histories. ROOT/ARGMAX is the greedy rollout, the law at temperature 0: a decoding knob is part of the "
        "interface. VISITED/ARGMAX draws nothing, so it is not above ROOT/ARGMAX.",
    ),
    settings=_SETTINGS,
    quick=_QUICK,
    measure=_measure,
    check=_check,
    show=_show,
)
