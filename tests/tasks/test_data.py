"""Data of other people: files of every kind, well-known layouts, and what a map names."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reroot.errors import InvalidInput, MissingDependency
from reroot.tasks import Problem, check, get_task, load, score
from reroot.tasks.data.rows import FILES
from reroot.tasks.data.task import DataTask
from reroot.types import Chat, Output

CASES = Path(__file__).parent / "cases"


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: str | Path, **settings: Any) -> DataTask:
    task = load(str(path), **settings)
    assert isinstance(task, DataTask)
    return task


def first(path: str | Path, **settings: Any) -> Problem:
    return read(path, **settings).problem(0)


def done(text: str) -> Output:
    return Output((), text, complete=True)


# ---- layouts ----------------------------------------------------------------------------------

GSM8K = ["36", "1200", "30", "36", "26", "120"]


def test_gsm8k_answers_stand_behind_the_mark_and_rationales_are_demonstrations() -> None:
    task = read(CASES / "gsm8k.jsonl")
    assert (task.layout.name, task.by.kind, len(task.rows)) == ("gsm8k", "number", 10)
    problem = task.problem(1)
    assert problem.answer == "1,200"
    assert problem.demonstration == " 25*48=<<25*48=1200>>1200 bottles.\n#### 1,200"
    for said in ("1200", "$1,200", "1,200.", "It is 25*48. #### 1,200", r"\boxed{1200}"):
        assert score(problem, done(said)) == 1.0
    for said in ("12000", "48", "", "1.200"):
        assert score(problem, done(said)) == 0.0
    for index in range(10):
        shown = task.problem(index)
        assert score(shown, done(str(shown.demonstration))) == 1.0
    assert any("layout gsm8k (prompt = question)" in note for note in task.notes)
    assert any("compared as number" in note for note in task.notes)


def test_math_answers_are_boxed_in_solutions() -> None:
    pytest.importorskip("math_verify")
    task = read(CASES / "math.jsonl")
    assert (task.layout.name, task.by.kind) == ("math", "math")
    problem = task.problem(0)
    assert (problem.id, problem.answer) == ("test/algebra/0.json", r"\frac{5}{6}")
    for said in (r"\frac{5}{6}", "5/6", r"\boxed{\dfrac{10}{12}}"):
        assert score(problem, done(said)) == 1.0
    assert score(problem, done("0.8333")) == 0.0
    for index in range(10):
        assert score(task.problem(index), done(str(task.problem(index).demonstration))) == 1.0
    assert any("subject, level" in note for note in task.notes)  # unknown columns are welcome


LAYOUTS: list[tuple[str, dict[str, Any], str, str, str, str | None]] = [
    (
        "solution without an answer",
        {"problem": "1+1?", "solution": r"It is \boxed{2}."},
        "math",
        "math",
        "2",
        r" It is \boxed{2}.",
    ),
    (
        "AIME",
        {"ID": "2024-I-1", "Problem": "1+1?", "Solution": "Add them.", "Answer": 2},
        "numbers",
        "number",
        "2",
        " Add them.",
    ),
    (
        "TRL prompt-completion",
        {"prompt": "1+1=", "completion": " 2"},
        "prompt-completion",
        "exact",
        "2",
        " 2\n",
    ),
    (
        "a completion with a mark",
        {"prompt": "1+1=", "completion": "add\n#### 2"},
        "answers behind ####",
        "number",
        "2",
        " add\n#### 2",
    ),
    (
        "a whole answer in a box",
        {"question": "1+1?", "answer": r"so \boxed{2}"},
        "answers in \\boxed",
        "math",
        "2",
        r" so \boxed{2}",
    ),
    (
        "MMLU",
        {"question": "1+1?", "choices": ["1", "2", "3", "4"], "answer": 1},
        "multiple choice",
        "choice",
        "B",
        " B",
    ),
    (
        "ARC",
        {
            "id": "a",
            "question": "1+1?",
            "choices": {"text": ["1", "2"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        "multiple choice",
        "choice",
        "B",
        " B",
    ),
    (
        "open questions with numbers in text",
        {"question": "1+1?", "answer": "2"},
        "question-answer",
        "number",
        "2",
        " 2",
    ),
    (
        "open questions with LaTeX",
        {"query": "half?", "answer": r"\frac12"},
        "question-answer",
        "math",
        r"\frac12",
        r" \frac12",
    ),
]


@pytest.mark.parametrize(
    ("row", "name", "kind", "answer", "shown"),
    [case[1:] for case in LAYOUTS],
    ids=[case[0] for case in LAYOUTS],
)
def test_layouts(
    tmp_path: Path, row: dict[str, Any], name: str, kind: str, answer: str, shown: str | None
) -> None:
    task = read(write(tmp_path / "t.jsonl", row))
    problem = task.problem(0)
    assert (task.layout.name, task.by.kind) == (name, kind)
    assert (problem.answer, problem.demonstration) == (answer, shown)


def test_options_stand_under_their_question_and_their_text_will_do(tmp_path: Path) -> None:
    row = {"question": "1+1?", "choices": ["one", "two"], "answer": 1}
    problem = first(write(tmp_path / "t.jsonl", row))
    assert problem.prompt == "Question: 1+1?\nA. one\nB. two\nAnswer:"
    for said, reward in (("B", 1.0), ("(B) two", 1.0), ("two", 1.0), ("A", 0.0), ("one", 0.0)):
        assert score(problem, done(said)) == reward


def test_verl_and_conversations_are_chats(tmp_path: Path) -> None:
    ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    verl = {
        "data_source": "openai/gsm8k",
        "prompt": ask,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0, "split": "train"},
    }
    file = tmp_path / "verl.parquet"
    pl.DataFrame([verl]).write_parquet(file)
    problem = first(file)
    assert problem.prompt == Chat((("system", "Be brief."), ("user", "1+1?")))
    assert (problem.answer, problem.group) == ("2", "openai/gsm8k")
    talk = {"messages": [*ask, {"role": "assistant", "content": "2"}]}
    problem = first(write(tmp_path / "talk.jsonl", talk))
    assert problem.prompt == Chat((("system", "Be brief."), ("user", "1+1?")))
    assert (problem.answer, problem.demonstration) == ("2", "2")
    gpt = {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}
    assert first(write(tmp_path / "gpt.jsonl", gpt)).prompt == Chat((("user", "1+1?"),))
    pair = {"prompt": ask[1:], "completion": [{"role": "assistant", "content": "2"}]}
    problem = first(write(tmp_path / "pair.jsonl", pair))
    assert (problem.prompt, problem.answer) == (Chat((("user", "1+1?"),)), "2")
    begun = {"prompt": [*ask, {"role": "assistant", "content": "It is"}], "answer": "2"}
    problem = first(write(tmp_path / "begun.jsonl", begun))
    assert isinstance(problem.prompt, Chat)
    assert problem.prompt.continued


# ---- labelled steps ---------------------------------------------------------------------------


def test_labelled_steps_make_verifiers_and_demonstrations(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    ask = "Ann has 3 nuts and eats 1. How many?"
    rows = [
        {
            "input": f"{ask} Step 1: 3+1=4 ки\nStep 2: The answer is: 4 ки",
            "label": f"{ask} Step 1: 3+1=4 -\nStep 2: The answer is: 4 -",
        },
        {
            "input": f"{ask} Step 1: 3-1=2 ки\nStep 2: The answer is: 2 ки",
            "label": f"{ask} Step 1: 3-1=2 +\nStep 2: The answer is: 2 +",
        },
        {"input": "Bo? Step 1: 5 ки", "label": "Bo? Step 1: 5 -"},
    ]
    task = read(write(tmp_path / "t.jsonl", *rows))
    assert (task.layout.name, len(task.kept)) == ("math-shepherd", 1)
    assert any(
        "1 rows left out: " in n and "line 3: no answer, and no solution" in n for n in task.notes
    )
    problem = task.problem(task.kept[0])
    assert (problem.answer, problem.prompt) == ("2", f"Question: {ask}\nAnswer:")
    assert problem.demonstration == " Step 1: 3-1=2\nStep 2: The answer is: 2"
    for said, right in (
        ("Step 1: 3+1", True),  # not yet through the wrong step
        ("Step 1: 3+1=4\nStep 2", False),
        ("Step 1: 3-1=2\nStep 2", True),
        ("Something else", True),
    ):
        assert check(problem, Output((), said, complete=False)) is right
    assert check(problem, done("Step 1: 3-1=2\nStep 2: The answer is: 2"))
    assert not check(problem, done("Step 1: 3-1=2\nStep 2: The answer is: 3"))


@pytest.mark.parametrize(
    ("row", "layout", "labels"),
    [
        (
            {"prompt": "q", "answer": "2", "steps": ["a", "b 2"], "labels": [1, 0]},
            "openr",
            [1, -1],
        ),
        (
            {"question": "q", "process": "a ки\n\nb ки", "label": ["+", "-"], "answer": "2"},
            "openr",
            [1, -1],
        ),
        (
            {"prompt": "q", "completions": ["a", "b"], "labels": [True, False], "answer": "2"},
            "stepwise",
            [1, -1],
        ),
        ({"problem": "q", "steps": ["a", "b", "c"], "label": 1, "answer": "2"}, "stepwise", [1, -1, -1]),
        (
            {
                "question": {"problem": "q", "ground_truth_answer": "2"},
                "label": {
                    "steps": [
                        {"human_completion": {"text": "a"}, "completions": None},
                        {"completions": [{"text": "x", "rating": 1}, {"text": "b", "rating": -1}],
                         "chosen_completion": 1},
                        {"completions": [{"text": "c", "rating": 0}], "chosen_completion": None},
                    ]
                },
            },
            "prm800k",
            [1, -1, 0],
        ),
    ],
)  # fmt: skip
def test_step_layouts(tmp_path: Path, row: dict[str, Any], layout: str, labels: list[int]) -> None:
    task = read(write(tmp_path / "t.jsonl", row))
    assert task.layout.name == layout
    item = task.item(0)
    assert [step.label for step in item.solutions[0]] == labels
    assert item.answers == ("2",)
    assert item.demonstration is None  # a step is wrong


def test_steps_and_labels_must_pair(tmp_path: Path) -> None:
    bad = {"prompt": "q", "answer": "2", "steps": ["a", "b"], "labels": [1]}
    good = {"prompt": "q", "answer": "2", "steps": ["a"], "labels": [1]}
    with pytest.raises(InvalidInput, match=r"line 2: 2 steps have 1 labels"):
        read(write(tmp_path / "t.jsonl", good, bad))


# ---- columns ----------------------------------------------------------------------------------


def test_a_map_names_columns(tmp_path: Path) -> None:
    row = {"text": "1+1=", "meta": {"gold": [7, 2]}, "why": "add", "answer": "wrong"}
    path = write(tmp_path / "t.jsonl", row)
    with pytest.raises(InvalidInput, match=r"line 1: the field 'prompt' is missing. Columns: text"):
        read(path)
    names = {"prompt": "text", "answer": "meta.gold.1", "demonstration": "why"}
    problem = first(path, map=names)
    assert (problem.prompt, problem.answer, problem.demonstration) == ("1+1=", "2", " add")
    assert (
        first(path, map="prompt=text,answer=meta.gold.1,demonstration=none").demonstration == " 2"
    )
    for bad, said in (
        ("prompt=texts,answer=answer", "there is no column 'texts'. Did you mean 'text'"),
        ("promt=text", "unknown role 'promt'. Did you mean 'prompt'"),
        ("prompt", "expected 'key=value', got 'prompt'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read(path, map=bad)
    with pytest.raises(InvalidInput, match="gives 'answer', and it is given beside it"):
        load(f"{path}:answer=math", answer="number")


def test_settings_of_a_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"question": "1+1?", "answer": "2"})
    assert first(path).prompt == "Question: 1+1?\nAnswer:"
    assert first(path, format="{prompt}\\n=").prompt == "1+1?\n="
    assert first(path, chat=True).prompt == Chat((("user", "1+1?"),))
    asked = first(path, system="Be brief.")
    assert asked.prompt == Chat((("system", "Be brief."), ("user", "1+1?")))
    assert first(path, max_tokens=9).max_tokens == 9
    assert first(path, answer="exact").answer == "2"
    for bad, said in (
        ({"format": "x"}, r"format must hold {prompt}, got 'x'"),
        ({"chat": 3}, "chat must be true or false, got 3"),
        ({"take": 0}, "take must be an integer >= 1, got 0"),
        ({"anwser": "math"}, "has no setting 'anwser'. Did you mean 'answer'"),
        ({"answer": "maths"}, "Did you mean 'math'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read(path, **bad)


def test_bad_rows_stop_or_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": str(i)} for i in range(4)]
    rows[2]["answer"] = ""
    path = write(tmp_path / "t.jsonl", *rows)
    with pytest.raises(InvalidInput, match=r"t.jsonl, line 3: answer must be a non-empty text"):
        read(path)
    task = read(path, skip_bad=True)
    assert [p.answer for p in task.problems(0, 9, 0)] == ["0", "1", "3"]
    assert any("1 rows left out: " in note and "line 3" in note for note in task.notes)
    path = write(tmp_path / "t.jsonl", rows[2])
    with pytest.raises(InvalidInput, match="no row can be used"):
        read(path, skip_bad=True)


# ---- files ------------------------------------------------------------------------------------

ROWS = [{"id": i, "question": f"{i}+1?", "answer": f"so\n#### {i + 1}"} for i in range(5)]


def test_files_of_every_kind_hold_the_same_problems(tmp_path: Path) -> None:
    files = [tmp_path / f"t{ending}" for ending in FILES]
    for file in files:
        ending = file.name.removeprefix("t").removesuffix(".gz")
        plain = file.with_suffix("") if file.suffix == ".gz" else file
        if ending == ".json":
            plain.write_text(json.dumps({"version": 1, "data": ROWS}))
        elif ending == ".parquet":
            pl.DataFrame(ROWS).write_parquet(plain)
        elif ending in (".csv", ".tsv"):
            pl.DataFrame(ROWS).write_csv(plain, separator="\t" if ending == ".tsv" else ",")
        else:
            write(plain, *ROWS)
        if plain != file:
            file.write_bytes(gzip.compress(plain.read_bytes()))
        task = read(file)
        shown = [(p.id, p.prompt, p.answer, p.demonstration) for p in task.problems(0, 9, 0)]
        assert shown == [
            (str(i), f"Question: {i}+1?\nAnswer:", str(i + 1), f" so\n#### {i + 1}")
            for i in range(5)
        ]
    assert len(read(files[0], take=2).problems(0, 9, 0)) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.parquet", b"PAR", "cannot read '.*t.parquet' as PARQUET"),
        ("t.csv.gz", gzip.compress(b"a")[:-9], "cannot unpack the task file '.*t.csv.gz'"),
        ("t.jsonl.gz", b"{}", "cannot unpack the task file .*: Not a gzipped file"),
        ("t.csv", b"", "cannot read '.*t.csv' as CSV"),
        ("t.json", b"3", "expected a list of JSON objects, got 3"),
        ("t.json", b"[]", "has no lines with a prompt and an answer"),
        ("t.json", b"[3]", "row 1: expected a JSON object with prompt and answer, got 3"),
        ("t.json", b"\xff", "not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        get_task(str(tmp_path / name))


@pytest.mark.slow(5)
def test_data_sets_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(tmp_path / "one"))
    assert len(read(f"hf:{tmp_path / 'one'}").problems(0, 9, 0)) == 5
    both = datasets.DatasetDict(train=made, test=made.select([3, 4]))
    both.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(
        InvalidInput, match=r"choose a split, none is named: .*:train, of \['train', 'test'\]"
    ):
        read(f"hf:{tmp_path / 'two'}")
    assert [p.answer for p in read(f"hf:{tmp_path / 'two'}:test").problems(0, 9, 0)] == ["4", "5"]
    folder = tmp_path / "files"
    folder.mkdir()
    made.to_parquet(str(folder / "train.parquet"))
    assert len(read(f"hf:{folder}:train", take=3).problems(0, 9, 0)) == 3
    with pytest.raises(InvalidInput, match="cannot load 'hf:/nowhere/at/all'"):
        read("hf:/nowhere/at/all")


def test_the_package_datasets_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="needs the package datasets"):
        get_task("hf:openai/gsm8k:main:test")
