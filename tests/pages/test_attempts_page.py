"""The page of attempts: its data, what it serves, and what it does in a real browser."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import reroot
from html_checks import Reader
from reroot import InvalidInput, RunFolderError
from reroot.pages.attempts.page import FIRST, Pages, write_static
from reroot.pages.attempts.server import serving
from reroot.pages.attempts.tree import MOST
from reroot.runs.attempts import attempts_of
from toys import one_rollout, play, problem

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "</script><img src=x onerror=document.title='taken'><!--<script>"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "c"
    reroot.compare(
        model="hidden_path:K=3,H=4,p=0.5",
        learners=["best_of_n:n=8", "tokenwise_rejection"],
        problems=3,
        seeds=1,
        budget_tokens=150,
        out=folder,
        transcripts=True,
    )
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every text attacks the page."""
    folder = tmp_path_factory.mktemp("hostile") / "h<img src=x onerror=document.title='name'>"
    task = problem(f"p{HOSTILE}", answer=HOSTILE, reward=lambda output: 0.0)
    play(one_rollout, task=task, out=folder, transcripts=True)
    texts = folder / "texts.jsonl"
    (attempt,) = attempts_of(folder).values()
    assert attempt.output
    from reroot.access.sealing import sealed

    said = {str(token): HOSTILE for token in range(4)}
    with texts.open("ab") as file:
        file.write(sealed({"tokens": said}))
    return folder


def data_of(page: str) -> dict[str, Any]:
    (found,) = re.findall(
        r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(found)


def test_the_data_are_those_of_the_records(compared: Path, tmp_path: Path) -> None:
    file, notes = write_static([compared], tmp_path / "a.html")
    page = file.read_text()
    found, pages = data_of(page), Pages([compared])
    assert notes == []
    assert len(found["id"]) == len(pages.records) == 6
    for i, record in enumerate(pages.records):
        assert found["learners"][found["learner"][i]] == record.learner
        assert "".join(found["pieces"][i]) == record.output
        assert found["problems"][found["problem"][i]]["answer"] == record.answer
        tree = found["trees"][str(i)]
        assert tree["cost"] == {name: n for name, n in (record.cost or {}).items() if n}
        returned = [t for t, f in zip(tree["token"], tree["flags"], strict=True) if f & 1]
        assert tuple(returned) == record.tokens
    reader = Reader()
    reader.feed(page)
    assert reader.outside == []
    assert page == write_static([compared], tmp_path / "b.html")[0].read_text()  # to the byte


def test_without_a_script_the_first_attempts_are_a_table(compared: Path, tmp_path: Path) -> None:
    page = write_static([compared], tmp_path / "a.html")[0].read_text()
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert body.count("<tr>") == min(6, FIRST)
    assert 'scope="col"' in page


def test_nothing_of_a_models_making_is_markup(hostile: Path, tmp_path: Path) -> None:
    page = write_static([hostile], tmp_path / "a.html")[0].read_text()
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_trees_that_do_not_fit_are_left_out_and_told(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reroot.pages.attempts.page.MOST_BYTES", 3000)
    file, notes = write_static([compared], tmp_path / "a.html")
    left = 6 - len(data_of(file.read_text())["trees"])
    assert left > 0
    assert notes == [notes[0]]
    assert f"{left} of 6 trees are left out" in notes[0]


def test_a_tree_beyond_the_most_says_what_is_left_out(
    compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Pages([compared]).tree(0)
    assert whole and len(whole["token"]) < MOST
    monkeypatch.setattr("reroot.pages.attempts.tree.MOST", 6)
    part = Pages([compared]).tree(0)
    assert part
    assert len(part["token"]) == 6
    assert part["left_out"][0] == len(whole["token"]) - 6
    assert all(parent < i for i, parent in enumerate(part["parent"]))
    assert sum(flag & 1 for flag in part["flags"]) == 4  # what was returned stays


def test_folders_without_attempts_are_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="named twice"):
        Pages([compared, compared / "."])
    (tmp_path / "config.json").write_text(
        '{"kind": "train", "contract": "root/sample", "arm": "root"}'
    )
    with pytest.raises(RunFolderError, match="keeps no completions"):
        Pages([tmp_path])


def ask(address: str, path: str, host: str | None = None) -> tuple[int, bytes]:
    place = urlsplit(address)
    assert place.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(place.hostname, place.port or 0, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_it_is_served_to_this_machine_alone(compared: Path) -> None:
    pages = Pages([compared])
    with serving(pages) as address:
        status, page = ask(address, "/")
        assert status == 200
        assert data_of(page.decode())["trees"] is None
        for place in range(6):
            status, tree = ask(address, f"/tree?attempt={place}")
            assert (status, json.loads(tree)) == (200, json.loads(json.dumps(pages.tree(place))))
        for wrong in (
            "/tree?attempt=6",
            "/tree?attempt=-1",
            "/tree?attempt=x",
            "/tree",
            "/etc/passwd",
        ):
            assert ask(address, wrong)[0] == 404
        assert ask(address, "/", host="evil.example")[0] == 421  # a name pointed at this machine
        with (
            pytest.raises(InvalidInput, match="can't listen"),
            serving(pages, urlsplit(address).port or 0),
        ):
            pass
    with pytest.raises(OSError):
        ask(address, "/")
    with pytest.raises(InvalidInput, match="0…65535"), serving(pages, 70000):
        pass


# ---- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


def opened(
    browser: Any, address: str, width: int = 1280, scheme: str = "light"
) -> tuple[Any, list[str]]:
    """A page and what went wrong on it."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#filters:not([hidden])")
    return page, wrong


@pytest.mark.slow(20)
def test_it_is_accessible_light_and_dark_wide_and_narrow(
    browser: Any, compared: Path, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    address = f"{write_static([compared], tmp_path / 'a.html')[0].as_uri()}#0,1"
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        page, wrong = opened(browser, address, width, scheme)
        page.wait_for_selector(".tree li")
        found = axe.run(page).response["violations"]
        told = [(v["id"], v["nodes"][0]["html"]) for v in found]
        assert told == []
        assert wrong == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


@pytest.mark.slow(10)
def test_filter_sort_read_and_walk_with_the_keyboard(browser: Any, compared: Path) -> None:
    with serving(Pages([compared])) as address:
        page, wrong = opened(browser, address)
        rows = "#list tbody tr[data-row]"
        assert page.locator(rows).count() == 6
        page.select_option("#learner", label="best_of_n(n=8)")
        assert page.locator(rows).count() == 3
        assert page.locator("#count").inner_text().startswith("3 attempts of 6")
        page.fill("#search", "nowhere to be found")
        assert page.locator("#count").inner_text() == "Nothing found of 6."
        page.fill("#search", "")
        page.select_option("#learner", "")
        page.get_by_role("button", name="Tokens").click()
        shown = [int(text) for text in page.locator(f"{rows} td:nth-child(7)").all_inner_texts()]
        assert shown == sorted(shown, reverse=True)
        assert page.locator("th[aria-sort=descending]").inner_text() == "Tokens"
        page.locator(f"{rows} button").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('tr').dataset.row") == "2"
        page.keyboard.press("Enter")
        page.wait_for_selector("article .tree li")
        assert page.locator("article").count() == 1
        other = page.locator("#beside option").nth(1).get_attribute("value")
        page.select_option("#beside", other)
        page.wait_for_selector("article:nth-child(2) .tree li")
        page.get_by_role("button", name="Collapse the tree").first.click()
        page.locator(".tree summary").first.focus()
        page.keyboard.press("Enter")  # the root, which stays open, closes
        assert page.locator("article:first-child .tree details[open]").count() == 0
        assert wrong == []
        page.close()


@pytest.mark.slow(5)
def test_what_a_model_wrote_is_inert(browser: Any, hostile: Path, tmp_path: Path) -> None:
    file, _ = write_static([hostile], tmp_path / "a.html")
    page, wrong = opened(browser, f"{file.as_uri()}#0")
    page.wait_for_selector(".tree li")
    page.locator("article details summary").first.click()
    assert page.evaluate("document.images.length") == 0
    assert page.title().startswith("Attempts: ")
    assert "onerror" in page.locator("pre").first.inner_text()
    assert wrong == []
    page.close()
