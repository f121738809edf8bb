"""The page of measured speed says what the committed results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location(
        "performance", ROOT / "benchmarks" / "performance.py"
    )
    assert spec is not None
    assert spec.loader is not None
    performance = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(performance)
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == performance.page()
    assert "| yes |" in performance.page()
