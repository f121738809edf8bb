"""Collapse: whatever root-start access reports, it is a function of the canonical experiment."""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..access.learner import BoundLearner, learner
from ..access.session import Facts, Session
from ..access.transcript import messages, replies_from_json, transcript_text, weaken
from ..contract import Contract, Control, Report, Sampling
from ..generators.tabular import Tabular
from ..pages.kit.cells import table_of
from ..pages.kit.formatting import listing
from ..pages.kit.table import Part, Table
from ..runs.enumerated import (
    EnumeratedRun,
    enumerate_runs,
    largest_difference,
    law_of,
    total_variation,
)
from ..runs.run import run
from ..tasks.base import Problem
from ..testing.canonical import Seen, bits, canonical_rollouts, simulate
from ..types import Budget, Prefix, Query
from .base import Check, Experiment, Row, Setting, total, where
from .measuring import by_kind, setting_of

EXACT = 1e-12
"""Most that two laws computed in floating point may differ by where they are equal."""

REPORTS = ("sample", "logprob", "topk(1)", "topk(2)", "full")

# ---- learners ------------------------------------------------------------------------------------


@learner(requires=Contract(Control.ROOT, Report.NONE))
async def roll(session: Session, *, batches: Sequence[int]) -> Prefix:
    """One message with a query for each number of rollouts, with the report that is granted."""
    asked = session.contract.report
    replies = await session.ask([Query(n=n, report=asked) for n in batches])
    return replies[-1].outputs()[-1]


@learner(requires=Contract(Control.ROOT, Report.NONE))
async def adapt(session: Session, *, most: int) -> Prefix:
    """At most ``most`` rollouts; whether and how many to ask for next is a hash of all it saw."""
    digest, left, n = hashlib.blake2b(digest_size=4), most, 1
    while True:
        reply = await session.rollouts(n, report=session.contract.report)
        digest.update(bits(reply))
        left -= n
        n = int.from_bytes(digest.digest(), "little") % (left + 1)
        if n == 0:
            return reply.outputs()[-1]


@learner(requires=Contract(Control.RESET, Report.SAMPLE))
async def look_inside(session: Session) -> Prefix:
    """A draw at the root, so that its children may be asked, and one draw at the child 0."""
    await session.draws(session.root, 1)
    return (await session.draws(Prefix((0,)), 1)).outputs()[0]


# ---- measuring -----------------------------------------------------------------------------------


def seen_in(enumerated: EnumeratedRun) -> Seen:
    """What the learner of a recorded run was shown."""
    lines = messages(enumerated.transcript[1:])
    return tuple(bits(r) for line in lines for r in replies_from_json(line["value"]))


def collapse_difference(
    tree: Tabular, bound: BoundLearner, rollouts: int, report: str, sampling: Sampling
) -> tuple[float, int]:
    """(largest difference over all transcripts, number of transcripts) of two laws.

    The law of what a session serves under ROOT with this report, by enumeration, and the law of
    what ``simulate`` makes of N canonical rollouts.
    """
    grants = Contract(Control.ROOT, Report.parse(report), sampling)
    runs = enumerate_runs(bound, _problem(tree), tree, grants=grants, transcripts=True)
    served = law_of(runs, seen_in)
    facts = Facts((), tree.vocab_size, tree.horizon, tree.stops(()), grants, Budget(), (0, 0))
    parts: dict[Seen, list[float]] = {}
    for drawn in itertools.product(canonical_rollouts(tree, sampling), repeat=rollouts):
        probability = math.prod(r.probability for r in drawn)
        parts.setdefault(simulate(bound, facts, drawn), []).append(probability)
    simulated = {seen: math.fsum(p) for seen, p in parts.items()}
    return largest_difference(served, simulated), len(served)


def _served(s: Setting) -> list[Row]:
    tree = _tree(s)
    if s["kind"] == "served":
        bound, rollouts = roll(batches=tuple(s["batches"])), sum(s["batches"])
    else:
        bound, rollouts = adapt(most=s["most"]), s["most"]
    sampling, rows = Sampling.parse(s["sampling"]), list[Row]()
    for report in s["reports"]:
        apart, count = collapse_difference(tree, bound, rollouts, report, sampling)
        row: Row = {"report": report, "rollouts": rollouts}
        rows.append(row | {"difference": apart, "transcripts": count})
    return rows


def _recorded(s: Setting) -> Iterator[Row]:
    """One run recorded under every report, and its FULL transcript turned into the others."""
    tree, bound = _tree(s), roll(batches=tuple(s["batches"]))
    with tempfile.TemporaryDirectory() as folder:
        paths = {r: _record(bound, tree, r, Path(folder, r)) for r in (*REPORTS, *s["reports"])}
        full = paths["full"]
        same = {
            r: transcript_text(weaken(full, r)).encode() == paths[r].read_bytes() for r in paths
        }
        for r in paths:
            yield {"report": r, "bytes": paths[r].stat().st_size, "same": same[r]}
        return


def _record(bound: BoundLearner, tree: Tabular, report: str, folder: Path) -> Path:
    run(bound, [_problem(tree)], tree, grants=f"root/{report}", out=folder, transcripts=True)
    (path,) = (folder / "transcripts").iterdir()
    return path


def _reset(s: Setting) -> Iterator[Row]:
    """Two laws that differ at the prefix 0 alone, seen from the root and through one reset."""
    reach, ends = s["reach"], ([1.0, 0.0], [0.0, 1.0])
    pair = [Tabular([[reach, 1.0 - reach], [inside, [0.5, 0.5]]]) for inside in ends]

    def law(bound: BoundLearner, tree: Tabular, grants: str) -> dict[str, float]:
        runs = enumerate_runs(bound, _problem(tree), tree, grants=grants, transcripts=True)
        return law_of(runs, lambda r: transcript_text(r.transcript))

    def distance(bound: BoundLearner, grants: str) -> float:
        return total_variation(*(law(bound, tree, grants) for tree in pair))

    inside = distance(look_inside(), "reset/sample")
    for n in s["rollouts"]:
        yield {
            "rollouts": n,
            "canonical": distance(roll(batches=(n,)), "root/full"),
            "reset": inside,
        }


def _tree(s: Setting) -> Tabular:
    return Tabular.random(s["K"], s["H"], seed=s["tree"], end=s["end"])


def _problem(tree: Tabular) -> Problem:
    return Problem("collapse", (), tree.horizon, reward=lambda output: 0.0)


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    served = [r for r in where(rows, kind="served") if not r["report"].startswith("argmax")]
    greedy = [r for r in where(rows, kind="served") if r["report"].startswith("argmax")]
    return [
        _agree(served, "the served law is that of the coarsened canonical experiment"),
        _agree(where(rows, kind="adaptive"), "so it is for a learner that decides as it goes"),
        _agree(greedy, "ARGMAX(k) from the root is the canonical experiment at temperature 0"),
        _identical(where(rows, kind="recorded")),
        _converse(where(rows, kind="reset")),
    ]


def _agree(rows: Sequence[Row], name: str) -> Check:
    worst, seen = max(r["difference"] for r in rows), total(rows, "transcripts")
    said = f"largest difference {worst:.1e} over {seen:,} transcripts in {len(rows)} pairs of laws"
    return Check(name, worst <= EXACT, said)


def _identical(rows: Sequence[Row]) -> Check:
    name = "a recorded canonical run holds every weaker transcript, to the byte"
    same = total(rows, "same")
    return Check(name, same == len(rows), f"{same} of {len(rows)} transcripts are identical")


def _converse(rows: Sequence[Row]) -> Check:
    """With one reset, laws are told apart that no number of rollouts tells apart."""
    unreached = where(rows, reach=0.0)
    canonical = max(r["canonical"] for r in unreached)
    reset = min(r["reset"] for r in unreached)
    return Check(
        "what a prefix query shows is no function of the canonical experiment",
        canonical <= EXACT and reset >= 1.0 - EXACT,
        f"two laws at distance {canonical:.1e} from the root are at distance {reset:g} after one prefix query",
    )


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    head = "R<sub>U</sub> | N | distance from the root, FULL | after one reset, SAMPLE"
    cells = "{reach:g} | {rollouts} | {canonical:.4g} | {reset:.4g}"
    return [_law_table(rows), table_of(head, cells, where(rows, kind="reset"), text=0)]


def _law_table(rows: Sequence[Row]) -> Table:
    """One line per tree and learner: the largest difference over its reports."""
    lines: list[Row] = []
    for seed in dict.fromkeys(r["seed"] for r in rows if "difference" in r):
        mine = where(rows, seed=seed)
        s = dict(mine[0])
        greedy = s["reports"][0].startswith("argmax")
        s["reports"] = listing([r.upper() for r in s["reports"]]) if greedy else "SAMPLE … FULL"
        s["asks"] = "adaptive" if s["kind"] == "adaptive" else " + ".join(map(str, s["batches"]))
        s["transcripts"] = total(mine, "transcripts")
        lines.append(s | {"worst": max(r["difference"] for r in mine)})
    head = (
        "reports | sampling | asks for | K | H | end token | N | transcripts | largest difference"
    )
    cells = "{reports} | {sampling} | {asks} | {K} | {H} | {end:yes} | {rollouts} | {transcripts:,} | {worst:.1e}"
    return table_of(head, cells, lines, text=3)


# ---- settings ------------------------------------------------------------------------------------

_laws = setting_of("served", "K H tree batches", end=(), reports=REPORTS, sampling="T=1")
_adaptive = setting_of("adaptive", "K H tree most", end=(), reports=REPORTS, sampling="T=1")
_copied = setting_of("recorded", "K H tree", end=(), batches=(5, 1, 3), reports=("topk(3)",))
_GREEDY = ("argmax(1)", "argmax(2)")

EXPERIMENT = Experiment(
    id="collapse",
    claim="from the root, every report is a function of the canonical experiment",
    statement=(
        "The canonical experiment E<sub>N</sub>(P) is N independent rollouts with the full law at each of their "
        "prefixes. For every report there is a function, the same for all P, that turns a draw of E<sub>N</sub>(P) "
        "into a transcript with exactly the law that a root-start session serves. So a limit for "
        "E<sub>N</sub> holds for every root-start learner.",
        "Measured: both laws of the whole transcript, on random trees. The served law is enumerated, one "
        "run through a session for every sequence of draws; the other is computed from the definition of "
        "E<sub>N</sub>(P) and the coarsening of replies. The adaptive learner decides from every bit it "
        "was shown whether and how many rollouts to ask for next. The converse: two laws that differ at a prefix "
        "of reach R<sub>U</sub> = 0 have the same E<sub>N</sub> for every N, and one prefix query tells them apart.",
    ),
    settings=(
        _laws(2, 3, 0, (1,)),
        _laws(2, 3, 1, (2,)),
        _laws(3, 2, 2, (1, 1), end=(2,)),
        _adaptive(2, 2, 3, 3),
        _laws(3, 3, 4, (1, 1), reports=_GREEDY, sampling="T=0"),
        _copied(3, 4, 5),
        {"kind": "reset", "reach": 0.0, "rollouts": [1, 2]},
        {"kind": "reset", "reach": 0.1, "rollouts": [1, 2]},
        *(_laws(3, 2, tree, (2,)) for tree in (6, 7, 8)),
        *(_laws(3, 4, tree, (1,)) for tree in (9, 10)),
        _laws(3, 3, 11, (2,)),
        _laws(3, 4, 12, (2,), end=(2,)),
        _laws(2, 4, 13, (2,)),
        _laws(2, 4, 14, (1, 1), end=(0,)),
        _laws(3, 1, 15, (2,)),
        _laws(3, 2, 16, (2,), sampling="T=0.5"),
        _laws(3, 2, 17, (1, 1), sampling="T=1,top_p=0.8"),
        _adaptive(2, 3, 18, 3),
        _adaptive(3, 2, 19, 3, end=(2,)),
        _adaptive(3, 2, 20, 2),
        *(_laws(3, 4, tree, (1, 1), end, _GREEDY, "T=0") for tree, end in ((21, ()), (22, (0,)))),
        *(_copied(3, 4, tree, (1,)) for tree in (23, 24)),
    ),
    quick=tuple(range(8)),
    measure=by_kind(served=_served, adaptive=_served, recorded=_recorded, reset=_reset),
    check=_check,
    show=_show,
)
