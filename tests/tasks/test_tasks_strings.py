"""The few-shot string tasks: right answers, consistent judges, stable problems."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot.errors import InvalidInput
from reroot.tasks import Problem, check, get_task, score
from reroot.tasks.strings import SHOTS, STRING_TASKS
from reroot.types import Output

NAMES = sorted(STRING_TASKS)


def solve(name: str, question: str, horizon: int) -> str:
    """The right answer, written independently of the tasks."""
    items = question.split(" ")
    if name == "count_on":
        return " ".join(str(int(question) + k) for k in range(1, horizon + 1))
    if name == "copy":
        return question
    if name == "increment":
        return " ".join(str(int(d) + 1) for d in items)
    if name == "running_sum":
        return " ".join(str(sum(map(int, items[: k + 1]))) for k in range(len(items)))
    if name == "add":
        a, b = question.split(" + ")
        return str(int(a) + int(b))
    assert name == "uppercase"
    return question.upper()


def size(name: str, question: str, answer: str) -> int:
    """What the horizon counts."""
    if name == "count_on":
        return len(answer.split(" "))
    if name == "add":
        (digits,) = {len(part) for part in question.split(" + ")}
        return digits
    return len(question.split(" "))


def shown(problem: Problem) -> tuple[list[tuple[str, str]], str]:
    """The examples and the question of a prompt."""
    assert isinstance(problem.prompt, str)
    lines = problem.prompt.split("\n")
    assert lines.pop() == "Output:"
    inputs, outputs = lines[0::2], lines[1::2]
    assert all(line.startswith("Input: ") for line in inputs)
    assert all(line.startswith("Output: ") for line in outputs)
    questions = [line.removeprefix("Input: ") for line in inputs]
    answers = [line.removeprefix("Output: ") for line in outputs]
    return list(zip(questions, answers, strict=False)), questions[-1]


def said(text: str, complete: bool) -> Output:
    """An output as a session makes it: cut before the stop text."""
    return Output((), text.partition("\n")[0], complete or "\n" in text)


problems = st.builds(
    lambda name, horizon, seed: get_task(name).problems(horizon, 1, seed)[0],
    st.sampled_from(NAMES),
    st.integers(1, 12),
    st.integers(0, 10_000),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("horizon", [1, 2, 5, 24])
@pytest.mark.parametrize("seed", [0, 1])
def test_examples_and_answer_are_right_distinct_and_of_the_asked_size(
    name: str, horizon: int, seed: int
) -> None:
    for problem in get_task(name).problems(horizon, 6, seed):
        examples, question = shown(problem)
        assert len(examples) == SHOTS
        assert problem.answer == solve(name, question, horizon)
        assert size(name, question, problem.answer) == horizon == problem.horizon
        for asked, answered in examples:
            assert answered == solve(name, asked, horizon)
            assert size(name, asked, answered) == horizon
        assert len({question, *(asked for asked, _ in examples)}) == SHOTS + 1
        assert problem.demonstration == f" {problem.answer}\n"
        assert problem.stop == ("\n",)
        assert problem.unique == (name != "uppercase")
        assert isinstance(problem.demonstration, str)
        assert len(problem.demonstration) <= problem.max_tokens <= len(problem.demonstration) + 8


@settings(max_examples=60)
@given(problems)
def test_every_prefix_of_the_demonstration_verifies_and_all_of_it_passes(problem: Problem) -> None:
    assert isinstance(problem.demonstration, str)
    for end in range(len(problem.demonstration)):
        assert check(problem, said(problem.demonstration[:end], complete=False))
        whole = end == len(problem.demonstration) - 1
        ended = said(problem.demonstration[:end], complete=True)
        assert check(problem, ended) == whole
        assert score(problem, ended) == float(whole)
    assert check(problem, said(problem.demonstration, complete=True))
    assert score(problem, said(problem.demonstration, complete=True)) == 1.0


@settings(max_examples=60)
@given(problems, st.data())
def test_every_single_character_corruption_is_rejected(
    problem: Problem, data: st.DataObject
) -> None:
    answer = problem.answer
    at = data.draw(st.integers(0, len(answer) - 1), label="at")
    other = data.draw(st.sampled_from("0123456789 +abzABZ.,\t"), label="other")
    kind = data.draw(st.sampled_from(["substitute", "delete", "insert"]), label="kind")
    if kind == "substitute":
        corrupted = answer[:at] + other + answer[at + 1 :]
    elif kind == "delete":
        corrupted = answer[:at] + answer[at + 1 :]
    else:
        corrupted = answer[: at + 1] + other + answer[at + 1 :]
    if corrupted == answer:
        return
    text = f" {corrupted}"
    assert score(problem, said(text, complete=True)) == 0.0
    assert not check(problem, said(text, complete=True))
    if kind == "substitute":  # as long as the answer, but for white space before it
        still = answer.startswith(corrupted.lstrip())
        assert check(problem, said(text, complete=False)) == still


@pytest.mark.slow(1)
@settings(max_examples=200)
@given(problems, st.data())
def test_once_false_always_false(problem: Problem, data: st.DataObject) -> None:
    alphabet = st.sampled_from(sorted({*problem.answer, " ", "x", "\t"}))
    kept = data.draw(st.integers(0, len(problem.answer) + 1))
    noise = data.draw(st.text(alphabet, max_size=3))
    text = f" {problem.answer}"[:kept] + noise
    extension = data.draw(st.text(alphabet, max_size=4) | st.just(problem.answer))
    now = check(problem, said(text, complete=False))
    later = check(problem, said(text + extension, complete=False))
    ended = check(problem, said(text + extension, complete=True))
    assert ended == (score(problem, said(text + extension, complete=True)) >= problem.pass_at)
    assert later or not ended
    assert now or not later


def test_white_space_counts_after_the_answer_and_inside_but_not_before() -> None:
    (problem,) = get_task("running_sum").problems(3, 1, 0)
    a, b, c = problem.answer.split(" ")
    for right in (f"{a} {b} {c}", f"  {a} {b} {c}", f"\t{a} {b} {c}"):
        assert score(problem, said(right, complete=True)) == 1.0
    for wrong in (f" {a}  {b} {c}", f" {a} {b} {c} ", f" {a}{b} {c}", f" {a}\t{b} {c}"):
        assert score(problem, said(wrong, complete=True)) == 0.0
        assert not check(problem, said(wrong, complete=False))


def test_an_unfinished_output_earns_nothing() -> None:
    (problem,) = get_task("add").problems(2, 1, 0)
    unfinished = said(f" {problem.answer}", complete=False)
    assert score(problem, unfinished) == 0.0
    assert check(problem, unfinished)


@pytest.mark.parametrize("name", NAMES)
def test_problems_depend_on_task_horizon_seed_and_index_alone(name: str) -> None:
    task = get_task(name)

    def fingerprint(problem: Problem) -> tuple[object, ...]:
        return problem.id, problem.prompt, problem.answer, problem.max_tokens

    ten = [fingerprint(p) for p in task.problems(4, 10, 3)]
    assert [fingerprint(p) for p in task.problems(4, 10, 3)] == ten
    assert [fingerprint(p) for p in task.problems(4, 4, 3)] == ten[:4]
    assert [p.prompt for p in task.problems(4, 10, 4)] != [prompt for _, prompt, *_ in ten]


def test_ids_differ_across_tasks_horizons_seeds_and_indices() -> None:
    grid = list(itertools.product(NAMES, [1, 2, 11], [0, 1, 10]))
    ids = [p.id for name, h, s in grid for p in get_task(name).problems(h, 12, s)]
    assert len(set(ids)) == len(ids) == len(grid) * 12


def test_a_known_problem_stays_what_it_is() -> None:
    """Recorded runs are keyed by ids: what an id stands for must not drift between versions."""
    (problem,) = get_task("running_sum").problems(3, 1, 0)
    assert problem.id == "running_sum/h3/s0/0"
    assert problem.prompt == (
        "Input: 1 5 1\nOutput: 1 6 7\nInput: 9 5 6\nOutput: 9 14 20\nInput: 1 4 5\nOutput: 1 5 10\n"
        "Input: 7 6 8\nOutput: 7 13 21\nInput: 2 2 1\nOutput:"
    )


def test_problems_can_be_pickled() -> None:
    (problem,) = get_task("copy").problems(3, 1, 0)
    again = pickle.loads(pickle.dumps(problem))
    assert again == problem
    assert score(again, said(f" {problem.answer}", complete=True)) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), r"the horizon of add \(digits\) must be an integer in 1…1,000, got 0"),
        ((1001, 1, 0), "in 1…1,000, got 1001"),
        ((2.5, 1, 0), "must be an integer in 1…1,000, got 2.5"),
        ((True, 1, 0), "must be an integer in 1…1,000, got True"),
        ((1, 0, 0), "count must be an integer >= 1, got 0"),
        ((1, 1, -1), "seed must be an integer >= 0, got -1"),
        ((1, 1, "a"), "seed must be an integer >= 0, got 'a'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get_task("add").problems(*arguments)


def test_the_longest_horizon_works() -> None:
    """Python converts numbers of up to 4,300 digits to decimal text by default."""
    (problem,) = get_task("add").problems(1000, 1, 0)
    examples, question = shown(problem)
    assert problem.answer == solve("add", question, 1000)
    assert len(examples) == SHOTS
