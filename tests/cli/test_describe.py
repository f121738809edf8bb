"""``reroot describe`` and ``reroot list``: what a name stands for, with every parameter's meaning."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from commands import call
from reroot import InvalidInput
from reroot.cli.describe import TELL, built_in, describe, documented

OWN = '''
from reroot import learner
from reroot.generators.ngram import CharNgram
from reroot.training.strategies import Root

@learner(requires=lambda p: "root/sample" if p["n"] == 1 else "visited/sample")
async def walk(session, *, n: int = 1, m):
    """Walks (arXiv:2401.00001).

    Args:
        n, m: how far,
            and further.

    Raises:
        InvalidInput: never.
    """

class Mine(Root):
    """Starts of my own.

    Args:
        tau: a threshold.
    """
    def __init__(self, tau=0.5): ...

def words(horizon, count, seed, size: int = 3):
    """Words to write.

    Args:
        size: their length.
    """

def text(order=3):
    """A text model."""

three = 3
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


@pytest.mark.parametrize("kind", TELL)
def test_every_parameter_of_everything_has_its_meaning(kind: str) -> None:
    names = built_in()[kind]
    assert names
    for name, found in names.items():
        said = TELL[kind](name, found, {})
        assert said.about, name
        assert [p for p, known in said.parameters.items() if not known.meaning] == [], name
        assert str(said).startswith(f"{kind} {name}\n\n{said.about}")


def test_what_has_parameters_shows_them() -> None:
    for name, found in built_in()["learner"].items():
        assert list(TELL["learner"](name, found, {}).parameters) == list(found.parameters)
    for name, found in built_in()["strategy"].items():
        taken = {*inspect.signature(found).parameters} - {"demonstrations"}
        assert {*TELL["strategy"](name, found, {}).parameters} == taken


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("best_of_n", ["learner best_of_n", "Requires: root/sample+reward", "    n = 16: rollouts.", "Source: arXiv 2110.14168"]),
        ("best_of_n:oracle=verifier,n=3", ["Requires: root/sample+verifier", "    n = 3: rollouts."]),
        ("hidden_path", ["family hidden_path", "    p: probability"]),
        ("noisy_parity", ["Source: arXiv 2302.14753"]),
        ("adaback", ["strategy adaback", "    tau = 0.5: the mean reward that counts as success."]),
        ("copy", ["task copy", "Repeat a list of words.", "Horizon: words."]),
        ("running_parity", ["    width = None: bits of the prompt, else as many as steps"]),
        ("smollm2", ["model smollm2"]),
        ("kl-gap", ["experiment kl-gap", "Source: arXiv 2604.04855"]),
    ],
)  # fmt: skip
def test_what_is_said(name: str, lines: list[str]) -> None:
    text = describe(name)
    for line in lines:
        assert f"\n{line}" in f"\n{text}"


def test_ones_own(own: Path) -> None:
    assert describe(f"{own}:walk:m=3,n=2").splitlines() == [
        f"learner {own}:walk", "", "Walks (arXiv:2401.00001).", "", "Requires: visited/sample", "",
        "Parameters:", "    n = 2: how far, and further.", "    m = 3: how far, and further.", "",
        "Source: arXiv:2401.00001",
    ]  # fmt: skip
    assert "depends on the parameters" in describe(f"{own}:walk")
    assert f"strategy {own}:Mine\n\nStarts of my own." in describe(f"{own}:Mine")
    assert "task" in describe(f"{own}:words").splitlines()[0]
    assert "    size = 3: their length." in describe(f"{own}:words")
    assert describe(f"{own}:text").startswith("model")
    for name, said in [("three", "neither learner"), ("txet", "Did you mean 'text'")]:
        with pytest.raises(InvalidInput, match=said):
            describe(f"{own}:{name}")


def test_names_of_several_kinds_and_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("smc", "reroot.generators.ngram:CharNgram", "reroot.generators"),
        EntryPoint("broken", "no_such_package:x", "reroot.learners"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [e for e in entries if e.group == group]
    )
    text = describe("smc")
    assert text.startswith("learner smc")
    assert "\nmodel smc\n" in text
    for name, said in [
        ("broken", "cannot be loaded"),
        ("vbg", "Did you mean 'vgb'"),
        ("", "called ''"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            describe(name)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "vgb") == 0
    assert capsys.readouterr().out.strip() == describe("vgb").strip()
    assert call("describe", "vbg") == 2
    assert "Did you mean 'vgb'" in capsys.readouterr().err


def test_lists_show_what_packages_bring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        EntryPoint("good", "reroot.learners.registry:best_of_n", "reroot.learners"),
        EntryPoint("broken", "no_such_package:x", "reroot.learners"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [e for e in entries if e.group == group]
    )
    monkeypatch.setenv("COLUMNS", "200")
    assert call("list", "learners") == 0
    out = capsys.readouterr().out
    assert "FILE.py:NAME" in out
    (good,) = (line for line in out.splitlines() if line.startswith("good "))
    assert "Best of n rollouts" in good
    assert "cannot be loaded: ModuleNotFoundError" in " ".join(out.split())  # whatever the width
    assert "from a package" in out
    assert "vgb" in out


def test_docstrings_are_read_by_their_sections() -> None:
    about, meanings = documented(
        "One.\n\n    More: text.\n\n    Args:\n        a, b: x\n            y: z.\n        c: ``w``\n\n    Returns:\n        d: no.\n"
    )
    assert about == "One.\n\nMore: text."
    assert meanings == {"a": "x y: z.", "b": "x y: z.", "c": "w"}


def test_data_sets_are_described_by_what_was_recognized(tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "1+1", "answer": "2"}\n{"question": "1+2", "answer": "3"}\n')
    said = describe(f"{file}:answer=number")
    assert said.startswith(f"task {file}\n\nA data set: 2 problems.\n")
    assert "layout question-answer (prompt = question)" in said
    assert "    answer = number: exact, number, math" in said
    file.write_text('{"question": "1+1", "answer": "2", "answer": "3"}\n')
    with pytest.raises(InvalidInput, match=r"line 1: .*given twice"):
        describe(str(file))
    other = tmp_path / "sums.arrow"
    other.touch()
    with pytest.raises(InvalidInput, match=r"ends in none of \.py, \.jsonl, .*\.tsv\.gz"):
        describe(str(other))


def test_forms_are_no_names() -> None:
    assert set(built_in()["model"]) == {"smollm2", "ngram"}
    with pytest.raises(InvalidInput, match="nothing is called 'PATH'"):
        describe("PATH")
