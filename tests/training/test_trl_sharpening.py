"""Sharpening of a language model through TRL: what is drawn, what it costs, and the losses it begins at."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl")

from reroot import InvalidInput
from reroot.generators import Transformers
from reroot.training.trl import sharpening
from trl_toys import LENGTH, fresh, problems

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawn():
    """6 draws of each of 4 prompts, and their account."""
    return sharpening.collect(Transformers(fresh()), problems(), draws=6, seed=3)


@pytest.mark.slow(3)
def test_draws_have_their_log_probabilities_and_their_account(drawn):
    found, cost = drawn
    model = Transformers(fresh())
    assert cost.rollouts == 24
    assert cost.tokens == sum(len(y) for d in found for y in d.outputs)
    assert cost.rewards == cost.queries == 0
    for d in found:
        logs = [
            sum(model.log_laws(d.prompt, [y[:t] for t in range(len(y))])[range(len(y)), y])
            for y in d.outputs
        ]
        assert np.allclose(logs, d.log_probabilities, atol=1e-4)
        assert d.best == d.outputs[int(np.argmax(logs))]
        assert all(1 <= len(y) <= LENGTH for y in d.outputs)
    with pytest.raises(InvalidInput, match="the budget does not allow"):
        sharpening.collect(Transformers(fresh()), problems(), draws=6, budget="rollouts=5")


@pytest.mark.slow(5)
def test_sft_begins_at_the_base_and_raises_what_it_was_given(drawn, tmp_path: Path):
    found, _ = drawn
    model, tokenizer = fresh()
    trainer = sharpening.sft(
        model, tokenizer, found, tmp_path, num_train_epochs=8, learning_rate=1e-2
    )
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    best = [(max(d.log_probabilities), len(d.best)) for d in found]
    assert losses[0] == pytest.approx(-sum(b for b, _ in best) / sum(n for _, n in best), rel=1e-3)
    assert losses[-1] < losses[0] / 2
    after = Transformers((model.eval(), tokenizer))
    for d in found[:2]:
        laws = after.log_laws(d.prompt, [d.best[:t] for t in range(len(d.best))])
        assert laws[range(len(d.best)), d.best].sum() > max(d.log_probabilities)


@pytest.mark.slow(5)
def test_the_regression_begins_at_its_labels_and_its_optimum_is_the_power_law(
    drawn, tmp_path: Path
):
    found, _ = drawn
    model, tokenizer = fresh()
    pairs = [
        (
            d.prompt,
            d.outputs[i],
            d.outputs[i + 1],
            d.log_probabilities[i] - d.log_probabilities[i + 1],
        )
        for d in found
        for i in (0, 2, 4)
        if d.outputs[i] != d.outputs[i + 1]
    ]
    settings = {"num_train_epochs": 100, "learning_rate": 2e-3, "per_device_train_batch_size": 16}
    trainer = sharpening.dpo(model, tokenizer, found, tmp_path, 2.0, **settings)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[0] == pytest.approx(np.mean([label**2 for *_, label in pairs]), rel=1e-3)
    assert losses[-1] < 0.01 * losses[0]
    after = Transformers((model.eval(), tokenizer))

    def log(prompt, y) -> float:
        return after.log_laws(prompt, [y[:t] for t in range(len(y))])[range(len(y)), y].sum()

    found_ratios = [log(x, y) - log(x, z) for x, y, z, _ in pairs]
    known = [1.5 * label for *_, label in pairs]  # 1 + 1/β
    assert np.allclose(found_ratios, known, atol=0.25 * np.std(known))
    with pytest.raises(InvalidInput, match="nothing to train on"):
        sharpening.dpo(model, tokenizer, [], tmp_path, 2.0)
    with pytest.raises(InvalidInput, match="beta must lie in"):
        sharpening.dpo(model, tokenizer, found, tmp_path, 0.0)


@pytest.mark.slow(10)
def test_the_script_records_each_run_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    record, script = tmp_path / "record.jsonl", ROOT / "benchmarks" / "sharpening.py"
    command = [
        script.name,
        "--model",
        "tiny",
        "--task",
        "increment",
        "--seeds",
        "0",
        "--draws",
        "4",
    ]
    command += ["--samples", "2", "--last-layers", "0", "--record", str(record)]

    def lines(*more: str) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.argv", [*command, *more])
        runpy.run_path(str(script), run_name="__main__")
        return [json.loads(line) for line in record.read_text().splitlines()]

    (first,) = lines("--method", "sft")
    both = lines()
    assert both[0] == first
    assert [r["method"] for r in both] == ["sft", "dpo"]
    assert all(r["cost"]["rollouts"] == 2 * 4 and r["cost"]["rewards"] == 0 for r in both)
    assert {"log_likelihood", "accuracy", "samples"} == both[1]["after"].keys()
