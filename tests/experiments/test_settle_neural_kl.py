"""settle-neural with a KL term: how J is measured, what is recorded, and that silence changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("trl")

import torch

from reroot import limits
from reroot.experiments.settle_neural.arms import EVERY, ROOTS, Training
from reroot.experiments.settle_neural.base_policy import RECIPE, Recipe, exact_reach, new_network
from reroot.experiments.settle_neural.objective import (
    Objective,
    best_value,
    kl_from,
    rollouts,
    weights_digest,
)
from reroot.experiments.settle_neural.traces import END, VOCABULARY, tokenizer
from reroot.experiments.settle_neural.train import make_trainer, train_arm
from reroot.randomness import keyed_rng, stream_key
from tiny_lm import scrambled

TASK = "running_parity"
TINY = Recipe(width=3, hidden=16, heads=2, inner=16, steps=6, batch=2, warm=2)
KEY = stream_key(0, "test", "KL")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int) -> Any:
    """A network whose laws depend strongly on all tokens, with much mass on other tokens."""
    made = new_network(TASK, TINY, torch.Generator().manual_seed(seed))
    return scrambled(made, seed).eval()


def outputs(horizon: int) -> list[tuple[int, ...]]:
    """Every output: it ends behind END, or with ``horizon`` tokens."""
    found: list[tuple[int, ...]] = []
    for length in range(1, horizon + 1):
        for tokens in itertools.product(range(len(VOCABULARY)), repeat=length):
            early = tokens[-1] == END or length == horizon
            if early and END not in tokens[:-1]:
                found.append(tokens)
    return found


def enumerated(base: Any, model: Any, asked: list[int], horizon: int) -> tuple[float, float]:
    """(KL of the output law, standard deviation of the KL of laws summed along a rollout), nats."""
    first = total = second = 0.0
    for tokens in outputs(horizon):
        whole = torch.tensor([asked + list(tokens)])
        with torch.inference_mode():
            own, other = (
                torch.log_softmax(m(whole).logits[0].double(), -1)[len(asked) - 1 : -1]
                for m in (model, base)
            )
        drawn = torch.tensor(tokens)[:, None]
        chance = float(own.gather(1, drawn).sum().exp())
        total += chance * float((own - other).gather(1, drawn).sum())
        along = float((own.exp() * (own - other)).sum())
        first, second = first + chance * along, second + chance * along**2
    assert first == pytest.approx(total, rel=1e-5)  # the sum of the laws' KL is unbiased
    return total, (second - first**2) ** 0.5


@pytest.mark.slow(1)
def test_the_kl_is_that_of_all_outputs() -> None:
    """5 standard errors: error rate 6e-7; the errors are those of the enumerated laws, within 5 %."""
    base, model = network(1), network(2)
    asked = tokenizer()(["010=", "111="])["input_ids"]
    draws = 2000
    exact = [enumerated(base, model, tokens, 3) for tokens in asked]
    kl, error = kl_from(base, model, torch.tensor(asked), 3, KEY, draws)
    assert sum(len(o) < 3 for o in outputs(3)) > 1
    assert error == pytest.approx(sum(s**2 / draws for _, s in exact) ** 0.5 / 2, rel=0.05)
    assert abs(kl - np.mean([mean for mean, _ in exact])) < 5 * error
    assert kl > 20 * error


def test_rollouts_follow_the_law() -> None:
    """All outputs of one token: each share within 5 standard deviations of its probability."""
    model, asked = network(2), torch.tensor(tokenizer()(["010="])["input_ids"])
    n = 4000
    drawn = rollouts(model, asked.expand(n, -1), keyed_rng(KEY).random((n, 1)))
    law = torch.softmax(model(asked).logits[0, -1].double(), -1).detach().numpy()
    shares = np.bincount(drawn[:, 0].numpy(), minlength=len(law)) / n
    assert (np.abs(shares - law) < 5 * np.sqrt(law * (1 - law) / n) + 1e-9).all()


def test_a_measurement_depends_on_its_key_alone() -> None:
    base, model = network(1), network(2)
    state = torch.get_rng_state()
    goal = Objective(base, tokenizer(), TASK, ["010=", "111="], 3, 0.2)
    one, again, other = (goal.of(model, key) for key in (KEY, KEY, stream_key(1, "test", "KL")))
    assert one == again
    assert one.kl != other.kl
    assert one.reach == other.reach
    assert torch.equal(torch.get_rng_state(), state)
    assert one.value == one.reach - 0.2 * one.kl
    reach = exact_reach(model, tokenizer(), TASK, ["010=", "111="])[2]
    assert one.reach == pytest.approx(reach, rel=1e-12)
    still = goal.of(base, KEY)
    assert (still.kl, still.error) == (0.0, 0.0)


def test_the_best_value_is_the_mean_of_the_prompts_optima() -> None:
    reaches = np.array([0.02, 0.3])
    assert best_value(reaches, 0.2) == pytest.approx(
        np.mean([0.2 * np.log(1 - r + r * np.exp(5.0)) for r in reaches]), rel=1e-12
    )
    assert best_value(np.array([0.6**8]), 0.1) == pytest.approx(
        limits.optimal_value(2, 8, 0.6, 0.1), rel=1e-12
    )
    goal = Objective(network(1), tokenizer(), TASK, ["010=", "111="], 3, 0.2)
    each = [exact_reach(network(1), tokenizer(), TASK, [t])[2] for t in ("010=", "111=")]
    assert goal.best == pytest.approx(best_value(np.array(each), 0.2), rel=1e-6)


def test_a_digest_of_weights_changes_with_any_of_them() -> None:
    model = network(1)
    before = weights_digest(model)
    assert weights_digest(network(1)) == before
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-6
    assert weights_digest(model) != before


# ---- training ------------------------------------------------------------------------------------


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """The folder of a network of full width that knows nothing."""
    folder = tmp_path / "base"
    new_network(TASK, RECIPE, torch.Generator().manual_seed(0)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.slow(4)
def test_silent_steps_change_no_weight_and_skip_both_networks(
    untrained: Path, tmp_path: Path
) -> None:
    from reroot.experiments.settle_neural.recorder import Recorder
    from reroot.training import BudgetSpent

    run = Training(TASK, "argmax", 32, 0, 7000, 0.02)
    trainer = make_trainer(untrained, run, tmp_path)
    before = weights_digest(trainer.model)
    passes: list[float] = []
    exact = trainer._log_ratios
    trainer._log_ratios = lambda group: passes.append(0) or exact(group)
    trainer.add_callback(recorder := Recorder(trainer, untrained, run))
    with pytest.raises(BudgetSpent):
        trainer.train()
    curve = recorder.curve
    assert trainer.state.global_step >= 2
    assert curve.first is None
    assert weights_digest(trainer.model) == before
    assert passes == []
    assert trainer.kl_estimate == 0.0
    assert len(curve.points) == 1

    roots = [g for g in trainer.rollouts.batch.groups if not g.start.prefix]
    assert len(roots) >= ROOTS
    assert not exact(roots[0]).any()  # what was skipped is 0 to the bit
    with torch.no_grad():
        trainer.model.lm_head.weight[3] += 1.0
    trainer.token_advantages(trainer.rollouts.batch.groups, 0, 16)
    assert len(passes) == len(roots)
    assert trainer.kl_estimate != 0.0


@pytest.mark.slow(10)
def test_a_run_records_what_it_measures(untrained: Path) -> None:
    run = Training(TASK, "argmax", 2, 3, 1500, 0.3)
    curve, again = (train_arm(untrained, run) for _ in range(2))
    assert curve == again
    assert curve.best is not None
    assert curve.first is not None
    assert 0 < curve.spent <= 1500
    assert curve.starts == (0, 1)
    assert ROOTS <= (curve.roots or 0) < 16
    assert curve.points[0][4:] == (0.0, 0.0)
    for tokens, rollouts_, value, reach, kl, error in curve.points[1:]:
        assert value == reach - run.beta * kl
        assert tokens <= curve.spent
        assert rollouts_ % 128 == 0
        assert 0 <= error < 0.1
    silent = (curve.first - 1) // 128
    assert curve.points[1][1] == 128 * (silent + EVERY)
    if curve.reached is not None:
        assert curve.points[-1][2] >= curve.best / 2
        assert curve.points[-1][0] == curve.reached

    root = train_arm(untrained, Training(TASK, "root", 2, 3, 1000, 0.3))
    assert root.starts == (0, 0)
    assert root.roots == 16
    assert root.equal["settings"] == curve.equal["settings"]
    other = {**curve.equal, "budget": 1000}
    assert root.equal == other
    assert curve.equal["model"] == weights_digest(
        new_network(TASK, RECIPE, torch.Generator().manual_seed(0))
    )
