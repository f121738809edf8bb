"""reasoning-gym data sets as tasks: every data set of the installed package, and every refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from reroot.errors import InvalidInput, MissingDependency, RerootError
from reroot.tasks import Problem, get_task, list_tasks, score
from reroot.tasks import reasoning_gym as gym
from reroot.types import Output

pytest.importorskip("reasoning_gym")

# Data sets whose questions have many answers and no reference: a scorer, but no demonstration.
WITHOUT_REFERENCE = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
# A data set made of other data sets, which text parameters cannot name.
NEEDS_A_CONFIGURATION = {"composite"}

GARBAGE = ["", "hello", "{}", "[1", "(", "1.5e400", "a b\nc", "exit()"]


def had(spec: str) -> gym.ReasoningGymTask:
    """The task, and that the registry knows it for what it is."""
    task = get_task(spec)
    assert isinstance(task, gym.ReasoningGymTask)
    return task


def spoken(problem: Problem, text: str) -> Output:
    """A complete output, cut before the stop text as a session does."""
    for stop in problem.stop:
        text = text.partition(stop)[0]
    return Output((), text, complete=True)


def test_names_read_off_the_source_are_those_that_are_registered() -> None:
    from reasoning_gym.factory import DATASETS

    assert gym.dataset_names() == sorted(DATASETS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # NumPy about empty text inside a scorer
def test_every_data_set_builds_a_problem_and_scores_its_own_answer() -> None:
    tasks = [had(gym.PREFIX + name) for name in gym.dataset_names()]
    assert len(tasks) > 90
    requests = [task.request(1, 1, 0) for task in tasks]
    replies = gym.generate(requests)
    without, unbuildable = set(), set()
    for task, request, reply in zip(tasks, requests, replies, strict=True):
        if isinstance(reply, str):
            unbuildable.add(task.dataset)
            with pytest.raises(InvalidInput, match=r"cannot build it: AssertionError: .*dataset"):
                task.wrap(reply, 1, 0, request)
            continue
        (problem,) = task.wrap(reply, 1, 0, request)
        assert isinstance(problem.prompt, str)
        assert problem.prompt.endswith("\nAnswer:")
        for text in GARBAGE:
            assert 0.0 <= score(problem, spoken(problem, text)) <= 1.0
        if problem.demonstration is None:
            without.add(task.dataset)
            continue
        assert isinstance(problem.demonstration, str)
        assert len(problem.demonstration) <= problem.max_tokens
        right = problem.answer.strip()
        padded = f"Let me see.\n<answer> {right}\n</answer> Done."
        for text in (problem.demonstration, right, f"  {right} "):
            assert score(problem, spoken(problem, text)) >= problem.pass_at, task.dataset
        assert score(problem, Output((), padded, complete=True)) >= problem.pass_at, task.dataset
        assert score(problem, Output((), problem.demonstration, complete=False)) == 0.0
    assert unbuildable == NEEDS_A_CONFIGURATION
    assert without == WITHOUT_REFERENCE


@pytest.mark.slow
def test_the_horizon_and_other_parameters_reach_the_configuration() -> None:
    task = had("reasoning_gym:chain_sum:min_terms=horizon,max_terms=horizon,max_digits=1")
    sizes = [(3, 4), (5, 2)]
    requests = [task.request(horizon, count, 0) for horizon, count in sizes]
    three, five = (
        task.wrap(reply, horizon, 0, request)
        for reply, request, (horizon, _) in zip(
            gym.generate(requests), requests, sizes, strict=True
        )
    )
    for problems, terms in ((three, 3), (five, 5)):
        for problem in problems:
            assert isinstance(problem.prompt, str)
            sum_line = problem.prompt.replace("- ", "+ ").split(":")[-2].removesuffix(" =\nAnswer")
            assert sum_line.count("+") == terms - 1
            assert problem.horizon == terms
            assert score(problem, spoken(problem, f" {problem.answer}")) == 1.0
            assert score(problem, spoken(problem, f" {problem.answer}\nmore")) == 1.0
            assert score(problem, spoken(problem, " 987654")) < 1.0
    assert len({p.id for p in [*three, *five]}) == 6


@pytest.mark.slow
def test_problems_do_not_depend_on_the_hash_seed_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """isomorphic_strings iterates over a set of text: its questions follow the hash seed."""
    task = had("reasoning_gym:isomorphic_strings")
    prompts = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        gym._generate.cache_clear()
        prompts.append([p.prompt for p in task.problems(1, 3, 0)])
    assert prompts[0] == prompts[1]


def test_neighbouring_seeds_share_no_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry i of data set seed s is often entry 0 of seed s + i."""
    task = had("reasoning_gym:chain_sum")
    seeds = [dict(task.request(1, 8, seed)[1])["seed"] for seed in range(50)]
    gaps = [abs(a - b) for i, a in enumerate(seeds) for b in seeds[:i]]
    assert min(gaps) >= 8
    assert task.request(1, 8, 0) == task.request(2, 8, 0)  # the horizon maps to nothing


@pytest.mark.slow
def test_chat_style_asks_for_tags_and_shows_them() -> None:
    task = had("reasoning_gym:chain_sum:style=chat,max_tokens=99")
    (problem,) = task.problems(1, 1, 0)
    assert isinstance(problem.prompt, str)
    assert problem.prompt.endswith("between <answer> and </answer>.")
    assert problem.demonstration == f"<answer>{problem.answer}</answer>"
    assert (problem.stop, problem.max_tokens) == ((), 99)
    assert score(problem, spoken(problem, f"Well…\n<answer>{problem.answer}</answer>")) == 1.0
    (again,) = task.problems(1, 1, 0)
    assert (again.id, again.prompt, again.answer) == (problem.id, problem.prompt, problem.answer)


def test_the_last_tagged_answer_counts_and_space_does_not() -> None:
    assert gym.answer_in("<answer>1</answer> no: <answer>\n 2 </answer>") == "2"
    assert gym.answer_in("  3 4\n") == "3 4"


class _Scorer:
    def __init__(self, score: Callable[[], float]) -> None:
        self._score = score

    def score_answer(self, answer: str, entry: dict) -> float:
        return self._score()


def test_a_scorer_that_cannot_read_an_answer_scores_zero() -> None:
    def leave() -> float:
        raise SystemExit  # what eval("exit()") does inside some scorers

    output = Output((), "x", complete=True)
    assert gym.Scored(_Scorer(lambda: 1 / 0), {})(output) == 0.0
    assert gym.Scored(_Scorer(leave), {})(output) == 0.0
    assert gym.Scored(_Scorer(lambda: 0.5), {})(output) == 0.5


def test_a_reference_that_its_scorer_does_not_accept_is_no_demonstration() -> None:
    task = gym.ReasoningGymTask("made up", "made up")
    entry = {"question": "What?\n", "answer": "this"}
    for points, shown in ((1.0, " this\n"), (0.99, None)):
        problem = task._problem("p", 3, gym.Scored(_Scorer(lambda points=points: points), entry))
        assert (problem.prompt, problem.answer) == ("What?\nAnswer:", "this")
        assert problem.demonstration == shown
    several = gym.Scored(_Scorer(lambda: 1.0), {"question": "What?", "answer": "a\nb"})
    assert task._problem("p", 3, several).stop == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chain_sun", r"no data set 'chain_sun'. Did you mean 'chain_sum'\?"),
        ("", "expected 'key=value' after the colon"),
        ("chain_sum:", "expected 'key=value' after the colon"),
        ("chain_sum:min_terms", "no data set 'chain_sum:min_terms'"),
        ("chain_sum:min_terms=", "expected 'key=value', got 'min_terms='"),
        (
            "chain_sum:min_term=2",
            r"chain_sum has no parameter 'min_term'. Did you mean 'min_terms'\?",
        ),
        ("chain_sum:min_terms=2,min_terms=3", "gives 'min_terms' twice"),
        ("chain_sum:seed=3", "'seed' is set by the number of problems and the seed"),
        ("chain_sum:size=3", "'size' is set by"),
        ("chain_sum:style=xml", "style must be raw or chat, got 'xml'"),
        ("chain_sum:max_tokens=0", "max_tokens must be an integer >= 1, got 0"),
        ("chain_sum:max_tokens=many", "max_tokens must be an integer >= 1, got 'many'"),
    ],
)
def test_bad_specifications_are_refused(spec: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get_task(f"reasoning_gym:{spec}")


def test_a_failing_child_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "_CHILD", "raise SystemExit('out of luck')")
    with pytest.raises(RerootError, match="ended with 1: out of luck"):
        gym.generate([("chain_sum", (("seed", -1), ("size", 1)))])


def test_without_the_package_the_group_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingDependency, match=r"pip install reroot\[tasks\]"):
        get_task("reasoning_gym:chain_sum")
    with pytest.raises(InvalidInput, match="Did you mean 'running_sum'"):
        get_task("runing_sum")
    (line,) = [text for name, text in list_tasks().items() if name.startswith(gym.PREFIX)]
    assert "pip install reroot[tasks]" in line
