"""The parity tasks: the law of right outputs, consistent judges, stable problems, the width."""

from __future__ import annotations

import itertools
import pickle

import pytest

from reroot.errors import InvalidInput
from reroot.tasks import Problem, check, get_task, list_tasks, score
from reroot.tasks.parity import PARITY_TASKS
from reroot.types import Output

NAMES = sorted(PARITY_TASKS)
FREE = {"running_parity": False, "chain_of_parities": True}


def is_right(bits: str, text: str, free: bool) -> bool:
    """Whether ``text`` is right for the first bits of a prompt, step by step as defined."""
    steps = len(text) // 2 if free else len(text)
    before = 0
    for i in range(steps):
        y = int(text[2 * i]) if free else 0
        z = int(text[2 * i + 1] if free else text[i])
        if z != before ^ y ^ int(bits[i]):
            return False
        before = z
    return True


def every(length: int, alphabet: str = "01") -> list[str]:
    return ["".join(c) for c in itertools.product(alphabet, repeat=length)]


def bits_of(problem: Problem) -> str:
    assert isinstance(problem.prompt, str)
    assert problem.prompt.endswith("=")
    return problem.prompt[:-1]


def said(text: str, complete: bool) -> Output:
    return Output((), text, complete)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["", ":width=6"])
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_the_judges_agree_with_the_definition_on_every_output(
    name: str, suffix: str, horizon: int
) -> None:
    free = FREE[name]
    for problem in get_task(name + suffix).problems(horizon, 4, 0):
        bits, length = bits_of(problem), horizon * (1 + free)
        assert len(bits) == (6 if suffix else horizon)
        assert problem.max_tokens == length
        assert problem.horizon == horizon
        assert problem.stop == ()
        right = {text for text in every(length) if is_right(bits, text, free)}
        assert len(right) == (2**horizon if free else 1)
        for n in range(length + 2):
            for text in every(n):
                whole = text in right
                start = any(r.startswith(text) for r in right)
                assert score(problem, said(text, True)) == float(whole)
                assert check(problem, said(text, True)) == whole
                assert score(problem, said(text, False)) == 0.0
                assert check(problem, said(text, False)) == start


@pytest.mark.parametrize("name", NAMES)
def test_other_characters_are_wrong(name: str) -> None:
    (problem,) = get_task(name).problems(3, 1, 0)
    right = problem.demonstration
    assert isinstance(right, str)
    for at, other in itertools.product(range(len(right)), " =2x\n\ufffd٠"):
        for text in (right[:at] + other + right[at + 1 :], right[:at] + other + right[at:]):
            assert score(problem, said(text, True)) == 0.0
            assert not check(problem, said(text, True))
            assert not check(problem, said(text, False))
            assert not check(problem, said(text[: at + 1], False))


@pytest.mark.parametrize("name", NAMES)
def test_demonstrations_are_right_and_of_the_whole_length(name: str) -> None:
    for horizon in (1, 5, 32):
        for problem in get_task(f"{name}:width=32").problems(horizon, 8, 1):
            assert isinstance(problem.demonstration, str)
            assert len(problem.demonstration) == problem.max_tokens
            assert is_right(bits_of(problem), problem.demonstration, FREE[name])
            assert score(problem, said(problem.demonstration, True)) == 1.0
            assert problem.unique == (not FREE[name])
            assert problem.answer == ("" if FREE[name] else problem.demonstration)


def test_bits_are_fair_and_free_bits_are_not_the_prompt() -> None:
    """64 · 32 fair bits: a count within 4.5 standard deviations, error rate below 1e-5 each."""
    problems = get_task("chain_of_parities").problems(32, 64, 0)
    prompt = "".join(map(bits_of, problems))
    free = "".join(str(p.demonstration)[::2] for p in problems)
    same = sum(a == b for a, b in zip(prompt, free, strict=True))
    for count in (prompt.count("1"), free.count("1"), same):
        assert abs(count - 1024) < 4.5 * (2048 * 0.25) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_problems_depend_on_task_width_horizon_seed_and_index_alone(name: str) -> None:
    task = get_task(f"{name}:width=40")
    ten = task.problems(20, 10, 3)
    assert get_task(f"{name}:width=40").problems(20, 10, 3) == ten
    assert task.problems(20, 4, 3) == ten[:4]
    for other in (task.problems(20, 10, 4), task.problems(19, 10, 3)):
        assert not {p.prompt for p in other} & {p.prompt for p in ten}


def test_ids_differ_across_tasks_widths_horizons_seeds_and_indices() -> None:
    names = [n + w for n in NAMES for w in ("", ":width=11", ":width=12")]
    grid = list(itertools.product(names, [1, 2, 11], [0, 1, 10]))
    ids = [p.id for name, h, s in grid for p in get_task(name).problems(h, 12, s)]
    assert len(set(ids)) == len(ids) == len(grid) * 12


def test_a_known_problem_stays_what_it_is() -> None:
    """Recorded runs are keyed by ids: what an id stands for must not drift between versions."""
    problem = get_task("running_parity:width=32").problems(8, 4, 0)[3]
    assert problem.id == "running_parity:width=32/h8/s0/3"
    assert problem.prompt == "11000100110000011100111100100001="
    assert problem.demonstration == "10000111"
    (problem,) = get_task("chain_of_parities").problems(4, 1, 0)
    assert problem.id == "chain_of_parities/h4/s0/0"
    assert problem.prompt == "0110="
    assert problem.demonstration == "11111101"


@pytest.mark.parametrize("name", NAMES)
def test_problems_can_be_pickled(name: str) -> None:
    (problem,) = get_task(name).problems(3, 1, 0)
    assert pickle.loads(pickle.dumps(problem)) == problem


@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_listed_and_had_by_name(name: str) -> None:
    assert get_task(name).name == name
    assert get_task(f"{name}:width=32").name == f"{name}:width=32"
    assert "horizon" in list_tasks()[f"{name}[:width=W]"]
    with pytest.raises(InvalidInput, match=f"Did you mean '{name}'"):
        get_task(name[:-1])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("", ": expected 'key=value' after the colon"),
        ("8", ": expected 'key=value' after the colon, got '8'"),
        ("widht=8", " has no parameter 'widht'. Known: width."),
        ("width", ": expected 'key=value' after the colon, got 'width'"),
        ("width=0", ": width must be an integer in 1…1,000, got 0"),
        ("width=1001", ": width must be an integer in 1…1,000, got 1001"),
        ("width=-3", ": width must be an integer in 1…1,000, got -3"),
        ("width=8,width=9", " gives 'width' twice"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"task 'running_parity:{setting}'{message}"):
        get_task(f"running_parity:{setting}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), r"the horizon of running_parity:width=8 \(steps\) must be .* 1…8, got 0"),
        ((9, 1, 0), r"must be an integer in 1…8, got 9"),
        ((True, 1, 0), "must be an integer in 1…8, got True"),
        ((1, 0, 0), "count must be an integer >= 1, got 0"),
        ((1, 1, -1), "seed must be an integer >= 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get_task("running_parity:width=8").problems(*arguments)
    with pytest.raises(InvalidInput, match="in 1…1,000, got 1001"):
        get_task("running_parity").problems(1001, 1, 0)
