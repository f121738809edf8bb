"""The page of attempts in a browser: 10,000 attempts, a tree of 5,000 nodes.

    python benchmarks/view.py [--record benchmarks/results/view.json]

Makes a run folder, writes its page, opens it in headless Chromium (playwright), and measures, median of five:
first paint, the list ready, a filter (from the key to the next frame), a sort, an attempt with its tree, and the
whole tree expanded.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import reroot
from reroot import Prefix
from reroot.access.attempt import Attempt
from reroot.access.learner import learner
from reroot.access.sealing import sealed
from reroot.access.session import Session
from reroot.families import HiddenPath
from reroot.pages.attempts.page import write_static
from reroot.runs.attempts import RunFolder
from reroot.runs.record_folders import read_records
from reroot.runs.texts import TEXTS
from reroot.types import Cost

ATTEMPTS, NODES, CHROMIUM = 10_000, 5_000, "/usr/bin/chromium"
LIMITS = {"first_paint_ms": 1000, "filter_ms": 200, "search_ms": 200}


@learner(requires="root/logprob")
async def many_rollouts(session: Session, *, n: int) -> Prefix:
    """n rollouts; the first is returned.

    Args:
        n: how many.
    """
    reply = await session.rollouts(n)
    return reply.outputs()[0]


def big_tree(folder: Path) -> int:
    """A run of one attempt whose tree has at least ``NODES`` nodes; how many."""
    from reroot.runs.prefix_trees import read_tree

    path = HiddenPath(vocab_size=64, horizon=16, p=0.02)
    reroot.run(
        many_rollouts(n=360), [path.problem()], path, grants="root/logprob+reward", out=folder,
        transcripts=True,
    )  # fmt: skip
    (record,) = read_records(folder).records
    assert record.transcript is not None
    count = sum(1 for _ in read_tree(record.transcript).nodes())
    assert count >= NODES, count
    return count


def many_attempts(folder: Path, count: int) -> None:
    """A run folder of made-up attempts: outputs of 30 tokens, a tenth of them right."""
    rng = np.random.default_rng(0)
    with RunFolder(folder, {"kind": "run", "generator": {}}) as run:
        for i in range(count):
            tokens = tuple(int(t) for t in rng.integers(0, 50, 30))
            passed = bool(rng.random() < 0.1)
            text = " ".join(map(str, tokens))
            run.record(
                Attempt(
                    f"p{i % 500} | learner {i % 12} | {i}", f"p{i % 500}", f"learner_{i % 12}(n=16)",
                    ("root/sample", "reset/sample")[i % 2], i % 3, Prefix(tokens), text, True,
                    float(passed), passed, 12.5, Cost(rollouts=16, tokens=480, prefill=30), None, None,
                )
            )  # fmt: skip
        run.flush()
    texts = {str(token): str(token) for token in range(50)}
    (folder / TEXTS).write_bytes(sealed({"tokens": texts, "between": " "}))


_NEXT_FRAME = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))"


def timed(page: Any, act: str) -> float:
    """Milliseconds from before ``act`` (script) until the frame after it is there."""
    return page.evaluate(
        f"""async () => {{ const before = performance.now(); {act};
        await ({_NEXT_FRAME})(); return performance.now() - before; }}"""
    )


def look(browser: Any, file: Path) -> dict[str, float]:
    """One visit of the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())
    page.wait_for_selector("#filters:not([hidden])")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    ready = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    choose = "const s = document.getElementById('learner'); s.value = '3'; s.dispatchEvent(new Event('change'))"
    search = "const s = document.getElementById('search'); s.value = '17 4'; s.dispatchEvent(new Event('input'))"
    clear = "s.value = ''; s.dispatchEvent(new Event('input'))"
    found = {
        "first_paint_ms": paint,
        "ready_ms": ready,
        "filter_ms": timed(page, choose),
        "search_ms": timed(page, search),
        "search_cleared_ms": timed(page, f"const s = document.getElementById('search'); {clear}"),
        "sort_ms": timed(page, "document.querySelectorAll('thead button')[3].click()"),
        "tree_opened_ms": timed(page, f"open({ATTEMPTS})"),
        "tree_expanded_ms": timed(
            page, "document.querySelector('[aria-label=\"Expand the tree\"]').click()"
        ),
    }
    page.close()
    return found


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    record = parser.parse_args().record
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place)
        many_attempts(folder / "many", ATTEMPTS)
        nodes = big_tree(folder / "tree")
        before = time.perf_counter()
        file, _ = write_static([folder / "many", folder / "tree"], folder / "page.html")
        written = time.perf_counter() - before
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visits = [look(browser, file) for _ in range(5)]
        found: dict[str, Any] = {
            "attempts": ATTEMPTS + 1,
            "nodes": nodes,
            "page_mb": round(file.stat().st_size / 1e6, 2),
            "written_s": round(written, 2),
            **{k: round(statistics.median(v[k] for v in visits), 1) for k in visits[0]},
            "browser": browser.version,
            "machine": platform.machine(),
        }
        browser.close()
    print(json.dumps(found, indent=1))
    for name, most in LIMITS.items():
        print(
            f"{name}: {found[name]} of at most {most}: {'ok' if found[name] <= most else 'TOO SLOW'}"
        )
    if record is not None:
        record.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
