"""TRL's own generation as an arm: the law, the account and the order of prompts are those of sessions."""

# ruff: noqa: E402
from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from scipy.stats import chi2
from test_training_run import config, final, forget_the_end, lines

import trl_toys
from reroot import Budget, InvalidInput
from reroot.errors import OracleError
from reroot.training import KL, strategies
from reroot.training.groups import BudgetSpent
from reroot.training.trl import run as run_module
from reroot.training.trl.native_generation import NativeGeneration, NativeTrainer
from reroot.training.trl.train import train_run

pytestmark = pytest.mark.slow

LINE_BREAK = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trl_toys.save_parity_model(tmp_path_factory.mktemp("model"))


def own_trainer(
    out: Path, what: Any = None, budget: Any = None, kl: KL | None = None, **changes: Any
) -> Any:
    model, tokenizer = trl_toys.fresh()
    what = what or [replace(p, stop=("\n",)) for p in trl_toys.problems()]
    rollouts = NativeGeneration(strategies.Root(), None, budget, what, 0, 0)
    return NativeTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(out, **changes),
        rollouts=rollouts,
        kl=kl,
    )


def drawn(trainer: Any, prompts: Any, size: int) -> dict[str, Any]:
    trainer.model.train()
    return trainer._generate_and_score_completions(
        [{"prompt": p} for p in prompts for _ in range(size)]
    )


def test_outputs_follow_the_policy_and_end_where_those_of_sessions_do(tmp_path: Path) -> None:
    """χ² of two tokens against the enumerated law, at an error rate of 1e-4."""
    torch.manual_seed(0)
    size = 2000
    changes: Any = {"num_generations": size, "per_device_train_batch_size": size}
    short = [
        replace(p, stop=("\n",), max_tokens=2, demonstration=None) for p in trl_toys.problems()
    ]
    trainer = own_trainer(tmp_path, short, max_completion_length=2, **changes)
    batch = drawn(trainer, trl_toys.PROMPTS[:1], size)
    (found,) = trainer.rollouts.batch.groups
    known = _law(trainer.model, list(found.prompt), stop={1, LINE_BREAK})
    assert sum(known.values()) == pytest.approx(1.0, abs=1e-4)
    counts = dict.fromkeys(known, 0)
    for tokens in found.tokens:
        counts[tuple(tokens)] += 1  # a KeyError: no output of a session
    common = [o for o, p in known.items() if p * size >= 5]
    rest = 1 - sum(known[o] for o in common)
    pairs = [(counts[o], known[o] * size) for o in common]
    pairs.append((size - sum(counts[o] for o in common), rest * size))
    distance = sum((seen - wanted) ** 2 / wanted for seen, wanted in pairs)
    assert distance < chi2.ppf(1 - 1e-4, len(pairs) - 1)
    assert any(len(t) == 1 and t[0] == LINE_BREAK for t in found.tokens)
    kept = [
        row[mask.bool()].tolist()
        for row, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    assert kept == found.tokens  # what is trained on is what was charged


def _law(model: Any, prompt: list[int], stop: set[int]) -> dict[tuple[int, ...], float]:
    """Outputs of at most two tokens → probability."""
    model.eval()

    def law(before: list[int]) -> list[float]:
        with torch.no_grad():
            return torch.softmax(model(torch.tensor([before])).logits[0, -1].double(), -1).tolist()

    found: dict[tuple[int, ...], float] = {}
    for a, p in enumerate(law(prompt)):
        if a in stop:
            found[(a,)] = p
        else:
            found |= {(a, b): p * q for b, q in enumerate(law([*prompt, a]))}
    return found


def test_rewards_and_account_are_those_of_the_problems(tmp_path: Path) -> None:
    trainer = own_trainer(tmp_path, max_steps=3)
    before = trl_toys.weights(trainer)
    trainer.train()
    rollouts = trainer.rollouts
    groups = rollouts.batch.groups
    for g in groups:
        text = trainer.processing_class.batch_decode(g.tokens)
        said = [t.partition("\n")[0].replace("</s>", "") for t in text]
        assert g.rewards == [t.count("c") / trl_toys.LENGTH for t in said]
        assert g.spent.tokens == sum(map(len, g.tokens))
    spent = rollouts.collector.spent
    assert (spent.rollouts, spent.rewards, spent.queries) == (24, 24, 0)
    assert rollouts.collector.steps == 3
    after = trl_toys.weights(trainer)
    assert any(not torch.equal(after[k], before[k]) for k in before)


def test_the_budget_is_never_overspent(tmp_path: Path) -> None:
    trainer = own_trainer(tmp_path, budget=Budget(tokens=150), max_steps=50)
    with pytest.raises(BudgetSpent):
        trainer.train()
    spent = trainer.rollouts.collector.spent.tokens
    worst = 8 * trl_toys.LENGTH
    assert 150 - worst < spent <= 150


def test_both_arms_see_the_same_prompts_and_start_equal(model: Path, tmp_path: Path) -> None:
    """The same lines, the same evaluation before the first step, prompts in the same order."""
    known: dict[str, Any] = {}
    prompts: dict[str, list[Any]] = {}
    for generation in ("session", "trl"):
        run = config(model, strategy="root", beta=0.0, generation=generation)
        seen = prompts.setdefault(generation, [])
        with pytest.MonkeyPatch.context() as patch:
            plain = run_module.Run.step

            def step(
                self: Any,
                trainer: Any,
                rollouts: Any,
                logs: Any,
                seen: Any = seen,
                plain: Any = plain,
            ) -> None:
                seen.append([g.prompt for g in rollouts.batch.groups])
                plain(self, trainer, rollouts, logs)

            patch.setattr(run_module.Run, "step", step)
            summary = train_run(run, tmp_path / generation)
        assert summary["steps"] == 6
        known[generation] = lines(tmp_path / generation)
    assert prompts["trl"] == prompts["session"]
    ours, theirs = known["session"], known["trl"]
    assert set(ours) == set(theirs)
    assert ours["eval/0"] == theirs["eval/0"]
    for name, line in theirs.items():
        assert line.keys() == ours[name].keys()
    for i in range(1, 7):
        assert theirs[f"step/{i}"]["spent"]["prefill"] == ours[f"step/{i}"]["spent"]["prefill"]
        assert theirs[f"step/{i}"]["prefix"] is None
    known = config(model, strategy="root", beta=0.0, generation="trl")
    assert "--generation trl" in known.command()


def test_a_killed_run_goes_on_as_if_it_had_not_been(model: Path, tmp_path: Path) -> None:
    run = config(model, strategy="root", beta=0.0, generation="trl")
    train_run(run, tmp_path / "r")
    known, weights = lines(tmp_path / "r"), final(tmp_path / "r")
    assert run.arm == "root_trl"
    forget_the_end(tmp_path / "r")
    newest = run_module.last_checkpoint(tmp_path / "r" / run_module.CHECKPOINTS)
    assert newest is not None
    shutil.rmtree(newest)
    train_run(run, tmp_path / "r")
    assert lines(tmp_path / "r") == known
    assert all(torch.equal(final(tmp_path / "r")[k], v) for k, v in weights.items())


def test_what_does_not_fit_is_refused(model: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"generation": "trll"}, "Did you mean 'trl'"),
        ({"generation": "trl"}, r"strategy must be 'root', got adaback"),
        ({"generation": "trl", "strategy": "root"}, "kl must be 'k3_loss'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            config(model, **changes)
    config(model, generation="trl", strategy="root", kl="k3_loss")
    with pytest.raises(OracleError, match="finite number, got nan"):
        own_trainer(tmp_path, trl_toys.problems(reward=lambda output: float("nan"))).train()
    tokens = [replace(p, prompt=(4, 5)) for p in trl_toys.problems()[:2]]
    with pytest.raises(InvalidInput, match="given as tokens"):
        own_trainer(tmp_path, tokens).train()
