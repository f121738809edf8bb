"""Every kind of page in a real browser: axe-core finds nothing, and a phone shows it without scrolling sideways."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_kinds import KINDS

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]

pytestmark = [
    pytest.mark.slow(10),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_violation_and_no_sideways_scrolling(kind: str, browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    file = tmp_path / "shown.html"
    file.write_text(KINDS[kind](tmp_path), encoding="utf-8")
    for scheme, width in LOOKS:
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        page.goto(file.as_uri())
        found = axe.run(page).response["violations"]
        told = [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
        assert told == [], f"{scheme}, {width} px"
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{over} px too wide at {width} px"
        page.close()


def test_the_first_column_stays_and_every_cell_fits(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "shown.html"
    file.write_text(KINDS["comparison"](tmp_path), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(file.as_uri())
    stays = """() => { const box = [...document.querySelectorAll('.wide')].find(b => b.scrollWidth > b.clientWidth + 50);
        box.scrollLeft = 50; const cell = box.querySelector('tbody tr:last-child > :first-child');
        return Math.abs(cell.getBoundingClientRect().left - box.getBoundingClientRect().left); }"""
    assert page.evaluate(stays) < 1.5
    page.set_viewport_size({"width": 1280, "height": 900})
    clipped = """() => [...document.querySelectorAll('.wide')].filter(b => b.scrollWidth > b.clientWidth + 1)
        .map(b => b.getAttribute('aria-label') + ': ' + b.scrollWidth + ' > ' + b.clientWidth)"""
    assert page.evaluate(clipped) == []
