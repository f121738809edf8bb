"""Every code block of README and docs is run, page by page, or says why not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from docs_blocks import PAGES, ROOT, RUN, blocks_of, run_block, seconds_of

WORK = [page for page in PAGES if any(not b.not_run for b in blocks_of(page) if b.language in RUN)]


def _page(page: Path) -> Any:
    seconds = seconds_of(page)
    marks = [pytest.mark.slow(seconds)] if seconds else []
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("page", [_page(page) for page in WORK])
def test_the_blocks_of_a_page_run(
    page: Path,
    tmp_path: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one folder, in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks_of(page):  # a file of an earlier page is another module
        sys.modules.pop(Path(block.title).stem, None)
    state: dict[str, Any] = {"__name__": "docs"}
    for block in blocks_of(page):
        run_block(block, state, capsys)


def test_what_is_not_run_says_why() -> None:
    """Fences name a language, and reasons are words."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert [b.where for b in blocks if not b.language] == []
    skipped = [b for b in blocks if b.not_run]
    assert [b.where for b in skipped if len(b.not_run.split()) < 3] == []
    assert len(skipped) < sum(b.language in RUN for b in blocks) / 2


def test_blocks_are_found_as_they_are_written(tmp_path: Path) -> None:
    text = (
        "# A\n\n<!-- slow: 2 -->\n```python\nx = 0\n```\n\n<!-- not run: needs a server -->\n```sh\nreroot a\n```\n\n"
        '1. one\n\n    ```python title="f.py"\n    x = 1\n    if x:\n        x = 2\n    ```\n'
    )
    page = tmp_path / "page.md"
    page.write_text(text)
    zeroth, first, second = blocks_of(page)
    assert (zeroth.code, zeroth.not_run) == ("x = 0\n", "")
    assert (first.language, first.line, first.not_run) == ("sh", 9, "needs a server")
    assert (second.title, second.code) == ("f.py", "x = 1\nif x:\n    x = 2\n")


def test_a_block_that_fails_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n1 / 0\n```\n```sh\nfalse\n```\n```console\n$ reroot --version\n9.9\n```\n"
    )
    monkeypatch.setattr("docs_blocks.ROOT", tmp_path)
    for block, error in zip(
        blocks_of(page), (ZeroDivisionError, Exception, AssertionError), strict=True
    ):
        with pytest.raises(error):
            run_block(block, {}, capsys)
