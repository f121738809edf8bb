"""Synthetic training runs whose numbers are known: run folders as ``train`` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from reroot.access.sealing import sealed

CONTRACTS = {
    "root": "root/sample+reward@T=1",
    "plurality": "visited/sample+reward@T=1",
    "adaback": "chosen/logprob+reward+demonstration@T=1",
}
HOSTILE = "</pre><script>alert(1)</script>&\"'$x^2$[red]"


def write_run(
    folder: Path,
    arm: str = "adaback",
    *,
    steps: int = 60,
    every: int = 20,
    horizons: tuple[int, ...] = (8,),
    end: str | None = "steps",
    change: Callable[[dict[str, Any]], None] = lambda line: None,
    **config: Any,
) -> Path:
    """Write config.json and journal.jsonl of a training run; ``change`` may spoil every line."""
    seed = config.get("seed", 0)
    rng = np.random.default_rng([seed, len(arm)])
    rooted, built = arm == "root", 0 if arm == "root" else 900
    hint = {"root": None, "plurality": 0.2}.get(arm, 0.08)
    settings = {
        "kind": "train", "version": "0.1.0", "command": f"reroot train --strategy {arm} --seed {seed}",
        "model": "smollm2", "task": "running_sum", "horizon": 8, "strategy": f"{arm}()", "arm": arm,
        "contract": CONTRACTS.get(arm, CONTRACTS["adaback"]), "beta": 0.02, "kl": "k1_reward",
        "seed": seed, "steps": 60, "groups": 4, "size": 8, "learning_rate": 1e-4,
        "budget": {"tokens": 500_000},
    }  # fmt: skip
    lines: list[dict[str, Any]] = []
    for step in range(steps + 1):
        tokens = step * (3000 + built)
        skill = step / 60 * (0.25 if rooted else 0.9)
        if step:
            lines.append(_step(rng, step, tokens, skill, built * step, rooted))
        if every and step % every == 0:
            lines.append(_evaluation(step, tokens, skill, hint, horizons))
    lines.append({"name": "event/1", "step": 5, "text": f"no signal for 5 steps {HOSTILE}"})
    if end:
        last = {"name": "end", "step": steps, "reason": end, "tokens": steps * (3000 + built)}
        lines.append(last)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings | config))
    for line in lines:
        change(line)
    (folder / "journal.jsonl").write_bytes(b"".join(map(sealed, lines)))
    return folder


def _step(
    rng: np.random.Generator, step: int, tokens: int, skill: float, built: int, rooted: bool
) -> dict[str, Any]:
    spent = {"rollouts": 32 * step, "tokens": tokens, "rewards": 32 * step, "queries": built // 10}
    return {
        "name": f"step/{step}", "step": step, "tokens": tokens,
        "spent": spent, "building": built // step,
        "root": skill + 0.02 * rng.random() if rooted or step % 3 == 0 else None,
        "prefix": None if rooted else min(1.0, skill + 0.1), "kl": 0.01 * step - 0.005,
        "zero_variance": int(rng.integers(0, 5)), "groups": 4, "start": 0.0 if rooted else 6.0 - step / 20,
        "longest": 0 if rooted else 7, "loss": None if step == 1 else 0.1, "grad_norm": 1.0,
        "seconds": 2.0,
    }  # fmt: skip


def _evaluation(
    step: int, tokens: int, skill: float, hint: float | None, horizons: tuple[int, ...]
) -> dict[str, Any]:
    def rates(p: float) -> dict[str, float]:
        return {str(k): 1 - (1 - min(p, 1.0)) ** k for k in (1, 2, 4, 8)}

    def part(scale: float) -> dict[str, Any]:
        prefix = None if hint is None else rates(scale * (skill + hint))
        return {"root": rates(scale * skill), "prefix": prefix}

    parts = {str(h): {"problems": 64, **part(8 / h)} for h in horizons} if len(horizons) > 1 else {}
    return {"name": f"eval/{step}", "step": step, "tokens": tokens, "n": 8, "problems": 64,
            **part(1.0), "horizons": parts, "seconds": 3.0}  # fmt: skip


def journal(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind, read without the code under test."""
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["name"].split("/")[0] == kind]


class Tables(HTMLParser):
    """Every table of a page as rows of cell texts, the head first."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self.tables[-1][-1].append("".join(self._cell or []))
            self._cell = None


def table_of(page: str, column: str) -> dict[str, dict[str, str]]:
    """Run, or arm → column → cell, of the first table that has one in each row and this column."""
    reader = Tables()
    reader.feed(page)
    head, *rows = next(t for t in reader.tables if t[0][0] in ("run", "arm") and column in t[0])
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}
