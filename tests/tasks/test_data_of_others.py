"""Rows as other people's data sets have them: what is asked, and what is right; or a refusal that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reroot.errors import InvalidInput
from reroot.tasks import Problem, load, score
from reroot.tasks.data.task import DataTask
from reroot.tasks.self_check import self_check
from reroot.types import Chat, Output


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **settings: Any) -> DataTask:
    task = load(str(path), **settings)
    assert isinstance(task, DataTask)
    return task


def read_rows(folder: Path, *rows: object) -> list[Problem]:
    return read(write(folder / "t.jsonl", *rows)).problems(0, 9, 0)


def done(text: str) -> Output:
    return Output((), text, complete=True)


# ---- multiple choice --------------------------------------------------------------------------

TWO = {"question": "q", "choices": ["x", "y"]}
AB = [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({**TWO, "answer": "(B)"}, "B"),
        ({**TWO, "answer": "B)"}, "B"),
        ({**TWO, "answer": "b"}, "B"),
        ({**TWO, "answer": "1"}, "B"),
        ({**TWO, "answer": 1.0}, "B"),
        ({**TWO, "answer": "y"}, "B"),
        ({"question": "q", "choices": AB, "answerKey": "B"}, "B"),
        ({"question_stem": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}, "B"),
        ({"question": "q", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B"}, "B"),
        ({"question": "q", "options": ["A)x", "B)y"], "rationale": "so (B)", "correct": "B"}, "B"),
        ({"question": "q", "A": "x", "B": "y", "answer": "B"}, "B"),
    ],
)  # fmt: skip
def test_options_of_every_shape(tmp_path: Path, row: dict[str, Any], answer: str) -> None:
    (problem,) = read_rows(tmp_path, row)
    assert (problem.prompt, problem.answer) == ("Question: q\nA. x\nB. y\nAnswer:", answer)
    assert not list(self_check([problem]))


@pytest.mark.parametrize("answer", [True, 1.5, -1, 2, "C", None])
def test_answers_that_name_no_option(tmp_path: Path, answer: object) -> None:
    with pytest.raises(InvalidInput, match=r"line 1: answer must name one of the options, got "):
        read_rows(tmp_path, {**TWO, "answer": answer})


def test_a_text_is_the_option_that_it_is_and_not_its_number(tmp_path: Path) -> None:
    row = {"question": "q", "choices": ["3", "2", "1", "0"], "answer": "1"}
    assert read_rows(tmp_path, row)[0].answer == "C"


def test_a_number_that_is_an_option_and_the_place_of_another_is_refused(tmp_path: Path) -> None:
    row = {"question": "q", "choices": [1, 2, 3], "answer": 2}
    with pytest.raises(InvalidInput, match=r"answer may be an option or its place from 0, got 2"):
        read_rows(tmp_path, row)
    (problem,) = read_rows(tmp_path, {**row, "choices": ["1", "2", "3"]})  # as MMLU has them
    assert problem.answer == "C"


def test_options_are_never_dropped_unless_no_row_has_any(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the field 'answer' is missing"):
        read_rows(tmp_path, {**TWO, "rationale": "because"})
    (problem,) = read_rows(tmp_path, {"question": "q", "choices": None, "answer": "4"})
    assert problem.prompt == "Question: q\nAnswer:"


# ---- what is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"Body": "Two nuts.", "Question": "How many?", "Answer": 2.0}, "Question: Two nuts.\nHow many?\nAnswer:"),
        ({"body": "Two.", "question": "How many?", "answer": "2 (nuts)"}, "Question: Two.\nHow many?\nAnswer:"),
        ({"question": "Who?", "passage": "Bo.", "answer": "Bo"}, "Question: Bo.\nWho?\nAnswer:"),
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n1 and 2"),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi."),
        ({"input": "1+1=", "target": "2"}, "1+1="),
        ({"question": "Who?", "context": {"title": ["x"]}, "answer": "Bo"}, "Question: Who?\nAnswer:"),
    ],
)  # fmt: skip
def test_what_a_question_is_about_is_asked(tmp_path: Path, row: object, prompt: str) -> None:
    assert read_rows(tmp_path, row)[0].prompt == prompt


def test_whole_chats(tmp_path: Path) -> None:
    ask, said = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "so #### 2"}
    (problem,) = read_rows(tmp_path, {"messages": [ask, said], "answer": "2"})
    assert problem.prompt == Chat((("user", "1+1?"),))  # its answer is not shown
    assert (problem.answer, problem.demonstration) == ("2", "so #### 2")
    for who in ("gpt", "chatgpt", "model"):
        talk = [{"from": "human", "value": "1+1?"}, {"from": who, "value": "2"}]
        assert read_rows(tmp_path, {"conversations": talk})[0].answer == "2"
    tool = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}
    with pytest.raises(InvalidInput, match=r"line 1: messages: a message needs a role and a text"):
        read_rows(tmp_path, {"messages": [ask, tool]})
    with pytest.raises(InvalidInput, match=r"messages has no message before the assistant's"):
        read_rows(tmp_path, {"messages": [said]})


# ---- what is right ----------------------------------------------------------------------------

LONG = "Jim has 3 nuts and gets 7 more, so he has 3+7 of them. The answer is: 10"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("12 apples", "number"),
        ("9 (apples)", "number"),
        ("1/2", "number"),
        ("1 1/2", "number"),
        ("1e3", "number"),
        ("-$7.25", "number"),
        ("−9", "number"),
        ("50%", "number"),
        ("45°", "number"),
        ("Evelyn", "exact"),
        ("3 apples and 2 pears", "exact"),
        (r"\text{Evelyn}", "math"),
        (["x\n#### 5"], "number"),
        (LONG, "number"),
    ],
)
def test_answers_of_questions(tmp_path: Path, answer: object, kind: str) -> None:
    if kind == "math":
        pytest.importorskip("math_verify")
    task = read(write(tmp_path / "t.jsonl", {"question": "q", "answer": answer}))
    assert task.by.kind == kind
    assert not list(self_check(task.problems(0, 1, 0)))


def test_the_answer_is(tmp_path: Path) -> None:
    (problem,) = read_rows(tmp_path, {"query": "q", "response": LONG})
    assert (problem.answer, problem.demonstration) == ("10", f" {LONG}")
    assert score(problem, done("3+7=10.")) == 1.0


ASK = [{"role": "user", "content": "3+7?"}]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [*ASK, {"role": "assistant", "content": "so\n#### 10"}]}, "number"),
        (
            {"prompt": ASK, "completion": [{"role": "assistant", "content": "so\n#### 10"}]},
            "number",
        ),
        ({"messages": [*ASK, {"role": "assistant", "content": r"so \boxed{10}"}]}, "math"),
        ({"prompt": "3+7?", "answer": "10", "solution": "3+7=10"}, "number"),
        ({"prompt": "3+7?", "answer": "10", "demonstration": "10"}, "exact"),
        ({"prompt": ASK, "solution": "10"}, "number"),
        ({"question": "3+7?", "solution": "10", "attempt": "well"}, "number"),
        ({"prompt": "3+7?", "completion": "10"}, "exact"),
        ({"question": "3+7?", "final_answer": ["10"], "solution": ["3+7=10"]}, "number"),
    ],
)
def test_rationales_wherever_they_stand(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    if kind == "math":
        pytest.importorskip("math_verify")
    task = read(write(tmp_path / "t.jsonl", row))
    assert (task.by.kind, task.problem(0).answer) == (kind, "10")
    assert not list(self_check([task.problem(0)]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"answer": "so\n#### 5"}, {"answer": "it is 6 nuts"}], "line 2: there is no answer behind #### in"),
        ([{"answer": "so\n#### 5"}, {"answer": "x\n####"}], "line 2: there is no answer behind ####"),
        ([{"solution": r"so \boxed{5}"}, {"solution": "It is 6"}], r"line 2: there is no answer behind \\boxed"),
        ([{"answer": float("nan")}], "line 1: answer must be a finite number, got nan"),
        ([{"answer": 1}, {"answer": float("-inf")}], "line 2: answer must be a finite number, got -inf"),
        ([{"answer": {"x": "y" * 9999}}], "line 1: answer must be .{,400}…$"),
    ],
)  # fmt: skip
def test_rows_without_an_answer_are_named(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_rows(tmp_path, *({"problem": f"q{i}", **row} for i, row in enumerate(rows)))


# ---- labelled steps ---------------------------------------------------------------------------


def test_math_shepherds_labels_stand_where_its_marks_do(tmp_path: Path) -> None:
    ask = "Step 1 of two is missing. Which?"
    steps = [
        "Step 1: 3 - 1 = 2 {}",
        "Step 2: x is\n2 -\nwhat follows {}",
        "Step 3: The answer is: 2 {}",
    ]
    row = {"input": f"{ask} " + "\n".join(steps).replace("{}", "ки")}
    row["label"] = f"{ask} " + "\n".join(steps).replace("{}", "+")
    task = read(write(tmp_path / "t.jsonl", row))
    assert task.item(0).prompt == ask
    assert [step.label for step in task.item(0).solutions[0]] == [1, 1, 1]
    assert task.item(0).answers == ("2",)


def test_a_solution_that_was_given_up_is_no_demonstration(tmp_path: Path) -> None:
    step = {"completions": [{"text": "a", "rating": 1}], "chosen_completion": 0}
    row = {
        "question": {"problem": "q", "ground_truth_answer": "7", "pre_generated_steps": ["a"]},
        "label": {"steps": [step], "finish_reason": "give_up"},
    }
    assert read(write(tmp_path / "t.jsonl", row)).item(0).demonstration is None
    row["label"]["finish_reason"] = "solution"
    assert read(write(tmp_path / "t.jsonl", row)).item(0).demonstration == "a"


def test_labels_of_steps_in_other_words(tmp_path: Path) -> None:
    row = {"prompt": "q", "completions": ["a", "b"], "answer": "2"}
    for labels, read_as in (
        ([1.0, 0.0], [1, -1]),
        (["good", "bad"], [1, -1]),
        (["neutral", 1], [0, 1]),
    ):
        task = read(write(tmp_path / "t.jsonl", {**row, "labels": labels}))
        assert [step.label for step in task.item(0).solutions[0]] == read_as
    with pytest.raises(InvalidInput, match=r"a step's label must be one of .*, got 0.9"):
        read(write(tmp_path / "t.jsonl", {**row, "labels": [0.9, 0.1]}))
    row.pop("answer")  # right steps that come to no answer
    with pytest.raises(InvalidInput, match="no question has an answer"):
        read(write(tmp_path / "t.jsonl", {**row, "labels": [1, 1]}))


# ---- files ------------------------------------------------------------------------------------

ROW = {"prompt": "a", "answer": "b"}


def test_json_of_other_people(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    for content in ({"tags": ["x"], "data": [ROW]}, {"canary": "x", "examples": [ROW]}, ROW):
        file.write_text(json.dumps(content))
        assert [p.answer for p in read(file).problems(0, 9, 0)] == ["b"]
    file.write_text(json.dumps({"train": [ROW], "test": [ROW]}))
    with pytest.raises(
        InvalidInput, match="one list of JSON objects, got several: 'train', 'test'"
    ):
        read(file)
    line = tmp_path / "t.jsonl"
    line.write_text('{"prompt": "a", "answer": "b", "answer": "c"}\n')
    with pytest.raises(InvalidInput, match=r"line 1: .*the key 'answer' is given twice"):
        read(line)
    line.write_bytes(
        b'\xef\xbb\xbf{"prompt":"a","answer":"b"}  \r\n\r\n{"prompt":"c","answer":"d"}\r\n'
    )
    assert [p.id for p in read(line).problems(0, 9, 0)] == ["t/1", "t/3"]
    line.write_text(json.dumps([ROW] * 999))
    with pytest.raises(InvalidInput, match=r"line 1: expected a JSON object .{,300}$"):
        read(line)


def test_csv_of_other_people(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(
        '\ufeffquestion,answer\r\n"He said ""hi"",\nso?","1,200"\r\n\r\nb?,3\r\n'.encode()
    )
    shown = [(p.id, p.prompt, p.answer) for p in read(file).problems(0, 9, 0)]
    assert shown == [
        ("t/1", 'Question: He said "hi",\nso?\nAnswer:', "1,200"),
        ("t/3", "Question: b?\nAnswer:", "3"),
    ]
    file.write_text("id,prompt,answer,max_tokens,stop\n1,a,b,6,\n,c,d,,\n")
    assert [(p.id, p.max_tokens) for p in read(file).problems(0, 9, 0)] == [("1", 6), ("t/2", 7)]
    file.write_text("prompt,answer,max_tokens\na,b,six\n")
    with pytest.raises(InvalidInput, match=r"row 1: max_tokens .* got 'six'"):
        read(file)
    file.write_text("question,answer\na?,2\nb?,\n")
    with pytest.raises(InvalidInput, match=r"row 2: answer must be a non-empty text"):
        read(file)
    file.write_text('prompt,answer\n"[{""role"":""user"",""content"":""q""}]",2\n')
    assert read(file).problem(0).prompt == Chat((("user", "q"),))


def test_numbers_of_parquet_are_those_that_were_meant(tmp_path: Path) -> None:
    from datetime import date
    from decimal import Decimal

    def answers(values: list[Any], kind: Any = None) -> list[str]:
        frame = pl.DataFrame(
            {"question": ["q"] * len(values), "answer": pl.Series(values, dtype=kind)}
        )
        frame.write_parquet(tmp_path / "t.parquet")
        return [p.answer for p in read(tmp_path / "t.parquet").problems(0, 9, 0)]

    assert answers([0.1, 7.0], pl.Float32) == ["0.1", "7"]
    assert answers([2**62 + 1]) == [str(2**62 + 1)]
    assert answers([Decimal("1.50")]) == ["1.50"]
    with pytest.raises(InvalidInput, match=r"row 1: answer must be .* got datetime.date"):
        answers([date(2020, 1, 2)])
