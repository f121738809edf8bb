"""Tasks from a user's files, and the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reroot.errors import InvalidInput
from reroot.tasks import check, get_task, list_tasks, score
from reroot.tasks.strings import STRING_TASKS
from reroot.testing import check_task
from reroot.types import Output

GOOD = [
    {"prompt": "2 + 2 =", "answer": "4"},
    {
        "id": "sky",
        "prompt": "The sky is ",
        "answer": " blue ",
        "stop": [".", "\n"],
        "max_tokens": 8,
    },
    {"id": 7, "prompt": "Two lines:", "answer": "a\nb", "source": "elsewhere"},
    {"prompt": "π ≈", "answer": "3,14 ± 1", "stop": ";"},
]


def write(path: Path, *lines: object) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def script(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(f"from reroot.tasks import Problem\n{text}\n", encoding="utf-8")
    return str(path)


def done(text: str) -> Output:
    return Output((), text, complete=True)


# --- JSONL ----------------------------------------------------------------------------------


def test_lines_become_problems(tmp_path: Path) -> None:
    task = get_task(write(tmp_path / "quiz.jsonl", GOOD[0], "", *GOOD[1:]))
    four, sky, lines, pi = task.problems(5, 9, 0)
    assert [p.id for p in (four, sky, lines, pi)] == ["quiz/1", "sky", "7", "quiz/5"]
    assert [p.stop for p in (four, sky, lines, pi)] == [("\n",), (".", "\n"), (), (";",)]
    assert four.demonstration == " 4\n"
    assert sky.demonstration == "blue."  # the prompt ends with a space already
    assert lines.demonstration == " a\nb"
    assert (sky.max_tokens, sky.horizon) == (8, 5)
    assert isinstance(pi.demonstration, str)
    assert pi.max_tokens >= len(pi.demonstration.encode())  # a token is at least one byte
    for problem, right in ((four, "4"), (sky, " blue"), (lines, "\na\nb\n"), (pi, " 3,14 ± 1 ")):
        assert score(problem, done(right)) == 1.0
        assert score(problem, Output((), right, complete=False)) == 0.0
        assert score(problem, done(right + "x")) == 0.0
        assert check(problem, Output((), right[: len(right) // 2], complete=False))
        assert not check(problem, Output((), right + "x", complete=False))


def test_a_seed_draws_lines_without_replacement(tmp_path: Path) -> None:
    lines = [{"prompt": f"{i}?", "answer": "yes", "id": str(i)} for i in range(40)]
    task = get_task(write(tmp_path / "many.jsonl", *lines))
    drawn = [[p.id for p in task.problems(1, 10, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert drawn[0] == sorted(drawn[0], key=int)
    assert {p.id for p in task.problems(1, 40, 0)} == {str(i) for i in range(40)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not a JSON object: "),
        ("[1, 2]", "line 2: expected a JSON object with prompt and answer, got \\[1, 2\\]"),
        ({"prompt": "a"}, "line 2: the field 'answer' is missing"),
        ({"answer": "a"}, "line 2: the field 'prompt' is missing"),
        (
            {"prompt": "a", "answer": None},
            "line 2: answer must be a non-empty text or a number, got None",
        ),
        (
            {"prompt": "a", "answer": True},
            "line 2: answer must be a non-empty text or a number, got True",
        ),
        (
            {"prompt": "a", "answer": []},
            "line 2: answer must be a non-empty text or a number, got ",
        ),
        (
            {"prompt": 3, "answer": "b"},
            "line 2: prompt must be a non-empty text or a list of messages",
        ),
        (
            {"prompt": [{"role": "user"}], "answer": "b"},
            "line 2: prompt: a message needs a role and a",
        ),
        ({"prompt": " ", "answer": "4"}, "line 2: prompt must be a non-empty text, got ' '"),
        ({"prompt": "a", "answer": "4", "id": ""}, "line 2: id must be .* got ''"),
        ({"prompt": "a", "answer": "4", "id": [1]}, "line 2: id must be .* got \\[1\\]"),
        ({"prompt": "a", "answer": "4", "max_tokens": 0}, "line 2: max_tokens must be .* got 0"),
        ({"prompt": "a", "answer": "4", "max_tokens": "9"}, "line 2: max_tokens .* got '9'"),
        ({"prompt": "a", "answer": "4", "stop": 3}, "line 2: stop must be a tuple .* got 3"),
        ({"prompt": "a", "answer": "4", "stop": [""]}, "line 2: stop must be a tuple"),
        ({"prompt": "a", "answer": "1.5", "stop": "."}, "line 2: the stop text '.' occurs in"),
        (
            {"promt": "a", "answer": "4"},
            "line 2: the field 'prompt' is missing. Did you mean 'promt'",
        ),
        ({"prompt": "a", "answer": "b", "id": "first"}, "line 2: id 'first' is taken by line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path / "bad.jsonl", {"prompt": "a", "answer": "b", "id": "first"}, line)
    with pytest.raises(InvalidInput, match=message) as caught:
        get_task(path)
    assert "bad.jsonl" in str(caught.value)


def test_files_that_hold_no_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"empty.jsonl: the file has no lines"):
        get_task(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(InvalidInput, match=r"missing.jsonl': No such file"):
        get_task(str(tmp_path / "missing.jsonl"))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InvalidInput, match=r"folder.jsonl': Is a directory"):
        get_task(str(tmp_path / "folder.jsonl"))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"prompt": "a", "answer": "b"}\n{"prompt": "é"'.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"latin.jsonl, line 2: not UTF-8 text \(byte 13\)"):
        get_task(str(latin))


def test_marks_and_line_ends_of_other_systems_are_read(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    line = json.dumps({"prompt": "a", "answer": "b"}).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n" + line + b"\r\n")
    assert [p.id for p in get_task(str(path)).problems(1, 9, 0)] == ["other/1", "other/2"]


# --- Python files ---------------------------------------------------------------------------

ONE = "Problem(id='a', prompt='?', max_tokens=3, reward=lambda o: 1.0, horizon=horizon)"


def test_a_function_makes_problems(tmp_path: Path) -> None:
    text = f"""
def problems(horizon, count, seed):
    return [{ONE}]

def two(horizon, count, seed):
    from dataclasses import replace
    one = {ONE}
    return [replace(one, id=f"{{seed}}/{{i}}") for i in range(count)]
"""
    path = script(tmp_path, text)
    assert [(p.id, p.horizon) for p in get_task(path).problems(6, 3, 1)] == [("a", 6)]
    task = get_task(f"{path}:two")
    assert [p.id for p in task.problems(6, 2, 5)] == ["5/0", "5/1"]
    assert task.name == f"{path}:two"


def test_a_file_may_define_dataclasses_and_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("LIMIT = 9\n")
    text = f"""
import dataclasses
from neighbour_of_mine import LIMIT

@dataclasses.dataclass
class Settings:
    limit: "int" = LIMIT

def problems(horizon, count, seed):
    import neighbour_of_mine
    return [dataclasses.replace({ONE}, max_tokens=Settings().limit)]
"""
    before = list(sys.path)
    assert get_task(script(tmp_path, text)).problems(1, 1, 0)[0].max_tokens == 9
    assert sys.path[: len(before)] == before  # at the end, for what it imports later


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / horizon - 1 / 0", r"raised ZeroDivisionError: .* \(.*, line 3\)"),
        ("return None", "must return a list of Problem, got NoneType: None"),
        ("return ()", "must return 1…2 problems"),
        (f"return {ONE}", "must return a list of Problem, got Problem"),
        (f"return [{ONE}, 'b']", "must return a list of Problem; item 1 is 'b'"),
        (f"return [{ONE}] * 2", "two problems have the id 'a'"),
        (f"return [{ONE}] * 3", r"must return 1…2 problems \(count\), got 3"),
        ("return [Problem(id='', prompt='', max_tokens=1, reward=print)]", "raised InvalidInput"),
        ("raise SystemExit(3)", r"raised SystemExit: 3 \(.*, line 3\)"),
    ],
)
def test_a_function_that_fails_is_named(tmp_path: Path, body: str, message: str) -> None:
    task = get_task(script(tmp_path, f"def problems(horizon, count, seed):\n    {body}"))
    with pytest.raises(InvalidInput, match=message) as caught:
        task.problems(1, 2, 0)
    assert "mine.py" in str(caught.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read the file .*nothing.py.: No such file"):
        get_task(str(tmp_path / "nothing.py"))
    with pytest.raises(InvalidInput, match=r"broken.py.*importing it raised SyntaxError"):
        get_task(script(tmp_path, "def problems(:", "broken.py"))
    with pytest.raises(InvalidInput, match=r"raised RuntimeError: no \(.*, line 2\)"):
        get_task(script(tmp_path, "raise RuntimeError('no')", "raising.py"))
    path = script(tmp_path, "def problem(horizon, count, seed): ...")
    with pytest.raises(InvalidInput, match=r"has no 'problems'. Did you mean 'problem'\?"):
        get_task(path)
    with pytest.raises(InvalidInput, match=r"has no 'proble'. Did you mean 'problem'"):
        get_task(f"{path}:proble")
    swapped = script(tmp_path, "def problems(n, size): return []", "swapped.py")
    with pytest.raises(InvalidInput, match=r"has no parameter 'horizon'"):
        get_task(swapped).problems(1, 1, 0)


# --- registry -------------------------------------------------------------------------------


def test_every_listed_string_task_can_be_had_by_its_name() -> None:
    assert set(STRING_TASKS) == {
        "count_on",
        "copy",
        "increment",
        "running_sum",
        "add",
        "uppercase",
    }
    listed = list_tasks()
    assert set(STRING_TASKS) < set(listed)
    for name in STRING_TASKS:
        assert get_task(name).name == name
        assert "horizon" in listed[name]
    assert {"path/to/file.py[:function]", "path/to/file.jsonl, .json, .csv, .parquet"} < set(listed)


def test_data_sets_are_listed_and_suggested_by_their_bare_name() -> None:
    pytest.importorskip("reasoning_gym")
    (line,) = [text for name, text in list_tasks().items() if name.startswith("reasoning_gym:NAME")]
    assert "chain_sum" in line
    with pytest.raises(InvalidInput, match=r"Did you mean 'reasoning_gym:chain_sum'\?"):
        get_task("chain_sum")
    with pytest.raises(InvalidInput, match=r"Did you mean 'reasoning_gym:chain_sum'\?"):
        get_task("reasoning_gim:chain_sum")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("runing_sum", r"unknown task 'runing_sum'. Did you mean 'running_sum'\?"),
        ("Copy ", "unknown task 'Copy'. Did you mean 'copy'"),
        (
            "@@@@",
            r"Known: count_on, copy, .*reasoning_gym:NAME, verifiers:NAME, hf:NAME, a file .py\[:function\] or",
        ),
        ("", "unknown task ''. Known"),
        ("data.json", "cannot read the task file 'data.json': No such file"),
        ("data.txt", "unknown task 'data.txt'"),
        (None, "a task is named by text, got None"),
    ],
)
def test_unknown_tasks_are_refused_with_the_nearest_name(spec: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get_task(spec)


def test_the_package_reasoning_gym_is_imported_only_when_used() -> None:
    code = (
        "import sys, reroot.tasks as t; t.get_task('copy').problems(2, 1, 0); "
        "sys.exit(bool({'reasoning_gym', 'torch', 'transformers', 'polars'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("stop", [["</answer>"], ["\n\nInput", "!"], ["Question:"], ["é🙂"]])
def test_judges_agree_where_a_stop_text_has_several_characters(
    tmp_path: Path, stop: list[str]
) -> None:
    """With tokens of one character: the verifier accepts a right answer and half a stop text."""
    lines = [
        {"prompt": f"Copy {word}:", "answer": word, "stop": stop, "max_tokens": 20}
        for word in ("apple", "two words", "<a>")
    ]
    file = tmp_path / "stops.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    check_task(str(file), horizons=(0,), count=3)
