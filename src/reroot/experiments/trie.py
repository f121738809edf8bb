"""The hidden trie: exact recovery by local-reset search, and what happens when it is too large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from .. import limits
from ..families.hidden_trie import HiddenTrie
from ..families.many import ensemble
from ..learners.registry import get_learner
from ..pages.kit.cells import table_of
from ..pages.kit.table import Part
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, total, where
from .baseline_learners import found_leaves
from .counts import rarely
from .plots import Axes, Line, plot

DELTA = 0.1
_GRANTS = {"sample": "visited/sample", "logprob": "visited/logprob", "full": "reset/full"}


def _search(
    K: int, H: int, a: float, b: float, S: int, tries: int, report: str = "sample", short: int = 0
) -> Setting:
    """``short``: how many nodes fewer than the trie has the learner is told."""
    told = {"tries": tries, "report": report, "short": short}
    return {"K": K, "H": H, "a": a, "b": b, "S": S} | told


_QUICK = (
    *(_search(16, 4, 0.3, 0.1, 8, 20, report) for report in _GRANTS),
    *(_search(16, 4, 0.3, 0.1, 8, 20, "sample", short) for short in (1, 4)),
)
_FULL = (
    *(_search(16, H, 0.3, 0.1, S, 100) for H, S in ((4, 12), (8, 24), (8, 48), (16, 48))),
    *(_search(16, 8, a, b, 24, 60) for a, b in ((0.3, 0.2), (0.2, 0.1), (0.45, 0.1))),
    _search(64, 8, 0.2, 0.05, 32, 60),
    *(_search(16, 8, 0.3, 0.1, 24, 100, report) for report in ("logprob", "full")),
    *(_search(16, 8, 0.3, 0.1, 24, 60, r, short) for r in _GRANTS for short in (1, 8, 16, 23)),
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(s: Setting) -> list[Row]:
    """One row for the tries of a setting: what was found of each, and what it cost."""
    K, H, a, b = s["K"], s["H"], s["a"], s["b"]
    members = [HiddenTrie(K, H, a, b, nodes=s["S"], seed=i) for i in range(s["tries"])]
    told = [member.internal_nodes - s["short"] for member in members]
    tries = ensemble(members)
    problems = tries.problems()
    row: Row = dict.fromkeys(("exact", "wrong", "reported", "nodes", "misread"), 0)
    row |= dict.fromkeys(("queries", "bound", "over", "errors"), 0)
    for S in sorted(set(told)):
        spec = f"trie_search:nodes={S},a={a},b={b},delta={DELTA},report={s['report']}"
        mine = [i for i, nodes in enumerate(told) if nodes == S]
        asked, grants = [problems[i] for i in mine], _GRANTS[s["report"]]
        result = run(get_learner(spec), asked, tries, grants=grants, seed=s["seed"])
        most = S * _draws(s, S)
        for i, attempt in zip(mine, result.attempts, strict=True):
            found = found_leaves(attempt.metadata)
            right = found == list(members[i].leaves)
            complete = bool(attempt.metadata.get("complete")) and attempt.output is not None
            row["exact"] += complete and right
            row["wrong"] += complete and not right
            row["reported"] += attempt.metadata.get("complete") is False and attempt.output is None
            row["errors"] += attempt.error is not None
            row["queries"] += attempt.cost.queries
            row["bound"] += most
            row["over"] += attempt.cost.queries > most
            if not s["short"]:
                row["nodes"] += members[i].internal_nodes
                row["misread"] += _misread(members[i].leaves, found)
    return [row]


def _draws(s: Setting, S: int) -> int:
    """Draws per node, by the formulas and not by the learner."""
    if s["report"] == "full":
        return 1
    if s["report"] == "sample":
        return limits.trie_draws(s["K"], S, s["a"], s["b"], DELTA)
    edges = S * int(1 / s["a"] + 1e-12)
    return int(np.ceil(np.log(2 * edges / DELTA) / -np.log1p(-s["a"])))


def _misread(right: Sequence[tuple[int, ...]], found: Sequence[tuple[int, ...]]) -> int:
    """Nodes of the trie that were asked and whose children were not found exactly."""
    true, seen = _children(right), _children(found)
    asked = [u for u in true if not u or u[-1] in seen.get(u[:-1], ())]
    return sum(seen.get(u) != true[u] for u in asked)


def _children(leaves: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], set[int]]:
    below: dict[tuple[int, ...], set[int]] = {}
    for leaf in leaves:
        for t, token in enumerate(leaf):
            below.setdefault(leaf[:t], set()).add(token)
    return below


def _exact_failure(s: Setting) -> float:
    """Union over the nodes of the exact binomial probabilities that a frequency is on the wrong side.

    For a node with the most children, which is the worst: its m draws miss a child, or keep
    another token.
    """
    m, threshold = _draws(s, s["S"]), (s["a"] + s["b"]) / 2
    most = int(1 / s["a"] + 1e-12)
    other = max(0.0, 1 - s["a"]) / (s["K"] - 1)  # one child leaves most to each other token
    missed = most * stats.binom.cdf(np.ceil(threshold * m) - 1, m, s["a"])
    kept = s["K"] * stats.binom.sf(np.ceil(threshold * m) - 1, m, other)
    return float(s["S"] * (missed + kept))


# ---- checks --------------------------------------------------------------------------------------


def _check(rows: Sequence[Row]) -> list[Check]:
    enough, small = where(rows, short=0), [r for r in rows if r["short"]]
    drawn = [r for r in enough if r["report"] != "full"]
    failed, laws = total(drawn, "tries") - total(drawn, "exact"), where(enough, report="full")
    low, misread = DELTA / (2 * min(r["S"] for r in drawn)), total(drawn, "misread")
    nodes, fine = total(drawn, "nodes"), not any(r["errors"] for r in rows)
    missed = "with draws the trie is missed at rate δ/2 at most"
    runs, reported, wrong = (total(small, name) for name in ("tries", "reported", "wrong"))
    few, said = "where S is too small", f"{{}} of {runs} runs"
    return [
        rarely(missed, failed, total(drawn, "tries"), DELTA / 2, "tries", sound=fine, digits=5),
        rarely("a node is misread at rate δ/(2S) at most", misread, nodes, low, "nodes", digits=5),
        Check(
            "laws show every trie exactly",
            all(r["exact"] == r["tries"] for r in laws),
            f"{total(laws, 'exact')} of {total(laws, 'tries')} tries",
        ),
        Check(
            "no run takes more than S·m queries, and a trie with S nodes takes S·m",
            not any(r["over"] for r in rows)
            and all(r["queries"] == r["bound"] for r in enough if r["exact"] == r["tries"]),
            f"{total(enough, 'queries'):,} queries, S·m in all "
            f"{total(enough, 'bound'):,}; over S·m: {total(rows, 'over')} runs",
        ),
        Check(f"{few} every run reports failure", reported == runs, said.format(reported)),
        Check(f"{few} no wrong trie is returned as right", not wrong, said.format(wrong)),
    ]


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[Part]:
    known = [
        r
        | {
            "grants": _GRANTS[r["report"]],
            "m": float(_draws(r, r["S"])),
            "told": r["S"] - r["short"],
            "each": r["queries"] / r["tries"],
            "most": r["bound"] / r["tries"],
            "failure": _exact_failure(r) if r["report"] == "sample" else None,
        }
        for r in rows
    ]
    found = "interface | K | H | a | b | S | m | queries | S·m | found | nodes misread | failure, exact bound"
    cells = "{grants:name} | {K} | {H} | {a:g} | {b:g} | {S} | {m:q} | {each:q} | {most:q} | {exact} of {tries} | "
    cells += "{misread} of {nodes} | {failure:q}"
    few = "S too small | nodes | S told | queries | failure reported | wrong, as right"
    fewer = "{grants:name} | {S} | {told} | {each:q} | {reported} of {tries} | {wrong}"
    small = [r for r in known if r["short"]]
    return [
        _figure(rows),
        table_of(found, cells, where(known, short=0)),
        table_of(few, fewer, small),
    ]


def _figure(rows: Sequence[Row]) -> str:
    lines: list[Line] = []
    colors = {"sample": "visited", "logprob": "visited", "full": "reset"}
    for style, (report, color) in enumerate(colors.items()):
        mine = {"K": 16, "a": 0.3, "b": 0.1, "report": report}
        sizes = [4, 8, 12, 16, 24, 32, 48, 64]
        lines.append(Line.law("", sizes, lambda S, mine=mine: S * _draws(mine, S), color))
        points = sorted({(r["S"], r["queries"] / r["tries"]) for r in where(rows, short=0, **mine)})
        x, y = [S for S, _ in points], [q for _, q in points]
        label = f"{_GRANTS[report]}, measured over S·m"
        lines.append(Line(label, x, y, color=color, style=style, points=True))
    axes = Axes("internal nodes S", "queries", log_x=True, log_y=True, x_ticks=(4, 8, 16, 32, 64))
    caption = f"Queries for the whole trie, K = 16, a = 0.3, b = 0.1, δ = {DELTA}"
    return plot("trie-queries", caption, axes, lines)


EXPERIMENT = Experiment(
    id="trie",
    claim="a hidden trie is found exactly with at most S·m local-reset queries",
    statement=(
        "Many right outputs share prefixes: a trie with S internal nodes, where each child has probability at least "
        "a and every other token at most b. Breadth-first search asks each node m = ⌈2·log(2KS/δ)/(a − b)²⌉ times "
        "and keeps tokens with frequency at least (a + b)/2; kept tokens were emitted, so VISITED control is "
        "enough. Hoeffding leaves a failure probability of δ/2 in all; what binomial tails leave is in the last "
        "column. With LOGPROB reports a child must only be drawn once; with FULL one query per node is enough.",
        "A learner that is told too small an S must not present a part as the whole: it reports failure, before "
        "it asks more than S nodes. Only a misread node could hide that, with probability δ/2 at most.",
    ),
    settings=(*_QUICK, *_FULL),
    quick=tuple(range(len(_QUICK))),
    measure=_measure,
    check=_check,
    show=_show,
)
