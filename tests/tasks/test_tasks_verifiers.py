"""Environments of verifiers as tasks.

The package and its many dependencies are not installed here: ``package`` stands for it, with as much of its
two interfaces as reroot uses. ``docs/log.md`` says with which real versions the same was run.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from reroot import InvalidInput, MissingDependency, Output
from reroot.runs.run import problems_digest
from reroot.tasks import get_task, list_tasks, score
from reroot.testing import check_task
from reroot.types import Chat


def ended(text: str) -> Output:
    return Output((), text, complete=True)


# ---- up to 0.3: load_environment and rubrics ----------------------------------------------------


class SingleTurnEnv:
    def __init__(self, rows: list[dict[str, Any]], rubric: Any, evals: Any = None) -> None:
        self.rows, self.rubric, self.evals = rows, rubric, evals

    def get_dataset(self, n: int = -1) -> list[dict[str, Any]]:
        return self.rows[:n] if n > 0 else self.rows

    def get_eval_dataset(self, n: int = -1) -> list[dict[str, Any]]:
        return self.evals or self.get_dataset(n)


class MultiTurnEnv:
    pass


class ToolEnv(SingleTurnEnv):
    tool_defs = ("search",)


class Rubric:
    """Calls functions with what they ask for, of the state, and sums what they say by weight."""

    def __init__(self, funcs: Sequence[Any], weights: Sequence[float]) -> None:
        self.funcs, self.weights = funcs, weights

    async def score_rollout(self, state: dict[str, Any]) -> None:
        row = state["input"]
        known = {**{k: row.get(k) for k in ("prompt", "answer", "info")}, "state": state, **state}
        total = 0.0
        for func, weight in zip(self.funcs, self.weights, strict=True):
            said = func(**{k: known[k] for k in inspect.signature(func).parameters})
            total += weight * float(await said if inspect.isawaitable(said) else said)
        state["reward"] = total


async def right(completion: Any, answer: str, info: dict[str, Any]) -> float:
    await asyncio.sleep(0)
    info["seen"] = info.get("seen", 0) + 1  # functions may write into their row
    assert info["seen"] == 1
    return float(completion[-1]["content"] == answer)


def short(state: dict[str, Any]) -> float:
    assert state["trajectory"][0]["completion"] == state["completion"]
    assert state["is_completed"]
    return float(len(state["completion"][-1]["content"]) < 4)


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Add."}, {"role": "user", "content": text}]


def sums(n: int = 5, plus: int = 0) -> SingleTurnEnv:
    rows = [
        {"prompt": messages(f"{i}+{i}"), "answer": str(2 * i + plus), "info": '{"digits": 1}'}
        for i in range(n)
    ]
    return SingleTurnEnv(rows, Rubric([right, short], [1.0, 0.5]), rows[:2] if n == 7 else None)


def texts() -> SingleTurnEnv:
    rows = [{"prompt": f"{i}+{i}=", "answer": str(2 * i)} for i in range(8)]
    return SingleTurnEnv(rows, Rubric([lambda completion, answer: completion == answer], [1.0]))


def odd(**row: Any) -> SingleTurnEnv:
    return SingleTurnEnv([{"prompt": "1+1=", "answer": "2", **row}], Rubric([], []))


def grouped() -> SingleTurnEnv:
    environment = sums()
    environment.rubric.has_group_rewards = True
    return environment


ENVIRONMENTS = {
    "sums": sums,
    "texts": texts,
    "turns": MultiTurnEnv,
    "tools": lambda: ToolEnv([], None),
    "groups": grouped,
    "none": lambda: sums(0),
    "pictures": lambda: odd(prompt=[{"role": "user", "content": [{"type": "image"}]}]),
    "silent": lambda: odd(prompt=None),
    "called": lambda: odd(info={"tool_defs": ["search"]}),
    "damaged": lambda: odd(info="{"),
}


@pytest.fixture
def classic(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("verifiers")

    def load_environment(name: str, **settings: Any) -> Any:
        return ENVIRONMENTS[name.rpartition("/")[2]](**settings)

    package.__dict__.update(
        SingleTurnEnv=SingleTurnEnv, State=dict, load_environment=load_environment
    )
    monkeypatch.setitem(sys.modules, "verifiers", package)


@pytest.mark.usefixtures("classic")
def test_rows_are_problems_and_the_rubric_judges() -> None:
    task = get_task("verifiers:someone/sums:n=6,plus=1,max_tokens=9")
    made = task.problems(3, 4, 0)
    assert len(made) == 4
    for problem in made:
        index = int(problem.id.rpartition("/")[2])
        assert problem.prompt == Chat.of(messages(f"{index}+{index}"))
        assert (problem.answer, problem.max_tokens, problem.horizon) == (f"{2 * index + 1}", 9, 3)
        assert score(problem, ended(problem.answer)) == 1.5
        assert score(problem, ended(problem.answer)) == 1.5  # its row is as it was
        assert score(problem, ended("0")) == 0.5
        assert score(problem, ended("0000")) == 0.0
        assert score(problem, replace(ended(problem.answer), complete=False)) == 0.0
    assert [p.id for p in task.problems(3, 99, 1)] == [f"{task.name}/{i}" for i in range(6)]
    assert len(get_task("verifiers:sums:n=7").problems(1, 99, 0)) == 2
    assert len(get_task("verifiers:sums:n=7,split=train").problems(1, 99, 0)) == 7
    assert len(get_task("verifiers:sums:take=3").problems(1, 99, 0)) == 3
    (one,) = get_task("verifiers:sums:n=1,pass_at=1.5").problems(1, 1, 0)
    assert one.pass_at == 1.5


@pytest.mark.usefixtures("classic")
def test_environments_that_complete_text_pass_the_kit() -> None:
    check_task("verifiers:texts")
    problem, *_ = get_task("verifiers:texts").problems(1, 8, 0)
    assert problem.prompt == "0+0="
    assert score(problem, ended("0")) == 1.0


@pytest.mark.usefixtures("classic")
def test_the_digest_is_that_of_the_rows() -> None:
    def digest(settings: str) -> str:
        made = get_task(f"verifiers:sums:n=3{settings}").problems(1, 3, 0)
        return problems_digest(replace(p, id=p.id[-1], answer="") for p in made)

    assert digest("") == digest("")
    assert digest(",plus=1") != digest("")


@pytest.mark.usefixtures("classic")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nosuch", "cannot load 'nosuch': KeyError"),
        ("sums:m=1", "cannot load 'sums': TypeError"),
        ("sums:split=test", "split must be eval or train, got 'test'"),
        ("sums:take=0", "take must be an integer >= 1, got 0"),
        ("sums:max_tokens=none", "max_tokens must be an integer"),
        ("sums:pass_at=x", "pass_at must be a finite number, got 'x'"),
        ("turns", "'turns' is a MultiTurnEnv; tasks are single-turn environments alone"),
        ("tools", "'tools' has tools"),
        ("groups", "the rubric of 'groups' judges outputs in groups"),
        ("none", "there are no rows"),
        ("pictures", "row 0: a prompt's messages must be text"),
        ("silent", "row 0: a chat needs at least one message"),
        ("called", "row 0: it brings tools"),
        ("damaged", "row 0: info is no JSON"),
    ],
)
def test_what_is_more_than_one_reply_is_refused(spec: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as told:
        get_task(f"verifiers:{spec}").problems(1, 1, 0)
    assert f"verifiers:{spec}" in str(told.value)


# ---- from 0.4 on: tasksets ----------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    role: str
    content: Any


class Data(SimpleNamespace):
    def model_dump(self, **how: Any) -> dict[str, Any]:
        return dict(vars(self))


class Task:
    NEEDS_CONTAINER = False
    config = SimpleNamespace(judges=[])

    def __init__(self, **data: Any) -> None:
        self.data = Data(**{"image": None, "system_prompt": None, "answer": "2", **data})
        self.key = self.hash = "k"

    @classmethod
    def toolsets(cls, config: Any) -> list[str]:
        return []

    async def setup(self, trace: Any, runtime: Any) -> None: ...
    async def finalize(self, trace: Any, runtime: Any) -> None: ...

    def hooks(self, kind: str) -> list[Any]:
        return [self.right]

    async def right(self, trace: Any) -> float:
        return float(trace.nodes[-1].message.content == self.data.answer)

    async def score(self, trace: Any) -> None:
        assert [n.parent for n in trace.nodes] == [None, *range(len(trace.nodes) - 1)]
        assert [n.sampled for n in trace.nodes] == [False] * (len(trace.nodes) - 1) + [True]
        assert trace.task.data is self.data
        trace.reward = sum([await hook(trace) for hook in self.hooks("reward")])


class Prepared(Task):
    async def setup(self, trace: Any, runtime: Any) -> None: ...


class Tooled(Task):
    @classmethod
    def toolsets(cls, config: Any) -> list[str]:
        return ["search"]


class Contained(Task):
    NEEDS_CONTAINER = True


class Silent(Task):
    def hooks(self, kind: str) -> list[Any]:
        return []


class Reading(Task):
    async def read(self, trace: Any, runtime: Any) -> float:
        return 1.0

    def hooks(self, kind: str) -> list[Any]:
        return [self.read]


@dataclass
class Node:
    message: Message
    parent: int | None = None
    sampled: bool = False


@dataclass
class Taskset:
    tasks: list[Task]
    bounded: bool = True
    tools: list[str] = field(default_factory=list)

    def toolsets(self, config: Any) -> list[str]:
        return self.tools

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


PROMPT = [Message("user", "1+1"), Message("assistant", "Let me see:")]
TASKSETS = {
    "sums": lambda n=4: Taskset([Task(prompt=f"{i}+{i}", answer=str(2 * i), system_prompt="Add.") for i in range(n)]),
    "talk": lambda: Taskset([Task(prompt=PROMPT)]),
    "endless": lambda: Taskset([Task(prompt="1+1")] * 9, bounded=False),
    "tools": lambda: Taskset([], tools=["search"]),
    "prepared": lambda: Taskset([Prepared(prompt="")]),
    "tooled": lambda: Taskset([Tooled(prompt="")]),
    "contained": lambda: Taskset([Contained(prompt="")]),
    "image": lambda: Taskset([Task(prompt="", image="python")]),
    "opened": lambda: Taskset([Task(prompt=None)]),
    "silent": lambda: Taskset([Silent(prompt="")]),
    "reading": lambda: Taskset([Reading(prompt="")]),
    "pictures": lambda: Taskset([Task(prompt=[Message("user", [{"type": "image"}])])]),
}  # fmt: skip


@pytest.fixture
def tasksets(monkeypatch: pytest.MonkeyPatch) -> None:
    package, inner, state = (ModuleType(f"verifiers{x}") for x in ("", ".v1", ".v1.state"))

    def config(id: str, **settings: Any) -> Any:
        return SimpleNamespace(id=id, settings=settings)

    def role(name: str) -> Any:
        return lambda content: Message(name, content)

    plain = type("SingleAgentEnv", (), {})
    inner.__dict__.update(
        Task=Task,
        SingleAgentEnv=plain,
        environment_class=lambda name: type("DuelEnv", (), {}) if name == "duel" else plain,
        taskset_config_type=lambda name: config,
        load_taskset=lambda config: TASKSETS[config.id](**config.settings),
        SystemMessage=role("system"),
        UserMessage=role("user"),
        AssistantMessage=role("assistant"),
        MessageNode=Node,
        Trace=SimpleNamespace,
        TraceTask=SimpleNamespace,
        AgentInfo=SimpleNamespace,
        AgentConfig=SimpleNamespace,
    )
    state.__dict__.update(state_cls=lambda kind: SimpleNamespace)
    package.__dict__.update(__version__="0.4.0")
    for module in (package, inner, state):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("tasksets")
def test_tasks_of_a_taskset_are_problems() -> None:
    made = get_task("verifiers:sums:n=5").problems(2, 99, 0)
    assert [p.prompt for p in made] == [Chat.of(messages(f"{i}+{i}")) for i in range(5)]
    assert [p.answer for p in made] == [str(2 * i) for i in range(5)]
    assert [score(p, ended("4")) for p in made] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert score(made[2], replace(ended("4"), complete=False)) == 0.0
    (talk,) = get_task("verifiers:talk").problems(1, 1, 0)
    assert talk.prompt == Chat((("user", "1+1"), ("assistant", "Let me see:")))
    assert score(talk, ended("2")) == 1.0
    assert len(get_task("verifiers:endless:take=3").problems(1, 99, 0)) == 3


@pytest.mark.usefixtures("tasksets")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch", "verifiers 0.4.0 cannot load 'nosuch': KeyError"),
        ("duel", "'duel' is played in a DuelEnv"),
        ("endless", "say how many tasks to take"),
        ("tools", "'tools' has tools"),
        ("prepared", "a Prepared prepares or reads the runtime"),
        ("tooled", "it has tools"),
        ("contained", "it needs a container"),
        ("image", "it needs a container"),
        ("opened", "a user opens the conversation"),
        ("silent", "a Silent has no reward"),
        ("reading", "its reward 'read' reads the runtime"),
        ("pictures", "messages must be text"),
    ],
)
def test_tasks_of_more_than_one_reply_are_refused(name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        get_task(f"verifiers:{name}").problems(1, 1, 0)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(MissingDependency, match="pip install verifiers"):
        get_task("verifiers:sums")
    assert "verifiers:NAME[:key=value,...]" in list_tasks()
