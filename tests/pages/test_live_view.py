"""The page of attempts while a run goes on."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from test_attempts_page import browser, opened  # pyright: ignore[reportUnusedImport]

import reroot
from reroot import RunFolderError
from reroot.access.sealing import sealed
from reroot.pages.attempts.page import Pages, write_static
from reroot.pages.attempts.server import serving
from reroot.runs.folder import JournalFolder
from reroot.runs.growing import is_running
from reroot.runs.record_folders import Follower, read_records
from training_runs import write_run

ATTEMPTS = 60
__all__ = ["browser"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live") / "c"
    reroot.compare(
        model="hidden_path:K=3,H=4,p=0.5",
        learners=["best_of_n:n=8", "tokenwise_rejection"],
        problems=ATTEMPTS // 2,
        seeds=1,
        budget_tokens=1500,
        out=folder,
        transcripts=True,
    )
    return folder


class Growing:
    """A folder that has as much of a finished one's journal as it is told."""

    def __init__(self, source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        self.folder, self._journal = folder, folder / "journal.jsonl"
        lines = self._journal.read_bytes().splitlines(keepends=True)
        self.lines = [lines[7 * i % ATTEMPTS] for i in range(ATTEMPTS)]  # learners mixed
        self._journal.write_bytes(b"")
        (folder / "results.parquet").unlink()

    def grow(self, lines: int, half: bool = False) -> None:
        """So many lines in all; and one that is half written."""
        data = b"".join(self.lines[:lines])
        self._journal.write_bytes(data + (self.lines[lines][:40] if half else b""))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@pytest.fixture
def growing(finished: Path, tmp_path: Path) -> Growing:
    return Growing(finished, tmp_path / "g")


def test_looking_again_and_again_finds_what_reading_once_finds(
    growing: Growing, finished: Path
) -> None:
    following = Follower(growing.folder)
    for lines in (0, 1, 1, 7, 31, ATTEMPTS):
        growing.grow(lines, half=lines < ATTEMPTS)
        places = following.look()
        assert places is not None
        assert len(following.records) == lines
        assert following.progress().done == lines
        assert following.progress().total == ATTEMPTS
    once = {
        r.id: r.to_json() | {"run": "", "transcript": ""} for r in read_records(finished).records
    }
    for record in following.records:
        assert record.to_json() | {"run": "", "transcript": ""} == once[record.id]
    assert following.progress().passed == sum(r.passed for r in following.records)
    assert following.look() == []


def test_an_attempt_made_again_stays_in_its_place_and_a_new_journal_begins_anew(
    growing: Growing,
) -> None:
    growing.grow(9)
    pages = Pages([growing.folder])
    before = [r.id for r in pages.records]
    again = json.loads(growing.lines[3]) | {"reward": 0.25}
    del again["checksum"]
    growing.lines[9] = sealed(again)
    growing.grow(10)
    told = pages.since(0, 9, 9)
    (place,) = told["places"]
    assert [r.id for r in pages.records] == before
    assert pages.records[place].id == again["key"]
    assert told["columns"]["reward"] == [0.25]
    assert pages.since(0, told["seen"], 9).get("places") is None
    growing.grow(2)
    told = pages.since(0, 10, 9)
    assert told["generation"] == 1
    assert "places" not in told
    assert len(pages.records) == 2


def test_whether_it_runs_is_seen_without_disturbing_it(growing: Growing) -> None:
    growing.grow(3)
    assert not is_running(growing.folder)
    with growing.running():
        assert is_running(growing.folder)
        with pytest.raises(RunFolderError, match="in use"), JournalFolder(growing.folder, {}, str):
            pass
    assert not is_running(growing.folder)
    assert not is_running(growing.folder / "none")


def test_a_run_without_an_attempt_is_served_only_while_it_runs(growing: Growing) -> None:
    with pytest.raises(RunFolderError, match="no attempt in"):
        Pages([growing.folder])
    with growing.running():
        pages = Pages([growing.folder])
        assert pages.progress()[0]["text"] == "0 of 60 attempts, 0 passed, 0 tokens; running"
        growing.grow(5)
        file, _ = write_static([growing.folder], growing.folder / "page.html")
        assert "5 of 60 attempts" in file.read_text()
    assert pages.progress()[0]["text"].endswith("; ended before all was done")


def test_what_is_new_is_served_and_what_is_damaged_is_told(growing: Growing) -> None:
    growing.grow(4)
    with serving(Pages([growing.folder])) as address:
        place = urlsplit(address)
        connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=10)

        def new(asked: str) -> tuple[int, Any]:
            connection.request("GET", f"/new?{asked}")
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

        growing.grow(6)
        status, said = new("generation=0&seen=4&problems=0")
        assert (status, len(said["places"]), said["seen"]) == (200, 2, 6)
        for wrong in ("", "generation=0&seen=x&problems=0", "generation=0&seen=-1&problems=0"):
            assert new(wrong)[0] == 404
        assert new(f"generation=0&seen={10**14}&problems=0")[1].get("places") is None
        growing.lines[6] = growing.lines[6].replace(b"passed", b"missed")
        growing.grow(7)
        status, said = new("generation=0&seen=6&problems=0")
        assert status == 500
        assert "does not match its checksum" in said["error"]


# ---- in a browser --------------------------------------------------------------------------------


def wait(page: Any, true: str) -> None:
    """Until a script says so; the page itself lets nobody evaluate text."""
    for _ in range(400):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{true} has not come true")


LOOKS = """[scrollY, document.querySelector('article .tree').scrollTop,
  [...document.querySelectorAll('article details')].map((part) => part.open)]"""
"""How far down the page and the tree are, and what is open."""


@pytest.mark.slow(15)
def test_a_reader_sees_attempts_come_and_keeps_the_place(browser: Any, growing: Growing) -> None:
    with contextlib.ExitStack() as until:
        growing.grow(0, half=True)
        run = until.enter_context(growing.running())
        assert run is None
        address = until.enter_context(serving(Pages([growing.folder])))
        page, wrong = opened(browser, address)
        count, rows = page.locator("#count"), page.locator("#list tbody tr[data-row]")
        assert count.inner_text() == "No attempt yet."
        growing.grow(30, half=True)
        wait(page, "data.id.length === 30")  # of itself
        assert page.locator("#progress").inner_text().startswith("30 of 60 attempts")
        page.select_option("#learner", label="best_of_n(n=8)")
        shown = int(count.inner_text().split()[0])
        page.get_by_role("button", name="Tokens").click()
        page.evaluate("box.scrollTop = 95")
        page.evaluate("open(shown[4])")
        page.wait_for_selector("article .tree li")
        page.evaluate("document.querySelector('article .tree').dataset.same = 'yes'")
        page.evaluate("document.querySelector('article > details').open = true")  # the prompt
        page.evaluate("document.querySelector('article .tree details').open = false")
        page.evaluate("document.querySelector('article .tree').scrollTop = 7")
        top = page.evaluate("shown[3]")
        page.evaluate("go(5)")
        focused = page.evaluate("shown[current]")
        page.evaluate("box.scrollTop = 95")
        page.evaluate("scrollTo(0, 240)")
        looks = page.evaluate(LOOKS)
        growing.grow(45, half=True)
        page.evaluate("ask()")
        wait(page, "data.id.length === 45")
        assert page.locator("#learner option:checked").inner_text() == "best_of_n(n=8)"
        assert int(count.inner_text().split()[0]) > shown
        assert page.evaluate("data.id[shown[Math.floor(box.scrollTop / ROW)]]") == page.evaluate(
            f"data.id[{top}]"
        )
        assert page.evaluate("box.scrollTop % ROW") == 5
        assert page.evaluate("shown[current]") == focused
        assert page.evaluate("document.activeElement.closest('tr').dataset.row") == str(
            page.evaluate("current")
        )
        assert page.locator("article .tree[data-same=yes]").count() == 1  # not drawn again
        assert page.evaluate(LOOKS) == looks
        assert looks[0] == 240
        assert "true" in str(looks).lower()
        assert "false" in str(looks).lower()
        hidden = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true })"
        page.evaluate(hidden % "true")
        growing.grow(ATTEMPTS)
        page.evaluate("ask()")
        assert page.evaluate("asking") is False  # nobody looks
        page.evaluate(hidden % "false")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        wait(page, "data.id.length === 60")
        assert rows.count() > 10
        until.close()
        assert wrong == []
        page.close()


@pytest.mark.slow(10)
def test_the_end_of_a_run_and_of_the_server_are_told(browser: Any, growing: Growing) -> None:
    growing.grow(20)
    with contextlib.ExitStack() as served:
        with growing.running():
            address = served.enter_context(serving(Pages([growing.folder])))
            page, wrong = opened(browser, address)
            page.wait_for_selector("#progress progress")
        growing.grow(ATTEMPTS)
        page.evaluate("ask()")
        wait(page, "$('said').textContent !== ''")
        assert page.locator("#said").inner_text() == "The run has ended."
        assert page.locator("#progress").inner_text().endswith("; ended")
        assert wrong == []
    page.evaluate("ask()")
    wait(page, "$('said').textContent.startsWith('Nobody')")
    assert page.locator("#count").inner_text().startswith("60 attempts")
    page.close()


# ---- training --------------------------------------------------------------------------------------


def completions(step: int) -> bytes:
    """A step of training as it is kept: two rollouts from one start, of which the second passes."""
    said = [
        {
            "group": 0,
            "rollout": i,
            "problem": f"copy/h2/s0/{step}",
            "start": [5],
            "start_text": "a ",
            "tokens": [6 + i],
            "text": "ab"[i],
            "pieces": ["a ", "ab"[i]],
            "complete": True,
            "reward": float(i),
            "passed": bool(i),
        }
        for i in range(2)
    ]
    return sealed({"step": step, "of": 2, "completions": said})


@pytest.mark.slow(10)
def test_a_training_run_is_shown_as_it_goes(browser: Any, tmp_path: Path) -> None:
    """From before its first step, when nothing says that it keeps none, to its end."""
    folder = write_run(tmp_path / "t", "adaback", steps=4, every=0)
    journal, kept = folder / "journal.jsonl", folder / "completions.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"")
    with contextlib.ExitStack() as served:
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            address = served.enter_context(serving(Pages([folder])))
            page, wrong = opened(browser, address)
            assert page.locator("#count").inner_text() == "No attempt yet."
            assert page.locator("#notes").inner_text() == ""
            for step in (1, 2):
                kept.write_bytes(b"".join(map(completions, range(1, step + 1))))
                journal.write_bytes(b"".join(lines[:step]))
                page.evaluate("ask()")
                wait(page, f"data.id.length === {2 * step}")
                told = page.locator("#progress").inner_text()
                assert told.startswith(f"{step} of 60 steps, ")
                assert told.endswith("; running")
            assert page.locator("#count").inner_text() == "4 attempts, 2 passed."
            page.evaluate("open(3)")
            facts = page.locator("article dl").inner_text().split("\n")
            assert facts[facts.index("Start") + 1] == "1 token given, the others sampled"
            assert facts[facts.index("Step") + 1] == "2"
        kept.write_bytes(b"".join(map(completions, range(1, 5))))
        journal.write_bytes(b"".join(lines))
        page.evaluate("ask()")
        wait(page, "$('said').textContent !== ''")
        assert page.locator("#said").inner_text() == "The run has ended."
        assert page.locator("#count").inner_text() == "8 attempts, 4 passed."
        assert page.locator("article h2").inner_text() == "adaback"  # still open
        assert wrong == []
        page.close()
