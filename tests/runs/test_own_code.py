"""Learners, models and tasks of one's own, by name and as objects, in ``run`` and ``compare``."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot import InvalidInput, Problem, RunFolderError, learner
from reroot.generators.ngram import CharNgram
from reroot.learners import get_learner
from reroot.tasks import get_task
from toys import problem, problems, tree

OWN = '''
from reroot import Problem, learner
from reroot.generators.ngram import CharNgram

@learner(requires="root/sample")
async def first_draw(session, *, n: int = 1):
    """The first of n rollouts."""
    return (await session.rollouts(n)).outputs()[0]

def text_model(order: int = 2):
    return CharNgram("a cat sat. a cat ran. " * 9, order=order)

def problems(horizon, count, seed, word="cat"):
    def reward(output):
        return float(word in output.text)
    return [Problem(id=f"p{i}", prompt="a ", max_tokens=horizon, reward=reward) for i in range(count)]

class Words:
    name = "words"
    def problems(self, horizon, count, seed):
        return problems(horizon, count, seed, "ran")

words = Words()
'''
CELLS: dict[str, Any] = {"horizons": [6], "seeds": 1, "problems": 2, "grants": "root/sample"}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def test_a_run_by_names_alone(own: Path) -> None:
    named = reroot.run(f"{own}:first_draw:n=2", problems(3), tree(), grants="root/sample")
    bound = get_learner(f"{own}:first_draw:n=2")
    given = reroot.run(bound, problems(3), tree(), grants=reroot.Contract.parse("root/sample"))
    assert [a.output for a in named.attempts] == [a.output for a in given.attempts]
    assert bound.spec == f"{own}:first_draw:n=2"
    assert str(bound) == "first_draw(n=2)"
    limited = reroot.run(
        "best_of_n:n=4", problems(1), tree(), grants="root/sample+reward", budget="rollouts=2"
    )
    assert limited.attempts[0].cost.rollouts <= 2


@pytest.mark.slow(1)
def test_a_comparison_of_ones_own_by_name(own: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "model": f"{own}:text_model:order=3",
        "task": [f"{own}:problems:word=sat", str(own), f"{own}:words"],
        "learners": [f"{own}:first_draw", "best_of_n:n=2"],
    }
    found = reroot.compare(**names, **CELLS, out=tmp_path / "run")
    assert {x["learner"] for x in found.results.to_dicts()} == {"first_draw", "best_of_n(n=2)"}
    told = config(tmp_path / "run")
    assert told["generator"]["order"] == 3
    assert set(told["code"]) == {f"{own}:text_model", *names["task"]}
    (own_code,) = (x["code"] for x in told["learners"] if "code" in x)
    assert own_code in told["code"].values()
    command = shlex.split(told["command"])
    assert call(*command[1:], "--out", str(tmp_path / "run")) == 0  # the same folder takes it
    own.write_text(OWN + "\n# another file\n")
    with pytest.raises(RunFolderError, match="code"):
        reroot.compare(**names, **CELLS, out=tmp_path / "run")


def test_a_run_folder_knows_another_learner_of_the_same_name(own: Path, tmp_path: Path) -> None:
    def go() -> None:
        spec = f"{own}:first_draw"
        reroot.run(spec, problems(1), tree(), grants="root/sample", out=tmp_path / "run")

    go()
    go()
    own.write_text(OWN.replace("outputs()[0]", "outputs()[-1]"))
    with pytest.raises(RunFolderError, match="code"):
        go()


def test_objects_instead_of_names(tmp_path: Path) -> None:
    @learner(requires="visited/sample")
    async def one_step(session: Any) -> Any:
        reply = await session.draws(session.root, 1)
        return reply.outputs()[0]

    given = [*problems(2), problem("long", horizon=7)]
    found = reroot.compare(
        generator=tree(),
        problems=given,
        learners=[one_step, "best_of_n:n=2"],
        grants=[reroot.Contract.parse("visited/sample")],
        seeds=2,
        out=tmp_path / "run",
    )
    rows = found.results.to_dicts()
    assert {(r["task"], r["horizon"], r["seed"]) for r in rows} == {
        ("problems", h, s) for h in (0, 7) for s in (0, 1)
    }
    told = config(tmp_path / "run")
    assert told["model"] == "Tabular"
    assert told["command"].endswith("# from Python: generator, problems, one_step")


def test_tasks_as_objects(tmp_path: Path) -> None:
    generator = CharNgram("a cat sat. " * 9, order=2)

    def cats(horizon: int, count: int, seed: int) -> list[Problem]:
        made = get_task("copy").problems(1, count, seed)
        return [replace(p, prompt="a ", demonstration=None, unique=False) for p in made]

    settings: dict[str, Any] = {**CELLS, "generator": generator, "learners": "best_of_n:n=2"}
    with pytest.raises(InvalidInput, match="two tasks have the name 'cats'"):
        reroot.compare(**settings, task=[cats, cats], out=tmp_path / "run")  # type: ignore
    with pytest.raises(InvalidInput, match="must return 1…2 problems"):
        reroot.compare(**settings, task=lambda **asked: [], out=tmp_path / "run")  # type: ignore
    found = reroot.compare(**settings, task=cats, out=tmp_path / "run")  # type: ignore[arg-type]
    assert set(found.results["task"]) == {"cats"}
    assert set(config(tmp_path / "run")["code"]) == {"cats"}


def test_packages_bring_models_and_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brought = tmp_path / "brought_by_a_package.py"
    brought.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    entries = [
        EntryPoint("tiny", "brought_by_a_package:text_model", "reroot.generators"),
        EntryPoint("cats", "brought_by_a_package:problems", "reroot.tasks"),
        EntryPoint("draw", "brought_by_a_package:first_draw", "reroot.learners"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [e for e in entries if e.group == group]
    )
    found = reroot.compare(
        model="tiny:order=3", task="cats", learners="draw:n=2", **CELLS, out=tmp_path / "run"
    )
    assert set(found.results["learner"]) == {"first_draw(n=2)"}
    assert "--learner draw:n=2" in config(tmp_path / "run")["command"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text_modle", "Did you mean 'text_model'"),
        ("text_model:size=3", "has no parameter 'size'"),
        ("text_model:order=x", "order"),
        ("problems:horizon=1,count=1,seed=1", "has no vocab_size, capabilities"),
        ("fails", "raised KeyError: 'no' (.*own.py, line 2)"),
        ("Kind", "has no vocab_size"),
    ],
)
def test_models_that_are_none(own: Path, tmp_path: Path, name: str, said: str) -> None:
    own.write_text("\ndef fails(): return {}['no']\n" + OWN + "\nclass Kind: pass\n")
    with pytest.raises(
        InvalidInput, match=said.replace("(", r"\(").replace("py, line 2)", r"py, line 2\)")
    ):
        reroot.compare(model=f"{own}:{name}", task=f"{own}:problems", **CELLS, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grants": 3}, "got 3"),
        ({"grants": None}, "got None"),
        ({"budget": 3}, "got 3"),
        ({"budget": "coins=3"}, "limits no 'coins'"),
        ({"budget": "tokens=-3"}, "got -3"),
        ({"problems": "abc"}, "problems must be a list of Problem.*'abc'"),
        ({"problems": [3]}, "item 0 is 3"),
        ({"problems": problem()}, "problems must be a list of Problem"),
        ({"problems": None}, "got None"),
        ({"generator": "abc"}, "'abc' has no vocab_size"),
        ({"generator": CharNgram}, "is the class CharNgram; make an instance"),
        ({"generator": None}, "None has no"),
        ({"learner": 3}, "got 3"),
        ({"learner": print}, "made with @reroot.learner"),
        ({"learner": "best_of_m"}, "Did you mean 'best_of_n'"),
        ({"seed": "x"}, "seed must be an integer"),
        ({"seed": None}, "seed must be an integer"),
        ({"concurrency": "x"}, "concurrency"),
    ],
)
def test_run_refuses_wrong_types(change: dict[str, Any], said: str) -> None:
    settings = {"learner": "best_of_n", "problems": problems(1), "generator": tree()}
    with pytest.raises(InvalidInput, match=said):
        reroot.run(**{**settings, "grants": "root/sample+reward", **change})


FAMILY: dict[str, Any] = {"model": "hidden_path:K=3,H=4,p=0.6", "learners": "greedy_walk"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "give a model or a generator"),
        ({"generator": tree()}, "give a model or a generator"),
        ({"model": None, "generator": "abc"}, "'abc' has no vocab_size"),
        ({"model": None, "generator": tree()}, "model 'Tabular' needs a task"),
        ({"model": 3}, "a model is named by text, got 3"),
        ({"model": "noisy_parity\t:H=12"}, r"control character '\\t'"),
        ({"model": "ngram:a\0b", "task": "copy", "horizons": 3}, r"control character '\\x00'"),
        ({"model": "nosuch"}, "unknown model 'nosuch'.*needs a task"),
        ({"model": "hidden_pth"}, "Did you mean 'hidden_path'"),
        ({"model": "no/such"}, "model 'no/such' needs a task"),
        ({"problems": 99999999999}, "problems=99999999999 make 299,999,999,997 problems"),
        ({"problems": 200_001}, "leaves no token for each of 200001 problems"),
        ({"seeds": 99999999999}, "seeds=99999999999"),
        ({"problems": 3.0}, "got 3.0"),
        ({"problems": []}, "the number of problems must be an integer >= 1, got 0"),
        ({"problems": problems(1), "task": "copy"}, "leave out tasks and horizons"),
        ({"problems": problems(1)}, "brings its own task; leave out problems"),
        ({"task": 3}, "task must be one or a list of them, got 3"),
        ({"horizons": None}, "horizons must be one or a list of them, got None"),
        ({"learners": 3}, "learners must be one or a list"),
        ({"grants": 3}, "grants must be one or a list"),
        ({"chat": True}, "chat=True is for language models, not for hidden_path"),
        ({"dtype": "bfloat16"}, "dtype=bfloat16 is for language models"),
        ({"device": "cuda"}, "device=cuda is for language models"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({"device": "tpu"}, "device must be cpu, cuda, mps or xpu, got 'tpu'"),
        ({"model": "smollm2", "task": "copy", "horizons": 3, "dtype": "int8"}, "got 'int8'"),
        ({"model": "smollm2", "task": "copy", "horizons": 3, "device": "tpu"}, "got 'tpu'"),
        ({"model": "ngram:x.txt", "task": "copy", "horizons": 3, "chat": True}, "chat=True is for"),
    ],
)
def test_compare_refuses_at_once(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        reroot.compare(**{**FAMILY, **change}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow(1)
def test_what_is_refused_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
import reroot
for wrong in ({"dtype": "int8"}, {"device": "tpu"}, {"task": "cpoy"}, {"learners": "best"}):
    try:
        reroot.compare(**{"model": "smollm2", "task": "copy", "horizons": 3, "out": "x", **wrong})
        raise SystemExit("not refused")
    except reroot.InvalidInput:
        pass
print({"torch", "transformers", "polars", "scipy"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout.strip() == "set()", done.stderr
