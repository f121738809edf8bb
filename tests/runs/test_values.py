"""Values from a process reward model that is trained here: on step-labelled rows, of a toy.

A step is two of the letters a … d and right if they are the same; an output is three right steps.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

import reroot
from commands import call
from reroot import InvalidInput, Output, Problem
from reroot.generators import CharNgram, RewardModel
from reroot.runs.values import ValuedTask
from reroot.tasks import load
from reroot.tasks.data.task import DataTask
from tiny_lm import tokenizer

STEPS = ["".join(pair) for pair in product("abcd", "abcd")]
LABELS = "step='\\n',good=g,bad=h,mark=m"
HELD_OUT = 40
GUIDED = "verifier_tree_search:subtrees=1,width=6,stride=3,guide=value"


def solutions(count: int, seed: int) -> list[list[str]]:
    """Solutions whose steps are right as often as wrong."""
    rng = np.random.default_rng(seed)
    right, wrong = ([s for s in STEPS if (s[0] == s[1]) is same] for same in (True, False))
    return [
        [str(rng.choice(right if rng.random() < 0.5 else wrong)) for _ in range(3)]
        for _ in range(count)
    ]


def is_right(step: str) -> bool:
    return step[0] == step[1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Step-labelled rows, as TRL has them."""
    file = tmp_path_factory.mktemp("rows") / "steps.jsonl"
    lines = [
        {"prompt": "p\n", "completions": steps, "labels": [is_right(s) for s in steps], "answer": "aa"}
        for steps in solutions(400, 0)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def folder(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model of two layers that says ``g`` or ``h`` behind a step."""
    words = tokenizer(24)
    config = LlamaConfig(
        vocab_size=24,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(config).train()
    task = load(str(rows))
    assert isinstance(task, DataTask)
    items = [task.item(i) for i in range(HELD_OUT, len(task.rows))]
    labelled = [(item.prompt, solution) for item in items for solution in item.solutions]
    texts = [str(prompt) + "m\n".join(s.text for s in steps) + "m" for prompt, steps in labelled]
    tokens = torch.tensor([words(text)["input_ids"] for text in texts])
    said = [words("g" if s.label > 0 else "h")["input_ids"] for _, steps in labelled for s in steps]
    labels = torch.tensor(said).reshape(len(labelled), 3)
    marks = tokens == words("m")["input_ids"][0]
    optimizer, rng = torch.optim.Adam(network.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in range(200):
        batch = torch.from_numpy(rng.integers(len(tokens), size=64))
        logits = network(input_ids=tokens[batch]).logits[marks[batch]]
        loss = torch.nn.functional.cross_entropy(logits, labels[batch].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("prm")
    network.save_pretrained(path)
    words.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel.read(f"prm:{folder}:{LABELS}")


def reward(output: Output) -> float:
    steps = output.text.split("\n")
    return float(
        output.complete and len(steps) == 3 and all(len(s) == 2 and is_right(s) for s in steps)
    )


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{i}", "p\n", 8, reward) for i in range(count)]


def writing() -> str:
    """Steps without an end, of independent letters."""
    return "p\n" + "\n".join(np.random.default_rng(1).choice(STEPS, 6_000).tolist())


def writer() -> CharNgram:
    return CharNgram(writing(), order=3, smoothing=0.01, separator=None)


@pytest.mark.slow(5)
def test_a_trained_model_tells_right_steps_from_wrong_ones(model: RewardModel) -> None:
    """On solutions that it has not seen."""
    value = model(problems(1)[0])
    right, wrong = list[float](), list[float]()
    for steps in solutions(HELD_OUT, 7):
        texts = ["\n".join(steps[: i + 1]) + "\n" for i in range(3)]
        found = value.batch([Output((), text, complete=False) for text in texts])
        for step, one in zip(steps, found, strict=True):
            (right if is_right(step) else wrong).append(one)
    assert min(right) > 0.9
    assert max(wrong) < 0.1


@pytest.mark.slow(5)
def test_a_guided_learner_beats_the_same_without_guidance(
    model: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By law: a step passes with 1 − (3/4)^6 against 1/4, an output with 0.556 against 0.016.

    What is asked together, up to six prefixes three times per output, goes to the model together.
    """
    asked: list[int] = []
    scores = RewardModel.step_scores

    def noted(self: RewardModel, some: Any, last: bool) -> Any:
        asked.append(len(some))
        return scores(self, some, last)

    monkeypatch.setattr(RewardModel, "step_scores", noted)
    tasks, generator = problems(100), writer()
    passed = {}
    for name, values in (("guided", model), ("without", lambda problem: lambda output: 1.0)):
        valued = reroot.with_value(tasks, values)
        result = reroot.run(GUIDED, valued, generator, grants="visited/sample+value")
        passed[name] = sum(attempt.passed for attempt in result.attempts)
        assert all(a.cost.values > 0 for a in result.attempts)
    assert len(asked) <= 3 * len(tasks)
    assert sum(asked) > 4 * len(asked)
    assert 40 <= passed["guided"] <= 71  # 99.8 % of a binomial law
    assert passed["without"] <= 6


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(writing(), encoding="utf-8")
    return file


@pytest.mark.slow(5)
def test_compare_takes_a_value(
    folder: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On data without a value function of its own; the folder and the command say which."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "p\\n", "answer": "aa"}\n', encoding="utf-8")
    spec = f"prm:{folder}:{LABELS}"
    asked = ["--model", f"ngram:{text}:order=3", "--task", str(data), "--horizons", "1"]
    asked += ["--grants", "visited/sample", "--learner", GUIDED, "--seeds", "1", "--problems", "1"]
    asked += ["--out", str(tmp_path / "run")]
    assert call("compare", *asked) == 2  # there is nothing that the learner may ask
    assert call("compare", *asked, "--value", spec) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["value"] == spec
    assert shlex.split(config["command"])[6:8] == ["--value", spec]
    assert "value" in config["granted"][str(data)][0]
    assert call("compare", *asked, "--value", spec) == 0  # it goes on
    capsys.readouterr()
    assert call("compare", *asked, "--value", f"{spec},of=min") == 2
    assert "value is" in capsys.readouterr().err


def test_tasks_and_problems_take_values(tmp_path: Path) -> None:
    def one(problem: Problem) -> Callable[[Output], float]:
        return lambda output: float(len(problem.id))

    class Mine:
        def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
            return problems(count)

    output = Output((), "", complete=False)
    task = reroot.with_value("copy", one)
    made = task.problems(2, 3, 0)
    assert task.name == "copy"
    assert [p.value(output) for p in made if p.value] == [len(p.id) for p in made]
    assert [replace(p, value=None) for p in made] == load("copy").problems(2, 3, 0)
    assert [p.value(output) for p in reroot.with_value(problems(2), one) if p.value] == [2, 2]
    assert isinstance(reroot.with_value(Mine(), one), ValuedTask)  # type: ignore[call-overload]
    found = reroot.compare(
        generator=writer(), problems=problems(2), value=one, grants="visited/sample+value",
        learners=GUIDED, seeds=1, out=tmp_path,
    )  # fmt: skip
    assert "# from Python: generator, problems, value" in found.data.config["command"]


def test_values_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="prm:FOLDER, a RewardModel or a function of a problem"):
        reroot.with_value("copy", 3)  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="exact family and has no text to value: prm:x"):
        reroot.compare(model="hidden_path:K=2,H=2,p=0.5", value="prm:x", out=tmp_path)
    with pytest.raises(InvalidInput, match=r"model '/no/such' is neither"):
        reroot.compare(
            model="smollm2", task="copy", horizons=[2], value="prm:/no/such", out=tmp_path
        )
