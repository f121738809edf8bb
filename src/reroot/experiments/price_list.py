"""What each interface costs in another: reductions at their prices, and pairs where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..generators.lifted.rows import REDUCTIONS
from ..pages.kit.cells import table_of
from ..pages.kit.table import Part, Table, columns
from .base import Check, Experiment, Row, Setting, where
from .measuring import by_kind, setting_of
from .price_list_rows import (
    draw_rows,
    law_rows,
    matrix_rows,
    pair_rows,
    prefix_rows,
    user_rows,
)

STATED: dict[int, tuple[float, ...]] = {
    49_152: (
        *(2587, 2458, 1326, 423, 31, 49132, 2535, 471, 16, 589813, 69509, 3.1e6, 1.8e6, 3.8e8),
        *(1537, 4e55, 422, 167, 256, 3.8),
    ),
    128_000: (*(6737, 6400), *(math.nan,) * 3, 127980, *(math.nan,) * 14),
}
"""K → the prices of ``user_rows``, in their order, as they are stated."""

_BAND = 4.5  # standard errors: a right mean is outside with probability 7e-6


def _check(rows: Sequence[Row]) -> list[Check]:
    laws, means = where(rows, kind="law"), _means(rows)
    pairs, users, cells = (where(rows, kind=kind) for kind in ("pair", "user", "matrix"))
    checks = [
        Check(
            "every law is right within its bound, at exactly the price in calls",
            all(r["tv"] <= r["bound"] and r["calls"] == r["price"] for r in laws),
            f"{len(laws)} reductions, largest TV of the exact ones "
            f"{max(r['tv'] for r in laws if r['bound'] < 1e-9):.1e}",
        ),
        Check(
            "mean draws and calls are the expected price",
            all(abs(r["mean"] - r["price"]) <= _BAND * r["se"] + 1e-9 for r in means),
            f"{len(means)} means in their bands of {_BAND} standard errors",
        ),
        Check(
            "draws made of draws follow the law that is wanted",
            all(r["fit"] > 1e-5 for r in means),
            f"least p-value {min(r['fit'] for r in means):.3g}",
        ),
        Check(
            "pairs are as far apart as stated, after 1, 2 and 4 answers and after one stronger answer",
            all(r["off"] <= 6e-4 for r in pairs),
            f"{len(pairs)} pairs, largest difference to a stated value {max(r['off'] for r in pairs):.1e}",
        ),
        Check(
            "prices at the sizes of users are as stated",
            all(_agrees(r) for r in users),
            f"{sum(not math.isnan(x) for r in users for x in [_stated(r)])} stated values",
        ),
    ]
    if cells:
        never = sum(r["never"] for r in cells)
        used = sorted({name for r in cells for name in r["rows"]})
        checks.append(
            Check(
                "every pair of interfaces has a path of known reductions, or two generators that look alike",
                all(r["least_tv"] > 1e-6 for r in cells) and set(used) <= set(REDUCTIONS),
                f"{sum(len(r['cells']) for r in cells):,} pairs, {never:,} never; reductions used: {', '.join(used)}",
            )
        )
    return checks


def _means(rows: Sequence[Row]) -> list[Row]:
    return [*where(rows, kind="draws"), *where(rows, kind="prefix")]


def _stated(row: Row) -> float:
    return STATED[row["K"]][row["place"]]


def _agrees(row: Row) -> bool:
    """To the digits of the stated value; it is no price where none is stated."""
    stated = _stated(row)
    if math.isnan(stated):
        return True
    tolerance = 0.5 if 100 <= stated < 1e6 else 0.05 * stated
    return abs(row["price"] - stated) <= tolerance


def _show(rows: Sequence[Row]) -> list[Part]:
    laws = table_of(
        "held | reduction | K | k | b | price, calls | measured | TV",
        "{has} | {row} | {K} | {k} | {b} | {price:,.0f} | {calls:,} | {tv:.1e}",
        where(rows, kind="law"),
        text=2,
    )
    means = [
        {**r, "what": r.get("row") or r["control"], "size": r.get("at") or r.get("u"), "left": abs(r["mean"] - r["price"]) / max(r["se"], 1e-12) if r["se"] else 0.0}
        for r in _means(rows)
    ]  # fmt: skip
    parts: list[Part] = [
        "<h3>Laws out of weaker reports</h3>",
        laws,
        "<h3>Draws out of draws, and prefixes</h3>",
        table_of(
            "reduction or control | at | runs | price | measured mean | off by (standard errors)",
            "{what} | {size} | {runs} | {price:.3f} | {mean:.3f} | {left:.1f}",
            means,
        ),
        "<h3>Never, or not by any fixed number: two generators that look alike</h3>",
        table_of(
            "held | wanted | P and Q | TV, N = 1 | N = 2 | N = 4 | one stronger answer",
            "{has} | {wants} | {laws} | {tv1:.4f} | {tv2:.4f} | {tv4:.4f} | {one:.3f}",
            where(rows, kind="pair"),
            text=3,
        ),
        "<h3>As a user meets it: k = 20, b = 300, |u| = 256, half a nat per token</h3>",
        table_of(
            "wanted | unit | K | price",
            "{wanted} | {unit} | {K:,} | {price:q}",
            where(rows, kind="user"),
            text=2,
        ),
    ]
    for part in dict.fromkeys((tuple(r["laws"]), r["bias"]) for r in where(rows, kind="matrix")):
        mine = where(rows, kind="matrix", laws=list(part[0]), bias=part[1])
        parts += ["<h3>Every interface in every other one</h3>", _matrix(mine)]
    return parts


_SIGNS = {"free": "free", "exact": "=", "in law": "~", "within ε": "ε", "never": "–"}


def _matrix(rows: Sequence[Row]) -> Table:
    """Held interfaces against wanted ones, one sign each."""
    heads = columns(" | ".join(["held \\ wanted", *rows[0]["wants"]]))
    return Table(heads, [[r["has"], *(_SIGNS[c] for c in r["cells"])] for r in rows], style="dense")


_law = setting_of("law", "row K k b", spread=1.0, B=30.0)
_draws = setting_of("draws", "row at runs")
_prefix = setting_of("prefix", "control u runs")
_users = setting_of("user", "K")
_matrices = setting_of("matrix", "laws bias")
_CONTROLS = (
    "root",
    "visited",
    "visited, continuing",
    "reset",
    "chosen",
    "root + constant bias",
    "episode",
)


def _user(s: Setting) -> list[Row]:
    return [{**row, "place": i} for i, row in enumerate(user_rows(s))]


EXPERIMENT = Experiment(
    id="price-list",
    claim="what one interface costs in another one: reductions at their exact prices, and pairs where none exists",
    statement=(
        "For an interface that is held and one that is wanted there is either a reduction that serves the wanted "
        "answers (exactly, in law, or within ε) at a price in calls or draws, or a pair of generators that look the "
        "same through the first and not through the second. <code>reroot.generators.interface_price(has, wants)</code> "
        "says which, by the cheapest path of reductions, and <code>Lifted(generator, to=…)</code> does it.",
        "Measured: each reduction on exact laws behind a server that takes a logit bias or a narrower contract, its "
        "calls and its total variation beside the price in closed form; expected prices as means; pairs by "
        "enumeration of N = 1, 2, 4 answers. In the last table “free” needs nothing, = is exact, ~ the same "
        "law, ε within any ε, – never.",
    ),
    settings=(
        _law("anchored", 40, 6, 300),
        _law("anchored", 25, 4, 2),
        _law("fewest", 40, 6, 300, spread=0.7, B=6.0),
        _law("masks", 40, 6, 300, spread=4.0),
        _law("raw", 30, 5, 1, B=60.0),
        _law("scores", 12, 1, 1),
        _law("bisection", 6, 1, 1),
        _law("image", 200, 5, 24),
        _draws("retempered draws", 1.5, 300),
        _draws("retempered draws", 0.5, 300),
        _draws("collecting", 0, 100),
        *(_prefix(control, (2, 0) if "bias" in control else (0, 0), 60) for control in _CONTROLS),
        {"kind": "pair"},
        _users(49_152),
        _users(128_000),
        _matrices(("T=1",), False),
        _law("anchored", 400, 20, 300),
        _law("anchored", 3000, 20, 300, spread=2.0),
        _law("raw", 120, 20, 1, B=60.0),
        _law("masks", 400, 20, 300, spread=4.0),
        *(_draws("retempered draws", tau, 2000) for tau in (2.0, 3.0, 1.5, 2.4, 0.6)),
        _draws("kept draws", 3, 2000),
        _draws("hits", 12, 300),
        _draws("collecting", 0, 400),
        *(_prefix(control, (2, 0) if "bias" in control else (1, 2), 300) for control in _CONTROLS),
        _matrices(("T=1",), True),
        _matrices(("T=1", "T=2", "T=1,top_k=2"), False),
    ),
    quick=tuple(range(22)),
    measure=by_kind(
        law=law_rows,
        draws=draw_rows,
        prefix=prefix_rows,
        pair=pair_rows,
        user=_user,
        matrix=matrix_rows,
    ),
    check=_check,
    show=_show,
)
