"""The hidden trie: exact recovery by local-reset search, and what happens when it is too large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from .. import limits
from ..families.hidden_trie import HiddenTrie
from ..families.many import ensemble
from ..learners.registry import get_learner
from ..pages.comparison.tables import dot, table
from ..pages.kit.formatting import quantity
from ..runs.run import run
from .base import Check, Experiment, Row, Setting, interval, where
from .baseline_learners import found_leaves
from .formulas import at_most
from .plots import Axes, Line, plot

DELTA = 0.1
_ERROR = 1e-3  # of each statistical check
_GRANTS = {"sample": "visited/sample", "logprob": "visited/logprob", "full": "reset/full"}


def _search(
    K: int, H: int, a: float, b: float, S: int, tries: int, report: str = "sample", short: int = 0
) -> Setting:
    """``short``: how many nodes fewer than the trie has the learner is told."""
    return {"K": K, "H": H, "a": a, "b": b, "S": S, "tries": tries, "report": report,
            "short": short}  # fmt: skip


_QUICK = (
    *(_search(16, 4, 0.3, 0.1, 8, 20, report) for report in _GRANTS),
    *(_search(16, 4, 0.3, 0.1, 8, 20, "sample", short) for short in (1, 4)),
)
_FULL = (
    *(_search(16, H, 0.3, 0.1, S, 100) for H, S in ((4, 12), (8, 24), (8, 48), (16, 48))),
    *(_search(16, 8, a, b, 24, 60) for a, b in ((0.3, 0.2), (0.2, 0.1), (0.45, 0.1))),
    _search(64, 8, 0.2, 0.05, 32, 60),
    *(_search(16, 8, 0.3, 0.1, 24, 100, report) for report in ("logprob", "full")),
    *(
        _search(16, 8, 0.3, 0.1, 24, 60, report, short)
        for report in _GRANTS
        for short in (1, 8, 16, 23)
    ),
)

# ---- measuring -----------------------------------------------------------------------------------


def _measure(s: Setting) -> list[Row]:
    """One row for the tries of a setting: what was found of each, and what it cost."""
    members = [
        HiddenTrie(s["K"], s["H"], s["a"], s["b"], nodes=s["S"], seed=i) for i in range(s["tries"])
    ]
    told = [member.internal_nodes - s["short"] for member in members]
    tries = ensemble(members)
    problems = tries.problems()
    row: Row = {
        "exact": 0, "wrong": 0, "reported": 0, "nodes": 0, "misread": 0, "queries": 0, "bound": 0,
        "over": 0, "errors": 0,
    }  # fmt: skip
    for S in sorted(set(told)):
        spec = f"trie_search:nodes={S},a={s['a']},b={s['b']},delta={DELTA},report={s['report']}"
        mine = [i for i, nodes in enumerate(told) if nodes == S]
        result = run(get_learner(spec), [problems[i] for i in mine], tries,
                     grants=_GRANTS[s["report"]], seed=s["seed"])  # fmt: skip
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
    tries, failed = sum(r["tries"] for r in drawn), sum(r["tries"] - r["exact"] for r in drawn)
    nodes, misread = sum(r["nodes"] for r in drawn), sum(r["misread"] for r in drawn)
    least = min(r["S"] for r in drawn)
    laws = where(enough, report="full")
    runs = sum(r["tries"] for r in small)
    return [
        Check(
            "with draws the trie is missed at rate δ/2 at most",
            at_most(failed, tries, DELTA / 2, _ERROR) and not any(r["errors"] for r in rows),
            f"{failed} of {tries} tries, interval {interval(failed, tries, 5)}; δ = {DELTA}",
        ),
        Check(
            "a node is misread at rate δ/(2S) at most",
            at_most(misread, nodes, DELTA / (2 * least), _ERROR),
            f"{misread} of {nodes:,} nodes, interval {interval(misread, nodes, 5)}",
        ),
        Check(
            "laws show every trie exactly",
            all(r["exact"] == r["tries"] for r in laws),
            f"{sum(r['exact'] for r in laws)} of {sum(r['tries'] for r in laws)} tries",
        ),
        Check(
            "no run takes more than S·m queries, and a trie with S nodes takes S·m",
            not any(r["over"] for r in rows)
            and all(r["queries"] == r["bound"] for r in enough if r["exact"] == r["tries"]),
            f"{sum(r['queries'] for r in enough):,} queries, S·m in all "
            f"{sum(r['bound'] for r in enough):,}; over S·m: {sum(r['over'] for r in rows)} runs",
        ),
        Check(
            "where S is too small every run reports failure",
            all(r["reported"] == r["tries"] for r in small),
            f"{sum(r['reported'] for r in small)} of {runs} runs",
        ),
        Check(
            "where S is too small no wrong trie is returned as right",
            not any(r["wrong"] for r in small),
            f"{sum(r['wrong'] for r in small)} of {runs} runs",
        ),
    ]


# ---- showing -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row]) -> list[str]:
    return [_figure(rows), _found_table(where(rows, short=0)), _short_table(rows)]


def _figure(rows: Sequence[Row]) -> str:
    sizes = [4, 8, 12, 16, 24, 32, 48, 64]
    lines: list[Line] = []
    colors = {"sample": "visited", "logprob": "visited", "full": "reset"}
    for style, (report, color) in enumerate(colors.items()):
        mine = {"K": 16, "a": 0.3, "b": 0.1, "report": report}
        curve = [float(S * _draws(mine, S)) for S in sizes]
        lines.append(Line("", sizes, curve, color=color, exact=True))
        points = sorted({(r["S"], r["queries"] / r["tries"]) for r in where(rows, short=0, **mine)})
        x, y = [S for S, _ in points], [q for _, q in points]
        label = f"{_GRANTS[report]}, measured over S·m"
        lines.append(Line(label, x, y, color=color, style=style, points=True))
    axes = Axes("internal nodes S", "queries", log_x=True, log_y=True, x_ticks=(4, 8, 16, 32, 64))
    caption = f"Queries for the whole trie, K = 16, a = 0.3, b = 0.1, δ = {DELTA}"
    return plot("trie-queries", caption, axes, lines)


def _name(report: str) -> str:
    control = _GRANTS[report].partition("/")[0]
    return f"{dot(control)}{_GRANTS[report]}"


def _found_table(rows: Sequence[Row]) -> str:
    body = []
    for r in rows:
        failure = quantity(_exact_failure(r)) if r["report"] == "sample" else "·"
        body.append(
            [_name(r["report"]), str(r["K"]), str(r["H"]), f"{r['a']:g}", f"{r['b']:g}",
             str(r["S"]), quantity(_draws(r, r["S"])), quantity(r["queries"] / r["tries"]),
             quantity(r["bound"] / r["tries"]), f"{r['exact']} of {r['tries']}",
             f"{r['misread']} of {r['nodes']}", failure]
        )  # fmt: skip
    head = ["interface", "K", "H", "a", "b", "S", "m", "queries", "S·m", "found", "nodes misread",
            "failure, exact bound"]  # fmt: skip
    return table(head, body, text=1)


def _short_table(rows: Sequence[Row]) -> str:
    body = [
        [_name(r["report"]), str(r["S"]), str(r["S"] - r["short"]),
         quantity(r["queries"] / r["tries"]), f"{r['reported']} of {r['tries']}", str(r["wrong"])]
        for r in rows if r["short"]
    ]  # fmt: skip
    head = ["S too small", "nodes", "S told", "queries", "failure reported", "wrong, as right"]
    return table(head, body, text=1)


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
