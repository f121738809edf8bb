"""The drawings of the site: the two partial orders, a prefix tree, and curves of recorded runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from reroot import Control
from reroot.contract import Report
from reroot.families import HiddenPath
from reroot.pages.kit.plots import COLORS, color, label, new_figure, to_svg

RESULTS = Path(__file__).parents[1] / "results"
Places = Mapping[str, tuple[float, float]]


def svg(name: str) -> str:
    """A drawing by its name in ``DRAWINGS``, as an ``<svg>`` element."""
    return DRAWINGS[name]()


def _covers(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Neighbours of a partial order: a below b with nothing between."""
    below = [(a, b) for a, b in product(items, items) if a < b]
    return [(a, b) for a, b in below if not any(a < c < b for c in items)]


def _hasse(name: str, items: Sequence[Any], at: Places, about: str, size: tuple[int, int]) -> str:
    figure, axes = new_figure(*size, left=10, bottom=10)
    axes.set_axis_off()
    for a, b in _covers(items):
        (x, y), (u, v) = at[str(a)], at[str(b)]
        axes.plot([x, u], [y, v], color=color("muted"), linewidth=1.4, zorder=1)
    for item in items:
        x, y = at[str(item)]
        tone = str(item) if str(item) in COLORS else "ink"
        box = {"boxstyle": "round,pad=0.45", "fc": color("paper"), "ec": color(tone), "lw": 1.6}
        axes.text(x, y, str(item), ha="center", va="center", fontsize=13, color=color(tone), bbox=box)  # fmt: skip
    axes.set_xlim(-1, 1)
    axes.set_ylim(-0.5, max(y for _, y in at.values()) + 0.5)
    return to_svg(figure, name, about)


def control() -> str:
    """Control levels, the strongest above."""
    at = {"root": (0, 0), "episode": (-0.55, 1), "visited": (0.55, 1), "reset": (0, 2), "chosen": (0, 3)}  # fmt: skip
    pairs = ", ".join(f"{a} below {b}" for a, b in _covers(list(Control)))
    return _hasse("control", list(Control), at, f"Control levels: {pairs}", (330, 290))


def report() -> str:
    """Reports, the strongest above."""
    items = [
        Report.ARGMAX(1), Report.ARGMAX(2), Report.SAMPLE, Report.LOGPROB,
        Report.TOPK(1), Report.TOPK(2), Report.FULL,
    ]  # fmt: skip
    at = {
        "argmax(1)": (-0.55, 1), "argmax(2)": (-0.55, 2.5), "sample": (0.4, 0), "logprob": (0.4, 1),
        "topk(1)": (0.4, 2), "topk(2)": (0.4, 3), "full": (0.4, 4),
    }  # fmt: skip
    pairs = ", ".join(f"{a} below {b}" for a, b in _covers(items))
    return _hasse("report", items, at, f"Reports: {pairs}", (330, 350))


def tree() -> str:
    """All prefixes of a hidden path with K = 3 and H = 3; the path, and the reach along it."""
    family = HiddenPath(vocab_size=3, horizon=3, p=0.6, path=(1, 0, 2))
    figure, axes = new_figure(560, 300, left=10, bottom=10)
    axes.set_axis_off()
    for depth in range(family.horizon + 1):
        for u in product(range(3), repeat=depth):
            x, y, on = _place(u), -depth, u == family.path[:depth]
            if depth:
                parent, bold = u[:-1], on
                tone, width = (color("reset"), 2.4) if bold else (color("muted"), 0.8)
                axes.plot([_place(parent), x], [y + 1, y], color=tone, linewidth=width, zorder=1)
            axes.plot([x], [y], "o", markersize=9 if on else 5, zorder=2,
                      color=color("reset") if on else color("muted"))  # fmt: skip
            if on:
                said = f"{0.6**depth:.2f}" if depth else "∅"
                axes.text(x + 0.013, y + 0.12, said, color=color("ink"), fontsize=12)
    axes.set_ylim(-3.3, 0.4)
    axes.set_xlim(-0.02, 1.04)
    about = (
        "A tree of prefixes, three tokens at each node, three levels. The hidden path is thick; the reach "
        "of its prefixes is 1, 0.60, 0.36 and 0.22."
    )
    return to_svg(figure, "tree", about)


def _place(u: tuple[int, ...]) -> float:
    """Horizontal place of a prefix: the middle of its share of the unit interval."""
    low = sum(a / 3 ** (i + 1) for i, a in enumerate(u))
    return low + 0.5 / 3 ** len(u)


TONES = {"root": "root", "adaback": "chosen", "r3": "reset", "plurality": "visited", "verified": "episode"}  # fmt: skip


def curves(task: str) -> str:
    """pass@1 from the root of every arm and seed of a recorded comparison of trainings."""
    rows = _evaluations(task)
    figure, axes = new_figure(560, 300)
    for (arm, _), part in rows.group_by("arm", "run", maintain_order=True):
        tone = color(TONES.get(str(arm), "ink"))
        axes.plot(part["tokens"], 100 * part["root_pass"], "-o", color=tone, markersize=3, linewidth=1.2)  # fmt: skip
    placed = -100.0
    for arm, mean in final(rows):
        placed = max(100 * mean, placed + 6.5)
        said = f"{arm} {100 * mean:.0f} %"
        tone = color(TONES.get(arm, "ink"))
        axes.text(1.03 * _most(rows), placed, said, color=tone, va="center", fontsize=12)
    axes.set_xlim(0, 1.3 * _most(rows))
    axes.set_ylim(-3, 103)
    label(axes, "generated tokens", "pass@1 from the root, %")
    told = "; ".join(f"{arm} {100 * mean:.0f} %" for arm, mean in final(rows))
    return to_svg(
        figure, f"curves-{task}", f"pass@1 from the root at the end, mean of seeds: {told}"
    )


def _evaluations(task: str) -> pl.DataFrame:
    rows = pl.read_parquet(RESULTS / f"curves-{task}.parquet")
    return rows.filter(pl.col("root_pass").is_not_null()).sort("arm", "run", "tokens")


def _most(rows: pl.DataFrame) -> float:
    return float(rows["tokens"].to_numpy().max())


def final(rows: pl.DataFrame) -> list[tuple[str, float]]:
    """(arm, mean of its seeds' last pass@1 from the root), the lowest first."""
    last = rows.group_by("arm", "run").agg(pl.col("root_pass").last())
    return sorted(
        last.group_by("arm").agg(pl.col("root_pass").mean()).rows(), key=lambda x: x[::-1]
    )


DRAWINGS: dict[str, Callable[[], str]] = {
    "control": control,
    "report": report,
    "tree": tree,
    "curves-copy": lambda: curves("copy"),
    "curves-increment": lambda: curves("increment"),
}


def write_picture(path: Path) -> None:
    """The picture of the README: the same drawing in fixed colours, on paper of its own."""
    drawn = re.sub(r"var\(--(\w+)\)", lambda m: COLORS[m[1]][0], curves("copy"))
    head, _, rest = drawn.partition(">")
    head = (
        head
        if "xmlns=" in head
        else head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    )
    path.write_text(
        f'{head}><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    write_picture(Path(__file__).parents[1] / "curves.svg")
