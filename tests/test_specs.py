"""One reader of ``name:key=value``, and code of one's own by name."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot import InvalidInput, specs
from reroot.specs import Spec, parse


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("greedy_walk", "greedy_walk", {}),
        (" best_of_n : n = 16 , oracle = verifier ", "best_of_n", {"n": 16, "oracle": "verifier"}),
        ("a:x=none,y=None,z=NONE", "a", {"x": None, "y": None, "z": None}),
        ("a:x=true,y=False", "a", {"x": True, "y": False}),
        ("a:x=-3,y=1e-3,z=inf", "a", {"x": -3, "y": 1e-3, "z": float("inf")}),
        ("a:x='none',y=\"16\"", "a", {"x": "none", "y": "16"}),
        ("a:x='b,c=d:e',y=1", "a", {"x": "b,c=d:e", "y": 1}),
        ("a:x='it''s'", "a", {"x": "it's"}),
        ("a:x=''", "a", {"x": ""}),
        ("ngram:/a b/o'brien.txt:order=4", "ngram:/a b/o'brien.txt", {"order": 4}),
        ("ngram:'/a:b=1,c/f.txt':order=4", "ngram:/a:b=1,c/f.txt", {"order": 4}),
        ("reasoning_gym:chain_sum:terms=horizon", "reasoning_gym:chain_sum", {"terms": "horizon"}),
        ("/x/own.py:walk:n=3", "/x/own.py:walk", {"n": 3}),
        ("a:x=b=c", "a", {"x": "b=c"}),
    ],
)
def test_what_specs_say(text: str, name: str, settings: dict[str, object]) -> None:
    assert parse(text) == Spec(name, settings)
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:", "expected 'key=value' after the colon"),
        ("a:n=", "expected 'key=value', got 'n='"),
        ("a:n=1,", "expected 'key=value', got ''"),
        ("a:n=1,m", "expected 'key=value', got 'm'"),
        ("a:n=1,n=1", "gives 'n' twice"),
        ("a:n='b", "a quote is not closed"),
        ("a:n='b'c", "a quote is not closed"),
        ("a\t:n=1", r"control character '\t'"),
        ("a:n=b\0", r"control character '\x00'"),
        ("a:n=\udc80", r"control character '\udc80'"),
        ("a:n=" + "9" * 5000, "is too large"),
        ("a:n=-" + "9" * 30, "is too large"),
        ("a:n=1e400", "is too large"),
        (3, "got 3"),
        (None, "got None"),
        (b"a", "got b'a'"),
    ],
)
def test_what_is_refused(text: object, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert len(str(refused.value)) < 6000


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)
VALUES = (
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXTS
)


@given(
    TEXTS.filter(lambda name: name.strip() and not name.endswith(":")),
    st.dictionaries(st.sampled_from(["n", "oracle", "_x1"]), VALUES),
)
def test_what_is_written_reads_back(name: str, settings: dict[str, specs.Value]) -> None:
    read = parse(str(Spec(name, settings)))
    assert read == Spec(name, settings)
    assert {k: type(v) for k, v in read.settings.items()} == {
        k: type(v) for k, v in settings.items()
    }


def test_lists_of_specs() -> None:
    assert specs.split("copy,parity:width=3,depth=2,add") == [
        "copy",
        "parity:width=3,depth=2",
        "add",
    ]
    assert specs.split("g:x='a,b',y=1,add") == ["g:x='a,b',y=1", "add"]
    assert specs.split("root/sample@T=1,top_p=.9,reset/sample", "@") == [
        "root/sample@T=1,top_p=.9",
        "reset/sample",
    ]
    with pytest.raises(InvalidInput, match="empty value"):
        specs.split("a,,b")


# ---- files ----------------------------------------------------------------------------------


def write(folder: Path, text: str, name: str = "own.py") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_file_is_loaded_once_and_again_when_it_changes(tmp_path: Path) -> None:
    file = write(tmp_path, "class One: pass\n")
    first = specs.load(f"{file}:One", "task")
    assert specs.load(f"{file}:One", "learner") is first
    mark = specs.fingerprint(first)
    assert len(mark) == 16
    write(tmp_path, "helper = 1\nclass One: pass\n")
    again = specs.load(f"{file}:One", "task")
    assert again is not first
    assert specs.fingerprint(again) != mark
    assert specs.fingerprint(Spec) == ""


def test_a_file_finds_its_neighbours_also_later(tmp_path: Path) -> None:
    write(tmp_path, "SEEN = 3\n", "early_neighbour.py")
    write(tmp_path, "SEEN = 4\n", "late_neighbour.py")
    file = write(
        tmp_path,
        "from early_neighbour import SEEN\ndef later():\n    import late_neighbour as b\n    return SEEN + b.SEEN\n",
    )
    assert specs.load(f"{file}:later", "task")() == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero ({file}, line 2)"),
        ("x = 1\ndef broken(:\n", "SyntaxError: invalid syntax ({file}, line 2)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 ({file}, line 1)"),
        ("import no_such_thing\n", "No module named 'no_such_thing' ({file}, line 1)"),
    ],
)
def test_errors_of_a_file_say_where(tmp_path: Path, text: str, said: str) -> None:
    file, before = write(tmp_path, text), set(sys.modules)
    with pytest.raises(InvalidInput) as refused:
        specs.load(f"{file}:mine", "learner")
    assert said.format(file=file) in str(refused.value)
    assert refused.value.__cause__ is not None
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{file}:walks", "has no 'walks'. Did you mean 'walk'?"),
        ("{file}", "needs a name, as in {file}:NAME. Known: walk."),
        ("{file}x.py:walk", "cannot read the file"),
        ("{file}:walk\0", "control character"),
    ],
)
def test_names_that_a_file_does_not_have(tmp_path: Path, name: str, said: str) -> None:
    file = write(tmp_path, "import os\nfrom pathlib import Path\ndef walk(): pass\n")
    with pytest.raises(InvalidInput) as refused:
        specs.load(name.format(file=file), "learner")
    assert said.format(file=file) in str(refused.value)


# ---- names ----------------------------------------------------------------------------------


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that brings a good learner and a broken one."""
    entries = [
        EntryPoint("good", "reroot.specs:Spec", "reroot.learners"),
        EntryPoint("broken", "no_such_package:x", "reroot.learners"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda group: [e for e in entries if e.group == group],
    )


def test_names_are_found(offered: None, tmp_path: Path) -> None:
    own = {"walk": 1}
    file = write(tmp_path, "mine = 2\n")
    assert specs.find("learner", "walk", own) == 1
    assert specs.find("learner", f"{file}:mine", own) == 2
    assert specs.find("learner", "good", own) is Spec
    for name, said in [
        ("broken", "cannot be loaded: ModuleNotFoundError"),
        ("goood", "Did you mean 'good'?"),
        ("wolk", "Did you mean 'walk'?"),
        ("walk:3", "expected 'key=value' after the colon, got '3'"),
        ("good:3", "expected 'key=value' after the colon, got '3'"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            specs.find("learner", name, own)
        assert said in str(refused.value)


def test_factories_are_called_with_what_they_take() -> None:
    def factory(n: int, *, p: float = 0.5) -> SimpleNamespace:
        return SimpleNamespace(n=n, p=p, q=1 / n)

    assert specs.call("model 'x'", factory, {"n": 2}).p == 0.5
    for settings, said in [
        ({"n": 2, "q": 1}, "model 'x' has no parameter 'q'"),
        ({}, "model 'x' needs the parameter 'n'"),
        ({"n": 0}, "model 'x' raised ZeroDivisionError: division by zero (" + __file__),
    ]:
        with pytest.raises(InvalidInput) as refused:
            specs.call("model 'x'", factory, settings)
        assert said in str(refused.value)
