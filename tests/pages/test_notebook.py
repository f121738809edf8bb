"""What notebooks show: short reprs, HTML that escapes, and progress as one line."""

from __future__ import annotations

import asyncio
import copy
import re
from pathlib import Path
from typing import Any

import pytest

import reroot
from html_checks import Reader
from reroot import Contract, Problem
from reroot.certify import Certificate, cases_of
from reroot.families import HiddenPath
from reroot.pages.notebook import Progress, html_of

SMALL: dict[str, Any] = {
    "model": "hidden_path:K=3,H=3,p=0.6",
    "learners": ["best_of_n:n=2", "beam_search:width=2"],
    "budget_tokens": 200,
    "seeds": 1,
    "problems": 4,
}


def tables(html: str) -> list[list[list[str]]]:
    reader = Reader()
    reader.feed(html)
    return reader.tables


@pytest.mark.slow(2)
def test_a_comparison_inside_a_running_loop_into_a_temporary_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in a notebook cell: the loop runs, nobody names a folder, and the result shows itself.

    Without a kernel progress goes to stderr, also where somebody has imported ipykernel.
    """
    pytest.importorskip("ipykernel")

    async def cell() -> reroot.Comparison:
        with Progress() as shown:
            return reroot.compare(**SMALL, **shown.callbacks)

    found = asyncio.run(cell())
    said = capsys.readouterr().err
    assert f"the run folder is {found.folder}" in said
    assert "8 of 8 attempts" in said
    assert repr(found).startswith("Comparison(hidden_path:K=3,H=3,p=0.6 on hidden_path: 8 of 8")
    html = html_of(found)
    assert html == found._repr_html_()
    (rates,) = tables(html)
    names = [row[0].strip() for row in rates]
    assert names == ["control, learner", "root", "best_of_n", "reset", "beam_search"]
    verdict = found.summary["verdicts"][0]
    assert verdict["kind"] in html
    assert "<svg" in html
    assert not re.search(
        r"var\(--(?!root|episode|visited|reset|chosen|heat|ink|muted|line|paper)", html
    )


def test_a_run_a_contract_and_a_problem(tmp_path: Path) -> None:
    family = HiddenPath(3, 3, 0.6, seed=0)
    found = reroot.run("best_of_n:n=4", [family.problem()], family, grants="root/sample+reward")
    assert re.fullmatch(r"RunResult\(best_of_n\(n=4\): [01] of 1 passed, 12 tokens\)", repr(found))
    assert tables(found._repr_html_())[0][1][0] == family.problem().id
    contract = Contract.parse("reset/sample+verifier@T=1")
    assert repr(contract) == "Contract('reset/sample+verifier@T=1')"
    assert "ask whether a beginning can still become right" in contract._repr_html_()


def test_hostile_text_is_shown_and_does_nothing() -> None:
    evil = "<script>alert(1)</script>\x1b[31m\u202e"
    problem = Problem(id=evil, prompt=evil * 100, max_tokens=3, reward=lambda o: 1.0, answer=evil)
    html = problem._repr_html_()
    assert "<script" not in html
    assert "&lt;script" in html
    assert not re.search("[\x1b\u202e]", html)
    assert len(repr(problem)) < 200


def test_a_certificate() -> None:
    case = cases_of("best_of_n")[0]
    found = Certificate(case, {}, {"tokens": 4.0}, 0, holds=True)
    assert repr(found).startswith("Certificate(best_of_n")
    assert repr(found).endswith("enumerated: holds)")
    assert case.states in found._repr_html_().replace("&#x27;", "'")
    assert "4 tokens" in found._repr_html_()


def masked(text: str) -> str:
    """Without seconds and folders."""
    return re.sub(r"'[^'\s]*/[^'\s]*'|[\d.]+ s\b", "…", text)


@pytest.mark.slow(15)
def test_the_example_notebook_shows_what_it_shows_when_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(reroot.__file__).parents[1]))  # the kernel's
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    file = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
    assert file.stat().st_size < 200_000
    kept = nbformat.read(file, as_version=4)
    run = copy.deepcopy(kept)
    nbclient.NotebookClient(
        run, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    def texts(notebook: Any) -> list[str]:
        outputs = [o for c in notebook.cells for o in c.get("outputs", ())]
        return [masked(o.get("text") or o["data"]["text/plain"]) for o in outputs]

    assert len(texts(kept)) == 6
    assert texts(run) == texts(kept)
